# SPDX-License-Identifier: MIT
"""The Python package: buffers, blocks, errors, and what becomes of an exception."""
import array
import contextlib
import ctypes
import errno
import gc
import inspect
import mmap
import os
import select
import subprocess
import sys
import threading
import time

import pytest

import invlock

PAGE = mmap.PAGESIZE


def test_an_unknown_monitor_is_named_in_the_error():
    with pytest.raises(invlock.Error, match='crystal-ball') as raised:
        invlock.MM('crystal-ball')
    assert raised.value.errno == errno.EINVAL
    assert isinstance(raised.value, OSError)


def test_an_mm_says_what_watches_and_is_closed_at_the_end_of_its_block(mm):
    assert mm.alive
    assert mm.info().monitor == 'manual'
    assert mm.info().seen == invlock.Kind.MANUAL
    with invlock.MM('manual') as other:
        assert other.alive
    assert not other.alive
    other.close()
    with pytest.raises(ValueError, match='closed'):
        other.info()


def test_a_key_has_registrations_of_its_own_and_they_are_listed(mm, pages):
    made = []

    def reg_key(addr, length, key):
        made.append((addr, length, key))
        return 100 + len(made)

    with invlock.Cache(mm, lambda addr, length: 1, lambda *_: None, reg_key=reg_key) as cache:
        with cache.get(pages, key=7) as seven, cache.get(pages, key=8) as eight:
            assert (seven.handle, eight.handle) == (101, 102)
            with cache.get(pages) as plain, cache.get(pages, key=7) as again:
                assert (plain.handle, again.handle) == (1, 101)
        assert [key for _, _, key in made] == [7, 8]
        entries = sorted(cache.entries(), key=lambda entry: entry.handle)
        assert [(e.handle, e.key) for e in entries] == [(1, None), (101, 7), (102, 8)]
        assert all(e.length == 2 * PAGE and not e.dead and not e.pinned for e in entries)


def test_pieces_are_merged_if_the_cache_is_asked_to(mm, device, pages):
    view = memoryview(pages)
    for most, length, merged in ((0, PAGE, 0), (PAGE, PAGE, 0), (2 * PAGE, 2 * PAGE, 1)):
        with invlock.Cache(mm, device.reg, device.dereg, max_merged=most) as cache:
            with cache.get(view[:PAGE]):
                pass
            with cache.get(view[PAGE:]) as pin:
                assert pin.length == length
            assert cache.stats().merged == merged
    with pytest.raises(invlock.Error, match='max_merged'):
        invlock.Cache(mm, device.reg, device.dereg, max_merged=1)


def test_a_hit_is_the_same_registration_and_a_change_makes_another(mm, cache, device, pages):
    with cache.get(pages) as first, cache.get(pages) as second:
        assert first.handle == second.handle == 1
        assert first.length == 2 * PAGE
    with mm.changing(pages):
        pass
    with cache.get(pages) as pin:
        assert pin.handle == 2
    assert cache.stats().hits == 1
    assert cache.stats().stale == 1


@pytest.mark.parametrize('memory', [
    bytearray(3 * PAGE), memoryview(bytearray(3 * PAGE))[100:-100],
    array.array('d', [0.0] * PAGE), (ctypes.c_char * PAGE)()],
    ids=['bytearray', 'memoryview', 'array', 'ctypes'])
def test_memory_is_any_contiguous_buffer(cache, memory):
    view = memoryview(memory)
    with cache.get(memory) as pin:
        assert pin.length >= view.nbytes
        assert pin.length % PAGE == 0 and pin.addr % PAGE == 0


def test_memory_is_a_numpy_array(cache, device):
    numpy = pytest.importorskip('numpy', reason='numpy is not installed')
    matrix = numpy.zeros((64, 64))
    with cache.get(matrix) as pin:
        assert pin.addr <= matrix.ctypes.data
        assert matrix.ctypes.data + matrix.nbytes <= pin.addr + pin.length
    with pytest.raises(ValueError, match='contiguous'):
        cache.get(matrix[:, ::2])


def test_read_only_memory_is_for_devices_that_only_read(mm, device):
    memory = bytes(3 * PAGE)
    with invlock.Cache(mm, device.reg, device.dereg, reaper=False,
                       reg_read=lambda addr, length: device.reg(addr, length) + 100) as cache:
        with pytest.raises(BufferError):
            cache.get(memory)
        with cache.get(memory, reading=True) as pin:
            assert pin.handle == 101
        device.live[101] = device.live.pop(1)


