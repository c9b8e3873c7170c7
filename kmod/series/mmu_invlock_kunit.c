// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests of mmu_invlock. Each test plays both sides: a driver that faults, and the core that
 * invalidates, through the notifiers of the task's own mm.
 */
#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/hmm.h>
#include <linux/kthread.h>
#include <linux/mman.h>
#include <linux/mmu_invlock.h>
#include <linux/mmu_invlock_any.h>
#include <linux/mutex.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>

#define LEN		(4 * PAGE_SIZE)
#define AN_HOUR_NS	(3600ULL * NSEC_PER_SEC)

/* a driver whose lock spins, and one whose lock sleeps, with the same memory */
struct invlock_test {
	unsigned long addr;
	unsigned long pfns[LEN / PAGE_SIZE];

	struct mmu_invlock inv;
	spinlock_t lock;		/* guards what this driver would have of a table */
	unsigned int nr_dropped;	/* how often the driver dropped its translations */
	bool registered;

	struct mmu_interval_notifier interval;
	struct mutex mutex;		/* the same for this one */
	struct hmm_range range;
	bool inserted;

	struct task_struct *thread;	/* runs fault() */
	int (*fault)(struct invlock_test *t);
	bool slow;			/* fault() begins with the slow path */
	struct completion started;
	struct completion done;
};

static void invlock_test_invalidate(struct mmu_invlock *inv, const struct mmu_notifier_range *range)
{
	container_of(inv, struct invlock_test, inv)->nr_dropped++;
}

static const struct mmu_invlock_ops invlock_test_ops = {
	.invalidate = invlock_test_invalidate,
};

static bool invlock_test_interval_invalidate(struct mmu_interval_notifier *interval,
					     const struct mmu_notifier_range *range,
					     unsigned long seq)
{
	struct invlock_test *t = container_of(interval, struct invlock_test, interval);

	if (mmu_notifier_range_blockable(range))
		mutex_lock(&t->mutex);
	else if (!mutex_trylock(&t->mutex))
		return false;
	mmu_interval_set_seq(interval, seq);
	mutex_unlock(&t->mutex);
	return true;
}

static const struct mmu_interval_notifier_ops invlock_test_interval_ops = {
	.invalidate = invlock_test_interval_invalidate,
};

static int invlock_test_init(struct kunit *test)
{
	struct invlock_test *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, t);
	test->priv = t;
	spin_lock_init(&t->lock);
	mutex_init(&t->mutex);
	t->addr = kunit_vm_mmap(test, NULL, 0, LEN, PROT_READ | PROT_WRITE,
				MAP_ANONYMOUS | MAP_PRIVATE, 0);
	KUNIT_ASSERT_FALSE(test, IS_ERR_OR_NULL((void *)t->addr));
	KUNIT_ASSERT_EQ(test, 0, mmu_invlock_register(&t->inv, current->mm, &t->lock,
						      &invlock_test_ops));
	t->registered = true;
	KUNIT_ASSERT_EQ(test, 0, mmu_interval_notifier_insert(&t->interval, current->mm, t->addr,
							      LEN, &invlock_test_interval_ops));
	t->inserted = true;
	t->range = (struct hmm_range){
		.notifier = &t->interval,
		.start = t->addr,
		.end = t->addr + LEN,
		.hmm_pfns = t->pfns,
		.default_flags = HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE,
	};
	return 0;
}

static void invlock_test_exit(struct kunit *test)
{
	struct invlock_test *t = test->priv;

	if (t->inserted)
		mmu_interval_notifier_remove(&t->interval);
	if (t->registered)
		mmu_invlock_unregister(&t->inv);
}

static struct mmu_notifier_range invlock_test_change(unsigned long start, unsigned long end)
{
	struct mmu_notifier_range range;

	mmu_notifier_range_init(&range, MMU_NOTIFY_CLEAR, 0, current->mm, start, end);
	return range;
}

static void invlock_test_make_change(unsigned long start, unsigned long end)
{
	struct mmu_notifier_range change = invlock_test_change(start, end);

	mmu_notifier_invalidate_range_start(&change);
	mmu_notifier_invalidate_range_end(&change);
}

static bool invlock_test_commit(struct invlock_test *t, struct mmu_invlock_fault *f, int err)
{
	bool good;

	spin_lock(&t->lock);
	good = mmu_invlock_commit(f, err);
	spin_unlock(&t->lock);
	return good;
}

