/* SPDX-License-Identifier: MIT */
/*
 * What every test includes: cmocka, and a skip that says why.
 *
 *	TEST(unmap_between_sample_and_commit_forces_retry) { ... }
 *	TEST_MAIN(cmocka_unit_test(unmap_between_sample_and_commit_forces_retry), ...)
 *
 * cmocka 1.1.5 writes a skip as "not ok N # SKIP name", which TAP readers take for a
 * failure. stdout is therefore a stream that puts it right, and adds the reason.
 *
 * cmocka's asserts leave by longjmp: only on the main thread. Other threads count
 * what went wrong, and the main thread asserts.
 */
#ifndef INVLOCK_TESTS_TEST_H
#define INVLOCK_TESTS_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#define TEST(name) static void name(__attribute__((unused)) void **state)

/* one for all files of a program: a rig in another one may skip */
__attribute__((weak)) char test_skip_reason[200];

#define TEST_SKIP(...)							\
do {									\
	snprintf(test_skip_reason, sizeof(test_skip_reason), __VA_ARGS__); \
	skip();								\
} while (0)

/* cmocka writes each line of TAP in one call */
static ssize_t test_write_tap(__attribute__((unused)) void *cookie, const char *text, size_t len)
{
	static const char skipped[] = "not ok %u # SKIP %79[^\n]";
	char name[80];
	unsigned int nr;

	/* text does not end with a NUL; the copy does */
	char *line = strndup(text, len);

	if (line && sscanf(line, skipped, &nr, name) == 2) {
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

#define TEST_MAIN(...)							\
int main(void)								\
{									\
	const struct CMUnitTest tests[] = { __VA_ARGS__ };		\
									\
	test_output_tap();						\
	return cmocka_run_group_tests(tests, NULL, NULL);		\
}

#endif /* INVLOCK_TESTS_TEST_H */
