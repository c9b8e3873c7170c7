// SPDX-License-Identifier: MIT
#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "loader.h"
#include "progset.h"

#define NR_MAPS		64

static bool progset_add_fd(int *fds, unsigned int *nr, int fd)
{
	if (*nr == PROGSET_ROOM)
		return false;
	fds[(*nr)++] = fd;
	return true;
}

/* What a program is, and which of our maps it uses. If set_id is 0, the program is not ours. */
struct program {
	struct bpf_prog_info info;
	u32 set_id;
	u32 users_id;
	u32 tables_id;
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
		if (!strcmp(info.name, "invlock_tables"))
			p->tables_id = id;
	}
	close(fd);
}

/* Return: true = this is a program of a set. */
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
	return p->set_id;
}

static struct progset *progsets_find(struct progsets *sets, u32 id, bool add)
{
	for (unsigned int i = 0; i < sets->nr; i++)
		if (sets->set[i].id == id)
			return &sets->set[i];
	if (!add || sets->nr == PROGSETS_ROOM)
		return NULL;
	sets->set[sets->nr] = PROGSET_NONE;
	sets->set[sets->nr].id = id;
	return &sets->set[sets->nr++];
}

/* Return: true = the set keeps the descriptor. */
static bool progsets_add_link(struct progsets *sets, u32 id, int link)
{
	struct bpf_link_info info = {};
	u32 size = sizeof(info);
	struct program p;
	struct progset *set;
	int fd;
	bool ours;

	if (bpf_obj_get_info_by_fd(link, &info, &size) ||
	    (info.type != BPF_LINK_TYPE_RAW_TRACEPOINT && info.type != BPF_LINK_TYPE_TRACING &&
	     info.type != BPF_LINK_TYPE_PERF_EVENT))
		return false;
	fd = bpf_prog_get_fd_by_id(info.prog_id);
	if (fd < 0)
		return false;
	ours = program_look(fd, &p);
	close(fd);
	set = ours ? progsets_find(sets, p.set_id, true) : NULL;
	if (!set)
		return false;
	set->last_link = id;
	return progset_add_fd(set->links, &set->nr_links, link);
}

static bool progsets_add_program(struct progsets *sets, int fd)
{
	struct program p;
	struct progset *set;

	if (!program_look(fd, &p))
		return false;
	set = progsets_find(sets, p.set_id, false);
	if (!set || !progset_add_fd(set->programs, &set->nr_programs, fd))
		return false;
	if (p.users_id)
		set->users.id = p.users_id;
	if (p.tables_id)
		set->tables.id = p.tables_id;
	if (!strcmp(p.info.name, "loaded_by"))
		set->loaded_by = p.info.id;
	if (!strcmp(p.info.name, "ask"))
		set->ask = fd;
	if (!strcmp(p.info.name, "scan_calls"))
		set->scan_calls = fd;
	if (!strcmp(p.info.name, "scan_files"))
		set->scan_files = fd;
	if (!strcmp(p.info.name, "sit_by_reading"))
		set->sit_by_reading = fd;
	if (!strcmp(p.info.name, "look"))
		set->look = fd;
	return true;
}

int progsets_look(struct progsets *sets)
{
	u32 id = 0;
	int fd;

	sets->nr = 0;
	while (!bpf_link_get_next_id(id, &id)) {
		fd = bpf_link_get_fd_by_id(id);
		if (fd >= 0 && !progsets_add_link(sets, id, fd))
			close(fd);
	}
	if (errno != ENOENT)
		return -errno;
	id = 0;
	while (!bpf_prog_get_next_id(id, &id)) {
		fd = bpf_prog_get_fd_by_id(id);
		if (fd >= 0 && !progsets_add_program(sets, fd))
			close(fd);
	}
	return errno == ENOENT ? 0 : -errno;
}

static bool progset_is_complete(struct progset *set, u64 object)
{
	struct bpf_map_info info = {};
	u32 size = sizeof(info), zero = 0;
	struct bpf_set *head = NULL;
	bool complete = false;
	int fd;

	if (set->ask < 0 || set->scan_calls < 0 || set->scan_files < 0 || !set->users.id ||
	    !set->tables.id)
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
	const struct progset *x = a, *y = b;

	return (x->last_link > y->last_link) - (x->last_link < y->last_link);
}

int progset_join(struct progset *set, u64 object, const struct seat_maps *maps)
{
	struct progsets *sets = calloc(1, sizeof(*sets));
	struct loaders loaders = {};
	int err;

	if (!sets)
		return -ENOMEM;
	err = progsets_look(sets);
	/* If this fails, no set can be trusted. */
	if (!err && sets->nr)
		loaders_find(&loaders);
	if (!err)
		err = -ENOENT;
	qsort(sets->set, sets->nr, sizeof(*sets->set), by_last_link);
	for (unsigned int i = 0; i < sets->nr; i++) {
		struct progset *s = &sets->set[i];

		if (err == -ENOENT && loaders_have(&loaders, s->loaded_by) &&
		    progset_is_complete(s, object) && !progset_sit(s, maps)) {
			*set = *s;
			err = 0;
		} else {
			progset_release(s);
		}
	}
	free(sets);
	return err;
}

