#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""run.py quick|proof - check the models with Spin; TAP

A check is a model with some of its #ifdefs and a property: "safety" (assertions, and no state
where nobody can go on), or the name of one of its ltl formulas, under weak fairness. One that
plants a fault must have a counterexample: without it, the run is red.
"""
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
SECONDS = {'quick': 60, 'proof': 1800}    # of CPU time, for one check

# what holds: the model, the property, defines, a sentence
HOLDS = [
    ('section', 'safety', 'CLOSED',
     'nothing stale is committed, and no hit on it is stale, also when the feed is closed'),
    ('section', 'sections_end', 'CLOSED', 'each section ends, though the storm never does'),
    ('section', 'sections_publish', 'CALM', 'without a budget it succeeds after the storm'),
    ('section', 'safety', 'BLIND', 'nor when changes are missed in blind windows'),
    ('section', 'sections_end', 'BLIND', 'each section ends, though a window never does'),
    ('guard', 'safety', '', 'the guard lets no reader trust what was changed unseen'),
    ('fault', 'safety', '', 'nothing stale is published, nothing changes under what is'),
    ('fault', 'safety', 'RELEASED', 'nor when the mm is released in the middle'),
    ('fault', 'safety', 'NO_RMAP MANY',
     'who holds the mmap lock can undo no round of the slow path'),
    ('fault', 'faults_end', '', 'each fault ends, though the storms never do'),
    ('fault', 'faults_end', 'RELEASED', 'also when the mm is released'),
    ('fault', 'faults_end', 'KILLED', 'a fault that is killed ends, though time stands still'),
    ('fault', 'faults_publish', 'CALM', 'without a budget it succeeds after the storms'),
]
LARGER = [
    ('guard', 'safety', 'CALLERS=2', 'two tasks that change the page on the CPU that is watched'),
    ('guard', 'safety', 'TASKS=3', 'three tasks, one of which changes it'),
    ('section', 'safety', 'CLOSED CHANGES=3', 'three threads change the page'),
    ('section', 'sections_end', 'CLOSED CHANGES=3', 'and each section ends'),
    ('fault', 'safety', 'RELEASED MANY', 'with MADV_DONTNEED beside the rest'),
    ('fault', 'faults_end', 'MANY', 'and each fault ends'),
    ('fault', 'safety', 'FAULTS=2', 'two faults of one page'),
    ('fault', 'faults_end', 'FAULTS=2 NO_RMAP', 'and both end'),
    ('fault', 'faults_end', 'FAULTS=2 NO_RMAP KILLED', 'also when they are killed'),
    ('fault', 'faults_publish', 'CALM FAULTS=2', 'and both succeed after the storms'),
]

# one line of the code dropped or moved: the model, the property, defines; the last is the fault
PLANTED = [
    ('section', 'safety', 'SEQUENCE_BEFORE_WORDS'),
    ('section', 'safety', 'WORDS_BEFORE_SEQUENCE'),
    ('section', 'safety', 'START_WITHOUT_GENERATION'),
    ('section', 'safety', 'END_BEFORE_START'),
    ('section', 'safety', 'RUNNING_IS_IGNORED'),
    ('section', 'safety', 'ANSWER_IS_ALWAYS_VALID'),
    ('section', 'sections_end', 'WAITS_COST_NOTHING'),
    ('section', 'sections_end', 'WAITS_ALONE_COST'),
    ('section', 'sections_publish', 'CALM SAMPLED_ONCE'),
    ('section', 'sections_publish', 'CALM END_IS_LOST'),
    ('section', 'safety', 'BLIND BLIND_IN_SILENCE'),
    ('section', 'sections_end', 'BLIND COMMITS_WAIT_FOR_EVER'),
    ('guard', 'safety', 'GUARD_IS_LATE'),
    ('guard', 'safety', 'NUMBER_IS_A_FLAG'),
    ('guard', 'safety', 'SKIPPED_IS_LEFT_UNMARKED'),
    ('guard', 'safety', 'LOOKS_TOO_LATE'),
    ('guard', 'safety', 'CLOSES_OVER_OTHERS'),
    ('guard', 'safety', 'WHAT_WAS_SKIPPED_IS_FORGOTTEN'),
    ('fault', 'safety', 'QUIET_BEFORE_THE_MMAP_LOCK'),
    ('fault', 'safety', 'TABLE_ALONE_IS_INTERESTING'),
    ('fault', 'safety', 'START_UNDOES_NOTHING'),
    ('fault', 'safety', 'END_BEFORE_START'),
    ('fault', 'safety', 'RMAP_IS_NOT_HEARD'),
    ('fault', 'safety', 'SLOW_PATH_DOES_NOT_CHECK'),
    ('fault', 'safety', 'QUIET_IS_ENOUGH'),
    ('fault', 'safety', 'RELEASED RELEASE_CLOSES_NOTHING'),
    ('fault', 'safety', 'NO_RMAP MANY SLOW_PATH_READS'),
    ('fault', 'faults_end', 'WAITS_COST_NOTHING'),
    ('fault', 'faults_end', 'WAITS_ALONE_COST'),
    ('fault', 'faults_publish', 'CALM BEGUN_ONCE'),
    ('fault', 'faults_publish', 'CALM END_IS_LOST'),
]


def run(command, directory):
    return subprocess.run(command, cwd=directory, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT).stdout


def check(model, prop, defines, optimise):
    """(number of errors, what Spin says of it, the steps that lead to it)"""
    flags = ['-D' + d for d in defines.split()]
    source = os.path.join(HERE, model + '.pml')
    if prop == 'safety':
        # breadth first: the shortest way to an error
        compiled, how = ['-DSAFETY', '-DNOCLAIM', '-DBFS'], []
    else:
        compiled, how = ['-DNFAIR=8'], ['-a', '-f', '-m1000000', '-N', prop]
    with tempfile.TemporaryDirectory() as directory:
        said = run(['spin', '-a', *flags, source], directory)
        if not os.path.exists(os.path.join(directory, 'pan.c')):
            return None, said, ''
        said = run(['gcc', optimise, '-w', '-DCOLLAPSE', '-DMEMLIM=2048', *compiled, '-o', 'pan',
                    'pan.c'], directory)
        if said:
            return None, said, ''
        said = run(['./pan', '-w20', *how], directory)
        errors = re.search(r'errors: (\d+)', said)
        # a search that was cut short proves nothing
        if not errors or re.search('max search depth too small|memory limit', said):
            return None, said, ''
        steps = ''
        if int(errors[1]):
            steps = run(['spin', '-t', '-p', '-g', '-k', model + '.pml.trail', *flags, source],
                        directory)
        return int(errors[1]), said, steps


def numbers(said):
    return '%s states, %s s' % (re.search(r'(\d+) states, stored', said)[1],
                                re.search(r'elapsed time ([\d.]+)', said)[1])


def reason(said):
    return re.search(r'^pan:1: (.*?) \(at depth', said, re.M)[1]


def main(argv):
    if len(argv) != 2 or argv[1] not in SECONDS:
        sys.exit(__doc__.split('\n')[0])
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS[argv[1]], SECONDS[argv[1]]))
    if not shutil.which('spin'):
        print('1..0 # SKIP spin is not installed: apt-get install spin')
        return 0
    optimise = '-O0' if argv[1] == 'quick' else '-O2'    # the search takes less than gcc
    checks = [(c, False) for c in (HOLDS if argv[1] == 'quick' else LARGER)]
    if argv[1] == 'quick':
        checks += [((*c, 'planted: ' + c[2].split()[-1]), True) for c in PLANTED]
    failures = 0
    print(f'1..{len(checks)}', flush=True)
    for number, ((model, prop, defines, sentence), planted) in enumerate(checks, 1):
        errors, said, steps = check(model, prop, defines, optimise)
        good = errors is not None and bool(errors) == planted
        failures += not good
        print(f'{"" if good else "not "}ok {number} - {model}, {prop}: {sentence}')
        if errors is None:
            print('# ' + said.strip().replace('\n', '\n# '))
        else:
            print('# ' + numbers(said) + (': ' + reason(said) if errors else ''))
        if not good and steps:
            print('# ' + steps.strip().replace('\n', '\n# '))
        sys.stdout.flush()
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv))
