// SPDX-License-Identifier: MIT
#include <bpf/bpf.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/invalidate.h"
#include "drain.h"
#include "guard.h"
#include "iter.h"
#include "keep.h"
#include "lib/log.h"
#include "lib/monitor/monitor.h"
#include "lib/page.h"
#include "bpf.h"
#include "seat.h"
#include "view.h"

#define USER_BYTES	page_up(sizeof(struct bpf_user))

/* ---- its maps ---- */

static int format_user(int fd, u32 index, struct invlock_why *why)
{
	struct bpf_user *user = mmap(NULL, USER_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	int err;

	if (user == MAP_FAILED)
		return explain(why, -errno, "cannot map the feed: %s", strerror(errno));
	err = invlock_feed_format(user, offsetof(struct bpf_user, state), INVLOCK_NR_WORDS,
				  INVLOCK_NR_EVENTS, INVLOCK_STRIPE_SHIFT);
	user->state.index = index;
	user->state.nr_calls = monitor_bpf_options.nr_calls;
	user->state.nr_files = monitor_bpf_options.nr_files;
	user->state.count_protect = monitor_bpf_options.count_protect;
	munmap(user, USER_BYTES);
	return err ? explain(why, err, "the feed's size is wrong") : 0;
}

/*
 * Only the programs write the feed. It is formatted through a mapping that is removed before the
 * map is frozen. From then on, neither this process nor a forked child, which inherits the
 * descriptor, can map it writable or update it.
 */
int seat_make_maps(struct seat_maps *maps, u32 index, struct invlock_why *why)
{
	LIBBPF_OPTS(bpf_map_create_opts, mapped, .map_flags = BPF_F_MMAPABLE);
	int err = 0;

	maps->user = bpf_map_create(BPF_MAP_TYPE_ARRAY, "invlock_user", sizeof(u32),
				    sizeof(struct bpf_user), 1, &mapped);
	maps->tables = maps->user < 0 ? -1 :
		       bpf_map_create(BPF_MAP_TYPE_ARRAY, "invlock_table", sizeof(u32),
				      sizeof(struct bpf_tables), 1, NULL);
	if (maps->tables < 0)
		return explain(why, -errno, "the kernel refuses the BPF monitor a map: %s",
			       strerror(errno));
	err = format_user(maps->user, index, why);
	if (err)
		return err;
	err = bpf_map_freeze(maps->user);
	if (!err)
		err = bpf_map_freeze(maps->tables);
	return err ? explain(why, err, "cannot freeze the feed: %s", strerror(-err)) : 0;
}

void seat_close_tables(struct seat_maps *maps)
{
	if (maps->tables >= 0)
		close(maps->tables);
	maps->tables = -1;
}

void seat_close_maps(struct seat_maps *maps)
{
	seat_close_tables(maps);
	if (maps->user >= 0)
		close(maps->user);
}

int seat_map_user(struct invlock_mm *mm, int user, struct invlock_why *why)
{
	void *mem = mmap(NULL, USER_BYTES, PROT_READ, MAP_SHARED, user, 0);
	int err;

	if (mem == MAP_FAILED)
		return explain(why, -errno, "cannot map the feed: %s", strerror(errno));
	mm->feed_bytes = invlock_feed_bytes(INVLOCK_NR_WORDS, INVLOCK_NR_EVENTS);
	err = invlock_attach(&mm->il, mem, mm->feed_bytes);
	if (!err)
		return 0;
	munmap(mem, USER_BYTES);
	return explain(why, err, "the feed's header is wrong");
}

void seat_unmap_user(struct invlock_mm *mm)
{
	munmap(mm->il.feed, USER_BYTES);
}

/* ---- what its process does ---- */

/* A reader calls this while it waits: perhaps no CPU is blind any more. */
static void nudge(void *arg)
{
	const struct invlock_mm *mm = arg;
	const struct monitor_bpf_data *data = mm->data;
	int old_state;

	if (!port_load(&mm->il.feed->blind))
		return;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old_state);
	guard_look(&data->set, (const struct bpf_user *)mm->il.feed);
	pthread_setcancelstate(old_state, NULL);
}

