// SPDX-License-Identifier: MIT
/* Staleness as the data shows it: what is read must arrive in the memory that the program sees. */
#include "rig.h"

#define LEN	MIB	/* beyond malloc's threshold: free() unmaps */

/* Changes of [buf, buf + LEN): it stays mapped, and gets other pages. */
static bool unmap_and_map(unsigned char *buf)
{
	return !munmap(buf, LEN) &&
	       mmap(buf, LEN, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == buf;
}

static bool map_over(unsigned char *buf)
{
	return mmap(buf, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		    -1, 0) == buf;
}

static bool discard(unsigned char *buf)
{
	return !madvise(buf, LEN, MADV_DONTNEED);
}

static bool move_onto(unsigned char *buf)
{
	return mremap(memory(LEN, 0), LEN, LEN, MREMAP_MAYMOVE | MREMAP_FIXED, buf) == buf;
}

static const struct {
	const char *name;
	bool (*make)(unsigned char *buf);
} changes[] = {
	{ "munmap and mmap", unmap_and_map },
	{ "mmap MAP_FIXED", map_over },
	{ "MADV_DONTNEED", discard },
	{ "mremap onto it", move_onto },
};

#define NR_CHANGES	(sizeof(changes) / sizeof(changes[0]))

/* How many of two requests, a read and a write, miss the new memory, over all kinds of change. */
static unsigned int stale_after_each_change(struct rig *rig, bool report)
{
	unsigned char *buf = memory(LEN, 0), *in = memory(LEN, 0);
	unsigned int nr = 0;
	int way;

	for (unsigned int i = 0; i < NR_CHANGES; i++) {
		for (int write = 0; write < 2; write++) {
			assert_int_equal(read_one(rig, rig->fd, buf, LEN, MIB, &way), LEN);
			assert_int_equal(way, INVLOCK_URING_FIXED);
			if (report)
				invlock_manual_start(rig->mm, buf, LEN);
			assert_true(changes[i].make(buf));
			if (report)
				invlock_manual_end(rig->mm, buf, LEN);
			memset(buf, 0xee, LEN);
			if (write) {
				write_one(rig, rig->fd, buf, LEN, 3 * MIB, &way);
				assert_int_equal(pread(rig->fd, in, LEN, 3 * MIB), LEN);
				nr += memcmp(in, buf, LEN) != 0;
			} else {
				read_one(rig, rig->fd, buf, LEN, 2 * MIB, &way);
				nr += !holds(buf, 2 * MIB, LEN);
			}
			assert_int_equal(way, INVLOCK_URING_FIXED);
		}
	}
	/* The adapter must forget the range before the next test maps something there. */
	assert_true(invlock_cache_drop(invlock_uring_cache(rig->uring), buf, LEN) >= 0);
	munmap(buf, LEN);
	munmap(in, LEN);
	return nr;
}

TEST(after_a_reported_change_data_goes_to_the_new_memory)
{
	struct rig rig;

	RIG_OPEN(&rig, "manual", 0, NULL);
	assert_int_equal(stale_after_each_change(&rig, true), 0);
	assert_int_equal(cache_stats(&rig).stale, 2 * NR_CHANGES);
	rig_close(&rig);
}

/* What the other tests would find if changes were not reported, or not checked for. */
TEST(after_an_unreported_change_data_goes_to_memory_that_is_gone)
{
	struct rig rig;

	RIG_OPEN(&rig, "manual", 0, NULL);
	assert_int_equal(stale_after_each_change(&rig, false), 2 * NR_CHANGES);
	assert_int_equal(cache_stats(&rig).stale, 0);
	rig_close(&rig);
}

TEST_PLANTED(no_check, without_validation_data_goes_to_memory_that_is_gone)
{
	struct rig rig;

	RIG_OPEN(&rig, "manual", 0, NULL);
	assert_int_equal(stale_after_each_change(&rig, true), 2 * NR_CHANGES);
	rig_close(&rig);
}

TEST(with_the_bpf_monitor_no_change_need_be_reported)
{
	struct rig rig;

	RIG_OPEN(&rig, "bpf", 0, NULL);
	assert_int_equal(stale_after_each_change(&rig, false), 0);
	rig_close(&rig);
}

static unsigned char *page_in(unsigned char *mem)
{
	return mem + (-(uintptr_t)mem & 4095);
}

/* The usual way to get a stale buffer: no call in sight changes the map. For the bpf monitor. */
TEST(after_free_and_malloc_data_goes_to_the_new_memory)
{
	unsigned int nr_same = 0;
	struct rig rig;
	uintptr_t was;
	int way;

	RIG_OPEN(&rig, "bpf", 0, NULL);
	for (int i = 0; i < 20; i++) {
		unsigned char *old = malloc(LEN), *new;

		assert_int_equal(read_one(&rig, rig.fd, page_in(old), LEN / 2, 0, &way), LEN / 2);
		assert_int_equal(way, INVLOCK_URING_FIXED);
		was = (uintptr_t)old;
		free(old);
		new = malloc(LEN);
		nr_same += (uintptr_t)new == was;
		memset(new, 0xee, LEN);
		assert_int_equal(read_one(&rig, rig.fd, page_in(new), LEN / 2, MIB, &way), LEN / 2);
		assert_true(holds(page_in(new), MIB, LEN / 2));
		free(new);
	}
	rig_close(&rig);
	/* as happens under AddressSanitizer */
	if (!nr_same)
		TEST_SKIP("the allocator did not reuse an address");
}

TEST_MAIN()
