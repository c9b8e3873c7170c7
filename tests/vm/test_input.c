// SPDX-License-Identifier: MIT
/*
 * Bad input: each mistake has one errno. The requests that two mirrors share are tried on both.
 * test_feed.c and test_mirror.c try what belongs to one device only.
 */
#include "device.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <linux/capability.h>

#define NOBODY	65534

static const char *const mirrors[] = { "/dev/invlock_mirror", "/dev/invlock_interval" };

#define FOR_EACH_MIRROR(fd)						\
	for (unsigned int nr = 0; nr < 2 && ((fd) = open(mirrors[nr], O_RDWR)) >= 0;	\
	     close(fd), nr++)

static void expect(const char *what, int fd, uint32_t op, uint64_t addr, uint64_t len, int err)
{
	static _Alignas(LARGEST_PAGE) char buffer[4 * LARGEST_PAGE];
	struct invlock_mirror_access access = {
		.op = op, .addr = addr, .len = len, .buffer = (unsigned long)buffer,
	};
	int got = mirror_do(fd, &access);

	if (got != err)
		fail_msg("%s: %d, not %d", what, got, err);
}

static void expect_read(const char *what, int fd, uint64_t addr, uint64_t len, int err)
{
	expect(what, fd, INVLOCK_MIRROR_READ, addr, len, err);
}

static int pin(int fd, uint64_t addr, uint64_t len)
{
	struct invlock_mirror_pin p = { .size = sizeof(p), .addr = addr, .len = len };

	return ioctl(fd, INVLOCK_MIRROR_PIN, &p) ? -errno : 0;
}

static int set_range(int fd, uint64_t addr, uint64_t len)
{
	return mirror_range(fd, (void *)addr, len);
}

TEST(addresses_where_the_process_has_no_memory_are_refused)
{
	unsigned long page = (unsigned long)map_anon(2 * PAGE);
	int fd;

	munmap((void *)page, 2 * PAGE);
	FOR_EACH_MIRROR(fd) {
		expect_read("zero", fd, 0, 1, -EFAULT);
		expect_read("a hole", fd, page, 1, -EFAULT);
		expect_read("not canonical", fd, 0x800000000000ULL, 1, -EFAULT);
		expect_read("wild", fd, 0xdeadbeefdeadbeefULL, 8, -EFAULT);
		expect_read("the kernel's direct map", fd, 0xffff888000000000ULL, 8, -EFAULT);
		expect_read("the kernel's text", fd, 0xffffffff81000000ULL, 8, -EFAULT);
		expect_read("the last page", fd, -PAGE, 8, -EFAULT);
		expect("a write to the kernel", fd, INVLOCK_MIRROR_WRITE, 0xffff888000000000ULL, 8,
		       -EFAULT);
		expect("an atomic on the kernel", fd, INVLOCK_MIRROR_ADD, 0xffff888000000000ULL, 8,
		       -EFAULT);
	}
	fd = mirror_open();
	assert_int_equal(pin(fd, page, PAGE), -EFAULT);
	assert_int_equal(pin(fd, 0xffff888000000000ULL, PAGE), -EFAULT);
	assert_int_equal(pin(fd, 0xdeadbeefdeadb000ULL, PAGE), -EFAULT);
	close(fd);
	fd = open(mirrors[1], O_RDWR);
	assert_int_equal(set_range(fd, 0xffff888000000000ULL, PAGE), -EFAULT);
	close(fd);
}

