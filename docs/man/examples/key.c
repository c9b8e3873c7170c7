/* SPDX-License-Identifier: MIT */
/* Registers a buffer for each of two devices, in one cache, and lists what is registered. */
#include <invlock/cache.h>
#include <stdio.h>
#include <sys/mman.h>

static int device_register(void *ctx, void *addr, size_t len, uint64_t device, uint64_t *ret_handle)
{
	(void)ctx, (void)addr;
	printf("register %zu bytes with device %llu\n", len, (unsigned long long)device);
	*ret_handle = device * 100;
	return 0;
}

static void device_forget(void *ctx, void *addr, size_t len, uint64_t handle)
{
	(void)ctx, (void)addr, (void)len, (void)handle;
}

int main(void)
{
	const uint64_t need = INVLOCK_BIT(DISCARD);
	struct invlock_mm_options watch = { .size = sizeof(watch), .need = need };
	struct invlock_cache_options options = { .size = sizeof(options), .need = need,
		.flags = INVLOCK_CACHE_NO_REAPER,
		.ops.dereg = device_forget, .reg_key = device_register };
	struct invlock_cache_entry entries[8];
	struct invlock_cache *cache;
	struct invlock_mm *mm;
	struct invlock_pin pin;
	struct invlock_why why;
	char *buf = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int nr;

	if (invlock_mm_open(&watch, &mm, &why) ||
	    invlock_cache_open(mm, &options, &cache, &why)) {
		fprintf(stderr, "%s\n", why.text);
		return 1;
	}
	for (int i = 0; i < 4; i++)
		if (!invlock_cache_get_key(cache, buf, 4096, 0, 1 + i % 2, &pin))
			invlock_cache_put(&pin);
	nr = invlock_cache_list(cache, entries, 8);
	for (int i = 0; i < nr && i < 8; i++)
		printf("%zu bytes, key %llu, handle %llu\n", entries[i].len,
		       (unsigned long long)entries[i].key, (unsigned long long)entries[i].handle);
	invlock_cache_close(cache);
	invlock_mm_close(mm);
	return 0;
}
