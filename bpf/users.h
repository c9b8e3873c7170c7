/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * From an mm to its user, and how users come and go.
 *
 * One set of programs serves up to BPF_NR_USERS processes. A process claims a seat, puts the maps
 * that hold its struct bpf_user and its struct bpf_tables there, and arms the seat. When the
 * process dies, calls exec or closes the monitor, its seat is left. The next process that opens or
 * closes a monitor clears the seat, because a program cannot take a map out of another map.
 *
 * set->place only tells where to look. The field tables->mm decides whether a user is written: a
 * program that runs while seats change hands still finds out whose user it has. From the claim on,
 * no mm has two seats: only one of them would be found.
 *
 * A program that finds both maps of a seat finds two that belong together. The tables are taken
 * away first, which waits for all programs that run, and are put there last: so the user does not
 * change while a program may hold the tables.
 *
 * The kernel may give the address of an mm that is gone to a new mm, maybe just before the seat is
 * left. Changes of the new mm are then written to a feed which nobody reads any more, and the new
 * mm gets no seat in this set.
 */
#ifndef INVLOCK_BPF_USERS_H
#define INVLOCK_BPF_USERS_H

#include "feed.h"

#define EEXIST	17
#define EINVAL	22
#define ENODEV	19
#define ENOENT	2
#define ENOSPC	28
#define EPERM	1

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct bpf_set);
} invlock_set SEC(".maps");

struct user_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	/* clang describes no types for a map inside a map. */
	__uint(key_size, sizeof(u32));
	__uint(value_size, sizeof(struct bpf_user));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, BPF_NR_USERS);
	__type(key, u32);
	__array(values, struct user_map);
} invlock_users SEC(".maps");

struct tables_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(u32));
	__uint(value_size, sizeof(struct bpf_tables));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, BPF_NR_USERS);
	__type(key, u32);
	__array(values, struct tables_map);
} invlock_tables SEC(".maps");

static inline struct bpf_set *get_set(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&invlock_set, &zero);
}

static inline struct bpf_user *user_at(u32 index)
{
	void *map = bpf_map_lookup_elem(&invlock_users, &index);
	u32 zero = 0;

	return map ? bpf_map_lookup_elem(map, &zero) : NULL;
}

static inline struct bpf_tables *tables_at(u32 index)
{
	void *map = bpf_map_lookup_elem(&invlock_tables, &index);
	u32 zero = 0;

	return map ? bpf_map_lookup_elem(map, &zero) : NULL;
}

/* Return: the user of a seat that is armed; NULL = it is not. */
static inline struct bpf_user *armed_at(u32 index)
{
	struct bpf_set *set = get_set();

	index &= BPF_NR_USERS - 1;
	return set && port_load(&set->mm[index]) ? user_at(index) : NULL;
}

/* Return: the tables of a user that is watched; NULL = its seat is being cleared. */
static inline struct bpf_tables *tables_of(const struct bpf_user *u)
{
	return tables_at(u->state.index);
}

/*
 * What is done for each seat that is held. VISITOR() makes a function that does it for the seats of
 * one group, and visit() calls that for all groups. The verifier, which follows every turn of a
 * plain loop, has 64 to follow, and a group of which no seat is held costs one call. @what is an
 * expression of seat and v; if it is not 0 the visit ends.
 */
struct visit {
	u64 a, b, c, d;
	u64 stopped;	/* not 0: what was done for some seat has ended the visit */
};

#define VISITOR(name, what)							\
static long name(u32 group, struct visit *v)					\
{										\
	struct bpf_set *set = get_set();					\
	u64 held;								\
										\
	group &= BPF_NR_GROUPS - 1;						\
	held = set ? port_load(&set->held[group]) : 0;				\
	for (u32 i = 0; i < 64 && held; i++, held >>= 1) {			\
		u32 seat = group * 64 + i;					\
										\
		if (held & 1 && (what)) {					\
			v->stopped = 1;						\
			return 1;						\
		}								\
	}									\
	return 0;								\
}

#define visit(visitor, v)	bpf_loop(BPF_NR_GROUPS, visitor, v, 0)

/*
 * The verifier distinguishes numbers from pointers: a pointer that was negated is a number to it.
 */
static inline u64 number_of(const void *pointer)
{
	u64 n = (u64)pointer;

	__asm__ volatile("%0 = -%0\n\t%0 = -%0" : "+r"(n));
	return n;
}

static inline u64 mm_of(struct task_struct *task)
{
	return number_of(task->mm);
}

/* No mm is further from its home. */
#define PLACE_PROBES	64

