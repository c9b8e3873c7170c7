// SPDX-License-Identifier: GPL-2.0-only OR MIT
#include "pin.h"

struct pin_thread *pin_thread_adopt(struct pin_registry *reg)
{
	struct pin_thread *t;

	for (t = port_load_acquire(&reg->threads); t; t = t->next)
		/* pairs with the release in pin_thread_release() */
		if (!port_load(&t->owned) && !port_cmpxchg(&t->owned, 0, 1))
			return t;
	return NULL;
}

void pin_thread_add(struct pin_registry *reg, struct pin_thread *t)
{
	struct pin_thread *head = port_load(&reg->threads), *seen;

	t->owned = 1;
	for (;;) {
		t->next = head;
		seen = port_cmpxchg(&reg->threads, head, t);
		if (seen == head)
			return;
		head = seen;
	}
}

void pin_thread_release(struct pin_thread *t)
{
	port_store_release(&t->table, NULL);
	port_store_release(&t->owned, 0);
}

struct pin_slot *pin_slot_free(struct pin_thread *t, struct pin_chunk **ret_last)
{
	struct pin_chunk *c;

	for (c = &t->chunk; ; c = c->next) {
		for (u32 i = 0; i < PIN_SLOTS; i++) {
			u32 at = (c->hint + i) % PIN_SLOTS;

			if (pin_slot_is_free(&c->slots[at])) {
				c->hint = at;
				t->slot = &c->slots[at];
				return t->slot;
			}
		}
		if (!c->next)
			break;
	}
	*ret_last = c;
	return NULL;
}

void pin_chunk_add(struct pin_chunk *last, struct pin_chunk *chunk)
{
	port_store_release(&last->next, chunk);
}

bool pins_alone(struct pin_registry *reg, const struct pin_thread *self)
{
	const struct pin_thread *t;

	/* full: pairs with the exchanges of pin_thread_add() and pin_thread_adopt() */
	port_fetch_add(&reg->nr_asked, 1);
	for (t = port_load_acquire(&reg->threads); t; t = t->next)
		/* acquire: the pins that its last owner left are seen */
		if (t != self && port_load_acquire(&t->owned))
			return false;
	return true;
}

static void mark_chunk(const struct pin_chunk *c, struct region_pool *pool)
{
	for (u32 i = 0; i < PIN_SLOTS; i++) {
		/* acquire: what the holder read, it read before the region is reused */
		struct region *r = port_load_acquire(&c->slots[i].region);

		if (r >= pool->regions && r < pool->regions + pool->capacity)
			r->held = true;
	}
}

void pins_mark(const struct pin_registry *reg, struct region_pool *pool)
{
	const struct pin_thread *t;
	const struct pin_chunk *c;

	for (t = port_load_acquire(&reg->threads); t; t = t->next)
		for (c = &t->chunk; c; c = port_load_acquire(&c->next))
			mark_chunk(c, pool);
}

bool pins_walk_table(const struct pin_registry *reg, const void *table)
{
	const struct pin_thread *t;

	for (t = port_load_acquire(&reg->threads); t; t = t->next)
		if (port_load_acquire(&t->table) == table)
			return true;
	return false;
}
