// SPDX-License-Identifier: MIT
/* A change that crashes or hangs its probe is reported, and the changes after it are still made. */
#include <signal.h>

#include "tests/test.h"
#include "lib/selftest/trial.h"
#include "tool/changes/changes.h"
#include "tool/doctor/doctor.h"

static void run_well(struct trial *t)
{
	trial_unknown(t, "ran");
}

static void run_into_a_signal(struct trial *t)
{
	(void)t;
	kill(getpid(), SIGKILL);
}

static void run_for_ever(struct trial *t)
{
	(void)t;
	for (;;)
		pause();
}

static void run_away(struct trial *t)
{
	(void)t;
	_exit(3);
}

static const struct map_change planted[] = {
	{ "well", INVLOCK_KIND_UNMAP, run_well },
	{ "dies", INVLOCK_KIND_UNMAP, run_into_a_signal },
	{ "well again", INVLOCK_KIND_UNMAP, run_well },
	{ "hangs", INVLOCK_KIND_UNMAP, run_for_ever },
	{ "exits", INVLOCK_KIND_UNMAP, run_away },
	{ "well at last", INVLOCK_KIND_UNMAP, run_well },
};

#define NR_PLANTED	(sizeof(planted) / sizeof(planted[0]))

const struct map_change *map_change_at(unsigned int nr)
{
	return nr < NR_PLANTED ? &planted[nr] : NULL;
}

TEST(the_changes_after_a_crash_or_a_hang_are_made)
{
	const char *const reasons[NR_PLANTED] = {
		"ran", "died of signal 9", "ran", "hung", "ended with code 3", "ran",
	};
	struct finding f = { .monitor = &monitor_manual };

	probe_monitor(&f, NR_PLANTED);
	assert_int_equal(f.err, 0);
	for (unsigned int i = 0; i < NR_PLANTED; i++) {
		assert_int_equal(f.results[i].verdict, CHANGE_UNKNOWN);
		assert_non_null(strstr(f.results[i].reason, reasons[i]));
	}
}

TEST(a_monitor_that_cannot_be_opened_gives_its_reason)
{
	struct monitor unheard_of = monitor_manual;
	struct finding f = { .monitor = &unheard_of };

	unheard_of.name = "crystal-ball";
	probe_monitor(&f, NR_PLANTED);
	assert_true(f.err < 0);
	assert_non_null(strstr(f.why.text, "crystal-ball"));
	assert_int_equal(f.selftest, SELFTEST_NOT_RUN);
}

TEST_MAIN()
