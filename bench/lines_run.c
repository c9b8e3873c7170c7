// SPDX-License-Identifier: MIT
#include "lines_run.h"

#include <invlock/manual.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "bench/no_op.h"
#include "lib/cache/region.h"
#include "lib/cache/thread.h"
#include "tests/page.h"

#define LINE		64
#define MAX_LINES	(1u << 17)	/* the ring takes a third of these */
#define STRIPE		(1ULL << 21)
#define BASE		(1ULL << 40)	/* nothing is mapped there, and nobody accesses it */
#define LEN		(4 * PAGE)
#define NR_OTHERS	1024		/* stripes to invalidate, one after the other */
#define NOBODY		-1

typedef unsigned __int128 cpu_set;	/* bits for LINES_CPUS and for the CPU that makes events */

struct line {
	u64 nr;		/* address / LINE; 0 = free */
	cpu_set has;		/* the CPUs that have the line in their caches */
	cpu_set touched;	/* the CPUs that have accessed it since the warm-up */
};

static struct line lines[MAX_LINES];
static struct lines_count *count;
static int cpu = NOBODY;		/* the simulated CPU that runs now */
static const char *stack_top;
static struct pin_thread *records[LINES_CPUS + 1];
static struct { struct invlock_pin pin; } __attribute__((aligned(LINE))) pins[LINES_CPUS];
static struct region *latest;		/* the region that was put last */
static pthread_mutex_t lock __attribute__((aligned(LINE))) = PTHREAD_MUTEX_INITIALIZER;

static struct line *line_of(u64 nr)
{
	u64 at = nr * 0x9e3779b97f4a7c15ULL >> (64 - 17);

	/* the table is never full, because the program uses fewer lines */
	while (lines[at].nr && lines[at].nr != nr)
		at = (at + 1) % MAX_LINES;
	lines[at].nr = nr;
	return &lines[at];
}

static void use_line(struct line *l, bool write)
{
	cpu_set self = (cpu_set)1 << cpu, others = l->has & ~self;

	count->accesses++;
	if (others && (write || !(l->has & self)))
		count->transfers++;
	if (write && (others || l->touched & ~self))
		count->shared_writes++;
	l->has = write ? self : l->has | self;
	l->touched |= self;
}

static void use(const volatile void *p, u64 size, bool write)
{
	const char *here = __builtin_frame_address(0);
	u64 first = (uintptr_t)p / LINE, last = ((uintptr_t)p + size - 1) / LINE;

	/* skip the stack and TLS: each thread has its own, but the simulated CPUs share one */
	if (cpu == NOBODY || p == &thread_self ||
	    ((const char *)p >= here && (const char *)p < stack_top))
		return;
	for (u64 nr = first; nr <= last; nr++)
		use_line(line_of(nr), write);
}

/* The compiler inserts calls of these, and knows their prototypes. */
#pragma GCC diagnostic ignored "-Wmissing-prototypes"

#define PLAIN(size)							\
void __tsan_read##size(void *p) { use(p, size, false); }		\
void __tsan_write##size(void *p) { use(p, size, true); }		\
void __tsan_unaligned_read##size(void *p) { use(p, size, false); }	\
void __tsan_unaligned_write##size(void *p) { use(p, size, true); }

PLAIN(1)
PLAIN(2)
PLAIN(4)
PLAIN(8)
PLAIN(16)
void __tsan_read_range(void *p, unsigned long size) { use(p, size, false); }
void __tsan_write_range(void *p, unsigned long size) { use(p, size, true); }
void __tsan_init(void) {}
void __tsan_func_entry(void *caller) { (void)caller; }
void __tsan_func_exit(void) {}
void __tsan_atomic_signal_fence(int order) { (void)order; }
void __tsan_atomic_thread_fence(int order) { (void)order; }

/* gcc calls ..._strong(), and clang calls ..._val(). */
#define ATOMIC(bits, type)						\
type __tsan_atomic##bits##_load(const volatile type *p, int order)	\
{									\
	(void)order;							\
	use(p, sizeof(*p), false);					\
	return *p;							\
}									\
void __tsan_atomic##bits##_store(volatile type *p, type v, int order)	\
{									\
	(void)order;							\
	use(p, sizeof(*p), true);					\
	*p = v;								\
}									\
type __tsan_atomic##bits##_fetch_add(volatile type *p, type v, int order) \
{									\
	use(p, sizeof(*p), true);					\
	(void)order;							\
	return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST);		\
}									\
type __tsan_atomic##bits##_compare_exchange_val(volatile type *p, type old, type v, \
						int order, int failed)	\
{									\
	(void)order, (void)failed;					\
	use(p, sizeof(*p), true);					\
	return __sync_val_compare_and_swap(p, old, v);			\
}									\
bool __tsan_atomic##bits##_compare_exchange_strong(volatile type *p, type *old, type v, \
						   int order, int failed) \
{									\
	type wanted = *old;						\
									\
	*old = __tsan_atomic##bits##_compare_exchange_val(p, wanted, v, order, failed); \
	return *old == wanted;						\
}

ATOMIC(8, u8)
ATOMIC(16, unsigned short)
ATOMIC(32, u32)
ATOMIC(64, unsigned long)

