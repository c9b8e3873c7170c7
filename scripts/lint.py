#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""lint.py [--root DIR] [CHECK...] - check the rules of the tree that need no build, print TAP

Each check is one function below; the first line of its comment is its name in the output.
tests/repo plants a fault for each check and expects it to fail.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys

import lint_prose

MAX_LINES = 650
MAX_COLUMNS = 100
C = ('.c', '.h')
SOURCE = C + ('.sh', '.py', '.S')
# files that can carry no comment, or that are not ours to change
NO_SPDX = ('.json', '.svg', '.png', '.txt', '.bin', '.patch', 'debian/changelog',
           'debian/copyright', 'debian/source/format', 'debian/invlock-dkms.dkms')

# held to the rules of core: no OS, no libc. tests/sim explores the schedules of all these files
PURE = ('core/', 'lib/cache/index.', 'lib/cache/pin.', 'lib/cache/region.')

MIT = 'MIT'
DUAL = 'GPL-2.0-only OR MIT'
GPL = 'GPL-2.0-only'
UAPI = '(GPL-2.0-only WITH Linux-syscall-note) OR MIT'
LICENCES = [    # the first match counts: path's beginning and end, licence
    ('include/uapi/', C, UAPI),
    (PURE, C, DUAL),
    ('bpf/', C, DUAL),
    ('kmod/', '', GPL),
    ('tests/vm/', C, (MIT, GPL)),
    ('', '', MIT),
]

# put together here, so that this file does not contain them
UNFINISHED = re.compile(r'\b(' + '|'.join(('TO' + 'DO', 'FIX' + 'ME', 'X' * 3)) + r')\b')
FENCE = re.compile(r'\b(__atomic_(?:thread|signal)_fence|atomic_(?:thread|signal)_fence'
                   r'|__sync_synchronize|smp_(?:mb|rmb|wmb)|barrier|asm|__asm__)\s*\(')
INCLUDE = re.compile(r'\s*#\s*include\s*([<"])([^>"]+)[>"]')


ARCHITECTURE = re.compile(
    r'\s*#\s*(?:el)?if.*\b(?:__(?:x86_64|i[36]86|amd64|ILP32|aarch64|arm|riscv'
    r'|s390x?|powerpc(?:64)?|TARGET_ARCH_\w+)(?:__)?|CONFIG_(?:X86|ARM64|RISCV|S390|PPC)\w*)\b')

# What looks like the size of a page, and where it is something else, or is known.
PAGE_NUMBER = re.compile(r'\b(?:4096|4095|0x1000|0xfff)(?:u?ll?|ull?)?\b|(?:<<|>>) ?12\b'
                         r'|PAGE_SHIFT\s+12\b', re.I)
TEXT = re.compile(r'\bchar \w+\[4096\]|"[^"]*"')
NO_PAGE = {
    'bench/contender': 'the other caches count in the page that the numbers were measured with',
    'bench/direct_io.c': 'the lengths of reads',
    'bpf/arch_': 'an architecture knows its pages',
    'bpf/kernel.h': 'x86-64 has one size of pages',
    'bpf/mapping.h': 'the largest errno',
    'bpf/shared.h': 'a number of requests',
    'core/stripe.h': 'mixes bits',
    'docs/man/examples/': 'alignments and lengths of I/O',
    'examples/': 'alignments and lengths of I/O',
    'include/uapi/invlock/feed.h': 'the header and the number of words are ABI',
    'lib/cache/index.h': 'the index counts in the smallest page that a machine has',
    'lib/mm.h': 'the end of the smallest first page',
    'tests/bpf/test_calls.c': 'the largest errno',
    'tests/bpf/test_corners.c': 'a number of requests',
    'tests/cbmc/': 'numbers of words, and ranges that nobody maps',
    'tests/core/': 'numbers of words, and ranges that nobody maps',
    'tests/daemon/test_clients.c': 'a number of descriptors',
    'tests/fault/job.c': 'a number of registrations',
    'tests/fuzz/': 'sizes of inputs, and ranges that nobody maps',
    'tests/prove/test_runs.c': 'sizes of reads',
    'tests/sim/': 'ranges that nobody maps',
    'tests/programs/ranges.c': 'a number of mappings',
    'tests/uffd/test_race.c': 'a number of rounds',
    'tests/uring/': 'offsets in a file',
    'tests/vm/': 'the guest is a machine with small pages',
    'tool/prove/file.c': 'the block of a file',
}


