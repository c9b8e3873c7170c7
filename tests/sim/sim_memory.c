// SPDX-License-Identifier: MIT
/* What a load returns: from one memory, store buffers, or messages and views. */
#include "sim_internal.h"

/* WEAK: a location keeps the stores to it, oldest first. */
struct message {
	u64 value;
	bool in_place;		/* written by plain code: the value is the one in memory */
	struct view view;	/* what a thread that acquires it learns */
};

struct location {
	void *p;
	u32 size;
	u32 nr;			/* message 0 is the value at the start */
	struct message messages[MAX_MESSAGES];
};

#define LINE	64u

static struct location locations[MAX_LOCATIONS];
static u32 nr_locations;
static u8 location_of[SIM_ARENA];		/* number of the location + 1; 0 = none yet */
static struct view full_view;			/* what full RMWs know of each other */
static u8 initial[SIM_ARENA];
static bool line_touched[SIM_ARENA / LINE];
static u32 touched[SIM_ARENA / LINE], nr_touched;

static void touch(const void *p)
{
	u32 line = (u32)((u8 *)p - sim.arena) / LINE;

	if (!line_touched[line]) {
		line_touched[line] = true;
		touched[nr_touched++] = line;
	}
}

void memory_forget(void)
{
	memcpy(initial, sim.arena, SIM_ARENA);
	memory_reset();
	memset(location_of, 0, sizeof(location_of));
	nr_locations = 0;
}

/* Returns to the state after setup. */
void memory_reset(void)
{
	for (u32 i = 0; i < nr_touched; i++) {
		memcpy(sim.arena + touched[i] * LINE, initial + touched[i] * LINE, LINE);
		line_touched[touched[i]] = false;
	}
	nr_touched = 0;
	for (u32 i = 0; i < nr_locations; i++)
		locations[i].nr = 0;
	memset(&full_view, 0, sizeof(full_view));
}

static void learn(struct view *to, const struct view *from)
{
	for (u32 i = 0; i < MAX_LOCATIONS; i++)
		to->seen[i] = to->seen[i] > from->seen[i] ? to->seen[i] : from->seen[i];
	for (u32 i = 0; i < SIM_THREADS; i++)
		to->clocks[i] = to->clocks[i] > from->clocks[i] ? to->clocks[i] : from->clocks[i];
}

static u32 location_nr(const void *p, u32 size)
{
	u32 at = (u32)((u8 *)p - sim.arena);

	if (!location_of[at]) {
		if (nr_locations == MAX_LOCATIONS) {
			sim_fail("the case uses more than %u locations", MAX_LOCATIONS);
			return 0;
		}
		locations[nr_locations] = (struct location){ .p = (void *)p, .size = size };
		location_of[at] = (u8)++nr_locations;
	}
	return location_of[at] - 1;
}

static u64 message_value(const struct location *l, u32 nr)
{
	const struct message *m = &l->messages[nr];

	return m->in_place ? value_at(l->p, l->size) : m->value;
}

/* The stores that a load of t may return: from *ret_first to the newest. */
static u32 readable(const struct thread *t, const void *p, u32 size, u32 *ret_first)
{
	u32 nr = location_nr(p, size);
	const struct location *l = &locations[nr];

	*ret_first = t->view.seen[nr];
	return l->nr ? l->nr - *ret_first : 1;
}

static void append(struct thread *t, u32 nr, u64 value, bool in_place, const struct view *view)
{
	struct location *l = &locations[nr];

	if (!l->nr) {
		l->nr = 1;
		l->messages[0] = (struct message){ .value = value_at(l->p, l->size) };
	}
	if (l->nr == MAX_MESSAGES) {
		sim_fail("more than %u stores to one location", MAX_MESSAGES);
		return;
	}
	if (l->messages[l->nr - 1].in_place) {
		l->messages[l->nr - 1].value = value_at(l->p, l->size);
		l->messages[l->nr - 1].in_place = false;
	}
	t->view.seen[nr] = (u8)l->nr;
	l->messages[l->nr] = (struct message){ .value = value, .in_place = in_place };
	if (view)
		l->messages[l->nr].view = *view;
	l->messages[l->nr].view.seen[nr] = (u8)l->nr;
	l->nr++;
}

