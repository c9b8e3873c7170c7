// SPDX-License-Identifier: MIT
/* Opening, closing, forking, threads that end, and a monitor thread that hardly gets the CPU. */
#include <dirent.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "rig.h"
#include "tests/threads.h"

#define NR_THREADS	4

static struct rig rig;
static u32 stopped;	/* tells the threads to end */
static u32 nr_stale;

static int start_anew(__attribute__((unused)) void **state)
{
	port_store(&stopped, 0);
	port_store(&nr_stale, 0);
	return 0;
}

static unsigned int nr_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int nr = 0;

	while (readdir(dir))
		nr++;
	closedir(dir);
	return nr;
}

/*
 * Unmaps a page and maps it again. In between, another thread or a sanitizer may get memory at that
 * address, and mapping over it would destroy that memory. Return: false = the address was taken
 */
static bool renew(char *page)
{
	munmap(page, PAGE);
	return map_at(page, PAGE, MAP_FIXED_NOREPLACE) == page;
}

/* Unmaps and maps watched memory, and looks it up, until told to stop. */
static void *churn(__attribute__((unused)) void *arg)
{
	struct translation t;
	char *p = map_at(NULL, 4 * PAGE, 0);

	while (!port_load(&stopped)) {
		bool taken;

		if (translate(&rig, p, 4 * PAGE, &t))
			continue;
		taken = !renew(p + PAGE);
		madvise(p, PAGE, MADV_DONTNEED);
		if (is_valid(&rig, &t))
			port_fetch_add(&nr_stale, 1);
		drop(&rig, &t);
		if (taken) {
			munmap(p, PAGE);
			munmap(p + 2 * PAGE, 2 * PAGE);
			p = map_at(NULL, 4 * PAGE, 0);
		}
	}
	munmap(p, 4 * PAGE);
	return NULL;
}

TEST(twenty_opens_and_closes_leave_nothing_behind)
{
	unsigned int fds, maps, threads;
	struct translation t;
	char *p;

	RIG_OPEN(&rig);
	rig_close(&rig);
	p = map_at(NULL, PAGE, 0);
	fds = nr_fds();
	maps = count_lines("/proc/self/maps");
	(void)maps;
	for (int i = 0; i < 20; i++) {
		assert_int_equal(rig_open(&rig), 0);
		assert_int_equal(translate(&rig, p, PAGE, &t), 0);
		threads = thread_named("invlock-uffd") != 0;
		assert_int_equal(threads, 1);
		rig_close(&rig);
		assert_false(kernel_watches(p));
	}
	assert_int_equal(nr_fds(), fds);
#ifndef __SANITIZE_THREAD__	/* it maps memory of its own all the time */
	assert_int_equal(count_lines("/proc/self/maps"), maps);
#endif
	await_no_thread("invlock-uffd");
	munmap(p, PAGE);
}

TEST(several_monitors_at_once_and_then_one_too_many)
{
	static struct rig rigs[17];
	unsigned int nr;
	int err = 0;

	RIG_OPEN(&rig);
	rig_close(&rig);
	for (nr = 0; nr < 17 && !err; nr++)
		err = rig_open(&rigs[nr]);
	assert_int_equal(err, -EMFILE);
	assert_string_not_equal(rigs[nr - 1].why.text, "");
	for (unsigned int i = 0; i + 1 < nr; i++)
		rig_close(&rigs[i]);
}

static void *unmap_all(void *arg)
{
	char *p = arg, *moved;

	for (int j = 0; j < 64; j++) {
		madvise(p + j * PAGE, PAGE, MADV_DONTNEED);
		/* another thread may already use the address that it had */
		moved = mremap(p + j * PAGE, PAGE, 2 * PAGE, MREMAP_MAYMOVE);
		if (moved == MAP_FAILED)
			munmap(p + j * PAGE, PAGE);
		else
			munmap(moved, 2 * PAGE);
	}
	return NULL;
}

