// SPDX-License-Identifier: MIT
/* invlock ps: what it lists, what it says of that which it cannot know, and its exit codes. */
#include <errno.h>
#include <json-c/json.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <invlock/mm.h>

#include "tests/test.h"
#include "rig.h"

static struct ran ran;

#define RUN(where, ...) RUN_PROGRAM(TOOL, where, &ran, "invlock", __VA_ARGS__)

static struct json_object *said;

static struct json_object *parse(void)
{
	json_object_put(said);
	said = json_tokener_parse(ran.out);
	if (!said)
		fail_msg("no JSON: %s%s", ran.out, ran.err);
	return said;
}

static int forget(void **state)
{
	(void)state;
	json_object_put(said);
	said = NULL;
	return 0;
}

static struct json_object *member(struct json_object *o, const char *key)
{
	struct json_object *found;

	if (!json_object_object_get_ex(o, key, &found))
		fail_msg("no member \"%s\" in %s", key, json_object_to_json_string(o));
	return found;
}

static const char *text(struct json_object *o, const char *key)
{
	return json_object_get_string(member(o, key)) ?: "";
}

static long number(struct json_object *o, const char *key)
{
	assert_non_null(member(o, key));
	return json_object_get_int64(member(o, key));
}

/* The feed of a process in the list; NULL = it is not there. */
static struct json_object *feed_of(pid_t pid)
{
	struct json_object *feeds = member(said, "feeds");

	for (size_t i = 0; i < json_object_array_length(feeds); i++) {
		struct json_object *f = json_object_array_get_idx(feeds, i);

		if (json_object_get_int64(member(f, "pid")) == pid)
			return f;
	}
	return NULL;
}

/* Does one of the notes have these words? */
static bool notes_have(const char *words)
{
	struct json_object *notes = member(said, "notes");

	for (size_t i = 0; i < json_object_array_length(notes); i++)
		if (strstr(json_object_get_string(json_object_array_get_idx(notes, i)), words))
			return true;
	return false;
}

/* A process that has a feed until it is killed. */
struct feed_holder {
	pid_t pid;
	struct invlock_why why;
};

static void hold(const char *monitor, int to)
{
	struct invlock_mm_options o = {
		.size = sizeof(o), .monitor = monitor, .need = INVLOCK_BIT(UNMAP),
	};
	struct invlock_why why = { "" };
	struct invlock_mm *mm;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, "hold\033er");
	invlock_mm_open(&o, &mm, &why);
	if (write(to, &why, sizeof(why)) == sizeof(why))
		pause();
	_exit(1);
}

/* Skips the test if the monitor cannot be had here. */
static void holder_start(struct feed_holder *h, const char *monitor)
{
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	h->pid = fork();
	assert_true(h->pid >= 0);
	if (!h->pid)
		hold(monitor, fds[1]);
	close(fds[1]);
	assert_int_equal(read(fds[0], &h->why, sizeof(h->why)), sizeof(h->why));
	close(fds[0]);
	if (!h->why.text[0])
		return;
	kill(h->pid, SIGKILL);
	waitpid(h->pid, NULL, 0);
	TEST_SKIP("%.190s", h->why.text);
}

static void holder_end(const struct feed_holder *h)
{
	kill(h->pid, SIGKILL);
	waitpid(h->pid, NULL, 0);
}

TEST(a_feed_of_bpf_is_listed_with_its_process_its_set_and_its_events)
{
	struct json_object *f, *set = NULL, *sets;
	struct feed_holder h;

	holder_start(&h, "bpf");
	RUN(AS_WE_ARE, "ps", "--json", "--no-cost");
	assert_int_equal(ran.code, 0);
	parse();
	if (!member(said, "sets")) {
		holder_end(&h);
		TEST_SKIP("without CAP_SYS_ADMIN nobody sees the sets");
	}
	f = feed_of(h.pid);
	assert_non_null(f);
	assert_string_equal(text(f, "monitor"), "bpf");
	assert_int_equal(number(f, "uid"), getuid());
	assert_string_equal(text(f, "state"), "open");
	assert_null(member(f, "closed"));
	/* the self-test has made some */
	assert_true(number(f, "events") > 0);
	assert_int_equal(number(f, "lost"), 0);
	assert_true(json_object_get_double(member(f, "age_seconds")) > 0);
	/* A process chooses its name, and does no harm by it. */
	assert_string_equal(text(f, "command"), "hold?er");
	sets = member(said, "sets");
	for (size_t i = 0; i < json_object_array_length(sets); i++)
		if (number(json_object_array_get_idx(sets, i), "id") == number(f, "set"))
			set = json_object_array_get_idx(sets, i);
	assert_non_null(set);
	assert_true(json_object_get_boolean(member(set, "this_build")));
	assert_true(number(set, "seats_taken") >= 1);
	assert_true(number(member(set, "loader"), "pid") > 0);
	assert_false(json_object_get_boolean(member(member(said, "cost"), "measured")));

	holder_end(&h);
	RUN(AS_WE_ARE, "ps", "--json", "--no-cost");
	parse();
	assert_null(feed_of(h.pid));
}

