// SPDX-License-Identifier: MIT
/* Short runs: what they prove, and that they fail if the check is broken. */
#include <fcntl.h>
#include <json-c/json.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "rig.h"
#include "tests/test.h"

static struct said said;

static void expect_quiet_proof(void)
{
	expect_proof(&said);
	assert_string_equal(said.err, "");
}

TEST(the_best_monitor_and_device_of_this_host_prove_it)
{
	PROVE_UNTIL_JUDGED(&said, NULL);
	expect_quiet_proof();
}

TEST(the_soft_device_proves_it)
{
	PROVE_UNTIL_JUDGED(&said, NULL, "--device", "soft");
	expect_quiet_proof();
	assert_non_null(strstr(said.out, "device soft, monitor "));
}

TEST(one_thread_proves_it_too)
{
	PROVE_UNTIL_JUDGED(&said, NULL, "--threads", "1");
	expect_quiet_proof();
}

TEST_PLANTED(no_check, a_cache_that_never_checks_is_found_by_its_data)
{
	static const char *const devices[] = { "uring", "soft" };
	unsigned long long invlock, naive;

	for (unsigned int i = 0; i < 2; i++) {
		PROVE(&said, NULL, "--seconds", "2", "--device", devices[i]);
		if (said.code == 3) {
			print_message("# skipped for %s: %s", devices[i], said.err);
			continue;
		}
		expect(&said, 1);
		last_line(&said, &invlock, &naive);
		assert_true(invlock > 0);
		assert_non_null(strstr(said.out, "NOT PROVED"));
	}
}

static struct json_object *member(struct json_object *of, const char *key, enum json_type type)
{
	struct json_object *value;

	if (!json_object_object_get_ex(of, key, &value))
		fail_msg("no '%s' in the JSON", key);
	if (json_object_get_type(value) != type)
		fail_msg("'%s' has type %s", key, json_type_to_name(json_object_get_type(value)));
	return value;
}

static int64_t number(struct json_object *of, const char *key)
{
	return json_object_get_int64(member(of, key, json_type_int));
}

static void check_columns(struct json_object *columns)
{
	static const char *const always[] = { "ios", "bytes", "stale", "stale_bytes" };
	static const char *const cached[] = {
		"eligible", "hits", "misses", "hit_percent", "expired", "collisions", "retries",
		"registrations",
	};
	static const char *const names[] = { "plain", "invlock", "naive" };

	for (unsigned int i = 0; i < 3; i++) {
		struct json_object *column = member(columns, names[i], json_type_object);

		for (unsigned int n = 0; n < sizeof(always) / sizeof(always[0]); n++)
			assert_true(number(column, always[n]) >= 0);
		assert_true(number(column, "ios") > 0);
		assert_true(json_object_get_double(member(column, "mb_per_s",
							  json_type_double)) > 0);
		member(column, "cpu_us_per_io", json_type_double);
		if (!i)
			continue;
		for (unsigned int n = 0; n < sizeof(cached) / sizeof(cached[0]); n++)
			assert_true(number(column, cached[n]) >= 0);
		/* every I/O that may be cached was a hit or a miss */
		assert_int_equal(number(column, "hits") + number(column, "misses"),
				 number(column, "eligible"));
		member(column, "plain_requests", json_type_object);
	}
	assert_int_equal(number(member(columns, "plain", json_type_object), "stale"), 0);
	assert_int_equal(number(member(columns, "invlock", json_type_object), "stale"), 0);
	assert_true(number(member(columns, "naive", json_type_object), "stale") > 0);
}

/* The same of a run that prints JSON. Were there lookups in the middle of a change, too? */
static bool has_met_all(void)
{
	struct json_object *all = json_tokener_parse(said.out);
	bool met = said.code > 1 || !all || (!said.code && number(all, "racing_lookups") > 0);

	json_object_put(all);
	return met;
}