TEST(close_releases_every_thread_that_changes_watched_memory)
{
	pthread_t threads[NR_THREADS];
	static char *pages[NR_THREADS];

	RIG_OPEN(&rig);
	rig_close(&rig);
	for (int round = 0; round < 100; round++) {
		assert_int_equal(rig_open(&rig), 0);
		for (int i = 0; i < NR_THREADS; i++) {
			pages[i] = map_at(NULL, 64 * PAGE, 0);
			for (int j = 0; j < 64; j++)
				assert_int_equal(monitor_uffd.watch(&rig.mm,
						(unsigned long)pages[i] + j * PAGE,
						(unsigned long)pages[i] + (j + 1) * PAGE), 0);
		}
		for (int i = 0; i < NR_THREADS; i++)
			pthread_create(&threads[i], NULL, unmap_all, pages[i]);
		if (round & 1)
			sched_yield();
		rig_close(&rig);
		for (int i = 0; i < NR_THREADS; i++)
			pthread_join(threads[i], NULL);
	}
}

/* A child that sleeps until it is killed. raw: made without libc, so no atfork handler runs. */
static pid_t sleeping_child(bool raw)
{
	pid_t pid = raw ? (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL) : fork();

	if (!pid) {
		/* the child must not outlive a test that the runner ends */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	return pid;
}

static void parent_is_not_held_up(bool raw)
{
	struct translation t;
	char *p, *q, *r;
	pid_t child;

	RIG_OPEN(&rig);
	p = map_at(NULL, 8 * PAGE, 0);
	q = p + 2 * PAGE;
	r = p + 4 * PAGE;
	assert_int_equal(translate(&rig, p, PAGE, &t), 0);
	assert_int_equal(monitor_uffd.watch(&rig.mm, (unsigned long)q, (unsigned long)q + PAGE), 0);
	assert_int_equal(monitor_uffd.watch(&rig.mm, (unsigned long)r, (unsigned long)r + PAGE), 0);
	child = sleeping_child(raw);
	assert_true(child > 0);
	assert_int_equal(munmap(p, PAGE), 0);
	assert_false(is_valid(&rig, &t));
	/*
	 * Moved, so it is registered at an address that no watch has asked for; it is still
	 * watched.
	 */
	assert_ptr_not_equal(mremap(r, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, r + 2 * PAGE),
			     MAP_FAILED);
	rig_close(&rig);
	assert_int_equal(munmap(q, PAGE), 0);
	assert_int_equal(munmap(r + 2 * PAGE, PAGE), 0);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

/* The libc keeps what it knows of a thread in the thread's stack, at the place that is its id. */
static bool libc_knows_thread(pthread_t id)
{
	const uint64_t *known = (const uint64_t *)id;

	for (int i = 0; i < 32; i++)
		if (known[i])
			return true;
	return false;
}

TEST(a_forked_child_finds_what_its_libc_keeps_of_the_monitors_thread)
{
	int status;
	pid_t pid;

	RIG_OPEN(&rig);
	pid = fork();
	if (!pid)
		_exit(libc_knows_thread(rig_uffd(&rig)->id) ? 0 : 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	rig_close(&rig);
}

TEST(a_forked_child_that_sleeps_does_not_hold_up_the_parent)
{
	parent_is_not_held_up(false);
}

TEST(a_cloned_child_with_a_copy_of_the_descriptor_does_not_hold_up_the_parent)
{
	parent_is_not_held_up(true);
}

TEST(a_mapping_that_grew_is_released_by_close_although_a_child_was_forked)
{
	char *p, *q;
	pid_t child;

	RIG_OPEN(&rig);
	p = map_alone(8 * PAGE);
	munmap(p + PAGE, 7 * PAGE);
	assert_int_equal(monitor_uffd.watch(&rig.mm, (unsigned long)p, (unsigned long)p + PAGE), 0);
	q = mremap(p, PAGE, 4 * PAGE, 0);
	assert_ptr_equal(q, p);
	/* The kernel watches more than was asked for, and reports that to nobody. */
	assert_true(kernel_watches(p + 3 * PAGE));
	child = sleeping_child(false);
	rig_close(&rig);
	/* wait until the child has run so far */
	while (kernel_watches(p + 3 * PAGE))
		sched_yield();
	assert_int_equal(munmap(p, 4 * PAGE), 0);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

TEST(a_child_changes_its_own_memory_freely_and_can_open_a_monitor)
{
	struct translation t;
	int status;
	pid_t child;
	char *p;

#ifdef __SANITIZE_THREAD__
	TEST_SKIP("ThreadSanitizer starts no thread in a forked child");
#endif
	RIG_OPEN(&rig);
	p = map_at(NULL, 2 * PAGE, 0);
	assert_int_equal(translate(&rig, p, 2 * PAGE, &t), 0);
	child = fork();
	if (!child) {
		struct rig again;
		bool ok = !munmap(p, PAGE) && !rig_open(&again) &&
			  !translate(&again, p + PAGE, PAGE, &t);

		/* The inherited copy and the child's own open: neither disturbs the other. */
		monitor_uffd.close(&rig.mm, false);
		ok = ok && is_valid(&again, &t) && !munmap(p + PAGE, PAGE) && !is_valid(&again, &t);
		drop(&again, &t);
		rig_close(&again);
		_exit(ok ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_true(is_valid(&rig, &t));
	munmap(p, 2 * PAGE);
	assert_false(is_valid(&rig, &t));
	drop(&rig, &t);
	rig_close(&rig);
}

TEST(forking_while_threads_change_watched_memory_does_not_hang)
{
	pthread_t threads[NR_THREADS];

	RIG_OPEN(&rig);
	for (int i = 0; i < NR_THREADS; i++)
		pthread_create(&threads[i], NULL, churn, NULL);
	for (int i = 0; i < 30; i++) {
		pid_t child = fork();

		if (!child)
			_exit(0);
		assert_int_equal(waitpid(child, NULL, 0), child);
	}
	port_store(&stopped, 1);
	for (int i = 0; i < NR_THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(port_load(&nr_stale), 0);
	rig_close(&rig);
}

static char *signal_page;
static u32 nr_signals;

static void unmap_in_handler(__attribute__((unused)) int sig)
{
	/* mapped again at once: see renew() */
	map_at(signal_page, PAGE, MAP_FIXED);
	port_fetch_add(&nr_signals, 1);
}

/* one signal at a time, at whatever place of its code the thread is */
static void *send_signals(void *arg)
{
	while (!port_load(&stopped)) {
		u32 nr = port_load(&nr_signals);

		pthread_kill(*(pthread_t *)arg, SIGUSR1);
		while (!port_load(&stopped) && port_load(&nr_signals) == nr)
			sched_yield();
	}
	return NULL;
}

TEST(a_signal_handler_may_unmap_during_watches_and_lookups)
{
	struct sigaction sa = { .sa_handler = unmap_in_handler, .sa_flags = SA_RESTART };
	pthread_t self = pthread_self(), sender;
	u32 nr_good = 0, nr_bad = 0;
	struct translation t;
	char *mine;
	int err;

	RIG_OPEN(&rig);
	signal_page = map_at(NULL, PAGE, 0);
	mine = map_at(NULL, PAGE, 0);
	sigaction(SIGUSR1, &sa, NULL);
	pthread_create(&sender, NULL, send_signals, &self);
	while (port_load(&nr_signals) < 5000 || nr_good < 500) {
		err = translate(&rig, signal_page, PAGE, &t);
		if (!err) {
			nr_good++;
			for (int i = 0; i < 50; i++)
				is_valid(&rig, &t);
			drop(&rig, &t);
		}
		/* The range was changed while it was being watched, at each attempt. */
		nr_bad += err && err != -EBUSY;
		nr_bad += translate(&rig, mine, PAGE, &t) != 0;
		for (int i = 0; i < 50; i++)
			nr_bad += !is_valid(&rig, &t);
		drop(&rig, &t);
	}
	port_store(&stopped, 1);
	pthread_join(sender, NULL);
	assert_int_equal(nr_bad, 0);
	munmap(mine, PAGE);
	rig_close(&rig);
	munmap(signal_page, PAGE);
}

static void *burn(__attribute__((unused)) void *arg)
{
	while (!port_load(&stopped))
		port_relax();
	return NULL;
}

TEST(with_a_starved_monitor_thread_lookups_are_slow_but_never_stale)
{
	struct sched_param none = {};
	pthread_t threads[2 * NR_THREADS];
	struct translation t;
	char *p;

	RIG_OPEN(&rig);
	p = map_at(NULL, PAGE, 0);
	assert_int_equal(sched_setscheduler(thread_named("invlock-uffd"), SCHED_IDLE, &none), 0);
	for (int i = 0; i < 2 * NR_THREADS; i++)
		pthread_create(&threads[i], NULL, i & 1 ? burn : churn, NULL);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(translate(&rig, p, PAGE, &t), 0);
		/* replaced in one step: other threads map memory meanwhile, and may use a hole */
		map_at(p, PAGE, MAP_FIXED);
		assert_false(is_valid(&rig, &t));
		drop(&rig, &t);
	}
	port_store(&stopped, 1);
	for (int i = 0; i < 2 * NR_THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(port_load(&nr_stale), 0);
	rig_close(&rig);
	munmap(p, PAGE);
}

static void *churn_for_ever(void *arg)
{
	struct translation t;
	char *p = map_at(NULL, PAGE, 0);

	for (int i = 0; ; i++) {
		if (!translate(&rig, p, PAGE, &t)) {
			if (!renew(p))
				p = map_at(NULL, PAGE, 0);
			drop(&rig, &t);
		}
		pthread_testcancel();
		if (arg && i == 20)
			pthread_exit(NULL);
	}
}

TEST(threads_that_are_cancelled_or_exit_leave_the_monitor_usable)
{
	pthread_t threads[NR_THREADS];
	struct translation t;
	char *p;

#ifdef __SANITIZE_ADDRESS__
	TEST_SKIP("AddressSanitizer believes that frames which cancellation left are live");
#endif
	RIG_OPEN(&rig);
	p = map_at(NULL, PAGE, 0);
	for (int round = 0; round < 50; round++) {
		for (long i = 0; i < NR_THREADS; i++)
			pthread_create(&threads[i], NULL, churn_for_ever, (void *)(i & 1));
		for (int i = 0; i < NR_THREADS; i += 2)
			pthread_cancel(threads[i]);
		for (int i = 0; i < NR_THREADS; i++)
			pthread_join(threads[i], NULL);
	}
	assert_int_equal(translate(&rig, p, PAGE, &t), 0);
	munmap(p, PAGE);
	assert_false(is_valid(&rig, &t));
	drop(&rig, &t);
	rig_close(&rig);
}

/*
 * At exit LeakSanitizer stops the threads one by one and waits for each. It waits for ever for a
 * thread that sleeps until the monitor's thread, which was stopped earlier, reads its event.
 */
#ifdef __SANITIZE_ADDRESS__
#define EXITS	false
#else
#define EXITS	true
#endif

TEST(a_process_that_exits_or_is_killed_during_changes_ends)
{
	RIG_OPEN(&rig);
	rig_close(&rig);
	for (int round = 0; round < 10; round++) {
		pthread_t thread;
		int status;
		pid_t child = fork();

		if (!child) {
			if (rig_open(&rig))
				_exit(1);
			for (int i = 0; i < NR_THREADS; i++)
				pthread_create(&thread, NULL, churn, NULL);
			usleep(2000);
			if (round & 1 || !EXITS)
				kill(getpid(), SIGKILL);
			exit(0);
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_int_equal(status, round & 1 || !EXITS ? SIGKILL : 0);
	}
}

TEST(a_process_that_is_stopped_during_changes_goes_on)
{
	pthread_t threads[NR_THREADS];
	pid_t stopper, self = getpid();

	RIG_OPEN(&rig);
	for (int i = 0; i < NR_THREADS; i++)
		pthread_create(&threads[i], NULL, churn, NULL);
	stopper = fork();
	if (!stopper) {
		for (int i = 0; i < 20; i++) {
			kill(self, SIGSTOP);
			usleep(2000);
			kill(self, SIGCONT);
			usleep(2000);
		}
		_exit(0);
	}
	assert_int_equal(waitpid(stopper, NULL, 0), stopper);
	port_store(&stopped, 1);
	for (int i = 0; i < NR_THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(port_load(&nr_stale), 0);
	rig_close(&rig);
}

TEST(a_program_that_closes_our_descriptor_gets_an_error_and_never_a_stale_answer)
{
	struct translation t, u;
	struct invlock_snapshot snap;
	char *p;

	RIG_OPEN(&rig);
	p = map_at(NULL, PAGE, 0);
	assert_int_equal(translate(&rig, p, PAGE, &t), 0);
	close(rig_uffd(&rig)->uffd.fd);
	map_at(p, PAGE, MAP_FIXED);
	assert_false(is_valid(&rig, &t));
	assert_int_equal(invlock_sample(&rig.mm.il, t.start, t.end, &snap), -ENOTRECOVERABLE);
	assert_int_equal(translate(&rig, p, PAGE, &u), -ENOTRECOVERABLE);
	assert_int_equal(monitor_uffd.watch(&rig.mm, t.start, t.end), -ENOTRECOVERABLE);
	/* No file was opened since, so closing the number once more harms nothing. */
	rig_close(&rig);
	munmap(p, PAGE);
}

TEST_MAIN(.setup = start_anew, .ends_with_failure = true)
