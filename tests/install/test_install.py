#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The installed library: headers, libraries, pkg-config, and programs that are built against them.

usage: test_install.py SOURCE-ROOT BUILD-ROOT
"""
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

import tap

ROOT, BUILD = sys.argv[1:3]
WORK = tempfile.mkdtemp(prefix='invlock-install-')
DEST = os.path.join(WORK, 'dest')
WARN = ['-Wall', '-Wextra', '-Wpedantic', '-Werror']
ADAPTERS = ['uring', 'verbs', 'ucx']
NO_MONITOR = 'monitor'      # an example's message begins so if this machine has none


def _run(*command, env=None, status=0):
    done = subprocess.run(command, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, env=dict(os.environ, **(env or {})))
    assert done.returncode == status, f'{" ".join(command)}: {done.returncode}\n{done.stdout}'
    return done.stdout


def _one(pattern):
    found = glob.glob(os.path.join(DEST, pattern), recursive=True)
    assert len(found) == 1, (pattern, found)
    return found[0]


def _libdir():
    return os.path.dirname(_one('**/libinvlock.so'))


def _pkg_config(*arguments):
    return _run('pkg-config', *arguments, env={
        'PKG_CONFIG_SYSROOT_DIR': DEST,
        'PKG_CONFIG_LIBDIR': os.path.join(_libdir(), 'pkgconfig') + ':' + _system_pkgs()}).split()


def _system_pkgs():
    return _run('pkg-config', '--variable', 'pc_path', 'pkg-config').strip()


def _headers():
    return sorted(glob.glob(os.path.join(DEST, '**/include/invlock/*.h'), recursive=True))


def _declared(headers):
    names = set()
    for header in headers:
        with open(header) as f:
            text = re.sub(r'/\*.*?\*/', '', f.read(), flags=re.S)
        names |= set(re.findall(r'^(?:[\w ]+[ *])(invlock_\w+)\(', text, flags=re.M))
    return names


def _exports(library, *options):
    """the names of the functions and data that a library exports"""
    words = [line.split() for line in _run('nm', '--defined-only', *options, library).splitlines()]
    return {w[2].split('@')[0] for w in words if len(w) == 3 and w[1] in 'TWVDBR'}


def _library_headers():
    return [h for h in _headers() if os.path.basename(h)[:-2] not in ADAPTERS]


def _adapters():
    """Those that were built: each has a header of its name."""
    return [a for a in ADAPTERS if glob.glob(f'{DEST}/**/invlock/{a}.h', recursive=True)]


def _compile(source, *options, packages=('invlock',)):
    program = os.path.join(WORK, os.path.basename(source).rsplit('.', 1)[0])
    _run('cc', *WARN, '-O2', source, '-o', program, *options,
         *_pkg_config('--cflags', '--libs', *packages))
    return program


def _run_example(program, *arguments, **env):
    done = subprocess.run([program, *arguments], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                          env=dict(os.environ, LD_LIBRARY_PATH=_libdir(), **env))
    if done.returncode and re.search(r'bpf|uffd|io_uring', done.stderr):
        raise tap.Skip(done.stderr.strip().replace('\n', ' '))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def it_installs():
    _run('meson', 'install', '-C', BUILD, '--no-rebuild', '--destdir', DEST)
    assert len(_library_headers()) >= 5, _headers()
    assert os.path.exists(_one('**/include/invlock/feed.h'))
    assert not glob.glob(f'{DEST}/**/include/linux', recursive=True)


def the_shared_library_shows_every_public_function_and_nothing_else():
    shown = _exports(_one('**/libinvlock.so'), '-D')
    assert shown == _declared(_library_headers()), shown ^ _declared(_library_headers())


def the_static_library_shows_every_public_function_and_nothing_else():
    shown = _exports(_one('**/libinvlock.a'), '-g')
    assert shown == _declared(_library_headers()), shown ^ _declared(_library_headers())


def each_adapter_shows_every_function_of_its_header_and_nothing_else():
    for name in _adapters():
        shown = _exports(_one(f'**/libinvlock-{name}.so'), '-D')
        assert shown == _declared([_one(f'**/invlock/{name}.h')]), shown


def the_plug_in_for_libfabric_shows_what_libfabric_looks_for_and_nothing_else():
    if not glob.glob(f'{DEST}/**/libinvlock-fi.so', recursive=True):
        raise tap.Skip('the plug-in is not built: libfabric is missing')
    plugin = _one('**/invlock/libfabric/libinvlock-fi.so')
    assert _exports(plugin, '-D') == {'fi_prov_ini'}
    assert 'NODELETE' in _run('readelf', '-dW', plugin)
    assert _pkg_config('--variable', 'provider_path', 'invlock-fi') == [os.path.dirname(plugin)]


def the_preload_for_ucx_is_found_by_pkg_config():
    if 'ucx' not in _adapters():
        raise tap.Skip('the adapter for UCX is not built: UCX is missing')
    preload = _one('**/invlock/libinvlock-ucx-preload.so')
    assert _pkg_config('--variable', 'preload', 'invlock-ucx') == [preload]
    # wherever it was installed, it finds its libraries without help
    env = {name: value for name, value in os.environ.items() if name != 'LD_LIBRARY_PATH'}
    done = subprocess.run(['true'], env=dict(env, LD_PRELOAD=preload), text=True,
                          stderr=subprocess.PIPE)
    assert not done.returncode and not done.stderr, done.stderr


def the_symbols_files_of_the_packages_name_every_function():
    for library, headers in (('libinvlock', _library_headers()),
                             *((f'libinvlock-{a}', [_one(f'**/invlock/{a}.h')])
                               for a in _adapters())):
        with open(f'{ROOT}/debian/{library}0.symbols', encoding='utf-8') as f:
            named = set(re.findall(r'^ (invlock_\w+)@', f.read(), flags=re.M))
        assert named == _declared(headers), named ^ _declared(headers)


def the_libraries_carry_their_names_and_stay_loaded():
    for name in 'invlock', *(f'invlock-{a}' for a in _adapters()):
        dynamic = _run('readelf', '-dW', _one(f'**/lib{name}.so'))
        assert f'soname: [lib{name}.so.0]' in dynamic, dynamic
    assert 'NODELETE' in _run('readelf', '-dW', _one('**/libinvlock.so'))


def the_library_needs_no_adapter():
    dynamic = _run('readelf', '-dW', _one('**/libinvlock.so'))
    assert not [name for name in ADAPTERS if name in dynamic], dynamic


def each_header_compiles_alone_as_c():
    for header in _headers():
        # verbs.h of libibverbs does not pass -Wpedantic
        warn = [w for w in WARN if w != '-Wpedantic'] if header.endswith('verbs.h') else WARN
        # liburing's header is not for strict C
        std = '-std=gnu11' if header.endswith('uring.h') else '-std=c11'
        _run('cc', *warn, std, '-fsyntax-only', '-x', 'c', header,
             *_pkg_config('--cflags', 'invlock'))


def each_header_compiles_alone_as_cpp():
    if not shutil.which('g++'):
        raise tap.Skip('g++ is not installed')
    for header in _headers():
        source = os.path.join(WORK, 'header.cpp')
        with open(source, 'w') as f:
            f.write(f'#include <invlock/{os.path.basename(header)}>\nint main() {{}}\n')
        # what adapters include does not pass -Wpedantic
        adapter = os.path.basename(header)[:-2] in ADAPTERS
        warn = [w for w in WARN if w != '-Wpedantic'] if adapter else WARN
        _run('g++', *warn, '-fsyntax-only', source, *_pkg_config('--cflags', 'invlock'))


def memory_that_a_device_will_fill_is_passed_without_a_warning():
    source = os.path.join(WORK, 'fill.c')
    with open(source, 'w') as f:
        f.write('#include <invlock/cache.h>\n#include <stdlib.h>\n'
                'int main(void)\n{\n\tstruct invlock_pin pin;\n'
                '\treturn invlock_cache_get(NULL, malloc(64), 64, 0, &pin) != -22;\n}\n')
    _run_example(_compile(source))


def the_example_of_a_cache_sees_new_memory():
    program = _compile(f'{ROOT}/examples/cache.c')
    said = _run_example(program)
    assert said == 'memory old, device old\n' * 2 + 'memory new, device new\n', said


def the_example_of_a_cache_in_cpp_sees_new_memory():
    if not shutil.which('g++'):
        raise tap.Skip('g++ is not installed')
    for standard in 'c++17', 'c++20':
        program = os.path.join(WORK, 'cache_cpp')
        _run('g++', *WARN, f'-std={standard}', '-O2', f'{ROOT}/examples/cache.cpp', '-o', program,
             *_pkg_config('--cflags', '--libs', 'invlock'))
        said = _run_example(program)
        assert said == 'memory old, device old\n' * 2 + 'memory new, device new\n' * 2, said


def the_example_of_a_section_is_never_wrong():
    said = _run_example(_compile(f'{ROOT}/examples/section.c', '-pthread'))
    assert re.fullmatch(r'[1-9]\d* uses of [1-9]\d* translations, 0 wrong\n', said), said


def the_example_of_a_section_is_wrong_without_its_check():
    with open(f'{ROOT}/examples/section.c') as f:
        text = f.read()
    planted = os.path.join(WORK, 'planted.c')
    check = 'invlock_read_valid(&rd)'
    assert text.count(check) == 1
    with open(planted, 'w') as f:
        f.write(text.replace(check, '1'))
    program = _compile(planted, '-pthread')
    for _ in range(20):
        done = subprocess.run([program], env=dict(os.environ, LD_LIBRARY_PATH=_libdir()),
                              stdout=subprocess.PIPE, text=True)
        if done.returncode == 1 and not done.stdout.endswith(' 0 wrong\n'):
            return
    assert False, done.stdout


def the_example_of_io_uring_reads_a_whole_file():
    program = _compile(f'{ROOT}/examples/uring.c', packages=['invlock-uring'])
    said = _run_example(program, '/bin/bash')
    assert said.startswith(f'{os.path.getsize("/bin/bash")} bytes, '), said


def the_example_of_a_pool_of_readers_reads_every_byte_right():
    program = _compile(f'{ROOT}/examples/pool.c', '-pthread', packages=['invlock-uring'])
    said = _run_example(program)
    assert re.fullmatch(r'8000 reads, [1-9]\d* of them with registered memory, 0 wrong\n', said), \
        said


def the_example_of_a_pool_of_readers_is_wrong_if_changes_are_not_reported():
    with open(f'{ROOT}/examples/pool.c') as f:
        text = f.read()
    opens = 'invlock_mm_open(NULL, '
    assert text.count(opens) == 1
    planted = os.path.join(WORK, 'planted_pool.c')
    with open(planted, 'w') as f:
        f.write(text.replace(opens, 'invlock_mm_open(&(struct invlock_mm_options){ .size = '
                             'sizeof(struct invlock_mm_options), .monitor = "manual" }, '))
    program = _compile(planted, '-pthread', '-Wno-missing-field-initializers',
                       packages=['invlock-uring'])
    done = subprocess.run([program], env=dict(os.environ, LD_LIBRARY_PATH=_libdir()), text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if 'io_uring' in done.stderr:
        raise tap.Skip(done.stderr.strip())
    assert done.returncode == 1 and re.search(r' [1-9]\d* wrong\n', done.stdout), done.stdout


def each_example_of_the_manual_pages_compiles_and_runs():
    for source in sorted(glob.glob(f'{ROOT}/docs/man/examples/*.c')):
        with open(source, encoding='utf-8') as f:
            used = re.findall('<invlock/(' + '|'.join(ADAPTERS) + r')\.h>', f.read())
        if used and used[0] not in _adapters():
            continue
        package = f'invlock-{used[0]}' if used else 'invlock'
        program = _compile(source, '-pthread', packages=[package])
        # which reads a device: that one names it
        if source.endswith('/nvme.c'):
            continue
        said = _run_example(program)
        assert said, source


def the_example_of_the_cache_page_registers_again_after_a_discard():
    said = _run_example(_compile(f'{ROOT}/docs/man/examples/cache.c'))
    assert said.count('register') == 2 and '2 hits, 2 misses' in said, said


def the_example_of_the_manual_page_is_good_and_then_stale():
    assert _run_example(_compile(f'{ROOT}/docs/man/examples/manual.c')) == 'good\nstale\n'


def the_program_of_the_tutorial_prints_what_the_tutorial_says():
    with open(f'{ROOT}/docs/tutorial.md', encoding='utf-8') as f:
        text = f.read()
    source = os.path.join(WORK, 'first.c')
    with open(source, 'w', encoding='utf-8') as f:
        f.write(re.search(r'^```c\n(.*?)^```', text, flags=re.M | re.S)[1])
    said = _run_example(_compile(source))
    assert 'device "world"' in said and f'```text\n{said}```' in text, said


def the_conversion_in_the_tutorial_turns_wrong_reads_into_right_ones():
    with open(f'{ROOT}/docs/tutorial.md', encoding='utf-8') as f:
        text = f.read()
    for name, word in ('before', 'wrong'), ('after', 'right'):
        source = os.path.join(WORK, f'{name}.c')
        with open(source, 'w', encoding='utf-8') as f:
            f.write(re.search(rf'`{name}\.c`:\n\n```c\n(.*?)^```', text, flags=re.M | re.S)[1])
        said = _run_example(_compile(source, packages=['invlock-uring']))
        assert said.count(word) == (2 if word == 'wrong' else 4), said
        assert f'```text\n{said}```' in text, said


def the_example_in_the_readme_compiles_and_runs():
    with open(f'{ROOT}/README.md') as f:
        code = re.search(r'^```c\n(.*?)^```', f.read(), flags=re.M | re.S)
    assert code, 'README.md has no ```c block'
    source = os.path.join(WORK, 'readme.c')
    with open(source, 'w') as f:
        f.write(code[1])
    _run_example(_compile(source, '-Wno-unused-parameter'))
    shutil.copy(source, source + 'pp')
    # in C++, unlike in C, -Wextra warns of fields that a designated initializer leaves out
    _compile(source + 'pp', '-std=c++20', '-Wno-unused-parameter',
             '-Wno-missing-field-initializers')


def everything_that_names_the_version_says_the_same():
    with open(_one('**/invlock/version.h'), encoding='utf-8') as f:
        header = f.read()
    version = re.search(r'#define INVLOCK_VERSION\s+"(.*)"', header)[1]
    parts = re.findall(r'#define INVLOCK_VERSION_(?:MAJOR|MINOR|PATCH)\s+(\d+)', header)
    assert '.'.join(parts) == version, (parts, version)
    with open(f'{ROOT}/dkms.conf', encoding='utf-8') as f:
        assert f'PACKAGE_VERSION="{version}"' in f.read()
    with open(f'{ROOT}/debian/changelog', encoding='utf-8') as f:
        assert f.readline().startswith(f'invlock ({version}) ')
    for name in 'invlock', *(f'invlock-{a}' for a in _adapters()):
        assert _pkg_config('--modversion', name) == [version]
        assert _one(f'**/lib{name}.so.{version}')
    said = _run_example(_compile(f'{ROOT}/docs/man/examples/version.c'))
    assert said == f'compiled with invlock {version}, runs with {version}\n', said
    assert f'"invlock {version}"' in open(_one('**/man7/invlock_version.7')).readline()


CMAKE_PROJECT = """
cmake_minimum_required(VERSION 3.13)
project(user C)
find_package(invlock {version} REQUIRED COMPONENTS uring)
add_executable(version {root}/docs/man/examples/version.c)
target_link_libraries(version invlock::invlock)
add_executable(static {root}/docs/man/examples/version.c)
target_link_libraries(static invlock::static)
add_executable(uring {root}/examples/uring.c)
target_link_libraries(uring invlock::uring)
"""


def _cmake(version):
    folder = os.path.join(WORK, f'cmake-{version}')
    os.mkdir(folder)
    with open(f'{folder}/CMakeLists.txt', 'w', encoding='utf-8') as f:
        f.write(CMAKE_PROJECT.format(version=version, root=ROOT))
    prefix = os.path.dirname(os.path.dirname(os.path.dirname(_one('**/include/invlock/mm.h'))))
    return folder, ['cmake', '-S', folder, '-B', f'{folder}/build',
                    f'-DCMAKE_PREFIX_PATH={prefix}', '-DCMAKE_FIND_USE_CMAKE_SYSTEM_PATH=OFF']


def a_cmake_project_finds_the_libraries_and_links_each():
    folder, command = _cmake('0.1')
    _run(*command)
    _run('cmake', '--build', f'{folder}/build')
    for name in 'version', 'static':
        said = _run(f'{folder}/build/{name}')
        assert said.startswith('compiled with invlock '), said
    assert 'libinvlock' not in _run('readelf', '-dW', f'{folder}/build/static')
    assert 'libinvlock-uring.so.0' in _run('readelf', '-dW', f'{folder}/build/uring')


def a_cmake_project_that_needs_a_newer_version_is_told_which_there_is():
    for version in '0.99', '1.0':
        said = _run(*_cmake(version)[1], status=1)
        assert 'invlockConfig.cmake, version: 0.' in said, said


def a_program_with_more_rights_than_its_user_ignores_the_environment():
    if os.geteuid():
        raise tap.Skip('only root can make a program run with the rights of another user')
    program = _compile(f'{ROOT}/docs/man/examples/kind.c', f'-Wl,-rpath,{_libdir()}')
    environment = dict(os.environ, INVLOCK_MONITOR='crystal-ball')

    def said():
        return subprocess.run([program], text=True, env=environment, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT).stdout
    assert 'crystal-ball' in said(), said()
    os.chmod(WORK, 0o755)
    os.chown(program, 65534, 65534)
    os.chmod(program, 0o4755)
    if os.statvfs(program).f_flag & os.ST_NOSUID:
        raise tap.Skip(f'{WORK} is on a file system without setuid')
    assert 'crystal-ball' not in said(), said()


def a_program_links_the_library_statically():
    program = os.path.join(WORK, 'static')
    libs = [o for o in _pkg_config('--libs', '--static', 'invlock')]
    try:
        _run('cc', '-O2', '-static', f'{ROOT}/examples/section.c', '-o', program, '-pthread',
             *_pkg_config('--cflags', 'invlock'), *libs)
    except AssertionError as error:
        if 'eu_search_tree_init' in str(error):
            raise tap.Skip('libelf.a lacks functions that it calls, as in Debian 13') from error
        raise
    assert 'statically linked' in _run('file', program) if shutil.which('file') else True
    assert ' 0 wrong' in _run(program)


def the_library_may_be_loaded_and_closed_for_ever():
    program = _compile(f'{ROOT}/tests/install/reload.c', '-pthread', '-D_GNU_SOURCE')
    said = _run_example(program, _one('**/libinvlock.so.0'))
    assert said == '200 rounds\n', said


def _completes(*words):
    """What bash offers for the last of these words."""
    tool = _one('**/bin/invlock')
    return set(_run('bash', '-c', '. "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
                    '_invlock "$1" "${@: -1}" "${@: -2:1}"; printf "%s\\n" "${COMPREPLY[@]}"',
                    _one('**/completions/invlock'), tool, *words).split())


def bash_completes_commands_options_and_monitors():
    assert _completes('') >= {'doctor', 'prove', 'ps', '--help', '--version'}
    assert _completes('doc') == {'doctor'}
    assert _completes('doctor', '--') == {'--help', '--json', '--monitor'}
    assert _completes('ps', '--') == {'--help', '--json', '--no-cost'}
    assert {'--file', '--seconds', '--threads'} <= _completes('prove', '')
    assert _completes('prove', '--monitor', 'u') == {'uffd'}
    assert _completes('prove', '--monitor', 'm') == set()
    assert _completes('doctor', '--monitor', 'm') == {'manual'}
    assert _completes('nonsense', '') == set()


def every_public_function_has_a_manual_page():
    pages = {os.path.basename(p)[:-2] for p in glob.glob(f'{DEST}/**/man3/*.3', recursive=True)}
    assert _declared(_headers()) <= pages, _declared(_headers()) - pages


def every_manual_page_has_an_example_and_names_its_errors():
    for page in glob.glob(f'{DEST}/**/man3/*.3', recursive=True):
        with open(page, encoding='utf-8') as f:
            text = f.read()
        assert '.SH EXAMPLE' in text and '.SH SEE ALSO' in text, page
        # errors are in the list, and not in the sentence about success
        success = re.search(r'\.SH RETURN VALUE\n(.*?)\n\.SH', text, re.S)
        assert not success or '\\-E' not in success[1], page


def every_header_has_a_manual_page_and_the_overview_names_it():
    with open(glob.glob(f'{DEST}/**/man7/invlock.7', recursive=True)[0], encoding='utf-8') as f:
        overview = f.read()
    for header in _headers():
        name = 'invlock_' + os.path.basename(header).removesuffix('.h')
        assert glob.glob(f'{DEST}/**/man7/{name}.7', recursive=True), name
        assert f'.BR {name} (7)' in overview, name


def every_manual_page_formats_without_a_warning():
    pages = sorted(glob.glob(f'{DEST}/**/man[1-8]/*.[1-8]', recursive=True))
    assert pages
    if not shutil.which('groff'):
        raise tap.Skip('groff is not installed')
    for page in pages:
        done = subprocess.run(['groff', '-mandoc', '-ww', '-Tutf8', '-z', page], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert done.returncode == 0 and not done.stdout, (page, done.stdout)


if __name__ == '__main__':
    try:
        tap.run(tap.in_order(globals()))
    finally:
        shutil.rmtree(WORK)