TEST(ranges_that_make_no_sense_are_refused)
{
	char *p = map_anon(PAGE);
	uint64_t page = (unsigned long)p;
	int fd;

	FOR_EACH_MIRROR(fd) {
		expect_read("empty", fd, page, 0, -EINVAL);
		expect_read("wraps to zero", fd, -PAGE, PAGE, -EINVAL);
		expect_read("wraps beyond zero", fd, -PAGE, 2 * PAGE, -EINVAL);
		expect_read("gigantic", fd, page, INVLOCK_MIRROR_MAX_LEN + 1, -EINVAL);
		expect_read("of half the address space", fd, page, 1ULL << 63, -EINVAL);
		expect_read("of all of it", fd, page, ~0ULL, -EINVAL);
		expect("unaligned atomic", fd, INVLOCK_MIRROR_ADD, page + 4, 8, -EINVAL);
		expect("short atomic", fd, INVLOCK_MIRROR_ADD, page, 4, -EINVAL);
		expect("long atomic", fd, INVLOCK_MIRROR_ADD, page, 16, -EINVAL);
		/* this range crosses the end of user space */
		expect_read("runs out of it", fd, 0x7ffffffff000ULL - 1, 2, -EFAULT);
	}
	fd = mirror_open();
	assert_int_equal(pin(fd, page + 1, PAGE), -EINVAL);
	assert_int_equal(pin(fd, page, PAGE - 1), -EINVAL);
	assert_int_equal(pin(fd, page, INVLOCK_MIRROR_MAX_LEN + PAGE), -EINVAL);
	assert_int_equal(pin(fd, -PAGE, 2 * PAGE), -EINVAL);
	assert_int_equal(pin(fd, -2 * PAGE, PAGE), -EFAULT);
	assert_int_equal(pin(fd, 0, 0), 0);
	close(fd);
	fd = open(mirrors[1], O_RDWR);
	assert_int_equal(set_range(fd, page, 0), -EINVAL);
	assert_int_equal(set_range(fd, page + 1, PAGE), -EINVAL);
	assert_int_equal(set_range(fd, -PAGE, 2 * PAGE), -EINVAL);
	assert_int_equal(set_range(fd, page, 1ULL << 60), -EFAULT);
	/* memory outside of the watched range is refused */
	assert_int_equal(set_range(fd, page + PAGE, PAGE), 0);
	expect_read("outside the watched range", fd, page, 1, -EFAULT);
	close(fd);
	munmap(p, PAGE);
}

TEST(a_range_with_a_hole_is_refused_and_its_front_still_works)
{
	char *p = map_anon(3 * PAGE);
	int fd;

	memset(p, 5, 3 * PAGE);
	munmap(p + PAGE, PAGE);
	FOR_EACH_MIRROR(fd) {
		expect_read("a hole in the middle", fd, (unsigned long)p, 3 * PAGE, -EFAULT);
		expect_read("the front", fd, (unsigned long)p, PAGE, 0);
		expect("a write across it", fd, INVLOCK_MIRROR_WRITE, (unsigned long)p, 3 * PAGE,
		       -EFAULT);
	}
	fd = mirror_open();
	assert_int_equal(pin(fd, (unsigned long)p, 3 * PAGE), -EFAULT);
	close(fd);
	munmap(p, 3 * PAGE);
}

TEST(the_device_respects_the_permissions_of_memory)
{
	char *none = map_anon(PAGE), *readable = map_anon(PAGE);
	int fd;

	none[0] = readable[0] = 1;
	mprotect(none, PAGE, PROT_NONE);
	mprotect(readable, PAGE, PROT_READ);
	FOR_EACH_MIRROR(fd) {
		expect_read("PROT_NONE", fd, (unsigned long)none, 1, -EFAULT);
		expect("PROT_NONE", fd, INVLOCK_MIRROR_WRITE, (unsigned long)none, 1, -EFAULT);
		expect_read("PROT_READ", fd, (unsigned long)readable, 1, 0);
		expect("PROT_READ", fd, INVLOCK_MIRROR_WRITE, (unsigned long)readable, 1, -EPERM);
	}
	fd = mirror_open();
	assert_int_equal(pin(fd, (unsigned long)none, PAGE), -EFAULT);
	assert_int_equal(pin(fd, (unsigned long)readable, PAGE), -EFAULT);
	close(fd);
	munmap(none, PAGE);
	munmap(readable, PAGE);
}

TEST(device_memory_is_refused)
{
	int mem = open("/dev/mem", O_RDWR), fd;
	char *p;

	if (mem < 0)
		TEST_SKIP("no /dev/mem: %s", strerror(errno));
	/* a mapping of the BIOS has VM_IO and VM_PFNMAP */
	p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, mem, 0xf0000);
	close(mem);
	if (p == MAP_FAILED)
		TEST_SKIP("/dev/mem cannot be mapped: %s", strerror(errno));
	FOR_EACH_MIRROR(fd)
		expect_read("device memory", fd, (unsigned long)p, 1, -EFAULT);
	fd = mirror_open();
	assert_int_equal(pin(fd, (unsigned long)p, PAGE), -EFAULT);
	close(fd);
	munmap(p, PAGE);
}

