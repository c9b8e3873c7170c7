// SPDX-License-Identifier: MIT
/* Opening the monitor while other threads run, and running as many threads as possible. */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include "lib/monitor/bpf/progset.h"
#include "rig.h"

static struct invlock_mm mm;
static int stop;	/* atomic */

static void start_thread(pthread_t *thread, void *(*run)(void *), void *arg)
{
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 * 1024);
	assert_int_equal(pthread_create(thread, &attr, run, arg), 0);
	pthread_attr_destroy(&attr);
}

/*
 * A thread that is stuck in madvise(DONTNEED) until we let it go. It registered a userfaultfd for
 * remove events: the call waits until the event is read.
 */
struct stuck {
	int uffd;
	char *stripe;
	pthread_t thread;
};

static void *get_stuck(void *arg)
{
	struct stuck *s = arg;

	return (void *)(intptr_t)madvise(s->stripe + VICTIM, GROUP, MADV_DONTNEED);
}

/* Return: whether a thread of ours is blocked in this call */
static bool in_call(int nr)
{
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *task;
	char path[300], text[64];
	int fd, found;
	bool yes = false;

	assert_non_null(tasks);
	while (!yes && (task = readdir(tasks))) {
		snprintf(path, sizeof(path), "/proc/self/task/%s/syscall", task->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		memset(text, 0, sizeof(text));
		yes = read(fd, text, sizeof(text) - 1) > 0 && sscanf(text, "%d", &found) == 1 &&
		      found == nr;
		close(fd);
	}
	closedir(tasks);
	return yes;
}

static void stuck_start(struct stuck *s)
{
	s->stripe = stripe_new();
	s->uffd = hold_discards(s->stripe, STRIPE);
	if (s->uffd < 0)
		TEST_SKIP("userfaultfd: %s", strerror(errno));
	start_thread(&s->thread, get_stuck, s);
	while (!in_call(SYS_madvise))
		nap_ms(1);
}

static void stuck_end(struct stuck *s)
{
	void *ret;

	pthread_join(s->thread, &ret);
	assert_int_equal((intptr_t)ret, 0);
	close(s->uffd);
	stripe_free(s->stripe);
}

TEST(an_open_names_a_thread_stuck_in_an_earlier_call_and_fails)
{
	struct invlock_why why = {};
	unsigned int fds = count_fds();
	char call[40];
	struct stuck s;
	int err;

	monitor_need();
	stuck_start(&s);
	memset(&mm, 0, sizeof(mm));
	err = monitor_bpf.open(&mm, &why);
	/* first, or no later test could open a monitor */
	release_discard(s.uffd);
	stuck_end(&s);
	assert_int_equal(err, -EBUSY);
	snprintf(call, sizeof(call), "system call %d,", SYS_madvise);
	assert_non_null(strstr(why.text, call));
	assert_null(mm.data);
	assert_int_equal(count_fds(), fds);
	monitor_open(&mm);
	monitor_close(&mm);
}

/*
 * Waits until the programs are armed and the open can do nothing but wait, then lets the thread go.
 */
static void *release_when_armed(void *arg)
{
	const struct stuck *s = arg;

	while (!port_load_acquire(&mm.il.feed))
		nap_ms(1);
	while (!monitor_state(&mm).watching)
		nap_ms(1);
	nap_ms(50);
	release_discard(s->uffd);
	return NULL;
}

TEST(the_open_waits_for_a_call_that_began_earlier_and_marks_its_end)
{
	struct stuck s;
	pthread_t helper;

	monitor_need();
	stuck_start(&s);
	memset(&mm, 0, sizeof(mm));
	start_thread(&helper, release_when_armed, &s);
	monitor_open(&mm);
	/* If the open had not waited, the thread would still be in its call. */
	assert_false(in_call(SYS_madvise));
	assert_true(monitor_state(&mm).nr_unpaired > 0);
	assert_non_null(last_event(&mm, INVLOCK_KIND_DISCARD, s.stripe + VICTIM));
	pthread_join(helper, NULL);
	stuck_end(&s);
	assert_true(feed_quiet(&mm));
	monitor_close(&mm);
}

TEST(more_calls_at_once_than_there_are_slots_degrade_the_feed)
{
	struct invlock_snapshot snap;
	char *stripe = stripe_new();
	enum invlock_verdict verdict;
	struct stuck s;
	int err;

	monitor_bpf_options.nr_calls = 1;
	monitor_open(&mm);
	monitor_bpf_options.nr_calls = BPF_NR_CALLS;
	assert_int_equal(seeing_sample(&mm.il, (u64)stripe, (u64)stripe + PAGE, &snap), 0);
	stuck_start(&s);
	munmap(stripe, PAGE);
	verdict = invlock_validate(&mm.il, &snap, (u64)stripe, (u64)stripe + PAGE);
	err = invlock_sample(&mm.il, (u64)stripe, (u64)stripe + PAGE, &snap);
	release_discard(s.uffd);
	stuck_end(&s);
	assert_int_equal(verdict, INVLOCK_STALE);
	assert_int_equal(err, -ENOTRECOVERABLE);
	stripe_free(stripe);
	monitor_close(&mm);
}

/*
 * A thread that gets no CPU for long is stuck in its call: then the open fails, rightly. Try again.
 */
static void open_in_storm(void)
{
	struct invlock_why why = {};
	int err;

	memset(&mm, 0, sizeof(mm));
	mm.monitor = &monitor_bpf;
	do {
		err = monitor_bpf.open(&mm, &why);
	} while (err == -EBUSY);
	if (err)
		fail_msg("open: %d: %s", err, why.text);
}

static void *spin_after_munmap(void *arg)
{
	munmap(arg, PAGE);
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		;
	return NULL;
}

TEST(threads_that_spin_after_an_earlier_call_do_not_hold_up_the_open)
{
	char *stripe = stripe_new();
	pthread_t spinner[2];

	__atomic_store_n(&stop, 0, __ATOMIC_RELAXED);
	monitor_need();
	for (int i = 0; i < 2; i++)
		start_thread(&spinner[i], spin_after_munmap, stripe + i * PAGE);
	open_in_storm();
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < 2; i++)
		pthread_join(spinner[i], NULL);
	assert_true(feed_quiet(&mm));
	stripe_free(stripe);
	monitor_close(&mm);
}

