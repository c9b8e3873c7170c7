// SPDX-License-Identifier: MIT
/* The cache on one thread: hits, misses, staleness, limits, callbacks, bad input. */
#include <poll.h>
#include <string.h>
#include <sys/mman.h>

#include "lib/cache/thread.h"
#include "tests/test.h"
#include "tests/lib/rig.h"


static struct fake_device fake;
/* nobody accesses these addresses: the fake device registers without looking */
static char *const mem = (char *)0x100000000;

static int setup(void **state)
{
	(void)state;
	fake_open(&fake, NULL);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fake_close(&fake);
	return 0;
}

static struct invlock_pin get(const void *addr, size_t len)
{
	struct invlock_pin pin;

	assert_int_equal(invlock_cache_get(fake.cache, addr, len, 0, &pin), 0);
	assert_true((char *)pin.addr <= (char *)addr);
	assert_true((char *)addr + len <= (char *)pin.addr + pin.len);
	assert_true(fake_is_live(&fake, pin.handle));
	return pin;
}

static void put(struct invlock_pin pin)
{
	assert_int_equal(invlock_cache_put(&pin), 0);
}

TEST(the_second_get_is_a_hit_and_pages_are_whole)
{
	struct invlock_pin a = get(mem + 100, 10), b = get(mem, PAGE);

	assert_ptr_equal(a.addr, mem);
	assert_int_equal(a.len, PAGE);
	assert_int_equal(a.handle, b.handle);
	put(a);
	put(b);
	assert_int_equal(fake.nr_reg, 1);
	assert_int_equal(fake_stats(&fake).hits, 1);
	assert_int_equal(fake_stats(&fake).misses, 1);
}

/* Registers the same range again, as another thread might at this moment. */
static void register_first(struct fake_device *t, void *addr, size_t len)
{
	t->during_reg = NULL;
	put(get(addr, len));
}

TEST(a_get_whose_entry_was_registered_meanwhile_counts_once_and_as_a_hit)
{
	struct invlock_cache_stats stats;

	fake.during_reg = register_first;
	put(get(mem, PAGE));
	stats = fake_stats(&fake);
	assert_int_equal(stats.misses, 1);
	assert_int_equal(stats.hits, 1);
	assert_int_equal(stats.reg_calls, 2);
	assert_int_equal(stats.dereg_calls, 1);
	assert_int_equal(stats.entries, 1);
}

TEST(a_reported_change_makes_what_it_overlaps_stale)
{
	struct invlock_pin a = get(mem, PAGE), b = get(mem + 4 * PAGE, PAGE), c;

	fake_change(&fake, mem, PAGE);
	c = get(mem, PAGE);
	assert_int_not_equal(a.handle, c.handle);
	/* a is stale, but still pinned, so it stays registered */
	assert_true(fake_is_live(&fake, a.handle));
	put(a);
	put(c);
	put(b);
	assert_int_equal(invlock_cache_reap(fake.cache), 1);
	assert_false(fake_is_live(&fake, a.handle));
	b = get(mem + 4 * PAGE, PAGE);
	put(b);
	assert_int_equal(fake.nr_reg, 3);
	assert_int_equal(fake_stats(&fake).stale, 1);
}

TEST_PLANTED(no_check, without_the_check_a_stale_entry_is_a_hit)
{
	struct invlock_pin a, b;

	a = get(mem, PAGE);
	fake_change(&fake, mem, PAGE);
	b = get(mem, PAGE);
	assert_int_equal(a.handle, b.handle);
	put(a);
	put(b);
}

TEST(the_descriptor_says_when_an_idle_program_should_reap)
{
	struct pollfd fd = { .fd = invlock_cache_fd(fake.cache), .events = POLLIN };

	put(get(mem, PAGE));
	fake_change(&fake, mem, PAGE);
	assert_int_equal(poll(&fd, 1, 60000), 1);
	assert_int_equal(invlock_cache_reap(fake.cache), 1);
	assert_int_equal(fake.nr_live, 0);
	/* The cache is empty: the descriptor stays silent. */
	assert_int_equal(poll(&fd, 1, 200), 0);
}

TEST(regions_of_all_sizes_overlap_freely)
{
	struct invlock_pin pins[40];

	for (int i = 0; i < 40; i++)
		pins[i] = get(mem + i * PAGE, (i + 1) * PAGE * 3);
	for (int i = 0; i < 40; i++)
		put(pins[i]);
	for (int i = 0; i < 40; i++)
		put(get(mem + i * PAGE, (i + 1) * PAGE * 3));
	assert_int_equal(fake_stats(&fake).hits >= 40, 1);
	fake_change(&fake, mem, 200 * PAGE);
	assert_true(invlock_cache_reap(fake.cache) > 0);
	assert_int_equal(fake_stats(&fake).entries, 0);
}

