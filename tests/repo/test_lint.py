#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Each check of scripts/lint.py turns red when its fault is planted, and only then."""
import os
import subprocess
import sys
import tempfile

import tap

sys.path.insert(0, os.path.join(os.path.dirname(__file__), '../../scripts'))
import lint_prose

LINT = os.path.join(os.path.dirname(__file__), '../../scripts/lint.py')
MIT = '/* SPDX-License-Identifier: MIT */\n'
DUAL = '/* SPDX-License-Identifier: GPL-2.0-only OR MIT */\n'
SHELL = '#!/bin/sh\n# SPDX-License-Identifier: MIT\n'
DOCUMENT = '<!-- SPDX-License-Identifier: MIT -->\n'
UNFINISHED = 'TO' + 'DO'

GOOD = {
    'core/port.h': DUAL + '#ifdef __KERNEL__\n#include "port_user.h"\n#endif\n',
    'core/port_user.h': DUAL + '#include <errno.h>\nstatic inline void port_barrier(void)\n{\n'
                               '\t__atomic_thread_fence(__ATOMIC_SEQ_CST);\n}\n',
    'core/read.c': DUAL + '#include "port.h"\n#include <invlock/feed.h>\n',
    'lib/cache/index.h': DUAL + '#include "pin.h"\n#include "core/port.h"\n',
    'lib/cache/pin.h': DUAL,
    'lib/mm.c': MIT + '#include <stdlib.h>\nstruct mm {\n};\n',
    'scripts/run.sh': SHELL + 'echo "$1"\n',
    'LICENSES/MIT.txt': 'as is, ' + UNFINISHED + '\n',
    'README.md': DOCUMENT + '# A tree\n\nSee [above](#a-tree) and `lib/mm.c`.\n',
}

# check, what is planted where, what its complaint names
FAULTS = [
    ('spdx', 'lib/new.c', 'int x;\n', 'lib/new.c: no SPDX'),
    ('spdx', 'core/new.h', MIT, 'core/new.h: licence "MIT"'),
    ('spdx', 'lib/cache/region.c', MIT, 'lib/cache/region.c: licence "MIT"'),
    ('spdx', 'kmod/new.c', DUAL, 'kmod/new.c: licence'),
    ('spdx', 'docs/new.md', '# Words\n', 'docs/new.md: no SPDX'),
    ('kernel_macro', 'lib/new.c', MIT + '#ifdef __KERNEL__\n#endif\n', 'lib/new.c:2'),
    ('kernel_macro', 'core/new.h', DUAL + '#ifdef __KERNEL__\n#endif\n', 'core/new.h:2'),
    ('fences', 'core/new.c', DUAL + '\tsmp_mb();\n', 'core/new.c:2'),
    ('fences', 'core/new.c', DUAL + '\t__atomic_thread_fence(__ATOMIC_ACQUIRE);\n',
     'core/new.c:2'),
    ('fences', 'lib/cache/index.c', DUAL + '\tsmp_mb();\n', 'lib/cache/index.c:2'),
    ('core_includes', 'core/new.c', DUAL + '#include <stdlib.h>\n', 'core/new.c:2: stdlib.h'),
    ('core_includes', 'core/new.c', DUAL + '#include "lib/mm.c"\n', 'core/new.c:2: lib/mm.c'),
    ('core_includes', 'core/new.c', DUAL + '#include "lib/cache/index.h"\n',
     'core/new.c:2: lib/cache/index.h'),
    ('core_includes', 'lib/cache/pin.c', DUAL + '#include <pthread.h>\n',
     'lib/cache/pin.c:2: pthread.h'),
    ('core_includes', 'lib/cache/pin.c', DUAL + '#include "lib/mm.c"\n',
     'lib/cache/pin.c:2: lib/mm.c'),
    ('adapter_includes', 'adapters/uring/new.c', MIT + '#include "lib/mm.h"\n',
     'adapters/uring/new.c:2: lib/mm.h'),
    ('struct_names', 'core/new.h', DUAL + 'struct mm {\n};\n', 'struct mm: core/new.h, lib/mm.c'),
    ('length', 'lib/new.c', MIT + 'int x;\n' * 650, 'lib/new.c: 651 lines'),
    ('layout', 'lib/new.c', MIT + 'int x;' + ' ' * 94 + '/\n', 'lib/new.c:2: 101 columns'),
    ('layout', 'lib/new.c', MIT + '\t' * 13 + 'x\n', 'lib/new.c:2: 105 columns'),
    ('layout', 'lib/new.c', MIT + 'int x; \n', 'lib/new.c:2: white space'),
    ('layout', 'lib/new.c', MIT + '        int x;\n', 'lib/new.c:2: indented'),
    ('layout', 'lib/new.c', MIT + 'int x;', 'lib/new.c: the last line'),
    ('unfinished', 'docs/new.md', UNFINISHED + ': write this\n', 'docs/new.md:1'),
    ('page_size', 'lib/new.c', MIT + '\tmunmap(p, 4096UL);\n', 'lib/new.c:2'),
    ('page_size', 'tool/new.c', MIT + '\tn = (n + 4095) & ~0xfffULL;\n', 'tool/new.c:2'),
    ('page_size', 'tests/new.h', MIT + '#define AT(nr)\t((nr) << 12)\n', 'tests/new.h:2'),
    ('architectures', 'lib/new.c', MIT + '#ifdef __x86_64__\n#endif\n', 'lib/new.c:2'),
    ('architectures', 'tests/new.h', MIT + '#if 0\n#elif defined(__aarch64__)\n#endif\n',
     'tests/new.h:3'),
    ('architectures', 'bpf/new.h', DUAL + '#if defined(__TARGET_ARCH_x86)\n#endif\n',
     'bpf/new.h:2'),
    ('lint_prose.links', 'docs/new.md', DOCUMENT + '[x](nowhere.md)\n', 'docs/new.md:2'),
    ('lint_prose.links', 'docs/new.md', DOCUMENT + '[x](../README.md#no-such)\n',
     'docs/new.md:2'),
    ('lint_prose.links', 'docs/new.md', DOCUMENT + 'see `lib/gone.c`\n', 'no lib/gone.c'),
    ('lint_prose.words', 'lib/new.c', MIT + '/* false says ' + 'nothing */\n', 'lib/new.c:2'),
    ('lint_prose.words', 'lib/new.c', MIT + '/* Who' + ' frees it waits. */\n', 'lib/new.c:2'),
    ('shellcheck', 'scripts/new.sh', SHELL + 'if [ $1 = x ]; then echo; done\n',
     'scripts/new.sh'),
    ('shellcheck', 'tests/run', SHELL + 'cd /nowhere\nrm -rf *\nread x\necho $y\n', 'tests/run'),
    ('cppcheck', 'lib/new.c', MIT + 'int f(void)\n{\n\tint a[2] = {0};\n\treturn a[2];\n}\n',
     'lib/new.c:5'),
    ('cppcheck', 'core/new.c', DUAL + 'int f(int n)\n{\n\tint x;\n\treturn n + x;\n}\n',
     'core/new.c:5'),
]


