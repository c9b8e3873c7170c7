#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""run.py FILE... - run these tests with pytest, and print TAP

usage: INVLOCK_LIBRARY=build/lib/libinvlock.so.0 run.py FILE...
"""
import os
import sys

import pytest


class Tap:
    def __init__(self):
        self.nr = 0

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config):
        config.pluginmanager.unregister(name='terminalreporter')

    def pytest_collection_finish(self, session):
        print(f'1..{len(session.items)}', flush=True)

    def pytest_runtest_logreport(self, report):
        # one line for each test, and one more for a fixture that fails around it
        if report.when != 'call' and report.passed or report.when == 'teardown' and report.skipped:
            return
        self.nr += 1
        name = report.nodeid.rsplit('::', 1)[-1].removeprefix('test_')
        if report.skipped:
            print(f'ok {self.nr} - {name} # SKIP {report.longrepr[2].removeprefix("Skipped: ")}')
        elif report.passed:
            print(f'ok {self.nr} - {name}')
        else:
            print(f'not ok {self.nr} - {name}')
            print('# ' + str(report.longrepr).replace('\n', '\n# '))
        sys.stdout.flush()

    def pytest_collectreport(self, report):
        if report.failed:
            print('# ' + str(report.longrepr).replace('\n', '\n# '))


if __name__ == '__main__':
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path.insert(0, os.path.join(here, '../../bindings/python'))
    sys.exit(pytest.main(['-p', 'no:cacheprovider', '--rootdir', here,
                          *sys.argv[1:]], plugins=[Tap()]))
