// SPDX-License-Identifier: MIT
/* Which memory may be fixed, what a file asks of it, and pools that are registered at once. */
#include <fcntl.h>

#include "adapters/uring/adapter.h"
#include "rig.h"

#define PIECE	(16 * KIB)
#define NR_POOL	32

TEST(the_kernels_version_tells_whether_fixed_requests_ask_more_of_memory)
{
	static const char *const no_more[] = { "6.18.0", "6.18-rc1", "6.19.3-cloud", "7.0.1",
					       "10.2" };
	static const char *const more[] = { "6.17.12", "6.0.0", "6.1.0-49-amd64", "5.14.0-503.el9",
					    "", "rubbish" };

	for (unsigned int i = 0; i < sizeof(no_more) / sizeof(*no_more); i++)
		assert_true(fixed_asks_no_more(no_more[i]));
	for (unsigned int i = 0; i < sizeof(more) / sizeof(*more); i++)
		assert_false(fixed_asks_no_more(more[i]));
}

TEST(memory_of_malloc_is_fixed_without_an_option)
{
	unsigned char *buf = malloc(BUF + 16);
	struct rig rig;
	int way, fd = known_file(0);

	if (default_align() != 1)
		TEST_SKIP("this kernel may ask more of the memory of fixed requests: before 6.18");
	RIG_OPEN(&rig, "manual", 0, NULL);
	assert_true(fd >= 0);
	for (int shift = 0; shift < 16; shift += 8) {
		assert_int_equal(read_one(&rig, fd, buf + shift, BUF, 4096, &way), BUF);
		assert_int_equal(way, INVLOCK_URING_FIXED);
		assert_true(holds(buf + shift, 4096, BUF));
	}
	rig_close(&rig);
	close(fd);
	free(buf);
}

/* by default, and with what the file says: a fixed request is served where a plain one is */
static void read_at_each_shift(unsigned int align)
{
	const struct invlock_uring_options o = {
		.size = sizeof(o), .align = align, .flags = INVLOCK_URING_NO_REAPER,
	};
	unsigned char *buf = memory(2 * BUF, 0);
	struct rig rig;

	RIG_OPEN(&rig, "manual", 0, &o);
	for (unsigned int shift = 0; shift < 4096; shift += 256) {
		bool plain = pread(rig.fd, buf + shift, BUF, 4096) == BUF;
		int way, res = read_one(&rig, rig.fd, buf + shift, BUF, 4096, &way);

		assert_int_equal(res, plain ? (int)BUF : -EINVAL);
		assert_true(!plain || holds(buf + shift, 4096, BUF));
		if (!(shift % (align ? align : default_align())))
			assert_int_equal(way, INVLOCK_URING_FIXED);
	}
	rig_close(&rig);
	munmap(buf, 2 * BUF);
}

TEST(direct_io_into_any_place_of_a_page_goes_as_it_would_without_the_adapter)
{
	read_at_each_shift(0);
}

TEST(a_file_says_what_it_asks_and_that_is_served)
{
	int buffered = known_file(0), direct = known_file(O_DIRECT), align;

	if (direct < 0)
		TEST_SKIP("no file with O_DIRECT here");
	assert_int_equal(invlock_uring_file_align(buffered), 1);
	align = invlock_uring_file_align(direct);
	assert_true(align >= 1 && align <= 4096 && !(align & (align - 1)));
	if (default_align() == 1)
		assert_int_equal(align, 1);
	read_at_each_shift(align);
	close(direct);
	assert_int_equal(invlock_uring_file_align(direct), -EBADF);
	close(buffered);
}

/* ---- pools ---- */

/* read into each buffer of the pool, twice; the number of requests that were fixed */
static unsigned int use_pool(struct rig *rig, unsigned char *pool)
{
	unsigned int nr_fixed = 0;
	int way;

	for (int i = 0; i < 2 * NR_POOL; i++) {
		unsigned char *buf = pool + i % NR_POOL * PIECE;

		assert_int_equal(read_one(rig, rig->fd, buf, PIECE, i * 4096, &way), PIECE);
		assert_true(holds(buf, i * 4096, PIECE));
		nr_fixed += way == INVLOCK_URING_FIXED;
	}
	return nr_fixed;
}

TEST(a_pool_with_more_buffers_than_slots_is_registered_once_when_it_is_primed)
{
	const struct invlock_uring_options o = {
		.size = sizeof(o), .slots = 4, .flags = INVLOCK_URING_NO_REAPER,
	};
	unsigned char *pool = memory(NR_POOL * PIECE, 0);
	struct rig rig;

	RIG_OPEN(&rig, "manual", 0, &o);
	/* as it is without: each use registers */
	use_pool(&rig, pool);
	assert_int_equal(cache_stats(&rig).reg_calls, 2 * NR_POOL);

	assert_int_equal(invlock_uring_prime(rig.uring, pool, NR_POOL * PIECE),
			 INVLOCK_URING_FIXED);
	assert_int_equal(use_pool(&rig, pool), 2 * NR_POOL);
	assert_int_equal(cache_stats(&rig).reg_calls, 2 * NR_POOL + 1);
	assert_int_equal(cache_stats(&rig).hits, 2 * NR_POOL);

	/* a second time it is there already, and after a change it is made anew */
	assert_int_equal(invlock_uring_prime(rig.uring, pool, NR_POOL * PIECE), 0);
	assert_int_equal(cache_stats(&rig).reg_calls, 2 * NR_POOL + 1);
	replace(&rig, pool, PIECE);
	assert_int_equal(invlock_uring_prime(rig.uring, pool, NR_POOL * PIECE), 0);
	assert_int_equal(cache_stats(&rig).reg_calls, 2 * NR_POOL + 2);
	use_pool(&rig, pool);
	assert_int_equal(cache_stats(&rig).reg_calls, 2 * NR_POOL + 2);
	rig_close(&rig);
	munmap(pool, NR_POOL * PIECE);
}

TEST(a_pool_that_cannot_be_registered_says_which_way_its_requests_go)
{
	const struct invlock_uring_options o = {
		.size = sizeof(o), .max_bytes = 2 * PIECE, .flags = INVLOCK_URING_NO_REAPER,
	};
	unsigned char *pool = memory(NR_POOL * PIECE, 0);
	struct rig rig;

	RIG_OPEN(&rig, "manual", 0, &o);
	assert_int_equal(invlock_uring_prime(rig.uring, pool, 2 * PIECE), 0);
	assert_int_equal(invlock_uring_prime(rig.uring, pool, 3 * PIECE), INVLOCK_URING_LARGE);
	mprotect(pool + 4 * PIECE, PIECE, PROT_READ);
	assert_int_equal(invlock_uring_prime(rig.uring, pool + 4 * PIECE, PIECE),
			 INVLOCK_URING_REFUSED);
	assert_int_equal(invlock_uring_prime(NULL, pool, PIECE), -EINVAL);
	assert_int_equal(invlock_uring_prime(rig.uring, NULL, PIECE), -EINVAL);
	assert_int_equal(invlock_uring_prime(rig.uring, pool, 0), -EINVAL);
	assert_int_equal(invlock_uring_prime(rig.uring, pool, ~0ul), -EINVAL);
	/* nothing of it is a request */
	for (int way = 0; way < INVLOCK_URING_NR_WAYS; way++)
		assert_int_equal(uring_stats(&rig).ways[way], 0);
	rig_close(&rig);
	munmap(pool, NR_POOL * PIECE);
}

TEST_MAIN()