def test_memory_is_a_range_of_addresses(cache, pages):
    addr = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    with cache.get(invlock.Range(addr + 1, 10)) as pin:
        assert (pin.addr, pin.length) == (addr, PAGE)


def test_what_has_no_buffer_is_refused(cache):
    with pytest.raises(TypeError):
        cache.get(17)
    with pytest.raises(BufferError):
        cache.get(memoryview(bytearray(8))[::2])
    with pytest.raises(invlock.Error) as raised:
        cache.get(bytearray())
    assert raised.value.errno == errno.EINVAL


def test_a_buffer_is_not_resized_while_its_pin_is_held(cache):
    memory = bytearray(PAGE)
    with cache.get(memory):
        with pytest.raises(BufferError):
            memory.extend(bytes(PAGE))
    memory.extend(bytes(PAGE))
    pin = cache.get(memory)
    del pin
    gc.collect()
    memory.extend(bytes(PAGE))


def test_a_cache_with_a_pin_held_does_not_close_and_goes_on(mm, device, pages):
    cache = invlock.Cache(mm, device.reg, device.dereg, reaper=False)
    pin = cache.get(pages)
    with pytest.raises(invlock.Error) as raised:
        cache.close()
    assert raised.value.errno == errno.EBUSY
    pin.put()
    pin.put()
    cache.close()
    cache.close()
    assert device.nr_dereg == 1
    with pytest.raises(ValueError, match='closed'):
        cache.get(pages)


def test_a_cache_that_nobody_holds_deregisters_what_it_had(mm, device, pages):
    cache = invlock.Cache(mm, device.reg, device.dereg, reaper=False)
    cache.get(pages).put()
    del cache
    gc.collect()
    assert device.nr_dereg == 1


def reaper_runs():
    for task in os.listdir('/proc/self/task'):
        # a thread that has been joined may stand there for a moment
        with contextlib.suppress(OSError), open(f'/proc/self/task/{task}/comm') as comm:
            if comm.read() == 'invlock-reaper\n':
                return True
    return False


def test_a_cache_is_collected_while_the_reaper_is_in_its_dereg(mm, device, pages):
    entered, dropped, collected = threading.Event(), threading.Event(), threading.Event()

    def dereg(*arguments):
        entered.set()
        dropped.wait()
        gc.collect()
        device.dereg(*arguments)
        collected.set()

    gc.disable()
    try:
        cache = invlock.Cache(mm, device.reg, dereg, reap_ms=1)
        cache.get(pages).put()
        with mm.changing(pages):
            pass
        entered.wait()
        cache.cycle = cache
        del cache
        dropped.set()
        collected.wait()
    finally:
        gc.enable()
    for thread in threading.enumerate():
        if thread.name == 'invlock-close':
            thread.join()
    assert device.nr_dereg == 1
    # it ends with the last cache
    while reaper_runs():
        time.sleep(0.001)


def test_what_reg_raises_comes_out_of_the_get_and_nothing_is_kept(cache, device, pages):
    what = LookupError('no window is free')
    device.raises = [what]
    with pytest.raises(LookupError) as raised:
        cache.get(pages)
    assert raised.value is what
    assert cache.stats().entries == 0
    # it is forgotten, and the buffer is let go
    with pytest.raises(invlock.Error) as raised:
        cache.get(invlock.Range(0, 0))
    assert raised.value.errno == errno.EINVAL
    with cache.get(pages) as pin:
        assert pin.handle == 1
    pages.resize(4 * PAGE)


def test_keyboard_interrupt_comes_out_as_well(cache, device, pages):
    device.raises = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        cache.get(pages)


def test_memory_error_makes_room_and_tries_once_more(cache, device, pages):
    cache.get(bytearray(PAGE)).put()
    device.raises = [MemoryError()]
    with cache.get(pages) as pin:
        assert pin.handle == 2
    assert device.nr_dereg == 1


def test_a_handle_that_does_not_fit_is_an_error(mm, pages):
    for handle, kind in ((-1, OverflowError), (1 << 64, OverflowError), ('one', TypeError)):
        with invlock.Cache(mm, lambda addr, length: handle, lambda *_: None, reaper=False) as cache:
            with pytest.raises(kind):
                cache.get(pages)


def test_a_get_inside_reg_does_not_take_the_exception_of_another(mm, pages):
    inner = []

    def reg(addr, length):
        if length == PAGE:
            raise LookupError('inner')
        try:
            cache.get(invlock.Range(addr, 1))
        except LookupError as what:
            inner.append(what)
        raise ValueError('outer')

    with invlock.Cache(mm, reg, lambda *_: None, reaper=False) as cache:
        with pytest.raises(ValueError, match='outer'):
            cache.get(pages)
    assert len(inner) == 1


