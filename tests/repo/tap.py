# SPDX-License-Identifier: MIT
"""TAP from Python: a test is a function whose name is a sentence."""
import sys
import traceback


class Skip(Exception):
    """raise Skip('why')"""


def run(tests):
    failed = 0
    print(f'1..{len(tests)}')
    for nr, test in enumerate(tests, 1):
        try:
            test()
            print(f'ok {nr} - {test.__name__}')
        except Skip as why:
            print(f'ok {nr} - {test.__name__} # SKIP {why}')
        except Exception:
            failed += 1
            print(f'not ok {nr} - {test.__name__}')
            print('# ' + traceback.format_exc().rstrip().replace('\n', '\n# '))
        sys.stdout.flush()
    sys.exit(1 if failed else 0)


def in_order(namespace):
    """The functions of a module that are tests, as they stand there."""
    tests = [f for name, f in namespace.items()
             if callable(f) and getattr(f, '__module__', '') == '__main__' and f.__doc__ is None
             and not name.startswith('_')]
    return sorted(tests, key=lambda f: f.__code__.co_firstlineno)