TEST(bad_ranges_and_flags_are_refused)
{
	struct invlock_pin pin = { .ticket = 42 };

	assert_int_equal(invlock_cache_get(NULL, mem, 1, 0, &pin), -EINVAL);
	assert_int_equal(invlock_cache_get(fake.cache, mem, 1, 0, NULL), -EINVAL);
	assert_int_equal(invlock_cache_get(fake.cache, NULL, 1, 0, &pin), -EINVAL);
	assert_int_equal(invlock_cache_get(fake.cache, NULL, 1, INVLOCK_GET_CACHED, &pin), -EINVAL);
	assert_int_equal(invlock_cache_get(fake.cache, (void *)8, 8192, 0, &pin), -EINVAL);
	assert_int_equal(invlock_cache_get(fake.cache, mem, 0, 0, &pin), -EINVAL);
	assert_int_equal(invlock_cache_get(fake.cache, (void *)-1, 2, 0, &pin), -EINVAL);
	assert_int_equal(invlock_cache_get(fake.cache, (void *)-PAGE, PAGE, 0, &pin), -EINVAL);
	assert_int_equal(invlock_cache_get(fake.cache, mem, ~0UL, 0, &pin), -EINVAL);
	assert_int_equal(invlock_cache_get(fake.cache, mem, 1, 1u << 9, &pin), -EINVAL);
	assert_int_equal(invlock_cache_get(fake.cache, mem, 1,
					   INVLOCK_GET_BYPASS | INVLOCK_GET_CACHED, &pin), -EINVAL);
	assert_int_equal(pin.ticket, 42);
	assert_int_equal(invlock_cache_drop(fake.cache, mem, 0), -EINVAL);
	assert_int_equal(invlock_cache_drop(NULL, mem, 1), -EINVAL);
	assert_int_equal(invlock_cache_reap(NULL), -EINVAL);
	assert_int_equal(invlock_cache_fd(NULL), -EINVAL);
	assert_int_equal(invlock_cache_close(NULL), 0);
}

TEST(a_pin_is_put_once)
{
	struct invlock_pin a = get(mem, PAGE), copy = a, none = {};

	assert_int_equal(invlock_cache_put(&a), 0);
	assert_int_equal(invlock_cache_put(&a), -EINVAL);
	assert_int_equal(invlock_cache_put(&copy), -EINVAL);
	/* A stale copy of a pin is refused even when its slot holds the same region again. */
	a = get(mem, PAGE);
	assert_int_equal(invlock_cache_put(&copy), -EINVAL);
	put(a);
	assert_int_equal(invlock_cache_put(NULL), -EINVAL);
	assert_int_equal(invlock_cache_put(&none), -EINVAL);
}

TEST(close_is_refused_and_does_not_wait_while_a_pin_is_held)
{
	struct invlock_pin a = get(mem, PAGE), b;

	assert_int_equal(invlock_cache_close(fake.cache), -EBUSY);
	b = get(mem, PAGE);
	put(b);
	put(a);
}

TEST(a_put_after_close_is_an_error)
{
	struct invlock_pin a = get(mem, PAGE), copy = a;

	put(a);
	fake_close(&fake);
	assert_int_equal(invlock_cache_put(&copy), -EINVAL);
	fake_open(&fake, NULL);
}

TEST(bypass_registers_for_one_pin_and_keeps_nothing)
{
	struct invlock_pin a, b;

	assert_int_equal(invlock_cache_get(fake.cache, mem, PAGE, INVLOCK_GET_BYPASS, &a), 0);
	assert_int_equal(invlock_cache_get(fake.cache, mem, PAGE, INVLOCK_GET_BYPASS, &b), 0);
	assert_int_not_equal(a.handle, b.handle);
	put(a);
	assert_false(fake_is_live(&fake, a.handle));
	assert_true(fake_is_live(&fake, b.handle));
	put(b);
	assert_int_equal(fake.nr_live, 0);
	assert_int_equal(invlock_cache_get(fake.cache, mem, PAGE, INVLOCK_GET_CACHED, &a), -ENOENT);
	assert_int_equal(fake_stats(&fake).bypassed, 2);
}