/* Tries each struct with every wrong size, and with each reserved field set. */
TEST(wrong_sizes_and_reserved_bits_are_refused)
{
	static const struct {
		unsigned long request;
		uint32_t size;
		uint32_t reserved_at;
		bool interval_only, mirror_only;
	} cases[] = {
		{ INVLOCK_MIRROR_ACCESS, sizeof(struct invlock_mirror_access),
		  offsetof(struct invlock_mirror_access, reserved) },
		{ INVLOCK_MIRROR_PIN, sizeof(struct invlock_mirror_pin),
		  offsetof(struct invlock_mirror_pin, reserved), .mirror_only = true },
		{ INVLOCK_MIRROR_RANGE, sizeof(struct invlock_mirror_pin),
		  offsetof(struct invlock_mirror_pin, reserved), .interval_only = true },
		{ INVLOCK_MIRROR_STATS, sizeof(struct invlock_mirror_stats), 0 },
	};
	uint64_t page = (unsigned long)map_anon(PAGE);
	int fd;

	FOR_EACH_MIRROR(fd) {
		for (unsigned int i = 0; i < 4; i++) {
			char arg[256] = {};

			/* all structs have addr and len at the same place; fill in good ones */
			memcpy(arg + 8, (uint64_t[]){ page, PAGE, page }, 24);
			for (uint32_t size = 0; size < 200; size++) {
				if (size == cases[i].size)
					continue;
				memcpy(arg, &size, sizeof(size));
				assert_int_equal(ioctl(fd, cases[i].request, arg), -1);
				assert_int_equal(errno, cases[i].interval_only && nr == 0 ? ENOTTY :
							cases[i].mirror_only && nr == 1 ? ENOTTY :
							EINVAL);
			}
			if (!cases[i].reserved_at)
				continue;
			memcpy(arg, &cases[i].size, 4);
			arg[cases[i].reserved_at + 3] = 0x40;
			assert_int_equal(ioctl(fd, cases[i].request, arg), -1);
			assert_true(errno == EINVAL || errno == ENOTTY);
		}
		assert_int_equal(ioctl(fd, _IO('v', 0x3f), 0), -1);
		assert_int_equal(errno, ENOTTY);
		/* the same number with another size is another request */
		assert_int_equal(ioctl(fd, _IOWR('v', 0x42, char[8]), 0), -1);
		assert_int_equal(errno, ENOTTY);
	}
	munmap((void *)page, PAGE);
}

static void drop_capability(int cap)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	syscall(SYS_capget, &header, data);
	data[cap / 32].effective &= ~(1U << cap % 32);
	syscall(SYS_capset, &header, data);
}

/* Runs in a child. Return: 0, or the number of the step that failed. */
static int pin_within_a_limit(void)
{
	struct rlimit limit = { 4 * PAGE, 4 * PAGE };
	char *p = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int one = open(mirrors[0], O_RDWR), other = open(mirrors[0], O_RDWR);
	uint64_t addr = (unsigned long)p;

	drop_capability(CAP_IPC_LOCK);
	if (setrlimit(RLIMIT_MEMLOCK, &limit))
		return 1;
	if (pin(one, addr, 5 * PAGE) != -ENOMEM)
		return 2;
	if (pin(one, addr, 4 * PAGE))
		return 3;
	/* the limit belongs to the process, however many files it has open */
	if (pin(other, addr, PAGE) != -ENOMEM)
		return 4;
	/* pages that were unpinned are no longer counted */
	if (pin(one, 0, 0) || pin(other, addr, 4 * PAGE))
		return 5;
	close(other);
	if (pin(one, addr, 4 * PAGE))
		return 6;
	/* pages that could not be pinned are not counted */
	if (munmap(p + PAGE, PAGE) || pin(one, addr, 4 * PAGE) != -EFAULT)
		return 7;
	return pin(one, addr + 2 * PAGE, 4 * PAGE) ? 8 : 0;
}

TEST(pages_beyond_the_memlock_limit_are_not_pinned)
{
	pid_t child = fork_with_us();

	if (!child)
		_exit(pin_within_a_limit());
	assert_int_equal(exit_code_of(child), 0);
}

/*
 * Open the feed in a child, in a new cgroup with this much memory. Return: the errno of the open.
 * Each limit has a cgroup of its own: some memory stays charged for a while after its process has
 * ended, and a lower limit would then kill the next process.
 */
static int open_in_cgroup(const char *limit)
{
	char dir[64], file[96], pid[16];
	pid_t child;
	int err;

	snprintf(dir, sizeof(dir), "/sys/fs/cgroup/at-most-%s", limit);
	assert_int_equal(mkdir(dir, 0755), 0);
	snprintf(file, sizeof(file), "%s/memory.max", dir);
	assert_true(write_file(file, limit));
	snprintf(file, sizeof(file), "%s/cgroup.procs", dir);
	child = fork_with_us();
	if (!child) {
		snprintf(pid, sizeof(pid), "%d", getpid());
		if (!write_file(file, pid))
			_exit(99);
		err = open("/dev/invlock", O_RDONLY) < 0 ? errno : 0;
		_exit(err);
	}
	err = exit_code_of(child);
	rmdir(dir);
	return err;
}