/* Return: an iterator that walks once through the mappings of this process; or -errno. */
static int open_files_pass(const struct monitor_bpf_data *data)
{
	union bpf_iter_link_info info = { .task.tid = syscall(SYS_gettid) };

	return data->daemon ? daemon_pass(data->daemon, DAEMON_FILES) :
	       iter_open(data->set.scan_files, &info);
}

/* Record the files that are mapped already. */
static int scan_files(const struct invlock_mm *mm, struct invlock_why *why)
{
	const struct bpf_state *state = &((const struct bpf_user *)mm->il.feed)->state;
	u64 before = port_load(&state->nr_scanned);
	int iter = open_files_pass(mm->data), err = iter < 0 ? iter : iter_run(iter);

	/* Every process has mappings: the walk was through those of another. */
	if (!err && port_load(&state->nr_scanned) == before)
		err = -ESRCH;
	if (err)
		return explain(why, err, "cannot list the mapped files: %s", strerror(-err));
	return 0;
}

static int open_calls_pass(const void *arg)
{
	const struct monitor_bpf_data *data = arg;

	return data->daemon ? daemon_pass(data->daemon, DAEMON_CALLS) :
	       iter_open(data->set.scan_calls, NULL);
}

static void see_by_net(struct invlock_mm *mm, u32 guard)
{
	mm->seen |= NET_SEEN;
	/* Nothing finds a move whose start was skipped: see net.h. */
	mm->exact |= guard == BPF_GUARD_ON ? INVLOCK_BIT(TRUNCATE_PRIVATE) : NET_SEEN;
}

/* Calls that began earlier are over. The net may have caught what they removed: that is no gap. */
static void forget_caught(const struct invlock_mm *mm, struct monitor_bpf_data *data)
{
	struct bpf_state state;

	monitor_bpf_state(mm, &state);
	data->nr_caught = state.nr_caught;
	memcpy(data->caught, state.caught, sizeof(data->caught));
}

int seat_begin(struct invlock_mm *mm, struct monitor_bpf_data *data, struct invlock_why *why)
{
	int err;

	mm->data = data;
	err = scan_files(mm, why);
	if (!err)
		err = drain(open_calls_pass, data, why);
	if (err)
		return err;
	forget_caught(mm, data);
	if (data->set.header.guard == BPF_GUARD_ON && data->set.look >= 0) {
		mm->il.nudge = nudge;
		mm->il.nudge_arg = mm;
	}
	if (data->set.header.net)
		see_by_net(mm, data->set.header.guard);
	if (data->set.header.guard == BPF_GUARD_MISSING)
		mm->exact = 0;
	/*
	 * Once the links are kept, closing descriptors detaches no program. Where there is no
	 * io_uring, it still does: monitor_bpf_note_missed() finds that out afterwards.
	 */
	data->kept = keep_open(data->set.links, data->set.nr_links);
	return 0;
}

bool monitor_bpf_let_go(const struct invlock_mm *mm)
{
	struct monitor_bpf_data *data = mm->data;
	bool held = data->kept;

	keep_end(data->kept);
	data->kept = NULL;
	return held;
}

/*
 * In a forked child, this closes the child's descriptors and unmaps the child's mapping. The seat
 * stays the parent's, and the kernel's objects live as long as the parent holds its own
 * descriptors.
 */
void seat_close(struct invlock_mm *mm, bool mine)
{
	struct monitor_bpf_data *data = mm->data;

	/*
	 * A forked child has no copy of the mapping that keeps the links: another mapping may lie
	 * there.
	 */
	if (mine) {
		monitor_bpf_let_go(mm);
		progset_leave(&data->set);
	}
	if (data->daemon)
		daemon_close(data->daemon);
	progset_release(&data->set);
	seat_unmap_user(mm);
	progset_close_fd(data->maps.user);
	free(data);
	mm->data = NULL;
}

