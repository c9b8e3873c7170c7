# SPDX-License-Identifier: MIT
"""The package's type hints, as mypy sees them."""
import os
import subprocess

import pytest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), '../..')
PACKAGE = os.path.join(ROOT, 'bindings/python/invlock')
MYPY = '/usr/bin/mypy'

USES = """
import invlock

with invlock.MM('manual') as mm, invlock.Cache(mm, lambda a, n: 7, lambda a, n, h: None) as cache:
    with cache.get(bytearray(4096)) as pin:
        handle: int = pin.handle
    hits: int = cache.stats().hits
"""
MISUSES = {'reg': 'invlock.Cache(mm, lambda a: 7, lambda a, n, h: None)', 'mm': 'invlock.MM(7)'}


def check(tmp_path, *what):
    if not os.path.exists(MYPY):
        pytest.skip('mypy is not installed: scripts/deps.sh test')
    return subprocess.run([MYPY, '--strict', '--cache-dir', str(tmp_path), *what],
                          cwd=os.path.join(ROOT, 'bindings/python'), text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_the_package_passes_mypy_strict(tmp_path):
    done = check(tmp_path, PACKAGE)
    assert done.returncode == 0, done.stdout


def test_a_program_that_uses_it_passes_mypy_strict(tmp_path):
    done = check(tmp_path, '-c', USES)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize('which', MISUSES)
def test_a_program_that_misuses_it_does_not(tmp_path, which):
    done = check(tmp_path, '-c', 'import invlock\nmm = invlock.MM()\n' + MISUSES[which])
    assert done.returncode == 1, done.stdout
