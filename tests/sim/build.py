#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Builds the explorer, sim, with core/ as it is, or with one line of core/ changed.

    build.py make    CC ROOT OUT                 the explorer
    build.py check   CC ROOT STAMP TABLE...      does every entry of the tables fit core/, and
                                                 is there one for each ordering in it?
    build.py mutants CC ROOT ENGINE TABLE [GROUP]  TAP: does the explorer catch each of them?
    build.py wrong   CC ROOT ENGINE TABLE        TAP: `mutants` must reject each entry

A table has the form of tests/plant.py. Its entries may have these fields:

    group: a word           lets a test run a part of the table
    cases: some words       the cases of sim to run; all of them by default
    survives: why           the explorer cannot catch it; it is an error if it does

small.txt is applied before everything else.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, '..'), os.path.join(HERE, '../../scripts')]
import plant    # noqa: E402
from lint import PURE    # noqa: E402

FLAGS = ['-std=gnu11', '-D_GNU_SOURCE', '-DINVLOCK_PORT_SIM', '-Wall', '-Wextra', '-Werror',
         '-Wno-sign-compare', '-Wno-missing-field-initializers']
# a changed line may leave something unused
MUTANT_FLAGS = ['-Wno-unused', '-Wno-unused-parameter']
ENGINE = ['sim.c', 'sim_steps.c', 'sim_memory.c', 'sim_plain.c', 'sim_map.c', 'main.c']
CASES = ['cases_lock.c', 'cases_blind.c', 'cases_cache.c', 'serial.c']
GUARD = 'tests/sim/guard.h'     # stands for a BPF program: mutants change it, too


def read_table(path):
    return plant.read_table(path, ('group', 'cases', 'survives'))


def pure_files(root):
    """the folders of core and of the files held to its rules, from the root"""
    return [f'{folder}/{name}' for folder in sorted({os.path.dirname(path) for path in PURE})
            for name in sorted(os.listdir(os.path.join(root, folder)))
            if f'{folder}/{name}'.startswith(PURE) and name.endswith(('.c', '.h'))]


def copy_core(root, directory):
    for path in [*pure_files(root), GUARD]:
        copy = os.path.join(directory, path)
        os.makedirs(os.path.dirname(copy), exist_ok=True)
        shutil.copyfile(os.path.join(root, path), copy)
    for entry in read_table(os.path.join(root, 'tests/sim/small.txt')):
        plant.apply(entry, directory)


def run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout


def compile_all(cc, flags, sources, out_dir, root):
    objects = []
    for source in sources:
        objects.append(os.path.join(out_dir, os.path.basename(source)[:-2] + '.o'))
        code, text = run(cc + FLAGS + flags + ['-I' + os.path.join(root, 'include/uapi'),
                                               '-c', source, '-o', objects[-1]])
        if code:
            sys.exit(f'{source} does not compile:\n{text}')
    return objects


def build_engine(cc, root, directory):
    os.makedirs(directory, exist_ok=True)
    sources = [os.path.join(root, 'tests/sim', name) for name in ENGINE]
    return compile_all(cc, ['-O2', '-g', '-I' + root], sources, directory, root)


def build_sim(cc, root, directory, engine, out, flags=()):
    core = [os.path.join(directory, path) for path in pure_files(root) if path.endswith('.c')]
    cases = [os.path.join(root, 'tests/sim', name) for name in CASES]
    objects = compile_all(cc, ['-O1', '-g', '-fsanitize=thread', '-I' + directory, '-I' + root,
                               *flags], core + cases, directory, root)
    code, text = run(cc + engine + objects + ['-o', out])
    if code:
        sys.exit(f'the explorer does not link:\n{text}')


def make(cc, root, out):
    with tempfile.TemporaryDirectory() as directory:
        copy_core(root, directory)
        build_sim(cc, root, directory, build_engine(cc, root, directory), out)


