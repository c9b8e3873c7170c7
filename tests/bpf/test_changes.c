// SPDX-License-Identifier: MIT
/*
 * Ways to change memory, each applied to a page that is pinned: does the address then have another
 * page frame, and did the monitor report the translation as stale? The process's own page table
 * decides the first question, not what we know of the kernel. docs/changes.md says what happens in
 * each case.
 */
#include <fcntl.h>
#include <liburing.h>
#include <linux/fs.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include "changes.h"

#define HUGE		(2UL << 20)
#define RWF_UNCACHED	0x80	/* RWF_DONTCACHE: drop the pages afterwards */

static struct invlock_mm mm;
char *page;
int fd = -1;
static struct io_uring ring;	/* pins the page as a fixed buffer */
static int pin[2];	/* a pipe that holds the page where a fixed buffer is refused */

/* The page frame at an address; 0: none. */
static u64 frame(const char *at)
{
	int map = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	u64 entry = 0;

	assert_int_equal(pread(map, &entry, 8, (uintptr_t)at / PAGE * 8), 8);
	close(map);
	return entry >> 63 ? entry & ((1ULL << 55) - 1) : 0;
}

static void in_child(void (*change)(void))
{
	pid_t pid = fork();

	if (!pid) {
		change();
		_exit(0);
	}
	waitpid(pid, NULL, 0);
}

/* ---- memory: each function makes a page with bytes in it ---- */

bool map_group(int flags)
{
	page = mmap(NULL, GROUP, PROT_READ | PROT_WRITE, flags, fd, 0);
	if (page == MAP_FAILED)
		return false;
	memset(page, 1, GROUP);
	page += 4 * PAGE;
	return true;
}

static bool anon(void) { return map_group(MAP_PRIVATE | MAP_ANONYMOUS); }
static bool shared_anon(void) { return map_group(MAP_SHARED | MAP_ANONYMOUS); }

/* ---- ways: each returns 0, or -1 if this kernel or file system cannot ---- */

int zap(void) { return madvise(page, PAGE, MADV_DONTNEED); }
static int cut_by_map_files(void)
{
	char path[100];
	int file, ret;

	snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (long)page - 4 * PAGE,
		 (long)page - 4 * PAGE + GROUP);
	file = open(path, O_RDWR | O_CLOEXEC);
	ret = file < 0 ? -1 : ftruncate(file, 0) || ftruncate(file, GROUP);
	close(file);
	return ret;
}

static void remove_there(void) { madvise(page, PAGE, MADV_REMOVE); }

static int remove_by_child(void)
{
	in_child(remove_there);
	return 0;
}

static void write_there(void) { page[0] = 7; }

/* The child writes and exits, and then the parent writes: does the parent get a copy? */
static int fork_and_write(void)
{
	in_child(write_there);
	page[0] = 2;
	return 0;
}

static int write_proc_mem(void)
{
	int mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	ssize_t nr;

	mprotect(page, PAGE, PROT_READ);
	nr = pwrite(mem, "x", 1, (long)page);
	close(mem);
	mprotect(page, PAGE, PROT_READ | PROT_WRITE);
	return nr == 1 ? 0 : -1;
}

static int write_by_process_vm(void)
{
	struct iovec from = { "x", 1 }, to = { page, 1 };

	return process_vm_writev(getpid(), &from, 1, &to, 1, 0) == 1 ? 0 : -1;
}

static int poke(void)
{
	pid_t self = getpid(), tracer = fork();
	int status;

	if (!tracer) {
		int bad = ptrace(PTRACE_ATTACH, self, 0, 0) || waitpid(self, NULL, 0) != self ||
			  ptrace(PTRACE_POKEDATA, self, page, 5);

		ptrace(PTRACE_DETACH, self, 0, 0);
		_exit(bad);
	}
	waitpid(tracer, &status, 0);
	return status ? -1 : 0;
}

static int protect_and_back(void)
{
	return mprotect(page, PAGE, PROT_NONE) || mprotect(page, PAGE, PROT_READ | PROT_WRITE);
}

static int lock_and_unlock(void) { return mlock(page, PAGE) || munlock(page, PAGE); }
int page_out(void) { return madvise(page, PAGE, MADV_PAGEOUT); }
static int cool(void) { return madvise(page, PAGE, MADV_COLD); }
int collapse_pages(void) { return madvise((void *)((long)page & ~(HUGE - 1)), HUGE, 25); }
int offline_softly(void) { return madvise(page, PAGE, 101); }

