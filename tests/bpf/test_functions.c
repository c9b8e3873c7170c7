// SPDX-License-Identifier: MIT
/*
 * The programs at the functions of single calls. tests/vm runs this in a guest whose kernel allows
 * them, because the tests change settings of the whole machine. The other tests of this folder,
 * which the guest runs, too, show that each call is seen there.
 *
 * It takes long to load the programs in an emulated machine, so all tests use those that the first
 * test loads.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include "lib/monitor/bpf/progset.h"
#include "nothing.h"
#include "rig.h"

#define FTRACE		"/proc/sys/kernel/ftrace_enabled"
#define THREADS		8
#define STORM_MS	3000
#define STORM_CALLS	1000	/* a storm goes on until there were so many */

static struct invlock_mm mm;

static struct bpf_set_header head_of(const struct invlock_mm *m)
{
	struct bpf_set_header head;

	monitor_bpf_set(m, &head);
	return head;
}

static bool closed(const struct invlock_mm *m)
{
	return m->il.feed->flags & INVLOCK_FEED_DEGRADED;
}

/* Runs that the kernel has skipped since this process came. */
static u64 skipped(const struct invlock_mm *m)
{
	assert_int_equal(monitor_bpf_note_missed(m), 0);
	return m->il.feed->missed;
}

static atomic_bool over;

static void *discard(void *calls)
{
	char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	cpu_set_t first;

	CPU_ZERO(&first);
	CPU_SET(0, &first);
	sched_setaffinity(0, sizeof(first), &first);
	while (!over) {
		madvise(page, PAGE, MADV_DONTNEED);
		port_fetch_add((u64 *)calls, 1);
	}
	munmap(page, PAGE);
	return NULL;
}

/* Return: runs that the kernel skipped while many threads made calls on one CPU */
static u64 storm(const struct invlock_mm *m, u64 *ret_calls)
{
	pthread_t threads[THREADS];
	u64 calls = 0, before = skipped(m), after;

	over = false;
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, discard, &calls), 0);
	do
		nap_ms(STORM_MS);
	while (port_load(&calls) <= STORM_CALLS);
	over = true;
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	*ret_calls = calls;
	after = skipped(m);
	print_message("# %llu calls, %llu runs were skipped\n",
		      (unsigned long long)*ret_calls, (unsigned long long)(after - before));
	return after - before;
}

static void need_choice(void)
{
	if (!set_preemption("voluntary"))
		TEST_SKIP("this kernel cannot be told not to preempt itself");
}

TEST(calls_are_seen_at_their_functions_whether_the_kernel_preempts_itself_or_not)
{
	monitor_open(&mm);
	assert_int_equal(head_of(&mm).attached, BPF_AT_FUNCTIONS);
}

TEST(threads_that_share_a_cpu_are_never_skipped)
{
	u64 calls;

	need_choice();
	assert_int_equal(storm(&mm, &calls), 0);
	assert_true(calls > STORM_CALLS);
	expect_open(&mm);
}

static sem_t first_is_over, do_the_second;

static void *discard_twice(void *pages)
{
	madvise(pages, PAGE, MADV_DONTNEED);
	sem_post(&first_is_over);
	sem_wait(&do_the_second);
	madvise((char *)pages + PAGE, PAGE, MADV_DONTNEED);
	return NULL;
}

/*
 * When another tracer attaches to a function, the kernel replaces the code that calls the
 * function's programs. A thread that is inside the function leaves it without passing any of them.
 */
TEST(a_call_during_which_a_tracer_attaches_is_ended_by_its_threads_next_call)
{
	char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);
	pthread_t thread;
	int held, link;
	u64 healed;

	need_choice();
	healed = monitor_state(&mm).nr_healed;
	memset(pages, 1, 2 * PAGE);
	held = hold_discards(pages, PAGE);
	assert_true(held >= 0);
	sem_init(&first_is_over, 0, 0);
	sem_init(&do_the_second, 0, 0);
	assert_int_equal(pthread_create(&thread, NULL, discard_twice, pages), 0);
	await_discard(held);
	link = attach_nothing_to_function("__x64_sys_madvise", BPF_TRACE_FENTRY);
	assert_true(link >= 0);
	release_discard(held);
	sem_wait(&first_is_over);
	assert_false(feed_quiet(&mm));
	assert_int_equal(monitor_state(&mm).nr_healed, healed);
	sem_post(&do_the_second);
	pthread_join(thread, NULL);
	assert_true(feed_quiet(&mm));
	assert_int_equal(monitor_state(&mm).nr_healed, healed + 1);
	assert_false(closed(&mm));
	close(link);
	close(held);
	munmap(pages, 2 * PAGE);
}

/* How often this set was told that calls may be missed from then on. */
static u64 times_closed(const struct invlock_mm *m)
{
	struct bpf_set *set = aligned_alloc(64, sizeof(*set));
	int map = map_of_program(progset_of(m)->ask, "invlock_set");
	u64 times;
	u32 zero = 0;

	assert_true(map >= 0);
	assert_int_equal(bpf_map_lookup_elem(map, &zero, set), 0);
	times = set->closed;
	free(set);
	close(map);
	return times;
}

/* Only the flag shows that events are missing from then on. */
TEST(the_feed_is_closed_when_programs_are_taken_off_their_functions)
{
	char *page = mmap(NULL, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	u64 seen;

	need_choice();
	assert_false(closed(&mm));
	write_setting(FTRACE, "0");
	seen = mm.il.feed->sequence;
	munmap(page, PAGE);
	assert_int_equal(mm.il.feed->sequence, seen);
	assert_true(closed(&mm));
	assert_int_equal(times_closed(&mm), 1);
	write_setting(FTRACE, "1");
	seen = mm.il.feed->sequence;
	munmap(page + PAGE, PAGE);
	assert_true(mm.il.feed->sequence > seen);
}

/* From then on runs may be skipped; the guard, which was loaded before, notices each time. */
TEST(the_feed_stays_open_when_the_kernel_begins_to_preempt_itself)
{
	struct bpf_set_header head;
	u64 calls;

	need_choice();
	/* the test before this one has closed the feed */
	monitor_close(&mm);
	monitor_open(&mm);
	head = head_of(&mm);
	assert_int_equal(head.attached, BPF_AT_FUNCTIONS);
	assert_int_equal(head.guard, BPF_GUARD_ON);
	set_preemption("full");
	storm(&mm, &calls);
	assert_true(calls > STORM_CALLS);
	assert_int_equal(times_closed(&mm), 0);
	assert_false(closed(&mm));
	set_preemption("voluntary");
	monitor_close(&mm);
}

static void expect_tracepoints(const char *reason, u64 *ret_skipped)
{
	u64 calls;

	monitor_open(&mm);
	assert_int_equal(head_of(&mm).attached, BPF_AT_TRACEPOINTS);
	assert_non_null(strstr(head_of(&mm).reason, reason));
	assert_false(closed(&mm));
	*ret_skipped = storm(&mm, &calls);
	monitor_close(&mm);
}

TEST(if_programs_cannot_be_at_functions_calls_are_seen_at_the_tracepoints)
{
	u64 nr;

	need_choice();
	write_setting(FTRACE, "0");
	expect_tracepoints("ftrace_enabled", &nr);
	assert_int_equal(nr, 0);
	write_setting(FTRACE, "1");
}

static int preempt_as_before(void **state)
{
	(void)state;
	set_preemption(NULL);
	return 0;
}

TEST_MAIN(.after_all = preempt_as_before)
