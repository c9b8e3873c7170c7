// SPDX-License-Identifier: MIT
#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "progset.h"

#define NR_SETS		16
#define NR_MAPS		64

/* The sets of which we have seen a link. */
struct sets {
	struct set set[NR_SETS];
	unsigned int nr;
};

static bool set_keep(int *fds, unsigned int *nr, int fd)
{
	if (*nr == SET_ROOM)
		return false;
	fds[(*nr)++] = fd;
	return true;
}

/* What a program is, and which of our maps it uses. If set_id is 0, the program is not ours. */
struct program {
	struct bpf_prog_info info;
	u32 set_id;
	u32 users_id;
};

static void program_look_at_map(struct program *p, u32 id)
{
	struct bpf_map_info info = {};
	u32 size = sizeof(info);
	int fd = bpf_map_get_fd_by_id(id);

	if (fd < 0)
		return;
	if (!bpf_obj_get_info_by_fd(fd, &info, &size)) {
		if (!strcmp(info.name, "invlock_set"))
			p->set_id = id;
		if (!strcmp(info.name, "invlock_users"))
			p->users_id = id;
	}
	close(fd);
}

/* Return: true = we may use this program. */
static bool program_look(int fd, struct program *p)
{
	u32 size = sizeof(p->info), maps[NR_MAPS] = {};

	memset(p, 0, sizeof(*p));
	p->info.nr_map_ids = NR_MAPS;
	p->info.map_ids = (uintptr_t)maps;
	if (bpf_obj_get_info_by_fd(fd, &p->info, &size) || p->info.nr_map_ids > NR_MAPS)
		return false;
	for (u32 i = 0; i < p->info.nr_map_ids; i++)
		program_look_at_map(p, maps[i]);
	return p->set_id && (!p->info.created_by_uid || p->info.created_by_uid == geteuid());
}

static struct set *sets_find(struct sets *sets, u32 id, bool add)
{
	for (unsigned int i = 0; i < sets->nr; i++)
		if (sets->set[i].id == id)
			return &sets->set[i];
	if (!add || sets->nr == NR_SETS)
		return NULL;
	sets->set[sets->nr] = (struct set){
		.id = id, .users = -1, .ask = -1, .scan_calls = -1, .scan_files = -1,
		.look = -1,
	};
	return &sets->set[sets->nr++];
}

/* Return: true = the set keeps the descriptor. */
static bool sets_add_link(struct sets *sets, u32 id, int link)
{
	struct bpf_link_info info = {};
	u32 size = sizeof(info);
	struct program p;
	struct set *set;
	int fd;
	bool ours;

	if (bpf_obj_get_info_by_fd(link, &info, &size) ||
	    (info.type != BPF_LINK_TYPE_RAW_TRACEPOINT && info.type != BPF_LINK_TYPE_TRACING))
		return false;
	fd = bpf_prog_get_fd_by_id(info.prog_id);
	if (fd < 0)
		return false;
	ours = program_look(fd, &p);
	close(fd);
	set = ours ? sets_find(sets, p.set_id, true) : NULL;
	if (!set)
		return false;
	set->last_link = id;
	return set_keep(set->links, &set->nr_links, link);
}

static bool sets_add_program(struct sets *sets, int fd)
{
	struct program p;
	struct set *set;

	if (!program_look(fd, &p))
		return false;
	set = sets_find(sets, p.set_id, false);
	if (!set || !set_keep(set->programs, &set->nr_programs, fd))
		return false;
	if (p.users_id)
		set->users_id = p.users_id;
	if (!strcmp(p.info.name, "ask"))
		set->ask = fd;
	if (!strcmp(p.info.name, "scan_calls"))
		set->scan_calls = fd;
	if (!strcmp(p.info.name, "scan_files"))
		set->scan_files = fd;
	if (!strcmp(p.info.name, "look"))
		set->look = fd;
	return true;
}

/* Return: 0; -errno = we may not ask. A link or program that ends meanwhile is passed over. */
static int sets_look(struct sets *sets)
{
	u32 id = 0;
	int fd;

	sets->nr = 0;
	while (!bpf_link_get_next_id(id, &id)) {
		fd = bpf_link_get_fd_by_id(id);
		if (fd >= 0 && !sets_add_link(sets, id, fd))
			close(fd);
	}
	if (errno != ENOENT)
		return -errno;
	id = 0;
	while (!bpf_prog_get_next_id(id, &id)) {
		fd = bpf_prog_get_fd_by_id(id);
		if (fd >= 0 && !sets_add_program(sets, fd))
			close(fd);
	}
	return errno == ENOENT ? 0 : -errno;
}

static bool set_complete(struct set *set, u64 object)
{
	struct bpf_map_info info = {};
	u32 size = sizeof(info), zero = 0;
	struct bpf_set *head = NULL;
	bool complete = false;
	int fd;

	if (set->ask < 0 || set->scan_calls < 0 || set->scan_files < 0 || !set->users_id)
		return false;
	fd = bpf_map_get_fd_by_id(set->id);
	if (fd < 0)
		return false;
	/* The map of another build of the library may have another size. */
	if (bpf_obj_get_info_by_fd(fd, &info, &size) || info.type != BPF_MAP_TYPE_ARRAY ||
	    info.value_size != sizeof(*head) || info.max_entries != 1)
		goto out;
	head = aligned_alloc(64, sizeof(*head));
	complete = head && !bpf_map_lookup_elem(fd, &zero, head) &&
		   head->header.object == object && head->header.nr_programs == set->nr_programs &&
		   head->header.nr_links == set->nr_links && !head->closed &&
		   (head->header.guard != BPF_GUARD_ON || set->look >= 0);
	if (complete)
		set->header = head->header;
	free(head);
out:
	close(fd);
	return complete;
}