void monitor_bpf_state(const struct invlock_mm *mm, struct bpf_state *ret_state)
{
	const struct monitor_bpf_data *data = mm->data;

	*ret_state = ((const struct bpf_user *)mm->il.feed)->state;
	if (!data)
		return;
	ret_state->nr_caught -= data->nr_caught;
	for (int i = 0; i < BPF_NR_CAUGHT; i++)
		ret_state->caught[i].nr -= data->caught[i].nr;
}

void monitor_bpf_set(const struct invlock_mm *mm, struct bpf_set_header *ret_header)
{
	*ret_header = ((const struct monitor_bpf_data *)mm->data)->set.header;
}

/*
 * We hold the BPF program no longer, so it may be detached. We cannot write to its feed. So a page
 * that says that the feed is degraded replaces the header, for all readers at once.
 */
static int distrust(const struct invlock_mm *mm)
{
	struct invlock il = mm->il;
	void *header;

	if (port_load(&il.feed->flags) & INVLOCK_FEED_DEGRADED)
		return -ENODEV;
	header = mmap(NULL, INVLOCK_FEED_HEADER_SIZE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (header == MAP_FAILED)
		return -ENOMEM;
	memcpy(header, il.feed, INVLOCK_FEED_HEADER_SIZE);
	il.feed = header;
	invlock_close_feed(&il, INVLOCK_FEED_DEGRADED);
	if (mremap(header, INVLOCK_FEED_HEADER_SIZE, INVLOCK_FEED_HEADER_SIZE,
		   MREMAP_MAYMOVE | MREMAP_FIXED, mm->il.feed) != MAP_FAILED)
		return -ENODEV;
	munmap(header, INVLOCK_FEED_HEADER_SIZE);
	return -ENOMEM;
}

/*
 * The BPF program found the mmap lock taken when it looked up a new mapping: now is the time to
 * find that mapping. An error here leaves too many events, never too few.
 */
static void find_unknown_files(const struct invlock_mm *mm)
{
	const struct bpf_state *state = &((const struct bpf_user *)mm->il.feed)->state;
	struct monitor_bpf_data *data = mm->data;
	/* Acquire: the scan comes after this load. */
	u64 nr = port_load_acquire(&state->nr_unknown);
	struct invlock_why why;
	bool in_vain = false;
	int old_state;

	if (likely(nr == port_load(&state->nr_found)) || port_load(&data->scans_in_vain))
		return;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old_state);
	/* Where bpf() is forbidden no scan can be reported: events of all files go on to count. */
	if (scan_files(mm, &why) || progset_ask(&data->set, BPF_ASK_NOTE_FOUND, nr) < 0)
		in_vain = !!data->daemon;
	pthread_setcancelstate(old_state, NULL);
	if (in_vain && !port_cmpxchg(&data->scans_in_vain, 0u, 1u))
		log_event(INVLOCK_LOG_SLOWER, "the mapped files cannot be listed again, as the "
			  "daemon or bpf() is gone: events of any file count for all memory");
}

/*
 * Numbers of calls of port_wait(): the first ones wait about a microsecond each, later ones up to a
 * millisecond.
 */
#define LOOK_TRIES_FAST	72
#define LOOK_TRIES	250

/* Return: the mask of memory that changes only by calls and removals which the programs see. */
static u64 good_memory(const struct invlock_mm *mm)
{
	return MAPPED_BIT(ANON) | MAPPED_BIT(SHARED) |
	       (mm->seen & INVLOCK_BIT(TRUNCATE_PRIVATE) ? MAPPED_BIT(PRIVATE_FILE) : 0);
}

/*
 * We cannot ask the BPF program: its descriptor was closed, or this process may not. /proc still
 * tells which memory is anonymous.
 */
static enum mapped look_without(u64 start, u64 end, struct look *ret_look)
{
	enum mapped mapped = look_at_maps(start, end, ret_look);

	if (mapped != MAPPED_GOOD && mapped != MAPPED_HOLE)
		ret_look->mapped = mapped = MAPPED_UNKNOWN;
	return mapped;
}

/*
 * The BPF program cannot wait for the mmap lock. Return: -EBUSY = each of @nr_tries found it taken.
 */
