#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""scripts/tally.py counts right, and cannot be green when something was not."""
import json
import os
import subprocess
import sys
import tempfile

import tap

TALLY = os.path.join(os.path.dirname(__file__), '../../scripts/tally.py')


def _tally(*files):
    """status and lines of output for files, each a name and its text"""
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name, text in files:
            paths.append(os.path.join(folder, name))
            if text is not None:
                with open(paths[-1], 'w') as f:
                    f.write(text)
        done = subprocess.run([sys.executable, TALLY, *paths], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.returncode, done.stdout.splitlines()


def _meson(stdout, result='OK', status=0, stderr=''):
    """a line of Meson's testlog.json"""
    return json.dumps({'name': 'invlock:quick / lib-mm', 'stdout': stdout, 'stderr': stderr,
                       'result': result, 'returncode': status}) + '\n'


def each_line_of_tap_counts_over_all_files():
    status, said = _tally(
        ('plain.json', _meson('1..2\nok 1 - a\nok 2 - b\n') + _meson('1..1\nok 1 - c\n')),
        ('lint.tap', '1..2\nok 1 - d\nok 2 - e # SKIP no tool\n'))
    assert status == 0, said
    assert said[-1] == '4 passed, 0 failed, 1 skipped', said


def a_failed_test_is_red_and_shown_with_its_words():
    status, said = _tally(
        ('plain.json', _meson('1..2\nok 1 - a\nnot ok 2 - b\n# 1 != 2\n', 'FAIL', 1)))
    assert status == 1, said
    assert said[-1] == '1 passed, 1 failed, 0 skipped', said
    assert '  plain: lib-mm: b' in said and '    # 1 != 2' in said, said


def a_failure_among_many_files_is_red():
    good = ('good.tap', '1..1\nok 1\n')
    status, said = _tally(good, ('bad.tap', '1..1\nnot ok 1 - x\n'), ('best.tap', '1..1\nok 1\n'))
    assert status == 1 and said[-1] == '2 passed, 1 failed, 0 skipped', said


def a_skip_is_listed_with_its_reason():
    status, said = _tally(('plain.json', _meson('1..2\nok 1 - a # SKIP no io_uring\nok 2 - b\n')))
    assert status == 0, said
    assert '  plain: lib-mm: a: no io_uring' in said, said


def a_skip_without_a_reason_is_a_failure():
    status, said = _tally(('a.tap', '1..2\nok 1 - a # SKIP\nok 2\n'))
    assert status == 1 and said[-1] == '1 passed, 1 failed, 0 skipped', said


def a_program_that_dies_after_its_last_test_is_a_failure():
    status, said = _tally(
        ('asan.json', _meson('1..1\nok 1 - a\n', 'ERROR', 1, 'LeakSanitizer: 8 bytes\n')))
    assert status == 1, said
    assert said[-1] == '1 passed, 1 failed, 0 skipped', said
    assert any('LeakSanitizer' in line for line in said), said


def a_program_that_stops_half_way_is_a_failure():
    status, said = _tally(('plain.json', _meson('1..3\nok 1 - a\n', 'TIMEOUT', -15)))
    assert status == 1 and said[-1] == '1 passed, 1 failed, 0 skipped', said
    assert any('TIMEOUT' in line for line in said), said


def a_program_that_says_nothing_is_a_failure():
    status, said = _tally(('plain.json', _meson('')), ('a.tap', '1..1\nok 1\n'))
    assert status == 1 and said[-1] == '1 passed, 1 failed, 0 skipped', said


def a_bail_out_is_a_failure():
    status, said = _tally(('vm.tap', '1..2\nok 1 - boots\nBail out! no kernel\n'))
    assert status == 1 and said[-1] == '1 passed, 1 failed, 0 skipped', said


def a_tier_that_ran_nothing_is_a_failure():
    status, said = _tally(('a.tap', '1..1\nok 1\n'), ('plain.json', ''))
    assert status == 1 and said[-1] == '1 passed, 1 failed, 0 skipped', said


def results_that_are_not_there_are_a_failure():
    status, said = _tally(('a.tap', '1..1\nok 1\n'), ('gone.tap', None))
    assert status == 1 and said[-1] == '1 passed, 1 failed, 0 skipped', said


def no_test_at_all_is_red():
    status, said = _tally()
    assert status == 1 and said == ['0 passed, 0 failed, 0 skipped'], said


def nothing_but_skips_is_red():
    status, said = _tally(('vm.tap', '1..0 # SKIP no QEMU\n'))
    assert status == 1 and said[-1] == '0 passed, 0 failed, 1 skipped', said


if __name__ == '__main__':
    tap.run(tap.in_order(globals()))