/* Return: the place at which the search for the seat of an mm begins. */
static inline u32 home_of(u64 mm)
{
	return (u32)(mm * 0x9e3779b97f4a7c15ULL >> 40) & (BPF_NR_PLACES - 1);
}

/* Return: the seat of an mm; -1 = none. This function is global for the verifier: see feed.h. */
__noinline int seat_of(u64 mm)
{
	struct bpf_set *set = get_set();
	u32 home = home_of(mm);
	u64 reach;

	if (!set || !mm)
		return -1;
	reach = port_load(&set->reach);
	for (u32 i = 0; i < PLACE_PROBES && i < reach; i++) {
		struct bpf_place *p = &set->place[(home + i) & (BPF_NR_PLACES - 1)];

		if (port_load(&p->mm) == mm)
			return (int)port_load(&p->seat) - 1;
	}
	return -1;
}

/* Return: the user of an mm; NULL = this mm is not watched. */
static inline struct bpf_user *user_of(u64 mm)
{
	struct bpf_set *set = get_set();
	struct bpf_tables *t;
	struct bpf_place *p;
	int seat;

	/* An mm of 0 would match a free place. */
	if (!set || !mm)
		return NULL;
	p = &set->place[home_of(mm)];
	seat = (int)port_load(&p->seat) - 1;
	if (likely(port_load(&p->mm) != mm)) {
		if (likely(port_load(&set->reach) <= 1))
			return NULL;
		seat = seat_of(mm);
	}
	/* The place may be another mm's by now: then these are not its tables. */
	t = tables_at(seat);
	return t && port_load(&t->mm) == mm ? user_at(seat) : NULL;
}

/* After 8 lost races, store the maximum, which is always safe. */
static inline void grow(u64 *what, u64 to, u64 furthest)
{
	u64 old = port_load(what), seen;
	u32 i;

	for (i = 0; i < 8 && old < to; i++) {
		seen = port_cmpxchg(what, old, to);
		if (seen == old)
			return;
		old = seen;
	}
	if (i == 8)
		port_store(what, furthest);
}

/* Let programs find the seat of an mm. At most every fourth place is taken. */
__noinline int take_place(u64 mm, u32 index)
{
	struct bpf_set *set = get_set();
	u32 home = home_of(mm);

	if (!set)
		return -EINVAL;
	index &= BPF_NR_USERS - 1;
	for (u32 i = 0; i < PLACE_PROBES; i++) {
		u32 at = (home + i) & (BPF_NR_PLACES - 1);
		struct bpf_place *p = &set->place[at];

		if (port_load(&p->seat) || port_cmpxchg(&p->seat, 0, (u64)index + 1))
			continue;
		port_store(&set->seat[index].place, (u64)at + 1);
		grow(&set->reach, i + 1, PLACE_PROBES);
		port_store_release(&p->mm, mm);
		return 0;
	}
	return -ENOSPC;
}

static inline void give_place(struct bpf_set *set, u32 index)
{
	u64 place = port_load(&set->seat[index].place);
	struct bpf_place *p = &set->place[(place - 1) & (BPF_NR_PLACES - 1)];

	/* The thread that takes the number away gives the place back: see take_reserved(). */
	if (!place || port_cmpxchg(&set->seat[index].place, place, 0) != place)
		return;
	port_store(&p->mm, 0);
	port_store_release(&p->seat, 0);
}

static inline void vacate(struct bpf_set *set, u32 index, u32 state)
{
	port_store(&set->seat[index].mm, 0);
	port_store(&set->seat[index].tgid, 0);
	if (state == BPF_SEAT_FREE) {
		port_store(&set->seat[index].leaving, 0);
		port_fetch_and(&set->held[index / 64], ~(1ULL << index % 64));
	}
	port_store_release(&set->seat[index].state, state);
}

/* The process that holds a seat gives it up. Return: 1 = it held the seat; 0 = it did not. */
__noinline int leave_seat(u32 index, u32 tgid)
{
	struct bpf_set *set = get_set();
	struct bpf_tables *t;
	struct bpf_user *u;

	if (!set)
		return 0;
	index &= BPF_NR_USERS - 1;
	if (set->seat[index].tgid != tgid)
		return 0;
	if (port_cmpxchg(&set->seat[index].state, BPF_SEAT_RESERVED, BPF_SEAT_LEFT) ==
	    BPF_SEAT_RESERVED)
		return 1;
	if (set->seat[index].state != BPF_SEAT_TAKEN)
		return 0;
	/* A full barrier: pairs with the load in take_reserved(). */
	port_fetch_add(&set->seat[index].leaving, 1);
	t = tables_at(index);
	u = user_at(index);
	/*
	 * The user is not armed if the process was still opening, or was clearing a seat that
	 * another process left.
	 */
	if (u && port_load(&u->state.watching)) {
		feed_close(u, BPF_CLOSED_GONE);
		port_store(&u->state.watching, 0);
	}
	if (t)
		port_store(&t->mm, 0);
	give_place(set, index);
	port_store(&set->mm[index], 0);
	vacate(set, index, BPF_SEAT_LEFT);
	return 1;
}

