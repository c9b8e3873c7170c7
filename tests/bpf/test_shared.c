// SPDX-License-Identifier: MIT
/* Several processes that share one set of programs: seats, what each process sees, and deaths. */
#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include "lib/monitor/bpf/progset.h"
#include "others.h"

static u64 family(void)
{
	return progset_object_hash() ^ monitor_bpf_options.family;
}

/*
 * Counts our family's programs in the kernel. The head of the last program's set goes to ret_head.
 */
static unsigned int count_programs(struct bpf_set *ret_head, int *ret_users)
{
	unsigned int nr = 0;
	u32 id = 0, zero = 0;

	while (!bpf_prog_get_next_id(id, &id)) {
		int prog = bpf_prog_get_fd_by_id(id), map;
		struct bpf_set head;

		if (prog < 0)
			continue;
		map = map_of_program(prog, "invlock_set");
		if (map >= 0 && !bpf_map_lookup_elem(map, &zero, &head) &&
		    head.header.object == family()) {
			nr++;
			*ret_head = head;
			if (ret_users && nr == 1)
				*ret_users = map_of_program(prog, "invlock_users");
		}
		close(map);
		close(prog);
	}
	return nr;
}

/* The kernel frees programs a little later, so it waits for the number. */
static void expect_programs(unsigned int sets)
{
	u64 give_up = port_now() + 120000000000ULL;
	struct bpf_set head = {};
	unsigned int nr;

	do {
		nr = count_programs(&head, NULL);
		if (nr == sets * head.header.nr_programs)
			return;
		nap_ms(1);
	} while (port_now() < give_up);
	fail_msg("%u programs, %u in a set, for %u sets", nr, head.header.nr_programs, sets);
}

static unsigned int count_seats(enum bpf_seat_state state)
{
	struct bpf_set head = {};
	unsigned int nr = 0;

	assert_true(count_programs(&head, NULL) > 0);
	for (int i = 0; i < BPF_NR_USERS; i++)
		nr += head.seat[i].state == state;
	return nr;
}

/* How many maps of users the set holds. */
static unsigned int count_users(void)
{
	unsigned int nr = 0;
	struct bpf_set head;
	int users = -1;

	assert_true(count_programs(&head, &users) > 0);
	for (u32 i = 0, id; i < BPF_NR_USERS; i++)
		nr += !bpf_map_lookup_elem(users, &i, &id);
	close(users);
	return nr;
}

static void need_to_look(void)
{
	static bool may;
	struct bpf_set head;

	if (may)
		return;
	monitor_open(&other_mm);	/* may skip */
	may = count_programs(&head, NULL);
	monitor_close(&other_mm);
	if (!may)
		TEST_SKIP("without CAP_SYS_ADMIN nothing is shared");
	expect_programs(0);
}

TEST(two_processes_use_one_set_of_programs_and_the_last_leaves_none)
{
	struct other o[2];

	need_to_look();
	others_open(o, 2);
	expect_programs(1);
	assert_int_equal(count_users(), 2);
	assert_int_equal(other_do(&o[0], CHANGE), 0);
	assert_int_equal(other_do(&o[1], CHANGE), 0);
	other_end(&o[0], 0);
	expect_programs(1);
	other_end(&o[1], 0);
	expect_programs(0);
}

TEST(each_of_eight_sees_its_own_changes_and_no_others)
{
	struct other o[8];
	int before[8];

	need_to_look();
	others_open(o, 8);
	expect_programs(1);
	for (int i = 0; i < 8; i++) {
		for (int j = 0; j < 8; j++)
			before[j] = other_do(&o[j], COUNT);
		assert_int_equal(other_do(&o[i], CHANGE), 0);
		for (int j = 0; j < 8; j++)
			assert_int_equal(other_do(&o[j], COUNT) == before[j], j != i);
	}
	others_end(o, 8);
	expect_programs(0);
}

TEST(when_the_process_that_loaded_the_programs_dies_the_others_stay_exact)
{
	struct other o[3];

	need_to_look();
	others_open(o, 3);
	other_end(&o[0], SIGKILL);
	assert_int_equal(other_do(&o[1], CHANGE), 0);
	assert_int_equal(other_do(&o[1], CLOSE), 0);
	other_end(&o[1], 0);
	assert_int_equal(other_do(&o[2], CHANGE), 0);
	expect_programs(1);
	other_end(&o[2], SIGKILL);
	expect_programs(0);
}

