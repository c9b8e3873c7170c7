#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Tests tests/package/follow.py: it finds the steps of a document, and output that differs."""
import os
import subprocess
import sys
import tempfile

import tap

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), '..', '..'))
FOLLOW = f'{ROOT}/tests/package/follow.py'
DOCUMENT = '''# Title

Type this as an ordinary user,
and it ends with an error:

```sh
./first 7    # a remark
```

It prints

```text
first: 7 is too
much
...
end
```

Save this as `one.c`:

```c
int one;
```

A part of it:

```c
int two;
```

```sh
cc one.c
```
'''


def _follow(what, one, other):
    return subprocess.run([FOLLOW, what, one, other], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)


def _steps(document):
    with tempfile.TemporaryDirectory() as work:
        with open(f'{work}/document', 'w', encoding='utf-8') as f:
            f.write(document)
        done = _follow('steps', f'{work}/document', f'{work}/steps')
        if done.returncode:
            return done.stdout
        found = []
        for nr in sorted(os.listdir(f'{work}/steps')):
            step = {}
            for name in os.listdir(f'{work}/steps/{nr}'):
                with open(f'{work}/steps/{nr}/{name}', encoding='utf-8') as f:
                    step[name] = f.read()
            found.append(step)
        return found


def _match(expected, said):
    with tempfile.TemporaryDirectory() as work:
        for name, text in ('expected', expected), ('said', said):
            with open(f'{work}/{name}', 'w', encoding='utf-8') as f:
                f.write(text)
        done = _follow('match', f'{work}/expected', f'{work}/said')
        return done.stdout if done.returncode else None


def each_block_of_commands_and_each_saved_file_is_a_step():
    first, saved, last = _steps(DOCUMENT)
    assert first['commands'] == './first 7    # a remark\n' and first['title'] == './first 7'
    assert 'int one;' in saved['commands'] and 'one.c' in saved['title']
    assert last['commands'] == 'cc one.c\n' and 'output' not in last


def the_paragraph_says_who_takes_the_step_and_that_it_fails():
    first, _, last = _steps(DOCUMENT)
    assert (first['user'], first['fails']) == ('nobody', 'yes')
    assert (last['user'], last['fails']) == ('root', 'no')


def output_before_any_step_is_refused():
    said = _steps('```text\nhello\n```\n')
    assert 'no step prints this' in said, said


def a_document_without_steps_is_refused():
    assert 'has no step' in _steps('hello\n')
    assert 'has no end' in _steps('```sh\nhello\n')


def numbers_blanks_and_left_out_text_do_not_matter():
    expected = _steps(DOCUMENT)[0]['output']
    assert _match(expected, 'before\nfirst: 12.5 is too much\n1\n2\nthe end end\n') is None
    assert _match('a ... b\n', 'a b') is None


def a_word_that_differs_is_named():
    said = _match('one two 3 four five\n', 'one two 4 five four\n')
    assert said and said.rstrip().endswith(': four five'), said


def words_that_are_left_out_are_named():
    assert _match('one ... three\n', 'one two\n')
    assert _match('one two\n', 'one and two\n')
    assert _match('one 2\n', 'one x\n')


if __name__ == '__main__':
    tap.run(tap.in_order(globals()))
