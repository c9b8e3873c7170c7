// SPDX-License-Identifier: MIT
/*
 * A storm of changes on one CPU. A kernel that preempts its own code skips programs of the monitor
 * there: while a thread is preempted inside a program, the kernel runs this program for no other
 * thread of the CPU. No lookup may be stale because of that.
 *
 * Half of the threads on that CPU only change maps. The others are owners: each changes its own
 * page, writes a new number into it and looks it up, and a hit must be of the present page. One
 * more owner has a real-time policy and interrupts the others, and one more hands its page to a
 * thread on another CPU, which looks it up there.
 *
 * INVLOCK_STORM sets the number of lookups for each number of threads.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <time.h>

#include "tests/bpf/rig.h"
#include "tests/race/rig.h"
#include "lib/monitor/bpf/guard.h"

#define MOST		16		/* threads on the CPU of the storm */
#define NR_REGIONS	16		/* regions that a thread on the other CPU looks up */
#define SLICE_MS	200
#define PAIRS		5

static unsigned long lookups = 2000;

struct cpu_storm {
	struct race race;		/* the mm and the cache of all threads */
	bool owners;			/* false: all threads only change maps */
	unsigned int over;		/* atomic */
	unsigned long looked;		/* atomic: lookups by owners */
	struct gate gate;		/* the page is handed over through this */
	char *handed;			/* that page */
};

struct one {
	pthread_t thread;
	struct cpu_storm *storm;
	struct race race;		/* the lookups of this thread */
	unsigned long calls;
};

static int cpus[2];			/* the storm's CPU, and another; -1 = none */

static void find_cpus(void)
{
	cpu_set_t set;
	int nr = 0;

	cpus[0] = cpus[1] = -1;
	assert_int_equal(sched_getaffinity(0, sizeof(set), &set), 0);
	for (int cpu = 0; cpu < CPU_SETSIZE && nr < 2; cpu++)
		if (CPU_ISSET(cpu, &set))
			cpus[nr++] = cpu;
}

static void pin_to(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		abort();
}

static bool is_over(struct cpu_storm *s)
{
	return __atomic_load_n(&s->over, __ATOMIC_ACQUIRE);
}

