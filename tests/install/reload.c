/* SPDX-License-Identifier: MIT */
/* Loads and closes the library again and again, while threads hold records of it at each close. */
#include <dlfcn.h>
#include <invlock/cache.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define ROUNDS	200

struct calls {
	int (*mm_open)(const struct invlock_mm_options *, struct invlock_mm **,
		       struct invlock_why *);
	void (*mm_close)(struct invlock_mm *);
	int (*cache_open)(struct invlock_mm *, const struct invlock_cache_options *,
			  struct invlock_cache **, struct invlock_why *);
	int (*cache_close)(struct invlock_cache *);
	int (*get)(struct invlock_cache *, const void *, size_t, unsigned int,
		   struct invlock_pin *);
	int (*put)(struct invlock_pin *);
};

static void *library;
static struct calls calls;
static pthread_barrier_t used, closed;

static void die(const char *what)
{
	fprintf(stderr, "%s\n", what);
	exit(1);
}

static void find(const char *name, void *ret_function)
{
	void *function = dlsym(library, name);

	if (!function)
		die(dlerror());
	*(void **)ret_function = function;
}

static int reg(void *ctx, void *addr, size_t len, uint64_t *ret_handle)
{
	(void)ctx, (void)addr;
	*ret_handle = len;
	return 0;
}

static void dereg(void *ctx, void *addr, size_t len, uint64_t handle)
{
	(void)ctx, (void)addr, (void)len, (void)handle;
}

/* Uses the library, and ends after it was closed. */
static void *user(void *cache)
{
	struct invlock_pin pin;

	if (calls.get(cache, cache, 1, 0, &pin) || calls.put(&pin))
		die("a get or a put failed");
	pthread_barrier_wait(&used);
	pthread_barrier_wait(&closed);
	return NULL;
}

static void load_use_and_close(const char *path)
{
	struct invlock_mm_options watch = { .size = sizeof(watch), .monitor = "manual" };
	struct invlock_cache_options options = { .size = sizeof(options),
						 .ops = { .reg = reg, .dereg = dereg } };
	struct invlock_cache *cache;
	struct invlock_mm *mm;
	struct invlock_why why;
	pthread_t thread;

	library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!library)
		die(dlerror());
	find("invlock_mm_open", &calls.mm_open);
	find("invlock_mm_close", &calls.mm_close);
	find("invlock_cache_open", &calls.cache_open);
	find("invlock_cache_close", &calls.cache_close);
	find("invlock_cache_get", &calls.get);
	find("invlock_cache_put", &calls.put);
	if (calls.mm_open(&watch, &mm, &why) || calls.cache_open(mm, &options, &cache, &why))
		die(why.text);
	if (pthread_create(&thread, NULL, user, cache))
		die("no thread");
	pthread_barrier_wait(&used);
	if (calls.cache_close(cache))
		die("the cache did not close");
	calls.mm_close(mm);
	if (dlclose(library))
		die(dlerror());
	pthread_barrier_wait(&closed);
	pthread_join(thread, NULL);
}

int main(int argc, char **argv)
{
	if (argc != 2)
		die("usage: reload LIBRARY");
	pthread_barrier_init(&used, NULL, 2);
	pthread_barrier_init(&closed, NULL, 2);
	for (int i = 0; i < ROUNDS; i++)
		load_use_and_close(argv[1]);
	printf("%d rounds\n", ROUNDS);
	return 0;
}
