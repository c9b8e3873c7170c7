// SPDX-License-Identifier: MIT
/* Ways to change a file beside a page of it that is pinned: see test_changes.c. */
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include "changes.h"
#include "tests/huge.h"

#define HUGE		huge_page_bytes()
#define RWF_UNCACHED	0x80	/* RWF_DONTCACHE: drop the pages afterwards */

/* ---- files ---- */

static bool memfd(void)
{
	fd = memfd_create("invlock-test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(fd, GROUP), 0);
	return map_group(MAP_SHARED);
}

static bool disk_file(void)
{
	char path[] = "/var/tmp/invlock-test-XXXXXX";

	fd = mkostemp(path, O_CLOEXEC);
	unlink(path);
	assert_int_equal(ftruncate(fd, GROUP), 0);
	return map_group(MAP_SHARED) && !fsync(fd);
}

/* a memfd of one huge page, which the kernel makes because MADV_COLLAPSE asks for it */
static bool huge_memfd(void)
{
	char *at;

	fd = memfd_create("invlock-test", MFD_CLOEXEC);
	assert_int_equal(ftruncate(fd, 2 * HUGE), 0);
	at = mmap(NULL, 4 * HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	at = (char *)(((uintptr_t)at + HUGE - 1) & ~(HUGE - 1));
	page = mmap(at, 2 * HUGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	assert_ptr_equal(page, at);
	memset(page, 1, HUGE);
	madvise(page, HUGE, 25 /* MADV_COLLAPSE */);
	page += 4 * PAGE;
	return true;
}

/* ---- block devices: a file behind a loop device ---- */

static int backing = -1;

static bool block_device(void)
{
	char path[] = "/var/tmp/invlock-test-XXXXXX", name[32];
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int nr = ioctl(control, LOOP_CTL_GET_FREE);

	close(control);
	if (nr < 0)
		return false;
	close(backing);
	backing = mkostemp(path, O_CLOEXEC);
	unlink(path);
	if (ftruncate(backing, HUGE))
		return false;
	snprintf(name, sizeof(name), "/dev/loop%d", nr);
	fd = open(name, O_RDWR | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, LOOP_SET_FD, backing))
		return false;
	if (map_group(MAP_SHARED) && !fsync(fd))
		return true;
	ioctl(fd, LOOP_CLR_FD);
	return false;
}

static void give_back(void)
{
	ioctl(fd, LOOP_CLR_FD);
}

static int discard_blocks(void)
{
	u64 range[2] = { 0, HUGE };

	return ioctl(fd, BLKDISCARD, range);
}

static int zero_blocks(void)
{
	u64 range[2] = { 0, HUGE };

	return ioctl(fd, BLKZEROOUT, range);
}

static int punch_blocks(void) { return fallocate(fd, 3, 0, GROUP); }
static int flush_blocks(void) { return ioctl(fd, BLKFLSBUF, 0); }
static int read_again(void) { return ioctl(fd, BLKRRPART, 0); }
static int detach(void) { return ioctl(fd, LOOP_CLR_FD); }
static int punch_backing(void) { return fallocate(backing, 3, 0, HUGE); }

static int set_block_size(void)
{
	int size = 2048;

	return ioctl(fd, BLKBSZSET, &size);
}

/* ---- file systems, mounted in a namespace of our own ---- */

static bool own_mounts(void)
{
	static bool own;

	if (!own && !unshare(CLONE_NEWNS) &&
	    !mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL))
		own = true;
	return own;
}

/* An overlay of two folders in a tmpfs; the file is in the lower one. */
static bool overlaid(void)
{
	static bool mounted;

	if (!mounted) {
		if (!own_mounts() || mount("none", "/mnt", "tmpfs", 0, NULL) ||
		    mkdir("/mnt/low", 0700) || mkdir("/mnt/up", 0700) ||
		    mkdir("/mnt/work", 0700) || mkdir("/mnt/all", 0700))
			return false;
		close(open("/mnt/low/file", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
		if (truncate("/mnt/low/file", GROUP) ||
		    mount("none", "/mnt/all", "overlay", 0,
			  "lowerdir=/mnt/low,upperdir=/mnt/up,workdir=/mnt/work"))
			return false;
		mounted = true;
	}
	fd = open("/mnt/all/file", O_RDONLY | O_CLOEXEC);
	page = mmap(NULL, GROUP, PROT_READ, MAP_SHARED, fd, 0);
	if (page == MAP_FAILED)
		return false;
	page += 4 * PAGE;
	return !*(volatile char *)page;
}

static int copy_up(void)
{
	int up = open("/mnt/all/file", O_RDWR | O_CLOEXEC);
	ssize_t nr = pwrite(up, "new bytes", 9, 4 * PAGE);

	close(up);
	return nr == 9 ? 0 : -1;
}

static int cut_below(void)
{
	return truncate("/mnt/low/file", 0) || truncate("/mnt/low/file", GROUP);
}

/* ---- huge pages, if the pool can be made larger ---- */

static bool hugetlb(void)
{
	int pool = open("/proc/sys/vm/nr_hugepages", O_RDWR | O_CLOEXEC);
	char before[32] = "", *at;
	ssize_t nr = read(pool, before, sizeof(before) - 1);

	at = MAP_FAILED;
	fd = memfd_create("invlock-test", MFD_CLOEXEC | MFD_HUGETLB);
	if (nr > 0 && fd >= 0 && pwrite(pool, "2", 1, 0) == 1 && !ftruncate(fd, HUGE))
		at = mmap(NULL, HUGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at != MAP_FAILED)
		memset(at, 1, HUGE);
	/* pages in use do not leave the pool, so this takes back only the ones we added */
	if (nr > 0 && pwrite(pool, before, nr, 0) != nr)
		at = MAP_FAILED;
	close(pool);
	page = at;
	return at != MAP_FAILED;
}

static int punch_huge(void) { return fallocate(fd, 3, 0, HUGE); }
static int cut_huge(void) { return ftruncate(fd, 0); }

/* ---- ways ---- */

static int punch(void) { return fallocate(fd, 3, 4 * PAGE, PAGE); }
static int zero(void) { return fallocate(fd, 0x10 /* ZERO_RANGE */, 4 * PAGE, PAGE); }
static int collapse(void) { return fallocate(fd, 8 /* COLLAPSE_RANGE */, 0, 4 * PAGE); }
static int insert(void) { return fallocate(fd, 0x20 /* INSERT_RANGE */, 0, 4 * PAGE); }
static int cut(void) { return ftruncate(fd, 0) || ftruncate(fd, GROUP); }
static int cut_within(void) { return ftruncate(fd, 4 * PAGE + 100) || ftruncate(fd, GROUP); }
static int forget(void) { return posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); }
static int start_writeback(void) { return sync_file_range(fd, 0, GROUP, 7); }
static int sync_pages(void) { return msync(page, PAGE, MS_SYNC | MS_INVALIDATE); }

static int open_anew(const char *flags_of)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, strcmp(flags_of, "truncate") ? O_RDWR | O_DIRECT | O_CLOEXEC :
		    O_RDWR | O_TRUNC | O_CLOEXEC);
}