TEST(a_get_of_cached_entries_alone_never_registers)
{
	struct invlock_pin pin;

	assert_int_equal(invlock_cache_get(fake.cache, mem, PAGE, INVLOCK_GET_CACHED, &pin),
			 -ENOENT);
	put(get(mem, PAGE));
	assert_int_equal(invlock_cache_get(fake.cache, mem, PAGE, INVLOCK_GET_CACHED, &pin), 0);
	put(pin);
	assert_int_equal(fake.nr_reg, 1);
}

TEST(drop_removes_what_overlaps_and_spares_what_is_pinned)
{
	struct invlock_pin a = get(mem, 2 * PAGE);

	put(get(mem + 4 * PAGE, PAGE));
	put(get(mem + 9 * PAGE, PAGE));
	assert_int_equal(invlock_cache_drop(fake.cache, mem + PAGE, 4 * PAGE), 2);
	assert_int_equal(fake.nr_dereg, 1);
	assert_true(fake_is_live(&fake, a.handle));
	put(a);
	assert_int_equal(invlock_cache_reap(fake.cache), 1);
	assert_int_equal(fake_stats(&fake).entries, 1);
	/* for so small a range drop looks up one address instead of searching the index */
	assert_int_equal(invlock_cache_drop(fake.cache, mem + 9 * PAGE + 1, 1), 1);
	assert_int_equal(invlock_cache_drop(fake.cache, mem + 9 * PAGE + 1, 1), 0);
	assert_int_equal(fake_stats(&fake).entries, 0);
}

TEST(an_entry_limit_evicts_idle_entries_and_never_pinned_ones)
{
	struct invlock_cache_options o = { .size = sizeof(o), .max_entries = 8 };
	struct invlock_pin kept[7], pin;

	fake_close(&fake);
	fake_open(&fake, &o);
	for (int i = 0; i < 7; i++)
		kept[i] = get(mem + i * PAGE, PAGE);
	for (int i = 0; i < 100; i++)
		put(get(mem + (100 + i) * PAGE, PAGE));
	for (int i = 0; i < 7; i++)
		assert_true(fake_is_live(&fake, kept[i].handle));
	assert_true(fake.nr_live <= 8);
	/* All seven are still in the index. */
	for (int i = 0; i < 7; i++) {
		pin = get(mem + i * PAGE, PAGE);
		assert_int_equal(pin.handle, kept[i].handle);
		put(pin);
	}
	pin = get(mem + 900 * PAGE, PAGE);
	assert_int_equal(invlock_cache_get(fake.cache, mem + 901 * PAGE, PAGE, 0, &kept[0]),
			 -ENOSPC);
	put(pin);
	assert_int_equal(fake_stats(&fake).refused_full, 1);
	for (int i = 0; i < 7; i++)
		put(kept[i]);
}

TEST(a_byte_limit_counts_what_is_registered)
{
	struct invlock_cache_options o = { .size = sizeof(o), .max_bytes = 10 * PAGE };
	struct invlock_pin pin;

	fake_close(&fake);
	fake_open(&fake, &o);
	for (int i = 0; i < 50; i++) {
		put(get(mem + 16 * i * PAGE, (1 + i % 10) * PAGE));
		assert_true(fake_stats(&fake).bytes <= 10 * PAGE);
	}
	assert_int_equal(invlock_cache_get(fake.cache, mem, 11 * PAGE, 0, &pin), -ENOSPC);
	assert_true(fake_stats(&fake).entries > 0);
}

TEST(an_error_of_reg_is_passed_on_and_nothing_is_kept)
{
	struct invlock_pin pin;

	fake.fail_with = -EFAULT;
	fake.fail_times = 1;
	assert_int_equal(invlock_cache_get(fake.cache, mem, PAGE, 0, &pin), -EFAULT);
	assert_int_equal(fake_stats(&fake).entries, 0);
	assert_int_equal(fake_stats(&fake).bytes, 0);
	assert_int_equal(fake_stats(&fake).refused_reg, 1);
	fake.fail_with = 5;
	fake.fail_times = 1;
	assert_int_equal(invlock_cache_get(fake.cache, mem, PAGE, 0, &pin), -EIO);
	/* an error that could be mistaken for a collision is passed on, too */
	fake.fail_with = -EAGAIN;
	fake.fail_times = 1;
	assert_int_equal(invlock_cache_get(fake.cache, mem, PAGE, 0, &pin), -EAGAIN);
	fake.fail_times = 0;
	put(get(mem, PAGE));
}

