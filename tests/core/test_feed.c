// SPDX-License-Identifier: MIT
/* Making and checking feeds: what invlock_attach() must refuse. */
#include "tests/test.h"
#include "tests/core/rig.h"

TEST(bytes_of_a_feed_are_header_words_and_events)
{
	assert_int_equal(invlock_feed_bytes(1, 0), 4096 + 8);
	assert_int_equal(invlock_feed_bytes(4096, 65536), 4096 + 4096 * 8 + 65536 * 40);
}

TEST(zero_stripes_or_a_number_that_is_no_power_of_two_are_refused)
{
	static const u32 bad_words[] = { 0, 3, 6, 4095, 1u << 21, 1u << 31, ~0u };
	static const u32 bad_events[] = { 3, 65535, 1u << 25, ~0u };
	unsigned char mem[8192] __attribute__((aligned(64))) = {};

	for (unsigned int i = 0; i < sizeof(bad_words) / sizeof(*bad_words); i++) {
		assert_int_equal(invlock_feed_bytes(bad_words[i], 16), 0);
		assert_int_equal(invlock_feed_format(mem, sizeof(mem), bad_words[i], 0, 21),
				 -EINVAL);
	}
	for (unsigned int i = 0; i < sizeof(bad_events) / sizeof(*bad_events); i++)
		assert_int_equal(invlock_feed_bytes(16, bad_events[i]), 0);
}

TEST(format_refuses_null_too_little_memory_and_a_wild_shift)
{
	unsigned char mem[8192] __attribute__((aligned(64))) = {};

	assert_int_equal(invlock_feed_format(NULL, 8192, 1, 0, 21), -EINVAL);
	assert_int_equal(invlock_feed_format(mem, 4096, 1, 0, 21), -EINVAL);
	assert_int_equal(invlock_feed_format(mem, sizeof(mem), 1, 0, 11), -EINVAL);
	assert_int_equal(invlock_feed_format(mem, sizeof(mem), 1, 0, 41), -EINVAL);
	assert_int_equal(invlock_feed_format(mem, sizeof(mem), 1, 0, 21), 0);
}

TEST(attach_refuses_null_a_short_mapping_and_a_misaligned_address)
{
	struct invlock untouched = { .word_mask = 77 }, il = untouched;
	struct test_feed f;

	feed_make(&f, 16, 16);
	assert_int_equal(invlock_attach(&il, NULL, f.bytes), -EINVAL);
	assert_int_equal(invlock_attach(&il, f.mem, 4095), -EINVAL);
	assert_int_equal(invlock_attach(&il, (char *)f.mem + 8, f.bytes - 8), -EINVAL);
	assert_int_equal(invlock_attach(&il, f.mem, 4096), -EPROTO);
	assert_memory_equal(&il, &untouched, sizeof(il));
	feed_free(&f);
}

TEST(attach_distinguishes_another_version_from_a_corrupt_header)
{
	struct test_feed f;
	struct invlock_feed *h;

	feed_make(&f, 16, 16);
	h = f.mem;
	h->version++;
	assert_int_equal(invlock_attach(&f.il, f.mem, f.bytes), -EPROTONOSUPPORT);
	h->version--;
	h->magic ^= 1;
	assert_int_equal(invlock_attach(&f.il, f.mem, f.bytes), -EPROTO);
	feed_free(&f);
}

/* Each field of the header is set to values that would lead outside the mapping. */
TEST(attach_never_accepts_geometry_that_leads_outside)
{
	static const u32 wild[] = { 0, 1, 2, 7, 15, 17, 4095, 4097, 1u << 20, 1u << 30, 1u << 31,
				    ~0u, ~0u - 7 };
	struct test_feed f;
	struct invlock_feed *h, good;

	feed_make(&f, 16, 16);
	h = f.mem;
	memcpy(&good, h, sizeof(good));
	for (unsigned int i = 0; i < sizeof(wild) / sizeof(*wild); i++) {
		u32 *fields[] = { &h->size, &h->nr_words, &h->nr_events, &h->stripe_shift,
				  &h->words_offset, &h->events_offset };

		for (unsigned int j = 0; j < sizeof(fields) / sizeof(*fields); j++) {
			*fields[j] = wild[i];
			if (!invlock_attach(&f.il, f.mem, f.bytes)) {
				u8 *last_word = (u8 *)&f.il.words[f.il.word_mask + 1];
				u8 *last_event = !f.il.events ? NULL :
					(u8 *)&f.il.events[f.il.event_mask + 1];

				assert_true(last_word <= (u8 *)f.mem + f.bytes);
				assert_true(last_event <= (u8 *)f.mem + f.bytes);
				assert_true((u8 *)f.il.words >= (u8 *)f.mem + 4096);
			}
			memcpy(h, &good, sizeof(good));
		}
	}
	h->feed_size = f.bytes + 1;
	assert_int_equal(invlock_attach(&f.il, f.mem, f.bytes), -EPROTO);
	feed_free(&f);
}

TEST_MAIN()