def test_what_dereg_raises_is_reported_and_the_cache_goes_on(mm, pages, monkeypatch):
    reported = []
    monkeypatch.setattr(sys, 'unraisablehook', lambda what: reported.append(what.exc_value))

    def dereg(addr, length, handle):
        raise LookupError('the device does not let go')

    with invlock.Cache(mm, lambda addr, length: 1, dereg, reaper=False) as cache:
        cache.get(pages).put()
        assert cache.drop(pages) == 1
        assert cache.stats().dereg_calls == 1
    assert [str(what) for what in reported] == ['the device does not let go']


@pytest.fixture
def told():
    """What the log was told."""
    told = []
    invlock.log_set(lambda event, text: told.append((event, text)))
    yield told
    invlock.log_set(None)


def test_the_log_is_told_what_was_opened_until_another_is_chosen(told):
    invlock.MM('manual').close()
    (event, text), = told
    assert event is invlock.LogEvent.OPENED and 'manual' in text
    others = []
    invlock.log_set(lambda event, text: others.append(event))
    invlock.MM('manual').close()
    invlock.log_set(None)
    invlock.MM('manual').close()
    assert len(told) == len(others) == 1


def test_the_log_is_told_on_the_thread_that_finds_something_out(told):
    threads = []
    invlock.log_set(lambda event, text: threads.append(threading.get_ident()))
    thread = threading.Thread(target=lambda: invlock.MM('manual').close())
    thread.start()
    thread.join()
    assert threads == [thread.ident]


def test_what_the_log_raises_is_reported_and_the_open_succeeds(told, monkeypatch):
    reported = []
    monkeypatch.setattr(sys, 'unraisablehook', lambda what: reported.append(what.exc_value))

    def log(event, text):
        raise LookupError('the disk is full')

    invlock.log_set(log)
    with invlock.MM('manual') as mm:
        assert mm.alive
    assert [str(what) for what in reported] == ['the disk is full']


def test_an_event_of_a_later_library_is_a_number(told):
    invlock._logs[-1](None, 99, b'a sentence')
    assert told == [(99, 'a sentence')]