TEST(when_reg_has_no_memory_one_entry_is_evicted_and_reg_tried_once_more)
{
	struct invlock_pin pin;

	put(get(mem + 100 * PAGE, PAGE));
	fake.fail_with = -ENOMEM;
	fake.fail_times = 1;
	pin = get(mem, PAGE);
	put(pin);
	assert_int_equal(fake_stats(&fake).evicted, 1);
	fake.fail_times = 2;
	assert_int_equal(invlock_cache_get(fake.cache, mem + 7 * PAGE, PAGE, 0, &pin), -ENOMEM);
	fake.fail_times = 0;
}

static void change_once(struct fake_device *t, void *addr, size_t len)
{
	t->during_reg = NULL;
	fake_change(t, addr, len);
}

static void change_always(struct fake_device *t, void *addr, size_t len)
{
	fake_change(t, addr, len);
}

TEST(a_change_during_reg_undoes_it_and_goes_round)
{
	struct invlock_pin pin;

	fake.during_reg = change_once;
	pin = get(mem, PAGE);
	put(pin);
	assert_int_equal(fake.nr_reg, 2);
	assert_int_equal(fake.nr_dereg, 1);
	assert_int_equal(fake_stats(&fake).collided, 1);
	fake.during_reg = change_always;
	assert_int_equal(invlock_cache_get(fake.cache, mem + PAGE, PAGE, 0, &pin), -EBUSY);
	assert_int_equal(fake.nr_live, 1);
	assert_int_equal(fake_stats(&fake).refused_busy, 1);
	fake.during_reg = NULL;
}

static struct invlock_pin inner[3];
static int nr_inner;

static void call_back(struct fake_device *t, void *addr, size_t len)
{
	int err;

	(void)len;
	if (nr_inner == 3)
		return;
	err = invlock_cache_get(t->cache, (char *)addr + 64 * PAGE, PAGE, 0, &inner[nr_inner++]);
	if (err)
		abort();
}

TEST(reg_and_dereg_may_call_back_into_the_cache)
{
	struct invlock_pin pin;

	nr_inner = 0;
	fake.during_reg = call_back;
	pin = get(mem, PAGE);
	fake.during_reg = NULL;
	assert_int_equal(nr_inner, 3);
	for (int i = 0; i < 3; i++) {
		assert_int_not_equal(inner[i].handle, pin.handle);
		put(inner[i]);
	}
	put(pin);
	nr_inner = 0;
	fake.during_dereg = call_back;
	fake_change(&fake, mem, PAGE);
	assert_int_equal(invlock_cache_reap(fake.cache), 1);
	fake.during_dereg = NULL;
	assert_int_equal(nr_inner, 1);
	put(inner[0]);
}

TEST(a_granule_that_cannot_be_registered_falls_back_to_pages)
{
	struct invlock_cache_options o = { .size = sizeof(o), .granule = 2 << 20 };
	struct invlock_pin pin;

	fake_close(&fake);
	fake_open(&fake, &o);
	pin = get(mem + 5 * PAGE, PAGE);
	assert_int_equal(pin.len, 2 << 20);
	put(pin);
	fake.fail_with = -EFAULT;
	fake.fail_times = 1;
	pin = get(mem + (8 << 20) + 5 * PAGE, PAGE);
	assert_int_equal(pin.len, PAGE);
	put(pin);
}

TEST(a_granule_that_the_limit_has_no_room_for_falls_back_to_pages)
{
	struct invlock_cache_options o = {
		.size = sizeof(o), .granule = 2 << 20, .max_bytes = 4 * PAGE,
	};
	struct invlock_pin pin;

	fake_close(&fake);
	fake_open(&fake, &o);
	pin = get(mem + 5 * PAGE, 2 * PAGE);
	assert_int_equal(pin.len, 2 * PAGE);
	put(pin);
}

TEST(options_are_checked)
{
	struct invlock_cache_options good = {
		.size = sizeof(good), .ops = { fake_reg, fake_dereg }, .ctx = &fake,
	}, o;
	struct invlock_cache *cache = (void *)1;
	struct invlock_why why;

	assert_int_equal(invlock_cache_open(NULL, &good, &cache, &why), -EINVAL);
	assert_int_equal(invlock_cache_open(fake.mm, NULL, &cache, &why), -EINVAL);
	assert_int_equal(invlock_cache_open(fake.mm, &good, NULL, &why), -EINVAL);
#define REFUSED(field, value)							\
	do {									\
		o = good;							\
		o.field = value;						\
		assert_int_equal(invlock_cache_open(fake.mm, &o, &cache, &why), -EINVAL); \
		assert_true(why.text[0]);					\
	} while (0)
	REFUSED(size, 8);
	REFUSED(flags, 1u << 30);
	REFUSED(ops.reg, NULL);
	REFUSED(ops.dereg, NULL);
	REFUSED(max_entries, ~0u);
	REFUSED(granule, PAGE - 1);
	REFUSED(granule, 12288);
	REFUSED(granule, 512);
#undef REFUSED
	assert_ptr_equal(cache, (void *)1);
}

