// SPDX-License-Identifier: MIT
/* The mirror device with every sort of memory, and the requests that it refuses. */
#include "device.h"
#include "tests/huge.h"

#include <sys/wait.h>

static void check_both_ways(char *memory, size_t len)
{
	int fd = mirror_open();
	char *buffer = map_anon(len);

	memset(memory, 0x5a, len);
	assert_int_equal(mirror_read(fd, memory, buffer, len), 0);
	assert_memory_equal(memory, buffer, len);

	memset(buffer, 0x11, len);
	assert_int_equal(mirror_write(fd, memory, buffer, len), 0);
	assert_memory_equal(memory, buffer, len);

	/* the CPU writes, and the device reads the same page without a new fault */
	memory[len / 2] = 0x77;
	assert_int_equal(mirror_read(fd, memory + len / 2, buffer, 1), 0);
	assert_int_equal(buffer[0], 0x77);
	munmap(buffer, len);
	close(fd);
}

TEST(anonymous_memory_is_mirrored_both_ways)
{
	char *p = map_anon(64 * PAGE);

	check_both_ways(p, 64 * PAGE);
	munmap(p, 64 * PAGE);
}

TEST(a_memfd_is_mirrored_both_ways)
{
	int memfd = make_memfd(64 * PAGE, 0);
	char *p = map_fd(memfd, 64 * PAGE, MAP_SHARED);

	check_both_ways(p, 64 * PAGE);
	munmap(p, 64 * PAGE);
	close(memfd);
}

TEST(a_private_file_mapping_is_mirrored_both_ways)
{
	int memfd = make_memfd(64 * PAGE, 0);
	char *p = map_fd(memfd, 64 * PAGE, MAP_PRIVATE);

	check_both_ways(p, 64 * PAGE);
	munmap(p, 64 * PAGE);
	close(memfd);
}

TEST(a_huge_page_is_mirrored_both_ways)
{
	char *p = map_aligned(4 * MIB);

	if (access("/sys/kernel/mm/transparent_hugepage", F_OK))
		TEST_SKIP("this kernel has no transparent huge pages");
	assert_int_equal(madvise(p, 4 * MIB, MADV_HUGEPAGE), 0);
	check_both_ways(p, 4 * MIB);
}

TEST(hugetlb_memory_is_mirrored_both_ways)
{
	size_t huge = huge_page_bytes();
	void *p;

	if (!write_file("/proc/sys/vm/nr_hugepages", "4"))
		TEST_SKIP("this kernel has no hugetlb");
	p = mmap(NULL, huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB,
		 -1, 0);
	if (p == MAP_FAILED)
		TEST_SKIP("no huge page is free");
	check_both_ways(p, huge);
	munmap(p, huge);
	assert_true(write_file("/proc/sys/vm/nr_hugepages", "0"));
}

TEST(untouched_memory_reads_as_zero_and_is_still_copied_on_write)
{
	int fd = mirror_open();
	char *p = map_anon(PAGE), byte = 1;

	assert_int_equal(mirror_read(fd, p, &byte, 1), 0);
	assert_int_equal(byte, 0);
	byte = 9;
	/* the table has the zero page for reading, and a write must not go to that page */
	assert_int_equal(mirror_write(fd, p, &byte, 1), 0);
	assert_int_equal(p[0], 9);
	munmap(p, PAGE);
	close(fd);
}

TEST(after_fork_the_device_writes_to_the_parents_copy_only)
{
	int fd = mirror_open();
	char *p = map_anon(PAGE), byte = 2;
	int go[2];
	pid_t child;

	p[0] = 1;
	assert_int_equal(mirror_write(fd, p, "\1", 1), 0);
	assert_int_equal(pipe(go), 0);
	child = fork_with_us();
	if (!child) {
		char c;

		_exit(read(go[0], &c, 1) == 1 ? p[0] : 99);
	}
	assert_int_equal(mirror_write(fd, p, &byte, 1), 0);
	assert_int_equal(write(go[1], "", 1), 1);
	assert_int_equal(WEXITSTATUS(wait_for(child)), 1);
	assert_int_equal(p[0], 2);
	munmap(p, PAGE);
	close(fd);
}

TEST(atomic_adds_of_device_and_program_are_all_counted)
{
	int fd = mirror_open();
	uint64_t *counter = map_anon(PAGE), operand;
	struct invlock_mirror_access access = {
		.op = INVLOCK_MIRROR_ADD,
		.addr = (unsigned long)counter,
		.len = sizeof(*counter),
		.buffer = (unsigned long)&operand,
	};

	for (unsigned int i = 0; i < 100; i++) {
		operand = 3;
		assert_int_equal(mirror_do(fd, &access), 0);
		assert_int_equal(operand, 4 * i);
		__atomic_fetch_add(counter, 1, __ATOMIC_SEQ_CST);
	}
	assert_int_equal(*counter, 400);
	munmap(counter, PAGE);
	close(fd);
}

TEST(memory_that_is_not_mapped_or_not_writable_is_refused)
{
	int fd = mirror_open();
	char *p = map_anon(3 * PAGE), buffer[2 * LARGEST_PAGE];

	munmap(p + PAGE, PAGE);
	assert_int_equal(mirror_read(fd, p, buffer, 2 * PAGE), -EFAULT);
	assert_int_equal(mprotect(p, PAGE, PROT_NONE), 0);
	assert_int_equal(mirror_read(fd, p, buffer, 1), -EFAULT);
	assert_int_equal(mprotect(p, PAGE, PROT_READ), 0);
	assert_int_equal(mirror_read(fd, p, buffer, 1), 0);
	assert_int_equal(mirror_write(fd, p, buffer, 1), -EPERM);
	assert_int_equal(mirror_read(fd, NULL, buffer, 1), -EFAULT);
	assert_int_equal(mirror_read(fd, (void *)0xffff888000000000UL, buffer, 1), -EFAULT);
	assert_int_equal(mirror_read(fd, (void *)0x7fffffffffffUL, buffer, 2), -EFAULT);
	/* a bad buffer */
	assert_int_equal(mirror_read(fd, p, NULL, 1), -EFAULT);
	assert_int_equal(mirror_write(fd, p, (void *)1, 1), -EFAULT);
	munmap(p, 3 * PAGE);
	close(fd);
}

