#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""tests/vm/mirror.py finds the mirror of Debian in whatever form apt is told of it."""
import os
import subprocess
import sys
import tempfile

import tap

MIRROR = os.path.join(os.path.dirname(__file__), '../vm/mirror.py')


def _mirror(files, suites=('sid',)):
    """status, fields of the source, and what was said, for files of etc/apt"""
    with tempfile.TemporaryDirectory() as root:
        os.makedirs(os.path.join(root, 'etc/apt/sources.list.d'))
        with open(os.path.join(root, 'etc/os-release'), 'w') as f:
            f.write('ID=debian\nVERSION_CODENAME="bookworm"\n')
        for name, text in files.items():
            with open(os.path.join(root, 'etc/apt', name), 'w') as f:
                f.write(text)
        done = subprocess.run([sys.executable, MIRROR, '--root', root, *suites], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    fields, last = {}, None
    for line in done.stdout.splitlines():
        if line.startswith(' '):
            fields[last] += '\n' + line
        else:
            last, value = line.split(': ', 1)
            fields[last] = value
    return done.returncode, fields, done.stderr


def _found(files, *suites):
    status, fields, said = _mirror(files, suites or ('sid',))
    assert status == 0, said
    return fields


def a_stanza_is_read_past_its_comments():
    got = _found({'sources.list.d/debian.sources':
                  'Types: deb deb-src\n# old: http://old.test/debian\n'
                  'URIs: http://a.test/debian\nSuites: bookworm bookworm-updates\n'
                  'Components: main contrib\nSigned-By: /k.gpg\n\n'
                  'Types: deb\nURIs: http://s.test/debian-security\n'
                  'Suites: bookworm-security\nComponents: main\n'}, 'bookworm', 'sid')
    assert got == {'Types': 'deb', 'URIs': 'http://a.test/debian', 'Suites': 'bookworm sid',
                   'Components': 'main', 'Signed-By': '/k.gpg'}, got


def a_key_that_stands_in_the_stanza_is_taken_along():
    key = '\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mDMEY\n -----END PGP PUBLIC KEY BLOCK-----'
    got = _found({'sources.list.d/debian.sources':
                  'types: deb\nuris: http://a.test/debian/\nsuites: bookworm\ncomponents: main\n'
                  f'signed-by:{key}\n'})
    assert got['Signed-By'] == key, got


def a_line_is_read_with_its_options():
    got = _found({'sources.list':
                  '# deb http://old.test/debian bookworm main\n'
                  'deb-src http://src.test/debian bookworm main\n'
                  'deb [arch=amd64,arm64 signed-by=/a.gpg,/b.gpg trusted=yes] '
                  'http://a.test/debian bookworm main non-free # ours\n'})
    assert got == {'Types': 'deb', 'URIs': 'http://a.test/debian', 'Suites': 'sid',
                   'Components': 'main', 'Signed-By': '/a.gpg /b.gpg', 'Trusted': 'yes'}, got


def brackets_need_no_space_around_them():
    got = _found({'sources.list': 'deb [ trusted=yes ]http://a.test/debian bookworm main\n'})
    assert (got['URIs'], got['Trusted']) == ('http://a.test/debian', 'yes'), got


def a_source_without_a_key_is_left_to_the_keys_of_the_machine():
    got = _found({'sources.list.d/a.list': 'deb http://a.test/debian bookworm main\n'})
    assert 'Signed-By' not in got and 'Trusted' not in got, got


def somebody_elses_packages_for_this_release_are_not_taken_for_it():
    got = _found({'sources.list.d/a.list': 'deb http://vendor.test/apt bookworm main\n',
                  'sources.list.d/b.list': 'deb http://a.test/debian bookworm main\n'})
    assert got['URIs'] == 'http://a.test/debian', got


def a_mirror_in_a_folder_of_any_name_will_do_when_there_is_no_other():
    got = _found({'sources.list': 'deb http://proxy.test/remote bookworm main\n'})
    assert got['URIs'] == 'http://proxy.test/remote', got


def sid_is_found_although_it_calls_itself_by_another_name():
    sid = 'deb http://sid.test/debian sid main\n'
    assert _found({'sources.list': sid})['URIs'] == 'http://sid.test/debian'
    got = _found({'sources.list': sid + 'deb http://a.test/debian bookworm main\n'})
    assert got['URIs'] == 'http://a.test/debian', got


def what_is_switched_off_or_has_another_ending_is_not_read():
    status, _, said = _mirror({
        'sources.list.d/a.sources': 'Types: deb\nURIs: http://a.test/debian\nEnabled: no\n'
                                    'Suites: bookworm\nComponents: main\n',
        'sources.list.d/b.list.old': 'deb http://b.test/debian bookworm main\n',
        'sources.list': 'deb cdrom:[disc]/debian bookworm main\n'})
    assert status == 1 and 'bookworm' in said, (status, said)


if __name__ == '__main__':
    tap.run(tap.in_order(globals()))
