// SPDX-License-Identifier: MIT
/*
 * Many clients: one after the other, and at once. INVLOCK_DAEMON_ROW and INVLOCK_DAEMON_CLIENTS say
 * how many.
 */
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include "rig.h"
#include "tests/child.h"

#define POLICY		"feeds_per_user = 1024\nfeeds = 1024\n"
#define FEED_KIB	(6UL << 10)	/* a feed, and its process */

static struct programs programs;

static int come_and_go(void)
{
	struct invlock_why why = { "" };
	int wrong;

	become_nobody();
	memset(&other_mm, 0, sizeof(other_mm));
	other_mm.monitor = &monitor_daemon;
	if (monitor_daemon.open(&other_mm, &why)) {
		print_message("# %s\n", why.text);
		return 100;
	}
	wrong = answer_change();
	/* Every other one leaves without a word. */
	if (getpid() % 2)
		monitor_close(&other_mm);
	return wrong;
}

TEST(many_clients_in_a_row_are_watched_exactly_and_use_up_nothing)
{
	unsigned int nr = how_many("INVLOCK_DAEMON_ROW", 300), before, after;
	u64 give_up;

	daemon_start(POLICY);
	before = daemon_files();
	for (unsigned int i = 0; i < nr; i++)
		assert_int_equal(in_child(come_and_go), 0);
	/* Within a second or so the daemon clears the last seat, and makes one ready. */
	give_up = port_now() + 60000000000ULL;
	do {
		nap_ms(50);
		after = daemon_files();
	} while (after != before && port_now() < give_up);
	assert_int_equal(after, before);
	daemon_end(0);
}

static unsigned long free_kib(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	unsigned long kib = 0;
	char line[128];

	assert_non_null(f);
	while (!kib && fgets(line, sizeof(line), f))
		sscanf(line, "MemAvailable: %lu", &kib);
	fclose(f);
	return kib;
}

static void raise_files(void)
{
	struct rlimit files;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
	files.rlim_cur = files.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
}

/* What this process pays, which nobody watches. Return: nanoseconds */
static unsigned int cost_of_a_call(void)
{
	u64 best = ~0ULL;

	for (int i = 0; i < 20; i++) {
		u64 begin = port_now();

		for (int j = 0; j < 2000; j++)
			munmap((void *)PAGE, PAGE);
		if (port_now() - begin < best)
			best = port_now() - begin;
	}
	return best / 2000;
}

TEST(many_clients_at_once_each_see_their_own_changes_alone)
{
	unsigned int nr = how_many("INVLOCK_DAEMON_CLIENTS", 100), it, cost;
	static struct other o[BPF_NR_USERS];
	static int before[BPF_NR_USERS];

	assert_true(nr <= BPF_NR_USERS);
	if (free_kib() < nr * FEED_KIB)
		TEST_SKIP("%u feeds take %lu MiB of memory", nr, nr * FEED_KIB >> 10);
	raise_files();
	daemon_start(POLICY);
	daemon_programs(&programs);
	cost = cost_of_a_call();
	for (unsigned int i = 0; i < nr; i++) {
		other_start(&o[i], become_nobody);
		tell(&o[i], OPEN);
	}
	for (unsigned int i = 0; i < nr; i++)
		assert_int_equal(hear(&o[i]), 0);
	print_message("# a munmap() of nothing by a process that is not watched: %u ns, and %u ns "
		      "with %u clients\n", cost, cost_of_a_call(), nr);
	for (it = 0; it < nr; it += 1 + nr / 8) {
		for (unsigned int i = 0; i < nr; i++)
			before[i] = other_do(&o[i], COUNT);
		assert_int_equal(other_do(&o[it], CHANGE), 0);
		for (unsigned int i = 0; i < nr; i++)
			assert_int_equal(other_do(&o[i], COUNT) == before[i], i != it);
	}
	for (unsigned int i = 0; i < nr; i++)
		tell(&o[i], CHANGE);
	for (unsigned int i = 0; i < nr; i++)
		assert_int_equal(hear(&o[i]), 0);
	for (unsigned int i = 0; i < nr; i++)
		other_end(&o[i], i % 2 ? SIGKILL : 0);
	daemon_end(0);
	assert_true(programs_go(&programs));
}

TEST_MAIN(.teardown = daemon_gone)
