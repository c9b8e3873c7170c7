// SPDX-License-Identifier: MIT
/* An event of /dev/invlock wakes the threads that wait for it, and no others. */
#include "feed.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>

TEST(poll_wakes_when_something_changed_and_read_arms_it_again)
{
	struct feed f;
	struct pollfd pfd = { .events = POLLIN };
	uint64_t sequence;
	char *p;

	feed_open(&f, 0);
	pfd.fd = f.fd;
	p = map_anon(PAGE);
	assert_int_equal(read(f.fd, &sequence, sizeof(sequence)), sizeof(sequence));
	assert_int_equal(sequence, feed_sequence(&f));
	assert_int_equal(poll(&pfd, 1, 0), 0);
	munmap(p, PAGE);
	assert_int_equal(poll(&pfd, 1, 0), 1);
	assert_int_equal(pfd.revents, POLLIN);
	assert_int_equal(read(f.fd, &sequence, sizeof(sequence)), sizeof(sequence));
	assert_int_equal(poll(&pfd, 1, 0), 0);
	assert_int_equal(read(f.fd, &sequence, 4), -1);
	assert_int_equal(errno, EINVAL);
	feed_close(&f);
}

/* An edge-triggered epoll tells of each wake-up, whether or not it found something before. */
TEST(an_event_wakes_only_those_that_have_read_the_one_before)
{
	struct epoll_event interest = { .events = EPOLLIN | EPOLLET }, found;
	int set = epoll_create1(EPOLL_CLOEXEC);
	uint64_t sequence;
	struct feed f;
	char *p = map_aligned(2 * MIB);

	feed_open(&f, 0);
	assert_int_equal(epoll_ctl(set, EPOLL_CTL_ADD, f.fd, &interest), 0);
	madvise(p, PAGE, MADV_DONTNEED);
	assert_int_equal(epoll_wait(set, &found, 1, LOST_MS), 1);
	madvise(p, PAGE, MADV_DONTNEED);
	/* if another wake-up comes by mistake, then it comes in this time */
	assert_int_equal(epoll_wait(set, &found, 1, fault_is_planted() ? LOST_MS : 500), 0);
	assert_int_equal(read(f.fd, &sequence, sizeof(sequence)), sizeof(sequence));
	madvise(p, PAGE, MADV_DONTNEED);
	assert_int_equal(epoll_wait(set, &found, 1, LOST_MS), 1);
	close(set);
	feed_close(&f);
}

/*
 * A process that has died makes no more events. Another one may still wait for them: the owner put
 * its file into a set that both have, and passed the file on.
 */
TEST(the_end_of_a_process_wakes_those_that_wait_for_its_events)
{
	struct epoll_event interest = { .events = EPOLLIN | EPOLLET }, found = {};
	int set = epoll_create1(EPOLL_CLOEXEC), ready[2], go[2], fd, pidfd;
	pid_t owner;

	assert_int_equal(pipe(ready), 0);
	assert_int_equal(pipe(go), 0);
	owner = fork_with_us();
	if (!owner) {
		/* a copy of a page on write would be an event, too: make all copies now */
		mlockall(MCL_CURRENT);
		fd = open("/dev/invlock", O_RDONLY);
		if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &interest) ||
		    write(ready[1], &fd, sizeof(fd)) != sizeof(fd) || read(go[0], &fd, 1) != 1)
			_exit(99);
		_exit(0);
	}
	assert_int_equal(read(ready[0], &fd, sizeof(fd)), sizeof(fd));
	pidfd = syscall(SYS_pidfd_open, owner, 0);
	fd = syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	assert_true(fd >= 0);
	assert_int_equal(epoll_wait(set, &found, 1, 0), 0);
	assert_int_equal(write(go[1], "", 1), 1);
	wait_for(owner);
	assert_int_equal(epoll_wait(set, &found, 1, LOST_MS), 1);
	close(set);
	close(fd);
	close(pidfd);
	for (unsigned int i = 0; i < 2; i++) {
		close(ready[i]);
		close(go[i]);
	}
}

#define WAKES	3000

static struct {
	struct feed feed;
	int set;		/* an epoll set */
	pid_t tid;
	uint64_t opened;	/* how many files were opened and polled; atomic */
	uint64_t woken;		/* how often poll() has returned; atomic */
	uint64_t sequence;	/* at the last read(); atomic */
	bool stop;
} sleeper;

static void wake_up(int sig)
{
	(void)sig;
}

/*
 * End the thread that sleeps until an event wakes it. It sleeps without a limit: at its timeout,
 * poll() would look once more, and find the event that woke nobody.
 */
static void end_sleeper(pthread_t thread)
{
	/* without SA_RESTART */
	sigaction(SIGUSR1, &(struct sigaction){ .sa_handler = wake_up }, NULL);
	port_store(&sleeper.stop, true);
	do {
		pthread_kill(thread, SIGUSR1);
		sleep_ms(1);
	} while (pthread_tryjoin_np(thread, NULL));
}

