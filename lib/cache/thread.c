// SPDX-License-Identifier: MIT
#include "thread.h"

#include <errno.h>
#include <pthread.h>

#include "lib/mm.h"

struct pin_registry *thread_registry;
struct pin_thread thread_nobody;
_Thread_local struct pin_thread *thread_self = &thread_nobody;

static pthread_key_t exit_key;
static bool exit_key_works;

/* If a later destructor uses a cache, the thread gets a record again, and this runs again. */
static void thread_exits(void *record)
{
	thread_self = &thread_nobody;
	pin_thread_release(record);
}

__attribute__((constructor)) static void hear_of_exits(void)
{
	exit_key_works = !pthread_key_create(&exit_key, thread_exits);
}

/* Numbers begin at 1: a slot without a number is one that a fork has wiped. */
static void number_pins(struct pin_chunk *c)
{
	for (u32 i = 0; i < PIN_SLOTS; i++)
		c->slots[i].ticket = 1;
}

/* Not malloc(): it may be the program's own, and this thread may be inside it. */
static struct pin_thread *make_record(void)
{
	u64 *counters = map_wiped_on_fork(THREAD_COUNTERS * sizeof(u64) +
					  sizeof(struct pin_thread));
	struct pin_thread *t;

	if (!counters)
		return NULL;
	t = (struct pin_thread *)(counters + THREAD_COUNTERS);
	number_pins(&t->chunk);
	pin_thread_add(thread_registry, t);
	return t;
}

struct pin_thread *thread_get(void)
{
	struct pin_thread *t = thread_self;

	/* a record that a fork has wiped is never reused: pins may point into it */
	if (likely(t->owned))
		return t;
	t = pin_thread_adopt(thread_registry);
	if (!t)
		t = make_record();
	if (!t)
		return NULL;
	/* without a key no other thread adopts the record, which only leaks its page */
	if (exit_key_works)
		pthread_setspecific(exit_key, t);
	thread_self = t;
	return t;
}

struct pin_slot *thread_slot(struct pin_thread *self)
{
	struct pin_chunk *last, *chunk;
	struct pin_slot *slot = pin_slot_free(self, &last);

	if (slot)
		return slot;
	chunk = map_wiped_on_fork(sizeof(*chunk));
	if (!chunk)
		return NULL;
	number_pins(chunk);
	pin_chunk_add(last, chunk);
	self->slot = &chunk->slots[0];
	return self->slot;
}

int thread_prepare(void)
{
	if (!thread_registry)
		thread_registry = map_wiped_on_fork(sizeof(*thread_registry));
	return thread_registry ? 0 : -ENOMEM;
}