/* Plain code is about to write: from now on the value is the one in memory. */
void memory_plain_write(struct thread *t, const void *p, u32 size)
{
	u32 at = (u32)((u8 *)p - sim.arena);

	touch(p);
	touch((u8 *)p + size - 1);
	if (sim.model != SIM_WEAK || !t)
		return;
	for (u32 i = at; i < at + size; i++)
		if (location_of[i] && locations[location_of[i] - 1].nr)
			append(t, location_of[i] - 1, 0, true, NULL);
}

/* used in setup and finish */
void memory_set(void *p, u32 size, u64 value)
{
	if (in_arena(p))
		touch(p);
	set_value_at(p, size, value);
}

static bool acquires(enum sim_order order)
{
	return order == SIM_ACQUIRE || order == SIM_ACQ_REL || order == SIM_FULL;
}

static bool releases(enum sim_order order)
{
	return order == SIM_RELEASE || order == SIM_ACQ_REL || order == SIM_FULL;
}

static void write_through(struct thread *by, void *p, u32 size, u64 value)
{
	touch(p);
	set_value_at(p, size, value);
	for (u32 i = 0; i < sim.nr_threads; i++)
		if (&sim.threads[i] != by)
			sim.threads[i].stirred = true;
}

static u64 weak_load(struct thread *t, const struct op *op, u32 choice)
{
	u32 nr = location_nr(op->p, op->size), first;
	struct location *l = &locations[nr];
	u32 at, n = readable(t, op->p, op->size, &first);

	if (!l->nr)
		return value_at(op->p, op->size);
	at = first + n - 1 - choice;
	t->view.seen[nr] = (u8)at;
	if (acquires(op->order))
		learn(&t->view, &l->messages[at].view);
	return message_value(l, at);
}

static void weak_store(struct thread *t, const struct op *op, u64 value, const struct view *also)
{
	u32 nr = location_nr(op->p, op->size);
	struct view view = {};

	if (op->order == SIM_FENCED)
		view = t->fence;
	if (releases(op->order))
		view = t->view;
	/* An RMW passes on the knowledge of the store that it replaces. */
	if (also)
		learn(&view, also);
	append(t, nr, value, false, &view);
	write_through(t, op->p, op->size, value);
}

static void flush(struct thread *t, u32 nr)
{
	u32 keep = t->nr_buffered - nr;

	while (t->nr_buffered > keep)
		memory_flush_oldest(t);
}

bool memory_can_flush(const struct thread *t)
{
	return t->nr_buffered;
}

void memory_flush_oldest(struct thread *t)
{
	struct buffered b = t->buffer[0];

	memmove(t->buffer, t->buffer + 1, --t->nr_buffered * sizeof(b));
	memset(&t->buffer[t->nr_buffered], 0, sizeof(b));
	if (t->nr_fenced)
		t->nr_fenced--;
	write_through(t, b.p, b.size, b.value);
	/* If no other thread reads the location, the moment of the write does not matter. */
	if (t->nr_buffered && sim_is_private(t->buffer[0].p))
		memory_flush_oldest(t);
}

/* Plain code accesses memory directly, so the thread's own stores must be there. */
void memory_settle(struct thread *t, const void *p, u32 size)
{
	for (u32 i = t->nr_buffered; i-- > 0; )
		if ((u8 *)t->buffer[i].p < (u8 *)p + size &&
		    (u8 *)p < (u8 *)t->buffer[i].p + t->buffer[i].size) {
			flush(t, i + 1);
			return;
		}
}

void memory_flush_all(void)
{
	for (u32 i = 0; i < sim.nr_threads; i++)
		flush(&sim.threads[i], sim.threads[i].nr_buffered);
}

static u64 load(struct thread *t, const struct op *op, u32 choice)
{
	if (sim.model == SIM_WEAK)
		return weak_load(t, op, choice);
	for (u32 i = t->nr_buffered; i-- > 0; )
		if (t->buffer[i].p == op->p)
			return t->buffer[i].value;
	return value_at(op->p, op->size);
}