static void *sleep_until_woken(void *arg)
{
	struct pollfd pfd = { .fd = sleeper.feed.fd, .events = POLLIN };
	uint64_t sequence;

	__atomic_store_n(&sleeper.tid, syscall(SYS_gettid), __ATOMIC_RELEASE);
	while (!port_load(&sleeper.stop)) {
		if (poll(&pfd, 1, -1) != 1 ||
		    read(sleeper.feed.fd, &sequence, sizeof(sequence)) != sizeof(sequence))
			return arg;
		__atomic_fetch_add(&sleeper.woken, 1, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

/* A sleeper whose poll() failed has ended: it does not run any more, either. */
static bool sleeper_runs(void)
{
	pid_t tid = __atomic_load_n(&sleeper.tid, __ATOMIC_ACQUIRE);
	char state = tid ? thread_state(tid) : 'R';

	return state && state != 'S';
}

/*
 * Under the feed's lock, the module looks whether somebody waits, and then counts the event. A
 * sleeper that looked in between without the lock would see no event and go back to sleep. The test
 * finds it asleep although there is an event.
 */
TEST(poll_misses_no_event_however_soon_it_looks)
{
	char *p = map_aligned(2 * MIB);
	unsigned int missed = 0;
	pthread_t thread;
	uint64_t before;

	feed_open(&sleeper.feed, 0);
	assert_int_equal(pthread_create(&thread, NULL, sleep_until_woken, NULL), 0);
	for (unsigned int i = 0; i < WAKES && !missed; i++) {
		/* without a new event, the thread goes to sleep sooner or later */
		while (sleeper_runs())
			sched_yield();
		before = port_load_acquire(&sleeper.woken);
		madvise(p, PAGE, MADV_DONTNEED);
		for (unsigned int ms = 0; port_load_acquire(&sleeper.woken) == before && !missed;
		     ms++) {
			if (ms)
				sleep_ms(1);
			missed = ms > LOST_MS && !sleeper_runs();
		}
	}
	end_sleeper(thread);
	feed_close(&sleeper.feed);
	assert_int_equal(missed, 0);
}

/* Pass a while that differs from turn to turn, up to @most microseconds. */
static void pass_a_while(unsigned int turn, unsigned int most)
{
	struct timespec t;
	uint64_t end;

	clock_gettime(CLOCK_MONOTONIC, &t);
	end = t.tv_sec * 1000000000ULL + t.tv_nsec + turn * 37 % most * 1000ULL;
	do {
		clock_gettime(CLOCK_MONOTONIC, &t);
	} while (t.tv_sec * 1000000000ULL + t.tv_nsec < end);
}

static void *read_when_woken(void *arg)
{
	struct epoll_event found;
	uint64_t sequence;

	__atomic_store_n(&sleeper.tid, syscall(SYS_gettid), __ATOMIC_RELEASE);
	while (!port_load(&sleeper.stop)) {
		if (epoll_wait(sleeper.set, &found, 1, -1) != 1 ||
		    read(sleeper.feed.fd, &sequence, sizeof(sequence)) != sizeof(sequence))
			return arg;
		port_store_release(&sleeper.sequence, sequence);
	}
	return NULL;
}

/* Has the sleeper read of the newest event? It may take its time, but it must not sleep. */
static bool newest_is_read(void)
{
	for (unsigned int ms = 0; ms <= LOST_MS || sleeper_runs(); ms++) {
		if (port_load_acquire(&sleeper.sequence) == feed_sequence(&sleeper.feed))
			return true;
		sleep_ms(1);
	}
	return false;
}

/*
 * An edge-triggered epoll does not look again after a read(), so the event that comes next must
 * wake it, however soon it comes.
 */
TEST(an_event_that_comes_during_a_read_is_told)
{
	struct epoll_event interest = { .events = EPOLLIN | EPOLLET };
	char *p = map_aligned(2 * MIB);
	pthread_t thread;
	bool read = true;

	memset(&sleeper, 0, sizeof(sleeper));
	feed_open(&sleeper.feed, 0);
	sleeper.set = epoll_create1(EPOLL_CLOEXEC);
	assert_int_equal(epoll_ctl(sleeper.set, EPOLL_CTL_ADD, sleeper.feed.fd, &interest), 0);
	assert_int_equal(pthread_create(&thread, NULL, read_when_woken, NULL), 0);
	for (unsigned int i = 0; i < 500 && read; i++) {
		madvise(p, PAGE, MADV_DONTNEED);
		pass_a_while(i, 3000);
		madvise(p, PAGE, MADV_DONTNEED);
		read = newest_is_read();
	}
	end_sleeper(thread);
	close(sleeper.set);
	feed_close(&sleeper.feed);
	assert_true(read);
}

static void *open_and_sleep(void *arg)
{
	struct pollfd pfd = { .events = POLLIN };

	__atomic_store_n(&sleeper.tid, syscall(SYS_gettid), __ATOMIC_RELEASE);
	while (!port_load(&sleeper.stop)) {
		pfd.fd = open("/dev/invlock", O_RDONLY);
		__atomic_fetch_add(&sleeper.opened, 1, __ATOMIC_SEQ_CST);
		if (poll(&pfd, 1, -1) != 1)
			return arg;
		close(pfd.fd);
		__atomic_fetch_add(&sleeper.woken, 1, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

static bool is_woken(uint64_t times)
{
	for (unsigned int ms = 0; ms <= LOST_MS || sleeper_runs(); ms++) {
		if (port_load_acquire(&sleeper.woken) >= times)
			return true;
		if (ms)
			sleep_ms(1);
	}
	return false;
}

/* No read() came before that would have asked to be told. */
TEST(the_first_poll_of_a_file_misses_no_event_that_comes_meanwhile)
{
	char *p = map_aligned(2 * MIB);
	bool woken = true;
	pthread_t thread;

	memset(&sleeper, 0, sizeof(sleeper));
	/* the feed stays when the sleeper closes its file */
	feed_open(&sleeper.feed, 0);
	assert_int_equal(pthread_create(&thread, NULL, open_and_sleep, NULL), 0);
	for (uint64_t i = 1; i <= 500 && woken; i++) {
		while (port_load_acquire(&sleeper.opened) < i)
			sched_yield();
		pass_a_while(i, 1000);
		madvise(p, PAGE, MADV_DONTNEED);
		woken = is_woken(i);
	}
	end_sleeper(thread);
	feed_close(&sleeper.feed);
	assert_true(woken);
}

TEST_MAIN()
