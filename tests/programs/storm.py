# SPDX-License-Identifier: MIT
"""storm.py SECONDS - memory as a Python program uses it: objects, maps, threads, children"""
import mmap
import random
import subprocess
import sys
import threading
import time

END = time.monotonic() + float(sys.argv[1])


def churn():
    kept = []
    while time.monotonic() < END:
        kept.append(bytearray(random.randrange(1, 1 << 20)))
        mapped = mmap.mmap(-1, random.randrange(1, 64) * mmap.PAGESIZE)
        mapped.write(b'x' * len(mapped))
        kept.append(mapped)
        kept.append([str(n) for n in range(random.randrange(1000))])
        while len(kept) > 100:
            del kept[random.randrange(len(kept))]


threads = [threading.Thread(target=churn) for _ in range(2)]
for thread in threads:
    thread.start()
while time.monotonic() < END:
    subprocess.run(['true'], check=True)
    time.sleep(0.1)
