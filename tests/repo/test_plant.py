#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""tests/plant.py changes what an entry names and nothing else, and refuses a table that misfits."""
import os
import subprocess
import sys
import tempfile

import tap

PLANT = os.path.join(os.path.dirname(__file__), '../plant.py')
SOURCE = 'int f(void)\n{\n\tlock();\n\treturn x;\n}\n'
TABLE = '''# SPDX-License-Identifier: MIT

name: unlocked
test: a b
file: src/f.c
-	lock();
-	return x;
+	return x;

name: two-places
file: src/f.c
-	return x;
+	return y;
file: src/g.c
-int g;
'''


class Tree:
    """a source tree, a table and room for a copy"""

    def __init__(self, table=TABLE):
        self.folder = tempfile.TemporaryDirectory()
        self.root = self.folder.name
        self.write('src/f.c', SOURCE)
        self.write('src/g.c', 'int g;\nint h;\n')
        self.write('other/o.c', 'int o;\n')
        self.write('table', table)

    def write(self, path, text):
        path = os.path.join(self.root, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'w') as f:
            f.write(text)

    def read(self, path):
        with open(os.path.join(self.root, path)) as f:
            return f.read()

    def plant(self, *arguments):
        done = subprocess.run([sys.executable, PLANT, *arguments], cwd=self.root, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.returncode, done.stdout


def _refused(table, *sentence):
    status, said = Tree(table).plant('check', 'table', '.')
    assert status == 1, said
    for words in sentence:
        assert words in said, said


def a_copy_has_the_change_and_the_source_does_not():
    tree = Tree()
    assert tree.plant('copy', 'table', 'unlocked', '.', 'out', 'src') == (0, '')
    assert tree.read('out/src/f.c') == SOURCE.replace('\tlock();\n', '')
    assert tree.read('out/src/g.c') == tree.read('src/g.c')
    assert tree.read('src/f.c') == SOURCE
    assert not os.path.exists(os.path.join(tree.root, 'out/other'))


def a_second_copy_has_nothing_of_the_first():
    tree = Tree()
    assert tree.plant('copy', 'table', 'unlocked', '.', 'out', 'src')[0] == 0
    assert tree.plant('copy', 'table', 'two-places', '.', 'out', 'src')[0] == 0
    assert tree.read('out/src/f.c') == SOURCE.replace('x;', 'y;')
    assert tree.read('out/src/g.c') == '\nint h;\n'


def a_copy_leaves_the_build_of_what_did_not_change_alone():
    tree = Tree()
    assert tree.plant('copy', 'table', 'unlocked', '.', 'out', 'src')[0] == 0
    tree.write('out/src/g.o', 'built')
    g, f = (os.path.join(tree.root, 'out/src', name) for name in ('g.c', 'f.c'))
    for path in g, f:
        os.utime(path, (1, 1))
    assert tree.plant('copy', 'table', 'unlocked', '.', 'out', 'src')[0] == 0
    assert tree.read('out/src/g.o') == 'built'
    assert os.stat(g).st_mtime == 1 and os.stat(f).st_mtime > 1


def a_single_file_is_copied_with_what_changes_in_it():
    tree = Tree()
    for name, text in (('f', SOURCE.replace('x;', 'y;')), ('g', '\nint h;\n')):
        assert tree.plant('file', 'table', 'two-places', '.', f'src/{name}.c', 'new.c') == (0, '')
        assert tree.read('new.c') == text
    assert tree.plant('file', 'table', 'unlocked', '.', 'src/g.c', 'new.c') == (0, '')
    assert tree.read('new.c') == tree.read('src/g.c')


def a_single_file_that_has_changed_is_named():
    tree = Tree()
    tree.write('src/g.c', 'int i;\n')
    status, said = tree.plant('file', 'table', 'two-places', '.', 'src/g.c', 'new.c')
    assert status == 1 and 'src/g.c 0 times' in said, said


def a_list_has_the_fields_that_are_asked_for():
    status, said = Tree().plant('list', 'table', 'test')
    assert (status, said) == (0, 'unlocked\ta b\ntwo-places\t-\n'), said


def a_table_that_fits_passes_the_check():
    tree = Tree()
    assert tree.plant('check', 'table', '.') == (0, '')
    assert tree.plant('check', 'table', '.', 'stamp') == (0, '')
    assert tree.read('stamp') == ''


def a_text_that_is_missing_is_named():
    _refused(TABLE.replace('-	return x;\n+	return y', '-	return z;\n+	return y'),
             'two-places', 'src/f.c 0 times')


def a_text_that_occurs_twice_is_named():
    tree = Tree()
    tree.write('src/g.c', 'int g;\nint g;\n')
    status, said = tree.plant('check', 'table', '.')
    assert status == 1 and 'src/g.c 2 times' in said, said


def a_part_of_a_line_does_not_fit():
    _refused(TABLE.replace('-int g;', '-int'), 'src/g.c 0 times')


def a_file_that_has_gone_is_named():
    _refused(TABLE.replace('src/g.c', 'src/gone.c'), 'there is no src/gone.c')


def a_line_that_means_nothing_is_refused():
    _refused(TABLE + 'what is this?\n', 'what is this?', 'table:16')


def an_entry_without_a_file_is_refused():
    _refused(TABLE + '\nname: empty\n', 'no "file:"')


def two_entries_of_one_name_are_refused():
    _refused(TABLE.replace('two-places', 'unlocked'), 'unlocked')


def a_name_that_no_entry_has_is_refused():
    status, said = Tree().plant('copy', 'table', 'nothing', '.', 'out', 'src')
    assert status == 1 and '"nothing"' in said, said


if __name__ == '__main__':
    tap.run(tap.in_order(globals()))
