// SPDX-License-Identifier: MIT
/* Registrations for devices that only read, beside those for devices that also write. */
#include <string.h>

#include "tests/test.h"
#include "tests/lib/rig.h"

#define PAGE	4096UL

static struct toy toy;
static unsigned char read_only[TOY_HANDLES];
/* never touched: the toy does not look at it. What begins at constant cannot be written. */
static char *const mem = (char *)0x100000000, *const constant = (char *)0x200000000;

static int reg_read(void *ctx, void *addr, size_t len, uint64_t *ret_handle)
{
	int err = toy_reg(ctx, addr, len, ret_handle);

	if (!err)
		read_only[*ret_handle] = 1;
	return err;
}

static int setup(void **state)
{
	struct invlock_cache_options o = { .size = sizeof(o), .reg_read = reg_read };

	(void)state;
	memset(read_only, 0, sizeof(read_only));
	toy_open(&toy, &o);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	toy_close(&toy);
	return 0;
}

/* get, ask, put: is it registered for reading only? */
static bool is_read_only(const void *addr, size_t len, unsigned int flags)
{
	struct invlock_pin pin;
	bool ret;

	assert_int_equal(invlock_cache_get(toy.cache, addr, len, flags, &pin), 0);
	assert_true((char *)pin.addr <= (char *)addr);
	assert_true((char *)addr + len <= (char *)pin.addr + pin.len);
	assert_true(toy_is_live(&toy, pin.handle));
	ret = read_only[pin.handle];
	assert_int_equal(invlock_cache_put(&pin), 0);
	return ret;
}

TEST(a_registration_for_reading_is_never_given_to_a_writer)
{
	/* of all sizes and in all places, so that every chain of the index has both sorts */
	for (int i = 0; i < 500; i++) {
		char *at = mem + i * 8 * PAGE;
		size_t len = (1 + i % 7) * PAGE;
		struct invlock_pin pin;

		assert_true(is_read_only(at, len, INVLOCK_GET_READ));
		assert_int_equal(invlock_cache_get(toy.cache, at, len, INVLOCK_GET_CACHED, &pin),
				 -ENOENT);
		assert_false(is_read_only(at, len, i % 2 ? INVLOCK_GET_BYPASS : 0));
		assert_false(is_read_only(at, len, 0));
	}
	/* and so when all of it is looked up again, by either */
	for (int i = 0; i < 500; i++) {
		char *at = mem + i * 8 * PAGE;

		assert_false(is_read_only(at, 1, 0));
		assert_false(is_read_only(at, 1, INVLOCK_GET_CACHED));
		is_read_only(at, 1, INVLOCK_GET_READ);
	}
}

TEST(a_registration_for_writing_serves_a_reader)
{
	assert_false(is_read_only(mem, PAGE, 0));
	assert_false(is_read_only(mem, PAGE, INVLOCK_GET_READ));
	assert_int_equal(toy.nr_reg, 1);
	assert_int_equal(toy_stats(&toy).hits, 1);
}

TEST(a_reader_hits_what_was_registered_for_reading)
{
	assert_true(is_read_only(mem, PAGE, INVLOCK_GET_READ));
	assert_true(is_read_only(mem, PAGE, INVLOCK_GET_READ));
	assert_true(is_read_only(mem, PAGE, INVLOCK_GET_READ | INVLOCK_GET_CACHED));
	assert_int_equal(toy.nr_reg, 1);
	assert_int_equal(toy_stats(&toy).hits, 2);
}

TEST(memory_that_cannot_be_written_is_registered_for_reading_alone)
{
	struct invlock_pin pin;

	assert_true(is_read_only(constant, PAGE, INVLOCK_GET_READ));
	toy.fail_times = 1;
	toy.fail_with = -EFAULT;
	assert_int_equal(invlock_cache_get(toy.cache, constant, PAGE, 0, &pin), -EFAULT);
	assert_true(is_read_only(constant, PAGE, INVLOCK_GET_READ));
	assert_int_equal(toy.nr_reg, 1);
}

TEST(a_change_or_a_drop_ends_registrations_of_both_sorts)
{
	for (int drop = 0; drop < 2; drop++) {
		struct invlock_pin pin;

		is_read_only(mem, PAGE, INVLOCK_GET_READ);
		is_read_only(mem, PAGE, 0);
		assert_int_equal(toy.nr_live, 2);
		if (drop) {
			assert_int_equal(invlock_cache_drop(toy.cache, mem, PAGE), 2);
		} else {
			toy_change(&toy, mem, PAGE);
			assert_int_equal(invlock_cache_reap(toy.cache), 2);
		}
		assert_int_equal(toy.nr_live, 0);
		assert_int_equal(invlock_cache_get(toy.cache, mem, PAGE,
						   INVLOCK_GET_READ | INVLOCK_GET_CACHED, &pin),
				 -ENOENT);
	}
}

TEST(a_cache_with_one_sort_of_registration_uses_it_for_readers_too)
{
	toy_close(&toy);
	toy_open(&toy, NULL);
	assert_false(is_read_only(mem, PAGE, INVLOCK_GET_READ));
	assert_false(is_read_only(mem, PAGE, 0));
	assert_int_equal(toy.nr_reg, 1);
}

TEST_MAIN(.setup = setup, .teardown = teardown)
