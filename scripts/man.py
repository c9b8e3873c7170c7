#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""man.py --out DIR HEADER... - a manual page for each public function, from its header

The headers are the specification; this only sets them in type. A page has the function's
comment, the structs that its parameters name, and the other functions of its header. Fails
when a function has no comment, or one that does not say what it returns and since when.

Run by `meson install`, a relative DIR is below the place of installation.
"""
import argparse
import os
import re
import sys

COMMENT = re.compile(r'/\*\*\n(.*?) \*/\n(.*?)(?=\n/\*|\n#|\Z)', re.S)
HEAD = re.compile(r'(?:struct )?(\w+)(\(\))? - (.*)')
LABEL = re.compile(r'(?:(?<=[.;] )|^)((?:Context|Locks|Ordering|Return|Since|Parameters)'
                   r'(?:, \w+)*): ?', re.M)
SECTIONS = {'return': 'RETURN VALUE', 'context': 'CONTEXT', 'ordering': 'ORDERING',
            'locks': 'LOCKS', 'since': 'HISTORY', 'parameters': 'PARAMETERS'}


class Entry:
    """One comment: of a function, or of a struct."""

    def __init__(self, comment, code):
        lines = [line[2:].removeprefix(' ') for line in comment.splitlines()]
        head = HEAD.match(lines[0])
        if not head:
            raise ValueError(f'not "name() - summary": {lines[0]}')
        self.name, self.is_function, self.summary = head[1], bool(head[2]), head[3]
        self.parameters, self.text = [], ''
        last = None
        body = []
        for line in lines[1:]:
            given = re.match(r'@(\w+): (.*)', line)
            if given:
                last = [given[1], given[2]]
                self.parameters.append(last)
            elif last and line.startswith('\t'):
                last[1] += ' ' + line.strip()
            else:
                last = None
                body.append(line)
        # a second parameter on the line of the first
        self.parameters = [[n, t] for name, text in self.parameters
                           for n, t in split_parameters(name, text)]
        self.text = '\n'.join(body).strip()
        if self.is_function:
            self.code = re.match(r'[^;{]*', code)[0].strip() + ';'
        else:
            found = re.match(r'struct \w+ \{.*?\n\}[^;]*;', code, re.S)
            self.code = found[0] if found else ''

    def sections(self):
        """The text, cut at its labels: (title, text) in the order of the comment."""
        parts = LABEL.split(self.text)
        found = [('DESCRIPTION', parts[0])] if parts[0].strip() else []
        for label, text in zip(parts[1::2], parts[2::2]):
            # "Context, return: ..." says both at once
            names = [SECTIONS[word.strip().lower()] for word in label.split(',')]
            text = text.strip('\n')
            found.append((' AND '.join(names), text[:1].upper() + text[1:]))
        return found

    def must_say(self):
        said = ' '.join(title for title, _ in self.sections())
        missing = [] if 'HISTORY' in said else ['Since:']
        if self.is_function and 'RETURN' not in said and not self.code.startswith('void'):
            missing.append('Return:')
        return missing if self.is_function else []


def split_parameters(name, text):
    parts = re.split(r'\s+@(\w+): ', text)
    return list(zip([name] + parts[1::2], parts[0::2]))


def escape(text):
    """A comment's text for roff; its @parameter marks are for the header's reader."""
    text = re.sub(r'@(\w)', r'\1', text)
    text = text.replace('\\', '\\e').replace('-', '\\-')
    return re.sub(r"^([.'])", r'\\&\1', text, flags=re.M)


def prose(text):
    """Paragraphs and indented examples of a comment."""
    out = []
    for block in re.split(r'\n\s*\n', text.strip('\n')):
        if block.strip() and all(line.startswith('\t') for line in block.splitlines()):
            code = '\n'.join(line[1:].expandtabs(8) for line in block.splitlines())
            out.append('.PP\n.nf\n.RS 4\n' + escape(code) + '\n.RE\n.fi')
        elif block.strip():
            out.append('.PP\n' + escape(' '.join(block.split())))
    return '\n'.join(out).removeprefix('.PP\n')


def named(entries):
    return '\n'.join(f'.TP\n.I {escape(name)}\n{escape(text)}' for name, text in entries)


def code(text):
    return '.nf\n' + escape(text.expandtabs(8)) + '\n.fi'


def structs_of(entry, entries):
    """The structs that its declaration names, and those inside them."""
    found = [entry]
    for one in found:
        found += [e for e in entries if not e.is_function and e not in found and
                 re.search(rf'struct {e.name}\b', one.code)]
    return found[1:]


def page(entry, header, entries, version):
    structs = structs_of(entry, entries)
    also = [f'.BR {e.name} (3)' for e in entries if e.is_function and e is not entry]
    out = [f'.TH {entry.name} 3 "" "invlock {version}" "invlock"',
           '.SH NAME', f'{entry.name} \\- {escape(entry.summary)}',
           '.SH SYNOPSIS', code(f'#include <invlock/{header}>\n\n{entry.code}')]
    if entry.parameters:
        out += ['.SH PARAMETERS', named(entry.parameters)]
    for title, text in entry.sections():
        if title == 'HISTORY':
            text = f'Since version {text.strip().rstrip(".")}.'
        out += [f'.SH {title}', prose(text)]
    for struct in structs:
        out += [f'.SH STRUCT {struct.name}', code(struct.code)]
        if struct.parameters:
            out += ['.PP', named(struct.parameters)]
        out += ['.PP', prose(struct.text)] if struct.text else []
    if also:
        out += ['.SH SEE ALSO', ',\n'.join(also)]
    return '\n'.join(out) + '\n'


def read_header(path):
    with open(path) as f:
        text = f.read()
    entries = [Entry(*found.groups()) for found in COMMENT.finditer(text)]
    plain = re.sub(r'/\*.*?\*/', '', text, flags=re.S)
    declared = set(re.findall(r'^(?:[\w ]+[ *])(invlock_\w+)\(', plain, flags=re.M))
    bare = declared - {e.name for e in entries}
    if bare:
        raise ValueError(f'no comment for {", ".join(sorted(bare))}')
    for entry in entries:
        if entry.must_say():
            raise ValueError(f'{entry.name} does not say {" or ".join(entry.must_say())}')
    return entries


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', required=True)
    parser.add_argument('--version', default='0.1.0')
    parser.add_argument('header', nargs='+')
    args = parser.parse_args()
    out = os.path.join(os.environ.get('MESON_INSTALL_DESTDIR_PREFIX', ''), args.out)
    os.makedirs(out, exist_ok=True)
    for path in args.header:
        try:
            entries = read_header(path)
        except ValueError as err:
            sys.exit(f'man.py: {path}: {err}')
        for entry in entries:
            if entry.is_function:
                with open(os.path.join(out, entry.name + '.3'), 'w') as f:
                    f.write(page(entry, os.path.basename(path), entries, args.version))


if __name__ == '__main__':
    main()
