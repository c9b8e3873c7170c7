#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""test_bench.py PROGRAM... - run each measurement, and have bench/report.py read its output

With --quick the programs measure next to nothing, so no number is checked.
"""
import copy
import json
import os
import subprocess
import sys
import tempfile

import tap

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
REPORT = os.path.join(ROOT, 'bench/report.py')
TEMPLATE = os.path.join(ROOT, 'bench/performance.md.in')
results = {}


def _faults(result):
    """a list of what is wrong with a result"""
    missing = {'bench', 'unit', 'rounds', 'series', 'ratios', 'notes'} - set(result)
    if missing:
        return [f'no {missing}']
    found = [] if result['series'] else ['nothing was measured']
    for one in result['series'] + result['ratios']:
        who = f'{one["what"]}, {one["who"]}'
        # a difference may have any value
        difference = who.endswith(': more by')
        least = one['min'] if difference else 0
        if not least <= one['min'] <= one['q1'] <= one['median'] <= one['q3'] <= one['max']:
            found.append(f'{who}: in no order')
        # there may be no false invalidations, and no lines that move
        if not one['max'] and not difference and result['bench'] not in ('false', 'lines'):
            found.append(f'{who}: nothing')
        if 'at_most' in one and one['met'] != (one['median'] <= one['at_most']):
            found.append(f'{who}: met is {one["met"]}')
    return found


def _report(documents, *options):
    """report.py's status and output for these results"""
    with tempfile.TemporaryDirectory() as folder:
        for name, result in documents.items():
            with open(os.path.join(folder, name + '.json'), 'w', encoding='utf-8') as f:
                json.dump(result, f)
        done = subprocess.run([sys.executable, REPORT, folder, *options], text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.returncode, done.stdout


def every_measurement_runs_and_prints_a_result():
    for program in sys.argv[1:]:
        name = os.path.basename(program)
        done = subprocess.run([program, '--quick'], text=True, check=False, timeout=600,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode and 'monitor' in done.stderr:
            # direct_io needs a monitor that sees everything
            print(f'# {name}: not possible here: {done.stderr.strip()}')
            continue
        assert done.returncode == 0, f'{name}: {done.stderr}'
        results[name] = json.loads(done.stdout)
        if name == 'false' and not results[name]['series'] and results[name]['notes']:
            print(f'# {name}: not possible here: {results.pop(name)["notes"]}')
            continue
        assert not _faults(results[name]), f'{name}: {_faults(results[name])}'
    assert len(results) >= len(sys.argv[1:]) - 2, list(results)


def a_result_that_says_nothing_or_lies_is_found():
    good = results['lock']
    for plant in (lambda r: r.pop('ratios'), lambda r: r['series'].clear(),
                  lambda r: r['series'][0].update(max=0, q3=0, median=0, q1=0, min=0),
                  lambda r: r['series'][0].update(q1=r['series'][0]['max'] + 1),
                  lambda r: r['ratios'][0].update(met=not r['ratios'][0]['met'])):
        bad = copy.deepcopy(good)
        plant(bad)
        assert _faults(bad)


def a_wrong_option_is_named():
    done = subprocess.run([sys.argv[1], '--fast'], text=True, check=False, capture_output=True)
    assert done.returncode and '--fast' in done.stderr, done


def the_report_shows_every_contender_and_every_missed_target():
    result = copy.deepcopy(results['lock'])
    ratio = next(r for r in result['ratios'] if 'at_most' in r)
    ratio['met'] = False
    status, said = _report({'lock': result})
    assert status == 0, said
    for series in result['series']:
        assert series['who'] in said and series['what'] in said, said
    assert 'missed' in said, said


def the_page_has_a_place_for_every_question_and_keeps_what_is_written_by_hand():
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, 'performance.md')
        status, said = _report(results, '--doc', TEMPLATE, out)
        assert status == 0, said
        with open(out, encoding='utf-8') as f:
            page = f.read()
        assert '{{' not in page
        assert page.count('\n| ') > 30
        with open(TEMPLATE, encoding='utf-8') as f:
            for line in f:
                assert line.startswith('{{') or line in page, line
        # a question that has no place on the page would be measured in vain
        status, said = _report({'other': results['lock']}, '--doc', TEMPLATE, out)
        assert status and 'other' in said, said


def the_first_page_answers_from_what_was_measured():
    sys.path.insert(0, os.path.dirname(REPORT))
    import report       # pylint: disable=import-outside-toplevel
    questions = [row[0] for row in report.answers(results)]
    assert len(questions) == len(set(questions)) > 3, questions
    for name, (who, _) in {(a[1][0], a[1][1:]) for a in report.ANSWERS}:
        if name in results:
            # a series whose name was changed would be left out without notice
            assert who in {s['who'] for s in results[name]['series']}, (name, who)


def what_is_less_than_nothing_or_far_apart_is_drawn_too():
    # differences near zero, as a noisy machine measures them
    for lows, highs in (((-3, -2, -1), (-9, -8, -7)), ((0, 0, 0), (0, 0, 0)),
                        ((-3, 2, 5), (800, 900, 1000)), ((0, 0, 9000), (0, 0, 1)),
                        ((1, 1, 1), (-3, 100, 200)), ((1, 2, 3), (800, 900, 1000))):
        result = copy.deepcopy(results['lock'])
        result.update(ratios=[], series=[
            {'what': 'a call', 'who': who, 'min': v[0], 'q1': v[0], 'median': v[1], 'q3': v[2],
             'max': v[2]} for who, v in (('one', lows), ('another', highs))])
        with tempfile.TemporaryDirectory() as folder:
            out = os.path.join(folder, 'performance.md')
            status, said = _report({'lock': result}, '--doc', TEMPLATE, out)
            assert status == 0, f'{lows}, {highs}: {said}'


tap.run(tap.in_order(globals()))