int progset_run(const struct progset *set, struct bpf_ask *q)
{
	LIBBPF_OPTS(bpf_test_run_opts, run, .ctx_in = q, .ctx_size_in = sizeof(*q));
	int err = bpf_prog_test_run_opts(set->ask, &run);

	return err ? err : (int)run.retval;
}

int progset_ask_of(const struct progset *set, enum bpf_what what, u32 index, u64 nr)
{
	struct bpf_ask q = { .what = what, .index = index, .nr = nr };

	return progset_run(set, &q);
}

int progset_ask(const struct progset *set, enum bpf_what what, u64 nr)
{
	return progset_ask_of(set, what, set->seat, nr);
}

int progset_note_missed(const struct progset *set, u64 missed, u64 total)
{
	struct bpf_ask q = { .what = BPF_ASK_NOTE_MISSED, .index = set->seat, .nr = missed,
			     .total = total };

	return progset_run(set, &q);
}

/*
 * The deletion returns only when no running program still uses the map. Older kernels may free the
 * map before that, so we hold it until then.
 */
static void delete_map(const struct progset_map *from, u32 seat)
{
	int map = -1;
	u32 id;

	if (!bpf_map_lookup_elem(from->fd, &seat, &id))
		map = bpf_map_get_fd_by_id(id);
	bpf_map_delete_elem(from->fd, &seat);
	if (map >= 0)
		close(map);
}

void progset_clear_left(struct progset *set)
{
	int seat;

	while ((seat = progset_ask(set, BPF_ASK_TAKE_LEFT, 0)) >= 0) {
		/* in this order: see bpf/users.h */
		delete_map(&set->tables, seat);
		delete_map(&set->users, seat);
		progset_ask_of(set, BPF_ASK_GIVE_BACK, seat, 0);
	}
}

static int open_map(struct progset_map *map)
{
	if (map->fd < 0)
		map->fd = bpf_map_get_fd_by_id(map->id);
	return map->fd < 0 ? -errno : 0;
}

static void close_map(struct progset_map *map)
{
	if (map->fd >= 0)
		close(map->fd);
	map->fd = -1;
}

/*
 * A process that holds these descriptors can take the maps of any user out of the set. So we close
 * them after use, lest a child inherit them.
 */
static int progset_open_maps(struct progset *set)
{
	int err = open_map(&set->users);

	return err ? err : open_map(&set->tables);
}

static void progset_close_maps(struct progset *set)
{
	if (set->keeps_maps)
		return;
	close_map(&set->users);
	close_map(&set->tables);
}

int progset_put_maps(const struct progset *set, u32 seat, const struct seat_maps *maps)
{
	/*
	 * These updates also wait for programs: one that was still leaving this seat is over before
	 * the seat is armed. Their order matters: see bpf/users.h.
	 */
	int err = bpf_map_update_elem(set->users.fd, &seat, &maps->user, BPF_ANY);

	return err ? err : bpf_map_update_elem(set->tables.fd, &seat, &maps->tables, BPF_ANY);
}

int progset_sit(struct progset *set, const struct seat_maps *maps)
{
	int err = progset_open_maps(set), seat;

	if (err)
		goto out;
	progset_clear_left(set);
	seat = progset_ask(set, BPF_ASK_CLAIM, 0);
	if (seat < 0) {
		err = seat;
		goto out;
	}
	set->seat = seat;
	err = progset_put_maps(set, seat, maps);
	if (err)
		progset_ask(set, BPF_ASK_GIVE_BACK, 0);
out:
	progset_close_maps(set);
	return err;
}

int progset_missed(const struct progset *set, u64 *ret_missed)
{
	u64 missed = 0;

	for (unsigned int i = 0; i < set->nr_programs; i++) {
		struct bpf_prog_info info = {};
		u32 size = sizeof(info);
		int err;

		/* Two readers may look at one CPU at once. If one is skipped, nothing is lost. */
		if (set->programs[i] == set->look)
			continue;
		err = bpf_obj_get_info_by_fd(set->programs[i], &info, &size);
		if (err)
			return err;
		missed += info.recursion_misses;
	}
	*ret_missed = missed;
	return 0;
}

void progset_leave(struct progset *set)
{
	progset_ask(set, BPF_ASK_LEAVE, 0);
	if (!progset_open_maps(set))
		progset_clear_left(set);
	progset_close_maps(set);
}

void progset_close_fd(int fd)
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

void progset_release(struct progset *set)
{
	set->keeps_maps = false;
	progset_close_maps(set);
	for (unsigned int i = 0; i < set->nr_links; i++)
		progset_close_fd(set->links[i]);
	for (unsigned int i = 0; i < set->nr_programs; i++)
		progset_close_fd(set->programs[i]);
	*set = PROGSET_NONE;
}
