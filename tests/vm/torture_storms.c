// SPDX-License-Identifier: MIT
/* The storms. Each changes a few pages, which it chooses at random, and keeps their content. */
#include "torture.h"

#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <linux/userfaultfd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define CGROUP	"/sys/fs/cgroup/torture"
#define KSM	"/sys/kernel/mm/ksm/"

static __thread unsigned int seed;

struct storm_range {
	char *start;
	size_t len;
	size_t offset;
};

static struct storm_range choose(char *region)
{
	size_t len = (rand_r(&seed) % STORM_PAGES + 1) * PAGE;
	size_t offset = rand_r(&seed) % ((REGION - TAIL - len) / PAGE + 1) * PAGE;

	return (struct storm_range){ region + offset, len, offset };
}

static struct storm_range choose_any(unsigned int nr)
{
	return choose(nr & 1 ? torture.shared : torture.private);
}

/* Memory belongs to the cgroup whose process touches it first. */
void torture_join_cgroup(bool join)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", getpid());
	mkdir(CGROUP, 0755);
	write_file(join ? CGROUP "/cgroup.procs" : "/sys/fs/cgroup/cgroup.procs", text);
}

static bool map_back(const struct storm_range *r)
{
	return mmap(r->start, r->len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		    torture.memfd, r->offset) == r->start;
}

static bool by_munmap(unsigned int nr)
{
	struct storm_range r = choose(torture.shared);

	(void)nr;
	return !munmap(r.start, r.len) && map_back(&r);
}

static bool by_mapping_over(unsigned int nr)
{
	struct storm_range r = choose(torture.shared);

	(void)nr;
	return map_back(&r);
}