TEST(a_killed_process_leaves_a_seat_that_the_next_one_clears)
{
	struct other first, killed, next;

	need_to_look();
	others_open(&first, 1);
	others_open(&killed, 1);
	assert_int_equal(count_seats(BPF_SEAT_TAKEN), 2);
	other_end(&killed, SIGKILL);
	assert_int_equal(count_seats(BPF_SEAT_TAKEN), 1);
	assert_int_equal(count_seats(BPF_SEAT_LEFT), 1);
	assert_int_equal(other_do(&first, CHANGE), 0);
	others_open(&next, 1);
	assert_int_equal(count_seats(BPF_SEAT_TAKEN), 2);
	assert_int_equal(count_seats(BPF_SEAT_LEFT), 0);
	assert_int_equal(count_users(), 2);
	assert_int_equal(other_do(&next, CHANGE), 0);
	assert_int_equal(other_do(&first, CHANGE), 0);
	/* A process that closes clears its own seat. */
	assert_int_equal(other_do(&next, CLOSE), 0);
	assert_int_equal(count_seats(BPF_SEAT_FREE), BPF_NR_USERS - 1);
	assert_int_equal(count_users(), 1);
	other_end(&next, 0);
	other_end(&first, 0);
	expect_programs(0);
}

TEST(processes_that_come_and_go_in_any_way_use_up_no_seat)
{
	struct other first, o;

	need_to_look();
	others_open(&first, 1);
	for (int i = 0; i < 9; i++) {
		others_open(&o, 1);
		assert_int_equal(other_do(&o, CHANGE), 0);
		if (i % 3 == 0)
			assert_int_equal(other_do(&o, CLOSE), 0);
		other_end(&o, i % 3 == 1 ? SIGKILL : 0);
		/*
		 * The first process has one seat, and the process that just ended may have left
		 * one.
		 */
		assert_true(count_seats(BPF_SEAT_FREE) >= BPF_NR_USERS - 2);
		assert_true(count_users() <= 2);
	}
	expect_programs(1);
	assert_int_equal(other_do(&first, CHANGE), 0);
	other_end(&first, 0);
	expect_programs(0);
}

/* The seats are reserved, as by the daemon, since so many feeds would take 5 GiB. */
TEST(when_all_seats_are_taken_a_second_set_serves_the_rest)
{
	struct other o[4];
	int nr = 0;

	need_to_look();
	others_open(o, 2);
	monitor_open(&other_mm);
	while (progset_ask(progset_of(&other_mm), BPF_ASK_RESERVE, 0) >= 0)
		nr++;
	assert_int_equal(nr, BPF_NR_USERS - 3);
	others_open(o + 2, 2);
	expect_programs(2);
	for (int i = 0; i < 4; i++)
		assert_int_equal(other_do(&o[i], CHANGE), 0);
	monitor_close(&other_mm);
	others_end(o, 4);
	expect_programs(0);
}

TEST(of_two_sets_loaded_at_the_same_moment_one_is_left)
{
	need_to_look();
	for (int i = 0; i < 3; i++) {
		struct other o[2];

		for (int j = 0; j < 2; j++)
			other_start(&o[j], NULL);
		for (int j = 0; j < 2; j++)
			tell(&o[j], OPEN);
		for (int j = 0; j < 2; j++)
			assert_int_equal(hear(&o[j]), 0);
		expect_programs(1);
		for (int j = 0; j < 2; j++)
			assert_int_equal(other_do(&o[j], CHANGE), 0);
		others_end(o, 2);
		expect_programs(0);
	}
}

TEST(two_copies_of_the_library_in_one_process_both_see_its_changes)
{
	struct invlock_mm second = {};
	struct watched by_first, by_second;
	char *stripe = stripe_new();

	need_to_look();
	monitor_open(&other_mm);
	monitor_open(&second);
	expect_programs(2);
	watched_sample(&by_first, &other_mm, stripe + VICTIM);
	watched_sample(&by_second, &second, stripe + VICTIM);
	munmap(stripe + VICTIM, PAGE);
	assert_int_equal(watched_verdict(&by_first), INVLOCK_STALE);
	assert_int_equal(watched_verdict(&by_second), INVLOCK_STALE);
	monitor_close(&second);
	watched_sample(&by_first, &other_mm, stripe + BYSTANDER);
	munmap(stripe + BYSTANDER, PAGE);
	assert_int_equal(watched_verdict(&by_first), INVLOCK_STALE);
	stripe_free(stripe);
	monitor_close(&other_mm);
	expect_programs(0);
}

