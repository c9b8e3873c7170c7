// SPDX-License-Identifier: MIT
/* Which ranges are watched: counting, merging, limits, refused ranges, and faults in them. */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#include "rig.h"
#include "tests/gate.h"
#include "tests/huge.h"

#define HUGE	huge_page_bytes()

static int watch(struct rig *rig, const void *p, size_t bytes)
{
	return monitor_uffd.watch(&rig->mm, (unsigned long)p, (unsigned long)p + bytes);
}

static void unwatch(struct rig *rig, const void *p, size_t bytes)
{
	monitor_uffd.unwatch(&rig->mm, (unsigned long)p, (unsigned long)p + bytes);
}

/* how many mappings there are from p to p + bytes */
static unsigned int count_mappings(const char *p, size_t bytes)
{
	FILE *f = fopen("/proc/self/maps", "re");
	unsigned long start, end;
	unsigned int nr = 0;
	char line[512];

	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		nr += sscanf(line, "%lx-%lx ", &start, &end) == 2 &&
		      start < (unsigned long)p + bytes && end > (unsigned long)p;
	fclose(f);
	return nr;
}

TEST(a_mapping_is_watched_as_a_whole_until_its_last_watch_is_gone)
{
	struct rig rig;
	char *p;

	RIG_OPEN(&rig);
	p = map_alone(16 * PAGE);
	assert_int_equal(watch(&rig, p + PAGE, 7 * PAGE), 0);
	assert_int_equal(watch(&rig, p + 4 * PAGE, 8 * PAGE), 0);
	assert_int_equal(watch(&rig, p + PAGE, 7 * PAGE), 0);
	assert_true(kernel_watches(p));
	assert_true(kernel_watches(p + 15 * PAGE));
	assert_int_equal(count_mappings(p, 16 * PAGE), 1);
	unwatch(&rig, p + PAGE, 7 * PAGE);
	unwatch(&rig, p + 4 * PAGE, 8 * PAGE);
	assert_true(kernel_watches(p));
	assert_true(kernel_watches(p + 15 * PAGE));
	assert_int_equal(count_mappings(p, 16 * PAGE), 1);
	unwatch(&rig, p + PAGE, 7 * PAGE);
	assert_false(kernel_watches(p));
	assert_false(kernel_watches(p + 15 * PAGE));
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
	munmap(p, PAGE);
	assert_false(is_valid(&rig, &t));
	drop(&rig, &t);
	munmap(p + PAGE, PAGE);
	rig_close(&rig);
}

TEST(a_thousand_ranges_of_a_mapping_do_not_split_it)
{
	struct rig rig;
	char *p;

	RIG_OPEN(&rig);
	p = map_alone(2000 * PAGE);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(watch(&rig, p + 2 * i * PAGE, PAGE), 0);
	assert_int_equal(rig_uffd(&rig)->ranges.nr_runs, 1000);
	assert_int_equal(count_mappings(p, 2000 * PAGE), 1);
	for (int i = 0; i < 1000; i++)
		unwatch(&rig, p + 2 * i * PAGE, PAGE);
	assert_int_equal(rig_uffd(&rig)->ranges.nr_runs, 0);
	assert_int_equal(count_mappings(p, 2000 * PAGE), 1);
	munmap(p, 2000 * PAGE);
	rig_close(&rig);
}

TEST(a_large_mapping_is_given_back_when_that_is_asked_for_or_at_the_close)
{
	const size_t bytes = 8UL << 20;
	struct rig rig;
	char *p;

	RIG_OPEN(&rig);
	p = map_alone(bytes);
	assert_int_equal(watch(&rig, p + PAGE, PAGE), 0);
	unwatch(&rig, p + PAGE, PAGE);
	/* To unregister all of it for one page would take too long. */
	assert_true(kernel_watches(p));
	monitor_uffd.release(&rig.mm, (unsigned long)p + 5 * PAGE, (unsigned long)p + 6 * PAGE);
	assert_false(kernel_watches(p));
	assert_int_equal(watch(&rig, p, bytes), 0);
	monitor_uffd.release(&rig.mm, 0, ~0UL);
	assert_true(kernel_watches(p));
	unwatch(&rig, p, bytes);
	assert_false(kernel_watches(p));

	assert_int_equal(watch(&rig, p, PAGE), 0);
	unwatch(&rig, p, PAGE);
	assert_int_equal(watch(&rig, p + PAGE, PAGE), 0);
	rig_close(&rig);
	assert_false(kernel_watches(p));
	munmap(p, bytes);
}

