// SPDX-License-Identifier: MIT
/*
 * Changes that the kernel makes by itself: reclaim, write-back, migration, merging, reaping. Each
 * test provokes the kernel until it makes the change, and then expects an event in the feed.
 */
#include "kinds.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <linux/mempolicy.h>

#define CGROUP	"/sys/fs/cgroup/reclaim"
#define KSM	"/sys/kernel/mm/ksm/"
#define THP	"/sys/kernel/mm/transparent_hugepage/"

/* Wait for an event of that kind that touches the range; call @meanwhile while waiting. */
static bool becomes_seen(const void *start, size_t len, uint32_t kind, void (*meanwhile)(void))
{
	for (unsigned int i = 0; i < PATIENCE; i++) {
		if (seen_within(start, len, kind))
			return true;
		if (meanwhile)
			meanwhile();
		sleep_ms(10);
	}
	return false;
}

TEST(reclaim_by_a_memory_cgroup_is_seen)
{
	char *p, text[32];

	if (mkdir(CGROUP, 0755))
		TEST_SKIP("no memory cgroup: %s", strerror(errno));
	snprintf(text, sizeof(text), "%d", getpid());
	assert_true(write_file(CGROUP "/cgroup.procs", text));
	p = small_pages(4 * MIB);
	begin();
	write_file(CGROUP "/memory.reclaim", "3M");
	assert_true(write_file("/sys/fs/cgroup/cgroup.procs", text));
	assert_true(seen_within(p, 4 * MIB, INVLOCK_KIND_DISCARD));
	assert_true(feed_is_quiet(&feed));
	rmdir(CGROUP);
}

/* Return: the value, or 0 if there is none of that name. */
static unsigned long vmstat(const char *name)
{
	char line[128];
	unsigned long value = 0;
	FILE *f = fopen("/proc/vmstat", "r");

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, name, strlen(name)) && line[strlen(name)] == ' ')
			value = strtoul(line + strlen(name), NULL, 10);
	if (f)
		fclose(f);
	return value;
}

static void read_file(const char *path, char *text, size_t len)
{
	FILE *f = fopen(path, "r");

	assert_non_null(f);
	assert_non_null(fgets(text, len, f));
	fclose(f);
}

#define RESERVE		(256 * MIB)	/* a quarter of the guest's memory */

static struct sysinfo memory_now(void)
{
	struct sysinfo now;

	assert_int_equal(sysinfo(&now), 0);
	now.freeram *= now.mem_unit;
	return now;
}

/*
 * Fill the memory down to the reserve, and wait there for kswapd, which begins above the reserve: a
 * process that gets below reclaims by itself, or is killed in the end. Once half of the swap space
 * is used, all of it is given back. Otherwise it could use up the space that our memory needs.
 */
static void fill_memory(void)
{
	struct sysinfo first = memory_now(), now;

	while (now = memory_now(), now.freeswap > first.freeswap / 2) {
		char *p = MAP_FAILED;

		if (now.freeram > RESERVE + RESERVE / 8)
			p = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
				 -1, 0);
		if (p == MAP_FAILED)
			sleep_ms(1);
		else
			memset(p, 1, MIB);
	}
	_exit(0);
}

static char *cold;
static pid_t filler;

/* Let kswapd take this memory first: nobody has used it for longer. */
static void cool_and_fill(void)
{
	madvise(cold, 4 * MIB, MADV_COLD);
	if (filler && waitpid(filler, NULL, WNOHANG) != filler)
		return;
	filler = fork_with_us();
	if (!filler)
		fill_memory();
}

TEST(reclaim_by_kswapd_is_seen)
{
	unsigned long stolen = vmstat("pgsteal_kswapd");
	char reserve[32], text[32];
	bool found;

	cold = small_pages(4 * MIB);
	read_file("/proc/sys/vm/min_free_kbytes", reserve, sizeof(reserve));
	snprintf(text, sizeof(text), "%lu", RESERVE / 1024);
	assert_true(write_file("/proc/sys/vm/min_free_kbytes", text));
	assert_true(write_file("/proc/sys/vm/swappiness", "200"));
	begin();
	found = becomes_seen(cold, 4 * MIB, INVLOCK_KIND_DISCARD, cool_and_fill);
	if (filler) {
		kill(filler, SIGKILL);
		wait_for(filler);
	}
	assert_true(write_file("/proc/sys/vm/min_free_kbytes", reserve));
	assert_true(write_file("/proc/sys/vm/swappiness", "60"));
	assert_true(found);
	assert_true(vmstat("pgsteal_kswapd") > stolen);
	expect_quiet_soon();
}

/* Make a disk in memory. Return: its number, or -1 if this kernel has no zram. */
static int make_disk(void)
{
	int nr = -1;
	char path[64];
	FILE *f = fopen("/sys/class/zram-control/hot_add", "r");

	if (!f)
		return -1;
	if (fscanf(f, "%d", &nr) == 1) {
		snprintf(path, sizeof(path), "/sys/block/zram%d/disksize", nr);
		assert_true(write_file(path, "16M"));
	}
	fclose(f);
	return nr;
}

