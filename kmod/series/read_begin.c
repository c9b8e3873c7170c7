// SPDX-License-Identifier: GPL-2.0-only
/* The series adds this to mm/mmu_notifier.c. */

/**
 * mmu_interval_read_begin_timeout - Begin a read side critical section, or give up
 * @interval_sub: The interval subscription
 * @timeout: How many jiffies to wait for an invalidation that is running
 * @ret_seq: On success, what to pass to mmu_interval_read_retry()
 *
 * This is mmu_interval_read_begin() for a caller that has to come back in time.
 * An invalidation that has no end, or a storm of them that overlap, cannot hold
 * it for longer than @timeout, and a task that was killed leaves at once.
 *
 * Return: 0; -EAGAIN if the invalidation is still running; -EINTR if the task
 * was killed.
 */
int mmu_interval_read_begin_timeout(struct mmu_interval_notifier *interval_sub,
				    long timeout, unsigned long *ret_seq)
{
	struct mmu_notifier_subscriptions *subs = interval_sub->mm->notifier_subscriptions;
	unsigned long seq;
	bool running;
	long left = 1;

	spin_lock(&subs->lock);
	/* Pairs with the WRITE_ONCE in mmu_interval_set_seq() */
	seq = READ_ONCE(interval_sub->invalidate_seq);
	running = seq == subs->invalidate_seq;
	spin_unlock(&subs->lock);

	lock_map_acquire(&__mmu_notifier_invalidate_range_start_map);
	lock_map_release(&__mmu_notifier_invalidate_range_start_map);
	if (running)
		left = wait_event_killable_timeout(subs->wq,
						   READ_ONCE(subs->invalidate_seq) != seq,
						   timeout);
	if (left <= 0)
		return left ? -EINTR : -EAGAIN;
	*ret_seq = seq;
	return 0;
}
EXPORT_SYMBOL_GPL(mmu_interval_read_begin_timeout);
