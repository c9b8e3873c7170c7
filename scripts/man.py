#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""man.py --out DIR --examples DIR HEADER... - manual pages from the public headers
man.py --list HEADER... - the names of these pages

The headers are the specification; this script only formats them. Each function gets a page in
section 3: its comment, its errors as a list, the flags and structs that its parameters name, and
a whole program as the example. Each header gets a page in section 7: the comment at its head and
the list of its functions. The script fails when a function has no comment, no example, or a
comment without "Return:" or "Since:".
"""
import argparse
import itertools
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
    """The comment of a function or of a struct, with its declaration."""

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
        # a second parameter on the same line as the first
        self.parameters = [[n, t] for name, text in self.parameters
                           for n, t in split_parameters(name, text)]
        self.text = '\n'.join(body).strip()
        if self.is_function:
            self.code = re.match(r'[^;{]*', code)[0].strip() + ';'
        else:
            found = re.match(r'struct \w+ \{.*?\n\}[^;]*;', code, re.S)
            self.code = found[0] if found else ''

    def sections(self):
        """The text, split at its labels into (title, text), in order."""
        parts = LABEL.split(self.text)
        found = [('DESCRIPTION', parts[0])] if parts[0].strip() else []
        for label, text in zip(parts[1::2], parts[2::2]):
            # "Context, return: ..." gives both sections the same text
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
    """A comment's text for roff, without the @ marks of parameters."""
    text = re.sub(r'@(\w)', r'\1', text)
    text = text.replace('\\', '\\e').replace('-', '\\-')
    return re.sub(r"^([.'])", r'\\&\1', text, flags=re.M)


def prose(text):
    """Paragraphs of a comment; a part that is indented by a tab keeps its lines."""
    out = []
    for block in re.split(r'\n\s*\n', text.strip('\n')):
        lines = [line for line in block.splitlines() if line.strip()]
        for indented, part in itertools.groupby(lines, lambda line: line.startswith('\t')):
            if indented:
                kept = '\n'.join(line[1:].expandtabs(8) for line in part)
                out.append('.PP\n.nf\n.RS 4\n' + escape(kept) + '\n.RE\n.fi')
            else:
                out.append('.PP\n' + escape(' '.join(' '.join(part).split())))
    return '\n'.join(out).removeprefix('.PP\n')


def named(entries):
    return '\n'.join(f'.TP\n.I {escape(name)}\n{escape(text)}' for name, text in entries)


def code(text):
    return '.nf\n' + escape(text.expandtabs(8)) + '\n.fi'


def flags_of(entry, text):
    """The constants that a parameter names as PREFIX_*, with the header's text for each."""
    found = []
    for prefix in re.findall(r'\b(INVLOCK_\w*_)\*', ' '.join(t for _, t in entry.parameters)):
        # the comment after the definition, or the one before it
        for before, name, behind in re.findall(
                rf'(?:/\*\n((?: \*[^\n]*\n)+?) \*/\n)?#define ({prefix}\w+)\s+\w+'
                r'(?:\s*/\* (.*?) \*/)?', text):
            said = behind or ' '.join(before.replace(' *', ' ').split())
            if not said:
                raise ValueError(f'{name} has no comment')
            found.append((name, said[0].upper() + said[1:].rstrip('.') + '.'))
    return found


ERROR = re.compile(r'((?:and )?-E[A-Z0-9]+(?:,? (?:and )?-E[A-Z0-9]+|, \.\.\.)*)\s*(.*)', re.S)


def errors_of(text):
    """A "Return:" text, split into the result on success and a list of errors."""
    plain, errors = [], []
    for part in re.split(r';\s+', text.strip().rstrip('.')):
        error = ERROR.match(part)
        if error:
            what = ' '.join(error[2].split()) or 'out of memory, or an error of the kernel'
            errors.append((error[1].removeprefix('and '), what[0].upper() + what[1:] + '.'))
        elif errors and not part.lower().startswith(('whatever', 'otherwise', 'others')):
            errors[-1] = (errors[-1][0], errors[-1][1].rstrip('.') + '; ' + part + '.')
        else:
            plain.append(' '.join(part.split()))
    said = '; '.join(plain) + '.' if plain else ''
    return re.sub(r'^0(?=[.;])', '0 on success', said), errors


def examples_in(folder):
    return {name: open(os.path.join(folder, name), encoding='utf-8').read()
            for name in sorted(os.listdir(folder)) if name.endswith('.c')}


def example_of(entry, header, examples):
    """The example for this function: its header's own, if that calls it."""
    own = header.replace('.h', '.c')
    order = sorted(examples, key=lambda name: (name != own, len(examples[name])))
    for name in order:
        if re.search(rf'\b{entry.name}\(', examples[name]):
            return examples[name].split('\n', 1)[1]
    raise ValueError(f'no example calls {entry.name}()')


