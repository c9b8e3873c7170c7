// SPDX-License-Identifier: MIT
/* One cache for registrations that differ in a key, and the list of what is registered. */
#include <string.h>

#include "tests/test.h"
#include "tests/lib/rig.h"

#define KEYS	40	/* more than there are tags for keys: some share one */

static struct fake_device fake;
static uint64_t key_of[FAKE_HANDLES];
/* Nobody accesses these addresses: the fake device registers without looking. */
static char *const mem = (char *)0x100000000;

static int reg_key(void *ctx, void *addr, size_t len, uint64_t key, uint64_t *ret_handle)
{
	int err = fake_reg(ctx, addr, len, ret_handle);

	if (!err)
		key_of[*ret_handle] = key;
	return err;
}

static int setup(void **state)
{
	struct invlock_cache_options o = { .size = sizeof(o), .reg_key = reg_key };

	(void)state;
	memset(key_of, 0xff, sizeof(key_of));
	fake_open(&fake, &o);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fake_close(&fake);
	return 0;
}

static void get_for(const void *addr, size_t len, unsigned int flags, uint64_t key)
{
	struct invlock_pin pin;

	assert_int_equal(invlock_cache_get_key(fake.cache, addr, len, flags, key, &pin), 0);
	assert_true((char *)pin.addr <= (char *)addr);
	assert_true((char *)addr + len <= (char *)pin.addr + pin.len);
	assert_true(fake_is_live(&fake, pin.handle));
	assert_int_equal(key_of[pin.handle], key);
	assert_int_equal(invlock_cache_put(&pin), 0);
}

TEST(a_registration_serves_the_key_it_was_made_for_and_no_other)
{
	/* regions of all sizes at all places, so that every chain of the index has all keys */
	for (int round = 0; round < 2; round++)
		for (unsigned int i = 0; i < 200; i++)
			for (uint64_t key = 0; key < KEYS; key++)
				get_for(mem + i * 8 * PAGE, (1 + i % 7) * PAGE, 0, key << 40 | key);
	assert_int_equal(fake.nr_reg, 200 * KEYS);
	assert_int_equal(fake_stats(&fake).hits, 200 * KEYS);
}

TEST(gets_with_and_without_a_key_do_not_share_registrations)
{
	struct invlock_pin pin;

	get_for(mem, PAGE, 0, 0);
	assert_int_equal(invlock_cache_get(fake.cache, mem, PAGE, INVLOCK_GET_CACHED, &pin),
			 -ENOENT);
	assert_int_equal(invlock_cache_get(fake.cache, mem, PAGE, INVLOCK_GET_READ, &pin), 0);
	assert_true(key_of[pin.handle] == ~0ULL);
	assert_int_equal(invlock_cache_put(&pin), 0);
	assert_int_equal(invlock_cache_get_key(fake.cache, mem + 2 * PAGE, PAGE,
					       INVLOCK_GET_CACHED, 0, &pin), -ENOENT);
	get_for(mem, PAGE, INVLOCK_GET_CACHED, 0);
	get_for(mem, PAGE, INVLOCK_GET_BYPASS, 0);
}

TEST(a_change_or_a_drop_ends_the_registrations_of_all_keys)
{
	for (int drop = 0; drop < 2; drop++) {
		for (uint64_t key = 0; key < KEYS; key++)
			get_for(mem, 3 * PAGE, 0, key);
		assert_int_equal(fake.nr_live, KEYS);
		if (drop) {
			assert_int_equal(invlock_cache_drop(fake.cache, mem + PAGE, PAGE), KEYS);
		} else {
			fake_change(&fake, mem + PAGE, PAGE);
			assert_int_equal(invlock_cache_reap(fake.cache), KEYS);
		}
		assert_int_equal(fake.nr_live, 0);
	}
}

TEST(a_registration_that_makes_room_may_be_of_any_key)
{
	struct invlock_cache_options o = {
		.size = sizeof(o), .reg_key = reg_key, .max_entries = 4,
	};

	fake_close(&fake);
	fake_open(&fake, &o);
	for (uint64_t i = 0; i < 1000; i++)
		get_for(mem + i % 3 * PAGE, PAGE, 0, i * 7 % 11);
	assert_true(fake_stats(&fake).entries <= 4);
	assert_true(fake_stats(&fake).evicted);
}