static int open_truncated(void)
{
	int again = open_anew("truncate");

	close(again);
	return again < 0 ? -1 : ftruncate(fd, GROUP);
}

static int write_around(void)
{
	int direct = open_anew("direct");
	char *from = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ssize_t nr = pwrite(direct, from, PAGE, 4 * PAGE);

	munmap(from, PAGE);
	close(direct);
	return nr == (ssize_t)PAGE ? 0 : -1;
}

static int read_around(void)
{
	int direct = open_anew("direct");
	char *to = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ssize_t nr = pread(direct, to, PAGE, 4 * PAGE);

	munmap(to, PAGE);
	close(direct);
	return nr == (ssize_t)PAGE ? 0 : -1;
}

static int write_uncached(void)
{
	struct iovec from = { "new bytes", 9 };

	if (pwritev2(fd, &from, 1, 4 * PAGE, RWF_UNCACHED) != 9)
		return -1;
	return fsync(fd);
}

static int read_uncached(void)
{
	char to[9];
	struct iovec vec = { to, 9 };

	return preadv2(fd, &vec, 1, 4 * PAGE, RWF_UNCACHED) == 9 ? 0 : -1;
}

static int write_through(void)
{
	return pwrite(fd, "new bytes", 9, 4 * PAGE) == 9 ? fsync(fd) : -1;
}

static int copy_into(void)
{
	char path[] = "/var/tmp/invlock-test-XXXXXX";
	int from = mkostemp(path, O_CLOEXEC);
	off_t in = 0, out = 0;
	ssize_t nr;

	unlink(path);
	nr = ftruncate(from, GROUP) ? -1 : copy_file_range(from, &in, fd, &out, GROUP, 0);
	close(from);
	return nr > 0 ? 0 : -1;
}