static bool by_mremap(unsigned int nr)
{
	char *away = torture.away;
	struct storm_range r = choose(torture.private);
	unsigned int tries = 0;

	/* fails with EFAULT where two mappings meet, which another storm may have caused */
	if (mremap(r.start, r.len, r.len, MREMAP_MAYMOVE | MREMAP_FIXED, away) != away)
		return nr || errno == EFAULT;
	while (mremap(away, r.len, r.len, MREMAP_MAYMOVE | MREMAP_FIXED, r.start) != r.start)
		if (++tries == 1000)
			return false;
	/* keep the room that the pages were moved to */
	return mmap(away, MAX_STORM, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
	       away;
}

static bool by_mprotect(unsigned int nr)
{
	struct storm_range r = choose_any(nr);

	/* another storm may have unmapped a part for a moment */
	if (mprotect(r.start, r.len, PROT_READ) && errno != ENOMEM)
		return false;
	return !mprotect(r.start, r.len, PROT_READ | PROT_WRITE) || errno == ENOMEM;
}

static void all_writable(void)
{
	mprotect(torture.private, REGION, PROT_READ | PROT_WRITE);
	mprotect(torture.shared, REGION, PROT_READ | PROT_WRITE);
}

static bool by_dontneed(unsigned int nr)
{
	struct storm_range r = choose(torture.shared);

	(void)nr;
	return !madvise(r.start, r.len, MADV_DONTNEED) || errno == ENOMEM;
}

static bool by_fork(unsigned int nr)
{
	pid_t child = fork();

	(void)nr;
	if (!child) {
		/* child and parent share the pages for a moment */
		sleep_ms(2);
		_exit(0);
	}
	return child > 0 && waitpid(child, NULL, 0) == child;
}

static bool by_ksm(unsigned int nr)
{
	if (!nr && (!write_file(KSM "sleep_millisecs", "1") ||
		    !write_file(KSM "pages_to_scan", "1000") || !write_file(KSM "run", "1")))
		return false;
	/* memory that was moved or mapped anew is no longer mergeable */
	madvise(torture.private, REGION, MADV_MERGEABLE);
	sleep_ms(5);
	return nr % 64 != 63 || (write_file(KSM "run", "2") && write_file(KSM "run", "1"));
}

static void no_ksm(void)
{
	write_file(KSM "run", "2");
	write_file(KSM "run", "0");
}

static bool by_huge_pages(unsigned int nr)
{
	char text[80];

	(void)nr;
	/* these fail while another storm has a hole there */
	madvise(torture.private, REGION, MADV_HUGEPAGE);
	madvise(torture.private, REGION, MADV_COLLAPSE);
	snprintf(text, sizeof(text), "%d,0x%lx,0x%lx", getpid(), (unsigned long)torture.private,
		 (unsigned long)torture.private + REGION);
	write_file("/sys/kernel/debug/split_huge_pages", text);
	return !access("/sys/kernel/mm/transparent_hugepage", F_OK);
}

static bool by_move_pages(unsigned int nr)
{
	struct storm_range r = choose_any(nr);
	void *pages[STORM_PAGES];
	int nodes[STORM_PAGES], status[STORM_PAGES];
	unsigned long n = r.len / PAGE;

	for (unsigned long i = 0; i < n; i++) {
		pages[i] = r.start + i * PAGE;
		nodes[i] = nr / 2 % 2;
	}
	return syscall(SYS_move_pages, 0, n, pages, nodes, status, 2) >= 0 || errno != ENOSYS;
}

static bool by_ftruncate(unsigned int nr)
{
	(void)nr;
	return !ftruncate(torture.memfd, REGION - TAIL) && !ftruncate(torture.memfd, REGION);
}

static bool by_reclaim(unsigned int nr)
{
	(void)nr;
	/* EAGAIN means that the kernel reclaimed less than that */
	return write_file(CGROUP "/memory.reclaim", "1M") || errno == EAGAIN;
}

static bool by_swapping(unsigned int nr)
{
	struct storm_range r = choose_any(nr);

	return !madvise(r.start, r.len, MADV_PAGEOUT) || errno == ENOMEM;
}

static bool by_soft_dirty(unsigned int nr)
{
	(void)nr;
	return write_file("/proc/self/clear_refs", "4");
}

static bool by_uffd_wp(unsigned int nr)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP };
	struct storm_range r = choose(torture.private);
	struct uffdio_range range = { (unsigned long)r.start, r.len };
	struct uffdio_register reg = { .range = range, .mode = UFFDIO_REGISTER_MODE_WP };
	struct uffdio_writeprotect wp = { .range = range, .mode = UFFDIO_WRITEPROTECT_MODE_WP };
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	bool good = uffd >= 0 && !ioctl(uffd, UFFDIO_API, &api);

	/* another storm may have unmapped a part for a moment */
	if (good && !ioctl(uffd, UFFDIO_REGISTER, &reg) &&
	    !ioctl(uffd, UFFDIO_WRITEPROTECT, &wp)) {
		sched_yield();
		wp.mode = 0;
		ioctl(uffd, UFFDIO_WRITEPROTECT, &wp);
	}
	/* this wakes the threads that wait for a fault */
	close(uffd);
	return good || nr;
}

static bool by_compaction(unsigned int nr)
{
	(void)nr;
	return write_file("/proc/sys/vm/compact_memory", "1");
}

static bool by_numa_scans(unsigned int nr)
{
	if (!nr && !set_numa_scans(true))
		return false;
	sleep_ms(5);
	return true;
}

static void no_numa_scans(void)
{
	set_numa_scans(false);
}

const struct torture_storm torture_storms[] = {
	{ "munmap", by_munmap },
	{ "mapping_over", by_mapping_over },
	{ "mremap", by_mremap },
	{ "mprotect", by_mprotect, all_writable },
	{ "dontneed", by_dontneed },
	{ "fork", by_fork },
	{ "ksm", by_ksm, no_ksm },
	{ "huge_pages", by_huge_pages },
	{ "move_pages", by_move_pages },
	{ "ftruncate", by_ftruncate },
	{ "reclaim", by_reclaim },
	{ "swapping", by_swapping },
	{ "soft_dirty", by_soft_dirty },
	{ "uffd_wp", by_uffd_wp },
	{ "compaction", by_compaction, .rare = true },
	{ "numa_scans", by_numa_scans, no_numa_scans },
};

const unsigned int nr_torture_storms = sizeof(torture_storms) / sizeof(torture_storms[0]);
