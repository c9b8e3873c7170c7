// SPDX-License-Identifier: MIT
/* Adds to the counters, runs the storms, and finds lost additions: see torture.h. */
#include "torture.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>

#include "core/port.h"

#define MAX_SECONDS	300
#define ENOUGH		20
#define MIN_ADDED	100

struct torture torture;

uint64_t *torture_cell(unsigned int nr)
{
	char *region = nr & 1 ? torture.shared : torture.private;

	return (uint64_t *)(region + nr / 2 * ((REGION - TAIL) / (NR_CELLS / 2) & ~(PAGE - 1)));
}

/* A few cells are used often, the others so seldom that their pages stay equal for a while. */
static unsigned int choose_cell(unsigned int *seed)
{
	unsigned int r = rand_r(seed);

	return r & 1 ? (r >> 1) % 4 : (r >> 1) % NR_CELLS;
}

static int add_by_device(uint64_t *cell, uint64_t *old)
{
	struct invlock_mirror_access access = {
		.op = INVLOCK_MIRROR_ADD,
		.addr = (unsigned long)cell,
		.len = sizeof(*cell),
		.buffer = (unsigned long)old,
	};

	*old = 1;
	return mirror_do(torture.fd, &access);
}

/* May an access fail like this because of a storm, or because the device was closed? */
static bool is_explained(int err)
{
	/* after the close, the descriptor may belong to another file */
	return err == -EBUSY || err == -EFAULT || err == -EPERM || port_load(&torture.closed);
}

/* The page after each counter stays zero, for storms such as KSM that only merge equal pages. */
static uint64_t *quiet(unsigned int nr)
{
	return (uint64_t *)((char *)torture_cell(nr) + PAGE);
}

static void device_adds(unsigned long who)
{
	struct torture_results *results = torture.results;
	unsigned int seed = who, nr;
	uint64_t old, floor, zero;
	int err;

	while (!port_load(&torture.stop)) {
		nr = choose_cell(&seed);
		floor = __atomic_load_n(torture_cell(nr), __ATOMIC_SEQ_CST);
		err = add_by_device(torture_cell(nr), &old);
		if (!err) {
			results->added[who][nr]++;
			results->stale[who] += old < floor;
		} else if (is_explained(err)) {
			results->refused[who]++;
		} else {
			results->wrong[who]++;
		}
		zero = 0;
		if (!mirror_read(torture.fd, quiet(nr), &zero, sizeof(zero)))
			results->stale[who] += zero != 0;
		/* use the tail, too, which is truncated and keeps nothing */
		if (nr % 8 == 0)
			add_by_device((uint64_t *)(torture.shared + REGION - TAIL), &old);
	}
}

static void program_adds(unsigned long who)
{
	unsigned int seed = who, nr;

	while (!port_load(&torture.stop)) {
		nr = choose_cell(&seed);
		__atomic_fetch_add(torture_cell(nr), 1, __ATOMIC_SEQ_CST);
		torture.results->added[who][nr]++;
		__atomic_store_n(quiet(nr), 0, __ATOMIC_RELAXED);
		sched_yield();
	}
}

static __thread sigjmp_buf give_up;

/* A storm has moved or truncated the memory for a moment: try again until it is back. */
static void again(int signal)
{
	(void)signal;
	sched_yield();
	if (port_load(&torture.stop))
		siglongjmp(give_up, 1);
}

static void *adder(void *arg)
{
	unsigned long who = (unsigned long)arg;

	if (sigsetjmp(give_up, 1))
		return NULL;
	if (who)
		device_adds(who);
	else
		program_adds(who);
	return NULL;
}

struct torture_thread {
	pthread_t thread;
	const struct torture_storm *storm;
	unsigned int made;
	int error;
};

static void *storm(void *arg)
{
	struct torture_thread *t = arg;

	while (!port_load(&torture.stop)) {
		if (!t->storm->make(t->made)) {
			port_store(&t->error, errno);
			return NULL;
		}
		t->made++;
		sched_yield();
	}
	return NULL;
}

