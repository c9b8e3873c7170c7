#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a document tells its reader to do, as steps for a test.

follow.py steps DOCUMENT DIR - write each step into a folder of its own below DIR
follow.py match EXPECTED SAID - is this what the document says that the commands print?

A block of `sh` is a step. The paragraph before it says who takes it ("as an ordinary user", else
root) and that it fails ("ends with an error"). A block of `c` whose paragraph says "Save this as
`NAME`" is a step as well. A block of `text` is what the step before it prints: any number stands
for a number, `...` for any text, and blanks and the ends of lines do not matter. Other blocks, and
indented text, are for people only.
"""
import os
import re
import sys


def blocks(text):
    """The fenced blocks: language, paragraph before it, contents."""
    paragraph, fresh, inside = '', True, None
    for line in text.splitlines():
        if inside is not None:
            if line == '```':
                yield inside[0], paragraph, '\n'.join(inside[1:]) + '\n'
                inside = None
                fresh = True
            else:
                inside.append(line)
        elif line.startswith('```'):
            inside = [line[3:].split(' ')[0]]
        elif not line.strip():
            fresh = True
        else:
            paragraph = line if fresh else paragraph + ' ' + line
            fresh = False
    if inside is not None:
        sys.exit('follow.py: the last block has no end')


def steps(text):
    """Each step as a dictionary: the files of its folder."""
    found = []
    for language, paragraph, contents in blocks(text):
        saved = re.search(r'Save this as `([\w.]+)`', paragraph)
        if language == 'sh':
            found.append({'title': re.sub(r'\s*#.*', '', contents.splitlines()[0]),
                          'commands': contents,
                          'user': 'nobody' if 'as an ordinary user' in paragraph else 'root',
                          'fails': 'yes' if 'ends with an error' in paragraph else 'no'})
        elif language == 'c' and saved:
            found.append({'title': f'save {saved[1]}', 'user': 'root', 'fails': 'no',
                          'commands': f"cat > {saved[1]} << 'END OF FILE'\n{contents}"
                                      'END OF FILE\n'})
        elif language == 'text':
            if not found or 'output' in found[-1]:
                sys.exit(f'follow.py: no step prints this:\n{contents}')
            found[-1]['output'] = contents
    return found


def pattern(expected):
    """A regular expression for what the document says that a step prints."""
    parts = []
    for word in expected.split():
        if word == '...':
            parts.append(r'[\s\S]*?')
        else:
            parts.append(re.sub(r'\d+(\\\.\d+)?', lambda _: r'\d+(?:\.\d+)?', re.escape(word)))
    return re.compile(r'\s+'.join(parts).replace(r'\s+[\s\S]*?\s+', r'[\s\S]*?'))


def missing(expected, said):
    """The first words of what the commands did not print, or None."""
    words = expected.split()
    said = ' '.join(said.split())
    if pattern(expected).search(said):
        return None
    low, high = 0, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        if pattern(' '.join(words[:middle])).search(said):
            low = middle
        else:
            high = middle - 1
    return ' '.join(words[low:low + 12])


def main():
    what, one, other = sys.argv[1:]
    with open(one, encoding='utf-8') as f:
        text = f.read()
    if what == 'match':
        with open(other, encoding='utf-8', errors='replace') as f:
            gone = missing(text, f.read())
        if gone is not None:
            sys.exit(f'the document goes on here, and the output does not: {gone}')
        return
    found = steps(text)
    if not found:
        sys.exit(f'follow.py: {one} has no step')
    for nr, step in enumerate(found, 1):
        folder = os.path.join(other, f'{nr:02}')
        os.makedirs(folder)
        for name, contents in step.items():
            with open(os.path.join(folder, name), 'w', encoding='utf-8') as f:
                f.write(contents)


if __name__ == '__main__':
    main()