/* Are there cgroups that count memory? */
static bool memory_is_counted(void)
{
	char controllers[256] = "";
	FILE *f = fopen("/sys/fs/cgroup/cgroup.subtree_control", "r");

	if (!f)
		return false;
	if (!fgets(controllers, sizeof(controllers), f))
		controllers[0] = 0;
	fclose(f);
	return strstr(controllers, "memory");
}

TEST(a_feed_is_charged_to_its_cgroup_and_refused_when_that_is_full)
{
	if (!memory_is_counted())
		TEST_SKIP("no cgroups here that count memory");
	assert_int_equal(open_in_cgroup("64M"), 0);
	/* a feed does not fit: the open is refused, and no process is killed */
	assert_int_equal(open_in_cgroup("1M"), ENOMEM);
}

static void become_nobody(void)
{
	if (setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY) ||
	    setresuid(NOBODY, NOBODY, NOBODY))
		_exit(98);
}

TEST(every_user_may_open_a_feed_but_only_root_a_mirror)
{
	pid_t child = fork_with_us();

	if (!child) {
		become_nobody();
		for (unsigned int i = 0; i < 2; i++)
			if (open(mirrors[i], O_RDWR) >= 0 || errno != EACCES)
				_exit(1);
		if (open("/dev/invlock", O_RDWR) >= 0 || errno != EACCES)
			_exit(2);
		_exit(open("/dev/invlock", O_RDONLY) < 0 ? errno : 0);
	}
	assert_int_equal(exit_code_of(child), 0);
}

/* Start a process of user nobody that opens the feed, reports the error, and stays. */
static pid_t start_holder(int *ret_err)
{
	int said[2], err;
	pid_t child;

	assert_int_equal(pipe(said), 0);
	child = fork_with_us();
	if (!child) {
		become_nobody();
		/* the second open gets the same feed */
		err = open("/dev/invlock", O_RDONLY) < 0 || open("/dev/invlock", O_RDONLY) < 0 ?
		      errno : 0;
		if (write(said[1], &err, sizeof(err)) == sizeof(err))
			pause();
		_exit(0);
	}
	close(said[1]);
	assert_int_equal(read(said[0], ret_err, sizeof(*ret_err)), sizeof(*ret_err));
	close(said[0]);
	return child;
}

static void end_holder(pid_t child)
{
	kill(child, SIGKILL);
	wait_for(child);
}

/* Start a holder that gets a feed. A feed is freed a moment after its process; wait for that. */
static pid_t start_holder_in_time(void)
{
	pid_t holder;
	int err;

	for (unsigned int ms = 0; ; ms += 10) {
		holder = start_holder(&err);
		if (err != ENOSPC || ms >= LOST_MS)
			break;
		end_holder(holder);
		sleep_ms(10);
	}
	assert_int_equal(err, 0);
	return holder;
}

/* as many processes of a user as a node with 64 CPUs runs, and those beside them */
#define RANKS	100

TEST(a_user_may_have_as_many_feeds_as_a_node_of_a_cluster_needs)
{
	pid_t holders[RANKS];
	int err[RANKS];

	for (unsigned int i = 0; i < RANKS; i++)
		holders[i] = start_holder(&err[i]);
	for (unsigned int i = 0; i < RANKS; i++)
		end_holder(holders[i]);
	for (unsigned int i = 0; i < RANKS; i++)
		assert_int_equal(err[i], 0);
}

TEST(a_user_may_have_as_many_feeds_as_the_limit_says)
{
	static const char parameter[] = "/sys/module/invlock/parameters/user_feeds";
	pid_t first, second, third;
	int err;

	assert_true(write_file(parameter, "1"));
	/* this succeeds only once all feeds of nobody from other tests are gone */
	first = start_holder_in_time();
	third = start_holder(&err);
	assert_int_equal(err, ENOSPC);
	end_holder(third);
	assert_true(write_file(parameter, "2"));
	second = start_holder(&err);
	assert_int_equal(err, 0);
	third = start_holder(&err);
	assert_int_equal(err, ENOSPC);
	end_holder(third);
	/* the limit does not bind root, and root's feed does not count for nobody */
	err = open("/dev/invlock", O_RDONLY | O_CLOEXEC);
	assert_true(err >= 0);
	close(err);
	/* a feed that one process gives back, another may have */
	end_holder(first);
	first = start_holder_in_time();
	end_holder(first);
	end_holder(second);
	assert_true(write_file(parameter, "128"));
}

