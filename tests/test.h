/* SPDX-License-Identifier: MIT */
/*
 * What every test includes: cmocka, and a way to skip that gives the reason.
 *
 *	TEST(unmap_between_sample_and_commit_forces_retry) { ... }
 *	TEST_MAIN()
 *
 * A TEST registers itself. TEST_MAIN() runs the tests of its program in the order of the source.
 * TEST_MAIN(.setup = f, .teardown = g) runs f before and g after each of them.
 *
 * TEST_MAIN(.ends_with_failure = true) skips all tests after one that has failed. It is for tests
 * that would wait for ever for a thread, a lock or memory that a failed test has not given back.
 *
 * INVLOCK_TEST=sample in the environment runs only the tests with that in their names.
 *
 * TEST_PLANTED(no_check, ...) shows that a test can fail: it runs in another program, which is
 * built from the same source and from a copy of the library that has the fault of that name
 * (planted.txt).
 *
 * cmocka gives no reason for a skip, and 1.1.5 reports it as "not ok", which TAP readers take for a
 * failure. Therefore stdout is a stream that writes the line of a skip anew.
 *
 * A failed assertion of cmocka leaves the test by longjmp, which works on the main thread only.
 * Other threads count what went wrong, and the main thread asserts.
 */
#ifndef INVLOCK_TESTS_TEST_H
#define INVLOCK_TESTS_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#undef stop	/* a macro of cmocka 2, and a good name for a variable */
#ifdef assert_uint_in_range	/* cmocka 2 has one for each sign, and warns of the old one */
#undef assert_in_range
#define assert_in_range	assert_uint_in_range
#endif

#include "page.h"

/* the fault that is planted in this program's copy of the library: meson.build */
#ifndef PLANTED
#define PLANTED	""
#endif

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define IS_SANITIZED	true
#else
#define IS_SANITIZED	false
#endif

struct test {
	const char *name;
	const char *planted;	/* runs in the program with this fault; "" or NULL = none */
	CMUnitTestFunction run;
	void *state;		/* what *state is when the test begins */
	int order;
	struct test *next;
};

/* what runs around the tests: all of it is optional */
struct test_fixtures {
	CMFixtureFunction before_all, after_all;
	CMFixtureFunction setup, teardown;
	bool (*wanted)(const char *name);	/* the tests of these names alone run */
	bool ends_with_failure;			/* no test runs after one that has failed */
};

/* one for all files of a program, by order */
__attribute__((weak)) struct test *test_first;

/* the order is kept: constructors need not run in that of the source */
static inline void test_add(struct test *t)
{
	struct test **at = &test_first;

	while (*at && (*at)->order <= t->order)
		at = &(*at)->next;
	t->next = *at;
	*at = t;
}

/* one for all files of a program: a rig in another one may skip */
__attribute__((weak)) char test_skip_reason[200];
__attribute__((weak)) bool test_unfinished;	/* a test runs, or was left by a failed assertion */
__attribute__((weak)) bool test_ends_with_failure;

#define TEST_SKIP(...)							\
do {									\
	test_unfinished = false;					\
	snprintf(test_skip_reason, sizeof(test_skip_reason), __VA_ARGS__); \
	skip();								\
} while (0)

static inline void test_run_one(CMUnitTestFunction test, void **state)
{
	if (test_unfinished && test_ends_with_failure) {
		strcpy(test_skip_reason, "a test before this one has failed");
		skip();
	}
	test_unfinished = true;
	test(state);
	test_unfinished = false;
}

#define TEST_WITH(fault, test_name)					\
static void test_name(void **state);					\
static void run_##test_name(void **state)				\
{									\
	test_run_one(test_name, state);					\
}									\
__attribute__((constructor)) static void add_##test_name(void)		\
{									\
	static struct test t = {					\
		.name = #test_name, .planted = fault, .run = run_##test_name, \
		.order = __COUNTER__,					\
	};								\
									\
	test_add(&t);							\
}									\
static void test_name(__attribute__((unused)) void **state)

#define TEST(test_name)			TEST_WITH("", test_name)
#define TEST_PLANTED(fault, test_name)	TEST_WITH(#fault, test_name)

/* for tests of what the bpf monitor says: a build with -Dbpf=disabled has none */
#ifdef WITHOUT_BPF
#define NEEDS_BPF_IN_THIS_BUILD()	TEST_SKIP("this build has no bpf monitor")
#else
#define NEEDS_BPF_IN_THIS_BUILD()	do { } while (0)
#endif

/* Is this how cmocka says that a test was skipped? */
static bool test_is_skip(const char *line, unsigned int *ret_nr, char ret_name[128])
{
	int end = 0;

	/* 1.1.5, 1.1.7 and 2.0 */
	if (sscanf(line, "not ok %u # SKIP %127s", ret_nr, ret_name) == 2 ||
	    sscanf(line, "ok %u # SKIP %127s", ret_nr, ret_name) == 2)
		return true;
	sscanf(line, "ok %u - %127s # SKIP%n", ret_nr, ret_name, &end);
	return end;
}

/* cmocka writes each line of TAP in one call */
static ssize_t test_write_tap(__attribute__((unused)) void *cookie, const char *text, size_t len)
{
	char name[128];
	unsigned int nr;

	/* text does not end with a NUL; the copy does */
	char *line = strndup(text, len);

	if (line && test_is_skip(line, &nr, name)) {
		dprintf(STDOUT_FILENO, "ok %u - %s # SKIP %s\n", nr, name, test_skip_reason);
		test_skip_reason[0] = '\0';
	} else if (write(STDOUT_FILENO, text, len) < 0) {
		len = 0;
	}
	free(line);
	return (ssize_t)len;
}

static inline void test_output_tap(void)
{
	cookie_io_functions_t io = { .write = test_write_tap };
	FILE *tap = fopencookie(NULL, "w", io);

	if (tap) {
		setvbuf(tap, NULL, _IOLBF, BUFSIZ);
		stdout = tap;
	}
	cmocka_set_message_output(CM_OUTPUT_TAP);
}

/* Return: main()'s, the number of tests that failed */
static inline int test_run(const struct test_fixtures *f)
{
	struct CMUnitTest *tests = NULL;
	size_t nr = 0;
	int failed;

	for (const struct test *t = test_first; t; t = t->next) {
		if (strcmp(t->planted ?: "", PLANTED) || (f->wanted && !f->wanted(t->name)) ||
		    !strstr(t->name, getenv("INVLOCK_TEST") ?: ""))
			continue;
		tests = realloc(tests, (nr + 1) * sizeof(*tests));
		if (!tests)
			abort();
		tests[nr++] = (struct CMUnitTest){
			t->name, t->run, f->setup, f->teardown, t->state,
		};
	}
	if (!nr) {
		fprintf(stderr, "there is no test to run\n");
		return 1;
	}
	test_output_tap();
	test_ends_with_failure = f->ends_with_failure;
	failed = _cmocka_run_group_tests("tests", tests, nr, f->before_all, f->after_all);
	free(tests);
	return failed;
}

#define TEST_MAIN(...)							\
int main(void)								\
{									\
	return test_run(&(struct test_fixtures){ __VA_ARGS__ });	\
}

#endif /* INVLOCK_TESTS_TEST_H */