__noinline int seat_loses_process(u32 index, u32 tgid)
{
	struct bpf_set *set = get_set();

	index &= BPF_NR_USERS - 1;
	if (set && set->seat[index].tgid == tgid)
		leave_seat(index, tgid);
	return 0;
}

VISITOR(leave_group, seat_loses_process(seat, v->a))

/* A process has died or has replaced its mm: leave all its seats. */
static inline void leave_all(u32 tgid)
{
	struct visit v = { .a = tgid };

	visit(leave_group, &v);
}

static inline long take_seat(struct bpf_set *set, u32 index, u32 from, u32 to, u32 tgid)
{
	if (port_load(&set->seat[index].state) != from ||
	    port_cmpxchg(&set->seat[index].state, from, to) != from)
		return -1;
	/* before anything is written there that another program looks for */
	if (from == BPF_SEAT_FREE)
		port_fetch_or(&set->held[index / 64], 1ULL << index % 64);
	port_store(&set->seat[index].tgid, tgid);
	return index;
}

/* Return: a seat that was in state @from and is now in state @to; -ENOSPC = there is none. */
__noinline int find_seat(u32 from, u32 to, u32 tgid)
{
	struct bpf_set *set = get_set();

	if (!set)
		return -EINVAL;
	for (u32 i = 0; i < BPF_NR_USERS; i++)
		if (take_seat(set, i, from, to, tgid) >= 0)
			return i;
	return -ENOSPC;
}

__noinline int is_seat_of(u32 index, u64 mm, u32 other_than)
{
	struct bpf_set *set = get_set();

	index &= BPF_NR_USERS - 1;
	return set && index != other_than && port_load(&set->seat[index].mm) == mm;
}

VISITOR(find_second, is_seat_of(seat, v->a, v->b))

/* The caller has taken this seat. Return: 0; -EEXIST = this mm has another seat. */
__noinline int seat_mm(u32 index, u64 mm)
{
	struct visit v = { .a = mm, .b = index & (BPF_NR_USERS - 1) };
	struct bpf_set *set = get_set();

	if (!set)
		return -EINVAL;
	index &= BPF_NR_USERS - 1;
	/*
	 * A full barrier: if two copies of the library in this process claim a seat, one sees the
	 * other.
	 */
	port_cmpxchg(&set->seat[index].mm, 0, mm);
	visit(find_second, &v);
	return v.stopped ? -EEXIST : 0;
}

__noinline int claim_seat(u64 mm, u32 tgid)
{
	struct bpf_set *set = get_set();
	int seat = find_seat(BPF_SEAT_FREE, BPF_SEAT_TAKEN, tgid), err;
	u32 at;

	if (!set)
		return -EINVAL;
	if (seat < 0)
		return seat;
	/* A compiler that knows what find_seat() returns drops the mask; the verifier needs it. */
	barrier_var(seat);
	at = seat & (BPF_NR_USERS - 1);
	err = seat_mm(at, mm);
	if (!err)
		return at;
	vacate(set, at, BPF_SEAT_FREE);
	return err;
}

/*
 * The feed is closed first: whatever its process does meanwhile, as taking the seat, it finds out.
 */
__noinline int evict(u32 index)
{
	struct bpf_set *set = get_set();
	struct bpf_user *u;

	if (!set)
		return -EINVAL;
	index &= BPF_NR_USERS - 1;
	u = user_at(index);
	if (u) {
		feed_close(u, BPF_CLOSED_EVICTED);
		port_store(&u->state.watching, 0);
	}
	return leave_seat(index, set->seat[index].tgid) ? 0 : -ENOENT;
}

__noinline int seat_closes(u32 index, u32 why)
{
	struct bpf_user *u = user_at(index);

	if (u && port_load(&u->state.watching))
		feed_close(u, why);
	return 0;
}

VISITOR(close_group, seat_closes(seat, v->a))

/* Close every feed of the set: from here on, calls may go unseen. */
__noinline int close_set(u32 why)
{
	struct visit v = { .a = why };
	struct bpf_set *set = get_set();

	if (!set)
		return 0;
	/* A full barrier: pairs with the full barrier in arm(). */
	port_fetch_add(&set->closed, 1);
	visit(close_group, &v);
	return 0;
}

#endif /* INVLOCK_BPF_USERS_H */