/* Return: 0 if every use of another process's file is refused as it should be. */
static int use_of_another(int feed, int mirror, int interval)
{
	struct invlock_mirror_stats stats = { .size = sizeof(stats) };
	struct invlock_feed_see see = { .size = sizeof(see) };
	struct pollfd pfd = { .fd = feed, .events = POLLIN };
	char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char byte;

	if (ioctl(feed, INVLOCK_FEED_SEE, &see) != -1 || errno != EPERM)
		return 1;
	if (read(feed, &see, 8) != -1 || errno != EPERM)
		return 2;
	if (mmap(NULL, PAGE, PROT_READ, MAP_SHARED, feed, 0) != MAP_FAILED || errno != EPERM)
		return 3;
	if (poll(&pfd, 1, 0) != 1 || pfd.revents != POLLERR)
		return 4;
	if (mirror_read(mirror, p, &byte, 1) != -EPERM)
		return 5;
	if (pin(mirror, (unsigned long)p, PAGE) != -EPERM)
		return 6;
	if (ioctl(mirror, INVLOCK_MIRROR_STATS, &stats) != -1 || errno != EPERM)
		return 7;
	if (mirror_read(interval, p, &byte, 1) != -EPERM)
		return 8;
	return set_range(interval, (unsigned long)p, PAGE) == -EPERM ? 0 : 9;
}

struct files {
	int feed, mirror, interval;
};

static struct files open_files(void)
{
	return (struct files){
		.feed = open("/dev/invlock", O_RDONLY),
		.mirror = open(mirrors[0], O_RDWR),
		.interval = open(mirrors[1], O_RDWR),
	};
}

static void close_files(const struct files *f)
{
	close(f->feed);
	close(f->mirror);
	close(f->interval);
}

TEST(files_that_a_forked_child_inherited_are_refused)
{
	struct files f = open_files();
	pid_t child = fork_with_us();

	if (!child)
		_exit(use_of_another(f.feed, f.mirror, f.interval));
	assert_int_equal(exit_code_of(child), 0);
	close_files(&f);
}

TEST(files_that_were_passed_are_refused_while_their_owner_lives_and_after)
{
	int ready[2], pidfd, mine[3];
	struct files f;
	pid_t child;

	assert_int_equal(pipe(ready), 0);
	child = fork_with_us();
	if (!child) {
		f = open_files();
		if (write(ready[1], &f, sizeof(f)) == sizeof(f))
			pause();
		_exit(0);
	}
	assert_int_equal(read(ready[0], &f, sizeof(f)), sizeof(f));
	pidfd = syscall(SYS_pidfd_open, child, 0);
	for (unsigned int i = 0; i < 3; i++) {
		mine[i] = syscall(SYS_pidfd_getfd, pidfd, (&f.feed)[i], 0);
		assert_true(mine[i] >= 0);
	}
	assert_int_equal(use_of_another(mine[0], mine[1], mine[2]), 0);
	kill(child, SIGKILL);
	wait_for(child);
	assert_int_equal(use_of_another(mine[0], mine[1], mine[2]), 0);
	for (unsigned int i = 0; i < 3; i++)
		close(mine[i]);
	close(pidfd);
	close(ready[0]);
	close(ready[1]);
}

TEST(a_file_that_was_kept_over_exec_is_refused)
{
	struct files f;
	char script[100];
	pid_t child = fork_with_us();

	if (!child) {
		f = open_files();
		/* reads the inherited file and does not open it again */
		snprintf(script, sizeof(script), "dd bs=8 count=1 <&%d 2>&1 | grep -q permitted",
			 f.feed);
		execl("/bin/busybox", "sh", "-c", script, NULL);
		_exit(99);
	}
	assert_int_equal(exit_code_of(child), 0);
}

TEST(a_32_bit_program_uses_both_devices)
{
	pid_t child = fork_with_us();
	int line;

	if (!child) {
		execl("/bin/caller_32bit", "caller_32bit", NULL);
		_exit(errno == ENOEXEC ? 254 : 255);
	}
	line = exit_code_of(child);
	if (line == 254)
		TEST_SKIP("this kernel runs no 32-bit programs");
	/* otherwise this is a line number of caller_32bit.c, modulo 256 */
	assert_int_equal(line, 0);
}

TEST_MAIN()
