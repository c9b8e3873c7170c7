#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""report.py RESULTS [--doc TEMPLATE OUT] - make tables of the results of bench/*.c

RESULTS is a folder with a JSON file for each question. Without --doc, the tables go to the
terminal. With --doc, OUT becomes a copy of TEMPLATE in which each {{question}} is replaced by its
table and plot. The plots go into a folder with the name of OUT. Text written by hand belongs into
the template.
"""
import argparse
import datetime
import json
import os
import platform
import re
import shutil
import subprocess
import sys


def number(value):
    """Three significant digits."""
    if value == 0:
        return '0'
    if abs(value) >= 1000:
        return f'{value:,.0f}'
    return f'{value:.3g}' if value < 100 else f'{value:.0f}'


def spread(of):
    text = number(of['median'])
    if of['min'] != of['max']:
        text += f' ({number(of["q1"])}..{number(of["q3"])})'
    return text


def names(series, key):
    found = []
    for one in series:
        if one[key] not in found:
            found.append(one[key])
    return found


def values(result):
    """One row for each case, with one column for each contender."""
    whats, whos = names(result['series'], 'what'), names(result['series'], 'who')
    cell = {(s['what'], s['who']): spread(s) for s in result['series']}
    yield [f'{result["unit"]}: median (quartiles)'] + whos
    for what in whats:
        yield [what] + [cell.get((what, who), '-') for who in whos]


def against(ratio):
    if 'base_who' not in ratio:
        return 'itself'
    if ratio['base_what'] == ratio['what']:
        return ratio['base_who']
    if ratio['base_who'] == ratio['who']:
        return ratio['base_what']
    return f'{ratio["base_who"]}, {ratio["base_what"]}'


def ratios(result):
    yield ['what', 'against', 'ratio', 'target', '']
    for r in result['ratios']:
        at_most = f'<= {number(r["at_most"])}' if 'at_most' in r else ''
        met = {True: 'met', False: '**missed**', None: ''}[r.get('met')]
        yield [f'{r["who"]}, {r["what"]}', against(r), spread(r), at_most, met]


def as_text(rows):
    rows = list(rows)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths)]
        yield '  '.join(cells).rstrip().replace('*', '')


def as_markdown(rows):
    rows = list(rows)
    yield '| ' + ' | '.join(rows[0]) + ' |'
    yield '|' + '---|' * len(rows[0])
    for row in rows[1:]:
        yield '| ' + ' | '.join(row) + ' |'


def quoted(text):
    return '"' + text.replace('"', "'").replace('_', ' ') + '"'


def plot(result, path):
    """Draw bars with quartiles, by case and contender. Return False if there is no gnuplot."""
    if not shutil.which('gnuplot'):
        return False
    series = result['series']
    # a value without a logarithm, such as a negative difference, is in the table only
    above = [s for s in series if s['q1'] > 0]
    medians = [s['median'] for s in above]
    wide = medians and max(medians) > 30 * min(medians)
    if wide:
        series = above
    whats, whos = names(series, 'what'), names(series, 'who')
    cell = {(s['what'], s['who']): f'{s["median"]} {s["q1"]} {s["q3"]}' for s in series}
    linear = 'set yrange [*:*]' if any(s['q1'] < 0 for s in series) else 'set yrange [0:*]'
    lines = ['set terminal svg size 900,420 font "sans,12" background "white"',
             f'set output "{path}"',
             'set style data histograms',
             'set style histogram errorbars gap 1 lw 1',
             'set style fill solid 0.7 border -1',
             'set grid ytics',
             'set key outside top center horizontal',
             'set xtics rotate by -20',
             f'set ylabel {quoted(result["unit"])}',
             'set logscale y' if wide else linear,
             '$data << END']
    for what in whats:
        lines.append(' '.join([quoted(what)] + [cell.get((what, who), 'NaN NaN NaN')
                                                for who in whos]))
    bars = [f'$data using {2 + 3 * i}:{3 + 3 * i}:{4 + 3 * i}:xtic(1) title {quoted(who)}'
            for i, who in enumerate(whos)]
    lines += ['END', 'plot ' + ', '.join(bars)]
    subprocess.run(['gnuplot'], input='\n'.join(lines) + '\n', text=True, check=True)
    return True


def section(name, result, folder, link):
    if 'text' in result:
        yield from ['```', result['text'].rstrip(), '```']
        return
    yield from as_markdown(values(result))
    if result['ratios']:
        yield ''
        yield from as_markdown(ratios(result))
    for note in result['notes']:
        yield ''
        yield f'Note: {note["note"]}.'
    path = os.path.join(folder, name + '.svg')
    if plot(result, path):
        yield ''
        yield f'![{name}]({link}/{name}.svg)'


# the most frequent questions, with the series that answers each, and what to compare it with
ANSWERS = [
    ('A hit, 1,000 regions, 1 thread', ('hit', 'invlock', '1000 regions, 1 thread'), 'UCX'),
    ('A hit, 1,000 regions, 2 threads', ('hit', 'invlock', '1000 regions, 2 threads'), 'UCX'),
    ('A hit, 100,000 regions, 1 thread', ('hit', 'invlock', '100000 regions, 1 thread'), 'UCX'),
    ('A hit, 1,000 regions, while another thread maps and unmaps',
     ('hit_beside', 'invlock', '1000 regions, beside'), '1000 regions, quiet'),
    ('A miss, without the registration', ('miss', 'invlock', 'dropped one by one'), 'UCX'),
    ('Memory for each region', ('memory', 'invlock', '100000 regions'), 'UCX'),
    ('`munmap()` of memory with 100,000 regions in it',
     ('invalidate', 'invlock', '100000 regions hit'), '100000 regions spared'),
    ('`mmap()` and `munmap()` of a watched process, programs at the tracepoints',
     ('watch', 'watched', 'mmap + munmap, 64 KiB, 1 user'), 'bare'),
    ('The shortest call, `getppid()`, of a process that is not watched, programs at the '
     'tracepoints', ('watch', 'not watched', 'getppid, 1 user'), 'bare'),
    ('CPU time of a direct read of 64 KiB', ('direct_io', 'invlock', '64 KiB'), 'plain'),
    ('CPU time of a direct read of 1 MiB', ('direct_io', 'invlock', '1024 KiB'), 'plain'),
]


def answers(results):
    """The table of the first page, with a row for each of ANSWERS that was measured."""
    yield ['what', 'invlock', 'beside']
    for question, (name, who, what), base in ANSWERS:
        result = results.get(name, {})
        mine = [s for s in result.get('series', []) if (s['who'], s['what']) == (who, what)]
        if not mine:
            continue
        beside = [f'{number(r["median"])} of {against(r)}' for r in result['ratios']
                  if (r['who'], r['what']) == (who, what) and against(r) == base]
        yield [question, f'{number(mine[0]["median"])} {result["unit"]}', ''.join(beside)]


def first_line(path, prefix):
    with open(path, encoding='utf-8') as f:
        for line in f:
            if line.startswith(prefix):
                return line.split(':', 1)[1].strip()
    return 'unknown'


def version_of(package):
    done = subprocess.run(['dpkg-query', '-W', '-f', '${Version}', package], text=True,
                          capture_output=True, check=False)
    return done.stdout or 'not installed'


def machine(results):
    rounds = max((r.get('rounds', 0) for r in results.values()), default=0)
    load = results.get('load', {}).get('load', '?')
    return (f'{datetime.date.today()}: {first_line("/proc/cpuinfo", "model name")}, '
            f'{os.cpu_count()} CPUs, Linux {platform.release()}, '
            f'gcc {version_of("gcc")}, UCX {version_of("libucx-dev")}; '
            f'up to {rounds} rounds; the load of the machine before the first round was {load}.')


def document(results, template, out):
    folder = os.path.splitext(out)[0]
    os.makedirs(folder, exist_ok=True)
    with open(template, encoding='utf-8') as f:
        text = f.read()
    asked = re.findall(r'^\{\{(\w+)\}\}$', text, re.M)
    for name in results:
        if name not in asked and name != 'load':
            sys.exit(f'{template} lacks the line {{{{{name}}}}}')

    def fill(match):
        name = match[1]
        if name == 'machine':
            return machine(results)
        if name == 'answers':
            return '\n'.join(as_markdown(answers(results)))
        if name not in results:
            return f'`bench/{name}` gave no result on this machine.'
        return '\n'.join(section(name, results[name], folder, os.path.basename(folder)))
    with open(out, 'w', encoding='utf-8') as f:
        f.write(re.sub(r'^\{\{(\w+)\}\}$', fill, text, flags=re.M))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('results')
    parser.add_argument('--doc', nargs=2, metavar=('TEMPLATE', 'OUT'))
    args = parser.parse_args()
    results = {}
    for entry in sorted(os.listdir(args.results)):
        name, ext = os.path.splitext(entry)
        if ext == '.json':
            with open(os.path.join(args.results, entry), encoding='utf-8') as f:
                text = f.read()
            try:
                results[name] = json.loads(text)
            except json.JSONDecodeError:
                # this program prints a table itself
                results[name] = {'text': text}
    if args.doc:
        document(results, *args.doc)
        return
    for name, result in results.items():
        if name == 'load':
            continue
        print(f'== {name}')
        if 'text' in result:
            print(result['text'])
            continue
        print('\n'.join(as_text(values(result))))
        if result['ratios']:
            print()
            print('\n'.join(as_text(ratios(result))))
        for note in result['notes']:
            print(note['note'])
        print()


if __name__ == '__main__':
    main()
