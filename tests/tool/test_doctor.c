// SPDX-License-Identifier: MIT
/* invlock doctor, as its users run it. */
#include <json-c/json.h>

#include "tests/test.h"
#include "tool/changes/changes.h"
#include "lib/monitor/monitor.h"
#include "rig.h"

static struct ran ran;

#define RUN(where, ...) RUN_PROGRAM(TOOL, where, &ran, "invlock", __VA_ARGS__)

static struct json_object *member(struct json_object *o, const char *key)
{
	struct json_object *found;

	if (!json_object_object_get_ex(o, key, &found))
		fail_msg("no member \"%s\"", key);
	return found;
}

static const char *text(struct json_object *o, const char *key)
{
	return json_object_get_string(member(o, key));
}

static struct json_object *parse(void)
{
	struct json_object *o = json_tokener_parse(ran.out);

	assert_non_null(o);
	return o;
}

static struct json_object *monitor_named(struct json_object *o, const char *name)
{
	struct json_object *list = member(o, "monitors");

	for (size_t i = 0; i < json_object_array_length(list); i++)
		if (!strcmp(text(json_object_array_get_idx(list, i), "name"), name))
			return json_object_array_get_idx(list, i);
	fail_msg("no monitor \"%s\"", name);
	return NULL;
}

static bool is_verdict(const char *word)
{
	for (unsigned int v = 0; v < NR_CHANGE_VERDICTS; v++)
		if (!strcmp(word, change_verdict_name(v)))
			return true;
	return false;
}

TEST(json_has_a_verdict_for_every_change_and_monitor)
{
	struct json_object *o, *list, *entry;
	const struct map_change *c;
	unsigned int nr;

	RUN(AS_WE_ARE, "doctor", "--json");
	assert_in_range(ran.code, 0, 1);
	assert_string_equal(ran.err, "");
	o = parse();
	list = member(o, "changes");
	for (nr = 0; (c = map_change_at(nr)); nr++) {
		entry = json_object_array_get_idx(list, nr);
		assert_non_null(entry);
		assert_string_equal(text(entry, "name"), c->name);
		assert_string_equal(text(entry, "kind"), invlock_kind_name(c->kind));
		for (unsigned int i = 0; monitors[i]; i++) {
			const char *word = text(member(entry, "verdicts"), monitors[i]->name);

			assert_true(is_verdict(word));
			/* every verdict but "seen" has a reason */
			if (strcmp(word, "seen"))
				assert_true(*text(member(entry, "reasons"), monitors[i]->name));
		}
	}
	assert_int_equal(json_object_array_length(list), nr);
	assert_int_equal(ran.code, member(o, "chosen") ? 0 : 1);
	json_object_put(o);
}

TEST(json_tells_of_monitors_and_host)
{
	static const char *const facts[] = {
		"kernel", "machine", "btf", "memlock", "memlock_most", "max_map_count", "mappings",
		"capabilities", "io_uring", "userfaultfd",
	};
	struct json_object *o, *m, *host;

	RUN(AS_WE_ARE, "doctor", "--json");
	o = parse();
	assert_string_equal(text(o, "version"), invlock_version());
	assert_true(*text(o, "recommendation"));
	for (unsigned int i = 0; monitors[i]; i++) {
		m = monitor_named(o, monitors[i]->name);
		/* a monitor is usable, or a sentence says why not */
		assert_true(json_object_get_boolean(member(m, "usable")) == !*text(m, "reason"));
		member(m, "selftest");
		member(m, "sees");
		member(m, "refuses");
		member(m, "lacks");
	}
	host = member(o, "host");
	for (size_t i = 0; i < sizeof(facts) / sizeof(facts[0]); i++)
		member(host, facts[i]);
	assert_true(json_object_get_int64(member(host, "mappings")) > 0);
	json_object_put(o);
}

/* Whether the line is the row of this name, with these verdicts. */
static bool is_row(const char *line, const char *name, const char *const *verdicts)
{
	size_t len = strlen(name);
	char copy[300], *rest = copy, *word;
	unsigned int nr = 0;

	if (strncmp(line, "  ", 2) || strncmp(line + 2, name, len) ||
	    strncmp(line + 2 + len, "  ", 2))
		return false;
	snprintf(copy, sizeof(copy), "%s", line + 2 + len);
	while ((word = strsep(&rest, " "))) {
		if (!is_verdict(word))
			continue;
		assert_non_null(verdicts[nr]);
		assert_string_equal(word, verdicts[nr++]);
	}
	assert_null(verdicts[nr]);
	return true;
}

