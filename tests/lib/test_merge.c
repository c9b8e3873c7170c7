// SPDX-License-Identifier: MIT
/* Registrations that adjoin or overlap are merged, up to a bound, and are never stale for it. */
#include <stdlib.h>
#include <string.h>

#include "tests/test.h"
#include "tests/lib/rig.h"

#define PAGES	64
#define BOUND	8	/* pages */
#define STEPS	20000

static struct fake_device fake;
/* Nobody accesses these addresses: the fake device registers without looking. */
static char *const mem = (char *)0x100000000;
static unsigned int versions[PAGES];		/* of the memory: a change raises it */
static struct { unsigned int versions[PAGES]; uint64_t key; } made_of[FAKE_HANDLES / 16];
static unsigned int nr_stale, nr_of_other_key;

/* What the device has is what the memory was when it was registered. */
static int reg_key(void *ctx, void *addr, size_t len, uint64_t key, uint64_t *ret_handle)
{
	int err = fake_reg(ctx, addr, len, ret_handle);

	if (err)
		return err;
	assert_true(*ret_handle < sizeof(made_of) / sizeof(made_of[0]));
	memcpy(made_of[*ret_handle].versions, versions, sizeof(versions));
	made_of[*ret_handle].key = key;
	return 0;
}

static void open_with(size_t max_merged)
{
	struct invlock_cache_options o = {
		.size = sizeof(o), .reg_key = reg_key, .max_merged = max_merged,
	};

	fake_open(&fake, &o);
}

static int setup(void **state)
{
	(void)state;
	nr_stale = nr_of_other_key = 0;
	open_with(BOUND * PAGE);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fake_close(&fake);
	return 0;
}

static void change(unsigned int first, unsigned int nr)
{
	for (unsigned int i = first; i < first + nr; i++)
		versions[i]++;
	fake_change(&fake, mem + first * PAGE, nr * PAGE);
}

static struct invlock_pin get_for(unsigned int first, unsigned int nr, uint64_t key)
{
	struct invlock_pin pin;

	assert_int_equal(invlock_cache_get_key(fake.cache, mem + first * PAGE, nr * PAGE, 0, key,
					       &pin), 0);
	assert_true((char *)pin.addr <= mem + first * PAGE);
	assert_true(mem + (first + nr) * PAGE <= (char *)pin.addr + pin.len);
	assert_true(fake_is_live(&fake, pin.handle));
	nr_of_other_key += made_of[pin.handle].key != key;
	nr_stale += !!memcmp(made_of[pin.handle].versions + first, versions + first,
			     nr * sizeof(versions[0]));
	return pin;
}

/* Return: the number of pages that the registration has */
static unsigned int use(unsigned int first, unsigned int nr, uint64_t key)
{
	struct invlock_pin pin = get_for(first, nr, key);

	assert_int_equal(invlock_cache_put(&pin), 0);
	return pin.len / PAGE;
}

TEST(requests_that_adjoin_become_one_registration)
{
	assert_int_equal(use(10, 1, 0), 1);
	assert_int_equal(use(11, 1, 0), 2);
	assert_int_equal(use(8, 2, 0), 4);
	/* between two: both sides are merged */
	assert_int_equal(use(13, 2, 0), 2);
	assert_int_equal(use(12, 1, 0), 7);
	assert_int_equal(use(8, 7, 0), 7);
	assert_int_equal(fake_stats(&fake).entries, 1);
	assert_int_equal(fake_stats(&fake).merged, 4);
	assert_int_equal(fake_stats(&fake).hits, 1);
	/* what was replaced is deregistered at once */
	assert_int_equal(fake.nr_live, 1);
}

TEST(requests_that_overlap_become_one_registration)
{
	assert_int_equal(use(10, 3, 0), 3);
	assert_int_equal(use(11, 4, 0), 5);
	assert_int_equal(use(9, 1, 0), 6);
	assert_int_equal(fake_stats(&fake).entries, 1);
}

TEST(by_default_nothing_is_merged)
{
	fake_close(&fake);
	open_with(0);
	assert_int_equal(use(10, 1, 0), 1);
	assert_int_equal(use(11, 1, 0), 1);
	assert_int_equal(use(10, 2, 0), 2);
	assert_int_equal(fake_stats(&fake).entries, 3);
	assert_int_equal(fake_stats(&fake).merged, 0);
}

TEST(a_gap_is_not_registered)
{
	assert_int_equal(use(10, 1, 0), 1);
	assert_int_equal(use(12, 1, 0), 1);
	assert_int_equal(fake_stats(&fake).entries, 2);
}

/* What UCX once did: a buffer that grows became one registration without end. */
TEST(a_registration_does_not_grow_beyond_the_bound)
{
	struct invlock_cache_entry entries[PAGES];
	int nr;

	for (unsigned int i = 0; i < PAGES; i++)
		use(i, 1, 0);
	nr = invlock_cache_list(fake.cache, entries, PAGES);
	assert_int_equal(nr, PAGES / BOUND);
	for (int i = 0; i < nr; i++)
		assert_int_equal(entries[i].len, BOUND * PAGE);
	/* a request that is larger is registered as it is, and replaces what it covers */
	assert_int_equal(use(3, 2 * BOUND, 0), 2 * BOUND);
	assert_int_equal(fake_stats(&fake).entries, PAGES / BOUND);
	assert_int_equal(nr_stale, 0);
}