def test_a_log_ends_with_the_interpreter():
    done = subprocess.run([sys.executable, '-c', f"""if True:
        import atexit, sys
        sys.path[:0] = {sys.path!r}
        # what is registered first runs last: here the log is not called any more
        atexit.register(lambda: invlock.MM('manual').close())
        import invlock
        invlock.log_set(lambda event, text: print('told'))
        invlock.MM('manual').close()
        """], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == 'told\n'


def test_a_thread_of_the_library_deregisters_what_is_dead(mm, device, pages):
    gone = threading.Event()

    def dereg(addr, length, handle):
        device.dereg(addr, length, handle)
        gone.set()

    with invlock.Cache(mm, device.reg, dereg, reap_ms=1) as cache:
        cache.get(pages).put()
        with mm.changing(pages):
            pass
        assert gone.wait(60)


def test_the_descriptor_says_when_to_reap(mm, cache, device, pages):
    cache.get(pages).put()
    with mm.changing(pages):
        pass
    assert select.select([cache], [], [], 60)[0] == [cache]
    assert cache.reap() == 1
    assert device.nr_dereg == 1


def test_hits_only_and_past_the_cache(cache, device, pages):
    with pytest.raises(invlock.Error) as raised:
        cache.get(pages, cached=True)
    assert raised.value.errno == errno.ENOENT
    with cache.get(pages, bypass=True):
        assert cache.stats().bypassed == 1
    assert device.nr_dereg == 1


def test_a_section_that_collides_goes_round_and_is_stale_after_a_change(mm, pages):
    rounds = 0
    with invlock.Section(mm, pages) as section:
        while section.attempt():
            rounds += 1
            if rounds == 1:
                with mm.changing(pages):
                    pass
            if section.commit():
                break
        section.check()
        assert rounds == 2
        assert section.valid()
        with mm.changing(pages):
            pass
        assert not section.valid()
    with pytest.raises(ValueError, match='closed'):
        section.valid()


def test_a_translation_since_a_moment_is_committed_unless_its_memory_changed(mm, pages):
    before = mm.moment()
    with invlock.Section(mm, pages) as section:
        assert section.commit_since(before)
        with mm.changing(pages):
            pass
        assert not section.valid()
    with invlock.Section(mm, pages) as section:
        assert not section.commit_since(before)


def test_a_section_that_never_commits_says_so(mm, pages):
    with invlock.Section(mm, pages, rounds=3) as section:
        while section.attempt():
            with mm.changing(pages):
                pass
            assert not section.commit()
        with pytest.raises(invlock.Error) as raised:
            section.check()
    assert raised.value.errno == errno.EBUSY


def test_changes_are_reported_to_the_manual_monitor_alone(pages):
    try:
        mm = invlock.MM(need=invlock.Kind.UNMAP)
    except invlock.Error as why:
        pytest.skip(str(why))
    with mm, pytest.raises(invlock.Error) as raised:
        with mm.changing(pages):
            pass
    assert raised.value.errno == errno.EINVAL


def test_memory_that_is_not_watched_is_explained(mm):
    assert mm.explain(bytearray(PAGE)) is None
    with pytest.raises(invlock.Error, match='empty') as raised:
        mm.explain(invlock.Range(PAGE, 0))
    assert raised.value.errno == errno.EINVAL


def test_a_real_monitor_sees_that_memory_was_unmapped_and_mapped_again(device):
    need = invlock.Kind.DISCARD
    try:
        mm = invlock.MM(need=need)
    except invlock.Error as why:
        pytest.skip(str(why))
    memory = mmap.mmap(-1, 16 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with mm, invlock.Cache(mm, device.reg, device.dereg, need=need, reaper=False) as cache:
        for handle in 1, 2, 3:
            cache.get(memory).put()
            with cache.get(memory) as pin:
                assert pin.handle == handle
            memory.madvise(mmap.MADV_DONTNEED)


def test_a_forked_child_inherits_nothing_that_works(mm, cache, pages):
    pin = cache.get(pages)
    child = os.fork()
    if not child:
        code = 1
        try:
            cache.get(pages)
        except invlock.Error as dead:
            code = 0 if dead.errno == errno.EOWNERDEAD and not mm.alive else 2
        os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    pin.put()


def test_a_program_that_ends_with_all_open_ends_well():
    program = '''if True:
        import invlock, mmap
        mm = invlock.MM('manual')
        cache = invlock.Cache(mm, lambda addr, length: print('reg') or 1,
                              lambda *_: print('dereg'))
        memory = mmap.mmap(-1, 4096)
        cache.get(memory).put()
        mm.changing(memory).__enter__()
    '''
    path = os.pathsep.join(sys.path)
    done = subprocess.run([sys.executable, '-c', program], env=dict(os.environ, PYTHONPATH=path),
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert (done.returncode, done.stdout) == (0, 'reg\ndereg\n')


def test_every_public_function_says_its_types():
    bare = []
    for name in invlock.__all__:
        thing = getattr(invlock, name)
        functions = [thing] if inspect.isfunction(thing) else [
            f for n, f in vars(thing).items() if inspect.isfunction(f) and
            (n == '__init__' or not n.startswith('_'))] if inspect.isclass(thing) else []
        for function in functions:
            signature = inspect.signature(function)
            if not issubclass(thing if inspect.isclass(thing) else object, tuple) and (
                    signature.return_annotation is inspect.Signature.empty or any(
                        p.annotation is inspect.Parameter.empty
                        for p in list(signature.parameters.values())[inspect.isclass(thing):])):
                bare.append(f'{name}.{function.__name__}')
    assert not bare
    assert os.path.exists(os.path.join(os.path.dirname(invlock.__file__), 'py.typed'))


def test_an_mm_that_is_closed_inside_of_a_change_is_closed_when_the_change_has_ended(pages):
    registered = []
    with invlock.MM('manual') as mm, invlock.Cache(mm, lambda *_: registered.append(1) or 0,
                                                   lambda *_: None) as cache:
        with mm.changing(pages):
            with mm.changing(pages):
                mm.close()
                assert not mm.alive
        # The range is quiet again: the cache, which has a reference of its own, can register it.
        with cache.get(pages):
            assert registered
        with pytest.raises(ValueError, match='closed'):
            with mm.changing(pages):
                pass


def test_a_pin_that_is_held_at_the_end_of_the_program_is_put():
    program = """if True:
        import invlock
        mm = invlock.MM('manual')
        cache = invlock.Cache(mm, lambda *_: 7, lambda *a: print('undone', a[2], flush=True))
        memory = bytearray(4096)
        pin = cache.get(memory)
    """
    path = os.path.dirname(os.path.dirname(invlock.__file__))
    done = subprocess.run([sys.executable, '-c', program], env=dict(os.environ, PYTHONPATH=path),
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert (done.returncode, done.stdout) == (0, 'undone 7\n')