static int clone_into(void)
{
	char path[] = "/var/tmp/invlock-test-XXXXXX";
	int from = mkostemp(path, O_CLOEXEC), ret;

	unlink(path);
	ret = ftruncate(from, GROUP) ? -1 : ioctl(fd, FICLONE, from);
	close(from);
	return ret;
}

static int splice_into(void)
{
	char *gift = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct iovec vec = { gift, PAGE };
	loff_t at = 4 * PAGE;
	int ends[2], ret;

	gift[0] = 2;
	if (pipe(ends))
		return -1;
	ret = vmsplice(ends[1], &vec, 1, SPLICE_F_GIFT) != (ssize_t)PAGE ||
	      splice(ends[0], NULL, fd, &at, PAGE, SPLICE_F_MOVE) != (ssize_t)PAGE;
	close(ends[0]);
	close(ends[1]);
	munmap(gift, PAGE);
	return ret ? -1 : 0;
}

/* EXT4_IOC_MOVE_EXT, the call of online defragmentation: swaps blocks between two files. */
static int defragment(void)
{
	struct {
		u32 reserved, donor;
		u64 from, to, len, moved;
	} move = { .len = GROUP / PAGE };
	char path[] = "/var/tmp/invlock-test-XXXXXX";
	int ret;

	move.donor = mkostemp(path, O_CLOEXEC);
	unlink(path);
	ret = fallocate(move.donor, 0, 0, GROUP) || ioctl(fd, _IOWR('f', 15, move), &move);
	close(move.donor);
	return ret ? -1 : 0;
}

static int seal(void) { return fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW); }

const struct way file_ways[] = {
	{ "punch, memfd", memfd, punch },
	{ "ftruncate in the middle of a page, memfd", memfd, cut_within },
	{ "seals, memfd", memfd, seal },
	{ "splice with SPLICE_F_MOVE, memfd", memfd, splice_into },
	{ "MADV_SOFT_OFFLINE, memfd", memfd, offline_softly },
	{ "MADV_COLLAPSE, memfd", huge_memfd, collapse_pages },
	{ "punch within a huge page, memfd", huge_memfd, punch },
	{ "ftruncate to nothing and back, disk", disk_file, cut },
	{ "ftruncate in the middle of a page, disk", disk_file, cut_within },
	{ "open with O_TRUNC, disk", disk_file, open_truncated },
	{ "PUNCH_HOLE, disk", disk_file, punch },
	{ "ZERO_RANGE, disk", disk_file, zero },
	{ "COLLAPSE_RANGE, disk", disk_file, collapse },
	{ "INSERT_RANGE, disk", disk_file, insert },
	{ "O_DIRECT write, disk", disk_file, write_around },
	{ "O_DIRECT read, disk", disk_file, read_around },
	{ "RWF_DONTCACHE write, disk", disk_file, write_uncached },
	{ "RWF_DONTCACHE read, disk", disk_file, read_uncached },
	{ "write and fsync, disk", disk_file, write_through },
	{ "copy_file_range, disk", disk_file, copy_into },
	{ "FICLONE, disk", disk_file, clone_into },
	{ "splice with SPLICE_F_MOVE, disk", disk_file, splice_into },
	{ "EXT4_IOC_MOVE_EXT, disk", disk_file, defragment },
	{ "POSIX_FADV_DONTNEED, disk", disk_file, forget },
	{ "sync_file_range, disk", disk_file, start_writeback },
	{ "MS_INVALIDATE, disk", disk_file, sync_pages },
	{ "MADV_PAGEOUT, disk", disk_file, page_out },
	{ "MADV_SOFT_OFFLINE, disk", disk_file, offline_softly },
	{ "BLKDISCARD, block device", block_device, discard_blocks, give_back },
	{ "BLKZEROOUT, block device", block_device, zero_blocks, give_back },
	{ "PUNCH_HOLE, block device", block_device, punch_blocks, give_back },
	{ "BLKFLSBUF, block device", block_device, flush_blocks, give_back },
	{ "BLKRRPART, block device", block_device, read_again, give_back },
	{ "BLKBSZSET, block device", block_device, set_block_size, give_back },
	{ "LOOP_CLR_FD, block device", block_device, detach, give_back },
	{ "hole in the file behind it, block device", block_device, punch_backing, give_back },
	{ "truncate of the lower file, overlayfs", overlaid, cut_below },
	{ "copy-up, overlayfs", overlaid, copy_up },
	{ "PUNCH_HOLE, hugetlbfs", hugetlb, punch_huge },
	{ "ftruncate, hugetlbfs", hugetlb, cut_huge },
	{}
};