TEST(keys_are_never_merged)
{
	struct invlock_pin pin;

	for (uint64_t key = 0; key < 40; key++)
		assert_int_equal(use(10, 1, key << 40 | key), 1);
	for (uint64_t key = 0; key < 40; key++)
		assert_int_equal(use(11, 1, key << 40 | key), 2);
	assert_int_equal(fake_stats(&fake).entries, 40);
	/* nor with those that have none */
	assert_int_equal(invlock_cache_get(fake.cache, mem + 12 * PAGE, PAGE, 0, &pin), 0);
	assert_int_equal(pin.len, PAGE);
	assert_int_equal(invlock_cache_put(&pin), 0);
	assert_int_equal(nr_of_other_key, 0);
}

TEST(what_is_only_read_is_not_merged_with_what_is_written)
{
	static const struct { unsigned int page, flags, pages; } gets[] = {
		{ 10, 0, 1 }, { 11, INVLOCK_GET_READ, 1 }, { 12, INVLOCK_GET_READ, 2 },
		{ 11, 0, 2 }, { 13, 0, 1 },
	};
	struct invlock_cache_options o = {
		.size = sizeof(o), .reg_read = fake_reg, .max_merged = BOUND * PAGE,
	};
	struct invlock_pin pin;

	fake_close(&fake);
	fake_open(&fake, &o);
	for (size_t i = 0; i < sizeof(gets) / sizeof(gets[0]); i++) {
		assert_int_equal(invlock_cache_get(fake.cache, mem + gets[i].page * PAGE, PAGE,
						   gets[i].flags, &pin), 0);
		assert_int_equal(pin.len, gets[i].pages * PAGE);
		assert_int_equal(invlock_cache_put(&pin), 0);
	}
	assert_int_equal(fake_stats(&fake).merged, 2);
}

TEST(a_pinned_registration_stays_registered_until_its_put)
{
	struct invlock_pin pin = get_for(10, 1, 0);

	assert_int_equal(use(11, 1, 0), 2);
	assert_true(fake_is_live(&fake, pin.handle));
	assert_int_equal(invlock_cache_put(&pin), 0);
	assert_int_equal(invlock_cache_reap(fake.cache), 1);
	assert_false(fake_is_live(&fake, pin.handle));
}

TEST(a_get_for_one_pin_is_not_merged)
{
	struct invlock_pin pin;

	use(10, 1, 0);
	assert_int_equal(invlock_cache_get_key(fake.cache, mem + 11 * PAGE, PAGE,
					       INVLOCK_GET_BYPASS, 0, &pin), 0);
	assert_int_equal(pin.len, PAGE);
	assert_int_equal(invlock_cache_put(&pin), 0);
	assert_int_equal(fake_stats(&fake).entries, 1);
}

TEST(what_cannot_be_registered_in_one_piece_is_not_merged)
{
	use(10, 1, 0);
	fake.fail_with = -EFAULT;
	fake.fail_times = 1;
	assert_int_equal(use(11, 1, 0), 1);
	assert_int_equal(fake_stats(&fake).entries, 2);
	assert_int_equal(fake_stats(&fake).refused, 0);
}

/* The map changes at a page while it is registered together with another. */
static unsigned int changing;

static void change_once(struct fake_device *f, __attribute__((unused)) void *addr,
			__attribute__((unused)) size_t len)
{
	f->during_reg = NULL;
	change(changing, 1);
}

static void change_always(__attribute__((unused)) struct fake_device *f, void *addr,
			  __attribute__((unused)) size_t len)
{
	if ((char *)addr <= mem + changing * PAGE)
		change(changing, 1);
}

TEST(a_change_during_the_merged_registration_is_not_missed)
{
	for (changing = 10; changing < 12; changing++) {
		use(10, 1, 0);
		fake.during_reg = change_once;
		use(11, 1, 0);
		use(10, 1, 0);
		use(10, 2, 0);
		assert_int_equal(nr_stale, 0);
		change(10, 2);
	}
}

TEST(a_neighbour_that_changes_all_the_time_does_not_make_the_request_fail)
{
	use(10, 1, 0);
	changing = 10;
	fake.during_reg = change_always;
	assert_int_equal(use(11, 1, 0), 1);
	fake.during_reg = NULL;
	assert_int_equal(fake_stats(&fake).collided, 1);
}

static unsigned int random_below(unsigned int *seed, unsigned int n)
{
	return (rand_r(seed) >> 8) % n;
}

/* Gets and changes at random places, with two keys. */
static void storm(void)
{
	unsigned int seed = 1;

	for (int i = 0; i < STEPS; i++) {
		unsigned int first = random_below(&seed, PAGES - BOUND);
		unsigned int nr = 1 + random_below(&seed, BOUND);

		if (random_below(&seed, 4))
			use(first, nr, random_below(&seed, 2));
		else
			change(first, 1);
	}
	assert_int_equal(nr_of_other_key, 0);
}

TEST(what_is_merged_is_never_stale)
{
	storm();
	assert_int_equal(nr_stale, 0);
	assert_true(fake_stats(&fake).merged > STEPS / 20);
	assert_true(fake_stats(&fake).hits > STEPS / 20);
}

TEST_PLANTED(no_check, without_the_check_what_is_merged_is_stale)
{
	storm();
	assert_true(nr_stale > 0);
}

TEST(a_bound_below_a_page_is_refused_in_a_sentence)
{
	struct invlock_cache_options o = {
		.size = sizeof(o), .ops = { fake_reg, fake_dereg }, .ctx = &fake,
		.max_merged = PAGE - 1,
	};
	struct invlock_cache *cache;
	struct invlock_why why;

	assert_int_equal(invlock_cache_open(fake.mm, &o, &cache, &why), -EINVAL);
	assert_non_null(strstr(why.text, "max_merged"));
}

TEST_MAIN(.setup = setup, .teardown = teardown)
