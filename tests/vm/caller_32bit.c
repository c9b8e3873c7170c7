// SPDX-License-Identifier: MIT
/*
 * A 32-bit program that uses both devices. test_input.c runs it. It does without libc, so that no
 * 32-bit packages are needed. Its exit status is 0, or the low eight bits of the number of the
 * line whose check failed.
 */
#include <invlock/dev.h>

#define SYS_exit	1
#define SYS_open	5
#define SYS_ioctl	54
#define SYS_mmap2	192

#define O_RDWR		2
#define PROT_READ	1
#define PROT_WRITE	2
#define MAP_SHARED	1
#define MAP_ANONYMOUS	0x22	/* and private */

#define EPERM	1
#define EFAULT	14
#define EINVAL	22

static long call(long nr, long a, long b, long c, long d, long e)
{
	long ret;

	/* the sixth argument, which is mmap2's offset in pages, is 0 */
	asm volatile("push %%ebp\n\txor %%ebp, %%ebp\n\tint $0x80\n\tpop %%ebp"
		     : "=a"(ret) : "a"(nr), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e) : "memory");
	return ret;
}

#define CHECK(condition)	do { if (!(condition)) return __LINE__; } while (0)

static long access_mirror(long fd, __u32 op, __u64 addr, __u64 len, __u64 buffer)
{
	struct invlock_mirror_access a = {
		.size = sizeof(a), .op = op, .addr = addr, .len = len, .buffer = buffer,
	};

	return call(SYS_ioctl, fd, INVLOCK_MIRROR_ACCESS, (long)&a, 0, 0);
}

static int use_the_feed(void)
{
	struct invlock_feed_see see = { .size = sizeof(see) };
	const struct invlock_feed *feed;
	long fd, p;

	fd = call(SYS_open, (long)"/dev/invlock", 0, 0, 0, 0);
	CHECK(fd >= 0);
	CHECK(call(SYS_ioctl, fd, INVLOCK_FEED_SEE, (long)&see, 0, 0) == 0);
	CHECK(see.feed_size > INVLOCK_FEED_HEADER_SIZE && !(see.feed_size >> 32));
	p = call(SYS_mmap2, 0, (long)see.feed_size, PROT_READ, MAP_SHARED, fd);
	/* an error is an address in the last page of the address space */
	CHECK((unsigned long)p < -4095UL);
	feed = (const struct invlock_feed *)p;
	CHECK(feed->magic == INVLOCK_FEED_MAGIC && feed->feed_size == see.feed_size);
	see.size = 1;
	CHECK(call(SYS_ioctl, fd, INVLOCK_FEED_SEE, (long)&see, 0, 0) == -EINVAL);
	return 0;
}

static int use_the_mirror(void)
{
	struct invlock_mirror_stats stats = { .size = sizeof(stats) };
	unsigned long p, buffer;
	volatile int *word;
	int value = 0;
	long fd;

	buffer = (unsigned long)&value;
	fd = call(SYS_open, (long)"/dev/invlock_mirror", O_RDWR, 0, 0, 0);
	CHECK(fd >= 0);
	p = call(SYS_mmap2, 0, 8192, PROT_READ | PROT_WRITE, MAP_ANONYMOUS, -1);
	CHECK(p < -4095UL);
	word = (volatile int *)p;
	*word = 32;
	CHECK(access_mirror(fd, INVLOCK_MIRROR_READ, p, 4, buffer) == 0 && value == 32);
	value = 33;
	CHECK(access_mirror(fd, INVLOCK_MIRROR_WRITE, p, 4, buffer) == 0 && *word == 33);
	/* an address beyond 4 GiB is refused and does not wrap */
	CHECK(access_mirror(fd, INVLOCK_MIRROR_READ, 0x100000000ULL + p, 4, buffer) == -EFAULT);
	CHECK(access_mirror(fd, INVLOCK_MIRROR_READ, 0xfffffffcULL, 8, buffer) == -EFAULT);
	CHECK(access_mirror(fd, INVLOCK_MIRROR_READ, p, 4, 0x100000000ULL + buffer)
	      == -EFAULT);
	CHECK(access_mirror(fd, 99, p, 4, buffer) == -EINVAL);
	CHECK(call(SYS_ioctl, fd, INVLOCK_MIRROR_STATS, (long)&stats, 0, 0) == 0);
	CHECK(stats.accesses == 3 && stats.entries == 1);
	return 0;
}

void _start(void)
{
	int line = use_the_feed();

	if (!line)
		line = use_the_mirror();
	call(SYS_exit, line & 0xff ? line & 0xff : !!line, 0, 0, 0, 0);
	__builtin_unreachable();
}
