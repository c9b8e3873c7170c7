// SPDX-License-Identifier: MIT
/* Registrations for devices that only read, beside registrations for devices that also write. */
#include <string.h>

#include "tests/test.h"
#include "tests/lib/rig.h"


static struct fake_device fake;
static unsigned char read_only[FAKE_HANDLES];
/*
 * Nobody accesses these addresses: the fake device registers without looking. It refuses to
 * register "constant" for writing.
 */
static char *const mem = (char *)0x100000000, *const constant = (char *)0x200000000;

static int reg_read(void *ctx, void *addr, size_t len, uint64_t *ret_handle)
{
	int err = fake_reg(ctx, addr, len, ret_handle);

	if (!err)
		read_only[*ret_handle] = 1;
	return err;
}

static int setup(void **state)
{
	struct invlock_cache_options o = { .size = sizeof(o), .reg_read = reg_read };

	(void)state;
	memset(read_only, 0, sizeof(read_only));
	fake_open(&fake, &o);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fake_close(&fake);
	return 0;
}

/* Gets and puts a registration. Return: whether it is for reading only */
static bool is_read_only(const void *addr, size_t len, unsigned int flags)
{
	struct invlock_pin pin;
	bool ret;

	assert_int_equal(invlock_cache_get(fake.cache, addr, len, flags, &pin), 0);
	assert_true((char *)pin.addr <= (char *)addr);
	assert_true((char *)addr + len <= (char *)pin.addr + pin.len);
	assert_true(fake_is_live(&fake, pin.handle));
	ret = read_only[pin.handle];
	assert_int_equal(invlock_cache_put(&pin), 0);
	return ret;
}

TEST(a_registration_for_reading_is_never_given_to_a_writer)
{
	/* Regions of all sizes at all places, so that every chain of the index has both sorts. */
	for (int i = 0; i < 500; i++) {
		char *at = mem + i * 8 * PAGE;
		size_t len = (1 + i % 7) * PAGE;
		struct invlock_pin pin;

		assert_true(is_read_only(at, len, INVLOCK_GET_READ));
		assert_int_equal(invlock_cache_get(fake.cache, at, len, INVLOCK_GET_CACHED, &pin),
				 -ENOENT);
		assert_false(is_read_only(at, len, i % 2 ? INVLOCK_GET_BYPASS : 0));
		assert_false(is_read_only(at, len, 0));
	}
	/* The same when every range is looked up once more, for either purpose. */
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
	assert_int_equal(fake.nr_reg, 1);
	assert_int_equal(fake_stats(&fake).hits, 1);
}

TEST(a_reader_hits_a_registration_for_reading)
{
	assert_true(is_read_only(mem, PAGE, INVLOCK_GET_READ));
	assert_true(is_read_only(mem, PAGE, INVLOCK_GET_READ));
	assert_true(is_read_only(mem, PAGE, INVLOCK_GET_READ | INVLOCK_GET_CACHED));
	assert_int_equal(fake.nr_reg, 1);
	assert_int_equal(fake_stats(&fake).hits, 2);
}

TEST(read_only_memory_is_registered_for_reading)
{
	struct invlock_pin pin;

	assert_true(is_read_only(constant, PAGE, INVLOCK_GET_READ));
	fake.fail_times = 1;
	fake.fail_with = -EFAULT;
	assert_int_equal(invlock_cache_get(fake.cache, constant, PAGE, 0, &pin), -EFAULT);
	assert_true(is_read_only(constant, PAGE, INVLOCK_GET_READ));
	assert_int_equal(fake.nr_reg, 1);
}

TEST(a_change_or_a_drop_ends_registrations_of_both_sorts)
{
	for (int drop = 0; drop < 2; drop++) {
		struct invlock_pin pin;

		is_read_only(mem, PAGE, INVLOCK_GET_READ);
		is_read_only(mem, PAGE, 0);
		assert_int_equal(fake.nr_live, 2);
		if (drop) {
			assert_int_equal(invlock_cache_drop(fake.cache, mem, PAGE), 2);
		} else {
			fake_change(&fake, mem, PAGE);
			assert_int_equal(invlock_cache_reap(fake.cache), 2);
		}
		assert_int_equal(fake.nr_live, 0);
		assert_int_equal(invlock_cache_get(fake.cache, mem, PAGE,
						   INVLOCK_GET_READ | INVLOCK_GET_CACHED, &pin),
				 -ENOENT);
	}
}

TEST(a_cache_with_one_sort_of_registration_uses_it_for_readers_too)
{
	fake_close(&fake);
	fake_open(&fake, NULL);
	assert_false(is_read_only(mem, PAGE, INVLOCK_GET_READ));
	assert_false(is_read_only(mem, PAGE, 0));
	assert_int_equal(fake.nr_reg, 1);
}

TEST_MAIN(.setup = setup, .teardown = teardown)