static int look_by_program(const struct progset *set, struct bpf_ask *q, u32 nr_tries)
{
	int mapped = MAPPED_GOOD;

	for (u32 tries = 0; q->start < q->end && tries < nr_tries; tries++) {
		mapped = progset_run(set, q);
		if (mapped == -EBUSY)
			port_wait(tries, false);
		else if (mapped)
			break;
	}
	return mapped;
}

int seat_look(const struct invlock_mm *mm, u64 start, u64 end, struct look *ret_look)
{
	const struct monitor_bpf_data *data = mm->data;
	struct bpf_ask q = {
		.what = BPF_ASK_LOOK, .nr = good_memory(mm), .start = start, .end = end,
	};
	int mapped = look_by_program(&data->set, &q, LOOK_TRIES_FAST);

	if (unlikely(mapped == -EBUSY)) {
		/*
		 * Other threads take the mmap lock in turns, so it is never free when the program
		 * looks. A read of /proc waits for its own turn.
		 */
		if (look_at_maps(q.start, end, ret_look) == MAPPED_GOOD)
			return MAPPED_GOOD;
		mapped = look_by_program(&data->set, &q, LOOK_TRIES);
	}
	if (unlikely(mapped < 0))
		return mapped == -EBUSY ? mapped : look_without(q.start, end, ret_look);
	*ret_look = (struct look){ mapped, q.start, q.end };
	return mapped;
}

/* Every range is watched already. But a caller that misses the cache has time for this scan. */
int seat_watch(struct invlock_mm *mm, u64 start, u64 end)
{
	(void)start;
	(void)end;
	find_unknown_files(mm);
	return 0;
}

int monitor_bpf_note_missed(const struct invlock_mm *mm)
{
	const struct monitor_bpf_data *data = mm->data;
	u64 total, missed;
	int err;

	if (data->daemon) {
		find_unknown_files(mm);
		return daemon_is_ours(data->daemon) || data->kept ? 0 : distrust(mm);
	}
	err = progset_missed(&data->set, &total);
	if (err)
		return data->kept ? err : distrust(mm);
	find_unknown_files(mm);
	missed = total - data->missed;
	if (missed <= port_load(&mm->il.feed->missed))
		return 0;
	err = progset_note_missed(&data->set, missed, total);
	/* -EAGAIN: a window is open, so a later caller will get the answer. */
	return err == -EAGAIN ? 0 : err;
}

u64 seat_nr_caught(const struct invlock_mm *mm)
{
	const struct bpf_user *user = (const struct bpf_user *)mm->il.feed;
	const struct monitor_bpf_data *data = mm->data;

	return port_load(&user->state.nr_caught) - data->nr_caught;
}

const char *monitor_bpf_closed(const struct invlock_mm *mm)
{
	const struct bpf_user *user = (const struct bpf_user *)mm->il.feed;

	return feed_closed_reason(port_load(&user->state.closed));
}

void seat_describe(const struct invlock_mm *mm, struct invlock_why *ret_how)
{
	const char *closed = monitor_bpf_closed(mm);
	const struct monitor_bpf_data *data = mm->data;
	const struct bpf_set_header *head = &data->set.header;
	const char *guard = head->guard == BPF_GUARD_ON ? "; the kernel preempts programs, and a "
							  "guard sees each time" : "";
	struct bpf_state state;
	char net[160];

	monitor_bpf_state(mm, &state);
	net_describe(head, &state, net, sizeof(net));
	if (closed)
		explain(ret_how, 0, "NOT exact any more, so that nothing is valid: %s", closed);
	else if (head->guard == BPF_GUARD_MISSING)
		explain(ret_how, 0, "NOT exact: the kernel preempts programs, so that calls are "
			"missed, and the guard that would see that cannot be had: %s",
			head->no_guard);
	else if (head->attached == BPF_AT_FUNCTIONS)
		explain(ret_how, 0, "at the functions of the calls that change a map: other calls "
			"cost nothing%s; %s", guard, net);
	else
		explain(ret_how, 0, "at the tracepoints, where every call of every process pays "
			"a little, since it cannot be at functions: %s%s; %s", head->reason, guard,
			net);
}