TEST(holes_are_refused_and_nothing_stays_watched)
{
	struct rig rig;
	char *p;

	RIG_OPEN(&rig);
	p = map_alone(8 * PAGE);
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

TEST(what_another_userfaultfd_has_registered_meanwhile_stays_registered)
{
	struct uffdio_api api = { .api = UFFD_API, .features = 1 << 13 | 1 << 15 };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_WP };
	struct rig rig;
	char *p;
	int other;

	RIG_OPEN(&rig);
	other = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	assert_int_equal(ioctl(other, UFFDIO_API, &api), 0);
	p = map_alone(PAGE);
	assert_int_equal(watch(&rig, p, PAGE), 0);
	assert_ptr_equal(map_at(p, PAGE, MAP_FIXED), p);
	reg.range = (struct uffdio_range){ (unsigned long)p, PAGE };
	assert_int_equal(ioctl(other, UFFDIO_REGISTER, &reg), 0);
	unwatch(&rig, p, PAGE);
	assert_true(kernel_watches(p));
	monitor_uffd.release(&rig.mm, 0, ~0UL);
	rig_close(&rig);
	assert_true(kernel_watches(p));
	close(other);
	munmap(p, PAGE);
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
	q = map_alone(4 * PAGE);
	/* our own limit is half of the kernel's */
	for (nr = 0; !err && nr < limit; nr++)
		err = watch(&rig, p + 2 * nr * PAGE, PAGE);
	assert_int_equal(err, -ENOSPC);
	assert_int_equal(nr - 1, limit / 4);
	assert_int_equal(watch(&rig, q, PAGE), -ENOSPC);
	/* A range that adds no run is still watched. */
	assert_int_equal(watch(&rig, p + PAGE, PAGE), 0);
	unwatch(&rig, p + PAGE, PAGE);
	for (unsigned int i = 0; i < nr - 1; i++)
		unwatch(&rig, p + 2 * i * PAGE, PAGE);
	assert_int_equal(rig_uffd(&rig)->ranges.nr_runs, 0);

	/*
	 * The program itself has reached the kernel's limit: to watch takes no mapping. A sanitizer
	 * needs mappings at any moment, and ends the program if it gets none.
	 */
	for (unsigned int i = 0; i < limit && !IS_SANITIZED; i++)
		if (mprotect(p + 2 * i * PAGE, PAGE, PROT_READ))
			break;
	assert_int_equal(translate(&rig, q + PAGE, PAGE, &t), 0);
	munmap(p, 2 * limit * PAGE);
	assert_true(is_valid(&rig, &t));
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

TEST(a_range_that_was_moved_is_watched_at_its_new_place)
{
	struct translation t, u;
	struct rig rig;
	char *p, *to;

	RIG_OPEN(&rig);
	p = map_alone(4 * PAGE);
	to = map_alone(4 * PAGE);
	assert_int_equal(translate(&rig, p, 4 * PAGE, &t), 0);
	assert_int_equal(translate(&rig, to, 4 * PAGE, &u), 0);
	assert_ptr_equal(mremap(p, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to), to);
	assert_false(is_valid(&rig, &t));
	assert_false(is_valid(&rig, &u));
	drop(&rig, &u);
	assert_int_equal(translate(&rig, to, PAGE, &u), 0);
	assert_true(is_valid(&rig, &u));
	munmap(to, PAGE);
	assert_false(is_valid(&rig, &u));
	drop(&rig, &u);
	drop(&rig, &t);
	munmap(to, 4 * PAGE);
	rig_close(&rig);
}

/* What a program may do with a mapping of 16 pages, of which @nr pages are watched from page 4. */
static void resize_and_move(struct rig *rig, unsigned long nr)
{
	struct translation t;
	char *p, *q, *to;

	/* grow where it is, twice, and shrink */
	p = map_alone(64 * PAGE);
	munmap(p + 16 * PAGE, 48 * PAGE);
	memset(p, 1, 16 * PAGE);
	assert_int_equal(translate(rig, p + 4 * PAGE, nr * PAGE, &t), 0);
	assert_ptr_equal(mremap(p, 16 * PAGE, 32 * PAGE, 0), p);
	assert_ptr_equal(mremap(p, 32 * PAGE, 64 * PAGE, 0), p);
	assert_true(is_valid(rig, &t));
	assert_true(kernel_watches(p + 63 * PAGE));
	assert_ptr_equal(mremap(p, 64 * PAGE, 16 * PAGE, 0), p);
	assert_true(is_valid(rig, &t));

	/* grow at another place, and there once more */
	q = map_at(p + 16 * PAGE, PAGE, MAP_FIXED_NOREPLACE);
	mprotect(q, PAGE, PROT_NONE);
	to = mremap(p, 16 * PAGE, 32 * PAGE, MREMAP_MAYMOVE);
	assert_ptr_not_equal(to, MAP_FAILED);
	assert_ptr_not_equal(to, p);
	assert_false(is_valid(rig, &t));
	drop(rig, &t);
	munmap(q, PAGE);
	assert_int_equal(translate(rig, to + 4 * PAGE, nr * PAGE, &t), 0);
	p = mremap(to, 32 * PAGE, 64 * PAGE, MREMAP_MAYMOVE);
	assert_ptr_not_equal(p, MAP_FAILED);

	/* move all of it over another mapping */
	if (p != to) {
		assert_false(is_valid(rig, &t));
		drop(rig, &t);
		assert_int_equal(translate(rig, p + 4 * PAGE, nr * PAGE, &t), 0);
	}
	to = map_alone(64 * PAGE);
	assert_ptr_equal(mremap(p, 64 * PAGE, 64 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to), to);
	assert_false(is_valid(rig, &t));
	assert_int_equal(to[4 * PAGE], 1);
	drop(rig, &t);
	munmap(to, 64 * PAGE);
}

TEST(a_program_resizes_and_moves_a_mapping_of_which_a_part_is_watched)
{
	struct rig rig;

	RIG_OPEN(&rig);
	for (unsigned long nr = 0; nr <= 12; nr += 3)
		resize_and_move(&rig, nr ? nr : 1);
	rig_close(&rig);
}

#define RESIZES	4000

static char *to_grow;
static struct gate grows, has_grown;

static void *grow(void *unused)
{
	for (unsigned int round = 1; round <= RESIZES; round++) {
		gate_wait(&grows, round);
		for (volatile unsigned int i = 0; i < round % 64 * 32; i++)
			;
		/* It may fail while the mapping is split: then it is in one piece, too. */
		mremap(to_grow, 16 * PAGE, 32 * PAGE, 0);
		gate_open(&has_grown, round);
	}
	return unused;
}

/* A mapping that grows just before the kernel watches it is split, and then put together again. */
TEST(a_mapping_that_grows_while_it_is_watched_stays_in_one_piece)
{
	unsigned int nr_grown = 0;
	pthread_t thread;
	struct rig rig;

	RIG_OPEN(&rig);
	to_grow = map_alone(64 * PAGE);
	munmap(to_grow + 16 * PAGE, 48 * PAGE);
	assert_int_equal(pthread_create(&thread, NULL, grow, NULL), 0);
	for (unsigned int round = 1; round <= RESIZES; round++) {
		gate_open(&grows, round);
		assert_int_equal(watch(&rig, to_grow + PAGE, PAGE), 0);
		gate_wait(&has_grown, round);
		assert_int_equal(count_mappings(to_grow, 64 * PAGE), 1);
		unwatch(&rig, to_grow + PAGE, PAGE);
		nr_grown += mremap(to_grow, 32 * PAGE, 16 * PAGE, 0) == to_grow;
	}
	assert_int_equal(nr_grown, RESIZES);
	pthread_join(thread, NULL);
	munmap(to_grow, 16 * PAGE);
	rig_close(&rig);
}

TEST_MAIN()
