# SPDX-License-Identifier: MIT
"""A device that keeps books, and a cache over it with the manual monitor."""
import mmap

import pytest

import invlock


class Device:
    def __init__(self):
        self.live, self.nr_reg, self.nr_dereg = {}, 0, 0
        self.raises = []        # what reg() raises next, one after another

    def reg(self, addr, length):
        if self.raises:
            what = self.raises.pop(0)
            if what:
                raise what
        self.nr_reg += 1
        self.live[self.nr_reg] = (addr, length)
        return self.nr_reg

    def dereg(self, addr, length, handle):
        assert self.live.pop(handle) == (addr, length)
        self.nr_dereg += 1


@pytest.fixture
def device():
    return Device()


@pytest.fixture
def mm():
    with invlock.MM('manual') as mm:
        yield mm


@pytest.fixture
def cache(mm, device):
    with invlock.Cache(mm, device.reg, device.dereg, reaper=False) as cache:
        yield cache
    assert not device.live


@pytest.fixture
def pages():
    """Two pages of its own, which can grow: Python 3.14 lets no shared memory grow."""
    return mmap.mmap(-1, 2 * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
