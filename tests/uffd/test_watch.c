// SPDX-License-Identifier: MIT
/* Which ranges are watched: counting, merging, limits, refused ranges, and faults in them. */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#include "rig.h"

#define HUGE	(2UL << 20)

static int watch(struct rig *rig, const void *p, size_t bytes)
{
	return monitor_uffd.watch(&rig->mm, (unsigned long)p, (unsigned long)p + bytes);
}

static void unwatch(struct rig *rig, const void *p, size_t bytes)
{
	monitor_uffd.unwatch(&rig->mm, (unsigned long)p, (unsigned long)p + bytes);
}

TEST(overlapping_watches_are_counted_and_the_last_one_releases)
{
	struct rig rig;
	char *p;

	RIG_OPEN(&rig);
	p = map_at(NULL, 16 * PAGE, 0);
	assert_int_equal(watch(&rig, p, 8 * PAGE), 0);
	assert_int_equal(watch(&rig, p + 4 * PAGE, 8 * PAGE), 0);
	assert_int_equal(watch(&rig, p, 8 * PAGE), 0);
	assert_true(kernel_watches(p));
	assert_true(kernel_watches(p + 11 * PAGE));
	assert_false(kernel_watches(p + 12 * PAGE));
	unwatch(&rig, p, 8 * PAGE);
	assert_true(kernel_watches(p));
	unwatch(&rig, p, 8 * PAGE);
	assert_false(kernel_watches(p));
	assert_false(kernel_watches(p + 3 * PAGE));
	assert_true(kernel_watches(p + 4 * PAGE));
	unwatch(&rig, p + 4 * PAGE, 8 * PAGE);
	assert_false(kernel_watches(p + 4 * PAGE));
	/* Unwatching once too often, or a range that was never watched, does nothing. */
	unwatch(&rig, p, 8 * PAGE);
	unwatch(&rig, p + PAGE, PAGE);
	assert_int_equal(rig_uffd(&rig)->ranges.nr_runs, 0);
	munmap(p, 16 * PAGE);
	rig_close(&rig);
}

TEST(bytes_inside_a_page_watch_the_page)
{
	struct translation t;
	struct rig rig;
	char *p;

	RIG_OPEN(&rig);
	p = map_at(NULL, 2 * PAGE, 0);
	assert_int_equal(translate(&rig, p + 100, 8, &t), 0);
	assert_true(kernel_watches(p));
	assert_false(kernel_watches(p + PAGE));
	munmap(p, PAGE);
	assert_false(is_valid(&rig, &t));
	drop(&rig, &t);
	munmap(p + PAGE, PAGE);
	rig_close(&rig);
}

TEST(adjacent_ranges_merge_and_a_thousand_isolated_ones_are_given_back)
{
	unsigned int before, isolated;
	struct rig rig;
	char *p;

	RIG_OPEN(&rig);
	p = map_at(NULL, 2000 * PAGE, 0);
	before = count_lines("/proc/self/maps");
	for (int i = 0; i < 1000; i++)
		assert_int_equal(watch(&rig, p + 2 * i * PAGE, PAGE), 0);
	isolated = count_lines("/proc/self/maps");
	assert_true(isolated >= before + 1900);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(watch(&rig, p + (2 * i + 1) * PAGE, PAGE), 0);
	assert_int_equal(rig_uffd(&rig)->ranges.nr_runs, 1);
	assert_true(count_lines("/proc/self/maps") <= before + 4);
	for (int i = 0; i < 2000; i++)
		unwatch(&rig, p + i * PAGE, PAGE);
	assert_true(count_lines("/proc/self/maps") <= before + 4);
	assert_false(kernel_watches(p + 77 * PAGE));
	munmap(p, 2000 * PAGE);
	rig_close(&rig);
}

TEST(holes_are_refused_and_nothing_stays_watched)
{
	struct rig rig;
	char *p;

	RIG_OPEN(&rig);
	p = map_at(NULL, 8 * PAGE, 0);
	munmap(p + 3 * PAGE, PAGE);
	munmap(p + 7 * PAGE, PAGE);
	assert_int_equal(watch(&rig, p, 7 * PAGE), -EFAULT);
	assert_int_equal(watch(&rig, p, 4 * PAGE), -EFAULT);
	assert_int_equal(watch(&rig, p + 3 * PAGE, 2 * PAGE), -EFAULT);
	assert_int_equal(watch(&rig, p + 3 * PAGE, PAGE), -EFAULT);
	assert_int_equal(watch(&rig, (void *)PAGE, PAGE), -EFAULT);
	assert_int_equal(monitor_uffd.watch(&rig.mm, 0x7ffffffff000, 0x800000001000), -EFAULT);
	assert_int_equal(monitor_uffd.watch(&rig.mm, -2UL * PAGE, -1UL), -EFAULT);
	assert_false(kernel_watches(p));
	assert_false(kernel_watches(p + 4 * PAGE));
	assert_int_equal(rig_uffd(&rig)->ranges.nr_runs, 0);
	assert_int_equal(watch(&rig, p, 3 * PAGE), 0);
	unwatch(&rig, p, 3 * PAGE);
	munmap(p, 8 * PAGE);
	rig_close(&rig);
}

