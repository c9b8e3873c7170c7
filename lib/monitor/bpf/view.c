// SPDX-License-Identifier: MIT
#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/page.h"
#include "bpf.h"
#include "view.h"

static const struct {
	const char *word;
	const char *reason;
} closings[] = {
	[BPF_OPEN] = { "open", NULL },
	[BPF_CLOSED_GONE] = { "gone", "the process has ended or has called exec" },
	[BPF_CLOSED_CALLS] = { "calls", "more calls ran at once than the programs can follow" },
	[BPF_CLOSED_HEAP] = { "heap", "prctl() moved the heap while other threads ran" },
	[BPF_CLOSED_REQUESTS] = { "requests", "an io_uring request could not be followed to its "
				  "end" },
	[BPF_CLOSED_NET] = { "net", "the end of a move, or of a removal of huge pages, may go "
			     "unseen" },
	[BPF_CLOSED_GUARD] = { "guard", "the kernel skipped a run where the guard expects none: "
			       "please report this" },
	[BPF_CLOSED_SKIPPED] = { "skipped", "the kernel skipped a run that the guard cannot make "
				 "up for" },
	[BPF_CLOSED_TRACING] = { "tracing", "kernel.ftrace_enabled was set to 0" },
	[BPF_CLOSED_EVICTED] = { "evicted", "the connection to the daemon has ended" },
};

#define NR_CLOSINGS	(sizeof(closings) / sizeof(closings[0]))

const char *feed_closed_reason(u64 closed)
{
	return closed < NR_CLOSINGS ? closings[closed].reason : "it is unknown why";
}

const char *feed_closed_word(u64 closed)
{
	return closed < NR_CLOSINGS ? closings[closed].word : "unknown";
}

/* ---- a feed ---- */

int feed_look(int user_map, struct feed_view *ret_view)
{
	size_t bytes = page_up(sizeof(struct bpf_user));
	const struct bpf_user *u;
	struct bpf_map_info info = {};
	u32 size = sizeof(info);
	int err = bpf_obj_get_info_by_fd(user_map, &info, &size);

	if (err)
		return err;
	if (info.type != BPF_MAP_TYPE_ARRAY || info.value_size != sizeof(*u) ||
	    info.max_entries != 1)
		return -EINVAL;
	u = mmap(NULL, bytes, PROT_READ, MAP_SHARED, user_map, 0);
	if (u == MAP_FAILED)
		return -errno;
	*ret_view = (struct feed_view){
		.since = port_load(&u->state.since),
		.sequence = port_load(&u->feed.sequence),
		.lost = port_load(&u->feed.lost),
		.dropped = port_load(&u->feed.dropped),
		.missed = port_load(&u->feed.missed),
		.caught = port_load(&u->state.nr_caught),
		.blind = port_load(&u->feed.blind),
		.flags = port_load(&u->feed.flags),
		.closed = port_load(&u->state.closed),
		.doubtful = port_load(&u->state.doubtful) != 0,
		.by_daemon = port_load(&u->state.by_daemon),
	};
	munmap((void *)u, bytes);
	return 0;
}

/* ---- a set ---- */

int progset_count_runs(const struct progset *set, struct run_count *ret_count)
{
	struct run_count count = {};

	for (unsigned int i = 0; i < set->nr_programs; i++) {
		struct bpf_prog_info info = {};
		u32 size = sizeof(info);
		int err = bpf_obj_get_info_by_fd(set->programs[i], &info, &size);

		if (err)
			return err;
		count.runs += info.run_cnt;
		count.ns += info.run_time_ns;
		/* as in progset_missed() */
		if (set->programs[i] != set->look)
			count.skipped += info.recursion_misses;
	}
	*ret_count = count;
	return 0;
}

int sets_count_runs(const struct progsets *sets, struct run_count *ret_count)
{
	struct run_count sum = {}, one;

	for (unsigned int i = 0; i < sets->nr; i++) {
		int err = progset_count_runs(&sets->set[i], &one);

		if (err)
			return err;
		sum.runs += one.runs;
		sum.ns += one.ns;
		sum.skipped += one.skipped;
	}
	*ret_count = sum;
	return 0;
}

