# SPDX-License-Identifier: MIT
"""The C interface, as ctypes sees it. tests/python compares it with the headers."""
from __future__ import annotations

import ctypes
import os
from ctypes import (CFUNCTYPE, POINTER, Structure, c_bool, c_char, c_char_p, c_int, c_size_t,
                    c_ssize_t, c_uint, c_uint64, c_void_p, py_object)

# INVLOCK_LIBRARY names the file if it is where the dynamic linker does not look
lib = ctypes.CDLL(os.environ.get('INVLOCK_LIBRARY', 'libinvlock.so.0'))

MM_NO_SELFTEST = 1
CACHE_REAPER = 1
CACHE_NO_REAPER = 2
GET_BYPASS = 1
GET_CACHED = 2
GET_READ = 4
ENTRY_DEAD = 1
ENTRY_PINNED = 2
ENTRY_READ = 4
ENTRY_KEYED = 8
READ_INTERRUPTIBLE = 1
READ_UNWATCHED = 2
PYBUF_WRITABLE = 1

REG = CFUNCTYPE(c_int, c_void_p, c_void_p, c_size_t, POINTER(c_uint64))
REG_KEY = CFUNCTYPE(c_int, c_void_p, c_void_p, c_size_t, c_uint64, POINTER(c_uint64))
DEREG = CFUNCTYPE(None, c_void_p, c_void_p, c_size_t, c_uint64)
LOG = CFUNCTYPE(None, c_void_p, c_int, c_char_p)


class Why(Structure):
    """struct invlock_why"""
    _fields_ = [('text', c_char * 2048)]


class MmOptions(Structure):
    """struct invlock_mm_options"""
    _fields_ = [('size', c_size_t), ('flags', c_uint), ('monitor', c_char_p), ('need', c_uint64)]


class MmInfo(Structure):
    """struct invlock_mm_info"""
    _fields_ = [
        ('size', c_size_t), ('monitor', c_char_p), ('seen', c_uint64), ('exact', c_uint64),
        ('sequence', c_uint64), ('lost', c_uint64), ('dropped', c_uint64), ('missed', c_uint64),
        ('feed', c_void_p), ('feed_size', c_size_t), ('refused', c_uint64), ('caught', c_uint64),
    ]


class CacheOps(Structure):
    """struct invlock_cache_ops"""
    _fields_ = [('reg', REG), ('dereg', DEREG)]


class CacheOptions(Structure):
    """struct invlock_cache_options"""
    _fields_ = [('size', c_size_t), ('flags', c_uint), ('ops', CacheOps), ('ctx', c_void_p),
                ('need', c_uint64), ('max_entries', c_uint), ('max_bytes', c_uint64),
                ('granule', c_size_t), ('rounds', c_uint), ('time_ns', c_uint64),
                ('reap_ms', c_uint), ('reg_read', REG), ('reg_key', REG_KEY),
                ('max_merged', c_uint64)]


class Pin(Structure):
    """struct invlock_pin"""
    _fields_ = [('addr', c_void_p), ('len', c_size_t), ('handle', c_uint64), ('cache', c_void_p),
                ('slot', c_void_p), ('ticket', c_uint64)]


class CacheStats(Structure):
    """struct invlock_cache_stats"""
    _fields_ = [('size', c_size_t)] + [(name, c_uint64) for name in (
        'entries', 'dead', 'bytes', 'hits', 'misses', 'bypassed', 'stale', 'collided', 'evicted',
        'refused', 'refused_full', 'refused_busy', 'refused_reg', 'reg_calls', 'dereg_calls',
        'refused_memory', 'refused_private', 'refused_shared', 'refused_dax', 'refused_foreign',
        'merged')]


class CacheEntry(Structure):
    """struct invlock_cache_entry"""
    _fields_ = [('addr', c_void_p), ('len', c_size_t), ('handle', c_uint64), ('key', c_uint64),
                ('flags', c_uint), ('reserved', c_uint)]


class Read(Structure):
    """struct invlock_read"""
    _fields_ = [('opaque', c_uint64 * 24)]


class ReadBudget(Structure):
    """struct invlock_read_budget"""
    _fields_ = [('rounds', c_uint), ('time_ns', c_uint64)]


class Moment(Structure):
    """struct invlock_moment"""
    _fields_ = [('opaque', c_uint64 * 4)]


class Buffer(Structure):
    """Python's Py_buffer, which is part of its stable ABI"""
    _fields_ = [('buf', c_void_p), ('obj', c_void_p), ('len', c_ssize_t), ('itemsize', c_ssize_t),
                ('readonly', c_int), ('ndim', c_int), ('format', c_char_p),
                ('shape', POINTER(c_ssize_t)), ('strides', POINTER(c_ssize_t)),
                ('suboffsets', POINTER(c_ssize_t)), ('internal', c_void_p)]


def _declare(name: str, returns: object, *arguments: object) -> None:
    function = getattr(lib, 'invlock_' + name)
    function.restype, function.argtypes = returns, arguments


# A pointer to what was opened is passed on as a number.
_declare('version', c_char_p)
_declare('version_number', c_uint)
_declare('kind_name', c_char_p, c_uint)
_declare('mm_open', c_int, POINTER(MmOptions), POINTER(c_void_p), POINTER(Why))
_declare('mm_close', None, c_void_p)
_declare('mm_alive', c_bool, c_void_p)
_declare('mm_info', c_int, c_void_p, POINTER(MmInfo))
_declare('mm_explain', c_int, c_void_p, c_void_p, c_size_t, POINTER(Why))
_declare('manual_start', c_int, c_void_p, c_void_p, c_size_t)
_declare('manual_end', c_int, c_void_p, c_void_p, c_size_t)
_declare('cache_open', c_int, c_void_p, POINTER(CacheOptions), POINTER(c_void_p), POINTER(Why))
_declare('cache_close', c_int, c_void_p)
_declare('cache_get', c_int, c_void_p, c_void_p, c_size_t, c_uint, POINTER(Pin))
_declare('cache_get_key', c_int, c_void_p, c_void_p, c_size_t, c_uint, c_uint64, POINTER(Pin))
_declare('cache_list', c_int, c_void_p, POINTER(CacheEntry), c_uint)
_declare('cache_put', c_int, POINTER(Pin))
_declare('cache_drop', c_int, c_void_p, c_void_p, c_size_t)
_declare('cache_reap', c_int, c_void_p)
_declare('cache_fd', c_int, c_void_p)
_declare('cache_stats', c_int, c_void_p, POINTER(CacheStats))
_declare('log_set', c_int, LOG, c_void_p)
_declare('read_init', None, POINTER(Read), c_void_p, c_void_p, c_size_t, POINTER(ReadBudget),
         c_uint)
_declare('read_attempt', c_bool, POINTER(Read))
_declare('read_commit', c_bool, POINTER(Read))
_declare('moment_take', c_bool, POINTER(Moment), c_void_p)
_declare('read_commit_since', c_bool, POINTER(Read), POINTER(Moment))
_declare('read_valid', c_bool, POINTER(Read))
_declare('read_end', None, POINTER(Read))
_declare('read_error', c_int, POINTER(Read))

get_buffer = ctypes.pythonapi.PyObject_GetBuffer
get_buffer.restype, get_buffer.argtypes = c_int, (py_object, POINTER(Buffer), c_int)
release_buffer = ctypes.pythonapi.PyBuffer_Release
release_buffer.restype, release_buffer.argtypes = None, (POINTER(Buffer),)
