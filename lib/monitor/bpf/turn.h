/* SPDX-License-Identifier: MIT */
/*
 * Whose turn is it to load a set of programs?
 *
 * Many processes that start at the same moment would each load a set, which takes seconds of a CPU
 * for each, before they settle on one. So they take turns: the first one loads, and the others find
 * its set when their turn comes. The turn is a lock on a file that root alone may open, so that no
 * other user can hold it. It ends with the process that has it.
 *
 * A turn saves time and keeps nothing else: a process that gets none, because it may not, or
 * because another one has it for too long, loads a set all the same.
 */
#ifndef INVLOCK_LIB_MONITOR_BPF_TURN_H
#define INVLOCK_LIB_MONITOR_BPF_TURN_H

#define TURN_WAIT_NS	180000000000ULL	/* an emulated, busy machine loads in less */

/* Waits for the turn, @wait_ns at most. Return: a number for turn_end(); -1 = there is none */
int turn_take(unsigned long long wait_ns);

void turn_end(int turn);

#endif /* INVLOCK_LIB_MONITOR_BPF_TURN_H */