TEST(the_report_for_people_lists_the_same_in_100_columns)
{
	const char *verdicts[8] = {};
	struct json_object *o, *list;
	const struct map_change *c;
	unsigned int nr_rows = 0, nr = 0;
	char *line, *rest = ran.out;

	RUN(AS_WE_ARE, "doctor", "--json");
	o = parse();
	list = member(o, "changes");
	RUN(AS_WE_ARE, "doctor");
	assert_in_range(ran.code, 0, 1);
	assert_null(strchr(ran.out, '\033'));
	while ((line = strsep(&rest, "\n"))) {
		assert_true(strlen(line) <= 100);
		c = map_change_at(nr);
		if (!c)
			continue;
		for (unsigned int i = 0; monitors[i]; i++)
			verdicts[i] = text(member(json_object_array_get_idx(list, nr), "verdicts"),
					   monitors[i]->name);
		if (is_row(line, c->name, verdicts)) {
			nr_rows++;
			nr++;
		}
	}
	assert_int_equal(nr_rows, json_object_array_length(list));
	json_object_put(o);
}

TEST(doctor_repeats_the_advice_of_the_error_where_only_uffd_works)
{
	struct json_object *o;

	RUN(AS_NOBODY, "doctor", "--json");
	o = parse();
	if (member(o, "chosen") || !json_object_get_boolean(member(monitor_named(o, "uffd"),
								   "usable")))
		TEST_SKIP("on this machine another monitor than uffd works, or none");
	assert_non_null(strstr(text(o, "recommendation"), "does not see guard and shm-remap; "));
	assert_non_null(strstr(text(o, "recommendation"), monitor_uffd.advice));
	json_object_put(o);
}

/* Runs doctor for people, and returns the first line that has this text. */
static char *line_with(enum surroundings where, const char *word)
{
	char *at, *end;

	RUN(where, "doctor");
	if (ran.code == NO_SURROUNDINGS)
		return NULL;
	assert_in_range(ran.code, 0, 1);
	at = strstr(ran.out, word);
	if (!at)
		fail_msg("nothing about %s: %s", word, ran.out);
	end = strstr(at, "\n  ");
	if (end)
		*end = '\0';
	return at;
}

TEST(the_recommendation_comes_first)
{
	char *at = line_with(AS_WE_ARE, "\nRecommendation\n");

	assert_ptr_equal(strchr(ran.out, '\n') + 1, at);
}

TEST(in_a_user_namespace_capabilities_do_not_count)
{
	char *line = line_with(IN_USER_NAMESPACE, "  capabilities  CAP");
	struct json_object *o;

	NEEDS_BPF_IN_THIS_BUILD();
	if (!line)
		TEST_SKIP("no user namespace can be entered here");
	assert_non_null(strstr(line, "CAP_BPF no, CAP_PERFMON no, CAP_IPC_LOCK no. This"));
	line = line_with(IN_USER_NAMESPACE, "  memlock");
	assert_null(strstr(line, "CAP_IPC_LOCK"));
	RUN(IN_USER_NAMESPACE, "doctor", "--json", "--monitor", "bpf");
	o = parse();
	assert_true(json_object_get_boolean(member(member(o, "host"), "user_namespace")));
	assert_non_null(strstr(text(monitor_named(o, "bpf"), "reason"), "inside a user namespace"));
	json_object_put(o);
}

TEST(what_is_unknown_is_not_printed_as_a_number)
{
	char *line;

	if (IS_SANITIZED)
		TEST_SKIP("a sanitizer in the command needs /proc");
	line = line_with(WITHOUT_PROC, "  mappings");
	if (!line)
		TEST_SKIP("only root can hide /proc");
	assert_non_null(strstr(line, "an unknown number in this process"));
	assert_non_null(strstr(line, "how many there may be is unknown"));
	line = line_with(WITHOUT_PROC, "This host");
	assert_null(strstr(line, "-1"));
}

TEST(doctor_says_which_monitor_the_environment_selects)
{
	struct json_object *o;

	setenv("INVLOCK_MONITOR", "uffd", 1);
	RUN(AS_WE_ARE, "doctor", "--json");
	unsetenv("INVLOCK_MONITOR");
	assert_int_equal(ran.code, 1);
	o = parse();
	assert_null(member(o, "chosen"));
	if (json_object_get_boolean(member(monitor_named(o, "uffd"), "usable")))
		assert_string_equal(text(o, "with_fewer_kinds"), "uffd");
	assert_non_null(strstr(text(o, "recommendation"), "unset INVLOCK_MONITOR"));
	json_object_put(o);
}

