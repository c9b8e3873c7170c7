# SPDX-License-Identifier: MIT
"""invlock: hold translations of live memory, and never act on a stale one.

    def reg(addr: int, length: int) -> int: ...         # returns a handle
    def dereg(addr: int, length: int, handle: int) -> None: ...

    with invlock.MM() as mm, invlock.Cache(mm, reg, dereg) as cache:
        with cache.get(buffer) as pin:
            device.transfer(pin.handle)                 # put at the end of the block

A buffer is whatever has one in Python: bytearray, memoryview, mmap, array, a numpy array; or a
Range of addresses. It must be contiguous. While a pin is held the buffer is exported, so that
Python does not resize it.

Errors are Error, an OSError whose text is the library's sentence. What reg() raises comes out of
the get() that made it run, and nothing is kept; MemoryError makes room first, and reg() is called
once more. What dereg() raises is reported by sys.unraisablehook, and the registration counts as
undone.

log_set() chooses a function that is told what the library does without an error.

What a result promises, and what threads and forked children may do, is in the manual pages:
man 7 invlock. A Cache and its Pins may be used on any thread. Since: 0.1
"""
from __future__ import annotations

import atexit
import contextlib
import ctypes
import enum
import errno
import operator
import threading
import weakref
from types import TracebackType
from typing import Any, Callable, Iterator, NamedTuple, Optional, Type, TypeVar

from . import _c
from ._kind import KINDS_ANON, KINDS_DEFAULT, KINDS_SHARED, KINDS_UFFD, Kind

__all__ = ['KINDS_ANON', 'KINDS_DEFAULT', 'KINDS_SHARED', 'KINDS_UFFD', 'MM', 'Cache', 'Entry',
           'Error', 'Info', 'Kind', 'LogEvent', 'Moment', 'Pin', 'Range', 'Section', 'Stats',
           'log_set', 'version', 'version_number']

Reg = Callable[[int, int], int]
RegKey = Callable[[int, int, int], int]
Dereg = Callable[[int, int, int], None]
Log = Callable[[int, str], None]
_Self = TypeVar('_Self', bound='_Owner')


class Error(OSError):
    """errno, and strerror: a sentence that says what was wrong."""


class Range(NamedTuple):
    """Memory by its address, where there is no Python object for it."""
    addr: int
    length: int


class Info(NamedTuple):
    """struct invlock_mm_info: what watches, and what it sees."""
    monitor: str
    seen: Kind
    exact: Kind
    refused: Kind
    sequence: int
    lost: int
    dropped: int
    missed: int
    caught: int


class Entry(NamedTuple):
    """struct invlock_cache_entry: a registration."""
    addr: int
    length: int
    handle: int
    key: Optional[int]
    dead: bool
    pinned: bool
    reading: bool

    @classmethod
    def of(cls, entry: _c.CacheEntry) -> Entry:
        """As C lists it."""
        flags = entry.flags
        return cls(entry.addr or 0, entry.len, entry.handle,
                   entry.key if flags & _c.ENTRY_KEYED else None, bool(flags & _c.ENTRY_DEAD),
                   bool(flags & _c.ENTRY_PINNED), bool(flags & _c.ENTRY_READ))


class Stats(NamedTuple):
    """struct invlock_cache_stats: what happened, by cause."""
    entries: int
    dead: int
    bytes: int
    hits: int
    misses: int
    bypassed: int
    stale: int
    collided: int
    evicted: int
    refused: int
    refused_full: int
    refused_busy: int
    refused_reg: int
    reg_calls: int
    dereg_calls: int
    refused_memory: int
    refused_private: int
    refused_shared: int
    refused_dax: int
    refused_foreign: int
    merged: int


def version() -> str:
    """The version of the C library that runs."""
    text: bytes = _c.lib.invlock_version()
    return text.decode()


def version_number() -> int:
    """The same as a number: major << 16 | minor << 8 | patch."""
    number: int = _c.lib.invlock_version_number()
    return number