def _lint(check, *planted):
    """lint.py's status and words, on a good tree with something planted"""
    with tempfile.TemporaryDirectory() as root:
        for path, text in [*GOOD.items(), *planted]:
            os.makedirs(os.path.join(root, os.path.dirname(path)), exist_ok=True)
            with open(os.path.join(root, path), 'w') as f:
                f.write(text)
        done = subprocess.run([sys.executable, LINT, '--root', root, *check], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.returncode, done.stdout


def a_good_tree_passes_every_check():
    status, said = _lint([])
    assert status == 0 and 'not ok' not in said, said
    assert said.startswith('1..16\n'), said


def every_check_has_a_planted_fault():
    with open(LINT) as f:
        checks = f.read().split('\nCHECKS = (')[1].split(')')[0]
    # commits have a test of their own, below
    planted = {fault[0] for fault in FAULTS} | {'lint_prose.subjects'}
    assert {c.strip() for c in checks.split(',')} == planted, checks


def each_planted_fault_turns_its_check_red():
    for check, path, text, complaint in FAULTS:
        status, said = _lint([check.split('.')[-1]], (path, text))
        assert status == 1 and 'not ok 1' in said and complaint in said, (check, path, said)


def a_planted_fault_makes_the_whole_run_red():
    check, path, text, complaint = FAULTS[0]
    status, said = _lint([], (path, text))
    assert status == 1 and said.count('not ok') == 1 and complaint in said, said


def a_subject_that_breaks_a_rule_is_named():
    assert lint_prose.subject_fault('core: load the words before blind') is None
    assert lint_prose.subject_fault('lib/cache, tests: wait while the feed is blind') is None
    assert '80 columns' in lint_prose.subject_fault('core: ' + 'x' * 74)
    assert 'semicolon' in lint_prose.subject_fault('core: one; two')
    assert 'imperative' in lint_prose.subject_fault('Mended the core')


def only_subjects_since_the_rule_are_judged():
    with tempfile.TemporaryDirectory() as root:
        git = ['git', '-C', root, '-c', 'user.name=n', '-c', 'user.email=e']

        def commit(subject):
            subprocess.run([*git, 'commit', '-q', '--allow-empty', '-m', subject], check=True)
            return subprocess.run([*git, 'rev-parse', 'HEAD'], check=True, text=True,
                                  stdout=subprocess.PIPE).stdout.strip()
        subprocess.run([*git, 'init', '-q'], check=True)
        since = commit('Long ago; as it was')
        commit('core: do one thing')
        bad = commit('core: do one thing; do another')
        found = list(lint_prose.subjects(root, {}, since))
        assert len(found) == 1 and found[0].startswith(bad[:7]), found
        assert not list(lint_prose.subjects(root, {}, 'f' * 40))


def a_check_that_does_not_exist_is_refused():
    status, said = _lint(['spelling'])
    assert status == 2 and 'no such check: spelling' in said, said


if __name__ == '__main__':
    tap.run(tap.in_order(globals()))
