// SPDX-License-Identifier: MIT
/*
 * The guard (bpf/guard.h), on a kernel that preempts programs: tests/vm runs this there. One thread
 * makes calls all the time. Another thread of a higher scheduling class wakes on the same CPU over
 * and over, so that the first is often preempted inside a program. The programs are told not to
 * forbid preemption, or this would take hours.
 */
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <bpf/bpf.h>
#include "lib/monitor/bpf/guard.h"
#include "rig.h"

#define STORM_MS	20000	/* more than any test needs */
#define WINDOWS		20	/* enough windows for a result */

static struct invlock_mm mm;
static atomic_bool over;
static sem_t begun;

static struct bpf_guard at_start;		/* what the guard had counted before this test */

/* What the guard has counted since this test began. */
static const struct bpf_guard *guard_now(void)
{
	static struct bpf_guard now;

	guard_read(&mm, &now);
	now.nr_windows -= at_start.nr_windows;
	now.nr_skipping -= at_start.nr_skipping;
	now.nr_marked -= at_start.nr_marked;
	now.nr_ended -= at_start.nr_ended;
	now.total_ns -= at_start.total_ns;
	return &now;
}

static void pin_to(int cpu, int policy)
{
	struct sched_param param = { .sched_priority = policy == SCHED_FIFO ? 10 : 0 };
	cpu_set_t only;

	CPU_ZERO(&only);
	CPU_SET(cpu, &only);
	sched_setaffinity(0, sizeof(only), &only);
	if (sched_setscheduler(0, policy, &param))
		fail_msg("sched_setscheduler: %s", strerror(errno));
}

static void open_guarded(void)
{
	struct bpf_set_header head;

	monitor_open(&mm);
	monitor_bpf_set(&mm, &head);
	guard_read(&mm, &at_start);
	if (head.guard != BPF_GUARD_ON) {
		monitor_close(&mm);
		TEST_SKIP("this kernel does not preempt programs");
	}
	/* the main thread's own calls must not be skipped */
	pin_to(1, SCHED_OTHER);
}

/* Was the guard taught before the process that loaded it went on? Its later sleeps teach, too. */
static bool taught;

TEST(the_guard_knows_from_the_start_what_a_task_outside_of_programs_looks_like)
{
	open_guarded();
	assert_true(taught);
	monitor_close(&mm);
}

