/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Pins: which regions are in use, without a store to anything shared.
 *
 * A pin is a slot of the thread that took it, holding the region's address. Only
 * the owner fills a slot; the thread that is done empties it, whichever it is. There are
 * no reference counts: the thread that frees scans all slots.
 *
 *	a lookup			the thread that frees
 *	slot = region			unlink region from the index
 *	port_light_barrier()		port_heavy_barrier()
 *	still in the index? else retry	is it in any slot? then later
 *
 * Either the lookup finds the region unlinked, or the scan finds the slot. The
 * table of the index is protected in the same way (pin_thread.table).
 *
 * Thread records are never freed, only handed on: a pin may outlive its thread.
 */
#ifndef INVLOCK_LIB_CACHE_PIN_H
#define INVLOCK_LIB_CACHE_PIN_H

#include "region.h"

#define PIN_SLOTS	60
#define PIN_TRIES	4	/* of pin_slot_next() */

struct pin_slot {
	struct region *region;	/* owner: NULL -> region; any thread: region -> NULL (release) */
	u64 ticket;		/* of this pin, or the next one; written when the slot is emptied */
};

struct pin_chunk {
	struct pin_chunk *next;	/* set once (release) */
	u32 hint;		/* owner: where the next free slot is likely */
	struct pin_slot slots[PIN_SLOTS];
};

/* lib/ counts hits in front of it, on the same cache line: lib/cache/thread.h */
struct pin_thread {
	const void *table;		/* the index table that its latest lookup walked */
	struct pin_slot *slot;		/* owner: likely free; not NULL where table is not */
	struct pin_thread *next;	/* set before the record is published */
	u32 owned;			/* 1 while a thread has it */
	struct pin_chunk chunk;
} __attribute__((aligned(32)));

/* every thread record of the process */
struct pin_registry {
	struct pin_thread *threads;
	u64 nr_asked;		/* pins_alone() was asked */
};

/**
 * pin_thread_adopt() - take over a record that no thread owns
 * @reg: the registry
 *
 * Context: any, never waits. Return: a record, which may hold pins; NULL = none free,
 * add one with pin_thread_add(). Since: 0.1
 */
struct pin_thread *pin_thread_adopt(struct pin_registry *reg);

/* publish a zeroed record, owned by the caller */
void pin_thread_add(struct pin_registry *reg, struct pin_thread *t);

/* the owner is done, and walks no table; its pins stay */
void pin_thread_release(struct pin_thread *t);

/**
 * pin_slot_free() - an empty slot of the calling thread
 * @t: its record
 * @ret_last: the last chunk, to which pin_chunk_add() appends, when all are full
 *
 * Return: a slot, still empty; NULL = all full. Since: 0.1
 */
struct pin_slot *pin_slot_free(struct pin_thread *t, struct pin_chunk **ret_last);

/* append a zeroed chunk */
void pin_chunk_add(struct pin_chunk *last, struct pin_chunk *chunk);

static inline bool pin_slot_is_free(const struct pin_slot *slot)
{
	/* acquire: pairs with the release in invlock_cache_put() */
	return likely(!port_load_acquire(&slot->region));
}

/*
 * The fast path of pin_slot_free(): the slot that was used last, or one close behind it, for a
 * thread that holds several pins at a time. t->slot is that slot then.
 * Return: false = none of them is free
 */
static inline bool pin_slot_next(struct pin_thread *t)
{
	for (u32 tries = 1; unlikely(!pin_slot_is_free(t->slot)); tries++) {
		u64 next = (u64)(t->slot - t->chunk.slots) + 1;

		if (tries == PIN_TRIES)
			return false;
		/* behind one of a later chunk: the first */
		t->slot = &t->chunk.slots[next < PIN_SLOTS ? next : 0];
	}
	return true;
}

/**
 * pins_mark() - which regions of a pool are pinned?
 * @reg: the registry
 * @pool: every region of it gets held = 1 if a slot names it; never 0, the caller
 *	has cleared those it asks about
 *
 * Context: any. Locks: the pool's. Ordering: what was unlinked before
 * port_heavy_barrier() and is not marked by this is not in use and stays so.
 * Since: 0.1
 */
void pins_mark(const struct pin_registry *reg, struct region_pool *pool);

/**
 * pins_alone() - is there no other thread that may pin anything now?
 * @reg: the registry
 * @self: the caller's record; NULL = it has none
 *
 * If so, port_heavy_barrier() is not needed for what was unlinked before: a thread that comes
 * later finds it unlinked. Context: any. Ordering: full. Since: 0.1
 */
bool pins_alone(struct pin_registry *reg, const struct pin_thread *self);

/* may any thread still walk an unlinked index table? Ordering: as for pins_mark() */
bool pins_walk_table(const struct pin_registry *reg, const void *table);

#endif /* INVLOCK_LIB_CACHE_PIN_H */