def _check(err: int, text: str) -> int:
    if err < 0:
        raise Error(-err, text)
    return err


class _View:
    """The address of a buffer, which stays as it is until the view is released."""

    def __init__(self, memory: Any, writable: bool = False) -> None:
        self._buffer: Optional[_c.Buffer] = None
        if isinstance(memory, Range):
            self.addr, self.length = memory
            return
        buffer = _c.Buffer()
        _c.get_buffer(memory, ctypes.byref(buffer), _c.PYBUF_WRITABLE if writable else 0)
        self._buffer = buffer
        self.addr, self.length = buffer.buf or 0, buffer.len

    def release(self) -> None:
        buffer, self._buffer = self._buffer, None
        if buffer:
            _c.release_buffer(ctypes.byref(buffer))

    def __enter__(self) -> _View:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    __del__ = release


class _Owner:
    """The base of what a program opens, and closes at the end of a block."""

    def __init__(self, handle: int) -> None:
        self._handle: Optional[int] = handle

    def _open(self) -> int:
        if self._handle is None:
            raise ValueError(f'this {type(self).__name__} is closed')
        return self._handle

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], value: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, '_handle', None) is not None:
            with contextlib.suppress(OSError):
                self.close()


class MM(_Owner):
    """The address space of this process, and the monitor that watches it.

    monitor: "kmod", "bpf", "daemon", "uffd" or "manual"; None = the best that works
    need: kinds that must be seen; 0 = KINDS_DEFAULT
    """

    def __init__(self, monitor: Optional[str] = None, need: int = 0, selftest: bool = True) -> None:
        options = _c.MmOptions(ctypes.sizeof(_c.MmOptions), 0 if selftest else _c.MM_NO_SELFTEST,
                               monitor.encode() if monitor is not None else None, need)
        opened, why = ctypes.c_void_p(), _c.Why()
        _check(_c.lib.invlock_mm_open(ctypes.byref(options), ctypes.byref(opened),
                                      ctypes.byref(why)), why.text.decode(errors='replace'))
        super().__init__(opened.value or 0)
        # a change that was reported as begun must be reported as ended: until then C's mm is needed
        self._lock = threading.Lock()
        self._changes = 0
        self._to_close: Optional[int] = None

    def close(self) -> None:
        """Drop the reference. A cache keeps one of its own, and so does a block of changing()."""
        with self._lock:
            handle, self._handle = self._handle, None
            if handle is not None and self._changes:
                self._to_close, handle = handle, None
        if handle is not None:
            _c.lib.invlock_mm_close(handle)

    def _change_begins(self, view: _View) -> int:
        with self._lock:
            handle = self._open()
            _check(_c.lib.invlock_manual_start(handle, view.addr, view.length),
                   'only an mm of the monitor "manual" is told of changes')
            self._changes += 1
        return handle

    def _change_ends(self, handle: int, view: _View) -> None:
        _c.lib.invlock_manual_end(handle, view.addr, view.length)
        with self._lock:
            self._changes -= 1
            to_close = None
            if not self._changes:
                to_close, self._to_close = self._to_close, None
        if to_close is not None:
            _c.lib.invlock_mm_close(to_close)

    @property
    def alive(self) -> bool:
        """May this process use it? False when it is closed, and in a forked child."""
        return self._handle is not None and bool(_c.lib.invlock_mm_alive(self._handle))

    def info(self) -> Info:
        info = _c.MmInfo(ctypes.sizeof(_c.MmInfo))
        _check(_c.lib.invlock_mm_info(self._open(), ctypes.byref(info)), 'this mm cannot be asked')
        return Info(info.monitor.decode(), Kind(info.seen), Kind(info.exact), Kind(info.refused),
                    info.sequence, info.lost, info.dropped, info.missed, info.caught)

    def explain(self, memory: Any) -> Optional[str]:
        """None if this memory would be watched, else a sentence that says why it is refused."""
        why = _c.Why()
        with _View(memory) as view:
            err = _c.lib.invlock_mm_explain(self._open(), view.addr, view.length,
                                            ctypes.byref(why))
        text: str = why.text.decode(errors='replace')
        if err not in (0, -errno.EMEDIUMTYPE, -errno.EFAULT):
            raise Error(-err, text)
        return text if err else None

    def moment(self) -> Moment:
        """This moment, for Section.commit_since()."""
        return Moment(self)

    @contextlib.contextmanager
    def changing(self, memory: Any) -> Iterator[None]:
        """Report that memory changes in this block. The monitor has to be "manual"."""
        with _View(memory) as view:
            handle = self._change_begins(view)
            try:
                yield
            finally:
                self._change_ends(handle, view)