/* Fault in all pages. The first @nr_changes rounds meet a change of one page. Return: rounds. */
static unsigned int invlock_test_fault(struct kunit *test, unsigned long change,
				       unsigned int nr_changes)
{
	struct invlock_test *t = test->priv;
	struct mmu_invlock_fault f;
	unsigned int rounds = 0;
	int err;

	mmu_invlock_fault_init_range(&f, &t->inv, &t->range, NULL);
	while (mmu_invlock_attempt(&f)) {
		err = hmm_range_fault(&f.range);
		if (rounds++ < nr_changes)
			invlock_test_make_change(change, change + PAGE_SIZE);
		invlock_test_commit(t, &f, err);
	}
	KUNIT_EXPECT_EQ(test, 0, mmu_invlock_fault_end(&f));
	KUNIT_EXPECT_EQ(test, f.collisions + 1, rounds);
	return rounds;
}

static void a_fault_finds_every_page(struct kunit *test)
{
	struct invlock_test *t = test->priv;

	KUNIT_EXPECT_EQ(test, 1, invlock_test_fault(test, 0, 0));
	for (int i = 0; i < ARRAY_SIZE(t->pfns); i++)
		KUNIT_EXPECT_EQ(test, HMM_PFN_VALID | HMM_PFN_WRITE,
				t->pfns[i] & (HMM_PFN_VALID | HMM_PFN_WRITE));
}

static void a_change_between_walk_and_commit_forces_another_round(struct kunit *test)
{
	struct invlock_test *t = test->priv;

	KUNIT_EXPECT_EQ(test, 2, invlock_test_fault(test, t->addr, 1));
	KUNIT_EXPECT_GT(test, t->nr_dropped, 0);
}

static void a_change_elsewhere_forces_nothing(struct kunit *test)
{
	struct invlock_test *t = test->priv;

	KUNIT_EXPECT_EQ(test, 1, invlock_test_fault(test, t->addr + LEN, 1));
}

static void memory_that_is_not_mapped_ends_the_loop(struct kunit *test)
{
	struct invlock_test *t = test->priv;
	struct mmu_invlock_fault f;

	KUNIT_ASSERT_EQ(test, 0, vm_munmap(t->addr, PAGE_SIZE));
	mmu_invlock_fault_init_range(&f, &t->inv, &t->range, NULL);
	while (mmu_invlock_attempt(&f))
		invlock_test_commit(t, &f, hmm_range_fault(&f.range));
	KUNIT_EXPECT_EQ(test, -EFAULT, mmu_invlock_fault_end(&f));
}

static void a_range_that_never_stays_still_ends_with_busy(struct kunit *test)
{
	const struct mmu_invlock_budget budget = { .rounds = 3, .time_ns = AN_HOUR_NS };
	struct invlock_test *t = test->priv;
	struct mmu_invlock_fault f;
	unsigned int rounds = 0;

	/* without hmm_pfns, as a driver with a walk of its own */
	mmu_invlock_fault_init(&f, &t->inv, t->addr, t->addr + LEN, &budget);
	while (mmu_invlock_attempt(&f)) {
		rounds++;
		invlock_test_make_change(t->addr, t->addr + PAGE_SIZE);
		KUNIT_EXPECT_FALSE(test, invlock_test_commit(t, &f, 0));
	}
	KUNIT_EXPECT_EQ(test, -EBUSY, mmu_invlock_fault_end(&f));
	KUNIT_EXPECT_TRUE(test, f.left.slow);
	KUNIT_EXPECT_EQ(test, 3 + MMU_INVLOCK_SLOW_ROUNDS, rounds);
}

static void a_change_that_does_not_end_ends_the_loop_with_busy(struct kunit *test)
{
	const struct mmu_invlock_budget budget = { .time_ns = NSEC_PER_MSEC };
	struct invlock_test *t = test->priv;
	struct mmu_notifier_range change = invlock_test_change(t->addr, t->addr + PAGE_SIZE);
	struct mmu_invlock_fault f;

	mmu_notifier_invalidate_range_start(&change);
	mmu_invlock_fault_init_range(&f, &t->inv, &t->range, &budget);
	KUNIT_EXPECT_FALSE(test, mmu_invlock_attempt(&f));
	KUNIT_EXPECT_EQ(test, -EBUSY, mmu_invlock_fault_end(&f));
	KUNIT_EXPECT_GT(test, f.waits, 0);
	mmu_notifier_invalidate_range_end(&change);
}

