/* SPDX-License-Identifier: MIT */
/* Other processes that open a monitor and then obey orders. */
#ifndef INVLOCK_TESTS_BPF_OTHERS_H
#define INVLOCK_TESTS_BPF_OTHERS_H

#include "rig.h"

/* Another process that opens the monitor and then obeys orders. */
struct other {
	pid_t pid;
	int to, from;
};

/* Each order is a byte; the comment is the answer. */
enum order {
	OPEN = 'o',	/* 0 or errno */
	CHANGE = 'c',	/* 0: a real unmap was seen, and nothing else */
	COUNT = 'n',	/* events so far, modulo 256 */
	CLOSE = 'x',	/* 0 */
	EXIT = 'e',	/* no answer: it exits without closing */
};

/* What they open, and the mm that they open: this process's own, if it makes itself an order. */
extern const struct monitor *other_monitor;
extern struct invlock_mm other_mm;

/* Carries out CHANGE in this process. */
int answer_change(void);

/* @first: NULL, or what the process does first */
void other_start(struct other *o, void (*first)(void));
void tell(const struct other *o, enum order order);
int hear(const struct other *o);
int other_do(const struct other *o, enum order order);

/* Ends the process by this signal; 0: by a plain exit. */
void other_end(struct other *o, int sig);

void others_open(struct other *o, int nr);
void others_end(struct other *o, int nr);

#endif /* INVLOCK_TESTS_BPF_OTHERS_H */
