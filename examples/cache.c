/* SPDX-License-Identifier: MIT */
/*
 * A cache of registrations for a toy device.
 *
 * To register memory, this device copies it; what it reads later is its copy. So a
 * registration that outlives the memory is easy to see: the device reads old bytes.
 */
#include <errno.h>
#include <invlock/cache.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int device_register(void *device, void *addr, size_t len, uint64_t *ret_handle)
{
	char *copy = malloc(len);

	(void)device;
	if (!copy)
		return -ENOMEM;
	memcpy(copy, addr, len);
	*ret_handle = (uintptr_t)copy;
	return 0;
}

static void device_forget(void *device, void *addr, size_t len, uint64_t handle)
{
	(void)device, (void)addr, (void)len;
	free((void *)(uintptr_t)handle);
}

/* what the device sees at buf: with a cache, this is all that a program does */
static int device_read(struct invlock_cache *cache, const char *buf, size_t len, char *result)
{
	struct invlock_pin pin;
	int err = invlock_cache_get(cache, buf, len, 0, &pin);

	if (err)
		return err;
	memcpy(result, (char *)(uintptr_t)pin.handle + (buf - (char *)pin.addr), len);
	return invlock_cache_put(&pin);
}

/* new memory at the same place, as an allocator may give it out again */
static char *map_at(char *place, const char *text)
{
	char *mem = mmap(place, sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | (place ? MAP_FIXED : 0), -1, 0);

	return mem == MAP_FAILED ? NULL : strcpy(mem, text);
}

int main(void)
{
	/* name what can happen to this program's memory; 0 asks for everything there is */
	const uint64_t need = INVLOCK_BIT(UNMAP) | INVLOCK_BIT(FIXED);
	struct invlock_mm_options watch = { .size = sizeof(watch), .need = need };
	struct invlock_cache_options options = { .size = sizeof(options), .need = need,
		.ops = { .reg = device_register, .dereg = device_forget } };
	struct invlock_mm *mm;
	struct invlock_cache *cache;
	struct invlock_why why;
	char *buf, seen[4] = "";

	if (invlock_mm_open(&watch, &mm, &why) ||
	    invlock_cache_open(mm, &options, &cache, &why)) {
		fprintf(stderr, "cache: %s\n", why.text);
		return 1;
	}
	buf = map_at(NULL, "old");
	for (int i = 0; buf && i < 3 && !device_read(cache, buf, 4, seen); i++) {
		printf("memory %s, device %s\n", buf, seen);
		if (i == 1)
			buf = map_at(buf, "new");	/* nobody tells the cache */
	}
	invlock_cache_close(cache);
	invlock_mm_close(mm);
	return strcmp(seen, "new") != 0;
}
