// SPDX-License-Identifier: MIT
/* The manual monitor: the program's own calls write a feed in private memory. */
#include <errno.h>
#include <invlock/manual.h>
#include <sys/mman.h>

#include "core/invalidate.h"
#include "lib/mm.h"
#include "monitor.h"

static int manual_open(struct invlock_mm *mm, struct invlock_why *why)
{
	u64 bytes = invlock_feed_bytes(INVLOCK_NR_WORDS, INVLOCK_NR_EVENTS);
	void *mem = map_wiped_on_fork(bytes);

	if (!mem)
		return explain(why, -ENOMEM, "cannot map %llu bytes for the feed", bytes);
	/* These calls cannot fail, because we chose the memory and its layout. */
	invlock_feed_format(mem, bytes, INVLOCK_NR_WORDS, INVLOCK_NR_EVENTS, INVLOCK_STRIPE_SHIFT);
	invlock_attach(&mm->il, mem, bytes);
	mm->feed_bytes = bytes;
	return 0;
}

static void manual_close(struct invlock_mm *mm, bool mine)
{
	(void)mine;
	munmap(mm->il.feed, mm->feed_bytes);
}

const struct monitor monitor_manual = {
	.name = "manual",
	.seen = INVLOCK_BIT(MANUAL),
	.exact = INVLOCK_BIT(MANUAL),
	.sees_what_it_is_told = true,
	.open = manual_open,
	.close = manual_close,
};

static int check(const struct invlock_mm *mm)
{
	if (!mm || mm->monitor != &monitor_manual)
		return -EINVAL;
	return mm_alive(mm) ? 0 : -EOWNERDEAD;
}

/* A range that is empty or wraps around stands for everything. */
static void range_of(const void *addr, size_t len, u64 *ret_start, u64 *ret_end)
{
	*ret_start = (unsigned long)addr;
	*ret_end = *ret_start + len;
	if (*ret_end <= *ret_start) {
		*ret_start = 0;
		*ret_end = INVLOCK_ADDRESS_END;
	}
}

int invlock_manual_start(struct invlock_mm *mm, const void *addr, size_t len)
{
	int err = check(mm);
	u64 start, end;

	range_of(addr, len, &start, &end);
	if (!err)
		invlock_inv_start(&mm->il, start, end, INVLOCK_KIND_MANUAL, 0, port_now());
	return err;
}

int invlock_manual_end(struct invlock_mm *mm, const void *addr, size_t len)
{
	int err = check(mm);
	u64 start, end;

	range_of(addr, len, &start, &end);
	if (!err)
		invlock_inv_end(&mm->il, start, end);
	return err;
}