static int wipe_on_fork(void)
{
	return madvise(page, PAGE, MADV_WIPEONFORK) ? -1 : fork_and_write();
}

static int guard_and_back(void)
{
	return madvise(page, PAGE, 102) || madvise(page, PAGE, 103);
}

static int merge(void)
{
	char *same = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int run = open("/sys/kernel/mm/ksm/run", O_RDWR | O_CLOEXEC), ret = -1;
	char before;

	if (run < 0 || read(run, &before, 1) != 1)
		return -1;
	memcpy(same, page, PAGE);
	if (!madvise(page, PAGE, MADV_MERGEABLE) && !madvise(same, PAGE, MADV_MERGEABLE)) {
		ret = pwrite(run, "1", 1, 0) == 1 ? 0 : -1;
		nap_ms(200);
		madvise(page, PAGE, MADV_UNMERGEABLE);
		if (pwrite(run, &before, 1, 0) != 1)
			ret = -1;
	}
	close(run);
	munmap(same, PAGE);
	return ret;
}

static int migrate(void)
{
	void *pages[] = { page };
	int node = 0, status = 0;

	return syscall(SYS_move_pages, 0, 1UL, pages, &node, &status, 1 << 2 /* MOVE_ALL */) < 0 ?
	       -1 : 0;
}

static int compact(void)
{
	int all = open("/proc/sys/vm/compact_memory", O_WRONLY | O_CLOEXEC);
	ssize_t nr = write(all, "1", 1);

	close(all);
	return nr == 1 ? 0 : -1;
}

static int move_by_userfaultfd(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	/* UFFDIO_MOVE, which older headers do not have */
	struct {
		u64 dst, src, len, mode, moved;
	} move = { .src = (u64)page, .len = PAGE };
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | 1), ret = -1;
	char *to = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	move.dst = reg.range.start = (u64)to;
	reg.range.len = PAGE;
	/* the kernel refuses to move pinned pages, and says so for each page */
	if (uffd >= 0 && !ioctl(uffd, UFFDIO_API, &api) && !ioctl(uffd, UFFDIO_REGISTER, &reg) &&
	    (!ioctl(uffd, _IOWR(UFFDIO, 5, move), &move) || errno == EBUSY || errno == EAGAIN))
		ret = 0;
	close(uffd);
	munmap(to, PAGE);
	return ret;
}

static int map_twice_and_punch(void)
{
	char *other = mremap(page, 0, PAGE, MREMAP_MAYMOVE);
	int ret = other == MAP_FAILED ? -1 : madvise(other, PAGE, MADV_REMOVE);

	munmap(other, PAGE);
	return ret;
}

static int leave_behind(void)
{
	char *to = mremap(page, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);

	munmap(to, PAGE);
	return to == MAP_FAILED ? -1 : 0;
}

