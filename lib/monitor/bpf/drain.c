// SPDX-License-Identifier: MIT
/*
 * A thread that was once seen outside of the calls that we mark needs no more waiting: the next
 * call that it makes is recorded. So the threads to wait for are those that every pass so far has
 * found inside such a call.
 */
#include <errno.h>
#include <linux/membarrier.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "bpf/shared.h"
#include "drain.h"
#include "lib/monitor/monitor.h"

struct threads {
	struct bpf_busy *busy;
	size_t nr;
	size_t room;
};

static void sleep_ns(long ns)
{
	struct timespec t = { .tv_nsec = ns };

	nanosleep(&t, NULL);
}

/*
 * A thread stores the number of its call, then loads whether it is watched. We store that it is
 * watched, then load the number. With a barrier on the thread's CPU in between, at least one side
 * sees what the other has stored.
 */
static void barrier_everywhere(void)
{
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) &&
	    syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0))
		/*
		 * membarrier() is forbidden here. Sleep far longer than a store may wait in a store
		 * buffer.
		 */
		sleep_ns(2000000);
}

static int make_room(struct threads *t)
{
	size_t room = t->room ? 2 * t->room : 64;
	void *busy;

	if ((t->nr + 1) * 2 <= t->room)
		return 0;
	busy = realloc(t->busy, room * sizeof(*t->busy));
	if (!busy)
		return -ENOMEM;
	t->busy = busy;
	t->room = room;
	return 0;
}

/* Make one pass over all tasks that share our mm. */
static int read_threads(int iter, struct threads *t)
{
	size_t bytes = 0;
	ssize_t got;
	int err = 0;

	t->nr = 0;
	if (iter < 0)
		return iter;
	do {
		err = make_room(t);
		if (err)
			break;
		got = read(iter, (char *)t->busy + bytes, t->room * sizeof(*t->busy) - bytes);
		if (got < 0 && errno != EINTR && errno != EAGAIN)
			err = -errno;
		if (got > 0)
			bytes += got;
		t->nr = bytes / sizeof(*t->busy);
	} while (got && !err);
	close(iter);
	return err;
}

static int by_tid(const void *a, const void *b)
{
	const struct bpf_busy *x = a, *y = b;

	return (x->tid > y->tid) - (x->tid < y->tid);
}

/* Drop from t the threads that are not in now. */
static void drop_finished(struct threads *t, struct threads *now)
{
	size_t kept = 0;

	qsort(now->busy, now->nr, sizeof(*now->busy), by_tid);
	for (size_t i = 0; i < t->nr; i++)
		if (bsearch(&t->busy[i], now->busy, now->nr, sizeof(*now->busy), by_tid))
			t->busy[kept++] = t->busy[i];
	t->nr = kept;
}

int drain(int (*open_pass)(const void *arg), const void *arg, struct invlock_why *why)
{
	struct threads left = {}, now = {};
	u64 deadline = port_now() + DRAIN_TIME_NS;
	int err;

	barrier_everywhere();
	err = read_threads(open_pass(arg), &left);
	while (!err && left.nr) {
		if (port_now() > deadline) {
			err = explain(
				why, -EBUSY,
				"thread %u was inside system call %u, which can "
				"change the memory map, before the BPF monitor was opened, and "
				"still is; open it when no thread is stopped or stuck there",
				left.busy[0].tid, left.busy[0].nr);
			goto out;
		}
		sleep_ns(1000000);
		err = read_threads(open_pass(arg), &now);
		if (!err)
			drop_finished(&left, &now);
	}
	if (err)
		explain(why, err, "the BPF monitor cannot list the threads of this process: %s",
			strerror(-err));
out:
	free(left.busy);
	free(now.busy);
	return err;
}