TEST(losing_write_permission_reaches_the_device)
{
	int fd = mirror_open();
	char *p = map_anon(PAGE);

	assert_int_equal(mirror_write(fd, p, "x", 1), 0);
	assert_int_equal(mprotect(p, PAGE, PROT_READ), 0);
	assert_int_equal(mirror_write(fd, p, "y", 1), -EPERM);
	assert_int_equal(p[0], 'x');
	munmap(p, PAGE);
	close(fd);
}

TEST(memory_without_struct_pages_is_refused)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	unsigned long start = 0;
	int fd = mirror_open();
	char line[256], byte;

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps))
		if (strstr(line, "[vvar]"))
			start = strtoul(line, NULL, 16);
	fclose(maps);
	if (!start)
		TEST_SKIP("this process has no [vvar]");
	assert_int_equal(mirror_read(fd, (void *)start, &byte, 1), -EFAULT);
	close(fd);
}

TEST(a_request_with_a_wrong_field_is_refused)
{
	int fd = mirror_open();
	char *p = map_anon(2 * PAGE), byte;
	const struct invlock_mirror_access good = {
		.size = sizeof(good),
		.op = INVLOCK_MIRROR_READ,
		.addr = (unsigned long)p,
		.len = 1,
		.buffer = (unsigned long)&byte,
	};
	struct invlock_mirror_access a;

#define REFUSED(field, value)						\
do {									\
	a = good;							\
	a.field = (value);						\
	assert_int_equal(ioctl(fd, INVLOCK_MIRROR_ACCESS, &a), -1);	\
	assert_int_equal(errno, EINVAL);				\
} while (0)
	a = good;
	assert_int_equal(ioctl(fd, INVLOCK_MIRROR_ACCESS, &a), 0);
	REFUSED(size, 0);
	REFUSED(size, sizeof(good) - 1);
	REFUSED(size, sizeof(good) + 8);
	REFUSED(op, 3);
	REFUSED(op, INVLOCK_MIRROR_ADD);
	REFUSED(len, 0);
	REFUSED(len, INVLOCK_MIRROR_MAX_LEN + 1);
	REFUSED(len, ~0ULL);
	REFUSED(addr, ~0ULL);
	REFUSED(flags, 2);
	REFUSED(reserved, 1);
#undef REFUSED
	assert_int_equal(ioctl(fd, INVLOCK_MIRROR_ACCESS, NULL), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(ioctl(fd, _IO('v', 0x7f), &a), -1);
	assert_int_equal(errno, ENOTTY);
	munmap(p, 2 * PAGE);
	close(fd);
}

/* Read in a child through a device that this process opened. Return: 0 or -errno of the read. */
static int read_in_a_child(int fd)
{
	pid_t child = fork_with_us();

	if (!child) {
		char *p = malloc(1), byte;

		_exit(-mirror_read(fd, p, &byte, 1));
	}
	return -exit_code_of(child);
}

TEST(a_forked_child_may_not_use_the_inherited_device)
{
	int fd = mirror_open();

	assert_int_equal(read_in_a_child(fd), -EPERM);
	close(fd);
}

TEST(two_opens_in_one_process_share_one_mirror)
{
	int one = mirror_open(), other = mirror_open();
	char *p = map_anon(PAGE), byte;

	p[0] = 1;
	assert_int_equal(mirror_read(one, p, &byte, 1), 0);
	assert_int_equal(mirror_stats(other).faults, 1);
	assert_int_equal(mirror_read(other, p, &byte, 1), 0);
	assert_int_equal(mirror_stats(one).faults, 1);
	close(one);
	assert_int_equal(mirror_read(other, p, &byte, 1), 0);
	close(other);
	munmap(p, PAGE);
}

TEST(pinned_pages_go_stale_where_the_mirror_does_not)
{
	int fd = mirror_open();
	char *p = map_anon(PAGE), byte;
	struct invlock_mirror_pin pin = {
		.size = sizeof(pin),
		.addr = (unsigned long)p,
		.len = PAGE,
	};
	struct invlock_mirror_access access = {
		.op = INVLOCK_MIRROR_READ,
		.flags = INVLOCK_MIRROR_PINNED,
		.addr = (unsigned long)p,
		.len = 1,
		.buffer = (unsigned long)&byte,
	};

	p[0] = 'a';
	assert_int_equal(ioctl(fd, INVLOCK_MIRROR_PIN, &pin), 0);
	assert_int_equal(mirror_read(fd, p, &byte, 1), 0);
	assert_int_equal(byte, 'a');
	assert_int_equal(madvise(p, PAGE, MADV_DONTNEED), 0);
	p[0] = 'b';
	assert_int_equal(mirror_do(fd, &access), 0);
	assert_int_equal(byte, 'a');
	assert_int_equal(mirror_read(fd, p, &byte, 1), 0);
	assert_int_equal(byte, 'b');
	munmap(p, PAGE);
	close(fd);
}

TEST_MAIN()
