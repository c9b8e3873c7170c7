/* SPDX-License-Identifier: MIT */
/* Registers a buffer once, and once more after its memory was replaced. */
#include <invlock/cache.h>
#include <stdio.h>
#include <sys/mman.h>

static int device_register(void *device, void *addr, size_t len, uint64_t *ret_handle)
{
	(void)device;
	printf("register %zu bytes\n", len);
	*ret_handle = (uintptr_t)addr;
	return 0;
}

static void device_forget(void *device, void *addr, size_t len, uint64_t handle)
{
	(void)device, (void)addr, (void)len, (void)handle;
}

int main(void)
{
	const uint64_t need = INVLOCK_BIT(DISCARD);
	struct invlock_mm_options watch = { .size = sizeof(watch), .need = need };
	/* reaped here, below */
	struct invlock_cache_options options = { .size = sizeof(options), .need = need,
		.flags = INVLOCK_CACHE_NO_REAPER,
		.ops = { .reg = device_register, .dereg = device_forget } };
	struct invlock_cache_stats stats = { .size = sizeof(stats) };
	struct invlock_cache *cache;
	struct invlock_mm *mm;
	struct invlock_pin pin;
	struct invlock_why why;
	char *buf = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (invlock_mm_open(&watch, &mm, &why) ||
	    invlock_cache_open(mm, &options, &cache, &why)) {
		fprintf(stderr, "%s\n", why.text);
		return 1;
	}
	for (int i = 0; i < 4; i++) {
		if (i == 2)
			madvise(buf, 65536, MADV_DONTNEED);
		/* an error is never fatal: use the memory without a registration */
		if (!invlock_cache_get(cache, buf, 4096, 0, &pin))
			invlock_cache_put(&pin);	/* when the device is done */
	}
	invlock_cache_drop(cache, buf, 65536);		/* not needed: it would be found stale */
	invlock_cache_reap(cache);			/* when invlock_cache_fd() is readable */
	invlock_cache_stats(cache, &stats);
	printf("%llu hits, %llu misses, descriptor %s\n", (unsigned long long)stats.hits,
	       (unsigned long long)stats.misses, invlock_cache_fd(cache) < 0 ? "no" : "yes");
	invlock_cache_close(cache);
	invlock_mm_close(mm);
	return 0;
}