def structs_of(entry, entries):
    """The structs that the declaration names, and the structs inside them."""
    found = [entry]
    for one in found:
        found += [e for e in entries if not e.is_function and e not in found and
                 re.search(rf'struct {e.name}\b', one.code)]
    return found[1:]


def topic(header):
    """The page of a header, in section 7."""
    return 'invlock_' + header.removesuffix('.h')


def see_also(names):
    return ['.SH SEE ALSO', ',\n'.join(f'.BR {name} ({section})' for name, section in names)]


def title(name, section, version):
    return f'.TH {name} {section} "" "invlock {version}" "invlock"'


def page(entry, header, text, entries, examples, version):
    out = [title(entry.name, 3, version),
           '.SH NAME', f'{entry.name} \\- {escape(entry.summary)}',
           '.SH SYNOPSIS', code(f'#include <invlock/{header}>\n\n{entry.code}')]
    if entry.parameters:
        out += ['.SH PARAMETERS', named(entry.parameters)]
    flags = flags_of(entry, text)
    for heading, said in entry.sections():
        if flags and heading != 'DESCRIPTION':
            out += ['.SH FLAGS', named(flags)]
            flags = []
        if heading == 'HISTORY':
            said = f'Since version {said.strip().rstrip(".")}.'
        if 'RETURN VALUE' in heading:
            said, errors = errors_of(said)
            out += [f'.SH {heading}', prose(said)] if said else []
            out += ['.SH ERRORS', named(errors)] if errors else []
        else:
            out += [f'.SH {heading}', prose(said)]
    for struct in structs_of(entry, entries):
        out += [f'.SH STRUCT {struct.name}', code(struct.code)]
        out += ['.PP', named(struct.parameters)] if struct.parameters else []
        fields = flags_of(struct, text)
        out += ['.PP', 'Flags:', named(fields)] if fields else []
        out += ['.PP', prose(struct.text)] if struct.text else []
    out += ['.SH EXAMPLE', code(example_of(entry, header, examples).rstrip())]
    others = [(e.name, 3) for e in entries if e.is_function and e is not entry]
    return '\n'.join(out + see_also([(topic(header), 7), *others, ('invlock', 7)])) + '\n'


def header_page(header, text, entries, examples, version):
    """The comment at a header's head: its object, and how its functions fit together."""
    name = topic(header)
    head = re.search(r'\*/\n/\*\n(.*?)\n \*/', text, re.S)
    lines = [line[2:].removeprefix(' ') for line in head[1].splitlines()]
    summary, _, rest = '\n'.join(lines).partition('\n\n')
    summary = ' '.join(summary.split()).rstrip('.')
    functions = [(f'{e.name}(3)', e.summary[0].upper() + e.summary[1:] + '.')
                 for e in entries if e.is_function]
    out = [title(name, 7, version),
           '.SH NAME', f'{name} \\- {escape(summary.split(": ", 1)[-1])}',
           '.SH SYNOPSIS', code(f'#include <invlock/{header}>'),
           '.SH DESCRIPTION', prose(summary[0].upper() + summary[1:] + '.'), '.PP', prose(rest),
           *(['.SH FUNCTIONS', named(functions)] if functions else [])]
    if not functions:
        for struct in entries:
            out += [f'.SH STRUCT {struct.name}', code(struct.code), '.PP',
                    named(struct.parameters), '.PP', prose(struct.text)]
    example = header.replace('.h', '.c')
    if example in examples:
        out += ['.SH EXAMPLE', code(examples[example].split('\n', 1)[1].rstrip())]
    names = [(e.name, 3) for e in entries if e.is_function]
    return '\n'.join(out + see_also([*names, ('invlock', 7)])) + '\n'


def read_header(text):
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


def write(out, section, name, text):
    with open(os.path.join(out, f'{name}.{section}'), 'w', encoding='utf-8') as f:
        f.write(text)


def list_pages(header, entries):
    print(f'{topic(header)}.7', *(f'{e.name}.3' for e in entries if e.is_function), sep='\n')


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--list', action='store_true')
    parser.add_argument('--out')
    parser.add_argument('--examples')
    parser.add_argument('--version', default='0.1.0')
    parser.add_argument('header', nargs='+')
    args = parser.parse_args()
    examples = {} if args.list else examples_in(args.examples)
    for path in args.header:
        header = os.path.basename(path)
        with open(path, encoding='utf-8') as f:
            text = f.read()
        try:
            entries = read_header(text)
            if args.list:
                list_pages(header, entries)
                continue
            write(args.out, 7, topic(header),
                  header_page(header, text, entries, examples, args.version))
            for entry in entries:
                if entry.is_function:
                    write(args.out, 3, entry.name,
                          page(entry, header, text, entries, examples, args.version))
        except ValueError as err:
            sys.exit(f'man.py: {path}: {err}')


if __name__ == '__main__':
    main()
