// SPDX-License-Identifier: MIT
/*
 * The uffd monitor through the public functions: the section and the cache watch a range in time.
 */
#include <fcntl.h>
#include <invlock/cache.h>
#include <invlock/section.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "rig.h"

static struct invlock_mm *mm;

/* never spent, however long the monitor's thread gets no CPU */
#define LONG_NS	60000000000
static const struct invlock_read_budget patient = { .rounds = 64, .time_ns = LONG_NS };

static void replace(void *p)
{
	assert_ptr_equal(map_at(p, PAGE, MAP_FIXED), p);
}

#define OPEN_MM()							\
do {									\
	struct invlock_mm_options mm_options = {			\
		.size = sizeof(mm_options), .monitor = "uffd",		\
		.need = monitor_uffd.seen,				\
	};								\
	struct invlock_why open_why;					\
	int open_err = invlock_mm_open(&mm_options, &mm, &open_why);	\
									\
	if (open_err == -ENOSYS || open_err == -EPERM || open_err == -EOPNOTSUPP) \
		TEST_SKIP("%.190s", open_why.text);			\
	if (open_err)							\
		fail_msg("open: %d, %s", open_err, open_why.text);	\
} while (0)

TEST(a_section_watches_the_mapping_that_it_samples)
{
	struct invlock_read rd;
	char *p;

	OPEN_MM();
	p = map_at(NULL, PAGE, 0);
	invlock_read_init(&rd, mm, p, PAGE, &patient, 0);
	/* The mapping that exists at the init is not the one that is translated. */
	replace(p);
	assert_true(invlock_read_attempt(&rd));
	/* replaced once more, between two rounds */
	replace(p);
	assert_false(invlock_read_commit(&rd));
	assert_true(invlock_read_attempt(&rd));
	assert_true(invlock_read_commit(&rd));
	assert_true(invlock_read_valid(&rd));
	replace(p);
	assert_false(invlock_read_valid(&rd));
	invlock_read_end(&rd);
	assert_false(kernel_watches(p));
	munmap(p, PAGE);
	invlock_mm_close(mm);
}

TEST(a_section_over_a_hole_ends_with_the_monitors_error)
{
	struct invlock_read rd;
	char *p;

	OPEN_MM();
	p = map_at(NULL, 2 * PAGE, 0);
	munmap(p + PAGE, PAGE);
	invlock_read_init(&rd, mm, p, 2 * PAGE, NULL, 0);
	assert_false(invlock_read_attempt(&rd));
	assert_int_equal(invlock_read_error(&rd), -EFAULT);
	assert_false(invlock_read_commit(&rd));
	assert_false(invlock_read_valid(&rd));
	invlock_read_end(&rd);
	munmap(p, PAGE);
	invlock_mm_close(mm);
}

TEST(a_program_that_needs_an_unseen_kind_is_refused_and_the_kind_named)
{
	struct invlock_mm_options o = { .size = sizeof(o), .monitor = "uffd" };
	struct invlock_why why;

	assert_int_equal(invlock_mm_open(&o, &mm, &why), -EOPNOTSUPP);
	assert_non_null(strstr(why.text, "uffd"));
}

static unsigned int nr_regs;

static int reg(void *ctx, void *addr, size_t len, uint64_t *ret_handle)
{
	(void)ctx;
	(void)addr;
	(void)len;
	*ret_handle = ++nr_regs;
	return 0;
}

static void dereg(void *ctx, void *addr, size_t len, uint64_t handle)
{
	(void)ctx;
	(void)addr;
	(void)len;
	(void)handle;
}

TEST(a_cached_range_is_registered_again_after_each_change_and_only_then)
{
	struct invlock_cache_options o = {
		.size = sizeof(o), .ops = { reg, dereg }, .need = monitor_uffd.seen,
		.time_ns = LONG_NS,
	};
	struct invlock_cache *cache;
	struct invlock_pin pin;
	char *p;

	OPEN_MM();
	assert_int_equal(invlock_cache_open(mm, &o, &cache, NULL), 0);
	p = map_at(NULL, PAGE, 0);
	for (unsigned int i = 1; i <= 1000; i++) {
		for (int j = 0; j < 3; j++) {
			assert_int_equal(invlock_cache_get(cache, p, PAGE, 0, &pin), 0);
			assert_int_equal(pin.handle, i);
			assert_int_equal(invlock_cache_put(&pin), 0);
		}
		replace(p);
	}
	assert_int_equal(invlock_cache_close(cache), 0);
	assert_false(kernel_watches(p));
	munmap(p, PAGE);
	invlock_mm_close(mm);
}

