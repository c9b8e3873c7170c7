#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""fio verifies what it writes, while the memory under its buffers is taken away: see aio.c.

usage: test_fio.py LIBAIO-REPLACEMENT
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile

import tap

PRELOAD = sys.argv[1]
WORK = tempfile.mkdtemp(prefix='invlock-fio-', dir='.')
NO_MONITOR = 77
# Blocks are written, and after each 16 of them read back and compared. A wrong one ends fio.
JOB = ['--name=job', f'--directory={WORK}', '--size=16m', '--bs=64k', '--rw=randwrite',
       '--direct=1', '--ioengine=libaio', '--iodepth=8', '--verify=crc32c', '--verify_backlog=16',
       '--verify_fatal=1', '--loops=4', '--allow_file_create=1', '--thread']


def _fio(how):
    """-> (exit status, output, numbers of aio.c)"""
    if not shutil.which('fio'):
        raise tap.Skip('fio is not installed')
    report = os.path.join(WORK, how)
    # env must not run with the preload: it is for fio alone
    done = subprocess.run(['env', f'LD_PRELOAD={PRELOAD}', f'INVLOCK_AIO={how}',
                           f'INVLOCK_AIO_REPORT={report}', 'fio', *JOB], text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=300)
    if done.returncode == NO_MONITOR:
        said = [line for line in done.stdout.splitlines() if line.startswith('aio: ')]
        raise tap.Skip(' '.join(said)[:300])
    with open(report) as f:
        return done.returncode, done.stdout, json.loads(f.read())


def fio_with_plain_requests_does_not_notice_that_its_memory_is_taken_away():
    status, said, numbers = _fio('plain')
    assert status == 0, said
    assert numbers['taken'] > 900 and not numbers['fixed'], numbers


def fio_with_buffers_that_are_registered_once_finds_wrong_data():
    status, said, numbers = _fio('once')
    assert status != 0 and 'verify' in said, said
    assert numbers['taken'] and numbers['fixed'], numbers


def fio_with_the_adapter_finds_every_byte_right():
    status, said, numbers = _fio('invlock')
    assert status == 0 and 'verify' not in said, said
    assert numbers['taken'] > 900 and numbers['fixed'] > 1800, numbers
    # registrations were used again, and others were given up since their memory had gone
    assert numbers['hits'] and numbers['stale'] > 500, numbers


try:
    tap.run(tap.in_order(globals()))
finally:
    shutil.rmtree(WORK)
