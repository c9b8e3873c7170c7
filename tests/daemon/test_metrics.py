#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The page of metrics: what the daemon counts, that it is OpenMetrics, and who gets it how."""
import ctypes
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), '../repo'))
import tap

DAEMON, LIBRARY, *SOCKET_UNITS = sys.argv[1:]
NOBODY = 65534
PR_SET_PDEATHSIG = 1    # linux/prctl.h
PATIENCE = 300
SAMPLE = re.compile(r'^([a-z_]+)(?:\{(.*)\})? (-?[0-9.e+-]+)$')
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\\n]|\\[\\"n])*)"(?:,|$)')


class _Daemon:
    """A daemon of this test's own, until the end of a with statement."""

    def __init__(self, policy='', pass_sockets=(), metrics=True):
        self.folder = tempfile.TemporaryDirectory(prefix='invlockd-')
        os.chmod(self.folder.name, 0o755)
        self.socket, self.metrics = (f'{self.folder.name}/{name}' for name in ('socket', 'metrics'))
        with open(f'{self.folder.name}/conf', 'w') as f:
            f.write(policy)
        self.said = open(f'{self.folder.name}/said', 'w+')
        command = [DAEMON, '--config', f'{self.folder.name}/conf', '--socket', self.socket]
        self.process = subprocess.Popen(
            command + (['--metrics', self.metrics] if metrics else []), stderr=self.said,
            preexec_fn=lambda: _pass(pass_sockets), close_fds=not pass_sockets)

    def __enter__(self):
        give_up = time.monotonic() + PATIENCE
        while 'ready' not in self.text():
            if self.process.poll() is not None or time.monotonic() > give_up:
                text = self.text()
                self.__exit__()
                if 'not permitted' in text or 'no BTF' in text:
                    raise tap.Skip('this machine lets no BPF program be loaded')
                raise AssertionError(f'the daemon did not start: {text}')
            time.sleep(.01)
        return self

    def text(self):
        self.said.seek(0)
        return self.said.read()

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.said.close()
        self.folder.cleanup()


def _pass(sockets):
    """As systemd does: (name, socket)... become descriptors from 3 on."""
    if not sockets:
        return
    copies = [os.dup(s.fileno()) for _, s in sockets]
    for nr, copy in enumerate(copies):
        os.dup2(copy, 3 + nr)
    os.environ['LISTEN_PID'] = str(os.getpid())
    os.environ['LISTEN_FDS'] = str(len(sockets))
    os.environ['LISTEN_FDNAMES'] = ':'.join(name for name, _ in sockets)


class _Options(ctypes.Structure):
    _fields_ = [('size', ctypes.c_size_t), ('flags', ctypes.c_uint), ('monitor', ctypes.c_char_p),
                ('need', ctypes.c_uint64)]


class _Client:
    """A process of user nobody that has a feed of the daemon, if it gets one."""

    def __init__(self, daemon):
        ours, theirs = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            try:
                self._hold(daemon, theirs)
            finally:
                os._exit(1)
        os.close(theirs)
        self.refused = os.read(ours, 4096).decode()[1:]
        os.close(ours)

    def _hold(self, daemon, to):
        os.environ['INVLOCK_SOCKET'] = daemon.socket
        library = ctypes.CDLL(LIBRARY)
        os.setgroups([])
        os.setresuid(NOBODY, NOBODY, NOBODY)
        # it must not outlive a test that fails, whose output it would keep open
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        why, mm = ctypes.create_string_buffer(2048), ctypes.c_void_p()
        options = _Options(ctypes.sizeof(_Options), 0, b'daemon', 2)
        library.invlock_mm_open(ctypes.byref(options), ctypes.byref(mm), why)
        os.write(to, b'.' + why.value)
        signal.pause()

    def end(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def _ask(path, request=b'GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n'):
    """What the daemon replies: status, headers, body."""
    family = socket.AF_UNIX if isinstance(path, str) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as s:
        s.settimeout(PATIENCE)
        s.connect(path)
        s.sendall(request)
        reply = b''
        while got := s.recv(65536):
            reply += got
    head, _, body = reply.partition(b'\r\n\r\n')
    status, *lines = head.decode().split('\r\n')
    return status, dict(line.split(': ', 1) for line in lines), body.decode()


def _page(daemon):
    status, headers, body = _ask(daemon.metrics)
    assert status == 'HTTP/1.1 200 OK', status
    assert headers['Content-Type'] == (
        'application/openmetrics-text; version=1.0.0; charset=utf-8'), headers
    assert int(headers['Content-Length']) == len(body.encode()), headers
    return _parse(body)


def _parse(body):
    """The samples, by name and labels; whatever is no OpenMetrics fails."""
    samples, families, family = {}, {}, None
    assert body.endswith('\n# EOF\n') and body.count('# EOF') == 1
    for line in body.splitlines()[:-1]:
        if line.startswith('# '):
            word, name, text = line[2:].split(' ', 2)
            if word == 'TYPE':
                assert name not in families, f'{name} comes twice'
                assert text in ('gauge', 'counter', 'info'), line
                families[name], family = text, name
            else:
                assert word in ('HELP', 'UNIT') and name == family, line
                assert word != 'UNIT' or name.endswith('_' + text), line
            continue
        found = SAMPLE.match(line)
        assert found, f'no sample: {line}'
        suffix = {'counter': '_total', 'info': '_info', 'gauge': ''}[families[family]]
        assert found[1] == family + suffix, f'{line} in the family {family}'
        labels = tuple(LABEL.findall(found[2] or ''))
        assert ','.join(f'{k}="{v}"' for k, v in labels) == (found[2] or ''), line
        assert (found[1], labels) not in samples, f'twice: {line}'
        samples[found[1], labels] = float(found[3])
    return samples


def _of(page, name, **labels):
    return page[name, tuple(labels.items())]


def _wait_for(daemon, wanted):
    give_up = time.monotonic() + PATIENCE
    while not wanted(page := _page(daemon)):
        assert time.monotonic() < give_up, page
        time.sleep(.05)
    return page


def the_page_counts_feeds_users_events_and_ends():
    with _Daemon() as d:
        page = _page(d)
        assert _of(page, 'invlock_feeds', state='open') == 0
        assert _of(page, 'invlock_feeds_given_total') == 0
        assert _of(page, 'invlock_programs') > 10
        clients = [_Client(d), _Client(d)]
        assert not any(c.refused for c in clients), clients[0].refused
        page = _page(d)
        assert _of(page, 'invlock_feeds', state='open') == 2
        assert _of(page, 'invlock_user_feeds', uid=str(NOBODY)) == 2
        assert _of(page, 'invlock_feeds_given_total') == 2
        events = _of(page, 'invlock_events_total')
        assert events > 0
        for c in clients:
            c.end()
        page = _wait_for(d, lambda p: not _of(p, 'invlock_feeds', state='open') and
                         not any(n == 'invlock_user_feeds' for n, _ in p))
        # what has ended goes on to count
        assert _of(page, 'invlock_events_total') >= events
        assert _of(page, 'invlock_feeds_given_total') == 2
        assert _of(page, 'invlock_feeds_closed_total', reason='gone') == 2
        assert _of(page, 'invlock_feeds_closed_total', reason='evicted') == 0


def refusals_are_counted_by_their_reason():
    with _Daemon('feeds_per_user = 1') as d:
        first, second = _Client(d), _Client(d)
        assert not first.refused and 'feeds_per_user' in second.refused
        page = _page(d)
        assert _of(page, 'invlock_refusals_total', reason='quota') == 1
        assert _of(page, 'invlock_refusals_total', reason='policy') == 0
        assert _of(page, 'invlock_user_feeds_most') == 1
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
            s.connect(d.socket)
            s.send(b'garbage')
            s.recv(8192)
        assert _of(_page(d), 'invlock_refusals_total', reason='protocol') == 1
        first.end()
        second.end()
    with _Daemon('users = root') as d:
        client = _Client(d)
        assert client.refused
        assert _of(_page(d), 'invlock_refusals_total', reason='policy') == 1
        client.end()


def the_reference_parser_takes_the_page():
    try:
        from prometheus_client.openmetrics.parser import text_string_to_metric_families
    except ImportError:
        raise tap.Skip('python3-prometheus-client is not installed')
    with _Daemon() as d:
        client = _Client(d)
        body = _ask(d.metrics)[2]
        families = {f.name: f for f in text_string_to_metric_families(body)}
        client.end()
    assert families['invlock_feeds'].type == 'gauge'
    assert families['invlock_refusals'].type == 'counter'
    info, = families['invlock_daemon'].samples
    assert info.labels['version'] and info.labels['attached'] in ('functions', 'tracepoints')


def requests_that_ask_for_something_else_get_an_error():
    with _Daemon() as d:
        for request, status in ((b'GET /other HTTP/1.1\r\n\r\n', '404 Not Found'),
                                (b'POST /metrics HTTP/1.1\r\n\r\n', '405 Method Not Allowed'),
                                (b'nonsense\r\n\r\n', '400 Bad Request'),
                                (b'GET /metrics SPDY/1\r\n\r\n', '400 Bad Request'),
                                (b'x' * 4000, '431 Request Header Fields Too Large'),
                                (b'GET / HTTP/1.0\r\n\r\n', '200 OK'),
                                (b'GET /metrics?a=b HTTP/1.1\n\n', '200 OK')):
            assert _ask(d.metrics, request)[0] == f'HTTP/1.1 {status}', request
        status, headers, body = _ask(d.metrics, b'HEAD /metrics HTTP/1.1\r\n\r\n')
        assert status == 'HTTP/1.1 200 OK' and int(headers['Content-Length']) > 0 and not body


def scrapers_that_say_nothing_keep_nobody_out():
    with _Daemon() as d:
        silent = []
        for _ in range(20):
            silent.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            silent[-1].connect(d.metrics)
        # a client is served at once
        client = _Client(d)
        assert not client.refused, client.refused
        client.end()
        give_up = time.monotonic() + PATIENCE
        while True:     # they give way after a while
            try:
                assert _of(_page(d), 'invlock_feeds_given_total') == 1
                break
            except (ConnectionError, ValueError, KeyError, AssertionError):
                assert time.monotonic() < give_up
                time.sleep(.2)
        for s in silent:
            s.close()


def the_socket_is_for_the_daemons_user_alone_and_goes_with_the_daemon():
    with _Daemon() as d:
        assert stat.S_IMODE(os.stat(d.metrics).st_mode) == 0o600
        d.process.terminate()
        assert d.process.wait(PATIENCE) == 0
        assert not os.path.exists(d.metrics)


def _names_of_units():
    """By the name of the unit: what systemd calls its socket (systemd.socket(5))."""
    names = {}
    for path in SOCKET_UNITS:
        with open(path, encoding='utf-8') as f:
            name = re.search(r'^FileDescriptorName=(.*)$', f.read(), re.M)
        names[os.path.basename(path)] = name[1] if name else os.path.basename(path)
    return names


def systemd_passes_the_sockets_of_both_units_in_any_order():
    names = _names_of_units()
    for in_turn in 1, -1:
        with tempfile.TemporaryDirectory() as folder, \
                socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as clients, \
                socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as scrapes:
            os.chmod(folder, 0o755)
            for s, path in (clients, f'{folder}/clients'), (scrapes, f'{folder}/scrapes'):
                s.bind(path)
                os.chmod(path, 0o666)
                s.listen()
            passed = [(names['invlockd.socket'], clients),
                      (names['invlockd-metrics.socket'], scrapes)][::in_turn]
            with _Daemon(pass_sockets=passed, metrics=False) as d:
                d.socket, d.metrics = f'{folder}/clients', f'{folder}/scrapes'
                client = _Client(d)
                assert not client.refused, client.refused
                assert _of(_page(d), 'invlock_feeds', state='open') == 1
                client.end()


def systemd_may_pass_a_port_of_this_host_for_it():
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as ours, \
            tempfile.TemporaryDirectory() as folder:
        tcp.bind(('127.0.0.1', 0))
        tcp.listen()
        ours.bind(f'{folder}/socket')
        os.chmod(folder, 0o755)
        os.chmod(f'{folder}/socket', 0o666)
        ours.listen()
        with _Daemon(pass_sockets=(('metrics', tcp), ('invlockd.socket', ours)),
                     metrics=False) as d:
            d.socket = f'{folder}/socket'
            client = _Client(d)
            assert not client.refused, client.refused
            status, _, body = _ask(tcp.getsockname())
            assert status == 'HTTP/1.1 200 OK'
            assert _of(_parse(body), 'invlock_feeds', state='open') == 1
            client.end()


def _refused_start(*args, pass_sockets=()):
    done = subprocess.run([DAEMON, '--config', '/dev/null', '--socket', '/nowhere/x', *args],
                          stderr=subprocess.PIPE, text=True, timeout=PATIENCE,
                          preexec_fn=lambda: _pass(pass_sockets), close_fds=not pass_sockets)
    assert done.returncode == 1
    return done.stderr


def what_cannot_be_listened_at_keeps_the_daemon_from_starting_with_a_sentence():
    assert 'no such file' in _refused_start('--metrics', '/nowhere/at/all').lower()
    assert 'longer than' in _refused_start('--metrics', '/' + 'x' * 200)
    with tempfile.NamedTemporaryFile() as file:
        assert 'no socket' in _refused_start('--metrics', file.name)
        assert os.path.exists(file.name)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        assert 'ListenStream=' in _refused_start(pass_sockets=(('metrics', udp),))


if __name__ == '__main__':
    if os.geteuid():
        print('1..0 # SKIP only root can load BPF programs')
        sys.exit(0)
    tap.run(tap.in_order(globals()))
