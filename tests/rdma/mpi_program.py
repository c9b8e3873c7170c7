# SPDX-License-Identifier: MIT
"""An ordinary program of mpi4py: rank 0 sends from memory, and rank 1 receives into memory, that
changes between two messages. It knows nothing of invlock.

usage: mpirun -n 2 python3 mpi_program.py MESSAGES
"""

import mmap
import os
import random
import sys

import mpi4py

# with threads, Open MPI needs an instruction (cmpxchg16b) that the guest's CPU does not have
mpi4py.rc.thread_level = "single"
from mpi4py import MPI  # noqa: E402

LEN = 65536


def nothing(mem: mmap.mmap, _file: int) -> mmap.mmap:
    return mem


def map_again(mem: mmap.mmap, file: int) -> mmap.mmap:
    mem.close()
    return mmap.mmap(file, LEN)


def discard(mem: mmap.mmap, _file: int) -> mmap.mmap:
    mem.madvise(mmap.MADV_REMOVE)
    return mem


def truncate(mem: mmap.mmap, file: int) -> mmap.mmap:
    os.ftruncate(file, 0)
    os.ftruncate(file, LEN)
    return mem


def main() -> None:
    comm = MPI.COMM_WORLD
    # both ranks know which change comes next
    chance = random.Random(1)
    tally = {change.__name__: [0, 0] for change in (nothing, map_again, discard, truncate)}
    file = os.memfd_create("torn")
    os.ftruncate(file, LEN)
    mem = mmap.mmap(file, LEN)
    for i in range(int(sys.argv[1])):
        change = chance.choice((nothing, nothing, nothing, map_again, discard, truncate))
        mem = change(mem, file)
        want = bytes([1 + i % 255]) * LEN
        if comm.rank == 0:
            mem[:] = want
            comm.Send([mem, MPI.BYTE], dest=1)
            continue
        mem[:] = bytes(LEN)
        comm.Recv([mem, MPI.BYTE], source=0)
        count = tally[change.__name__]
        count[0] += mem[:] != want
        count[1] += 1
    if comm.rank == 1:
        for name, (stale, sent) in tally.items():
            print(f"  {name}: {stale} of {sent}")
        stale, sent = (sum(column) for column in zip(*tally.values()))
        print(f"{stale} stale of {sent} messages", flush=True)


if __name__ == "__main__":
    main()
