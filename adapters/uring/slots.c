// SPDX-License-Identifier: MIT
/* The slots of the ring's fixed-buffer table. A handle of the cache is a slot's number. */
#include <errno.h>
#include <stdlib.h>

#include "adapter.h"

int slots_init(struct slots *slots, unsigned int nr)
{
	slots->free = calloc(nr, sizeof(*slots->free));
	slots->uncleared = calloc(nr, sizeof(*slots->uncleared));
	if (!slots->free || !slots->uncleared) {
		slots_free(slots);
		return -ENOMEM;
	}
	pthread_mutex_init(&slots->lock, NULL);
	slots->nr = nr;
	slots->nr_free = nr;
	for (unsigned int i = 0; i < nr; i++)
		slots->free[i] = nr - 1 - i;
	return 0;
}

void slots_free(struct slots *slots)
{
	free(slots->free);
	free(slots->uncleared);
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

/* Only the thread that has taken the slot calls this. */
static void slot_mark(struct slots *slots, unsigned int slot, bool uncleared)
{
	pthread_mutex_lock(&slots->lock);
	slots->nr_uncleared += uncleared - slots->uncleared[slot];
	slots->uncleared[slot] = uncleared;
	pthread_mutex_unlock(&slots->lock);
}

static int update(const struct invlock_uring *uring, unsigned int slot, void *addr, size_t len)
{
	struct iovec iov = { .iov_base = addr, .iov_len = len };
	int ret = ring_update(uring->ring, slot, &iov, 1);

	if (ret < 0)
		return ret;
	return ret == 1 ? 0 : -EIO;
}

int slot_register(void *ctx, void *addr, size_t len, uint64_t *ret_handle)
{
	struct invlock_uring *uring = ctx;
	int slot = slot_take(&uring->slots), err;

	if (slot < 0)
		return slot;
	err = update(uring, slot, addr, len);
	if (err) {
		slot_give(&uring->slots, slot);
		return err;
	}
	slot_mark(&uring->slots, slot, false);
	*ret_handle = slot;
	return 0;
}

void slot_clear(void *ctx, void *addr, size_t len, uint64_t handle)
{
	struct invlock_uring *uring = ctx;

	(void)addr;
	(void)len;
	/*
	 * No request names this slot any more, because each that does holds a pin. So the slot is
	 * free even if the kernel keeps the memory: the next registration in the slot replaces it.
	 */
	if (update(uring, handle, NULL, 0))
		slot_mark(&uring->slots, handle, true);
	slot_give(&uring->slots, handle);
}

bool ring_is_ours(const struct invlock_uring *uring)
{
	/* This updates nothing: the kernel checks the thread before it looks at the arguments. */
	return !uring->one_thread || ring_update(uring->ring, 0, NULL, 0) != -EEXIST;
}
