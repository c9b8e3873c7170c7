// SPDX-License-Identifier: MIT
#include <stdio.h>

#include "bench.h"
#include "contender.h"
#include "no_op.h"

static struct invlock_mm *mm;
static struct invlock_cache *cache;

const char *invlock_monitor;

static bool invlock_bench_open(void)
{
	struct invlock_mm_options named = { .size = sizeof(named), .monitor = invlock_monitor };
	struct invlock_cache_options o = NO_OP_OPTIONS;
	struct invlock_why why;

	if (invlock_mm_open(&named, &mm, &why)) {
		/* a hit costs the same with the manual monitor; only nobody writes the feed */
		bench_note("invlock uses the manual monitor, because %s", why.text);
		named.monitor = "manual";
		if (invlock_mm_open(&named, &mm, &why))
			return false;
	}
	return !invlock_cache_open(mm, &o, &cache, &why);
}

static void invlock_bench_close(void)
{
	invlock_cache_close(cache);
	invlock_mm_close(mm);
}

static uint64_t invlock_hit(void *addr, size_t len)
{
	struct invlock_pin pin;

	if (invlock_cache_get(cache, addr, len, 0, &pin))
		return 0;
	invlock_cache_put(&pin);
	return pin.handle;
}

static void invlock_drop(void *addr, size_t len)
{
	invlock_cache_drop(cache, addr, len);
}

const struct contender invlock = {
	"invlock", invlock_bench_open, invlock_bench_close, invlock_hit, invlock_drop,
};
