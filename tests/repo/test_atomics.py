#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""test_atomics.py UNORDERED-OBJECT ARM64-OBJECT - what the compiler made of atomic operations

The first object is compiled from unordered.c, the second from the BPF programs. On arm64 an atomic
operation of BPF orders nothing unless it fetches the old value, and the compiler drops a fetch
whose result is not used. core/port_bpf.h keeps it from that. On x86 every atomic operation is a
full barrier.
"""
import re
import shutil
import subprocess
import sys

import tap

UNORDERED = re.compile(r'lock \*\(u\d+ \*\)\(')
ORDERED = re.compile(r'atomic_fetch_|cmpxchg_|xchg_')


def count(path):
    """The numbers of atomic operations of an object that order nothing, and of the others."""
    objdump = shutil.which('llvm-objdump') or shutil.which('llvm-objdump-14')
    if not objdump:
        raise tap.Skip('llvm-objdump is not installed')
    lines = subprocess.run([objdump, '-d', path], check=True, capture_output=True,
                           text=True).stdout.splitlines()
    return sum(bool(UNORDERED.search(line)) for line in lines), \
        sum(bool(ORDERED.search(line)) for line in lines)


def every_atomic_operation_for_arm64_is_a_full_barrier():
    unordered, ordered = count(sys.argv[2])
    assert unordered == 0, unordered
    assert ordered > 100, ordered


def an_operation_that_orders_nothing_would_be_seen():
    assert count(sys.argv[1]) == (1, 1)


tap.run([every_atomic_operation_for_arm64_is_a_full_barrier,
         an_operation_that_orders_nothing_would_be_seen])