/* libc is not compiled with -fsanitize=thread, so the linker redirects calls of this to us. */
int __real_pthread_mutex_lock(pthread_mutex_t *m);
int __wrap_pthread_mutex_lock(pthread_mutex_t *m)
{
	use(m, sizeof(m->__data.__lock), true);
	return __real_pthread_mutex_lock(m);
}

static void run_on(int which, struct lines_count *c)
{
	thread_self = records[which] ? records[which] : &thread_nobody;
	count = c;
	cpu = which;
}

static void stop(void)
{
	records[cpu] = thread_self;
	cpu = NOBODY;
}

static void extra_begins(const struct lines_setup *s)
{
	if (s->extra == LINES_LOCK)
		pthread_mutex_lock(&lock);
}

static struct region *pinned(int which)
{
	const struct pin_slot *slot = pins[which].pin.slot;

	return slot->region;
}

/* @r: the region that was got or put; may be NULL */
static void extra_ends(const struct lines_setup *s, const struct region *r)
{
	if (s->extra == LINES_LOCK)
		pthread_mutex_unlock(&lock);
	if (s->extra == LINES_COUNT && r)
		use(&r->next, sizeof(r->next), true);
}

static int get(const struct lines_setup *s, struct invlock_cache *cache, int which, int round,
	       struct lines_count *c)
{
	void *addr = (void *)(uintptr_t)(BASE + round % LINES_REGIONS * STRIPE);
	int err;

	run_on(which, c);
	extra_begins(s);
	err = invlock_cache_get(cache, addr, LEN, 0, &pins[which].pin);
	extra_ends(s, err ? NULL : pinned(which));
	stop();
	return err;
}

static int put(const struct lines_setup *s, int which, struct lines_count *c)
{
	int err;

	latest = pinned(which);
	run_on(which, c);
	extra_begins(s);
	err = invlock_cache_put(&pins[which].pin);
	extra_ends(s, latest);
	stop();
	return err;
}

static int make_event(struct invlock_mm *mm, int round, struct lines_count *c)
{
	void *addr = (void *)(uintptr_t)(BASE + (LINES_REGIONS + round % NR_OTHERS) * STRIPE);
	int err;

	run_on(LINES_CPUS, c);
	err = invlock_manual_start(mm, addr, LEN);
	if (!err)
		err = invlock_manual_end(mm, addr, LEN);
	stop();
	return err;
}

static int make_rounds(const struct lines_setup *s, int rounds, struct invlock_mm *mm,
		       struct invlock_cache *cache, struct lines_count *hits,
		       struct lines_count *events)
{
	int err = 0;

	for (int round = 0; round < rounds && !err; round++) {
		if (s->events)
			err = make_event(mm, round, events);
		for (int i = 0; i < s->nr_cpus && !err; i++)
			err = get(s, cache, i, round, hits);
		for (int i = 0; i < s->nr_cpus && !err; i++)
			err = put(s, i, hits);
	}
	return err;
}

/* Return: 0 if every get was a hit, except for the first get of each region. */
static int check_hits(const struct lines_setup *s, struct invlock_cache *cache, int rounds)
{
	struct invlock_cache_stats stats = { .size = sizeof(stats) };
	uint64_t gets = (uint64_t)rounds * s->nr_cpus;
	int err = invlock_cache_stats(cache, &stats);

	return err ? err : stats.hits == gets - LINES_REGIONS ? 0 : -EPROTO;
}

static int warm_up_and_run(const struct lines_setup *s, struct invlock_mm *mm,
			   struct invlock_cache *cache, struct lines_count *hits,
			   struct lines_count *events)
{
	int warm_up = 2 * LINES_REGIONS;
	int err = make_rounds(s, warm_up, mm, cache, hits, events);

	for (unsigned int i = 0; i < MAX_LINES; i++)
		lines[i].touched = 0;
	/* the regions lie in one array, and the last of them was put last */
	for (int i = 0; s->unreferenced && i < LINES_REGIONS; i++)
		(latest - (LINES_REGIONS - 1))[i].referenced = false;
	*hits = *events = (struct lines_count){};
	if (!err)
		err = make_rounds(s, s->rounds, mm, cache, hits, events);
	return err ? err : check_hits(s, cache, warm_up + s->rounds);
}

int lines_run(const struct lines_setup *s, struct lines_count *hits, struct lines_count *events)
{
	struct invlock_mm_options named = { .size = sizeof(named), .monitor = "manual" };
	struct invlock_cache_options o = NO_OP_OPTIONS;
	struct invlock_cache *cache = NULL;
	struct invlock_mm *mm = NULL;
	struct invlock_why why;
	int err;

	stack_top = __builtin_frame_address(0);
	memset(lines, 0, sizeof(lines));
	err = invlock_mm_open(&named, &mm, &why);
	if (!err)
		err = invlock_cache_open(mm, &o, &cache, &why);
	if (err) {
		fprintf(stderr, "lines: %s\n", why.text);
		return err;
	}
	err = warm_up_and_run(s, mm, cache, hits, events);
	if (err)
		fprintf(stderr, "lines: not every get was a hit: %s\n", strerror(-err));
	thread_self = &thread_nobody;
	invlock_cache_close(cache);
	invlock_mm_close(mm);
	return err;
}
