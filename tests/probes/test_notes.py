#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The notes that tell tracers of the probes: all are there, and none is in the path of a hit."""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), '../repo'))
import tap

LIBRARY = sys.argv[1]
DOCUMENT = os.path.join(os.path.dirname(__file__), '../../docs/operators.md')
NOTE = re.compile(r'Provider: invlock\n\s*Name: (\w+)\n\s*Location: (\w+), Base: \w+, '
                  r'Semaphore: (\w+)\n\s*Arguments: (.*)')


def _run(*command):
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


def _probes():
    """name, address, address of the semaphore, number of arguments"""
    return [(name, int(at, 16), int(semaphore, 16), len(arguments.split()))
            for name, at, semaphore, arguments in NOTE.findall(_run('readelf', '-n', LIBRARY))]


def _documented():
    """The table of the probes: name, and number of arguments."""
    with open(DOCUMENT, encoding='utf-8') as f:
        return {name: len(arguments.split(','))
                for name, arguments in re.findall(r'^\| `(\w+)` \| `([^`]*)` \|', f.read(), re.M)}


def every_probe_has_a_note_a_semaphore_and_a_line_in_the_documents():
    documented = _documented()
    assert set(documented) == {'miss', 'refused', 'stale', 'evict', 'reg', 'dereg'}, documented
    assert {name: nr for name, _, _, nr in _probes()} == documented, _probes()
    assert all(semaphore for _, _, semaphore, _ in _probes())
    # one semaphore for each name
    assert len({semaphore for _, _, semaphore, _ in _probes()}) == len(documented)


def no_probe_is_in_the_path_of_a_hit():
    functions = {}
    for line in _run('readelf', '-sW', LIBRARY).splitlines():
        field = line.split()
        if len(field) == 8 and field[3] == 'FUNC' and field[7].split('@')[0] in (
                'invlock_cache_get', 'invlock_cache_put', 'hit_slow', 'get_flags_slow', 'get_read',
                'hit', 'count_hit', 'fill_pin'):     # the last ones are mostly inlined
            functions[field[7].split('@')[0]] = (int(field[1], 16), int(field[2], 0))
    assert {'invlock_cache_get', 'invlock_cache_put'} <= set(functions), functions
    for name, at, _, _ in _probes():
        for function, (start, size) in functions.items():
            assert not start <= at < start + size, f'{name} is in {function}()'


def a_probe_is_one_instruction_that_does_nothing():
    code = _run('objdump', '-d', '--no-show-raw-insn', LIBRARY)
    for name, at, _, _ in _probes():
        assert re.search(rf'^\s*{at:x}:\s+nop$', code, re.M), name


if __name__ == '__main__':
    tap.run(tap.in_order(globals()))
