#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""mirror.py [--root DIR] SUITE... - print an apt source for suites of this machine's mirror

Prints a .sources file with these suites. The mirror is the one from which this machine gets its
own release of Debian, according to the files in /etc/apt: sources.list, *.list and *.sources. The
suites are trusted in the way that apt trusts that mirror there.
"""
import argparse
import glob
import os
import sys


def stanzas(text):
    """The fields of each stanza of a .sources file, with their names in lower case."""
    fields, last = {}, None
    for line in text.splitlines() + ['']:
        if line.startswith('#'):
            continue
        if not line.strip():
            if fields:
                yield fields
            fields, last = {}, None
        elif line[0].isspace():
            if last:
                fields[last] += '\n' + line
        elif ':' in line:
            last, value = line.split(':', 1)
            last = last.strip().lower()
            fields[last] = value.strip()


def one_line(line):
    """The same fields for a line of a .list file, or None where it has no source."""
    words = line.split('#', 1)[0].replace('[', ' [ ', 1).replace(']', ' ] ', 1).split()
    if len(words) < 4 or words[0] not in ('deb', 'deb-src'):
        return None
    fields = {'types': words.pop(0)}
    if words[0] == '[':
        end = words.index(']')
        for option in words[1:end]:
            name, value = option.split('=', 1)
            fields[name.lower()] = value.replace(',', ' ')
        del words[:end + 1]
    if len(words) < 3:
        return None
    fields['uris'], fields['suites'], fields['components'] = words[0], words[1], ' '.join(words[2:])
    return fields


def sources(root):
    """The sources in all files of etc/apt, in the order in which apt reads them."""
    parts = glob.glob(os.path.join(root, 'etc/apt/sources.list.d/*'))
    for path in [os.path.join(root, 'etc/apt/sources.list')] + sorted(parts):
        if not path.endswith(('.list', '.sources')) or not os.path.exists(path):
            continue
        with open(path) as f:
            text = f.read()
        if path.endswith('.sources'):
            yield from stanzas(text)
        else:
            yield from filter(None, map(one_line, text.splitlines()))


def is_off(source):
    return source.get('enabled', 'yes').lower() in ('no', 'false', 'without', 'off', 'disable')


def mirror(root, release):
    """This release's source. A vendor's source may use the same suite name in another folder."""
    # sid calls itself by the name of the next release
    names = {release, 'sid', 'unstable'}
    found = [s for s in sources(root)
             if 'deb' in s.get('types', '').split() and not is_off(s)
             and names & set(s.get('suites', '').split())
             and 'main' in s.get('components', '').split()
             and not s.get('uris', '').startswith('cdrom:')]
    found.sort(key=lambda s: (release not in s['suites'].split(),
                              not s['uris'].split()[0].rstrip('/').endswith('/debian')))
    return found[0] if found else None


def release_of(root):
    with open(os.path.join(root, 'etc/os-release')) as f:
        for line in f:
            if line.startswith('VERSION_CODENAME='):
                return line.split('=')[1].strip().strip('"')
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--root', default='/')
    parser.add_argument('suites', nargs='+', metavar='SUITE')
    args = parser.parse_args()
    release = release_of(args.root)
    source = mirror(args.root, release)
    if not source:
        sys.exit(f'mirror.py: {os.path.join(args.root, "etc/apt")} names no source with main of '
                 f'"{release}", which is the release of this machine')
    print('Types: deb')
    print(f'URIs: {source["uris"]}')
    print(f'Suites: {" ".join(args.suites)}')
    print('Components: main')
    for name in ('Signed-By', 'Trusted'):
        if name.lower() in source:
            print(f'{name}: {source[name.lower()]}')


if __name__ == '__main__':
    main()