class Pin(_Owner):
    """A registration in use: addr, length and handle. It covers the buffer, in whole pages."""

    def __init__(self, cache: Cache, pin: _c.Pin, view: _View) -> None:
        super().__init__(pin.cache)
        self._cache, self._pin, self._view = cache, pin, view
        self.addr: int = pin.addr or 0
        self.length: int = pin.len
        self.handle: int = pin.handle
        cache._pins.add(self)

    def put(self) -> None:
        """Say that the device is done. A second call does nothing."""
        handle, self._handle = self._handle, None
        if handle is not None:
            _c.lib.invlock_cache_put(ctypes.byref(self._pin))
            self._view.release()

    close = put


class _Raised(threading.local):
    """What reg() raised, for the get() of this thread that made it run. Gets can nest."""

    def __init__(self) -> None:
        self.stack: list[Optional[BaseException]] = []

    def set(self, what: Optional[BaseException]) -> None:
        if self.stack:
            self.stack[-1] = what


_raised = _Raised()
_deregs = threading.local()     # .run: how many dereg() run on this thread
_open_caches: weakref.WeakSet[Cache] = weakref.WeakSet()


def _errno_of(what: BaseException) -> int:
    if isinstance(what, MemoryError):
        return errno.ENOMEM
    if isinstance(what, OSError) and what.errno and what.errno > 0:
        return what.errno
    return errno.ECANCELED


def _call_reg(reg: Callable[..., int], ret_handle: Any, *arguments: int) -> int:
    """Calls reg() for C. No exception leaves this."""
    try:
        handle = operator.index(reg(*arguments))
        if not 0 <= handle < 1 << 64:
            raise OverflowError(f'a handle has 64 bits, and {handle} does not fit')
        ret_handle[0] = handle
    except BaseException as what:   # it goes on in get()
        _raised.set(what)
        return -_errno_of(what)
    _raised.set(None)
    return 0


def _reg_for_c(reg: Optional[Reg]) -> Any:
    """The function that C calls."""
    def c_reg(_: object, addr: int, length: int, ret_handle: Any) -> int:
        assert reg
        return _call_reg(reg, ret_handle, addr, length)

    return _c.REG(c_reg) if reg else _c.REG(0)


def _reg_key_for_c(reg_key: Optional[RegKey]) -> Any:
    """The function that C calls."""
    def c_reg_key(_: object, addr: int, length: int, key: int, ret_handle: Any) -> int:
        assert reg_key
        return _call_reg(reg_key, ret_handle, addr, length, key)

    return _c.REG_KEY(c_reg_key) if reg_key else _c.REG_KEY(0)


def _dereg_for_c(dereg: Dereg) -> Any:
    """The function that C calls. ctypes reports an exception of dereg()."""
    def c_dereg(_: object, addr: int, length: int, handle: int) -> None:
        _deregs.run = getattr(_deregs, 'run', 0) + 1
        try:
            dereg(addr, length, handle)
        finally:
            _deregs.run -= 1

    return _c.DEREG(c_dereg)


