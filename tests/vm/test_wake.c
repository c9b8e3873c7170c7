// SPDX-License-Identifier: MIT
/* An event of /dev/invlock wakes the threads that wait for it, and no others. */
#include "feed.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

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
	assert_int_equal(epoll_wait(set, &found, 1, 60000), 1);
	madvise(p, PAGE, MADV_DONTNEED);
	/* if another wake-up comes by mistake, then it comes in this time */
	assert_int_equal(epoll_wait(set, &found, 1, 500), 0);
	assert_int_equal(read(f.fd, &sequence, sizeof(sequence)), sizeof(sequence));
	madvise(p, PAGE, MADV_DONTNEED);
	assert_int_equal(epoll_wait(set, &found, 1, 60000), 1);
	close(set);
	feed_close(&f);
}

#define WAKES	3000

static struct {
	struct feed feed;
	pid_t tid;
	uint64_t woken;		/* how often poll() has returned; atomic */
	bool stop;
} sleeper;

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

static bool sleeper_sleeps(void)
{
	char path[64], text[64] = "";
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat",
		 __atomic_load_n(&sleeper.tid, __ATOMIC_ACQUIRE));
	fd = open(path, O_RDONLY);
	if (read(fd, text, sizeof(text) - 1) <= 0)
		text[0] = '\0';
	close(fd);
	return strstr(text, ") S ");
}

/* how many milliseconds a wake-up may take, which a worker makes; a lost one never comes */
#define LOST	60000

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
		while (!__atomic_load_n(&sleeper.tid, __ATOMIC_ACQUIRE) || !sleeper_sleeps())
			sched_yield();
		before = port_load_acquire(&sleeper.woken);
		madvise(p, PAGE, MADV_DONTNEED);
		for (unsigned int ms = 0; port_load_acquire(&sleeper.woken) == before && !missed;
		     ms++) {
			if (ms)
				sleep_ms(1);
			missed = ms > LOST && sleeper_sleeps();
		}
	}
	port_store(&sleeper.stop, true);
	do {
		madvise(p, PAGE, MADV_DONTNEED);
	} while (pthread_tryjoin_np(thread, NULL));
	feed_close(&sleeper.feed);
	assert_int_equal(missed, 0);
}

TEST_MAIN()