TEST(json_is_one_object_that_says_everything_the_text_says)
{
	struct json_tokener *tokener = json_tokener_new();
	struct json_object *all, *changes;
	int64_t stale = 0;

	PROVE_UNTIL(has_met_all(), &said, NULL, "--json");
	expect(&said, 0);
	assert_string_equal(said.err, "");
	all = json_tokener_parse_ex(tokener, said.out, strlen(said.out));
	assert_int_equal(json_tokener_get_error(tokener), json_tokener_success);
	/* only the end of the line comes after the object */
	assert_true(json_tokener_get_parse_end(tokener) >= strlen(said.out) - 1);

	assert_true(json_object_get_boolean(member(all, "proved", json_type_boolean)));
	assert_false(json_object_get_boolean(member(all, "cut_short", json_type_boolean)));
	member(all, "monitor", json_type_string);
	member(all, "attempted", json_type_array);
	member(all, "inexact", json_type_array);
	member(all, "device", json_type_string);
	member(all, "verdict", json_type_string);
	member(all, "notes", json_type_array);
	member(all, "memory", json_type_array);
	assert_true(number(all, "io_threads") > 0);
	assert_true(number(all, "racing_lookups") > 0);
	check_columns(member(all, "columns", json_type_object));

	changes = member(all, "changes", json_type_array);
	for (size_t i = 0; i < json_object_array_length(changes); i++) {
		struct json_object *one = json_object_array_get_idx(changes, i);
		bool attempted = json_object_get_boolean(member(one, "attempted",
								json_type_boolean));

		member(one, "name", json_type_string);
		member(one, "reason", attempted ? json_type_null : json_type_string);
		assert_int_equal(number(one, "stale_invlock"), 0);
		stale += number(one, "stale_naive");
	}
	assert_int_equal(stale, number(member(member(all, "columns", json_type_object), "naive",
					      json_type_object), "stale"));
	json_object_put(all);
	json_tokener_free(tokener);
}

TEST(an_interrupted_run_reports_what_it_measured_and_says_so)
{
	const struct as as = { .signal = SIGINT, .signal_after_ms = 2000 };
	unsigned long long invlock, naive;

	PROVE(&said, &as, "--seconds", "60");
	expect(&said, 130);
	assert_non_null(strstr(said.out, "a signal ended the run early"));
	last_line(&said, &invlock, &naive);
	assert_int_equal(invlock, 0);
}

TEST(a_file_of_the_user_is_read_and_left_as_it_is)
{
	char name[] = "/var/tmp/invlock-test-XXXXXX";
	static unsigned char text[300000], again[sizeof(text)];
	int fd = mkstemp(name);

	assert_true(fd >= 0);
	/* the content has a period that fits no block, so that each block differs from the next */
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = "invlock\n"[i % 8];
	assert_int_equal(write(fd, text, sizeof(text)), sizeof(text));
	PROVE_UNTIL_JUDGED(&said, NULL, "--file", name);
	unlink(name);
	expect_quiet_proof();
	assert_non_null(strstr(said.out, name));
	assert_int_equal(pread(fd, again, sizeof(again), 0), sizeof(again));
	assert_memory_equal(text, again, sizeof(text));
	close(fd);
}

TEST(a_file_of_one_block_and_one_of_odd_size_are_large_enough)
{
	static const unsigned int sizes[] = { 4096, 20000 };

	for (unsigned int i = 0; i < 2; i++) {
		char name[] = "/var/tmp/invlock-test-XXXXXX";
		int fd = mkstemp(name);

		assert_true(fd >= 0);
		assert_int_equal(ftruncate(fd, sizes[i]), 0);
		close(fd);
		PROVE_UNTIL_JUDGED(&said, NULL, "--file", name);
		unlink(name);
		expect_quiet_proof();
	}
}

TEST(help_names_every_option)
{
	PROVE(&said, NULL, "--help");
	expect(&said, 0);
	assert_string_equal(said.err, "");
	assert_non_null(strstr(said.out, "--file F"));
	assert_non_null(strstr(said.out, "--json"));
}

TEST_MAIN()