static void look_at_seat(struct seat_view *v, int users)
{
	int map;
	u32 id;

	v->err = bpf_map_lookup_elem(users, &v->seat, &id);
	if (v->err)
		return;
	map = bpf_map_get_fd_by_id(id);
	if (map < 0) {
		v->err = map;
		return;
	}
	v->err = feed_look(map, &v->feed);
	close(map);
}

static int look_at_seats(struct set_view *v, const struct bpf_set *head, u32 users_id)
{
	int users = bpf_map_get_fd_by_id(users_id);

	v->seats = calloc(BPF_NR_USERS, sizeof(*v->seats));
	for (u32 i = 0; v->seats && i < BPF_NR_USERS; i++) {
		const struct bpf_seat *s = &head->seat[i];
		struct seat_view *seat = &v->seats[v->nr_seats];

		if (s->state != BPF_SEAT_TAKEN && s->state != BPF_SEAT_RESERVED)
			continue;
		*seat = (struct seat_view){ .seat = i, .state = s->state, .tgid = s->tgid };
		look_at_seat(seat, users);
		v->nr_seats++;
	}
	if (users >= 0)
		close(users);
	return v->seats ? 0 : -ENOMEM;
}

/* Sets of processes that track mprotect are of this build, too. */
static bool is_of_this_build(u64 object)
{
	return ((object ^ progset_object_hash() ^ monitor_bpf_options.family) & ~1ULL) == 0;
}

static int look_at_head(struct set_view *v, const struct progset *set, struct bpf_set *head)
{
	struct bpf_map_info info = {};
	u32 size = sizeof(info), zero = 0;
	int fd = bpf_map_get_fd_by_id(set->id), err;

	if (fd < 0)
		return fd;
	err = bpf_obj_get_info_by_fd(fd, &info, &size);
	/* The map of another build of the library may have another size. */
	v->known = !err && info.type == BPF_MAP_TYPE_ARRAY && info.value_size == sizeof(*head) &&
		   info.max_entries == 1 && !bpf_map_lookup_elem(fd, &zero, head) &&
		   is_of_this_build(head->header.object);
	close(fd);
	return err;
}

static int look_at_set(struct set_view *v, const struct progset *set, struct bpf_set *head)
{
	struct bpf_prog_info info = {};
	u32 size = sizeof(info);
	int err;

	v->id = set->id;
	v->nr_programs = set->nr_programs;
	/* A set that has no program left is going. */
	if (!set->nr_programs)
		return 0;
	err = bpf_obj_get_info_by_fd(set->programs[0], &info, &size);
	if (!err)
		err = look_at_head(v, set, head);
	if (err)
		return err;
	v->uid = info.created_by_uid;
	v->loaded_at = info.load_time;
	if (!v->known)
		return 0;
	v->header = head->header;
	v->header.reason[BPF_REASON_SIZE - 1] = '\0';
	v->header.no_guard[BPF_REASON_SIZE - 1] = '\0';
	v->header.no_net[BPF_REASON_SIZE - 1] = '\0';
	v->loader = head->loader;
	v->closed = head->closed;
	return look_at_seats(v, head, set->users.id);
}

int sets_look(struct sets_view *ret_view)
{
	struct progsets *found = calloc(1, sizeof(*found));
	struct bpf_set *head = aligned_alloc(64, sizeof(*head));
	struct sets_view v = {};
	int err = -ENOMEM;

	if (!found || !head)
		goto out;
	err = progsets_look(found);
	v.sets = calloc(PROGSETS_ROOM, sizeof(*v.sets));
	if (!v.sets)
		err = -ENOMEM;
	for (unsigned int i = 0; !err && i < found->nr; i++) {
		/* One that goes meanwhile is passed over. */
		if (!look_at_set(&v.sets[v.nr], &found->set[i], head))
			v.nr++;
	}
	if (!err)
		err = sets_count_runs(found, &v.runs);
	for (unsigned int i = 0; i < found->nr; i++)
		progset_release(&found->set[i]);
	if (!err)
		*ret_view = v;
	else
		sets_view_free(&v);
out:
	free(found);
	free(head);
	return err;
}

void sets_view_free(struct sets_view *v)
{
	for (unsigned int i = 0; v->sets && i < v->nr; i++)
		free(v->sets[i].seats);
	free(v->sets);
	*v = (struct sets_view){};
}
