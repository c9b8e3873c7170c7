// SPDX-License-Identifier: MIT
#include "thread.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#include "mm.h"

struct pin_registry thread_registry;
u32 thread_epoch;
_Thread_local struct pin_thread *thread_self;

static pthread_key_t exit_key;
static bool exit_key_works;
static u32 *prepared;	/* wiped on fork */

/* a destructor that runs later may call in again: it gets a record again, and we run again */
static void thread_exits(void *record)
{
	thread_self = NULL;
	pin_thread_release(record);
}

__attribute__((constructor)) static void hear_of_exits(void)
{
	exit_key_works = !pthread_key_create(&exit_key, thread_exits);
}

/* not malloc(): it may be the caller's, and be what the caller is in the middle of */
static void *map_zeroed(size_t bytes)
{
	void *mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return mem == MAP_FAILED ? NULL : mem;
}

struct pin_thread *thread_get(void)
{
	struct pin_thread *t = thread_self;

	if (likely(t))
		return t;
	t = pin_thread_adopt(&thread_registry);
	if (!t) {
		t = map_zeroed(sizeof(*t));
		if (!t)
			return NULL;
		pin_thread_add(&thread_registry, t);
	}
	/* without a key the record is never handed on: a leak of a page, nothing worse */
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
	chunk = map_zeroed(sizeof(*chunk));
	if (!chunk)
		return NULL;
	pin_chunk_add(last, chunk);
	return &chunk->slots[0];
}

static void forget_pins(struct pin_thread *t)
{
	t->table = NULL;
	memset(t->hits, 0, sizeof(t->hits));
	for (struct pin_chunk *c = &t->chunk; c; c = c->next)
		for (u32 i = 0; i < PIN_SLOTS; i++)
			c->slots[i].region = NULL;
}

int thread_prepare(void)
{
	if (!prepared) {
		prepared = map_wiped_on_fork(sizeof(*prepared));
		if (!prepared)
			return -ENOMEM;
		*prepared = 1;
	}
	if (!*prepared) {
		for (struct pin_thread *t = thread_registry.threads; t; t = t->next) {
			forget_pins(t);
			t->owned = t == thread_self;
		}
		thread_epoch++;
		*prepared = 1;
	}
	return 0;
}
