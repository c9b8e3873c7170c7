#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""test_reproducible.py OBJECT... - two builds of a source make one set of programs

The library tells sets apart by a hash of the BPF object, so the object must not know where it
was built. The OBJECTs are those of the build that runs this test. A copy of the tree is built
elsewhere.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

import tap

SOURCE = os.path.realpath(os.path.join(os.path.dirname(__file__), '../..'))
OBJECTS = sys.argv[1:]
RULE = re.compile(r"\n *'-ffile-prefix-map=[^\n]*")


def _built_elsewhere(change=lambda text: text):
    """the bytes of each object, from a copy of the tree whose bpf/meson.build is changed"""
    with tempfile.TemporaryDirectory() as folder:
        source = os.path.join(folder, 'a/longer/way/down')
        build = os.path.join(folder, 'build/is/elsewhere')
        shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns('build*', '.git', 'corpus'))
        rules = os.path.join(source, 'bpf/meson.build')
        with open(rules) as f:
            text = change(f.read())
        with open(rules, 'w') as f:
            f.write(text)
        names = ['bpf/' + os.path.basename(o) for o in OBJECTS]
        for command in (['meson', 'setup', '-Dtests=disabled', build, source],
                        ['ninja', '-C', build, *names]):
            done = subprocess.run(command, text=True, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            assert done.returncode == 0, done.stdout
        return [_bytes(os.path.join(build, name)) for name in names]


def _bytes(path):
    with open(path, 'rb') as f:
        return f.read()


def a_build_in_another_folder_makes_the_same_programs():
    assert OBJECTS, 'no object was named'
    for path, other in zip(OBJECTS, _built_elsewhere()):
        assert _bytes(path) == other, path


def a_folder_that_gets_into_an_object_is_noticed():
    def forget(text):
        less, nr = RULE.subn('', text)
        assert nr == 1, 'bpf/meson.build has no such option'
        return less
    for path, other in zip(OBJECTS, _built_elsewhere(forget)):
        assert _bytes(path) != other, path


if __name__ == '__main__':
    tap.run(tap.in_order(globals()))
