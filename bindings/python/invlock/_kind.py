# SPDX-License-Identifier: MIT
"""Kinds of change, as <invlock/kind.h> has them."""
from __future__ import annotations

import enum


class Kind(enum.IntFlag):
    """A kind of change of the memory map, or a set of them. See <invlock/feed.h>."""
    UNKNOWN = 1 << 0
    UNMAP = 1 << 1
    FIXED = 1 << 2
    REMAP_FROM = 1 << 3
    REMAP_TO = 1 << 4
    DISCARD = 1 << 5
    FREE = 1 << 6
    REMOVE = 1 << 7
    GUARD = 1 << 8
    BRK = 1 << 9
    SHMDT = 1 << 10
    SHM_REMAP = 1 << 11
    REORDER = 1 << 12
    TRUNCATE = 1 << 13
    TRUNCATE_PRIVATE = 1 << 14
    URING = 1 << 15
    PROTECT = 1 << 16
    MOVE = 1 << 17
    MIGRATE = 1 << 18
    SOFT_DIRTY = 1 << 19
    RELEASE = 1 << 20
    MANUAL = 1 << 21


KINDS_ANON = (Kind.UNMAP | Kind.FIXED | Kind.REMAP_FROM | Kind.REMAP_TO | Kind.DISCARD | Kind.FREE
              | Kind.REMOVE | Kind.GUARD | Kind.BRK | Kind.SHMDT | Kind.SHM_REMAP | Kind.REORDER
              | Kind.URING)
KINDS_SHARED = KINDS_ANON | Kind.TRUNCATE
KINDS_DEFAULT = KINDS_SHARED | Kind.TRUNCATE_PRIVATE
KINDS_UFFD = KINDS_DEFAULT & ~(Kind.GUARD | Kind.SHM_REMAP)
