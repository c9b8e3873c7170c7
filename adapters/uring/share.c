// SPDX-License-Identifier: MIT
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "share.h"

static uint64_t copy_in(const struct invlock_uring *uring, unsigned int slot)
{
	return __atomic_load_n(&uring->copies[slot], __ATOMIC_RELAXED);
}

static void set_copy(struct invlock_uring *uring, unsigned int slot, uint64_t handle)
{
	__atomic_store_n(&uring->copies[slot], handle, __ATOMIC_RELAXED);
}

/* Not libc's fstat(): ThreadSanitizer would see a race if the number is the program's now. */
static bool file_of(const struct io_uring *ring, struct stat *ret_st)
{
	return !syscall(SYS_fstat, ring->ring_fd, ret_st);
}

bool share_has_ring(const struct share *share)
{
	struct stat st;

	return file_of(&share->ring, &st) && st.st_dev == share->dev && st.st_ino == share->ino;
}

/* May this ring copy from the share? It depends on the kernel and on who has set up the rings. */
static bool may_copy(const struct share *share, struct io_uring *ring)
{
	/* Something may be in the slot already: nobody knows of this copy, so it does not stay. */
	return share_has_ring(share) && !ring_copy(ring, &share->ring, 0) &&
	       !slot_fill(ring, 0, NULL, 0);
}

bool share_add(struct share *share, struct invlock_uring *uring)
{
	if (!may_copy(share, uring->ring))
		return false;
	uring->copies = calloc(share->slots->nr, sizeof(*uring->copies));
	if (!uring->copies)
		return false;
	uring->share = share;
	uring->slots = share->slots;
	pthread_mutex_lock(&share->lock);
	uring->next = share->rings;
	share->rings = uring;
	share->nr_rings++;
	pthread_mutex_unlock(&share->lock);
	return true;
}

bool share_remove(struct share *share, struct invlock_uring *uring)
{
	/* In a forked child the lock and the list are as they were; only the number matters. */
	bool mine = !uring_alive(uring), removed;

	if (mine)
		pthread_mutex_lock(&share->lock);
	removed = share->nr_rings > 1;
	if (removed) {
		share->nr_rings--;
		for (struct invlock_uring **at = &share->rings; mine; at = &(*at)->next) {
			if (*at == uring) {
				*at = uring->next;
				break;
			}
		}
	}
	if (mine)
		pthread_mutex_unlock(&share->lock);
	return removed;
}

struct share *share_new(struct invlock_uring *uring)
{
	struct share *share = calloc(1, sizeof(*share));
	unsigned int nr = uring->options.slots;
	struct stat st;

	if (!share)
		return NULL;
	if (ring_open(&share->ring))
		goto free_share;
	if (!file_of(&share->ring, &st))
		goto close_ring;
	share->dev = st.st_dev;
	share->ino = st.st_ino;
	share->slots = slots_new(&share->ring, nr);
	if (!share->slots || ring_make_table(&share->ring, nr))
		goto close_ring;
	share->slots->share = share;
	pthread_mutex_init(&share->lock, NULL);
	if (share_add(share, uring))
		return share;

close_ring:
	slots_free(share->slots);
	ring_close(&share->ring);
free_share:
	free(share);
	return NULL;
}

void share_free(struct share *share)
{
	/* Its table goes with the ring. */
	if (share_has_ring(share))
		ring_close(&share->ring);
	slots_free(share->slots);
	free(share);
}

unsigned int share_nr_rings(struct share *share)
{
	unsigned int nr;

	pthread_mutex_lock(&share->lock);
	nr = share->nr_rings;
	pthread_mutex_unlock(&share->lock);
	return nr;
}

int share_copy(struct invlock_uring *uring, uint64_t handle)
{
	unsigned int slot = slot_of(handle);
	int err;

	if (copy_in(uring, slot) == handle)
		return 0;
	err = share_has_ring(uring->share) ?
	      ring_copy(uring->ring, &uring->share->ring, slot) : -EBADF;
	if (!err)
		set_copy(uring, slot, handle);
	return err;
}

void share_clear(struct share *share, uint64_t handle)
{
	unsigned int slot = slot_of(handle);

	pthread_mutex_lock(&share->lock);
	for (struct invlock_uring *uring = share->rings; uring; uring = uring->next) {
		if (copy_in(uring, slot) != handle)
			continue;
		if (uring->one_thread)
			/* after the slot was forgotten; pairs with the load in share_tidy() */
			__atomic_store_n(&uring->untidy, true, __ATOMIC_RELEASE);
		else if (!slot_fill(uring->ring, slot, NULL, 0))
			set_copy(uring, slot, 0);
	}
	pthread_mutex_unlock(&share->lock);
}

/* A copy of a registration that is over. No pin is left for it, so no request uses it. */
static bool is_dead(const struct invlock_uring *uring, unsigned int slot)
{
	uint64_t handle = copy_in(uring, slot);

	return handle && handle != slot_handle(uring->slots, slot);
}

void share_tidy(struct invlock_uring *uring)
{
	if (!__atomic_load_n(&uring->untidy, __ATOMIC_RELAXED) ||
	    !__atomic_exchange_n(&uring->untidy, false, __ATOMIC_ACQUIRE))
		return;
	for (unsigned int i = 0; i < uring->slots->nr; i++) {
		if (!is_dead(uring, i))
			continue;
		if (slot_fill(uring->ring, i, NULL, 0)) {
			/* another thread than the ring's */
			__atomic_store_n(&uring->untidy, true, __ATOMIC_RELAXED);
			return;
		}
		set_copy(uring, i, 0);
	}
}

unsigned int share_nr_dead(const struct invlock_uring *uring)
{
	unsigned int nr = 0;

	for (unsigned int i = 0; i < uring->slots->nr; i++)
		nr += is_dead(uring, i);
	return nr;
}