class Cache(_Owner):
    """A cache of registrations. The keywords are those of struct invlock_cache_options.

    With a reaper, dereg() is also called on a thread of the library.
    """

    def __init__(self, mm: MM, reg: Reg, dereg: Dereg, *, reg_read: Optional[Reg] = None,
                 reg_key: Optional[RegKey] = None, reaper: bool = True, need: int = 0,
                 max_entries: int = 0, max_bytes: int = 0, granule: int = 0, rounds: int = 0,
                 time_ns: int = 0, reap_ms: int = 0, max_merged: int = 0) -> None:
        # kept for as long as C may call them
        self._ops = _c.CacheOps(_reg_for_c(reg), _dereg_for_c(dereg))
        self._reg_read, self._reg_key = _reg_for_c(reg_read), _reg_key_for_c(reg_key)
        options = _c.CacheOptions(
            ctypes.sizeof(_c.CacheOptions), _c.CACHE_REAPER if reaper else _c.CACHE_NO_REAPER,
            self._ops, None, need, max_entries, max_bytes, granule, rounds, time_ns, reap_ms,
            self._reg_read, self._reg_key, max_merged)
        opened, why = ctypes.c_void_p(), _c.Why()
        _check(_c.lib.invlock_cache_open(mm._open(), ctypes.byref(options), ctypes.byref(opened),
                                         ctypes.byref(why)), why.text.decode(errors='replace'))
        super().__init__(opened.value or 0)
        self._pins: weakref.WeakSet[Pin] = weakref.WeakSet()
        _open_caches.add(self)

    def close(self) -> None:
        """Deregister everything. Error with EBUSY while a pin is held: then the cache goes on."""
        if self._handle is not None:
            err = _c.lib.invlock_cache_close(self._handle)
            _check(err, 'a pin of this cache is held' if err == -errno.EBUSY else
                   'a function of this cache closes it')
            self._handle = None
            _open_caches.discard(self)

    def __del__(self) -> None:
        # The collector may run in a dereg() on the library's thread, for which close() waits.
        if getattr(_deregs, 'run', 0):
            threading.Thread(target=super().__del__, name='invlock-close').start()
        else:
            super().__del__()

    def get(self, memory: Any, *, reading: bool = False, bypass: bool = False,
            cached: bool = False, key: Optional[int] = None) -> Pin:
        """A valid registration of this memory.

        reading: the device will only read the memory, which may then be read-only, as bytes are
        bypass: register for this pin alone; cached: return a hit or raise Error with ENOENT
        key: only a registration that reg_key() has made for this number
        """
        flags = ((_c.GET_READ if reading else 0) | (_c.GET_BYPASS if bypass else 0)
                 | (_c.GET_CACHED if cached else 0))
        view, pin = _View(memory, writable=not reading), _c.Pin()
        _raised.stack.append(None)
        try:
            if key is None:
                err = _c.lib.invlock_cache_get(self._open(), view.addr, view.length, flags,
                                               ctypes.byref(pin))
            else:
                err = _c.lib.invlock_cache_get_key(self._open(), view.addr, view.length, flags,
                                                   key, ctypes.byref(pin))
        finally:
            raised = _raised.stack.pop()
        if not err:
            return Pin(self, pin, view)
        view.release()
        if raised:
            raise raised
        raise Error(-err, 'this memory is not cached: use it without a registration')

    def drop(self, memory: Any) -> int:
        """Drop every registration that overlaps; returns how many there were."""
        with _View(memory) as view:
            return _check(_c.lib.invlock_cache_drop(self._open(), view.addr, view.length),
                          'there is nothing to drop in this range')

    def reap(self) -> int:
        """Deregister what is dead and not in use; returns how many there were."""
        return _check(_c.lib.invlock_cache_reap(self._open()), 'this cache cannot be reaped')

    def entries(self) -> list[Entry]:
        """What is registered, in no particular order: to debug."""
        room = 0
        while True:
            listed = (_c.CacheEntry * room)()
            nr = _check(_c.lib.invlock_cache_list(self._open(), listed, room),
                        'this cache cannot be listed')
            if nr <= room:
                return [Entry.of(entry) for entry in listed[:nr]]
            room = 2 * nr

    def fileno(self) -> int:
        """Readable when it is time to reap() a cache without a reaper: for select, and asyncio."""
        return _check(_c.lib.invlock_cache_fd(self._open()), 'this cache has no descriptor')

    def stats(self) -> Stats:
        stats = _c.CacheStats(ctypes.sizeof(_c.CacheStats))
        _check(_c.lib.invlock_cache_stats(self._open(), ctypes.byref(stats)),
               'this cache cannot be asked')
        return Stats(*(getattr(stats, name) for name in Stats._fields))