#define NEED	(INVLOCK_KINDS_DEFAULT & ~(INVLOCK_BIT(GUARD) | INVLOCK_BIT(SHM_REMAP)))

static int get_and_put(struct invlock_cache *cache, void *p)
{
	struct invlock_pin pin;
	int err = invlock_cache_get(cache, p, PAGE, 0, &pin);

	return err ? err : invlock_cache_put(&pin);
}

TEST(all_but_private_anonymous_memory_is_refused_so_no_more_kinds_need_be_seen)
{
	struct invlock_mm_options m = { .size = sizeof(m), .monitor = "uffd", .need = NEED };
	struct invlock_cache_options o = {
		.size = sizeof(o), .ops = { reg, dereg }, .need = NEED, .time_ns = LONG_NS,
	};
	struct invlock_cache_stats stats = { .size = sizeof(stats) };
	int fd = memfd_create("refused", MFD_CLOEXEC);
	struct invlock_cache *cache;
	struct invlock_why why;
	char *p;

	OPEN_MM();
	invlock_mm_close(mm);
	assert_int_equal(invlock_mm_open(&m, &mm, NULL), 0);
	assert_int_equal(invlock_cache_open(mm, &o, &cache, NULL), 0);
	assert_int_equal(ftruncate(fd, PAGE), 0);
	p = map_at(NULL, 3 * PAGE, 0);
	assert_ptr_equal(mmap(p, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0), p);
	assert_ptr_equal(mmap(p + PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0),
			 p + PAGE);
	assert_int_equal(get_and_put(cache, p), -EMEDIUMTYPE);
	assert_int_equal(invlock_mm_explain(mm, p, PAGE, &why), -EMEDIUMTYPE);
	assert_non_null(strstr(why.text, "memfd:refused"));
	assert_int_equal(get_and_put(cache, p + PAGE), -EMEDIUMTYPE);
	assert_int_equal(get_and_put(cache, p + 2 * PAGE), 0);
	assert_int_equal(get_and_put(cache, p + 2 * PAGE - 1), -EMEDIUMTYPE);
	assert_int_equal(get_and_put(cache, NULL), -EINVAL);
	assert_int_equal(invlock_cache_stats(cache, &stats), 0);
	assert_int_equal(stats.refused_shared, 1);
	assert_int_equal(stats.refused_private, 2);
	assert_int_equal(stats.refused_memory, 3);
	/* the stack and malloc's memory are accepted */
	assert_int_equal(get_and_put(cache, &why), 0);
	assert_int_equal(invlock_cache_close(cache), 0);
	munmap(p, 3 * PAGE);
	close(fd);
	invlock_mm_close(mm);
}

/* 0 or the errno of an ioctl on a userfaultfd of the program's own */
static int own_ioctl(int fd, bool begin, char *p)
{
	struct uffdio_register r = {
		.range = { (unsigned long)p, PAGE }, .mode = UFFDIO_REGISTER_MODE_WP,
	};

	return ioctl(fd, begin ? UFFDIO_REGISTER : UFFDIO_UNREGISTER, &r) ? errno : 0;
}

TEST(memory_that_the_programs_own_userfaultfd_watches_is_refused_and_the_other_way_round)
{
	struct invlock_cache_options o = {
		.size = sizeof(o), .ops = { reg, dereg }, .need = monitor_uffd.seen,
		.time_ns = LONG_NS,
	};
	struct uffdio_api api = { .api = UFFD_API };
	struct invlock_cache *cache;
	struct invlock_why why;
	char *p;
	int fd;

	OPEN_MM();
	fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	assert_true(fd >= 0 && !ioctl(fd, UFFDIO_API, &api));
	assert_int_equal(invlock_cache_open(mm, &o, &cache, NULL), 0);
	p = map_at(NULL, PAGE, 0);
	/* theirs first */
	assert_int_equal(own_ioctl(fd, true, p), 0);
	assert_int_equal(get_and_put(cache, p), -EMEDIUMTYPE);
	assert_int_equal(invlock_mm_explain(mm, p, PAGE, &why), -EMEDIUMTYPE);
	assert_non_null(strstr(why.text, "another userfaultfd"));
	assert_int_equal(own_ioctl(fd, false, p), 0);
	assert_int_equal(get_and_put(cache, p), 0);
	/* ours first, until it is dropped */
	assert_int_equal(own_ioctl(fd, true, p), EBUSY);
	assert_int_equal(invlock_cache_drop(cache, p, PAGE), 1);
	assert_int_equal(own_ioctl(fd, true, p), 0);
	assert_int_equal(invlock_cache_close(cache), 0);
	close(fd);
	munmap(p, PAGE);
	invlock_mm_close(mm);
}

TEST_MAIN()