TEST(the_cost_is_measured_by_the_kernel)
{
	struct json_object *cost;
	struct feed_holder h;

	holder_start(&h, "bpf");
	RUN(AS_WE_ARE, "ps", "--json");
	assert_int_equal(ran.code, 0);
	cost = member(parse(), "cost");
	if (!member(said, "sets")) {
		holder_end(&h);
		TEST_SKIP("without CAP_SYS_ADMIN nobody sees the sets");
	}
	assert_true(json_object_get_boolean(member(cost, "measured")));
	assert_null(member(cost, "watched_reason"));
	/* A watched change runs our programs, wherever they are attached. */
	assert_true(json_object_get_double(member(cost, "watched_change_ns")) > 0);
	assert_true(json_object_get_double(member(cost, "unwatched_ns")) >= 0);
	assert_true(json_object_get_double(member(cost, "cpu_share")) >= 0);
	holder_end(&h);
}

TEST(a_feed_of_uffd_is_listed_by_its_thread_and_its_events_are_unknown)
{
	struct json_object *f;
	struct feed_holder h;

	holder_start(&h, "uffd");
	RUN(AS_WE_ARE, "ps", "--json", "--no-cost");
	parse();
	f = feed_of(h.pid);
	assert_non_null(f);
	assert_string_equal(text(f, "monitor"), "uffd");
	assert_string_equal(text(f, "state"), "unknown");
	assert_true(*text(f, "reason"));
	assert_null(member(f, "events"));
	holder_end(&h);
}

TEST(without_privilege_it_says_what_is_missing)
{
	struct feed_holder h;

	holder_start(&h, "bpf");
	setenv("INVLOCK_SOCKET", "/nowhere", 1);
	RUN(AS_NOBODY, "ps", "--json");
	assert_int_equal(ran.code, 0);
	parse();
	assert_null(feed_of(h.pid));
	assert_null(member(said, "sets"));
	assert_true(notes_have("CAP_SYS_ADMIN"));
	assert_true(notes_have("no daemon at /nowhere"));
	assert_false(json_object_get_boolean(member(member(said, "cost"), "measured")));
	assert_non_null(strstr(text(member(said, "cost"), "reason"), "CAP_SYS_ADMIN"));
	/* the same as text */
	RUN(AS_NOBODY, "ps");
	assert_int_equal(ran.code, 0);
	assert_non_null(strstr(ran.out, "Note: feeds of programs that use the bpf monitor"));
	assert_non_null(strstr(ran.out, "cost"));
	holder_end(&h);
}

TEST(in_a_user_namespace_capabilities_do_not_count)
{
	RUN(IN_USER_NAMESPACE, "ps", "--json");
	if (ran.code == NO_SURROUNDINGS)
		TEST_SKIP("no user namespace can be had here");
	assert_int_equal(ran.code, 0);
	parse();
	assert_null(member(said, "sets"));
	assert_true(notes_have("CAP_SYS_ADMIN"));
}

TEST(the_text_names_the_process_and_the_state)
{
	char pid[20];
	struct feed_holder h;

	holder_start(&h, "uffd");
	snprintf(pid, sizeof(pid), " %d ", h.pid);
	RUN(AS_WE_ARE, "ps", "-n");
	assert_int_equal(ran.code, 0);
	assert_non_null(strstr(ran.out, pid));
	assert_non_null(strstr(ran.out, "unknown: its process alone has its feed"));
	assert_null(strchr(ran.out, '\033'));
	holder_end(&h);
}

TEST(a_wrong_option_is_refused)
{
	RUN(AS_WE_ARE, "ps", "--bogus");
	assert_int_equal(ran.code, 2);
	assert_string_equal(ran.out, "");
	RUN(AS_WE_ARE, "ps", "more");
	assert_int_equal(ran.code, 2);
	assert_non_null(strstr(ran.err, "unexpected argument \"more\""));
}

/* Each member of an object, and of those in it, is named on the page. */
static void is_explained(struct json_object *o, const char *page)
{
	json_object_object_foreach(o, key, value) {
		const char *at = strstr(page, "\n.Cm ps\nwrites an object");

		assert_non_null(at);
		if (!strstr(at, key))
			fail_msg("the manual page does not name the member %s", key);
		if (value && json_object_is_type(value, json_type_array) &&
		    json_object_array_length(value))
			value = json_object_array_get_idx(value, 0);
		if (value && json_object_is_type(value, json_type_object))
			is_explained(value, page);
	}
}

TEST(the_manual_page_has_every_member)
{
	static char page[1 << 16];
	FILE *f = fopen(MAN_PAGE, "re");
	struct feed_holder h;

	assert_non_null(f);
	page[fread(page, 1, sizeof(page) - 1, f)] = '\0';
	fclose(f);
	holder_start(&h, "bpf");
	RUN(AS_WE_ARE, "ps", "--json", "--no-cost");
	is_explained(parse(), page);
	holder_end(&h);
}

TEST_MAIN(.teardown = forget)