static const struct mmu_invlock_budget invlock_test_patience = { .time_ns = AN_HOUR_NS };

/* One round without a walk, which sleeps nowhere but in the waits of the loop. */
static int invlock_test_round(struct invlock_test *t)
{
	struct mmu_invlock_fault f;

	mmu_invlock_fault_init_range(&f, &t->inv, &t->range, &invlock_test_patience);
	if (t->slow)
		f.left.rounds = 0;
	if (mmu_invlock_attempt(&f))
		invlock_test_commit(t, &f, 0);
	return mmu_invlock_fault_end(&f);
}

/* the same with the mutex */
static int invlock_test_any_round(struct invlock_test *t)
{
	struct mmu_invlock_any_fault f;

	mmu_invlock_any_init(&f, &t->range, &invlock_test_patience);
	if (t->slow)
		f.left.rounds = 0;
	if (mmu_invlock_any_attempt(&f)) {
		mutex_lock(&t->mutex);
		mmu_invlock_any_commit(&f, 0);
		mutex_unlock(&t->mutex);
	}
	return mmu_invlock_any_end(&f);
}

/* Return: as mmu_interval_read_begin_timeout(), or -EBUSY if its sequence cannot be committed */
static int invlock_test_begin(struct invlock_test *t)
{
	unsigned long seq;
	int err = mmu_interval_read_begin_timeout(&t->interval, MAX_SCHEDULE_TIMEOUT, &seq);

	if (!err && mmu_interval_read_retry(&t->interval, seq))
		err = -EBUSY;
	return err;
}

static int invlock_test_run(void *arg)
{
	struct invlock_test *t = arg;
	int err;

	/* otherwise a kernel thread ignores every signal */
	allow_signal(SIGKILL);
	complete(&t->started);
	err = t->fault(t);
	complete(&t->done);
	return err;
}

/* Make a thread that will run @fault. This may fail, so a test does it first. */
static void invlock_test_create(struct kunit *test, int (*fault)(struct invlock_test *t))
{
	struct invlock_test *t = test->priv;

	t->fault = fault;
	init_completion(&t->started);
	init_completion(&t->done);
	t->thread = kthread_create(invlock_test_run, t, "invlock_test");
	KUNIT_ASSERT_FALSE(test, IS_ERR(t->thread));
	/* the thread may have ended before it is killed and stopped */
	get_task_struct(t->thread);
}

static void invlock_test_start(struct invlock_test *t)
{
	wake_up_process(t->thread);
	wait_for_completion(&t->started);
}

/*
 * Return: does the fault end, although nothing more is done for it? False: it sleeps, and nobody
 * has woken it. A slow machine cannot change the answer: a thread no longer counts as asleep from
 * the moment when it is woken, and fault() sleeps only where it waits for the test.
 */
static bool invlock_test_ends(struct invlock_test *t)
{
	while (!completion_done(&t->done) && !wait_task_inactive(t->thread, TASK_UNINTERRUPTIBLE))
		schedule_timeout_uninterruptible(1);
	/* ask again: a thread whose fault has ended may sleep on its way out */
	return completion_done(&t->done);
}

/* @fault must wait for a change until that ends, and then succeed. */
static void invlock_test_wake(struct kunit *test, int (*fault)(struct invlock_test *t))
{
	struct invlock_test *t = test->priv;
	struct mmu_notifier_range change = invlock_test_change(t->addr, t->addr + PAGE_SIZE);

	invlock_test_create(test, fault);
	mmu_notifier_invalidate_range_start(&change);
	invlock_test_start(t);
	KUNIT_EXPECT_FALSE(test, invlock_test_ends(t));
	mmu_notifier_invalidate_range_end(&change);
	KUNIT_EXPECT_TRUE(test, invlock_test_ends(t));
	/* otherwise a thread that still sleeps, and has failed the test, would never stop */
	send_sig(SIGKILL, t->thread, 1);
	KUNIT_EXPECT_EQ(test, 0, kthread_stop_put(t->thread));
}

/* The fault must wait, and end when its thread is killed, although nothing else has changed. */
static void invlock_test_kill(struct kunit *test)
{
	struct invlock_test *t = test->priv;

	invlock_test_start(t);
	KUNIT_EXPECT_FALSE(test, invlock_test_ends(t));
	send_sig(SIGKILL, t->thread, 1);
	KUNIT_EXPECT_TRUE(test, invlock_test_ends(t));
}

