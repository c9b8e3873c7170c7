// SPDX-License-Identifier: MIT
/* What `invlock ps` finds out about the sets and seats of a machine. */
#include <signal.h>
#include "lib/monitor/bpf/view.h"
#include "others.h"

static struct sets_view view;

static void look(void)
{
	sets_view_free(&view);
	assert_int_equal(sets_look(&view), 0);
}

/* The loader of the set that the others join, if one was there before; 0 = they load their own. */
static u64 loader_before;

static void open_others(struct other *o, int nr)
{
	monitor_open(&other_mm);	/* may skip */
	monitor_close(&other_mm);
	sets_view_free(&view);
	if (sets_look(&view) == -EPERM)
		TEST_SKIP("without CAP_SYS_ADMIN nobody sees the sets");
	loader_before = 0;
	/* another program of this build may hold its set just now */
	for (unsigned int i = 0; i < view.nr; i++)
		if (view.sets[i].known)
			loader_before = view.sets[i].loader;
	others_open(o, nr);
}

/* The first of these processes has loaded the set, or the one whose set was there before. */
static void check_loader(const struct set_view *set, const struct other *o)
{
	if (set->loader != loader_before)
		assert_int_equal(set->loader, o[0].pid);
}

static int gone(void **state)
{
	(void)state;
	sets_view_free(&view);
	return 0;
}

/* The set that has a seat of this process, and the seat. */
static const struct set_view *set_of(pid_t pid, const struct seat_view **ret_seat)
{
	for (unsigned int i = 0; i < view.nr; i++) {
		const struct set_view *set = &view.sets[i];

		for (unsigned int j = 0; j < set->nr_seats; j++) {
			*ret_seat = &set->seats[j];
			if ((*ret_seat)->tgid == (u32)pid)
				return set;
		}
	}
	return NULL;
}

TEST(each_seat_says_who_has_it_since_when_and_how_many_events_it_has_seen)
{
	u64 before = port_now(), sequence;
	const struct seat_view *seat;
	const struct set_view *set;
	struct other o[2];

	open_others(o, 2);
	look();
	for (int i = 0; i < 2; i++) {
		set = set_of(o[i].pid, &seat);
		assert_non_null(set);
		assert_true(set->known);
		check_loader(set, o);
		assert_int_equal(set->uid, 0);
		assert_false(set->closed);
		assert_int_equal(set->nr_programs, set->header.nr_programs);
		assert_int_equal(seat->err, 0);
		assert_int_equal(seat->state, BPF_SEAT_TAKEN);
		assert_int_equal(seat->feed.by_daemon, 0);
		assert_int_equal(seat->feed.closed, BPF_OPEN);
		assert_int_equal(seat->feed.doubtful, 0);
		assert_true(seat->feed.since >= before);
		assert_true(seat->feed.since <= port_now());
	}
	sequence = seat->feed.sequence;
	assert_int_equal(other_do(&o[1], CHANGE), 0);
	look();
	assert_non_null(set_of(o[1].pid, &seat));
	assert_true(seat->feed.sequence > sequence);
	others_end(o, 2);
}

TEST(a_process_that_has_ended_has_no_seat)
{
	const struct seat_view *seat;
	struct other o[2];

	open_others(o, 2);
	other_end(&o[0], SIGKILL);
	look();
	assert_null(set_of(o[0].pid, &seat));
	assert_non_null(set_of(o[1].pid, &seat));
	/* It is still known who has loaded the set. */
	check_loader(set_of(o[1].pid, &seat), o);
	other_end(&o[1], 0);
}

TEST(the_seats_of_another_build_are_not_interpreted)
{
	const struct seat_view *seat;
	struct other o;

	open_others(&o, 1);
	monitor_bpf_options.family ^= 1UL << 63;
	look();
	monitor_bpf_options.family ^= 1UL << 63;
	assert_null(set_of(o.pid, &seat));
	/* but the set is listed */
	assert_true(view.nr > 0);
	assert_false(view.sets[view.nr - 1].known);
	assert_true(view.sets[view.nr - 1].nr_programs > 0);
	others_end(&o, 1);
}

TEST(every_reason_to_close_a_feed_has_a_word_and_a_sentence)
{
	assert_null(feed_closed_reason(BPF_OPEN));
	for (u64 why = BPF_CLOSED_GONE; why <= BPF_CLOSED_EVICTED; why++) {
		assert_non_null(feed_closed_reason(why));
		for (u64 other = BPF_OPEN; other < why; other++)
			assert_string_not_equal(feed_closed_word(why), feed_closed_word(other));
	}
	assert_string_equal(feed_closed_word(BPF_CLOSED_EVICTED + 1), "unknown");
}

static int own_family(void **state)
{
	(void)state;
	monitor_bpf_options.family = (u64)getpid() << 32;
	return 0;
}

TEST_MAIN(.before_all = own_family, .teardown = gone)
