// SPDX-License-Identifier: MIT
/*
 * bench/false.c loads this into a program that does not know about it. A thread allocates blocks
 * between those of the program, never frees them, and looks them up in a cache again and again.
 * Nothing ever happens to these blocks, so every one that the cache calls stale is falsely so.
 *
 * There are two caches, which take turns: one with the ring of events, and one without it.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench/false_watch.h"
#include "bench/no_op.h"
#include "lib/cache/cache_internal.h"
#include "tests/page.h"

#define NR_BLOCKS	256
#define SMALL		(4 * PAGE)	/* malloc() takes these from the heap */
#define LARGE		(64 * PAGE)	/* malloc() takes these from mmap() */

static struct invlock_mm *mm;
static struct invlock_cache *with_ring, *without;
static char *blocks[NR_BLOCKS];

static void look(struct invlock_cache *cache, char *block)
{
	struct invlock_pin pin;

	/* skip to the first page that belongs to the block alone */
	block += -(uintptr_t)block % PAGE;
	if (!invlock_cache_get(cache, block, 2 * PAGE, 0, &pin))
		invlock_cache_put(&pin);
}

/* Makes 10,000 hits a second, about as many as a program that reads from a disk. */
static void *watch(void *arg)
{
	unsigned int nr = 0;

	(void)arg;
	for (unsigned int i = 0; ; i++) {
		if (nr < NR_BLOCKS && i % 4 == 0) {
			blocks[nr] = malloc(nr % 2 ? LARGE : SMALL);
			nr += !!blocks[nr];
		}
		for (int hit = 0; hit < 10 && nr; hit++) {
			look(with_ring, blocks[(i * 10 + hit) % nr]);
			look(without, blocks[(i * 10 + hit) % nr]);
		}
		usleep(1000);
	}
	return NULL;
}

__attribute__((constructor)) static void begin(void)
{
	struct invlock_cache_options o = NO_OP_OPTIONS;
	struct invlock_why why;
	pthread_t thread;

	/* do not load this into the children of the program */
	unsetenv("LD_PRELOAD");
	if (invlock_mm_open(NULL, &mm, &why) || invlock_cache_open(mm, &o, &with_ring, &why) ||
	    invlock_cache_open(mm, &o, &without, &why)) {
		fprintf(stderr, "false: %s\n", why.text);
		return;
	}
	without->il.events = NULL;
	pthread_create(&thread, NULL, watch, NULL);
}

static void count(struct invlock_cache *cache, struct false_counts *counts, int which)
{
	struct invlock_cache_stats stats = { .size = sizeof(stats) };

	if (invlock_cache_stats(cache, &stats))
		return;
	counts->hits[which] = stats.hits;
	counts->stale[which] = stats.stale;
}

__attribute__((destructor)) static void report(void)
{
	struct invlock_mm_info info = { .size = sizeof(info) };
	const char *fd = getenv(FALSE_FD);
	struct false_counts counts = {};

	if (!fd || !without)
		return;
	count(with_ring, &counts, 0);
	count(without, &counts, 1);
	if (!invlock_mm_info(mm, &info))
		counts.events = info.sequence;
	if (write(atoi(fd), &counts, sizeof(counts)) != sizeof(counts))
		perror("false: cannot write the result");
}
