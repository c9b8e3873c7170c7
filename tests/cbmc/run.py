#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""run.py quick|proof - prove the arithmetic of core with CBMC, print TAP

A proof is a function in a file of this folder: see any.h. planted.txt changes lines of core, as
tests/sim/mutants.txt does. `cases:` names the proof that CBMC must then refute, with its options if
they differ.
"""
import os
import re
import resource
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, '../..')
sys.path.insert(0, os.path.join(HERE, '../sim'))
import build    # noqa: E402

CPU_SECONDS = {'quick': 120, 'proof': 3600}     # for one proof
# a loop that may run more often than this makes the proof fail
DEFAULT = ['--unwind', '34']

# file, proof, options
QUICK = [
    ('stripes', 'a_change_marks_the_word_of_each_byte', '-DSHIFT=12 -DBITS=3'),
    ('stripes', 'a_translation_looks_at_the_word_of_each_byte', '-DSHIFT=12 -DBITS=3'),
    ('stripes', 'a_sum_counts_a_word_at_most_twice', '-DSHIFT=21 -DBITS=3'),
    ('stripes', 'the_number_of_stripes_is_right_up_to_the_top', '-DSHIFT=21 -DBITS=3'),
    ('words', 'a_word_counts_without_a_carry_also_when_it_wraps', ''),
    ('words', 'too_many_running_invalidations_close_the_feed', ''),
    ('words', 'a_sum_does_not_come_round_within_the_lag', ''),
    ('words', 'an_old_snapshot_is_never_valid', ''),
    ('words', 'no_snapshot_is_one_of_invlock_unquiet', ''),
    ('ring', 'what_the_ring_clears_did_not_overlap', '-DSLOTS=2 -DEVENTS=3 --unwind 5'),
    ('ring', 'a_newer_event_or_one_being_written_is_left_alone',
     '-DSLOTS=2 -DEVENTS=3 --unwind 5'),
    ('blind', 'the_ring_clears_only_windows_that_have_ended_and_missed_nothing',
     '-DSLOTS=2 -DEVENTS=3 --unwind 8'),
    ('blind', 'a_window_that_missed_nothing_is_cleared', '-DSLOTS=2 -DEVENTS=1 --unwind 8'),
    ('blind', 'a_window_leaves_the_words_as_they_were_but_for_a_generation',
     '-DSLOTS=2 -DEVENTS=1 --unwind 8'),
    ('blind', 'a_window_says_what_was_skipped_in_it', '-DSLOTS=2 -DEVENTS=1 --unwind 8'),
    ('attach', 'what_is_accepted_lies_inside', '--pointer-check'),
    ('attach', 'a_size_is_that_of_what_is_in_it', ''),
    ('lookup', 'a_lookup_probes_a_block_that_its_region_is_filed_under', ''),
    ('lookup', 'what_the_fast_path_serves_lies_in_its_region', '--unwind 48'),
    ('lookup', 'a_bucket_names_its_region_under_its_tag_alone', ''),
]
# the geometry that the library uses, and the extremes
PROOF = [('stripes', 'a_change_marks_the_word_of_each_byte', f'-DSHIFT={s} -DBITS={b}')
         for s in (12, 21, 40) for b in (0, 8, 12, 20)]
PROOF += [('stripes', 'a_translation_looks_at_the_word_of_each_byte', f'-DSHIFT={s} -DBITS={b}')
          for s in (12, 21, 40) for b in (0, 4, 5)]
PROOF += [('stripes', 'the_number_of_stripes_is_right_up_to_the_top', f'-DSHIFT={s} -DBITS=3')
          for s in (12, 40)]
PROOF += [('ring', 'what_the_ring_clears_did_not_overlap',
           f'-DSLOTS={s} -DEVENTS={e} --unwind 8')
          for s, e in ((1, 3), (2, 5), (4, 6))]


def prove(cbmc, core, name, proof, options):
    """(whether it is proved; None = CBMC did not answer; CBMC's output)"""
    command = [*cbmc, '-I' + core, '-I' + ROOT, '-I' + os.path.join(ROOT, 'include/uapi'),
               '-DINVLOCK_PORT_SIM', '-D_GNU_SOURCE', '--function', proof,
               '--no-standard-checks', '--undefined-shift-check', '--unwinding-assertions',
               *([] if '--unwind' in options else DEFAULT), *options.split(),
               os.path.join(HERE, name + '.c')]
    said = subprocess.run(command, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT).stdout
    if 'no-body' in said:
        return None, said
    return {'VERIFICATION SUCCESSFUL': True, 'VERIFICATION FAILED': False}.get(
        (re.findall('^VERIFICATION [A-Z]+$', said, re.M) or [''])[-1]), said


def planted(entry):
    name, *options = entry['cases'].split(maxsplit=1)
    proof = next(p for p in QUICK if p[1] == name)
    return entry, (proof[0], name, options[0] if options else proof[2])


def refuted(said):
    return '; '.join(re.findall(r'^\[.*?\] line \d+ (.*): FAILURE$', said, re.M))


def main(argv):
    if len(argv) != 2 or argv[1] not in CPU_SECONDS:
        sys.exit(__doc__.split('\n')[0])
    fetched = subprocess.run([os.path.join(HERE, 'fetch.sh')], text=True, stdout=subprocess.PIPE)
    if fetched.returncode == 77:
        print('1..0 # SKIP ' + fetched.stdout.strip())
        return 0
    cbmc = fetched.stdout.split()
    if fetched.returncode or not cbmc:
        print(f'Bail out! fetch.sh ended with {fetched.returncode} and prints no command')
        return 1
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS[argv[1]], CPU_SECONDS[argv[1]]))
    runs = [(None, proof) for proof in (QUICK if argv[1] == 'quick' else PROOF)]
    if argv[1] == 'quick':
        runs += [planted(entry) for entry in build.read_table(os.path.join(HERE, 'planted.txt'))]
    failures, before = 0, 0
    print(f'1..{len(runs)}', flush=True)
    with tempfile.TemporaryDirectory() as core:
        for number, (entry, proof) in enumerate(runs, 1):
            build.copy_core(ROOT, core)
            if entry:
                build.plant.apply(entry, core)
            proved, said = prove(cbmc, core, *proof)
            good = proved is (entry is None)
            failures += not good
            what = f'planted: {entry["name"]}' if entry else f'{proof[1]} {proof[2]}'
            print(f'{"" if good else "not "}ok {number} - {proof[0]}: {what}')
            used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
            print(f'# {used - before:.1f} s' + (': ' + refuted(said) if entry else ''))
            before = used
            if not good:
                print('# ' + said[-6000:].strip().replace('\n', '\n# '))
            sys.stdout.flush()
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv))