bool torture_has_met(void)
{
	struct invlock_mirror_stats stats = mirror_stats(torture.fd);

	return stats.zapped + stats.collisions >= ENOUGH;
}

static uint64_t added_by_device(void)
{
	uint64_t added = 0;

	for (unsigned int who = 1; who < NR_ADDERS; who++)
		for (unsigned int nr = 0; nr < NR_CELLS; nr++)
			added += port_load(&torture.results->added[who][nr]);
	return added;
}

/* Storms that this kernel cannot make have ended by now, and will meet nothing. */
static bool goes_on(const struct torture_thread *threads, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++)
		if (!port_load(&threads[i].error))
			return true;
	return false;
}

static bool is_enough(const struct torture_thread *threads, unsigned int nr)
{
	return (threads->storm->rare || torture_has_met() || !goes_on(threads, nr)) &&
	       added_by_device() >= MIN_ADDED;
}

bool torture_map(struct torture_results *results, int memfd)
{
	torture_join_cgroup(true);
	torture.results = results;
	torture.memfd = memfd;
	torture.private = map_aligned(REGION);
	torture.shared = map_aligned(REGION);
	torture.away = map_anon(MAX_STORM);
	memset(torture.private, 0, REGION);
	return mmap(torture.shared, REGION, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, memfd,
		    0) == torture.shared;
}

void torture_unmap(void)
{
	munmap(torture.private, REGION);
	munmap(torture.shared, REGION);
	munmap(torture.away, MAX_STORM);
	torture_join_cgroup(false);
}

unsigned int torture_run(const struct torture_storm *storms, unsigned int nr,
			 unsigned int seconds)
{
	struct torture_thread threads[32] = { 0 };
	pthread_t adders[NR_ADDERS];
	unsigned int unable = 0;
	time_t end = time(NULL) + seconds;
	void (*old_segv)(int), (*old_bus)(int);

	old_segv = signal(SIGSEGV, again);
	old_bus = signal(SIGBUS, again);
	torture.stop = false;
	for (unsigned long i = 0; i < NR_ADDERS; i++)
		pthread_create(&adders[i], NULL, adder, (void *)i);
	for (unsigned int i = 0; i < nr; i++) {
		threads[i].storm = &storms[i];
		pthread_create(&threads[i].thread, NULL, storm, &threads[i]);
	}
	while (time(NULL) < end || (!is_enough(threads, nr) && time(NULL) < end + MAX_SECONDS))
		sleep_ms(10);
	port_store(&torture.stop, true);
	for (unsigned int i = 0; i < nr; i++)
		pthread_join(threads[i].thread, NULL);
	for (unsigned int i = 0; i < NR_ADDERS; i++)
		pthread_join(adders[i], NULL);
	for (unsigned int i = 0; i < nr; i++) {
		if (storms[i].calm)
			storms[i].calm();
		if (threads[i].error) {
			unable |= 1U << i;
			errno = threads[i].error;
			print_message("# no %s here: %s\n", storms[i].name, strerror(errno));
		} else if (nr > 1) {
			print_message("# %u x %s\n", threads[i].made, storms[i].name);
		}
	}
	signal(SIGSEGV, old_segv);
	signal(SIGBUS, old_bus);
	return unable;
}

uint64_t torture_lost(unsigned int first, unsigned int step, uint64_t tolerated)
{
	uint64_t lost = 0;

	for (unsigned int nr = first; nr < NR_CELLS; nr += step) {
		uint64_t added = 0, difference;

		for (unsigned int who = 0; who < NR_ADDERS; who++)
			added += torture.results->added[who][nr];
		difference = *torture_cell(nr) - added;
		/* a thread that was killed between an addition and its count */
		if (difference && difference <= tolerated)
			tolerated -= difference;
		else
			lost += difference < 1ULL << 63 ? difference : -difference;
	}
	return lost;
}