TEST(mappings_that_the_kernel_cannot_watch_are_refused)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	int fd = memfd_create("uffd", MFD_CLOEXEC), ro, other;
	char path[64];
	struct rig rig;
	void *p;

	RIG_OPEN(&rig);
	assert_int_equal(ftruncate(fd, PAGE), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ro = open(path, O_RDONLY | O_CLOEXEC);
	p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, ro, 0);
	assert_int_equal(watch(&rig, p, PAGE), -EMEDIUMTYPE);
	munmap(p, PAGE);
	close(ro);
	close(fd);

	/* memory that another userfaultfd has registered */
	other = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	assert_int_equal(ioctl(other, UFFDIO_API, &api), 0);
	p = map_at(NULL, 2 * PAGE, 0);
	reg.range = (struct uffdio_range){ (unsigned long)p + PAGE, PAGE };
	assert_int_equal(ioctl(other, UFFDIO_REGISTER, &reg), 0);
	assert_int_equal(watch(&rig, p, 2 * PAGE), -EMEDIUMTYPE);
	assert_int_equal(watch(&rig, p, PAGE), 0);
	unwatch(&rig, p, PAGE);
	close(other);
	munmap(p, 2 * PAGE);
	rig_close(&rig);
}

static bool has_no_huge_pages(void)
{
	FILE *f = fopen("/proc/sys/vm/nr_hugepages", "re");
	bool none = f && fgetc(f) == '0';

	if (f)
		fclose(f);
	return none;
}

static bool set_huge_pages(const char *nr)
{
	FILE *f = fopen("/proc/sys/vm/nr_hugepages", "we");

	return f && fputs(nr, f) >= 0 && !fclose(f);
}

TEST(part_of_a_hugetlb_page_is_watched_and_released)
{
	struct translation t, u;
	struct rig rig;
	char *p;

	RIG_OPEN(&rig);
	p = map_at(NULL, 2 * HUGE, MAP_HUGETLB);
	/* The pool is empty: as root, fill it for a moment. */
	if (p == MAP_FAILED && has_no_huge_pages() && set_huge_pages("4")) {
		p = map_at(NULL, 2 * HUGE, MAP_HUGETLB);
		set_huge_pages("0");
	}
	if (p == MAP_FAILED) {
		rig_close(&rig);
		TEST_SKIP("no huge pages; set vm.nr_hugepages to 4");
	}
	memset(p, 1, 2 * HUGE);
	assert_int_equal(translate(&rig, p + 5 * PAGE, PAGE, &t), 0);
	assert_int_equal(translate(&rig, p + 9 * PAGE, PAGE, &u), 0);
	assert_true(kernel_watches(p));
	assert_false(kernel_watches(p + HUGE));
	drop(&rig, &t);
	/* the other part of the same huge page is still watched */
	assert_true(kernel_watches(p));
	munmap(p, HUGE);
	assert_false(is_valid(&rig, &u));
	drop(&rig, &u);
	assert_int_equal(translate(&rig, p + HUGE + PAGE, HUGE - PAGE, &t), 0);
	assert_true(kernel_watches(p + HUGE));
	drop(&rig, &t);
	assert_false(kernel_watches(p + HUGE));
	munmap(p + HUGE, HUGE);
	rig_close(&rig);
}

TEST(the_map_limit_is_a_clean_error_and_leaves_everything_usable)
{
	unsigned long limit = 65530;
	FILE *f = fopen("/proc/sys/vm/max_map_count", "re");
	struct translation t;
	unsigned int nr = 0;
	struct rig rig;
	char *p, *q;
	int err = 0;

	RIG_OPEN(&rig);
	assert_int_equal(fscanf(f, "%lu", &limit), 1);
	fclose(f);
	if (limit > 1000000)
		TEST_SKIP("vm.max_map_count is %lu: too many mappings to make", limit);
	p = map_at(NULL, 2 * limit * PAGE, MAP_NORESERVE);
	q = map_at(NULL, 4 * PAGE, 0);
	/* our own limit is half of the kernel's */
	for (nr = 0; !err && nr < limit; nr++)
		err = watch(&rig, p + 2 * nr * PAGE, PAGE);
	assert_int_equal(err, -ENOSPC);
	assert_int_equal(nr - 1, limit / 4);
	assert_int_equal(watch(&rig, q, PAGE), -ENOSPC);
	/* A range that needs no additional mapping is still watched. */
	assert_int_equal(watch(&rig, p + PAGE, PAGE), 0);
	unwatch(&rig, p + PAGE, PAGE);
	for (unsigned int i = 0; i < nr - 1; i++)
		unwatch(&rig, p + 2 * i * PAGE, PAGE);
	assert_int_equal(rig_uffd(&rig)->ranges.nr_runs, 0);

	/* The same when the program itself has reached the kernel's limit. */
	for (unsigned int i = 0; i < limit; i++)
		if (mprotect(p + 2 * i * PAGE, PAGE, PROT_READ))
			break;
	assert_int_equal(watch(&rig, q + PAGE, PAGE), -ENOSPC);
	assert_false(kernel_watches(q + PAGE));
	assert_int_equal(rig_uffd(&rig)->ranges.nr_runs, 0);
	munmap(p, 2 * limit * PAGE);

	assert_int_equal(translate(&rig, q + PAGE, PAGE, &t), 0);
	assert_int_equal(munmap(q + PAGE, PAGE), 0);
	assert_false(is_valid(&rig, &t));
	drop(&rig, &t);
	rig_close(&rig);
}