static int munmap_in_vfork_child(void)
{
	pid_t pid = vfork();

	if (!pid) {
		munmap(page, PAGE);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	return mmap(page, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		    -1, 0) == page ? 0 : -1;
}

static const struct way ways[] = {
	{ "MADV_DONTNEED", anon, zap },
	{ "fork, then the child and the parent write", anon, fork_and_write },
	{ "/proc/self/mem of a page that is read-only", anon, write_proc_mem },
	{ "process_vm_writev", anon, write_by_process_vm },
	{ "PTRACE_POKEDATA", anon, poke },
	{ "mprotect and back", anon, protect_and_back },
	{ "mlock and munlock", anon, lock_and_unlock },
	{ "MADV_PAGEOUT", anon, page_out },
	{ "MADV_COLD", anon, cool },
	{ "MADV_COLLAPSE", anon, collapse_pages },
	{ "MADV_SOFT_OFFLINE", anon, offline_softly },
	{ "MADV_WIPEONFORK and fork", anon, wipe_on_fork },
	{ "MADV_GUARD_INSTALL and _REMOVE", anon, guard_and_back },
	{ "KSM", anon, merge },
	{ "move_pages", anon, migrate },
	{ "compaction", anon, compact },
	{ "UFFDIO_MOVE", anon, move_by_userfaultfd },
	{ "MREMAP_DONTUNMAP", anon, leave_behind },
	{ "munmap by a vfork child", anon, munmap_in_vfork_child },
	{ "MADV_REMOVE by a child", shared_anon, remove_by_child },
	{ "ftruncate through /proc/self/map_files", shared_anon, cut_by_map_files },
	{ "MADV_DONTNEED of shared memory", shared_anon, zap },
	{ "MADV_PAGEOUT of shared memory", shared_anon, page_out },
	{ "mremap from 0 bytes, MADV_REMOVE there", shared_anon, map_twice_and_punch },
};

/*
 * Pins the page as devices do. Where the file system does not allow writers to pin, it takes a
 * pipe, which only keeps the page's frame from being reused: a fork or UFFDIO_MOVE may still
 * replace the page.
 */
static void pin_page(void)
{
	struct iovec vec = { page, PAGE };

	pin[0] = pin[1] = -1;
	if (!io_uring_register_buffers(&ring, &vec, 1))
		return;
	assert_int_equal(pipe2(pin, O_CLOEXEC), 0);
	assert_int_equal(vmsplice(pin[1], &vec, 1, 0), PAGE);
}

static void unpin_page(void)
{
	if (pin[0] < 0)
		assert_int_equal(io_uring_unregister_buffers(&ring), 0);
	close(pin[0]);
	close(pin[1]);
}

enum outcome { UNKNOWN_HERE, SAME_PAGE, SEEN, NEEDLESS, MISSED };

static enum outcome try(const struct way *way, const struct invlock *il)
{
	struct invlock_snapshot snap;
	enum invlock_verdict verdict;
	struct iovec from, to;
	u64 before, after;
	char byte;
	int ret;

	if (!way->memory())
		return UNKNOWN_HERE;
	from = (struct iovec){ page, 1 };
	to = (struct iovec){ &byte, 1 };
	/*
	 * While a mapping is not known, the event of any file counts everywhere. Look it up first.
	 */
	assert_int_equal(monitor_bpf_note_missed(&mm), 0);
	assert_int_equal(seeing_sample(il, (u64)page, (u64)page + PAGE, &snap), 0);
	pin_page();
	before = frame(page);
	assert_true(before);
	ret = way->change();
	verdict = seeing_verdict(il, &snap, (u64)page, (u64)page + PAGE);
	/* Make the kernel read the page in again, by a way that fails instead of raising SIGBUS. */
	process_vm_readv(getpid(), &to, 1, &from, 1, 0);
	after = frame(page);
	if (way->after)
		way->after();
	unpin_page();
	close(fd);
	fd = -1;
	if (after != before)
		return verdict == INVLOCK_STALE ? SEEN : MISSED;
	if (ret)
		return UNKNOWN_HERE;
	return verdict == INVLOCK_STALE ? NEEDLESS : SAME_PAGE;
}

static const char *const outcomes[] = {
	"this kernel or file system does not do it", "the page stays", "the page goes, seen",
	"the page stays, needlessly stale", "THE PAGE GOES, NOT SEEN",
};

static void open_rig(void)
{
	int err = io_uring_queue_init(1, &ring, 0);

	if (err)
		TEST_SKIP("io_uring: %s", strerror(-err));
	monitor_open(&mm);
}

static void close_rig(void)
{
	monitor_close(&mm);
	io_uring_queue_exit(&ring);
}

static unsigned int nr_seen, nr_missed;

static void try_and_say(const struct way *way)
{
	enum outcome o = try(way, &mm.il);

	print_message("# %s: %s\n", way->name, outcomes[o]);
	nr_seen += o == SEEN;
	nr_missed += o == MISSED;
}

TEST(no_page_goes_unseen_in_any_of_these_ways)
{
	open_rig();
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++)
		try_and_say(&ways[i]);
	for (const struct way *way = file_ways; way->name; way++)
		try_and_say(way);
	assert_true(nr_seen > 0);
	assert_int_equal(nr_missed, 0);
	close_rig();
}

/* The same against a feed that nobody writes: the test must notice each page that goes. */
TEST(the_test_notices_when_a_page_goes_unseen)
{
	size_t bytes = invlock_feed_bytes(INVLOCK_NR_WORDS, INVLOCK_NR_EVENTS);
	void *mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct invlock deaf;

	open_rig();
	assert_int_equal(invlock_feed_format(mem, bytes, INVLOCK_NR_WORDS, INVLOCK_NR_EVENTS,
					     INVLOCK_STRIPE_SHIFT), 0);
	assert_int_equal(invlock_attach(&deaf, mem, bytes), 0);
	assert_int_equal(ways[0].change, zap);
	assert_int_equal(try(&ways[0], &deaf), MISSED);
	munmap(mem, bytes);
	close_rig();
}

TEST_MAIN()
