// SPDX-License-Identifier: MIT
/* The slots of the fixed-buffer table in which the cache registers. */
#include <errno.h>
#include <stdlib.h>

#include "share.h"

struct slots *slots_new(struct io_uring *ring, unsigned int nr)
{
	struct slots *slots = calloc(1, sizeof(*slots));

	if (!slots)
		return NULL;
	pthread_mutex_init(&slots->lock, NULL);
	slots->ring = ring;
	slots->free = calloc(nr, sizeof(*slots->free));
	slots->uncleared = calloc(nr, sizeof(*slots->uncleared));
	slots->handles = calloc(nr, sizeof(*slots->handles));
	if (!slots->free || !slots->uncleared || !slots->handles) {
		slots_free(slots);
		return NULL;
	}
	slots->nr = nr;
	slots->nr_free = nr;
	for (unsigned int i = 0; i < nr; i++)
		slots->free[i] = nr - 1 - i;
	return slots;
}

void slots_free(struct slots *slots)
{
	if (!slots)
		return;
	free(slots->free);
	free(slots->uncleared);
	free(slots->handles);
	free(slots);
}

/* Return: a slot; -ENOSPC when there is none */
static int slot_take(struct slots *slots)
{
	int slot = -ENOSPC;

	pthread_mutex_lock(&slots->lock);
	if (slots->nr_free)
		slot = slots->free[--slots->nr_free];
	pthread_mutex_unlock(&slots->lock);
	return slot;
}

static void slot_give(struct slots *slots, unsigned int slot)
{
	pthread_mutex_lock(&slots->lock);
	slots->free[slots->nr_free++] = slot;
	pthread_mutex_unlock(&slots->lock);
}

/* Only the thread that has taken the slot calls these three. */
static uint64_t slot_name(struct slots *slots, unsigned int slot)
{
	uint64_t handle;

	pthread_mutex_lock(&slots->lock);
	slots->nr_uncleared -= slots->uncleared[slot];
	slots->uncleared[slot] = false;
	handle = ++slots->nr_registered << SLOT_BITS | slot;
	pthread_mutex_unlock(&slots->lock);
	__atomic_store_n(&slots->handles[slot], handle, __ATOMIC_RELEASE);
	return handle;
}

static void slot_forget(struct slots *slots, unsigned int slot)
{
	__atomic_store_n(&slots->handles[slot], 0, __ATOMIC_RELEASE);
}

static void slot_is_uncleared(struct slots *slots, unsigned int slot)
{
	pthread_mutex_lock(&slots->lock);
	slots->nr_uncleared += !slots->uncleared[slot];
	slots->uncleared[slot] = true;
	pthread_mutex_unlock(&slots->lock);
}

int slot_fill(struct io_uring *ring, unsigned int slot, void *addr, size_t len)
{
	struct iovec iov = { .iov_base = addr, .iov_len = len };
	int ret = ring_update(ring, slot, &iov, 1);

	if (ret < 0)
		return ret;
	return ret == 1 ? 0 : -EIO;
}

/* the same in the table of these slots */
static int fill(struct slots *slots, unsigned int slot, void *addr, size_t len)
{
	if (slots->share && !share_has_ring(slots->share))
		return -EBADF;
	return slot_fill(slots->ring, slot, addr, len);
}

int slot_register(void *ctx, void *addr, size_t len, uint64_t *ret_handle)
{
	struct slots *slots = ctx;
	int slot = slot_take(slots), err;

	if (slot < 0)
		return slot;
	err = fill(slots, slot, addr, len);
	if (err) {
		slot_give(slots, slot);
		return err;
	}
	*ret_handle = slot_name(slots, slot);
	return 0;
}

void slot_clear(void *ctx, void *addr, size_t len, uint64_t handle)
{
	struct slots *slots = ctx;
	unsigned int slot = slot_of(handle);

	(void)addr;
	(void)len;
	/*
	 * No request names this slot any more, because each that does holds a pin. So the slot is
	 * free even if the kernel keeps the memory: the next registration in the slot replaces it.
	 */
	slot_forget(slots, slot);
	if (fill(slots, slot, NULL, 0))
		slot_is_uncleared(slots, slot);
	if (slots->share)
		share_clear(slots->share, handle);
	slot_give(slots, slot);
}

bool ring_is_ours(const struct invlock_uring *uring)
{
	/* This updates nothing: the kernel checks the thread before it looks at the arguments. */
	return !uring->one_thread || ring_update(uring->ring, 0, NULL, 0) != -EEXIST;
}