static void invlock_test_kill_in_change(struct kunit *test, int (*fault)(struct invlock_test *t))
{
	struct invlock_test *t = test->priv;
	struct mmu_notifier_range change = invlock_test_change(t->addr, t->addr + PAGE_SIZE);

	invlock_test_create(test, fault);
	mmu_notifier_invalidate_range_start(&change);
	invlock_test_kill(test);
	mmu_notifier_invalidate_range_end(&change);
	KUNIT_EXPECT_EQ(test, -EINTR, kthread_stop_put(t->thread));
}

static void invlock_test_kill_at_mmap_lock(struct kunit *test,
					   int (*fault)(struct invlock_test *t), bool slow)
{
	struct invlock_test *t = test->priv;

	t->slow = slow;
	invlock_test_create(test, fault);
	mmap_write_lock(current->mm);
	invlock_test_kill(test);
	mmap_write_unlock(current->mm);
	KUNIT_EXPECT_EQ(test, -EINTR, kthread_stop_put(t->thread));
}

static void the_end_of_a_change_wakes_a_fault(struct kunit *test)
{
	invlock_test_wake(test, invlock_test_round);
}

static void a_kill_ends_the_wait_for_a_change(struct kunit *test)
{
	invlock_test_kill_in_change(test, invlock_test_round);
}

static void a_kill_ends_the_wait_for_the_mmap_lock(struct kunit *test)
{
	invlock_test_kill_at_mmap_lock(test, invlock_test_round, false);
	invlock_test_kill_at_mmap_lock(test, invlock_test_round, true);
}

static void a_fault_fails_once_the_notifier_is_released(struct kunit *test)
{
	struct invlock_test *t = test->priv;
	struct mmu_invlock_fault f;

	mmu_invlock_unregister(&t->inv);
	t->registered = false;
	KUNIT_EXPECT_EQ(test, 1, t->nr_dropped);
	mmu_invlock_fault_init_range(&f, &t->inv, &t->range, NULL);
	KUNIT_EXPECT_FALSE(test, mmu_invlock_attempt(&f));
	KUNIT_EXPECT_EQ(test, -EOWNERDEAD, mmu_invlock_fault_end(&f));
}

/* As invlock_test_fault(), with the mutex. Return: as mmu_invlock_any_end(). */
static int invlock_test_any_fault(struct kunit *test, const struct mmu_invlock_budget *budget,
				  unsigned int nr_changes, unsigned int *ret_rounds)
{
	struct invlock_test *t = test->priv;
	struct mmu_invlock_any_fault f;
	int err;

	*ret_rounds = 0;
	mmu_invlock_any_init(&f, &t->range, budget);
	while (mmu_invlock_any_attempt(&f)) {
		err = hmm_range_fault(&t->range);
		if ((*ret_rounds)++ < nr_changes)
			invlock_test_make_change(t->addr, t->addr + PAGE_SIZE);
		mutex_lock(&t->mutex);
		mmu_invlock_any_commit(&f, err);
		mutex_unlock(&t->mutex);
	}
	return mmu_invlock_any_end(&f);
}

static void with_a_lock_that_sleeps_a_change_forces_another_round(struct kunit *test)
{
	struct invlock_test *t = test->priv;
	unsigned int rounds;

	KUNIT_EXPECT_EQ(test, 0, invlock_test_any_fault(test, NULL, 1, &rounds));
	KUNIT_EXPECT_EQ(test, 2, rounds);
	for (int i = 0; i < ARRAY_SIZE(t->pfns); i++)
		KUNIT_EXPECT_TRUE(test, t->pfns[i] & HMM_PFN_VALID);
}

static void with_a_lock_that_sleeps_the_loop_has_a_bound(struct kunit *test)
{
	const struct mmu_invlock_budget budget = { .rounds = 3, .time_ns = AN_HOUR_NS };
	unsigned int rounds;

	KUNIT_EXPECT_EQ(test, -EBUSY, invlock_test_any_fault(test, &budget, UINT_MAX, &rounds));
	KUNIT_EXPECT_EQ(test, 3 + MMU_INVLOCK_SLOW_ROUNDS, rounds);
}

