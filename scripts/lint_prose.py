# SPDX-License-Identifier: MIT
"""The checks of lint.py for prose: documents, comments, commit subjects."""
import os
import re
import subprocess

DOCUMENTS = ('.md', '.1', '.4', '.7')
LINK = re.compile(r'\]\(([^)\s]+)\)')
FOLDERS = 'adapters|bench|bpf|core|docs|examples|include|kmod|lib|model|scripts|tests|tool'
NAMED = re.compile(rf'`((?:{FOLDERS})/[\w./-]*\w)`')
# a name in capitals, or one with dots, stands for many
PLACEHOLDER = re.compile(r'[A-Z]{3,}|\.\.\.')

# phrases that make a reader stop, each with what to write instead
BANNED = {
    r'\bsays? nothing\b': 'say what the caller has to do: "is inconclusive: call ..."',
    r'\bthe like\b': 'name the thing',
    r'\b(?:for|of|by|to) who\b': 'name who it is: "the thread that ..."',
    r'(?:/\*+|^ ?\*|[.:;,]) [Ww]ho \w+': 'a sentence needs a subject: "A thread that ..."',
    r'\bto believe\b': 'say what the reader finds there',
    r'\bis no good\b': 'say what is wrong with it',
}
PROSE = ('.c', '.h', '.sh', '.md', '.1', '.4', '.7', '.in', '.build')

SUBJECT_COLUMNS = 72
SUBJECT = re.compile(r'[\w./, -]+: [a-z]')
# earlier subjects are not checked
SUBJECTS_SINCE = '9d63e6f1'


def slug(heading):
    """The anchor that the usual viewers make of a heading."""
    text = re.sub(r'[`*_]|\[|\]\([^)]*\)', '', heading.strip().lower())
    return re.sub(r'[^\w\- ]', '', text).replace(' ', '-')


def anchors(text):
    return {slug(line.lstrip('#')) for line in text.splitlines() if line.startswith('#')}


def leads_somewhere(root, files, path, target):
    name, _, anchor = target.partition('#')
    where = os.path.normpath(os.path.join(os.path.dirname(path), name)) if name else path
    if not os.path.exists(os.path.join(root, where)):
        return False
    return not anchor or where not in files or anchor in anchors(files[where])


def links(root, files):
    """every link and file name in the documents exists"""
    for path, text in sorted(files.items()):
        if not path.endswith(DOCUMENTS):
            continue
        for nr, line in enumerate(text.splitlines(), 1):
            for target in LINK.findall(line):
                if not re.match(r'\w+:', target) and not leads_somewhere(root, files, path, target):
                    yield f'{path}:{nr}: the link to {target} leads nowhere'
            for name in NAMED.findall(line):
                if not PLACEHOLDER.search(name) and not os.path.exists(os.path.join(root, name)):
                    yield f'{path}:{nr}: there is no {name}'


def words(root, files):
    """no sentence has a phrase that readers stumble over"""
    for path, text in sorted(files.items()):
        if not path.endswith(PROSE) or path.startswith('LICENSES/'):
            continue
        for nr, line in enumerate(text.splitlines(), 1):
            for phrase, instead in BANNED.items():
                # a question may begin with "who"
                if re.search(phrase, line) and '?' not in line:
                    yield f'{path}:{nr}: {line.strip()[:60]} -- {instead}'


def subject_fault(subject):
    if len(subject) > SUBJECT_COLUMNS:
        return f'{len(subject)} columns, the limit is {SUBJECT_COLUMNS}'
    if ';' in subject:
        return 'a semicolon: one thing a commit'
    return None if SUBJECT.match(subject) else 'it is not "area: imperative"'


def subjects(root, files, since=SUBJECTS_SINCE):
    """the subject of each commit fits a line and is "area: imperative\""""
    git = ['git', '-C', root]
    known = subprocess.run([*git, 'merge-base', '--is-ancestor', since, 'HEAD'],
                           stderr=subprocess.DEVNULL, check=False)
    if known.returncode:
        return      # not a checkout, or a shallow one
    log = subprocess.run([*git, 'log', '--no-merges', '--format=%h %s', f'{since}..HEAD'],
                         text=True, stdout=subprocess.PIPE, check=True).stdout
    for line in log.splitlines():
        commit, _, subject = line.partition(' ')
        fault = subject_fault(subject)
        if fault:
            yield f'{commit} "{subject}": {fault}'