TEST(watched_pages_that_were_never_touched_can_be_read_as_usual)
{
	static char buf[LARGEST_PAGE];
	int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	int mem = memfd_create("uffd", MFD_CLOEXEC);
	struct rig rig;
	char *p, *q;

	RIG_OPEN(&rig);
	p = map_at(NULL, 8 * PAGE, 0);
	assert_int_equal(ftruncate(mem, 8 * PAGE), 0);
	q = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, mem, 0);
	assert_int_equal(watch(&rig, p, 8 * PAGE), 0);
	assert_int_equal(watch(&rig, q, 8 * PAGE), 0);
	for (int i = 0; i < 2; i++) {
		char *m = i ? q : p;

		assert_int_equal(*(volatile char *)m, 0);
		assert_int_equal(read(fd, m + PAGE, PAGE), PAGE);
		assert_int_equal(pread(mem, m + 2 * PAGE, PAGE, 0), PAGE);
		assert_int_equal(pwrite(mem, m + 3 * PAGE, PAGE, 0), PAGE);
		*(volatile char *)(m + 4 * PAGE) = 1;
		assert_int_equal(pwrite(mem, m + 4 * PAGE, PAGE, 5 * PAGE), PAGE);
		assert_int_equal(madvise(m, 8 * PAGE, MADV_DONTNEED), 0);
		assert_int_equal(read(fd, m, 8 * PAGE), 8 * PAGE);
		assert_int_equal(memcmp(m + 6 * PAGE, buf, PAGE), 0);
	}
	rig_close(&rig);
	munmap(p, 8 * PAGE);
	munmap(q, 8 * PAGE);
	close(mem);
	close(fd);
}

TEST(a_range_that_was_moved_is_no_longer_watched_at_its_new_place)
{
	struct translation t, u;
	struct rig rig;
	char *p, *to;

	RIG_OPEN(&rig);
	p = map_at(NULL, 4 * PAGE, 0);
	to = map_at(NULL, 4 * PAGE, 0);
	assert_int_equal(translate(&rig, p, 4 * PAGE, &t), 0);
	assert_ptr_equal(mremap(p, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to), to);
	/* translate() waits until the range at the new place is quiet */
	assert_int_equal(translate(&rig, to, PAGE, &u), 0);
	assert_true(kernel_watches(to));
	assert_false(kernel_watches(to + PAGE));
	drop(&rig, &u);
	assert_false(kernel_watches(to));
	drop(&rig, &t);
	munmap(to, 4 * PAGE);
	rig_close(&rig);
}

/* The kernel splits the mapping where the watched part begins and ends: docs/monitors.md. */
TEST(a_mapping_that_is_watched_in_part_is_not_resized_until_it_is_dropped)
{
	struct translation t;
	struct rig rig;
	char *p, *q;

	RIG_OPEN(&rig);
	p = map_at(NULL, 16 * PAGE, 0);
	assert_int_equal(translate(&rig, p + 4 * PAGE, PAGE, &t), 0);
	assert_ptr_equal(mremap(p, 16 * PAGE, 32 * PAGE, MREMAP_MAYMOVE), MAP_FAILED);
	assert_int_equal(errno, EFAULT);
	assert_true(is_valid(&rig, &t));
	drop(&rig, &t);
	q = mremap(p, 16 * PAGE, 32 * PAGE, MREMAP_MAYMOVE);
	assert_ptr_not_equal(q, MAP_FAILED);
	munmap(q, 32 * PAGE);
	rig_close(&rig);
}

TEST(a_mapping_that_is_watched_as_a_whole_is_resized_and_stale)
{
	struct translation t;
	struct rig rig;
	char *p, *q;

	RIG_OPEN(&rig);
	p = map_at(NULL, 16 * PAGE, 0);
	assert_int_equal(translate(&rig, p, 16 * PAGE, &t), 0);
	/* a larger mapping at another place: what follows this one is taken */
	q = map_at(p + 16 * PAGE, PAGE, MAP_FIXED_NOREPLACE);
	p = mremap(p, 16 * PAGE, 32 * PAGE, MREMAP_MAYMOVE);
	assert_ptr_not_equal(p, MAP_FAILED);
	assert_false(is_valid(&rig, &t));
	drop(&rig, &t);
	munmap(p, 32 * PAGE);
	if (q != MAP_FAILED)
		munmap(q, PAGE);
	rig_close(&rig);
}

TEST_MAIN()