static char *new_page(void)
{
	return mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void *call_all_the_time(void *unused)
{
	char *page = new_page();

	pin_to(0, SCHED_OTHER);
	sem_post(&begun);
	while (!over)
		madvise(page, PAGE, MADV_DONTNEED);
	munmap(page, PAGE);
	return unused;
}

/* Preempts the other thread. With a page it also makes a call, which may then be skipped. */
static void *wake_all_the_time(void *page)
{
	struct timespec nap = { .tv_nsec = 30000 };

	pin_to(0, SCHED_FIFO);
	sem_post(&begun);
	while (!over) {
		nanosleep(&nap, NULL);
		if (page)
			madvise(page, PAGE, MADV_DONTNEED);
	}
	return NULL;
}

static pthread_t caller, waker;

static void storm_begins(void *page)
{
	over = false;
	sem_init(&begun, 0, 0);
	assert_int_equal(pthread_create(&waker, NULL, wake_all_the_time, page), 0);
	assert_int_equal(pthread_create(&caller, NULL, call_all_the_time, NULL), 0);
	sem_wait(&begun);
	sem_wait(&begun);
}

static void storm_ends(void)
{
	over = true;
	pthread_join(caller, NULL);
	pthread_join(waker, NULL);
}

/*
 * No run is inside any more: a CPU that is blind sees again when it is asked. A thread that was
 * joined may still be ending, and the end of its last call may be seen only then.
 */
static void expect_sight(const struct invlock_mm *m)
{
	for (int i = 0; i < 5000 && (port_load(&m->il.feed->blind) || !feed_quiet(m)); i++) {
		guard_look(progset_of(m), (const struct bpf_user *)m->il.feed);
		nap_ms(1);
	}
	assert_int_equal(m->il.feed->blind, 0);
	expect_open(m);
	assert_true(feed_quiet(m));
}

static void expect_exact(void)
{
	const struct bpf_guard *g = guard_now();

	assert_int_equal(monitor_bpf_note_missed(&mm), 0);
	assert_int_equal(g->violations, 0);
	assert_int_equal(g->nr_blind, 0);
	print_message("# %llu preemptions inside, %llu windows with skipped runs, %llu marked, "
		      "%llu ended; blind for %llu us, at most %llu; %llu skipped\n",
		      (unsigned long long)g->nr_windows, (unsigned long long)g->nr_skipping,
		      (unsigned long long)g->nr_marked, (unsigned long long)g->nr_ended,
		      (unsigned long long)g->total_ns / 1000,
		      (unsigned long long)g->longest_ns / 1000,
		      (unsigned long long)mm.il.feed->missed);
}

TEST(a_window_in_which_nothing_is_skipped_leaves_every_translation_valid)
{
	char *stripe = stripe_new();
	struct bpf_set_header head;
	struct watched some;

	open_guarded();
	monitor_bpf_set(&mm, &head);
	if (head.attached != BPF_AT_FUNCTIONS) {
		monitor_close(&mm);
		TEST_SKIP("at the tracepoints the preempting thread makes calls, too");
	}
	storm_begins(NULL);
	while (invlock_sample(&mm.il, (u64)stripe, (u64)stripe + GROUP, &some.snap))
		nap_ms(1);
	some.mm = &mm;
	some.at = stripe;
	for (int ms = 0; ms < STORM_MS && guard_now()->nr_windows < WINDOWS; ms++) {
		/* ask before the ring is overrun */
		assert_int_equal(watched_verdict(&some), INVLOCK_VALID);
		nap_ms(1);
	}
	assert_int_equal(mm.il.feed->lost, 0);
	/* threads that end make calls */
	storm_ends();
	expect_sight(&mm);
	expect_exact();
	assert_true(guard_now()->nr_windows >= WINDOWS);
	monitor_close(&mm);
	stripe_free(stripe);
}

TEST(a_run_that_is_skipped_makes_everything_stale)
{
	char *stripe = stripe_new(), *page = new_page();
	struct watched some;
	u64 lost;

	open_guarded();
	watched_sample(&some, &mm, stripe);
	storm_begins(page);
	for (int ms = 0; ms < STORM_MS && guard_now()->nr_skipping < WINDOWS; ms += 10)
		nap_ms(10);
	storm_ends();
	expect_sight(&mm);
	expect_exact();
	lost = mm.il.feed->lost;
	assert_true(guard_now()->nr_skipping >= WINDOWS);
	assert_true(lost >= WINDOWS);
	assert_int_equal(watched_verdict(&some), INVLOCK_STALE);
	monitor_close(&mm);
	munmap(page, PAGE);
	stripe_free(stripe);
}

/*
 * The enter of this call is skipped, its window is over, and the call still runs: no reader may
 * trust a translation of memory that the call is about to change.
 */
TEST(a_call_whose_enter_was_skipped_is_marked_for_as_long_as_it_runs)
{
	char *page = new_page();
	struct invlock_snapshot snap;
	const struct invlock_event *ev;
	u64 newest = 0, before;
	int held, nr = 0;

	open_guarded();
	memset(page, 1, PAGE);
	held = hold_discards(page, PAGE);
	if (held < 0) {
		monitor_close(&mm);
		TEST_SKIP("userfaultfd: %s", strerror(errno));
	}
	storm_begins(page);
	for (int i = 0; i < 200000 && nr < 3; i++) {
		if (!hold_await(held, 1000))
			continue;
		/* if the enter of this call was not skipped, it has made an event */
		before = newest;
		ev = last_event(&mm, INVLOCK_KIND_DISCARD, page);
		newest = ev ? ev->seq : 0;
		if (newest == before) {
			nr++;
			while (port_load(&mm.il.feed->blind))
				guard_look(progset_of(&mm), (const struct bpf_user *)mm.il.feed);
			for (int turn = 0; turn < 100; turn++) {
				assert_int_equal(invlock_sample(&mm.il, PAGE, 2 * PAGE, &snap),
						 -EAGAIN);
				nap_ms(1);
			}
		}
		release_discard(held);
	}
	over = true;
	/* the thread may be in a last call, or in none */
	while (pthread_tryjoin_np(waker, NULL))
		if (hold_await(held, 10))
			release_discard(held);
	pthread_join(caller, NULL);
	expect_sight(&mm);
	expect_exact();
	assert_true(nr >= 1);
	close(held);
	monitor_close(&mm);
	munmap(page, PAGE);
}

/* The exit of its only call may be skipped. */
static void *discard_once(void *page)
{
	struct timespec nap = { .tv_nsec = 30000 };

	pin_to(0, SCHED_FIFO);
	nanosleep(&nap, NULL);
	madvise(page, PAGE, MADV_DONTNEED);
	return NULL;
}

static void discard_once_in_thread(char *page)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, discard_once, page), 0);
	pthread_join(thread, NULL);
}

