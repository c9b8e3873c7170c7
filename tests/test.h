/* SPDX-License-Identifier: MIT */
/*
 * What every test includes: cmocka, and a skip that says why.
 *
 *	TEST(unmap_between_sample_and_commit_forces_retry) { ... }
 *	TEST_MAIN(cmocka_unit_test(unmap_between_sample_and_commit_forces_retry), ...)
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
#include <cmocka.h>

#define TEST(name) static void name(__attribute__((unused)) void **state)

#define TEST_SKIP(...)							\
do {									\
	printf("# skipped: %s: ", __func__);				\
	printf(__VA_ARGS__);						\
	printf("\n");							\
	fflush(stdout);							\
	skip();								\
} while (0)

#define TEST_MAIN(...)							\
int main(void)								\
{									\
	const struct CMUnitTest tests[] = { __VA_ARGS__ };		\
									\
	cmocka_set_message_output(CM_OUTPUT_TAP);			\
	return cmocka_run_group_tests(tests, NULL, NULL);		\
}

#endif /* INVLOCK_TESTS_TEST_H */
