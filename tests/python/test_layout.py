# SPDX-License-Identifier: MIT
"""What the package says of the C interface a second time is what the headers say."""
import ctypes
import os
import re
import subprocess

import pytest

import invlock
from invlock import _c

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), '../..')
STRUCTS = [_c.Why, _c.MmOptions, _c.MmInfo, _c.CacheOps, _c.CacheOptions, _c.Pin, _c.CacheStats,
           _c.CacheEntry, _c.Read, _c.ReadBudget]
CONSTANTS = {
    'INVLOCK_MM_NO_SELFTEST': _c.MM_NO_SELFTEST, 'INVLOCK_CACHE_REAPER': _c.CACHE_REAPER,
    'INVLOCK_CACHE_NO_REAPER': _c.CACHE_NO_REAPER, 'INVLOCK_GET_READ': _c.GET_READ,
    'INVLOCK_GET_BYPASS': _c.GET_BYPASS, 'INVLOCK_GET_CACHED': _c.GET_CACHED,
    'INVLOCK_ENTRY_DEAD': _c.ENTRY_DEAD, 'INVLOCK_ENTRY_PINNED': _c.ENTRY_PINNED,
    'INVLOCK_ENTRY_READ': _c.ENTRY_READ, 'INVLOCK_ENTRY_KEYED': _c.ENTRY_KEYED,
    'INVLOCK_READ_INTERRUPTIBLE': _c.READ_INTERRUPTIBLE,
    'INVLOCK_READ_UNWATCHED': _c.READ_UNWATCHED,
    'INVLOCK_KINDS_ANON': invlock.KINDS_ANON, 'INVLOCK_KINDS_SHARED': invlock.KINDS_SHARED,
    'INVLOCK_KINDS_DEFAULT': invlock.KINDS_DEFAULT, 'INVLOCK_KINDS_UFFD': invlock.KINDS_UFFD,
    '1ULL << INVLOCK_NR_KINDS': max(invlock.Kind) << 1,
    **{f'INVLOCK_LOG_{event.name}': event for event in invlock.LogEvent},
    **{f'INVLOCK_BIT({kind.name})': kind for kind in invlock.Kind}}


def _headers():
    text = ''
    for name in 'mm', 'cache', 'section', 'manual', 'kind', 'log', 'version':
        with open(f'{ROOT}/include/invlock/{name}.h', encoding='utf-8') as f:
            text += re.sub(r'/\*.*?\*/', '', f.read(), flags=re.S)
    return text


@pytest.fixture(scope='module')
def numbers(tmp_path_factory):
    """By expression: what a C program prints."""
    expressions = list(CONSTANTS)
    for struct in STRUCTS:
        expressions.append(f'sizeof({struct.__doc__})')
        expressions += [f'offsetof({struct.__doc__}, {name})' for name, _ in struct._fields_]
    prints = ''.join(f'printf("%llu\\n", (unsigned long long)({e}));\n' for e in expressions)
    program = str(tmp_path_factory.mktemp('layout') / 'layout')
    subprocess.run(['cc', '-x', 'c', '-', '-o', program, f'-I{ROOT}/include',
                    f'-I{ROOT}/include/uapi'], check=True, text=True, input=f'''
        #include <invlock/cache.h>
        #include <invlock/log.h>
        #include <invlock/section.h>
        #include <stdio.h>
        int main(void) {{ {prints} }}''')
    said = subprocess.run([program], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    return dict(zip(expressions, map(int, said)))


@pytest.mark.parametrize('struct', STRUCTS, ids=lambda s: s.__name__)
def test_a_struct_has_the_layout_of_its_header(struct, numbers):
    assert ctypes.sizeof(struct) == numbers[f'sizeof({struct.__doc__})']
    for name, _ in struct._fields_:
        assert getattr(struct, name).offset == numbers[f'offsetof({struct.__doc__}, {name})'], name
    # and the header has no field that is missing here
    declared = re.search(rf'{struct.__doc__} \{{(.*?)\n\}};', _headers(), re.S)[1]
    assert len(struct._fields_) == declared.count(';')


def test_every_flag_of_the_headers_is_here():
    flags = set(re.findall(r'#define (INVLOCK_(?:MM|CACHE|ENTRY|GET|READ)_\w+)\s+\d+u', _headers()))
    events = set(re.findall(r'(INVLOCK_LOG_\w+)\s+=', _headers()))
    assert events and flags | events <= set(CONSTANTS), (flags | events) - set(CONSTANTS)


def test_constants_are_those_of_the_headers(numbers):
    assert {name: int(value) for name, value in CONSTANTS.items()} == {
        name: numbers[name] for name in CONSTANTS}


def test_every_function_of_the_headers_is_declared():
    declared = set(re.findall(r'^(?:[\w ]+[ *])(invlock_\w+)\(', _headers(), flags=re.M))
    assert declared == {name for name in vars(_c.lib) if name.startswith('invlock_')}


def test_the_version_is_that_of_the_library():
    assert re.search(r'#define INVLOCK_VERSION\s+"(.*)"', _headers())[1] == invlock.version()
    major, minor, patch = map(int, invlock.version().split('.'))
    assert invlock.version_number() == major << 16 | minor << 8 | patch
    with open(f'{ROOT}/bindings/python/pyproject.toml', encoding='utf-8') as f:
        assert f'\nversion = "{invlock.version()}"\n' in f.read()
