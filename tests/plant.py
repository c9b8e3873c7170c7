#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Plants a fault: copies sources and changes one place in the copy, to show that a test sees it.

    plant.py list  TABLE [FIELD...]              prints the name and these fields of each entry
    plant.py check TABLE ROOT [STAMP]            does the old text of every entry still fit ROOT?
                                                 Then STAMP is made
    plant.py copy  TABLE NAME ROOT OUT FOLDER... copies these folders of ROOT to OUT and plants NAME
    plant.py file  TABLE NAME ROOT FILE OUT      copies FILE to OUT and plants NAME's part of it

A copy writes only the files that differ, and removes none: a build of one copy after the other
in the same OUT compiles what has changed.

A table consists of entries. An empty line ends an entry, and # begins a comment:

    name: a-word            each name occurs once
    field: some words       as many as the table's users want
    file: kmod/feed.c       a path below ROOT
    -old text               these lines must occur in the file exactly once
    +new text

An entry that changes several places repeats `file:` and the lines that follow it.
"""
import filecmp
import os
import re
import shutil
import sys
import tempfile


class Misfit(Exception):
    """The table is wrong, or does not fit the sources any more; the message says how."""


def read_table(path, fields=None):
    """The entries, as dictionaries; `changes` is a list of (file, old text, new text).

    With @fields, any other field is an error.
    """
    entries, entry = [], None
    with open(path, encoding='utf-8') as f:
        for number, line in enumerate(f, 1):
            line = line.rstrip('\n')
            if line.startswith('#'):
                continue
            if not line:
                entry = None
                continue
            if entry is None:
                entry = {'line': number, 'places': []}
                entries.append(entry)
            _read_line(path, number, line, entry, fields)
    return [_finish(path, entry) for entry in entries]


def _read_line(path, number, line, entry, fields):
    if line[0] in '-+' and entry['places']:
        entry['places'][-1][line[0]].append(line[1:])
        return
    match = re.match(r'([a-z]+): (.*)', line)
    if not match or (fields is not None and match[1] not in ('name', 'file', *fields)):
        raise Misfit(f'{path}:{number}: an entry cannot have the line "{line}"')
    if match[1] == 'file':
        entry['places'].append({'file': match[2], '-': [], '+': []})
    else:
        entry[match[1]] = match[2]


def _finish(path, entry):
    for field, found in (('name', 'name' in entry), ('file', entry['places'])):
        if not found:
            raise Misfit(f'{path}:{entry["line"]}: the entry has no "{field}:"')
    entry['changes'] = [(p['file'], '\n'.join(p['-']), '\n'.join(p['+']))
                        for p in entry.pop('places')]
    return entry


def find(path, name):
    """The entry of that name in the table at @path."""
    found = [entry for entry in read_table(path) if entry['name'] == name]
    if len(found) != 1:
        raise Misfit(f'{path}: {len(found)} entries have the name "{name}", not one')
    return found[0]


def _changed(text, name, file, old, new):
    # whole lines: "x" must not match inside "xy"
    pattern = re.compile('^' + re.escape(old) + '$', re.M)
    found = len(pattern.findall(text)) if old else 0
    if found != 1:
        raise Misfit(f'{name}: its old text occurs in {file} {found} times, not once: '
                     'bring the table up to date')
    return pattern.sub(lambda _: new, text, count=1)


def apply(entry, root):
    """Change the sources below @root as @entry says."""
    for file, old, new in entry['changes']:
        path = os.path.join(root, file)
        try:
            with open(path, encoding='utf-8') as f:
                text = f.read()
        except FileNotFoundError:
            raise Misfit(f'{entry["name"]}: there is no {file}: bring the table up to date')
        with open(path, 'w', encoding='utf-8') as f:
            f.write(_changed(text, entry['name'], file, old, new))


def copy_file(entry, root, path, out):
    """Copy the one file @path to @out, with what @entry changes in it."""
    with open(path, encoding='utf-8') as f:
        text = f.read()
    for file, old, new in entry['changes']:
        if os.path.realpath(os.path.join(root, file)) == os.path.realpath(path):
            text = _changed(text, entry['name'], file, old, new)
    with open(out, 'w', encoding='utf-8') as f:
        f.write(text)


def copy(root, out, folders):
    """Copy those files of these folders of @root that @out lacks or has otherwise."""
    for top in folders:
        for folder, _, names in os.walk(os.path.join(root, top)):
            target = os.path.join(out, os.path.relpath(folder, root))
            os.makedirs(target, exist_ok=True)
            for name in names:
                old, new = os.path.join(folder, name), os.path.join(target, name)
                if not os.path.exists(new) or not filecmp.cmp(old, new, shallow=False):
                    shutil.copyfile(old, new)


def check(path, root, scratch):
    """Apply every entry to a copy of the files that it names; names must be unique."""
    names = set()
    for entry in read_table(path):
        if entry['name'] in names:
            raise Misfit(f'{path}:{entry["line"]}: a second entry is called "{entry["name"]}"')
        names.add(entry['name'])
        for file in {change[0] for change in entry['changes']}:
            target = os.path.join(scratch, file)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if os.path.exists(os.path.join(root, file)):
                shutil.copyfile(os.path.join(root, file), target)
        apply(entry, scratch)


def main(argv):
    try:
        if argv[1:2] == ['list'] and len(argv) >= 3:
            for entry in read_table(argv[2]):
                print('\t'.join([entry['name']] + [entry.get(f, '-') for f in argv[3:]]))
        elif argv[1:2] == ['check'] and len(argv) in (4, 5):
            with tempfile.TemporaryDirectory() as scratch:
                check(argv[2], argv[3], scratch)
            if len(argv) == 5:
                with open(argv[4], 'w', encoding='utf-8'):
                    pass
        elif argv[1:2] == ['copy'] and len(argv) >= 7:
            entry = find(argv[2], argv[3])
            copy(argv[4], argv[5], argv[6:])
            apply(entry, argv[5])
        elif argv[1:2] == ['file'] and len(argv) == 7:
            copy_file(find(argv[2], argv[3]), *argv[4:])
        else:
            sys.exit(__doc__)
    except Misfit as why:
        sys.exit(f'plant.py: {why}')


if __name__ == '__main__':
    main(sys.argv)
