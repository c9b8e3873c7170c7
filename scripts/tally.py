#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""tally.py FILE... - count the results of tests

A FILE is Meson's testlog*.json or plain TAP; its name without the suffix is the name of its tier.
Each line of TAP counts, so a program with ten tests counts ten. The script prints every failure
with the program's output about it, every skip with its reason, and one last line:

        N passed, N failed, N skipped

It fails when something failed, when a tier ran nothing, and when nothing ran at all. It counts as a
failure what it cannot count: a program that stopped before its plan was fulfilled, or died after
it, a skip that gives no reason, a FILE that does not exist.
"""
import json
import os
import re
import sys

RESULT = re.compile(r'(not )?ok\b *(\d*) *(?:- )?(.*)')
PLAN = re.compile(r'1\.\.(\d+) *(?:# *skip\w* *(.*))?$', re.I)
SKIP = re.compile(r'# *skip\w* *(.*)$', re.I)
TAIL = 40


class Tally:
    def __init__(self):
        self.passed = 0
        self.failures = []      # (where, text)
        self.skips = []         # (where, reason)

    def ran(self):
        return self.passed + len(self.failures)

    def fail(self, where, text=''):
        self.failures.append((where, text))

    def skip(self, where, reason):
        if reason:
            self.skips.append((where, reason))
        else:
            self.fail(where, 'skipped without a reason')

    def line(self):
        return f'{self.passed} passed, {len(self.failures)} failed, {len(self.skips)} skipped'


def count_tap(tally, where, text):
    """One program's output. Returns False, and counts a failure, if its TAP is incomplete."""
    plan, seen = None, 0
    lines = text.splitlines()
    for nr, line in enumerate(lines):
        found = PLAN.match(line)
        if found:
            plan = int(found[1])
            if plan == 0:
                tally.skip(where, found[2])
            continue
        if line.startswith('Bail out!'):
            tally.fail(where, line)
            return False
        found = RESULT.match(line)
        if not found:
            continue
        seen += 1
        name = f'{where}: {found[3] or found[2]}'
        skip = SKIP.search(found[3])
        if found[1]:
            notes = []
            for note in lines[nr + 1:]:
                if not note.startswith('#'):
                    break
                notes.append(note)
            tally.fail(name, '\n'.join(notes))
        elif skip:
            tally.skip(f'{where}: {found[3][:skip.start()].strip()}', skip[1].strip())
        else:
            tally.passed += 1
    if plan is None:
        tally.fail(where, 'printed nothing, or no plan')
    elif plan != seen:
        tally.fail(where, f'stopped after {seen} of {plan} tests')
    return plan is not None and plan == seen


def tail(test):
    lines = (test.get('stdout', '') + test.get('stderr', '')).splitlines()
    return '\n'.join([f'result {test["result"]}, status {test.get("returncode")}', *lines[-TAIL:]])


def count_meson(tally, tier, text):
    for line in text.splitlines():
        test = json.loads(line)
        where = f'{tier}: {test["name"].split(" / ")[-1]}'
        failed = len(tally.failures)
        complete = count_tap(tally, where, test.get('stdout', ''))
        # it died, or a sanitizer reported at its exit; otherwise its own lines have been counted
        if not complete or (test['result'] not in ('OK', 'SKIP') and len(tally.failures) == failed):
            if len(tally.failures) > failed:
                del tally.failures[failed:]
            tally.fail(where, tail(test))


def count_file(path):
    tally = Tally()
    tier = os.path.basename(path).rsplit('.', 1)[0]
    try:
        with open(path, errors='replace') as f:
            text = f.read()
    except OSError as err:
        tally.fail(tier, f'no results, {err.strerror}: {path}')
        return tally
    if path.endswith('.json'):
        count_meson(tally, tier, text)
    else:
        count_tap(tally, tier, text)
    if not tally.ran() and not tally.skips:
        tally.fail(tier, 'ran no test')
    return tally


def main(paths):
    total = Tally()
    for path in paths:
        tally = count_file(path)
        total.passed += tally.passed
        total.failures += tally.failures
        total.skips += tally.skips
    if total.skips:
        print('Skipped:')
    for where, reason in total.skips:
        print(f'  {where}: {reason}')
    if total.failures:
        print('Failed:')
    for where, text in total.failures:
        print(f'  {where}')
        print(re.sub('^', '    ', text, flags=re.M).rstrip())
    print(total.line())
    return 1 if total.failures or not total.ran() else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