static void store(struct thread *t, const struct op *op)
{
	if (sim.model == SIM_WEAK) {
		weak_store(t, op, op->a, NULL);
	} else if (sim.model == SIM_SC ||
		   (!t->nr_buffered && sim_is_private(op->p))) {
		write_through(t, op->p, op->size, op->a);
	} else {
		if (t->nr_buffered == MAX_BUFFERED)
			memory_flush_oldest(t);
		t->buffer[t->nr_buffered++] = (struct buffered){ op->p, op->size, op->a };
	}
}

static u64 rmw(struct thread *t, const struct op *op)
{
	u64 before, after;
	u32 nr = 0;

	if (sim.model != SIM_WEAK) {
		flush(t, t->nr_buffered);
		before = value_at(op->p, op->size);
	} else {
		nr = location_nr(op->p, op->size);
		t->view.seen[nr] = locations[nr].nr ? (u8)(locations[nr].nr - 1) : 0;
		if (op->order == SIM_FULL)
			learn(&t->view, &full_view);
		before = weak_load(t, op, 0);
	}
	if (op->kind == OP_CMPXCHG && before != op->a)
		goto out;
	after = op->kind == OP_CMPXCHG ? op->b : before + op->a;
	if (sim.model == SIM_WEAK)
		weak_store(t, op, after, locations[nr].nr ?
			   &locations[nr].messages[locations[nr].nr - 1].view : NULL);
	else
		write_through(t, op->p, op->size, after);
out:
	if (sim.model == SIM_WEAK && op->order == SIM_FULL) {
		learn(&full_view, &t->view);
		t->fence = t->view;
	}
	return before;
}

/* Every thread makes a full fence. It does not hold stores that the compiler may still move. */
static void heavy_barrier(struct thread *t)
{
	struct view all = full_view;

	flush(t, t->nr_buffered);
	for (u32 i = 0; i < sim.nr_threads; i++) {
		flush(&sim.threads[i], sim.threads[i].nr_fenced);
		learn(&all, &sim.threads[i].view);
	}
	if (sim.model != SIM_WEAK)
		return;
	for (u32 i = 0; i < sim.nr_threads; i++)
		sim.threads[i].view = sim.threads[i].fence = all;
	full_view = all;
}

/* Time passes: all stores have arrived, but the thread learns nothing else from that. */
static void see_newest(struct thread *t)
{
	for (u32 i = 0; i < nr_locations; i++)
		if (locations[i].nr)
			t->view.seen[i] = (u8)(locations[i].nr - 1);
}

static bool others_are_done(const struct thread *t)
{
	for (u32 i = 0; i < sim.nr_threads; i++)
		if (&sim.threads[i] != t && (!sim.threads[i].done || sim.threads[i].nr_buffered))
			return false;
	return true;
}

u32 memory_nr_choices(const struct thread *t)
{
	const struct op *op = &t->op;
	u32 first;

	switch (op->kind) {
	case OP_LOAD:
		return sim.model == SIM_WEAK ? readable(t, op->p, op->size, &first) : 1;
	case OP_HEAVY:
		return sim.barrier_may_fail ? 2 : 1;
	case OP_WAIT:
		return t->stirred || others_are_done(t);
	case OP_LOCK:
		return !value_at(op->p, op->size);
	case OP_AWAIT:
		return value_at(op->p, op->size) != 0;
	case OP_CHOOSE:
		return (u32)op->a;
	default:
		return 1;
	}
}

bool memory_choice_is_stale(const struct thread *t, u32 choice)
{
	return t->op.kind == OP_LOAD && choice;
}

/* Returns the newest store of a location, and learns what it carries. */
static u64 load_newest(struct thread *t, const struct op *op)
{
	struct op acquire = *op;

	acquire.order = SIM_ACQUIRE;
	return sim.model == SIM_WEAK ? weak_load(t, &acquire, 0) : value_at(op->p, op->size);
}

