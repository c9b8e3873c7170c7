// SPDX-License-Identifier: MIT
/*
 * The BPF monitor: programs in the kernel mark the feed at the enter and the exit of every system
 * call that can change our map. The monitor is exact, except for these kinds of change:
 *
 * TRUNCATE_PRIVATE	is seen only with the net (bpf/net.h). When a file is truncated, copies
 *			that a MAP_PRIVATE mapping made of its pages are dropped; this makes no
 *			event if the page itself has left the page cache before. So without the
 *			net, such memory is refused.
 * PROTECT		is seen only on request: allocators call mprotect all the time, and no
 *			pinned registration goes stale by it.
 * MOVE			is seen only with the net: UFFDIO_MOVE is an ioctl, on a descriptor like
 *			any other. The kernel refuses to move pinned pages.
 * MIGRATE		is not seen: the kernel migrates pages on its own, without a call. It
 *			leaves pinned pages alone.
 * SOFT_DIRTY		is not seen: a write to a file of /proc causes it. It changes no page.
 *
 * The monitor also refuses DAX files, whose pages are never in the page cache and so cannot be seen
 * to leave it, and memory that drivers, sockets and the kernel map: these can put other pages there
 * in any call (bpf/look.h).
 *
 * Where there is no net, one case within the kinds that are seen is not exact:
 *
 * - io_uring MADVISE requests that were queued before the open and run after it are marked
 *   when they complete, not when they start.
 *
 * process_madvise() from another process cannot drop our pages: the kernel allows only COLD,
 * PAGEOUT, WILLNEED and COLLAPSE there, and these leave pinned pages alone.
 *
 * The kernel may skip a run of a program (bpf_prog_info.recursion_misses) if a task can be
 * preempted inside the program. That is so at functions wherever the kernel preempts its own code,
 * and from about 7.0 on at the tracepoints, too. There the guard is loaded (bpf/guard.h): before a
 * change can go unseen, every feed says that a CPU is blind. If the guard cannot be had, nothing is
 * called exact. On all other kernels no run is skipped. Should the kernel count a skipped run all
 * the same, monitor_bpf_note_missed() finds it and makes everything stale. A cache calls that
 * function whenever it looks for dead entries.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/capability.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guard.h"
#include "memory.h"
#include "lib/capability.h"
#include "lib/monitor/monitor.h"
#include "bpf.h"
#include "seat.h"
#include "turn.h"

struct monitor_bpf_options monitor_bpf_options = {
	.nr_calls = BPF_NR_CALLS,
	.nr_files = BPF_NR_FILES,
};

static int check_privilege(struct invlock_why *why)
{
	if (has_capability(CAP_SYS_ADMIN) ||
	    (has_capability(CAP_BPF) && has_capability(CAP_PERFMON)))
		return 0;
	return explain(why, -EPERM, "the BPF monitor needs the capabilities CAP_BPF and "
		       "CAP_PERFMON; %s", in_user_namespace() ?
		       "capabilities inside a user namespace, where this process is, do not count" :
		       "as root: setcap cap_bpf,cap_perfmon+ep on the program");
}

/* Take a seat in a new set. */
static int sit_in_own(struct monitor_bpf_data *data, u64 object, struct invlock_why *why)
{
	struct progset own;
	int err = memory_check(MEMORY_TO_LOAD, "loading the BPF programs", why);

	if (!err)
		err = progset_load(&own, object, why);
	if (err)
		return err;
	/* Another process may have loaded a set at the same moment: see progset.h. */
	if (!progset_join(&data->set, object, &data->maps)) {
		progset_release(&own);
		return 0;
	}
	err = progset_sit(&own, &data->maps);
	if (err) {
		progset_release(&own);
		return explain(why, err, "the BPF program has no seat for this process: %s",
			       strerror(-err));
	}
	data->set = own;
	return 0;
}

/* Take a seat in a running set, or in a new one. */
static int sit(struct monitor_bpf_data *data, struct invlock_why *why)
{
	/* Processes that track mprotect share a set only with each other. */
	u64 object = progset_object_hash() ^ monitor_bpf_options.family ^
		     monitor_bpf_options.count_protect;
	int err = progset_join(&data->set, object, &data->maps), turn;

	if (err && monitor_bpf_options.only_join)
		return explain(why, err, "no set of programs runs that has a seat for us");
	/* A process that may not look for others' sets has nothing to wait for. */
	if (err == -EPERM)
		return sit_in_own(data, object, why);
	if (!err)
		return 0;
	turn = turn_take(monitor_bpf_options.turn_ns ?: TURN_WAIT_NS);
	/* Perhaps another process has loaded a set while we waited. */
	if (progset_join(&data->set, object, &data->maps))
		err = sit_in_own(data, object, why);
	else
		err = 0;
	turn_end(turn);
	return err;
}

/* From the arming on, the mm of this process is watched. */
static int arm(struct monitor_bpf_data *data, struct invlock_why *why)
{
	int err = progset_missed(&data->set, &data->missed);

	if (!err)
		err = progset_ask(&data->set, BPF_ASK_ARM, 0);
	if (err)
		return explain(why, err, "the BPF program does not watch this process: %s",
			       strerror(-err));
	if (data->set.header.guard != BPF_GUARD_ON)
		return 0;
	err = guard_await(&data->set, BPF_ASK_UNMARKED, data->set.seat);
	if (err)
		return explain(why, err, "a task that was preempted inside a BPF program does not "
			       "go on, so that calls on its CPU cannot be seen: %s",
			       strerror(-err));
	return 0;
}

static int bpf_open(struct invlock_mm *mm, struct invlock_why *why)
{
	struct monitor_bpf_data *data;
	int err = check_privilege(why);

	if (!err)
		err = memory_check(MEMORY_TO_JOIN, "the BPF monitor's feed", why);
	if (err)
		return err;
	data = calloc(1, sizeof(*data));
	if (!data)
		return explain(why, -ENOMEM, "out of memory");
	err = seat_make_maps(&data->maps, 0, why);
	if (!err)
		err = seat_map_user(mm, data->maps.user, why);
	if (err)
		goto close_maps;
	err = sit(data, why);
	seat_close_tables(&data->maps);
	if (err)
		goto unmap;
	err = arm(data, why);
	if (!err)
		err = seat_begin(mm, data, why);
	if (!err)
		return 0;
	progset_leave(&data->set);
	progset_release(&data->set);
unmap:
	seat_unmap_user(mm);
close_maps:
	seat_close_maps(&data->maps);
	free(data);
	mm->data = NULL;
	return err;
}

const struct monitor monitor_bpf = {
	.name = "bpf",
	.seen = SEEN,
	.exact = SEEN,
	.refused = REFUSED,
	.perhaps = NET_SEEN,
	.open = bpf_open,
	.close = seat_close,
	.look = seat_look,
	.watch = seat_watch,
	.note_missed = monitor_bpf_note_missed,
	.nr_caught = seat_nr_caught,
	.describe = seat_describe,
};
