// SPDX-License-Identifier: MIT
/* io_uring's MADVISE changes the map without a system call of its own. */
#include <fcntl.h>
#include <liburing.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include "rig.h"

static struct invlock_mm mm;
static struct io_uring ring;
static char *stripe;

static void ring_open(unsigned int entries, unsigned int flags)
{
	int err = io_uring_queue_init(entries, &ring, flags);

	if (err)
		TEST_SKIP("io_uring: %s", strerror(-err));
	monitor_open(&mm);
	stripe = stripe_new();
}

static void ring_close(void)
{
	io_uring_queue_exit(&ring);
	stripe_free(stripe);
	monitor_close(&mm);
}

static void submit_discard(unsigned int flags)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

	assert_non_null(sqe);
	io_uring_prep_madvise(sqe, stripe + VICTIM, GROUP, MADV_DONTNEED);
	io_uring_sqe_set_flags(sqe, flags);
	sqe->user_data = 42;
	/* the polling thread may not have noted yet that it took the one before */
	assert_in_range(io_uring_submit(&ring), 1, ring.flags & IORING_SETUP_SQPOLL ? 2 : 1);
}

static void reap(void)
{
	struct io_uring_cqe *cqe;

	assert_int_equal(io_uring_wait_cqe(&ring, &cqe), 0);
	assert_int_equal(cqe->res, 0);
	io_uring_cqe_seen(&ring, cqe);
}

/* Everybody can see the completion a moment before our program learns of it: wait for that. */
static void await_end(void)
{
	for (int i = 0; i < 10000; i++) {
		if (feed_quiet(&mm) && !monitor_state(&mm).nr_requests)
			break;
		nap_ms(1);
	}
}

static void expect_victim_stale(void)
{
	struct watched victim, bystander;

	watched_sample(&victim, &mm, stripe + VICTIM);
	watched_sample(&bystander, &mm, stripe + BYSTANDER);
	for (int i = 0; i < 100; i++) {
		submit_discard(0);
		reap();
	}
	await_end();
	assert_int_equal(watched_verdict(&victim), INVLOCK_STALE);
	assert_int_equal(watched_verdict(&bystander), INVLOCK_VALID);
	assert_non_null(last_event(&mm, INVLOCK_KIND_URING, stripe + VICTIM));
	assert_true(feed_quiet(&mm));
	assert_int_equal(monitor_state(&mm).nr_requests, 0);
}

TEST(io_uring_madvise_makes_its_range_stale)
{
	ring_open(8, 0);
	expect_victim_stale();
	ring_close();
}

TEST(io_uring_madvise_by_the_kernels_polling_thread_makes_its_range_stale)
{
	ring_open(8, IORING_SETUP_SQPOLL);
	expect_victim_stale();
	ring_close();
}

TEST(a_request_without_completion_degrades_the_feed)
{
	struct invlock_snapshot snap;

	ring_open(8, 0);
	if (!(ring.features & IORING_FEAT_CQE_SKIP)) {
		ring_close();
		TEST_SKIP("this kernel has no IOSQE_CQE_SKIP_SUCCESS");
	}
	submit_discard(IOSQE_CQE_SKIP_SUCCESS);
	assert_int_equal(invlock_sample(&mm.il, (u64)stripe, (u64)stripe + PAGE, &snap),
			 -ENOTRECOVERABLE);
	ring_close();
}

TEST(a_completion_that_overflows_degrades_the_feed)
{
	struct invlock_snapshot snap;
	int sampled = 0;

	/* The queue has room for two completions, and nobody takes them out. */
	ring_open(1, 0);
	for (int i = 0; i < 2; i++) {
		io_uring_prep_nop(io_uring_get_sqe(&ring));
		assert_int_equal(io_uring_submit(&ring), 1);
	}
	submit_discard(0);
	for (int i = 0; i < 5000 && sampled != -ENOTRECOVERABLE; i++) {
		sampled = invlock_sample(&mm.il, (u64)stripe, (u64)stripe + PAGE, &snap);
		nap_ms(1);
	}
	assert_int_equal(sampled, -ENOTRECOVERABLE);
	ring_close();
}