static void with_a_lock_that_sleeps_the_wait_has_a_bound(struct kunit *test)
{
	const struct mmu_invlock_budget budget = { .time_ns = NSEC_PER_MSEC };
	struct invlock_test *t = test->priv;
	struct mmu_notifier_range change = invlock_test_change(t->addr, t->addr + PAGE_SIZE);
	unsigned int rounds;

	mmu_notifier_invalidate_range_start(&change);
	KUNIT_EXPECT_EQ(test, -EBUSY, invlock_test_any_fault(test, &budget, 0, &rounds));
	KUNIT_EXPECT_EQ(test, 0, rounds);
	mmu_notifier_invalidate_range_end(&change);
	KUNIT_EXPECT_EQ(test, 0, invlock_test_any_fault(test, &budget, 0, &rounds));
}

static void with_a_lock_that_sleeps_the_end_of_a_change_wakes_a_fault(struct kunit *test)
{
	invlock_test_wake(test, invlock_test_any_round);
}

static void with_a_lock_that_sleeps_a_kill_ends_the_wait_for_a_change(struct kunit *test)
{
	invlock_test_kill_in_change(test, invlock_test_any_round);
}

static void with_a_lock_that_sleeps_a_kill_ends_the_wait_for_the_mmap_lock(struct kunit *test)
{
	invlock_test_kill_at_mmap_lock(test, invlock_test_any_round, false);
	invlock_test_kill_at_mmap_lock(test, invlock_test_any_round, true);
}

static void a_reader_gives_up_a_change_that_does_not_end(struct kunit *test)
{
	struct invlock_test *t = test->priv;
	struct mmu_notifier_range change = invlock_test_change(t->addr, t->addr + PAGE_SIZE);
	unsigned long seq = 0;		/* that of a notifier is odd */

	mmu_notifier_invalidate_range_start(&change);
	KUNIT_EXPECT_EQ(test, -EAGAIN, mmu_interval_read_begin_timeout(&t->interval, 1, &seq));
	KUNIT_EXPECT_EQ(test, 0, seq);
	mmu_notifier_invalidate_range_end(&change);
}

static void the_end_of_a_change_wakes_a_reader(struct kunit *test)
{
	invlock_test_wake(test, invlock_test_begin);
}

static void a_kill_ends_the_wait_of_a_reader(struct kunit *test)
{
	invlock_test_kill_in_change(test, invlock_test_begin);
}

static struct kunit_case invlock_test_cases[] = {
	KUNIT_CASE(a_fault_finds_every_page),
	KUNIT_CASE(a_change_between_walk_and_commit_forces_another_round),
	KUNIT_CASE(a_change_elsewhere_forces_nothing),
	KUNIT_CASE(memory_that_is_not_mapped_ends_the_loop),
	KUNIT_CASE(a_range_that_never_stays_still_ends_with_busy),
	KUNIT_CASE(a_change_that_does_not_end_ends_the_loop_with_busy),
	KUNIT_CASE(the_end_of_a_change_wakes_a_fault),
	KUNIT_CASE(a_kill_ends_the_wait_for_a_change),
	KUNIT_CASE(a_kill_ends_the_wait_for_the_mmap_lock),
	KUNIT_CASE(a_fault_fails_once_the_notifier_is_released),
	KUNIT_CASE(with_a_lock_that_sleeps_a_change_forces_another_round),
	KUNIT_CASE(with_a_lock_that_sleeps_the_loop_has_a_bound),
	KUNIT_CASE(with_a_lock_that_sleeps_the_wait_has_a_bound),
	KUNIT_CASE(with_a_lock_that_sleeps_the_end_of_a_change_wakes_a_fault),
	KUNIT_CASE(with_a_lock_that_sleeps_a_kill_ends_the_wait_for_a_change),
	KUNIT_CASE(with_a_lock_that_sleeps_a_kill_ends_the_wait_for_the_mmap_lock),
	KUNIT_CASE(a_reader_gives_up_a_change_that_does_not_end),
	KUNIT_CASE(the_end_of_a_change_wakes_a_reader),
	KUNIT_CASE(a_kill_ends_the_wait_of_a_reader),
	{}
};

static struct kunit_suite invlock_test_suite = {
	.name = "mmu_invlock",
	.init = invlock_test_init,
	.exit = invlock_test_exit,
	.test_cases = invlock_test_cases,
};

kunit_test_suite(invlock_test_suite);

MODULE_DESCRIPTION("KUnit tests of mmu_invlock");
MODULE_LICENSE("GPL");