static int reg_without_key(void *ctx, void *addr, size_t len, uint64_t *ret_handle)
{
	return fake_reg(ctx, addr, len, ret_handle);
}

TEST(a_get_that_does_not_fit_the_options_is_refused)
{
	struct invlock_cache_options o = {
		.size = sizeof(o), .flags = INVLOCK_CACHE_NO_REAPER,
		.ops = { .dereg = fake_dereg }, .ctx = &fake,
	};
	struct invlock_cache *cache;
	struct invlock_why why;
	struct invlock_pin pin;

	/* no key and no reg */
	assert_int_equal(invlock_cache_open(fake.mm, &o, &cache, &why), -EINVAL);
	assert_non_null(strstr(why.text, "reg_key"));
	/* keys alone */
	o.reg_key = reg_key;
	assert_int_equal(invlock_cache_open(fake.mm, &o, &cache, &why), 0);
	assert_int_equal(invlock_cache_get(cache, mem, PAGE, 0, &pin), -EINVAL);
	assert_int_equal(invlock_cache_get_key(cache, mem, PAGE, INVLOCK_GET_READ, 1, &pin),
			 -EINVAL);
	assert_int_equal(invlock_cache_get_key(cache, mem, 0, 0, 1, &pin), -EINVAL);
	assert_int_equal(invlock_cache_get_key(NULL, mem, PAGE, 0, 1, &pin), -EINVAL);
	assert_int_equal(invlock_cache_get_key(cache, mem, PAGE, 0, 1, NULL), -EINVAL);
	assert_int_equal(invlock_cache_close(cache), 0);
	/* no keys */
	o.reg_key = NULL;
	o.ops.reg = reg_without_key;
	assert_int_equal(invlock_cache_open(fake.mm, &o, &cache, &why), 0);
	assert_int_equal(invlock_cache_get_key(cache, mem, PAGE, 0, 1, &pin), -EINVAL);
	assert_int_equal(invlock_cache_close(cache), 0);
}

/* the entry of this place, or NULL */
static const struct invlock_cache_entry *entry_at(const struct invlock_cache_entry *list, int nr,
						  const void *addr)
{
	for (int i = 0; i < nr; i++)
		if (list[i].addr == addr)
			return &list[i];
	return NULL;
}

TEST(the_list_shows_what_is_registered_and_how_it_is_used)
{
	struct invlock_cache_entry list[4];
	const struct invlock_cache_entry *e;
	struct invlock_pin pin;

	assert_int_equal(invlock_cache_list(fake.cache, NULL, 0), 0);
	get_for(mem, 2 * PAGE, 0, 77);
	assert_int_equal(invlock_cache_get(fake.cache, mem + 4 * PAGE, PAGE, 0, &pin), 0);
	assert_int_equal(invlock_cache_list(fake.cache, NULL, 0), 2);
	assert_int_equal(invlock_cache_list(fake.cache, list, 1), 2);
	assert_int_equal(invlock_cache_list(fake.cache, list, 4), 2);
	e = entry_at(list, 2, mem);
	assert_non_null(e);
	assert_int_equal(e->len, 2 * PAGE);
	assert_int_equal(e->key, 77);
	assert_int_equal(e->flags, INVLOCK_ENTRY_KEYED);
	e = entry_at(list, 2, mem + 4 * PAGE);
	assert_non_null(e);
	assert_int_equal(e->handle, pin.handle);
	assert_int_equal(e->flags, INVLOCK_ENTRY_PINNED);
	/* a drop cannot deregister what is pinned */
	assert_int_equal(invlock_cache_drop(fake.cache, mem, 8 * PAGE), 2);
	assert_int_equal(invlock_cache_list(fake.cache, list, 4), 1);
	assert_int_equal(list[0].flags, INVLOCK_ENTRY_PINNED | INVLOCK_ENTRY_DEAD);
	assert_int_equal(invlock_cache_put(&pin), 0);
	assert_int_equal(invlock_cache_reap(fake.cache), 1);
	assert_int_equal(invlock_cache_list(fake.cache, list, 4), 0);
	assert_int_equal(invlock_cache_list(NULL, list, 4), -EINVAL);
	assert_int_equal(invlock_cache_list(fake.cache, NULL, 4), -EINVAL);
}

TEST_MAIN(.setup = setup, .teardown = teardown)