static int discard_once_and_exit(void *page)
{
	discard_once(page);
	return 0;
}

/* A process of its own that shares our memory. */
static void discard_once_in_process(char *page)
{
	static char stack[64 << 10] __attribute__((aligned(16)));
	pid_t pid = clone(discard_once_and_exit, stack + sizeof(stack), CLONE_VM | SIGCHLD, page);

	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void expect_nothing_marked_after(void (*call)(char *page))
{
	char *page = new_page();

	open_guarded();
	over = false;
	sem_init(&begun, 0, 0);
	assert_int_equal(pthread_create(&caller, NULL, call_all_the_time, NULL), 0);
	sem_wait(&begun);
	for (int i = 0; i < 20000 && guard_now()->nr_skipping < 2 * WINDOWS; i++)
		call(page);
	over = true;
	pthread_join(caller, NULL);
	expect_sight(&mm);
	expect_exact();
	assert_true(guard_now()->nr_skipping >= 2 * WINDOWS);
	monitor_close(&mm);
	munmap(page, PAGE);
}

TEST(a_thread_that_exits_leaves_nothing_marked)
{
	expect_nothing_marked_after(discard_once_in_thread);
}

TEST(a_process_that_shares_the_memory_and_exits_leaves_nothing_marked)
{
	expect_nothing_marked_after(discard_once_in_process);
}

/* Runs in a process of its own. Return: 0, or the step that failed */
static int join_and_look(void)
{
	struct invlock_why why = {};
	struct bpf_set_header head;
	struct invlock_mm own;
	u64 before;

	for (int i = 0; i < 5; i++) {
		memset(&own, 0, sizeof(own));
		own.monitor = &monitor_bpf;
		if (monitor_bpf.open(&own, &why)) {
			fprintf(stderr, "# %s\n", why.text);
			return 1;
		}
		monitor_bpf_set(&own, &head);
		if (head.guard != BPF_GUARD_ON)
			return 2;
		/*
		 * the other process's storm makes our feed blind, and nothing else moves this word
		 */
		before = port_load(&own.il.feed->wide);
		for (int ms = 0; ms < STORM_MS && port_load(&own.il.feed->wide) == before; ms++)
			nap_ms(1);
		if (port_load(&own.il.feed->wide) == before)
			return 3;
		monitor_bpf.close(&own, true);
	}
	return 0;
}

TEST(a_process_that_joins_while_cpus_become_blind_is_told_of_each)
{
	char *page = new_page();
	int status;
	pid_t pid;

	open_guarded();
	storm_begins(page);
	pid = fork();
	if (!pid)
		_exit(join_and_look());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	storm_ends();
	assert_int_equal(status, 0);
	expect_sight(&mm);
	expect_exact();
	monitor_close(&mm);
	munmap(page, PAGE);
}

static pid_t holder;

/* A process that holds the programs: it takes long to have them verified for each test. */
static void hold_programs(void)
{
	struct invlock_why why;
	int opened[2];
	char byte = 1;

	assert_int_equal(pipe(opened), 0);
	holder = fork();
	if (!holder) {
		mm.monitor = &monitor_bpf;
		if (monitor_bpf.open(&mm, &why))
			_exit(1);
		guard_read(&mm, &at_start);
		byte = at_start.teacher != 0;
		if (write(opened[1], &byte, 1) == 1)
			pause();
		_exit(1);
	}
	close(opened[1]);
	/* without a holder each test loads its own programs, or says why it cannot */
	if (read(opened[0], &byte, 1) != 1)
		print_message("# no process holds the programs\n");
	taught = !byte;
	close(opened[0]);
}

/* If the kernel can be told to preempt itself, this tells it. */
static int begin(void **state)
{
	(void)state;
	set_preemption("full");
	monitor_bpf_options.family = 0x6a7d;
	hold_programs();
	return 0;
}

static int end(void **state)
{
	(void)state;
	kill(holder, SIGKILL);
	waitpid(holder, NULL, 0);
	set_preemption(NULL);
	return 0;
}

TEST_MAIN(.before_all = begin, .after_all = end)