TEST(one_monitor_can_be_asked_for)
{
	struct json_object *o;

	RUN(AS_WE_ARE, "doctor", "--monitor", "manual", "--json");
	/* manual is only used when it is asked for, so the answer is no */
	assert_int_equal(ran.code, 1);
	o = parse();
	assert_int_equal(json_object_array_length(member(o, "monitors")), 1);
	monitor_named(o, "manual");
	json_object_put(o);
}

/* Exit code 2, nothing on stdout, and one line on stderr, which contains this word. */
static void is_usage_error(const char *word)
{
	assert_int_equal(ran.code, 2);
	assert_string_equal(ran.out, "");
	assert_non_null(strstr(ran.err, word));
	assert_ptr_equal(strchr(ran.err, '\n'), ran.err + strlen(ran.err) - 1);
}

TEST(a_bad_option_is_named_in_one_sentence)
{
	RUN(AS_WE_ARE, "doctor", "--colour");
	is_usage_error("--colour");
	RUN(AS_WE_ARE, "doctor", "--monitor");
	is_usage_error("--monitor");
	RUN(AS_WE_ARE, "doctor", "--monitor", "crystal-ball");
	is_usage_error("crystal-ball");
	RUN(AS_WE_ARE, "doctor", "now");
	is_usage_error("now");
	RUN(AS_WE_ARE, "cure");
	is_usage_error("cure");
	RUN(AS_WE_ARE, "--cure");
	is_usage_error("--cure");
	RUN(AS_WE_ARE, NULL);
	is_usage_error("--help");
}

TEST(help_and_version_go_to_stdout)
{
	RUN(AS_WE_ARE, "--version");
	assert_int_equal(ran.code, 0);
	assert_non_null(strstr(ran.out, invlock_version()));
	RUN(AS_WE_ARE, "--help");
	assert_int_equal(ran.code, 0);
	assert_non_null(strstr(ran.out, "doctor"));
	RUN(AS_WE_ARE, "doctor", "--help");
	assert_int_equal(ran.code, 0);
	assert_non_null(strstr(ran.out, "--monitor"));
	assert_string_equal(ran.err, "");
}

/* Each "--option" that --help prints must be on the manual page. */
static void is_on_the_page(const char *page)
{
	char wanted[60], *option = ran.out;
	unsigned int nr = 0;

	while ((option = strstr(option, "--"))) {
		size_t len = strspn(option + 2, "abcdefghijklmnopqrstuvwxyz-");

		snprintf(wanted, sizeof(wanted), "Fl -%.*s", (int)len, option + 2);
		if (len && !strstr(page, wanted))
			fail_msg("%s: not on the manual page", wanted);
		nr++;
		option += 2 + len;
	}
	assert_true(nr > 0);
}

TEST(the_manual_page_has_every_option)
{
	static char page[1 << 16];
	FILE *f = fopen(MAN_PAGE, "re");

	assert_non_null(f);
	page[fread(page, 1, sizeof(page) - 1, f)] = '\0';
	fclose(f);
	RUN(AS_WE_ARE, "--help");
	is_on_the_page(page);
	RUN(AS_WE_ARE, "doctor", "--help");
	is_on_the_page(page);
	RUN(AS_WE_ARE, "prove", "--help");
	assert_int_equal(ran.code, 0);
	is_on_the_page(page);
	RUN(AS_WE_ARE, "ps", "--help");
	assert_int_equal(ran.code, 0);
	is_on_the_page(page);
}

TEST(without_privilege_bpf_gives_its_reason_and_the_answer_is_no)
{
	struct json_object *o, *bpf;

	NEEDS_BPF_IN_THIS_BUILD();
	RUN(AS_NOBODY, "doctor", "--json");
	assert_int_equal(ran.code, 1);
	o = parse();
	bpf = monitor_named(o, "bpf");
	assert_false(json_object_get_boolean(member(bpf, "usable")));
	assert_non_null(strstr(text(bpf, "reason"), "CAP_BPF"));
	assert_null(member(o, "chosen"));
	json_object_put(o);
}

TEST_MAIN()
