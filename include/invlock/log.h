/* SPDX-License-Identifier: MIT */
/*
 * The log: sentences about what the library does without an error that would tell the program.
 *
 * By default nobody is told. A program that has a log of its own sets a function, once, before it
 * opens its first mm.
 */
#ifndef INVLOCK_LOG_H
#define INVLOCK_LOG_H

#include <invlock/version.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * What is logged. Later versions may add events: log one that is unknown by its sentence.
 */
enum invlock_log_event {
	/*
	 * A monitor was opened: which one, how it works here, and why those that are preferred were
	 * passed over. Once for each invlock_mm_open() that succeeds.
	 */
	INVLOCK_LOG_OPENED	= 1,
	/*
	 * A feed is closed, and why: no translation is valid any more, and every get fails, until
	 * the program opens the mm anew. Once for each mm, when a get, a read section, the reaper
	 * or invlock_mm_info() finds it out.
	 */
	INVLOCK_LOG_CLOSED	= 2,
	/*
	 * Dead registrations cannot be deregistered, or not in time: the kernel refuses what that
	 * takes, or the program has closed the descriptor that says when to reap. Once for each
	 * cache.
	 */
	INVLOCK_LOG_KEPT	= 3,
	/*
	 * The library goes on, and hits are lost: no memory is left for a larger index, or a client
	 * of the daemon can no longer list its mapped files. Once for each cache or mm.
	 */
	INVLOCK_LOG_SLOWER	= 4,
};

/**
 * invlock_log_set() - choose the function that is told
 * @log: called with @ctx, the event, and a sentence in plain text without a newline, which is valid
 *	until it returns; NULL = nobody is told, as at first
 * @ctx: passed to @log
 *
 * The function is called on the thread that finds something out, which may be any thread that
 * calls the library, and the reaper, so on several at once. No lock of the library is held, and
 * the thread is not cancelled meanwhile. It may allocate, block and take locks of the program,
 * unless a thread holds these while it calls the library. It must return, as reg() must, and must
 * not call the library, nor unmap what the caller of the library uses. What the library would log
 * meanwhile on the same thread is lost. In a forked child it stays set.
 *
 * Context: any thread, allocates. Another thread may still be in the old function when this
 * returns, and the old context must stay valid for it.
 * Return: 0; -ENOMEM. Since: 0.1
 */
int invlock_log_set(void (*log)(void *ctx, enum invlock_log_event event, const char *text),
		    void *ctx);

#ifdef __cplusplus
}
#endif

#endif /* INVLOCK_LOG_H */