static int by_last_link(const void *a, const void *b)
{
	const struct set *x = a, *y = b;

	return (x->last_link > y->last_link) - (x->last_link < y->last_link);
}

int set_join(struct set *set, u64 object, int user)
{
	struct sets *sets = calloc(1, sizeof(*sets));
	int err;

	if (!sets)
		return -ENOMEM;
	err = sets_look(sets);
	if (!err)
		err = -ENOENT;
	qsort(sets->set, sets->nr, sizeof(*sets->set), by_last_link);
	for (unsigned int i = 0; i < sets->nr; i++) {
		struct set *s = &sets->set[i];

		if (err == -ENOENT && set_complete(s, object) && !set_sit(s, user)) {
			*set = *s;
			err = 0;
		} else {
			set_release(s);
		}
	}
	free(sets);
	return err;
}

int set_run(const struct set *set, struct bpf_ask *q)
{
	LIBBPF_OPTS(bpf_test_run_opts, run, .ctx_in = q, .ctx_size_in = sizeof(*q));
	int err = bpf_prog_test_run_opts(set->ask, &run);

	return err ? err : (int)run.retval;
}

static int set_ask_of(const struct set *set, enum bpf_what what, u32 index, u64 nr)
{
	struct bpf_ask q = { .what = what, .index = index, .nr = nr };

	return set_run(set, &q);
}

int set_ask(const struct set *set, enum bpf_what what, u64 nr)
{
	return set_ask_of(set, what, set->seat, nr);
}

int set_note_missed(const struct set *set, u64 missed, u64 total)
{
	struct bpf_ask q = { .what = BPF_ASK_NOTE_MISSED, .index = set->seat, .nr = missed,
			     .total = total };

	return set_run(set, &q);
}

/*
 * The deletion returns only when no running program still uses the map. Older kernels may free the
 * map before that, so we hold it until then.
 */
static void set_clear_left(struct set *set)
{
	int seat;

	while ((seat = set_ask(set, BPF_ASK_TAKE_LEFT, 0)) >= 0) {
		u32 key = seat, id;
		int user = -1;

		if (!bpf_map_lookup_elem(set->users, &key, &id))
			user = bpf_map_get_fd_by_id(id);
		bpf_map_delete_elem(set->users, &key);
		set_ask_of(set, BPF_ASK_GIVE_BACK, key, 0);
		if (user >= 0)
			close(user);
	}
}

/*
 * A process that holds this descriptor can take the map of any user out of the set. So we close it
 * after use, lest a child inherit it.
 */
static int set_open_users(struct set *set)
{
	if (set->users < 0)
		set->users = bpf_map_get_fd_by_id(set->users_id);
	return set->users < 0 ? -errno : 0;
}

static void set_close_users(struct set *set)
{
	if (set->users >= 0)
		close(set->users);
	set->users = -1;
}

int set_sit(struct set *set, int user)
{
	int err = set_open_users(set), seat;

	if (err)
		return err;
	set_clear_left(set);
	seat = set_ask(set, BPF_ASK_CLAIM, 0);
	if (seat < 0) {
		err = seat;
		goto out;
	}
	set->seat = seat;
	/*
	 * This update also waits for programs: one that was still leaving this seat is over before
	 * the seat is armed.
	 */
	err = bpf_map_update_elem(set->users, &set->seat, &user, BPF_ANY);
	if (err)
		set_ask(set, BPF_ASK_GIVE_BACK, 0);
out:
	set_close_users(set);
	return err;
}

int set_missed(const struct set *set, u64 *ret_missed)
{
	u64 missed = 0;

	for (unsigned int i = 0; i < set->nr_programs; i++) {
		struct bpf_prog_info info = {};
		u32 size = sizeof(info);
		int err = bpf_obj_get_info_by_fd(set->programs[i], &info, &size);

		if (err)
			return err;
		missed += info.recursion_misses;
	}
	*ret_missed = missed;
	return 0;
}

void set_leave(struct set *set)
{
	set_ask(set, BPF_ASK_LEAVE, 0);
	if (!set_open_users(set))
		set_clear_left(set);
	set_close_users(set);
}

void set_close_fd(int fd)
{
	struct bpf_prog_info info = {};		/* larger than the info of maps and links */
	u32 size = sizeof(info);
	int err = bpf_obj_get_info_by_fd(fd, &info, &size);

	/*
	 * Any other error means that the descriptor may be a BPF object which the kernel does not
	 * describe to us.
	 */
	if (err != -EBADF && err != -EINVAL)
		close(fd);
}

void set_release(struct set *set)
{
	set_close_users(set);
	for (unsigned int i = 0; i < set->nr_links; i++)
		set_close_fd(set->links[i]);
	for (unsigned int i = 0; i < set->nr_programs; i++)
		set_close_fd(set->programs[i]);
	*set = (struct set){ .users = -1 };
}
