// SPDX-License-Identifier: MIT
/*
 * The daemon and its clients are killed, in any order and at random moments. The clients that are
 * left are watched exactly all the same, and nothing is left behind in the kernel.
 */
#include <signal.h>
#include <sys/wait.h>
#include "lib/monitor/bpf/client.h"
#include "rig.h"
#include "tests/prove/rig.h"

#define NR_CLIENTS	4

static struct programs programs;
static struct said said;

static void start_all(struct other *o, int nr)
{
	daemon_start("");
	daemon_programs(&programs);
	for (int i = 0; i < nr; i++) {
		other_start(&o[i], become_nobody);
		assert_int_equal(other_do(&o[i], OPEN), 0);
	}
}

TEST(when_the_daemon_is_killed_its_clients_stay_exact_and_the_last_leaves_nothing)
{
	struct other o[2];

	start_all(o, 2);
	daemon_end(SIGKILL);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(other_do(&o[0], CHANGE), 0);
		assert_int_equal(other_do(&o[1], CHANGE), 0);
	}
	assert_int_equal(other_do(&o[0], CLOSE), 0);
	assert_int_equal(other_do(&o[1], CHANGE), 0);
	other_end(&o[0], 0);
	assert_true(programs_run(&programs));
	other_end(&o[1], SIGKILL);
	assert_true(programs_go(&programs));
}

TEST(a_daemon_that_is_started_anew_serves_new_clients_beside_the_old_ones)
{
	struct other old, new;

	start_all(&old, 1);
	daemon_end(SIGKILL);
	daemon_start("");
	other_start(&new, become_nobody);
	assert_int_equal(other_do(&new, OPEN), 0);
	assert_int_equal(other_do(&new, CHANGE), 0);
	assert_int_equal(other_do(&old, CHANGE), 0);
	/* The process opens once more: now it is the new daemon's client. */
	assert_int_equal(other_do(&old, CLOSE), 0);
	assert_true(programs_go(&programs));
	assert_int_equal(other_do(&old, OPEN), 0);
	assert_int_equal(other_do(&old, CHANGE), 0);
	other_end(&old, 0);
	other_end(&new, 0);
	daemon_programs(&programs);
	daemon_end(0);
	assert_true(programs_go(&programs));
}

/* As an upgrade of the package does, which stops the old daemon and starts the new one. */
TEST(a_daemon_that_is_replaced_again_and_again_leaves_its_clients_exact)
{
	struct other o[4];

	for (int i = 0; i < 4; i++) {
		daemon_start("");
		other_start(&o[i], become_nobody);
		assert_int_equal(other_do(&o[i], OPEN), 0);
		for (int j = 0; j <= i; j++)
			assert_int_equal(other_do(&o[j], CHANGE), 0);
		if (i < 3)
			daemon_end(0);
		for (int j = 0; j <= i; j++)
			assert_int_equal(other_do(&o[j], CHANGE), 0);
	}
	others_end(o, 4);
	daemon_programs(&programs);
	daemon_end(0);
	assert_true(programs_go(&programs));
}

/* systemd holds the socket, and starts the daemon again. */
TEST(a_client_that_connects_while_the_daemon_restarts_waits_for_it)
{
	struct other before, meanwhile;

	daemon_be_systemd();
	start_all(&before, 1);
	daemon_end(SIGKILL);
	other_start(&meanwhile, become_nobody);
	tell(&meanwhile, OPEN);
	nap_ms(50);
	daemon_start("");
	assert_int_equal(hear(&meanwhile), 0);
	assert_int_equal(other_do(&meanwhile, CHANGE), 0);
	assert_int_equal(other_do(&before, CHANGE), 0);
	other_end(&before, 0);
	other_end(&meanwhile, 0);
	daemon_end(0);
	/* The socket is systemd's: the daemon leaves it. */
	assert_int_equal(access(daemon_socket(), F_OK), 0);
}

TEST(without_a_daemon_an_open_says_so)
{
	struct invlock_why why = { "" };

	setenv("INVLOCK_SOCKET", "/nowhere/socket", 1);
	memset(&other_mm, 0, sizeof(other_mm));
	other_mm.monitor = &monitor_daemon;
	assert_int_equal(monitor_daemon.open(&other_mm, &why), -ENOENT);
	assert_non_null(strstr(why.text, "no daemon at /nowhere/socket"));
	assert_null(other_mm.data);
}

static void nap_random(void)
{
	struct timespec t = { .tv_nsec = random() % 3000000 };

	nanosleep(&t, NULL);
}