/*
 * If both copies of the library had a seat, each would hide the other, even before either is armed.
 */
TEST(a_process_gets_one_seat_of_a_set_armed_or_not)
{
	struct invlock_why why = {};
	struct progset set;
	int seat;

	need_to_look();
	assert_int_equal(progset_load(&set, family(), &why), 0);
	seat = progset_ask(&set, BPF_ASK_CLAIM, 0);
	assert_true(seat >= 0);
	assert_int_equal(progset_ask(&set, BPF_ASK_CLAIM, 0), -EEXIST);
	set.seat = seat;
	assert_int_equal(progset_ask(&set, BPF_ASK_GIVE_BACK, 0), 0);
	/* The refused claim took no seat, and the first seat is free again. */
	assert_int_equal(count_seats(BPF_SEAT_FREE), BPF_NR_USERS);
	assert_int_equal(progset_ask(&set, BPF_ASK_CLAIM, 0), seat);
	progset_release(&set);
	expect_programs(0);
}

TEST(a_set_of_another_build_is_not_used)
{
	struct other o;

	need_to_look();
	monitor_open(&other_mm);
	other_start(&o, NULL);
	monitor_bpf_options.family++;
	monitor_close(&other_mm);
	monitor_open(&other_mm);
	expect_programs(1);
	monitor_bpf_options.family--;
	assert_int_equal(other_do(&o, OPEN), 0);
	expect_programs(1);
	assert_int_equal(count_seats(BPF_SEAT_TAKEN), 1);
	assert_int_equal(answer_change(), 0);
	assert_int_equal(other_do(&o, CHANGE), 0);
	other_end(&o, 0);
	monitor_close(&other_mm);
}

TEST(a_set_that_lacks_a_link_or_a_program_is_not_used)
{
	struct invlock_why why = {};
	struct progset set;

	need_to_look();
	assert_int_equal(progset_load(&set, family(), &why), 0);
	close(set.links[--set.nr_links]);
	monitor_open(&other_mm);
	expect_programs(2);
	assert_int_equal(answer_change(), 0);
	monitor_close(&other_mm);
	progset_release(&set);
	expect_programs(0);
}

/* Keeps the two capabilities that loading needs; a uid other than 0 also makes it another user. */
static void drop_to(uid_t uid)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[2] = {};

	caps[1].effective = caps[1].permitted =
		1u << (CAP_BPF - 32) | 1u << (CAP_PERFMON - 32);
	if (prctl(PR_SET_KEEPCAPS, 1) || (uid && setresuid(uid, uid, uid)) ||
	    syscall(SYS_capset, &head, caps))
		_exit(99);
}

static void be_less(void)
{
	drop_to(0);
}

static void be_somebody(void)
{
	drop_to(12345);
}

TEST(a_process_that_may_not_look_loads_its_own_programs)
{
	struct other o[2];

	need_to_look();
	monitor_open(&other_mm);
	for (int i = 0; i < 2; i++) {
		other_start(&o[i], be_less);
		assert_int_equal(other_do(&o[i], OPEN), 0);
		expect_programs(2 + i);
		assert_int_equal(other_do(&o[i], CHANGE), 0);
	}
	assert_int_equal(answer_change(), 0);
	assert_int_equal(other_do(&o[0], CLOSE), 0);
	expect_programs(2);
	others_end(o, 2);
	monitor_close(&other_mm);
	expect_programs(0);
}

TEST(a_set_that_another_user_loaded_is_not_trusted)
{
	struct other o;

	need_to_look();
	other_start(&o, be_somebody);
	assert_int_equal(other_do(&o, OPEN), 0);
	expect_programs(1);
	monitor_open(&other_mm);
	expect_programs(2);
	assert_int_equal(answer_change(), 0);
	assert_int_equal(other_do(&o, CHANGE), 0);
	monitor_close(&other_mm);
	other_end(&o, 0);
	expect_programs(0);
}

static int own_family(void **state)
{
	(void)state;
	/* A family of our own: tests that run at the same time have sets, too. */
	monitor_bpf_options.family = (u64)getpid() << 32;
	return 0;
}

TEST_MAIN(.before_all = own_family, .ends_with_failure = true)
