// SPDX-License-Identifier: GPL-2.0-only
/* Compiles the portable core for the kernel, and provides the one function that it asks for. */
#include <linux/hrtimer.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>

#include "core/invlock.c"
#include "core/read.c"
#include "core/section.c"

#define SPIN_WAITS	16
#define MIN_SLEEP_NS	16000
#define MAX_SLEEP_NS	1000000

/* The first waits spin, the later ones sleep for longer and longer. */
int port_wait(u32 nr_waits, bool killable)
{
	u32 doublings = nr_waits - SPIN_WAITS;
	ktime_t time;

	if (killable && fatal_signal_pending(current))
		return -EINTR;
	if (nr_waits < SPIN_WAITS) {
		cpu_relax();
		cond_resched();
		return 0;
	}
	time = doublings < 6 ? MIN_SLEEP_NS << doublings : MAX_SLEEP_NS;
	set_current_state(killable ? TASK_KILLABLE : TASK_UNINTERRUPTIBLE);
	schedule_hrtimeout(&time, HRTIMER_MODE_REL);
	return 0;
}