static void wait_step(struct thread *t)
{
	t->idle_waits = t->stirred ? 0 : t->idle_waits + 1;
	if (t->idle_waits > 2)
		sim_fail("%s waits though nothing runs", t->code->name);
	t->stirred = false;
	t->waits++;
	if (sim.model == SIM_WEAK)
		see_newest(t);
	t->result = 0;
}

void memory_step(struct thread *t, u32 choice)
{
	struct op op = t->op;

	t->view.clocks[t - sim.threads]++;
	switch (op.kind) {
	case OP_LOAD:
		t->result = load(t, &op, choice);
		plain_access(t, op.p, op.size, ATOMIC_READ);
		break;
	case OP_STORE:
		plain_access(t, op.p, op.size, ATOMIC_WRITE);
		store(t, &op);
		t->result = 0;
		break;
	case OP_ADD:
	case OP_CMPXCHG:
		t->result = rmw(t, &op);
		plain_access(t, op.p, op.size, ATOMIC_WRITE);
		break;
	case OP_HEAVY:
		if (!choice)
			heavy_barrier(t);
		t->result = !choice;
		break;
	case OP_WAIT:
		wait_step(t);
		break;
	case OP_LOCK:
		load_newest(t, &op);
		op.order = SIM_ACQ_REL;
		op.kind = OP_ADD;
		op.a = 1;
		t->result = rmw(t, &op);
		break;
	case OP_UNLOCK:
		op.order = SIM_RELEASE;
		if (sim.model == SIM_WEAK)
			weak_store(t, &op, 0, NULL);
		else
			flush(t, t->nr_buffered), write_through(t, op.p, op.size, 0);
		t->result = 0;
		break;
	case OP_AWAIT:
		t->result = load_newest(t, &op);
		break;
	case OP_CHOOSE:
		t->result = choice;
		break;
	}
	t->history = mix(t->history, t->result + 1);
}

static u64 hash_view(u64 h, const struct view *view)
{
	const u64 *v = (const u64 *)view;

	for (u32 w = 0; w < sizeof(*view) / sizeof(u64); w++)
		if (v[w])
			h = mix(h, v[w] + w);
	return h;
}

/* Stores that every thread has read past are not part of the state. */
static u64 hash_messages(u64 h)
{
	for (u32 i = 0; i < nr_locations; i++) {
		const struct location *l = &locations[i];
		u32 oldest = l->nr;

		if (!l->nr)
			continue;
		for (u32 t = 0; t < sim.nr_threads; t++)
			if (!sim.threads[t].done && sim.threads[t].view.seen[i] < oldest)
				oldest = sim.threads[t].view.seen[i];
		h = mix(h, i << 8 | l->nr);
		for (; oldest < l->nr; oldest++) {
			h = mix(h, message_value(l, oldest));
			h = hash_view(h, &l->messages[oldest].view);
		}
	}
	return h;
}

_Static_assert(sizeof(struct view) % sizeof(u64) == 0, "hashed in words");

u64 memory_hash(void)
{
	u64 sum = 0, h = 0;

	for (u32 i = 0; i < nr_touched; i++) {
		const u64 *now = (const u64 *)(sim.arena + touched[i] * LINE);

		if (!memcmp(now, initial + touched[i] * LINE, LINE))
			continue;
		h = touched[i];
		for (u32 w = 0; w < LINE / sizeof(u64); w++)
			h = mix(h, now[w]);
		sum += h;
	}
	h = sum;
	for (u32 i = 0; i < sim.nr_threads; i++) {
		const struct thread *t = &sim.threads[i];

		h = mix(h, t->history);
		h = mix(h, t->done | t->stirred << 1 | t->idle_waits << 2 | t->nr_fenced << 8 |
			   t->nr_buffered << 16);
		for (u32 b = 0; b < t->nr_buffered; b++)
			h = mix(mix(h, (unsigned long)t->buffer[b].p), t->buffer[b].value);
		if (sim.model != SIM_WEAK || t->done)
			continue;
		h = hash_view(hash_view(h, &t->view), &t->fence);
	}
	return sim.model == SIM_WEAK ? hash_messages(hash_view(h, &full_view)) : h;
}