static void *map_at(void *addr, size_t len, int prot, int flags)
{
	void *p = mmap(addr, len, prot, flags | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		abort();
	return p;
}

/* ---- threads that only change maps ---- */

static void *change_maps(void *arg)
{
	struct one *me = arg;
	char *here = map_at(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, 0), *p;

	pin_to(cpus[0]);
	while (!is_over(me->storm)) {
		madvise(here, PAGE, MADV_DONTNEED);
		p = map_at(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, 0);
		/*
		 * If the monitor cannot find the moved pages at once, events of all files count for
		 * all owners.
		 */
		if (!me->storm->owners)
			munmap(p, 2 * PAGE);
		else if (mremap(p, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, here) != here)
			abort();
		p = map_at(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, 0);
		munmap(p, 2 * PAGE);
		me->calls += 5;
	}
	munmap(here, 4 * PAGE);
	return NULL;
}

/* ---- threads that look up what they have changed ---- */

/* A page between two unused ones: few other mappings are so small that they fit into its hole. */
static char *own_page(void)
{
	char *around = map_at(NULL, 3 * PAGE, PROT_NONE, MAP_NORESERVE);

	return map_at(around + PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_FIXED);
}

/* The page's old place may belong to another thread by now: free the unused pages beside it. */
static void neighbours_free(char *page)
{
	munmap(page - PAGE, PAGE);
	munmap(page + PAGE, PAGE);
}

static void own_page_free(char *page)
{
	munmap(page - PAGE, 3 * PAGE);
}

/* Return: the page, or another one if its address was taken meanwhile */
static char *change_page(char *page, unsigned long round)
{
	char *other;

	switch (round % 5) {
	case 0:
		map_at(page, PAGE, PROT_READ | PROT_WRITE, MAP_FIXED);
		break;
	case 1:
		munmap(page, PAGE);
		/*
		 * The address is only a hint: the library maps a page for a thread that is new to
		 * it.
		 */
		other = map_at(page, PAGE, PROT_READ | PROT_WRITE, 0);
		if (other == page)
			break;
		munmap(other, PAGE);
		neighbours_free(page);
		page = own_page();
		break;
	case 2:
		madvise(page, PAGE, MADV_DONTNEED);
		break;
	case 3:
		other = own_page();
		if (mremap(other, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, page) != page)
			abort();
		neighbours_free(other);
		break;
	case 4:
		other = own_page();
		if (mremap(page, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
			   other) != other)
			abort();
		own_page_free(other);
		break;
	}
	__atomic_store_n((uint64_t *)page, race_number(), __ATOMIC_RELEASE);
	return page;
}

static void look(struct one *me, char *page)
{
	race_use(&me->race, page, PAGE);
	__atomic_add_fetch(&me->storm->looked, 1, __ATOMIC_RELAXED);
}

static void *change_and_look(void *arg)
{
	struct one *me = arg;
	char *page = own_page();

	pin_to(cpus[0]);
	for (unsigned long i = 0; !is_over(me->storm); i++) {
		page = change_page(page, i);
		look(me, page);
		me->calls++;
	}
	own_page_free(page);
	return NULL;
}

/*
 * Interrupts the others of its CPU, often inside a program, and then makes calls whose programs the
 * kernel skips.
 */
static void *interrupt_and_look(void *arg)
{
	const struct sched_param param = { .sched_priority = 10 };
	const struct timespec nap = { .tv_nsec = 30000 };
	struct one *me = arg;
	char *page = own_page();

	pin_to(cpus[0]);
	/* without the privilege it is one more owner */
	sched_setscheduler(0, SCHED_FIFO, &param);
	for (unsigned long i = 0; !is_over(me->storm); i++) {
		nanosleep(&nap, NULL);
		page = change_page(page, i);
		look(me, page);
		me->calls++;
	}
	own_page_free(page);
	return NULL;
}

static void *change_and_hand_over(void *arg)
{
	struct one *me = arg;

	pin_to(cpus[0]);
	for (unsigned int i = 0; !is_over(me->storm); i++) {
		me->storm->handed = change_page(me->storm->handed, i);
		me->calls++;
		gate_open(&me->storm->gate, 2 * i + 1);
		gate_wait(&me->storm->gate, 2 * i + 2);
	}
	gate_open(&me->storm->gate, UINT32_MAX);
	return NULL;
}

static void *take_over_and_look(void *arg)
{
	struct one *me = arg;

	pin_to(cpus[1]);
	for (unsigned int i = 0;; i++) {
		gate_wait(&me->storm->gate, 2 * i + 1);
		if (__atomic_load_n(&me->storm->gate.turn, __ATOMIC_ACQUIRE) == UINT32_MAX)
			return NULL;
		look(me, me->storm->handed);
		gate_open(&me->storm->gate, 2 * i + 2);
	}
}

/* ---- all threads ---- */

static void start(struct one *one, struct cpu_storm *s, void *(*run)(void *))
{
	one->storm = s;
	one->race = (struct race){ .mm = s->race.mm, .cache = s->race.cache };
	if (pthread_create(&one->thread, NULL, run, one))
		abort();
}

static unsigned int start_all(struct one *all, struct cpu_storm *s, unsigned int nr_threads)
{
	unsigned int nr = 0;

	for (; nr < nr_threads; nr++)
		start(&all[nr], s, s->owners && nr % 2 ? change_and_look : change_maps);
	if (s->owners)
		start(&all[nr++], s, interrupt_and_look);
	if (s->owners && cpus[1] >= 0) {
		s->handed = own_page();
		start(&all[nr++], s, change_and_hand_over);
		start(&all[nr++], s, take_over_and_look);
	}
	return nr;
}

/* Adds up the results of all threads. Return: the number of calls */
static unsigned long end_all(struct one *all, struct cpu_storm *s, unsigned int nr)
{
	unsigned long calls = 0;

	__atomic_store_n(&s->over, 1, __ATOMIC_RELEASE);
	for (unsigned int i = 0; i < nr; i++) {
		pthread_join(all[i].thread, NULL);
		s->race.hits += all[i].race.hits;
		s->race.stale += all[i].race.stale;
		s->race.refused += all[i].race.refused;
		calls += all[i].calls;
	}
	if (s->handed)
		own_page_free(s->handed);
	return calls;
}

static void say_windows(const struct invlock_mm *mm, const struct bpf_guard *before)
{
	struct bpf_guard now;

	guard_read(mm, &now);
	print_message("#   blind %llu times, %llu with a run skipped; %.1f s, at most %.3f s; "
		      "%llu calls marked and %llu ended by the guard\n",
		      now.nr_windows - before->nr_windows, now.nr_skipping - before->nr_skipping,
		      (now.total_ns - before->total_ns) * 1e-9, now.longest_ns * 1e-9,
		      now.nr_marked - before->nr_marked, now.nr_ended - before->nr_ended);
	assert_int_equal(now.violations, 0);
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

/* Return: stale lookups */
static unsigned long storm_of(unsigned int nr_threads)
{
	struct one all[MOST + 3] = {};
	struct cpu_storm s = { .race.reaper = true, .owners = true };
	struct bpf_guard before;
	unsigned int nr;
	unsigned long calls;
	double begun;

	race_open(&s.race);
	begun = seconds();
	guard_read(s.race.mm, &before);
	nr = start_all(all, &s, nr_threads);
	while (__atomic_load_n(&s.looked, __ATOMIC_RELAXED) < lookups)
		nap_ms(10);
	calls = end_all(all, &s, nr);
	print_message("# %u threads: %lu lookups, %lu stale, %lu refused; %lu calls in %.1f s\n",
		      nr_threads, s.race.hits, s.race.stale, s.race.refused, calls,
		      seconds() - begun);
	say_windows(s.race.mm, &before);
	expect_open(s.race.mm);
	/* A cache that refuses everything would never be stale. Many threads refuse half here. */
	assert_true(s.race.hits > s.race.refused / 10);
	race_close(&s.race);
	return s.race.stale;
}

TEST(no_lookup_in_a_storm_on_one_cpu_is_stale)
{
	static const unsigned int sizes[] = { 2, 4, 8, MOST };
	unsigned long stale = 0;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		stale += storm_of(sizes[i]);
	assert_int_equal(stale, 0);
}

TEST_PLANTED(no_check, lookups_in_a_storm_are_stale_without_the_check)
{
	assert_true(storm_of(2) > 0);
}

TEST_PLANTED(no_guard, lookups_in_a_storm_are_stale_without_the_guard)
{
	unsigned long stale = 0;

	if (!guard_tracepoints_preemptible())
		TEST_SKIP("this kernel does not preempt programs");
	/*
	 * A lookup is stale only if both programs of a call were skipped, and no other program made
	 * up for that: so there is no net here, and all calls have the same two programs.
	 */
	monitor_bpf_options.tracepoints = true;
	for (int i = 0; !stale && i < 60; i++)
		stale = storm_of(8);
	monitor_bpf_options.tracepoints = false;
	assert_true(stale > 0);
}

/* ---- a thread on another CPU, whose memory no other thread changes ---- */

/* Time of this thread, without the time that it waited for its CPU. */
static double seconds_mine(void)
{
	unsigned long long ran, delayed = 0;
	FILE *f = fopen("/proc/thread-self/schedstat", "re");

	if (f) {
		if (fscanf(f, "%llu %llu", &ran, &delayed) != 2)
			delayed = 0;
		fclose(f);
	}
	return seconds() - delayed * 1e-9;
}

/* Lookups of this thread per second, while so many threads change maps on the other CPU. */
static double rate_beside(struct race *race, char *memory, unsigned int nr_threads)
{
	struct one all[MOST] = {};
	struct cpu_storm s = { .race.mm = race->mm };
	double begun, now;
	unsigned long nr = 0;

	start_all(all, &s, nr_threads);
	begun = seconds_mine();
	do {
		for (int i = 0; i < 1000; i++, nr++) {
			char *at = memory + nr % NR_REGIONS * 2 * PAGE;
			struct invlock_pin pin;

			if (!invlock_cache_get(race->cache, at, PAGE, 0, &pin)) {
				invlock_cache_put(&pin);
			} else {
				/* the lookup has waited long: check the time */
				race->refused++;
				break;
			}
		}
		now = seconds_mine();
	} while (now - begun < SLICE_MS / 1e3);
	end_all(all, &s, nr_threads);
	return nr / (now - begun);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* One thread makes as many calls as several, but none of its runs can be skipped. */
TEST(a_storm_on_one_cpu_does_not_slow_lookups_on_another)
{
	struct invlock_cache_stats before = { .size = sizeof(before) }, after = before;
	/* in stripes that no other thread changes */
	char *memory = (char *)race_map(4 * STRIPE) + 2 * STRIPE;
	double ratios[PAIRS], calm, wild = 0;
	struct bpf_guard guard;
	struct race race = { .reaper = true };

	if (cpus[1] < 0)
		TEST_SKIP("this machine has one CPU");
	race_open(&race);
	pin_to(cpus[1]);
	rate_beside(&race, memory, 0);
	invlock_cache_stats(race.cache, &before);
	guard_read(race.mm, &guard);
	for (int i = 0; i < PAIRS; i++) {
		calm = rate_beside(&race, memory, 1);
		wild = rate_beside(&race, memory, 8);
		ratios[i] = wild / calm;
	}
	invlock_cache_stats(race.cache, &after);
	qsort(ratios, PAIRS, sizeof(*ratios), by_value);
	print_message("# beside 8 threads %.2f (%.2f..%.2f) of the rate beside one, %.0f a second; "
		      "%lu were refused and %lu registered again\n", ratios[PAIRS / 2], ratios[0],
		      ratios[PAIRS - 1], calm, race.refused, (long)(after.misses - before.misses));
	say_windows(race.mm, &guard);
	assert_true(after.hits > before.hits);
	race_close(&race);
}

static int begin(void **state)
{
	const char *wanted = getenv("INVLOCK_STORM");

	(void)state;
	if (wanted)
		lookups = strtoul(wanted, NULL, 0);
	find_cpus();
	return 0;
}

TEST_MAIN(.before_all = begin)
