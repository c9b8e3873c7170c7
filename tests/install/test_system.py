#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Tests `make install` and `make uninstall` on the system, in a mount namespace of their own.

usage: test_system.py SOURCE-ROOT BUILD-ROOT
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile

import tap

ROOT, BUILD = sys.argv[1:3]
WORK = tempfile.mkdtemp(prefix='invlock-system-')
LDCONFIG = f'{ROOT}/scripts/ldconfig.sh'
INSIDE = 'INVLOCK_TEST_INSIDE'      # set once the test is in its namespace
OPTIONS = {}                        # the build's prefix and libdir


def _run(*command, env=None):
    done = subprocess.run(command, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, env=env)
    assert done.returncode == 0, f'{" ".join(command)}: {done.returncode}\n{done.stdout}'
    return done.stdout


def _meson_install(*options):
    return _run('meson', 'install', '-C', BUILD, '--no-rebuild', *options)


def _files(folder):
    return {os.path.join(top, name) for top, folders, names in os.walk(folder)
            for name in folders + names}


def _libdir():
    return os.path.join(OPTIONS['prefix'], OPTIONS['libdir'])


def _unchanged_below(*folders):
    """Puts a tmpfs there, which takes all writes and ends with the namespace."""
    _run('mount', '-t', 'tmpfs', 'tmpfs', WORK)
    for nr, folder in enumerate(folders):
        upper, work = f'{WORK}/upper{nr}', f'{WORK}/work{nr}'
        os.mkdir(upper)
        os.mkdir(work)
        _run('mount', '-t', 'overlay', 'overlay', '-o',
             f'lowerdir={folder},upperdir={upper},workdir={work}', folder)


def a_program_starts_right_after_the_installation():
    global before
    before = _files(OPTIONS['prefix'])
    _meson_install()
    source = f'{ROOT}/docs/man/examples/version.c'
    program = f'{WORK}/version'
    flags = _run('pkg-config', '--cflags', '--libs', 'invlock').split()
    _run('cc', source, '-o', program, *flags)
    environment = {name: value for name, value in os.environ.items() if name != 'LD_LIBRARY_PATH'}
    assert 'runs with' in _run(program, env=environment)


def nothing_is_left_after_uninstalling():
    assert _files(OPTIONS['prefix']) > before
    said = _run(f'{ROOT}/scripts/uninstall.py', BUILD)
    assert said.startswith('removed '), said
    left = {path for path in _files(OPTIONS['prefix']) - before if not os.path.isdir(path)}
    assert not left, left
    assert not os.path.exists(f'{OPTIONS["prefix"]}/include/invlock')


def uninstalling_what_is_not_there_says_so():
    said = _run(f'{ROOT}/scripts/uninstall.py', BUILD, f'{WORK}/nowhere')
    assert said == (f'nothing of this build is installed below {WORK}/nowhere: '
                    'was another PREFIX given?\n'), said


def an_installation_below_a_scratch_folder_is_undone_and_leaves_the_linker_alone():
    dest, cache = f'{WORK}/dest', os.stat('/etc/ld.so.cache')
    _meson_install('--destdir', dest)
    assert os.stat('/etc/ld.so.cache').st_mtime_ns == cache.st_mtime_ns
    assert os.path.lexists(f'{dest}{_libdir()}/libinvlock.so.0')
    _run(f'{ROOT}/scripts/uninstall.py', BUILD, dest)
    assert not [path for path in _files(dest) if not os.path.isdir(path)], _files(dest)


def a_folder_that_the_linker_does_not_search_is_named():
    said = _run(LDCONFIG, WORK)
    assert f'does not search {WORK}' in said and f'-Wl,-rpath,{WORK}' in said, said


def an_ordinary_user_is_told_to_run_ldconfig():
    with open('/proc/self/uid_map', encoding='ascii') as f:
        users = sum(int(line.split()[2]) for line in f)
    if users < 65535:
        raise tap.Skip('this user namespace has only one user')
    said = _run('setpriv', '--reuid', '65534', '--clear-groups', LDCONFIG, _libdir())
    assert said == 'Only root may run ldconfig: programs start after `sudo ldconfig`.\n', said


def a_system_without_ldconfig_is_told_so():
    for folder in '/sbin', '/usr/sbin':
        _run('mount', '--bind', '/dev/null', f'{folder}/ldconfig')
    said = _run(LDCONFIG, _libdir())
    assert said.startswith('There is no ldconfig here'), said


def _enter_namespace():
    unshare = ['unshare', '--mount'] + ([] if os.geteuid() == 0 else ['--map-root-user'])
    tried = subprocess.run([*unshare, 'mount', '-t', 'tmpfs', 'tmpfs', WORK], text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    os.rmdir(WORK)
    if tried.returncode:
        print(f'1..0 # SKIP this machine allows no mount namespace: {tried.stdout.strip()}')
        return
    os.environ[INSIDE] = '1'
    os.execvp(unshare[0], [*unshare, sys.executable, *sys.argv])


def _read_options():
    said = _run('meson', 'introspect', '--buildoptions', BUILD)
    OPTIONS.update((o['name'], o['value']) for o in json.loads(said)
                   if o['name'] in ('prefix', 'libdir'))


if __name__ == '__main__':
    if INSIDE not in os.environ:
        _enter_namespace()
        sys.exit(0)
    try:
        _read_options()
        _unchanged_below('/etc', OPTIONS['prefix'])
        tap.run(tap.in_order(globals()))
    finally:
        # the tmpfs below it ends with this process
        _run('umount', '--lazy', WORK)
        shutil.rmtree(WORK)
