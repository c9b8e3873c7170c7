/* SPDX-License-Identifier: MIT */
/* Two threads, or processes, take turns: a wait ends when its turn, or a later one, has come. */
#ifndef INVLOCK_TESTS_GATE_H
#define INVLOCK_TESTS_GATE_H

#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#define GATE_SPINS	2000	/* how often a thread looks at a gate before it sleeps */

struct gate {
	unsigned int turn;	/* atomic */
};

static inline void gate_wait(struct gate *gate, unsigned int turn)
{
	unsigned int now, spins = 0;

	while ((now = __atomic_load_n(&gate->turn, __ATOMIC_ACQUIRE)) < turn) {
		/* Under load the other thread may not be running: give it the CPU. */
		if (++spins > GATE_SPINS)
			syscall(SYS_futex, &gate->turn, FUTEX_WAIT, now, NULL, NULL, 0);
	}
}

static inline void gate_open(struct gate *gate, unsigned int turn)
{
	__atomic_store_n(&gate->turn, turn, __ATOMIC_RELEASE);
	syscall(SYS_futex, &gate->turn, FUTEX_WAKE, 1, NULL, NULL, 0);
}

#endif /* INVLOCK_TESTS_GATE_H */