/* A program that forgets the size passes whatever lies there. */
TEST(options_with_a_size_that_no_version_has_are_not_read)
{
	char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);
	struct invlock_cache_options *o = (void *)(pages + PAGE - sizeof(*o));
	struct invlock_cache *cache;
	struct invlock_why why;

	assert_int_equal(mprotect(pages + PAGE, PAGE, PROT_NONE), 0);
	*o = (struct invlock_cache_options){ .size = SIZE_MAX, .ops = { fake_reg, fake_dereg } };
	assert_int_equal(invlock_cache_open(fake.mm, o, &cache, &why), -EINVAL);
	assert_non_null(strstr(why.text, "set it to sizeof(struct invlock_cache_options)"));
	munmap(pages, 2 * PAGE);
}

TEST(a_process_has_room_for_thousands_of_caches_and_one_more_is_refused)
{
	struct invlock_cache_options o = {
		.size = sizeof(o), .ops = { fake_reg, fake_dereg }, .ctx = &fake, .max_entries = 4,
	};
	static struct invlock_cache *caches[THREAD_COUNTERS];
	struct invlock_why why;
	struct invlock_pin pin;

	/* the rig has one */
	for (int i = 1; i < THREAD_COUNTERS; i++) {
		assert_int_equal(invlock_cache_open(fake.mm, &o, &caches[i], NULL), 0);
		assert_int_equal(invlock_cache_get(caches[i], mem, PAGE, 0, &pin), 0);
		put(pin);
	}
	assert_int_equal(invlock_cache_open(fake.mm, &o, &caches[0], &why), -EMFILE);
	assert_non_null(strstr(why.text, "4100"));
	/* each has hits of its own, also when its number was another's before */
	for (int i = 1; i < THREAD_COUNTERS; i += 100) {
		struct invlock_cache_stats s = { .size = sizeof(s) };

		assert_int_equal(invlock_cache_get(caches[i], mem, PAGE, 0, &pin), 0);
		put(pin);
		assert_int_equal(invlock_cache_stats(caches[i], &s), 0);
		assert_int_equal(s.hits, 1);
		assert_int_equal(invlock_cache_close(caches[i]), 0);
		assert_int_equal(invlock_cache_open(fake.mm, &o, &caches[i], NULL), 0);
		assert_int_equal(invlock_cache_stats(caches[i], &s), 0);
		assert_int_equal(s.hits, 0);
	}
	for (int i = 1; i < THREAD_COUNTERS; i++)
		assert_int_equal(invlock_cache_close(caches[i]), 0);
	assert_int_equal(invlock_cache_open(fake.mm, &o, &caches[0], NULL), 0);
	assert_int_equal(invlock_cache_close(caches[0]), 0);
}

TEST(more_pins_than_a_record_has_slots_can_be_held_at_once)
{
	struct invlock_pin pins[1000];

	for (int i = 0; i < 1000; i++)
		pins[i] = get(mem + (i % 10) * PAGE, PAGE);
	fake_change(&fake, mem, 10 * PAGE);
	assert_int_equal(invlock_cache_reap(fake.cache), 0);
	for (int i = 0; i < 1000; i++)
		put(pins[i]);
	assert_int_equal(invlock_cache_reap(fake.cache), 10);
}

TEST(thousands_of_entries_come_and_go)
{
	for (int i = 0; i < 20000; i++)
		put(get(mem + i * PAGE, PAGE));
	for (int i = 0; i < 20000; i++)
		put(get(mem + i * PAGE, PAGE));
	assert_int_equal(fake.nr_reg, 20000);
	fake_change(&fake, NULL, 0);
	assert_int_equal(invlock_cache_reap(fake.cache), 20000);
	for (int i = 0; i < 5000; i++)
		put(get(mem + i * PAGE, PAGE));
	assert_int_equal(fake_stats(&fake).entries, 5000);
}

TEST_MAIN(.setup = setup, .teardown = teardown)