def check(cc, root, stamp, tables):
    with tempfile.TemporaryDirectory() as directory:
        for table in tables:
            for entry in read_table(table):
                copy_core(root, directory)
                plant.apply(entry, directory)
    missing = list(check_orders(root, tables))
    if missing:
        sys.exit('\n'.join(missing))
    with open(stamp, 'w', encoding='utf-8'):
        pass


def check_orders(root, tables):
    """find each acquire, release, RMW and barrier of core that no entry changes"""
    order = re.compile(r'\bport_(load_acquire|store_release|fetch_add|cmpxchg|\w+_barrier)\(')
    entries = [entry for table in tables for entry in read_table(table)]
    for path in pure_files(root):
        if path.startswith('core/port'):
            continue
        lines = {line for entry in entries for file, old, _ in entry['changes']
                 if file == path for line in old.split('\n')}
        with open(os.path.join(root, path), encoding='utf-8') as f:
            for number, line in enumerate(f, 1):
                code = re.sub(r'/\*.*|^ \*.*', '', line)
                if order.search(code) and line.rstrip('\n') not in lines:
                    yield f'{path}:{number}: no mutant weakens this: {line.strip()}'


def verdict(cc, root, engine, entry, directory):
    """(did it end as the table says, a sentence, the explorer's output)"""
    copy_core(root, directory)
    plant.apply(entry, directory)
    sim = os.path.join(directory, 'sim')
    build_sim(cc, root, directory, engine, sim, MUTANT_FLAGS)
    cases = entry.get('cases', '').split()
    # the first schedules of some case catch most mutants: try them first
    for bounds in (['-n', '3000'], []):
        code, text = run([sim, '-f'] + bounds + cases)
        if code not in (0, 1) or not re.search(r'^1\.\.', text, re.M):
            return False, f'the explorer broke, exit {code}', text
        endless = '# not explored to the end' in text
        caught = re.search(r'^# (?!not explored to the end)(.*)\n(not ok \d+ - ([^:]*):)', text,
                           re.M)
        if caught:
            break
    expected = 'survives' in entry
    if not caught:
        if endless:
            return False, 'not explored to the end', ''
        return expected, 'survives' + (f': {entry["survives"]}' if expected else ''), ''
    before = text[:text.index(caught[2])].split('\n')
    # the lines after those of the case before, which end with its number of states
    start = max((i for i, line in enumerate(before) if ' schedules, ' in line), default=-1)
    schedule = '\n'.join(line for line in before[start + 1:] if line.startswith('#'))
    return not expected, f'killed by {caught[3]}: {caught[1]}', schedule


def mutants(cc, root, engine_dir, table, group, wrong=False):
    entries = [e for e in read_table(table) if not group or e.get('group') == group]
    if not entries:
        sys.exit(f'{table} has no entries for the group "{group}"')
    failures = 0
    engine = build_engine(cc, root, engine_dir)
    with tempfile.TemporaryDirectory() as directory:
        for number, entry in enumerate(entries, 1):
            right, sentence, schedule = verdict(cc, root, engine, entry, directory)
            right ^= wrong
            failures += not right
            print(f'{"" if right else "not "}ok {number} - {entry["name"]}: {sentence}')
            if schedule:
                print(schedule)
            sys.stdout.flush()
    if wrong:
        # check() must complain about a table that changes nearly nothing
        found = any(check_orders(root, [table]))
        failures += not found
        print(f'{"" if found else "not "}ok {len(entries) + 1} - '
              'an order without a mutant is found')
    print(f'1..{len(entries) + wrong}')
    return 1 if failures else 0


def main(argv):
    command, cc, root = argv[1], argv[2].split(), argv[3]
    if command == 'make':
        make(cc, root, argv[4])
    elif command == 'check':
        check(cc, root, argv[4], argv[5:])
    elif command in ('mutants', 'wrong'):
        group = argv[6] if len(argv) > 6 else None
        return mutants(cc, root, argv[4], argv[5], group, command == 'wrong')
    return 0


if __name__ == '__main__':
    try:
        sys.exit(main(sys.argv))
    except plant.Misfit as why:
        sys.exit(f'build.py: {why}')