class Moment:
    """A moment of an MM, before a translation whose memory is known only when it is made."""

    def __init__(self, mm: MM) -> None:
        self._moment = _c.Moment()
        _c.lib.invlock_moment_take(ctypes.byref(self._moment), mm._open())


class Section(_Owner):
    """A read section: make a translation, and know whether it is valid. See invlock_section(7).

        with invlock.Section(mm, buffer) as section:
            while section.attempt():
                translate()
                if section.commit():
                    break
                undo()
            section.check()
            ... as long as section.valid()
    """

    def __init__(self, mm: MM, memory: Any, *, rounds: int = 0, time_ns: int = 0) -> None:
        self._mm, self._view, self._read = mm, _View(memory), _c.Read()
        self._budget = _c.ReadBudget(rounds, time_ns)
        _c.lib.invlock_read_init(ctypes.byref(self._read), mm._open(), self._view.addr,
                                 self._view.length, ctypes.byref(self._budget), 0)
        super().__init__(1)

    def _call(self, name: str) -> int:
        self._open()
        answer: int = getattr(_c.lib, 'invlock_read_' + name)(ctypes.byref(self._read))
        return answer

    def attempt(self) -> bool:
        return bool(self._call('attempt'))

    def commit(self) -> bool:
        return bool(self._call('commit'))

    def commit_since(self, moment: Moment) -> bool:
        """Instead of the loop, for a translation that was begun after the moment."""
        self._open()
        return bool(_c.lib.invlock_read_commit_since(ctypes.byref(self._read),
                                                     ctypes.byref(moment._moment)))

    def valid(self) -> bool:
        return bool(self._call('valid'))

    def check(self) -> None:
        """Raise Error unless the loop ended with a commit."""
        _check(self._call('error'), 'this memory is not translated')

    def close(self) -> None:
        if self._handle is not None:
            self._call('end')
            self._handle = None
            self._view.release()


class LogEvent(enum.IntEnum):
    """What is logged. <invlock/log.h> explains each."""
    OPENED = 1
    CLOSED = 2
    KEPT = 3
    SLOWER = 4


# C may still be in a function when another one is chosen, so all are kept
_logs: list[Any] = []


def _log_for_c(log: Log) -> Any:
    """The function that C calls. ctypes reports an exception of log()."""
    def c_log(_: object, event: int, text: bytes) -> None:
        known = event in LogEvent.__members__.values()
        log(LogEvent(event) if known else event, text.decode(errors='replace'))

    return _c.LOG(c_log)


def log_set(log: Optional[Log]) -> None:
    """Choose what is called with a LogEvent and a sentence; None = nobody is told.

    An event that a later version of the library adds is a plain number. The function is called on
    any thread, and must not use this package. What it raises goes to sys.unraisablehook.
    """
    _logs.append(_log_for_c(log) if log else _c.LOG(0))
    _check(_c.lib.invlock_log_set(_logs[-1], None), 'out of memory')


@atexit.register
def _close_all() -> None:
    # The library's thread must not call into an interpreter that is gone. A pin that is still held
    # would keep its cache open.
    for cache in list(_open_caches):
        for pin in list(cache._pins):
            pin.put()
        with contextlib.suppress(OSError):
            cache.close()
    with contextlib.suppress(OSError):
        log_set(None)
