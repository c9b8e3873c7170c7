// SPDX-License-Identifier: MIT
/*
 * A thread is cancelled in each public call. No call is a cancellation point: it is carried out to
 * its end, and the thread ends at the program's own next cancellation point. The request is made
 * before the call. So if any place in the call were a cancellation point, the thread would end
 * there.
 */
#include <errno.h>
#include <pthread.h>

#include "calls.h"
#include "tests/test.h"

struct cancelled {
	struct rig *rig;
	bool (*make)(struct rig *rig);
	bool returned;
	bool ok;
};

static void *call_while_cancelled(void *arg)
{
	struct cancelled *c = arg;

	pthread_cancel(pthread_self());
	c->ok = c->make(c->rig);
	c->returned = true;
	pthread_testcancel();
	return NULL;
}

/* Return: false = the thread was cancelled inside the call, and has left locks and memory behind */
static bool goes_to_its_end(struct rig *rig, const char *name, bool (*make)(struct rig *rig))
{
	struct cancelled c = { rig, make, false, false };
	pthread_t thread;
	void *result;

	assert_int_equal(pthread_create(&thread, NULL, call_while_cancelled, &c), 0);
	assert_int_equal(pthread_join(thread, &result), 0);
	/* The request was pending all the time. */
	assert_ptr_equal(result, PTHREAD_CANCELED);
	if (!c.returned)
		print_message("# cancelled in %s\n", name);
	else if (!c.ok)
		print_message("# failed: %s\n", name);
	return c.returned && c.ok;
}

static void no_call_can_be_cancelled(const char *monitor)
{
	struct rig rig;

	rig_open_or_skip(&rig, monitor);
	for (const struct public_call *call = calls; call->name; call++)
		assert_true(goes_to_its_end(&rig, call->name, call->make));
	assert_int_equal(rig_check(&rig), 0);
	rig_close(&rig);
}

TEST(no_call_can_be_cancelled_with_the_manual_monitor)
{
	no_call_can_be_cancelled("manual");
}

TEST(no_call_can_be_cancelled_with_the_uffd_monitor)
{
	no_call_can_be_cancelled("uffd");
}

TEST(no_call_can_be_cancelled_with_the_bpf_monitor)
{
	no_call_can_be_cancelled("bpf");
}

/* Opens the monitor itself; another open of an open monitor would only add a user. */
static bool opens_and_closes_all(struct rig *rig)
{
	int err = rig_open(rig, rig->monitor);

	/*
	 * On a machine without the monitor the open fails, and was tried under cancellation all the
	 * same.
	 */
	return err ? err != -EINVAL : !rig_try_close(rig);
}

TEST(no_monitor_can_be_cancelled_while_it_opens_and_closes)
{
	static const char *const monitors[] = { "manual", "uffd", "bpf", "kmod", NULL };

	for (unsigned int i = 0; i < 5; i++) {
		struct rig rig = { .monitor = monitors[i] };

		assert_true(goes_to_its_end(&rig, monitors[i] ? monitors[i] : "the first",
					    opens_and_closes_all));
	}
}

static bool sleeps(struct rig *rig)
{
	(void)rig;
	return !usleep(1);
}

TEST(a_call_that_can_be_cancelled_is_recognized)
{
	assert_false(goes_to_its_end(NULL, "usleep, on purpose", sleeps));
}

TEST_MAIN(.ends_with_failure = true)