TEST(write_back_of_a_file_is_seen)
{
	int fd, disk = make_disk();
	char text[64], *p;

	if (disk < 0)
		TEST_SKIP("no disk to write back to: %s", strerror(errno));
	mkdir("/tmp/disk", 0755);
	snprintf(text, sizeof(text), "mke2fs -b 4096 /dev/zram%d > /dev/null 2>&1", disk);
	assert_int_equal(system(text), 0);
	snprintf(text, sizeof(text), "/dev/zram%d", disk);
	assert_int_equal(mount(text, "/tmp/disk", "ext2", 0, NULL), 0);
	fd = open("/tmp/disk/file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, LEN), 0);
	p = map_fd(fd, LEN, MAP_SHARED);
	memset(p, 1, LEN);
	begin();
	assert_int_equal(fsync(fd), 0);
	/* write-back protects the page, so that the next write makes it dirty again */
	expect_each_page(p, LEN, INVLOCK_KIND_PROTECT, INVLOCK_KIND_PROTECT);
	munmap(p, LEN);
	close(fd);
	assert_int_equal(umount("/tmp/disk"), 0);
	snprintf(text, sizeof(text), "%d", disk);
	assert_true(write_file("/sys/class/zram-control/hot_remove", text));
}

/* Return: memory without every other page, so that there is much to compact. */
static char *full_of_holes(size_t len)
{
	char *p = small_pages(len);

	for (size_t at = 0; at < len; at += 2 * PAGE)
		assert_int_equal(madvise(p + at, PAGE, MADV_DONTNEED), 0);
	return p;
}

TEST(compaction_is_seen)
{
	const size_t len = 32 * MIB;
	char *p[10];
	unsigned int nr = 0;
	bool found = false;

	/* use more memory each time: pages that lie where the others are moved to do not move */
	while (nr < 10 && !found) {
		p[nr++] = full_of_holes(len);
		begin();
		if (!write_file("/proc/sys/vm/compact_memory", "1"))
			TEST_SKIP("this kernel does not compact: %s", strerror(errno));
		for (unsigned int i = 0; i < nr; i++)
			found |= seen_within(p[i], len, INVLOCK_KIND_DISCARD);
	}
	assert_true(found);
	assert_true(feed_is_quiet(&feed));
	while (nr)
		munmap(p[--nr], len);
}

static volatile char *touched;

static void touch(void)
{
	clock_t end = clock() + CLOCKS_PER_SEC / 100;

	while (clock() < end)
		for (size_t at = 0; at < 2 * MIB; at += PAGE)
			touched[at]++;
}

TEST(the_scan_for_the_node_that_uses_a_page_is_seen)
{
	char *p = small_pages(2 * MIB);
	bool found;

	touched = p;
	if (!set_numa_scans(true))
		TEST_SKIP("this kernel does not balance NUMA nodes");
	begin();
	found = becomes_seen(p, 2 * MIB, INVLOCK_KIND_PROTECT, touch);
	assert_true(set_numa_scans(false));
	assert_true(found);
	expect_quiet_soon();
}

/*
 * Bind this thread to its CPU, and allocate memory on the other NUMA node. Return: the memory, or
 * NULL if this kernel cannot.
 */
static char *pages_of_another_node(size_t len)
{
	unsigned int cpu, node;
	unsigned long other;
	cpu_set_t here;
	char *p;

	assert_int_equal(syscall(SYS_getcpu, &cpu, &node, NULL), 0);
	CPU_ZERO(&here);
	CPU_SET(cpu, &here);
	assert_int_equal(sched_setaffinity(0, sizeof(here), &here), 0);
	other = 1UL << !node;
	if (syscall(SYS_set_mempolicy, MPOL_BIND, &other, 64UL))
		return NULL;
	p = small_pages(len);
	assert_int_equal(syscall(SYS_set_mempolicy, MPOL_DEFAULT, NULL, 0UL), 0);
	return p;
}

TEST(migration_to_the_node_that_uses_a_page_is_seen)
{
	unsigned long migrated = vmstat("numa_pages_migrated");
	cpu_set_t anywhere;
	bool found;
	char *p;

	assert_int_equal(sched_getaffinity(0, sizeof(anywhere), &anywhere), 0);
	p = pages_of_another_node(2 * MIB);
	if (!p || !set_numa_scans(true))
		TEST_SKIP("this kernel does not balance NUMA nodes");
	touched = p;
	begin();
	found = becomes_seen(p, 2 * MIB, INVLOCK_KIND_DISCARD, touch);
	assert_true(set_numa_scans(false));
	assert_int_equal(sched_setaffinity(0, sizeof(anywhere), &anywhere), 0);
	assert_true(found);
	assert_true(vmstat("numa_pages_migrated") > migrated);
	expect_quiet_soon();
}

TEST(merging_of_equal_pages_is_seen)
{
	char *p = small_pages(LEN);
	bool found;

	if (!write_file(KSM "sleep_millisecs", "10") || !write_file(KSM "pages_to_scan", "1000"))
		TEST_SKIP("this kernel has no KSM");
	begin();
	assert_int_equal(madvise(p, LEN, MADV_MERGEABLE), 0);
	assert_true(write_file(KSM "run", "1"));
	found = becomes_seen(p, LEN, INVLOCK_KIND_DISCARD, NULL);
	assert_true(write_file(KSM "run", "0"));
	assert_true(found);
	expect_quiet_soon();
}

TEST(collapse_by_khugepaged_is_seen)
{
	char *p = small_pages(2 * MIB);

	if (!write_file(THP "khugepaged/scan_sleep_millisecs", "10") ||
	    !write_file(THP "khugepaged/pages_to_scan", "4096"))
		TEST_SKIP("this kernel has no khugepaged");
	begin();
	assert_int_equal(madvise(p, 2 * MIB, MADV_HUGEPAGE), 0);
	assert_true(becomes_seen(p, 2 * MIB, INVLOCK_KIND_DISCARD, NULL));
	expect_quiet_soon();
	expect_exactly(p, 2 * MIB, INVLOCK_KIND_DISCARD);
	write_file(THP "khugepaged/scan_sleep_millisecs", "10000");
}

/* What the parent must know to read the feed of a child out of the child's memory. */
struct reaped_process {
	void *feed;
	size_t feed_bytes;
	char *page;
};

static void *fault_slowly(void *arg)
{
	int fd = mirror_open();
	char byte;

	mirror_read(fd, arg, &byte, 1);
	return NULL;
}

/* Become a process that cannot die at once, because one of its threads is in a fault. */
static void be_a_victim(int out)
{
	struct reaped_process v;
	pthread_t thread;
	int fd;

	feed_close(&feed);
	/* the reaper skips a shared mapping only if its file was opened for writing */
	feed_open_as(&feed, 0, O_RDWR);
	v = (struct reaped_process){ feed.il.feed, feed.bytes, small_pages(LEN) };
	fd = mirror_open();
	if (pthread_create(&thread, NULL, fault_slowly, v.page))
		_exit(99);
	while (!mirror_stats(fd).walks)
		sleep_ms(1);
	if (write(out, &v, sizeof(v)) != sizeof(v))
		_exit(99);
	pause();
	_exit(99);
}

/* Return: did the reaper come in time, and is its event in the feed? */
static bool is_reaped(unsigned int delay_ms)
{
	struct invlock_feed *copy;
	struct reaped_process v;
	char path[64];
	int pipefd[2], mem, pidfd;
	bool found = false;
	pid_t child;

	set_delay_ms(delay_ms);
	assert_int_equal(pipe(pipefd), 0);
	child = fork_with_us();
	if (!child)
		be_a_victim(pipefd[1]);
	close(pipefd[1]);
	pidfd = syscall(SYS_pidfd_open, child, 0);
	snprintf(path, sizeof(path), "/proc/%d/mem", child);
	assert_int_equal(read(pipefd[0], &v, sizeof(v)), sizeof(v));
	mem = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(mem >= 0);
	copy = aligned_alloc(PAGE, v.feed_bytes);
	assert_non_null(copy);
	kill(child, SIGKILL);
	/* if the fault ends too soon, nothing is reaped, or the feed is gone */
	if (!syscall(SYS_process_mrelease, pidfd, 0U) &&
	    pread(mem, copy, v.feed_bytes, (off_t)v.feed) == (ssize_t)v.feed_bytes &&
	    !(copy->flags & INVLOCK_FEED_DEAD)) {
		struct feed theirs = { 0 };

		assert_int_equal(invlock_attach(&theirs.il, copy, v.feed_bytes), 0);
		found = feed_find(&theirs, 0, v.page, LEN, INVLOCK_KIND_UNMAP) ||
			feed_find(&theirs, 0, v.page, LEN, INVLOCK_KIND_DISCARD);
		assert_true(feed_is_quiet(&theirs));
	}
	free(copy);
	close(mem);
	close(pidfd);
	close(pipefd[0]);
	wait_for(child);
	set_delay_ms(0);
	return found;
}

TEST(the_reaper_of_a_killed_process_is_seen)
{
	bool found = false;

	if (syscall(SYS_process_mrelease, -1, 0U) && errno == ENOSYS)
		TEST_SKIP("this kernel has no process_mrelease()");
	/* how long the fault must last depends on how busy the machine is */
	for (unsigned int delay_ms = 500; delay_ms <= 32000 && !found; delay_ms *= 2)
		found = is_reaped(delay_ms);
	assert_true(found);
}

TEST_MAIN(.setup = setup, .teardown = teardown)