/* One round: clients work, some process is killed, and those that are left still see all. */
static void kill_somebody(unsigned int round)
{
	bool kill_daemon = round % 3 != 0, kill_client = round % 3 != 1;
	unsigned int victim = random() % NR_CLIENTS;
	struct other o[NR_CLIENTS];

	start_all(o, NR_CLIENTS);
	for (int i = 0; i < NR_CLIENTS; i++)
		tell(&o[i], CHANGE);
	nap_random();
	if (kill_client)
		kill(o[victim].pid, SIGKILL);
	if (kill_daemon)
		daemon_end(SIGKILL);
	for (int i = 0; i < NR_CLIENTS; i++)
		if (!kill_client || i != victim)
			assert_int_equal(hear(&o[i]), 0);
	for (int i = 0; i < NR_CLIENTS; i++)
		if (!kill_client || i != victim)
			assert_int_equal(other_do(&o[i], CHANGE), 0);
	for (int i = 0; i < NR_CLIENTS; i++)
		other_end(&o[i], kill_client && i == victim ? SIGKILL : 0);
	if (!kill_daemon)
		daemon_end(0);
	assert_true(programs_go(&programs));
}

TEST(whoever_is_killed_at_whatever_moment_those_who_are_left_stay_exact)
{
	unsigned int rounds = how_many("INVLOCK_DAEMON_ROUNDS", 6);
	unsigned int seed = how_many("INVLOCK_SEED", (unsigned int)time(NULL));

	print_message("# INVLOCK_SEED=%u\n", seed);
	srandom(seed);
	for (unsigned int i = 0; i < rounds; i++)
		kill_somebody(i);
}

/* An open that the death of the daemon cuts short fails, or it has succeeded and is exact. */
TEST(a_daemon_that_is_killed_during_an_open_leaves_the_client_exact_or_refused)
{
	unsigned int rounds = how_many("INVLOCK_DAEMON_ROUNDS", 6);
	struct other o;

	for (unsigned int i = 0; i < rounds; i++) {
		int err;

		daemon_start("");
		daemon_programs(&programs);
		other_start(&o, become_nobody);
		tell(&o, OPEN);
		nap_random();
		daemon_end(SIGKILL);
		err = hear(&o);
		if (!err)
			assert_int_equal(other_do(&o, CHANGE), 0);
		other_end(&o, 0);
		assert_true(programs_go(&programs));
	}
}

static int is_of(const struct daemon_feed *feed, void *pid)
{
	return feed->pid == *(pid_t *)pid ? *(pid_t *)pid = 0, 1 : 0;
}

/* Waits until the daemon has given this process a feed. */
static void await_feed(const struct proving *p)
{
	struct invlock_why why;
	pid_t looked_for;

	do {
		assert_true(prove_goes_on(p));
		nap_ms(1);
		looked_for = p->pid;
		assert_int_equal(daemon_list(is_of, &looked_for, &why), 0);
	} while (looked_for);
}

/*
 * A busy machine may have too few hits for a proof, and then the exit code is 1. Without any hit
 * the feed would have been blind or closed.
 */
static void expect_never_stale(const struct said *s)
{
	unsigned long long invlock, naive, hits;
	const char *row = strstr(s->out, "\nhits ");

	if (s->code)
		expect(s, 1);
	last_line(s, &invlock, &naive);
	assert_int_equal(invlock, 0);
	assert_true(naive > 0);
	assert_non_null(row);
	assert_int_equal(sscanf(row, " hits - %llu", &hits), 1);
	assert_true(hits > 0);
}

/* The proof begins with a daemon that is killed soon. The rounds beside it have their own. */
static void prove_beside_kills(unsigned int *round, bool kill_proof)
{
	/* Rings of processes that were killed are charged to their user for a while. */
	const char *const words[] = {
		"--monitor", "daemon", "--device", "soft",
		"--seconds", kill_proof ? "86400" : "5", NULL
	};
	struct as nobody = { .uid = NOBODY };
	struct programs of_proof;
	struct proving proof;
	char folder[64];

	make_directory(folder);
	nobody.tmpdir = folder;
	daemon_start("");
	daemon_programs(&of_proof);
	prove_begin(&proof, &nobody, words);
	await_feed(&proof);
	nap_ms(random() % 2000);
	daemon_end(SIGKILL);
	do
		kill_somebody((*round)++);
	while (!kill_proof && prove_goes_on(&proof));
	if (kill_proof)
		kill(proof.pid, SIGKILL);
	prove_end(&said, &proof, &nobody);
	if (kill_proof)
		expect(&said, 1000 + SIGKILL);
	else
		expect_never_stale(&said);
	assert_true(programs_go(&of_proof));
	remove_empty_directory(folder);
}

TEST(a_proof_beside_daemons_and_clients_that_are_killed_finds_nothing_stale)
{
	unsigned int rounds = how_many("INVLOCK_DAEMON_ROUNDS", 3), round = 0;
	unsigned int seed = how_many("INVLOCK_SEED", (unsigned int)time(NULL)), nr;

	print_message("# INVLOCK_SEED=%u\n", seed);
	srandom(seed);
	for (nr = 0; nr < 2 || round < rounds; nr++) {
		prove_beside_kills(&round, nr % 4 == 1);
		if (nr % 16 == 15)
			print_message("# %u rounds so far\n", round);
	}
	print_message("# %u rounds beside %u proofs\n", round, nr);
}

TEST_MAIN(.teardown = daemon_gone)
