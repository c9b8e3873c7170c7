/* SPDX-License-Identifier: MIT */
/* Reads the feed of this process from /dev/invlock, without the library. */
#ifndef INVLOCK_TESTS_VM_FEED_H
#define INVLOCK_TESTS_VM_FEED_H

#include "core/invlock.h"
#include "device.h"

struct feed {
	int fd;
	size_t bytes;
	struct invlock il;
};

static inline void feed_open_as(struct feed *f, uint64_t kinds, int flags)
{
	struct invlock_feed_see see = { .size = sizeof(see), .kinds = kinds };
	void *mem;

	f->fd = open("/dev/invlock", flags | O_CLOEXEC);
	assert_true(f->fd >= 0);
	assert_int_equal(ioctl(f->fd, INVLOCK_FEED_SEE, &see), 0);
	f->bytes = see.feed_size;
	mem = mmap(NULL, f->bytes, PROT_READ, MAP_SHARED, f->fd, 0);
	assert_ptr_not_equal(mem, MAP_FAILED);
	assert_int_equal(invlock_attach(&f->il, mem, f->bytes), 0);
}

static inline void feed_open(struct feed *f, uint64_t kinds)
{
	feed_open_as(f, kinds, O_RDONLY);
}

static inline void feed_close(struct feed *f)
{
	munmap(f->il.feed, f->bytes);
	close(f->fd);
}

static inline uint64_t feed_sequence(const struct feed *f)
{
	return port_load_acquire(&f->il.feed->sequence);
}

/* Return: the newest event after @since that is of @kind and covers the range, or NULL. */
static inline const struct invlock_event *feed_find(const struct feed *f, uint64_t since,
						    const void *start, size_t len, uint32_t kind)
{
	for (uint64_t seq = feed_sequence(f); seq > since; seq--) {
		const struct invlock_event *e = &f->il.events[seq & f->il.event_mask];

		if (e->seq == seq && e->kind == kind && e->start <= (unsigned long)start &&
		    e->end >= (unsigned long)start + len)
			return e;
	}
	return NULL;
}

/* Has every start had its end? */
static inline bool feed_is_quiet(const struct feed *f)
{
	uint64_t running = port_load(&f->il.feed->wide);

	for (unsigned int i = 0; i <= f->il.word_mask; i++)
		running |= port_load(&f->il.words[i]);
	return !(running & INVLOCK_RUNNING_MASK);
}

#endif /* INVLOCK_TESTS_VM_FEED_H */