def tree(root):
    """The files of the tree: path from the root, and text."""
    files = {}
    for folder, folders, names in os.walk(root):
        folders[:] = [f for f in folders
                      if not f.startswith('build') and f not in ('.git', '__pycache__', 'corpus')]
        for name in names:
            if name == '.git':      # in a worktree it is a file
                continue
            path = os.path.join(folder, name)
            with open(path, errors='replace') as f:
                files[os.path.relpath(path, root)] = f.read()
    return files


def lines_of(files, ends=SOURCE, begins=''):
    for path, text in sorted(files.items()):
        if path.startswith(begins) and path.endswith(ends):
            for nr, line in enumerate(text.splitlines(), 1):
                yield path, nr, line


def licence_of(path):
    for begins, ends, licence in LICENCES:
        if path.startswith(begins) and path.endswith(ends):
            return licence
    return None


def spdx(root, files):
    """every file names the licence of its folder"""
    for path, text in sorted(files.items()):
        if path.startswith('LICENSES/') or path.endswith(NO_SPDX):
            continue
        want = licence_of(path)
        found = re.search(r'SPDX-License-Identifier: (.*?)\s*(?:\*/|-->)?$',
                          '\n'.join(text.splitlines()[:3]), re.M)
        if not found:
            yield f'{path}: no SPDX line in the first three'
        elif found[1] not in (want if isinstance(want, tuple) else (want,)):
            yield f'{path}: licence "{found[1]}", not "{want}"'


def kernel_macro(root, files):
    """only core/port.h and the uapi headers test __KERNEL__"""
    for path, nr, line in lines_of(files, C):
        if '__KERNEL__' in line and path != 'core/port.h' and not path.startswith('include/uapi/'):
            yield f'{path}:{nr}: let core/port.h provide what differs'


def fences(root, files):
    """core and the cache's index have no bare fences: sanitizers cannot see them"""
    for path, nr, line in lines_of(files, C, PURE):
        if FENCE.search(line) and not path.startswith('core/port_'):
            yield f'{path}:{nr}: use an acquire, a release or an RMW, and name its partner'


def core_includes(root, files):
    """core includes only core and the uapi headers; the cache's index may include core"""
    for path, nr, line in lines_of(files, C, PURE):
        found = INCLUDE.match(line)
        if not found or path.startswith('core/port_'):
            continue
        beside = os.path.join(os.path.dirname(path), found[2])
        included = beside if beside in files else found[2]
        own = found[1] == '"' and included in files and included.startswith(
            'core/' if path.startswith('core/') else PURE)
        if not own and found[2] != 'invlock/feed.h':
            yield f'{path}:{nr}: {found[2]}'


def adapter_includes(root, files):
    """adapters include installed headers and their own, no private header of the library"""
    for path, nr, line in lines_of(files, C, 'adapters/'):
        found = INCLUDE.match(line)
        if found and found[1] == '"' and not found[2].startswith('adapters/') and (
                os.path.join(os.path.dirname(path), found[2]) not in files):
            yield f'{path}:{nr}: {found[2]}'


def struct_names(root, files):
    """no two structs have the same name, except the tests' rigs and what an architecture has"""
    places = {}
    for path, _, line in lines_of(files, C):
        found = re.match(r'struct (\w+) \{', line)
        if found and found[1] != 'rig' and '/arch_' not in path:
            places.setdefault(found[1], []).append(path)
    for name, paths in sorted(places.items()):
        if len(paths) > 1:
            yield f'struct {name}: {", ".join(paths)}'


def length(root, files):
    """no source file is too long to read"""
    for path, text in sorted(files.items()):
        nr = text.count('\n')
        if path.endswith(SOURCE) and nr > MAX_LINES:
            yield f'{path}: {nr} lines, the limit is {MAX_LINES}'