static void *receive(void *arg)
{
	char c;

	/* recv is call 45, and so is brk for i386 */
	recv(*(int *)arg, &c, 1, 0);
	return NULL;
}

TEST(a_call_that_has_the_number_of_i386_brk_does_not_hold_up_the_open)
{
	pthread_t thread;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	start_thread(&thread, receive, &pair[0]);
	while (!in_call(SYS_recvfrom))
		nap_ms(1);
	monitor_open(&mm);
	assert_int_equal(write(pair[1], "x", 1), 1);
	pthread_join(thread, NULL);
	close(pair[0]);
	close(pair[1]);
	monitor_close(&mm);
}

static void *huge_storm(void *arg)
{
	(void)arg;
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		char *p = mmap(NULL, 64 << 20, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

		if (p != MAP_FAILED)
			munmap(p, 64 << 20);
	}
	return NULL;
}

TEST(opening_in_a_storm_of_huge_unmaps_leaves_no_word_running)
{
	struct bpf_set_header head;
	pthread_t storm[2];

	monitor_need();

	__atomic_store_n(&stop, 0, __ATOMIC_RELAXED);
	for (int i = 0; i < 2; i++)
		start_thread(&storm[i], huge_storm, NULL);
	for (int i = 0; i < 10; i++) {
		open_in_storm();
		expect_open(&mm);
		if (i < 9)
			monitor_close(&mm);
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < 2; i++)
		pthread_join(storm[i], NULL);
	assert_true(feed_quiet(&mm));
	/* where the kernel preempts programs, runs of one thread may be skipped for another */
	monitor_bpf_set(&mm, &head);
	if (head.guard != BPF_GUARD_ON)
		assert_int_equal(mm.il.feed->lost + mm.il.feed->missed, 0);
	monitor_close(&mm);
}

#define MANY	2000

static pthread_barrier_t together;

static void *unmap_together(void *arg)
{
	char *p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)arg;
	pthread_barrier_wait(&together);
	for (int i = 0; i < 20; i++)
		madvise(p, PAGE, MADV_DONTNEED);
	munmap(p, 2 * PAGE);
	return NULL;
}

/* Events, and runs that the kernel skipped. A call makes at least one event or two skipped runs. */
static u64 seen_or_skipped(void)
{
	u64 skipped;

	assert_int_equal(progset_missed(progset_of(&mm), &skipped), 0);
	return port_load_acquire(&mm.il.feed->sequence) + skipped;
}

TEST(every_call_of_two_thousand_threads_is_seen_or_counted_as_skipped)
{
	static pthread_t threads[MANY];
	u64 before;

	pthread_barrier_init(&together, NULL, MANY + 1);
	monitor_need();
	for (int i = 0; i < MANY; i++)
		start_thread(&threads[i], unmap_together, NULL);
	open_in_storm();
	before = seen_or_skipped();
	pthread_barrier_wait(&together);
	for (int i = 0; i < MANY; i++)
		pthread_join(threads[i], NULL);
	assert_true(seen_or_skipped() - before >= MANY * 21);
	expect_open(&mm);
	assert_true(feed_quiet(&mm));
	pthread_barrier_destroy(&together);
	monitor_close(&mm);
}

TEST_MAIN()
