// SPDX-License-Identifier: MIT
/* Access rights that are for a cache, and sentences about errors. */
#include "adapter.h"
#include "adapters/common.h"
#include "adapters/memlock.h"

#define LOCAL_AND_REMOTE (IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | \
			  IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC)
/* the rights beside these that do not change what a region is; as numbers, where they are newer */
#define FLUSH		(0x3u << 8)	/* IBV_ACCESS_FLUSH_GLOBAL, IBV_ACCESS_FLUSH_PERSISTENT */
#define KNOWN		(LOCAL_AND_REMOTE | IBV_ACCESS_HUGETLB | \
			 IBV_ACCESS_RELAXED_ORDERING | FLUSH)

int verbs_check_access(unsigned int access, struct invlock_why *why)
{
	if (access & IBV_ACCESS_ON_DEMAND)
		return explain(why, -EINVAL, "IBV_ACCESS_ON_DEMAND: the kernel itself keeps such a "
			       "region valid when memory changes: register it once, without a "
			       "cache");
	if (access & IBV_ACCESS_MW_BIND)
		return explain(why, -EINVAL, "IBV_ACCESS_MW_BIND: a memory window would outlive "
			       "the region that it is bound to: register its memory without a "
			       "cache");
	if (access & IBV_ACCESS_ZERO_BASED)
		return explain(why, -EINVAL, "IBV_ACCESS_ZERO_BASED: a region of a cache may begin "
			       "before the memory that was asked for, so it is addressed by "
			       "pointers: leave the flag out");
	if (access & ~KNOWN)
		return explain(why, -EINVAL, "access %#x has rights that are not known here: %#x",
			       access, access & ~KNOWN);
	if (access & (IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC) &&
	    !(access & IBV_ACCESS_LOCAL_WRITE))
		return explain(why, -EINVAL, "IBV_ACCESS_REMOTE_WRITE and IBV_ACCESS_REMOTE_ATOMIC "
			       "need IBV_ACCESS_LOCAL_WRITE beside them");
	return 0;
}

static int explain_memory(const struct invlock_verbs *verbs, size_t len, struct invlock_why *why)
{
	struct invlock_cache_stats stats = { .size = sizeof(stats) };
	uint64_t limit = memlock_limit();

	invlock_cache_stats(verbs->cache, &stats);
	if (limit)
		return explain(why, -ENOMEM, "%zu bytes could not be pinned beside the %llu that "
			       "are registered: RLIMIT_MEMLOCK is %llu (ulimit -l); raise it, or "
			       "put pins earlier", len, (unsigned long long)stats.bytes,
			       (unsigned long long)limit);
	return explain(why, -ENOMEM, "the device or the kernel has no memory for %zu bytes beside "
		       "the %llu that are registered", len, (unsigned long long)stats.bytes);
}

/* the bytes of whole pages that a registration of the range takes */
static uint64_t bytes_of_pages(const void *addr, size_t len)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), start = (uintptr_t)addr;

	return ((start + len + page - 1) & -page) - (start & -page);
}

static int explain_full(const struct invlock_verbs *verbs, const void *addr, size_t len,
			struct invlock_why *why)
{
	struct invlock_cache_stats stats = { .size = sizeof(stats) };
	const char *memlock = verbs->max_is_memlock ? ", which is RLIMIT_MEMLOCK (ulimit -l)" : "";
	uint64_t bytes = bytes_of_pages(addr, len), max = verbs->max_bytes;

	invlock_cache_stats(verbs->cache, &stats);
	if (max && bytes > max)
		return explain(why, -ENOSPC, "the memory's pages are %llu bytes, and the limit is "
			       "%llu bytes%s: raise it, or register the memory in pieces",
			       (unsigned long long)bytes, (unsigned long long)max, memlock);
	if (max && stats.bytes + bytes > max)
		return explain(why, -ENOSPC, "%llu bytes find no room beside the %llu that are in "
			       "use: the limit is %llu bytes%s; put pins earlier",
			       (unsigned long long)bytes, (unsigned long long)stats.bytes,
			       (unsigned long long)max, memlock);
	return explain(why, -ENOSPC, "max_entries is reached, and all of the %llu regions are in "
		       "use: put pins earlier", (unsigned long long)(stats.entries + stats.dead));
}

#define MAX_ADDRESS	(1ULL << 57)	/* user addresses are below this on every machine */

static int explain_bad(const void *addr, size_t len, unsigned int access, struct invlock_why *why)
{
	uint64_t start = (uintptr_t)addr;

	if (verbs_check_access(access, why))
		return -EINVAL;
	if (!len)
		return explain(why, -EINVAL, "len is 0");
	if (start < (uint64_t)sysconf(_SC_PAGESIZE))
		return explain(why, -EINVAL, "addr is %p: that is NULL, or in the first page of "
			       "memory", addr);
	if (start + len < start || start + len > MAX_ADDRESS)
		return explain(why, -EINVAL, "%zu bytes from %p reach beyond user memory", len,
			       addr);
	return explain(why, -EINVAL, "pd or ret_pin is NULL, or the device does not know access "
		       "%#x", access);
}

int invlock_verbs_explain(struct invlock_verbs *verbs, const void *addr, size_t len,
			  unsigned int access, int err, struct invlock_why *why)
{
	if (!verbs || !why)
		return -EINVAL;
	why->text[0] = '\0';
	if (!access)
		access = verbs->access;
	switch (err) {
	case 0:
		return explain(why, err, "the get did not fail");
	case -EINVAL:
		return explain_bad(addr, len, access, why);
	case -EMEDIUMTYPE:
	case -EFAULT:
		if (!invlock_mm_explain(verbs->mm, addr, len, why))
			explain(why, err, "the memory cannot be pinned with access %#x: it may be "
				"read-only, or no memory of the process", access);
		return err;
	case -ENOMEM:
		return explain_memory(verbs, len, why);
	case -ENOSPC:
		return explain_full(verbs, addr, len, why);
	case -EMFILE:
		return explain(why, err, "%d protection domains are known, the most there can be: "
			       "tell invlock_verbs_remove_pd() of those that are freed",
			       VERBS_DOMAINS);
	case -EBUSY:
		return explain(why, err, "the memory map changed there during each registration");
	case -EIO:
	case -ENODEV:
		return explain(why, err, "the device has gone away (%s): remove its protection "
			       "domains with invlock_verbs_remove_pd()", strerror(-err));
	case -EOWNERDEAD:
		return explain(why, err, "the adapter was opened before a fork, or an exec: open "
			       "one here");
	case -ENOTRECOVERABLE:
		return explain(why, err, "the monitor can no longer tell what changes: open again");
	default:
		return explain(why, err, "ibv_reg_mr() failed: %s", strerror(-err));
	}
}