/* If a link fails, the kernel posts no completion for a linked request that asked for none. */
TEST(a_request_that_never_runs_because_its_link_failed_ends)
{
	struct invlock_snapshot snap;
	struct io_uring_sqe *sqe;

	ring_open(8, 0);
	if (!(ring.features & IORING_FEAT_CQE_SKIP)) {
		ring_close();
		TEST_SKIP("this kernel has no IOSQE_CQE_SKIP_SUCCESS");
	}
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_read(sqe, -1, stripe, 1, 0);
	io_uring_sqe_set_flags(sqe, IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS);
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_madvise(sqe, stripe + VICTIM, GROUP, MADV_DONTNEED);
	assert_int_equal(io_uring_submit(&ring), 2);
	for (int i = 0; i < 5000 && monitor_state(&mm).nr_requests; i++)
		nap_ms(1);
	assert_int_equal(monitor_state(&mm).nr_requests, 0);
	assert_true(feed_quiet(&mm));
	assert_int_equal(invlock_sample(&mm.il, (u64)stripe, (u64)stripe + STRIPE, &snap), 0);
	ring_close();
}

/* Queues more requests than the table has room for, behind a read of a pipe that stays empty. */
static void queue_too_many(void)
{
	static struct io_uring rings[3];
	static char byte;
	struct io_uring_sqe *sqe;
	int fds[2];

	if (pipe(fds))
		_exit(1);
	for (int i = 0; i < 3; i++) {
		if (io_uring_queue_init(BPF_NR_REQUESTS / 2, &rings[i], 0))
			_exit(1);
		sqe = io_uring_get_sqe(&rings[i]);
		io_uring_prep_read(sqe, fds[0], &byte, 1, 0);
		io_uring_sqe_set_flags(sqe, IOSQE_IO_LINK);
		while ((sqe = io_uring_get_sqe(&rings[i]))) {
			io_uring_prep_madvise(sqe, stripe, GROUP, MADV_DONTNEED);
			io_uring_sqe_set_flags(sqe, IOSQE_IO_LINK);
		}
		io_uring_submit(&rings[i]);
	}
}

TEST(requests_that_fill_one_process_table_do_not_affect_another)
{
	int ready[2], status;
	pid_t child;
	char byte;

	ring_open(8, 0);
	assert_int_equal(pipe(ready), 0);
	child = fork();
	if (!child) {
		struct invlock_mm own;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		monitor_open(&own);
		queue_too_many();
		byte = port_load(&own.il.feed->flags) == INVLOCK_FEED_DEGRADED;
		if (write(ready[1], &byte, 1) == 1)
			pause();
		_exit(1);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_int_equal(byte, 1);
	expect_open(&mm);
	expect_victim_stale();
	expect_open(&mm);
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	close(ready[0]);
	ring_close();
}

/*
 * A request waits until its userfaultfd is read, and so outlives the monitor that saw it start. The
 * monitor that is opened next marks its end; no other process notices.
 */
TEST(a_request_that_outlives_its_monitor_is_an_event_of_the_next)
{
	struct invlock_mm first;
	struct watched victim;
	pid_t keeper;
	int uffd, err;

	monitor_bpf_options.family = getpid();
	ring_open(8, 0);
	monitor_bpf_options.family = 0;
	uffd = hold_discards(stripe, STRIPE);
	if (uffd < 0) {
		ring_close();
		TEST_SKIP("userfaultfd: %s", strerror(errno));
	}
	first = mm;
	/*
	 * The child inherits our descriptors: the set lives on, and so does its record of the
	 * request.
	 */
	keeper = fork();
	if (!keeper) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pause();
	}
	submit_discard(IOSQE_ASYNC);
	while (!monitor_state(&first).nr_requests)
		nap_ms(1);
	monitor_close(&mm);
	monitor_bpf_options.family = getpid();
	monitor_open(&mm);
	monitor_bpf_options.family = 0;
	victim = (struct watched){ .mm = &mm, .at = stripe + VICTIM };
	err = invlock_sample(&mm.il, (u64)victim.at, (u64)victim.at + GROUP, &victim.snap);
	/* Newer kernels have begun to remove when they ask userfaultfd: then all is marked. */
	assert_true(!err || err == -EAGAIN);
	release_discard(uffd);
	reap();
	await_end();
	if (!err)
		assert_int_equal(watched_verdict(&victim), INVLOCK_STALE);
	assert_true(feed_quiet(&mm));
	expect_open(&mm);
	close(uffd);
	kill(keeper, SIGKILL);
	waitpid(keeper, NULL, 0);
	/* The next monitor was not told of the request. If it begins then, the net catches it. */
	rig_expects_caught = true;
	ring_close();
	rig_expects_caught = false;
}

TEST_MAIN()
