#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Programs that know nothing of invlock, with the checker inside: see checker.c.

usage: test_programs.py CHECKER INSIDE REPORT short|long

Each test runs one program and adds up the counts of the checkers in its processes. A miss is a
failure, and so is a run in which the checker found nothing stale: that would prove nothing.
The figures go to REPORT as JSON, and to the output as a table after the tests.
"""
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

import tap

CHECKER, INSIDE, REPORT, LENGTH = sys.argv[1:5]
HERE = os.path.dirname(os.path.abspath(__file__))
SECONDS = {'short': 4, 'long': 20}[LENGTH]
WORK = tempfile.mkdtemp(prefix='invlock-programs-')
LAYOUT = struct.Struct('9Q2048s')   # struct findings of checker.c
COUNTS = ('opened', 'events', 'registered', 'refused', 'checks', 'stale', 'misses',
          'false alarms', 'unsettled')
RESULTS = {}


class _Watched:
    """A folder for one program, and a way to start it with the checker inside"""

    def __init__(self, name, only=None, forks=False, monitor='bpf'):
        self.name = name
        self.folder = tempfile.mkdtemp(prefix=f'{name}-', dir=WORK)
        os.chmod(self.folder, 0o755)
        self.reports = os.path.join(self.folder, 'reports')
        self.preload = os.path.join(WORK, 'libchecker.so')
        os.makedirs(self.reports)
        self.env = dict(os.environ, INVLOCK_CHECKER=self.reports, INVLOCK_CHECKER_MONITOR=monitor,
                        INVLOCK_CHECKER_ONLY=only or name)
        if forks:
            self.env['INVLOCK_CHECKER_FORKS'] = '1'
        self.started = []

    def start(self, *command, static=False, wrap=(), **options):
        env = dict(self.env)
        if static:
            env['INVLOCK_CHECKER_ONLY'] = os.path.basename(INSIDE)
            command = (INSIDE, *command)
        else:
            # env must not run with these variables: they are for the program alone
            command = (*wrap, 'env', f'LD_PRELOAD={self.preload}', *command)
        options = {'stdin': subprocess.DEVNULL, **options}
        with open(os.path.join(self.folder, 'log'), 'a') as log:
            started = subprocess.Popen([str(c) for c in command], env=env, cwd=self.folder,
                                       stdout=log, stderr=log, start_new_session=True, **options)
        self.started.append(started)
        return started

    def finish(self, program):
        status = program.wait(timeout=SECONDS * 20 + 600)
        assert status == 0, f'{self.name} ended with {status}\n{self.log()}'

    def log(self):
        with open(os.path.join(self.folder, 'log'), errors='replace') as f:
            return f.read()[-2000:]

    def end(self):
        for started in self.started:
            try:
                os.killpg(started.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            started.wait()

    def counts(self):
        total, why, processes = dict.fromkeys(COUNTS, 0), [], 0
        for pid in os.listdir(self.reports):
            with open(os.path.join(self.reports, pid), 'rb') as f:
                *counts, text = LAYOUT.unpack(f.read())
            text = text.split(b'\0')[0].decode()
            if text:
                why.append(text)
            for key, count in zip(COUNTS, counts):
                total[key] += count
        processes = total.pop('opened')
        return {'processes': processes, **total}, why


def _need(*programs):
    for program in programs:
        if not shutil.which(program, path=os.environ['PATH'] + ':/usr/sbin:/usr/games'):
            raise tap.Skip(f'{program} is not installed: scripts/deps.sh programs')


def _watch(name, work, **options):
    """the counts of a program while work(watched) uses it"""
    if os.geteuid() != 0:
        raise tap.Skip('needs root, to see page frames in /proc/self/pagemap')
    watched = _Watched(name, **options)
    try:
        work(watched)
    finally:
        watched.end()
    counts, why = watched.counts()
    if not counts['processes']:
        if options.get('monitor') != 'manual' and any('bpf' in w or 'io_uring' in w for w in why):
            raise tap.Skip(why[0])
        raise AssertionError(f'no checker ran: {why}\n{watched.log()}')
    return counts, why


def _prove(name, work, **options):
    # where the checker seldom gets a CPU, it may see nothing in its first seconds
    for _ in range(5):
        counts, why = _watch(name, work, **options)
        RESULTS[name] = counts
        assert counts['misses'] == 0, (counts, why)
        if counts['stale']:
            return
    raise AssertionError(f'nothing went stale, which proves nothing: {counts}')


def _storm(*command, **options):
    def work(watched):
        watched.finish(watched.start(*command, SECONDS, **options))
    return work


def _until(is_so, what):
    for _ in range(3000):
        if is_so():
            return
        time.sleep(0.1)
    raise AssertionError(f'it never came to this: {what}')


def _wait_for(path):
    _until(lambda: os.path.exists(path), f'{path} exists')


def python3_never_has_a_stale_page_called_valid():
    _prove('python3', _storm('/usr/bin/python3', f'{HERE}/storm.py'))


def perl_never_has_a_stale_page_called_valid():
    _prove('perl', _storm('perl', f'{HERE}/storm.pl'))


def gcc_never_has_a_stale_page_called_valid():
    source = os.path.join(WORK, 'source.c')
    with open(source, 'w') as f:
        for n in range(30):
            f.write(f'int f{n}(int x) {{ for (int i = 0; i < x; i++) x ^= i * {n}; return x; }}\n')

    def work(watched):
        begin = time.monotonic()

        def spent():
            return time.monotonic() - begin
        # awk has few pages: repeat until a change has hit one that is watched
        while spent() < SECONDS or (spent() < 120 and not watched.counts()[0]['stale']):
            # this makes it collect its garbage after each function
            watched.finish(watched.start('gcc', '-O2', '-S', source, '-o', '/dev/null', '--param',
                                         'ggc-min-expand=0', '--param', 'ggc-min-heapsize=0'))
    _prove('gcc', work, only='cc1')


def a_checker_whose_monitor_hears_nothing_finds_misses():
    for _ in range(5):
        counts, _ = _watch('deaf', _storm('/usr/bin/python3', f'{HERE}/storm.py'), only='python3',
                           monitor='manual')
        assert counts['events'] == 0, counts
        if counts['misses']:
            break
    assert counts['misses'] > 0, counts
    RESULTS['python3, not watched'] = counts


def node_never_has_a_stale_page_called_valid():
    _need('node')
    _prove('node', _storm('node', f'{HERE}/storm.js'))


def java_never_has_a_stale_page_called_valid():
    _need('javac')
    _prove('java', _storm('java', '-Xmx256m', '-Xint', f'{HERE}/Storm.java'))


def a_static_go_program_never_has_a_stale_page_called_valid():
    _need('go')
    program = os.path.join(WORK, 'storm-go')
    subprocess.run(['go', 'build', '-o', program, f'{HERE}/storm.go'], check=True,
                   env=dict(os.environ, CGO_ENABLED='0', GO111MODULE='off',
                            GOCACHE=os.path.join(WORK, 'gocache')))
    _prove('go', _storm(program, static=True))


def a_static_busybox_never_has_a_stale_page_called_valid():
    _need('busybox')
    # strings that double in length, and arrays that are filled and deleted
    script = '''BEGIN { end = systime() + ARGV[1]; while (systime() < end) {
                s = "x"; for (i = 0; i < 20; i++) s = s s
                for (i = 0; i < 5000; i++) a[i] = i "" substr(s, 1, 1000); delete a } }'''
    _prove('busybox', _storm('/bin/busybox', 'awk', script, static=True))


def sqlite3_never_has_a_stale_page_called_valid():
    _need('sqlite3')

    def work(watched):
        program = watched.start('sqlite3', 'db', stdin=subprocess.PIPE)
        program.stdin.write(b'PRAGMA mmap_size = 67108864; CREATE TABLE t (k, v);\n')
        for _ in range(SECONDS):
            # a database in memory is created and dropped; one on disk grows and shrinks
            program.stdin.write(b'''
                ATTACH ':memory:' AS m; CREATE TABLE m.t (k INTEGER PRIMARY KEY, v BLOB);
                WITH RECURSIVE n (k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM n WHERE k < 9000)
                INSERT INTO m.t (v) SELECT randomblob(abs(random()) % 4000) FROM n;
                INSERT INTO main.t SELECT k, v FROM m.t WHERE k % 5 = 0;
                SELECT count(*) FROM (SELECT * FROM m.t ORDER BY v DESC);
                SELECT sum(length(upper(hex(randomblob(1000000 + k))))) FROM m.t WHERE k < 20;
                DETACH m; DELETE FROM t WHERE k % 3 != 0; VACUUM;\n''')
        program.stdin.close()
        watched.finish(program)
    _prove('sqlite3', work)


def redis_and_its_forked_savers_never_have_a_stale_page_called_valid():
    _need('redis-server', 'redis-benchmark')

    def work(watched):
        socket = os.path.join(watched.folder, 'socket')
        server = watched.start('redis-server', '--port', 0, '--unixsocket', socket, '--save', '',
                               '--dir', watched.folder)
        _wait_for(socket)
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            subprocess.run(['redis-benchmark', '-s', socket, '-q', '-n', '4000', '-r', '5000',
                            '-d', '9000', '-t', 'set,lpush'], stdout=subprocess.DEVNULL,
                           check=True)
            for command in 'bgsave', 'flushall':
                subprocess.run(['redis-cli', '-s', socket, command], check=False,
                               stdout=subprocess.DEVNULL)
        subprocess.run(['redis-cli', '-s', socket, 'shutdown', 'nosave'], check=False)
        watched.finish(server)
    _prove('redis-server', work, forks=True)


def postgres_and_its_backends_never_have_a_stale_page_called_valid():
    binaries = sorted(p for p in os.listdir('/usr/lib/postgresql')) if os.path.isdir(
        '/usr/lib/postgresql') else []
    if not binaries:
        raise tap.Skip('postgres is not installed: scripts/deps.sh programs')
    where = f'/usr/lib/postgresql/{binaries[-1]}/bin'
    # postgres refuses to run as root, so this is another user, with the capabilities of the checker
    user = ['setpriv', '--reuid=postgres', '--regid=postgres', '--clear-groups']
    caps = ['--inh-caps=+bpf,+perfmon,+sys_admin,+ipc_lock',
            '--ambient-caps=+bpf,+perfmon,+sys_admin,+ipc_lock']

    def work(watched):
        for path in WORK, watched.folder, watched.reports:
            shutil.chown(path, 'postgres')
        data = os.path.join(watched.folder, 'data')
        quiet = {'check': True, 'stdout': subprocess.DEVNULL, 'cwd': watched.folder}
        subprocess.run([*user, f'{where}/initdb', '-D', data], **quiet)
        server = watched.start(f'{where}/postgres', '-D', data, '-k', watched.folder, '-h', '',
                               wrap=[*user, *caps])
        _wait_for(os.path.join(watched.folder, '.s.PGSQL.5432'))
        bench = [*user, f'{where}/pgbench', '-h', watched.folder]
        # the socket is there before the server has started
        ready = [*user, f'{where}/pg_isready', '-q', '-h', watched.folder]
        _until(lambda: subprocess.run(ready, check=False).returncode == 0, 'postgres answers')
        subprocess.run([*bench, '-i', '-q', 'postgres'], stderr=subprocess.DEVNULL, **quiet)
        subprocess.run([*bench, '-c', '2', '-T', str(SECONDS), '-f', f'{HERE}/storm.sql',
                        'postgres'], stderr=subprocess.DEVNULL, **quiet)
        server.send_signal(signal.SIGINT)
        watched.finish(server)
    _prove('postgres', work, forks=True)


def qemu_never_has_a_stale_page_called_valid():
    _need('qemu-system-x86_64')

    def work(watched):
        program = watched.start('qemu-system-x86_64', '-accel', 'tcg', '-m', '256', '-display',
                                'none', '-monitor', 'stdio', '-boot', 'n',
                                stdin=subprocess.PIPE)
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            # memory is plugged and unplugged, and the guest is reset
            program.stdin.write(b'object_add memory-backend-ram,id=m,size=16M,prealloc=on\n')
            program.stdin.flush()
            time.sleep(0.05)
            program.stdin.write(b'object_del m\nsystem_reset\n')
            program.stdin.flush()
            time.sleep(0.2)
        program.stdin.write(b'quit\n')
        program.stdin.close()
        watched.finish(program)
    _prove('qemu-system-x86_64', work)


def stress_ng_never_has_a_stale_page_called_valid():
    _need('stress-ng')

    def work(watched):
        program = watched.start('stress-ng', '--vm', 1, '--mmap', 1, '--mremap', 1,
                                '--vm-bytes', '16M', '--mmap-bytes', '16M',
                                '--mremap-bytes', '16M', '-t', SECONDS)
        watched.finish(program)
    _prove('stress-ng', work, forks=True)


SHORT = (python3_never_has_a_stale_page_called_valid, perl_never_has_a_stale_page_called_valid,
         gcc_never_has_a_stale_page_called_valid,
         a_checker_whose_monitor_hears_nothing_finds_misses)


def _write_report():
    with open(REPORT, 'w') as f:
        json.dump({'seconds': SECONDS, 'programs': RESULTS}, f, indent=1)
        f.write('\n')
    columns = ['processes', *COUNTS[1:]]
    print('# ' + f'{"program":24}' + ''.join(f'{c:>14}' for c in columns))
    for name, counts in RESULTS.items():
        print('# ' + f'{name:24}' + ''.join(f'{counts[c]:14}' for c in columns))


if __name__ == '__main__':
    # a program may change its user, who must be able to load the checker
    os.chmod(WORK, 0o755)
    shutil.copy(CHECKER, os.path.join(WORK, 'libchecker.so'))
    try:
        tap.run([t for t in tap.in_order(globals()) if LENGTH == 'long' or t in SHORT])
    finally:
        _write_report()
        shutil.rmtree(WORK)
