// SPDX-License-Identifier: MIT
/* A program that uses the installed library with another libc, and forks: cross.sh runs it. */
#include <invlock/cache.h>
#include <invlock/manual.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static int reg(void *ctx, void *addr, size_t len, uint64_t *ret_handle)
{
	(void)ctx;
	(void)len;
	*ret_handle = (uintptr_t)addr;
	return 0;
}

static void dereg(void *ctx, void *addr, size_t len, uint64_t handle)
{
	(void)ctx;
	(void)addr;
	(void)len;
	(void)handle;
}

/* Return: 0 = all is as it should be, or this monitor says why it cannot be had. */
static int use(const char *monitor, uint64_t need)
{
	struct invlock_mm_options watch = {
		.size = sizeof(watch), .monitor = monitor, .need = need
	};
	struct invlock_cache_options options = {
		.size = sizeof(options), .need = need, .ops = { .reg = reg, .dereg = dereg }
	};
	struct invlock_cache *cache;
	struct invlock_why why;
	struct invlock_pin pin;
	struct invlock_mm *mm;
	int status = -1, err;
	char *memory;

	err = invlock_mm_open(&watch, &mm, &why);
	if (err) {
		printf("%s: %s\n", monitor, why.text);
		return !why.text[0];
	}
	err = invlock_cache_open(mm, &options, &cache, &why);
	if (err) {
		printf("%s: %s\n", monitor, why.text);
		return 1;
	}
	memory = aligned_alloc(65536, 65536);
	err = !memory || invlock_cache_get(cache, memory, 100, 0, &pin);
	if (!err)
		invlock_cache_put(&pin);
	if (!fork())
		_exit(invlock_mm_alive(mm) || !malloc(100));
	wait(&status);
	invlock_cache_close(cache);
	invlock_mm_close(mm);
	free(memory);
	printf("%s: error %d, the child's status is %d\n", monitor, err, status);
	return err || status;
}

int main(void)
{
	return use("manual", 0) | use("uffd", INVLOCK_KINDS_UFFD) | use("bpf", 0);
}