def layout(root, files):
    """lines are within the margin, clean at their end, indented by tabs in C"""
    for path, nr, line in lines_of(files, SOURCE + ('meson.build', 'Makefile')):
        # tables of files may be longer than the limit
        long = path.endswith('meson.build')
        if len(line.expandtabs(8)) > MAX_COLUMNS and not long:
            yield f'{path}:{nr}: {len(line.expandtabs(8))} columns, the limit is {MAX_COLUMNS}'
        if line != line.rstrip():
            yield f'{path}:{nr}: white space at the end'
        if path.endswith(C) and line.startswith(' ' * 8):
            yield f'{path}:{nr}: indented by spaces'
    for path, text in sorted(files.items()):
        if text and path.endswith(SOURCE) and not text.endswith('\n'):
            yield f'{path}: the last line does not end'


def unfinished(root, files):
    """no comment marks unfinished work"""
    for path, text in sorted(files.items()):
        if path.startswith('LICENSES/'):
            continue
        for nr, line in enumerate(text.splitlines(), 1):
            if UNFINISHED.search(line):
                yield f'{path}:{nr}: {line.strip()}'


def page_size(root, files):
    """the size of a page is asked for: no number stands for it"""
    for path, nr, line in lines_of(files, C):
        if PAGE_NUMBER.search(TEXT.sub('', line)) and not path.startswith(tuple(NO_PAGE)):
            yield (f'{path}:{nr}: call page_bytes(), or name in NO_PAGE of scripts/lint.py '
                   'what else this number is')


def architectures(root, files):
    """only core/port_*, bpf/arch_* and tests/arch.h ask for the architecture"""
    for path, nr, line in lines_of(files, C):
        if ARCHITECTURE.match(line) and not path.startswith(
                ('core/port_', 'bpf/arch_', 'tests/arch.h')):
            yield f'{path}:{nr}: let core/port_*, bpf/arch_* or tests/arch.h provide it'


def is_shell(path, text):
    """Whether it is a script. Files that it sources are checked as a part of it."""
    return re.match(r'#!.*\b(ba)?sh\b', text)


def run(command, root):
    if not shutil.which(command[0]):
        return [f'{command[0]} is not installed: scripts/deps.sh lint']
    done = subprocess.run(command, cwd=root, text=True, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.stdout.splitlines() or ['failed'] if done.returncode else []


def shellcheck(root, files):
    """shellcheck finds nothing in the scripts"""
    scripts = sorted(p for p, text in files.items() if is_shell(p, text))
    return run(['shellcheck', '-f', 'gcc', '-S', 'warning', '-x', '-P', 'SCRIPTDIR', *scripts],
               root) if scripts else []


def cppcheck(root, files):
    """cppcheck finds nothing in the library and the tools"""
    folders = [f for f in ('core', 'lib', 'adapters', 'tool') if os.path.isdir(f'{root}/{f}')]
    return run(['cppcheck', '--quiet', '--error-exitcode=1', '--inline-suppr', '-j2',
                '--enable=warning,performance,portability', '--std=c11', '--platform=unix64',
                '--suppress=missingInclude',
                # newer versions say so of every large file
                '--suppress=normalCheckLevelMaxBranches', '-Iinclude', '-Iinclude/uapi', '-I.',
                '-D__x86_64__', '-DLIBBPF_OPTS(type, name, ...)=struct type name = {}',
                '-U__KERNEL__', '-U__bpf__', '-UINVLOCK_PORT_SIM',
                *folders], root) if folders else []


CHECKS = (spdx, kernel_macro, fences, core_includes, adapter_includes, struct_names, length,
          layout, unfinished, page_size, architectures, lint_prose.links, lint_prose.words,
          lint_prose.subjects, shellcheck, cppcheck)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--root', default=os.path.join(os.path.dirname(__file__), '..'))
    parser.add_argument('check', nargs='*', help=', '.join(c.__name__ for c in CHECKS))
    args = parser.parse_args()
    unknown = set(args.check) - {c.__name__ for c in CHECKS}
    if unknown:
        parser.error(f'no such check: {", ".join(sorted(unknown))}')
    checks = [c for c in CHECKS if not args.check or c.__name__ in args.check]
    files = tree(args.root)
    red = 0
    print(f'1..{len(checks)}')
    for nr, check in enumerate(checks, 1):
        problems = list(check(args.root, files))
        print(f'{"not ok" if problems else "ok"} {nr} - {check.__doc__} ({check.__name__})')
        for problem in problems:
            print(f'# {problem}')
        red += bool(problems)
    return 1 if red or not files else 0


if __name__ == '__main__':
    sys.exit(main())
