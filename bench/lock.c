// SPDX-License-Identifier: MIT
/*
 * How long does an uncontended read section take, compared with simpler locks?
 *
 * All threads read, and none writes. The simpler locks could not replace a read section: a
 * read-write lock makes the writer wait, and a sequence count neither knows ranges nor waits until
 * no change is running.
 */
#include <invlock/section.h>
#include <pthread.h>
#include <stdio.h>

#include "bench.h"

static struct invlock_mm *mm;
static char page[4096];
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static uint64_t nr_readers __attribute__((aligned(64)));
static uint64_t sequence __attribute__((aligned(64)));

static void read_invlock(void)
{
	struct invlock_read rd;

	invlock_read_init(&rd, mm, page, sizeof(page), NULL, 0);
	if (!invlock_read_attempt(&rd) || !invlock_read_commit(&rd))
		abort();
	invlock_read_end(&rd);
}

/* Asks whether a read section that was committed earlier is still valid. */
static void revalidate(void)
{
	static _Thread_local struct invlock_read rd;
	static _Thread_local bool committed;

	if (!committed) {
		invlock_read_init(&rd, mm, page, sizeof(page), NULL, 0);
		committed = invlock_read_attempt(&rd) && invlock_read_commit(&rd);
	}
	if (!invlock_read_valid(&rd))
		abort();
}

static void read_rwlock(void)
{
	pthread_rwlock_rdlock(&rwlock);
	pthread_rwlock_unlock(&rwlock);
}

/* Does what an rwsem does to its word while there are only readers. */
static void read_rwsem(void)
{
	__atomic_fetch_add(&nr_readers, 1, __ATOMIC_ACQUIRE);
	__atomic_fetch_sub(&nr_readers, 1, __ATOMIC_RELEASE);
}

static void read_seqcount(void)
{
	uint64_t begin;

	do
		begin = __atomic_load_n(&sequence, __ATOMIC_ACQUIRE);
	while (begin & 1 || __atomic_load_n(&sequence, __ATOMIC_RELAXED) != begin);
}

static const struct {
	const char *name;
	void (*read)(void);
} locks[] = {
	{ "seqcount", read_seqcount },
	{ "invlock", read_invlock },
	{ "invlock, still valid?", revalidate },
	{ "like an rwsem", read_rwsem },
	{ "pthread rwlock", read_rwlock },
};
#define NR	(sizeof(locks) / sizeof(*locks))

static void read_often(void *arg, __attribute__((unused)) int thread, unsigned int times)
{
	void (*read)(void) = locks[*(const size_t *)arg].read;

	for (unsigned int i = 0; i < times; i++)
		read();
}

int main(int argc, char **argv)
{
	static const char *const cases[] = { "1 thread", "2 threads" };
	struct invlock_mm_options manual = { .size = sizeof(manual), .monitor = "manual" };
	struct invlock_why why;

	bench_begin("lock", "ns", argc, argv);
	if (invlock_mm_open(&manual, &mm, &why)) {
		fprintf(stderr, "lock: %s\n", why.text);
		return 1;
	}
	for (int round = 0; round < bench_rounds; round++)
		for (int i = 0; i < 2; i++)
			for (size_t lock = 0; lock < NR; lock++)
				bench_add(cases[i], locks[lock].name,
					  bench_concurrent_ns(i + 1, read_often, &lock));
	for (int i = 0; i < 2; i++) {
		bench_limit(cases[i], "invlock", 25);
		bench_target(cases[i], "invlock", cases[i], "pthread rwlock", 0);
		bench_target(cases[i], "invlock", cases[i], "seqcount", 0);
	}
	invlock_mm_close(mm);
	return bench_end();
}
