#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""test_preload.py PRELOAD HOST PLUG-IN: programs with the preload for UCX, without a device."""
import os
import re
import subprocess
import sys

import tap

PRELOAD, HOST, PLUG_IN = sys.argv[1:]


def a_plug_in_that_keeps_ucx_to_itself_is_checked():
    done = subprocess.run([HOST, PLUG_IN], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE,
                          env=dict(os.environ, LD_PRELOAD=PRELOAD, INVLOCK_STATS='1'))
    if done.returncode == 77:
        raise tap.Skip('UCX does not work here')
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r'\b2 checks', done.stderr), done.stderr


if __name__ == '__main__':
    tap.run(tap.in_order(globals()))
