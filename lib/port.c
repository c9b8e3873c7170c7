// SPDX-License-Identifier: MIT
/* What core needs from a Linux process: see core/port.h. */
#include <linux/membarrier.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "core/port.h"

#define SPIN_WAITS	64
#define YIELD_WAITS	96
#define MIN_SLEEP_NS	16000
#define MAX_SLEEP_NS	1000000

bool port_barrier_is_light;

static long membarrier(int cmd)
{
	return syscall(SYS_membarrier, cmd, 0, 0);
}

/* Runs before the first pin is taken. A forked child inherits the registration. */
__attribute__((constructor)) static void choose_barrier(void)
{
	port_barrier_is_light = !membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
}

bool port_heavy_barrier(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return !port_barrier_is_light || !membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
}

u64 port_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * 1000000000 + (u64)t.tv_nsec;
}

int port_wait(u32 nr_waits, bool interruptible)
{
	struct timespec t = {};
	u32 doublings = nr_waits - YIELD_WAITS;

	if (nr_waits < SPIN_WAITS) {
		port_relax();
		return 0;
	}
	if (nr_waits < YIELD_WAITS) {
		sched_yield();
		return 0;
	}
	t.tv_nsec = doublings < 6 ? MIN_SLEEP_NS << doublings : MAX_SLEEP_NS;
	/* not libc's nanosleep(), which is a cancellation point */
	return syscall(SYS_nanosleep, &t, NULL) && interruptible ? -EINTR : 0;
}
