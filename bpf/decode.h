/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * From a system call to the ranges that it may change.
 *
 * A range may be larger than what the call will change, but never smaller. A call that cannot be
 * decoded gets the range of everything: [0, INVLOCK_ADDRESS_END).
 *
 * Only registers are read, because they belong to the thread while its call runs. Arguments in
 * memory are not read: another thread can change them between our look and the kernel's. For the
 * same reason, what the kernel stores about the mm (the end of the heap, a segment) is used only
 * while the mm has a single user.
 */
#ifndef INVLOCK_BPF_DECODE_H
#define INVLOCK_BPF_DECODE_H

#include "files.h"

struct call {
	u32 class;
	u64 arg[6];
};

struct range {
	u64 start;
	u64 end;
	u32 kind;
};

/* What a call changes: up to two ranges. If nr is 0, the call changes nothing. */
struct change {
	u32 nr;
	struct range range[2];
};

#define MADV_COLD		20
#define MADV_PAGEOUT		21
#define MAP_SHARED_BIT		0x1
#define MAP_FIXED		0x10
#define MAP_ANONYMOUS		0x20
#define MAP_HUGETLB		0x40000
#define MAP_FIXED_NOREPLACE	0x100000
#define MREMAP_FIXED		2
#define MREMAP_DONTUNMAP	4
#define SHM_REMAP		040000
#define IPC_SHMAT		21
#define IPC_SHMDT		22
#define SET_MM			35	/* option of prctl(); its suboptions follow */
#define SET_MM_START_BRK	6
#define SET_MM_BRK		7
#define SET_MM_MAP		14

/* Assumed: while a brk() of another thread runs, no heap grows by more than this. */
#define BRK_REACH		(1ULL << 40)

static inline void set_range(struct range *r, u64 start, u64 end, u32 kind)
{
	r->start = start;
	r->end = end;
	r->kind = kind;
}

static inline void change_everything(struct change *c, u32 kind)
{
	set_range(&c->range[0], 0, INVLOCK_ADDRESS_END, kind);
	c->nr = 1;
}

/* The change is [addr, addr + len), rounded to whole pages. If len is 0, nothing changes. */
static inline void change_pages(struct change *c, u64 addr, u64 len, u32 kind)
{
	if (!len)
		return;
	addr &= ADDRESS_MASK & VM_PAGE_MASK;
	set_range(&c->range[0], addr, addr + page_up(len), kind);
	c->nr = 1;
}

/*
 * hugetlb rounds a length up to its page size. It can do so only if the address is aligned to it.
 */
static inline u64 huge_end(u64 addr, u64 len)
{
	u64 mask = huge_mask(addr);

	return (addr + page_up(len) + mask) & ~mask;
}

/*
 * Advice that drops no page, or none that is pinned: NORMAL to WILLNEED, DONTFORK to POPULATE_WRITE
 * (COLD and PAGEOUT are in there), and COLLAPSE.
 */
#define HARMLESS_ADVICE		(0xfULL | 0x3fffULL << 10 | 1ULL << 25)

/*
 * Return: 0 = the advice changes nothing. Advice that is unknown here, as a newer kernel may have
 * it, counts as the worst.
 */
static inline u32 advice_kind(u32 advice)
{
	switch (advice) {
	case 8:
		return INVLOCK_KIND_FREE;
	case 9:
		return INVLOCK_KIND_REMOVE;
	case 101:	/* MADV_SOFT_OFFLINE moves pages, but no pinned page */
	case 103:	/* MADV_GUARD_REMOVE */
		return 0;
	case 102:	/* MADV_GUARD_INSTALL */
		return INVLOCK_KIND_GUARD;
	default:	/* MADV_DONTNEED, MADV_DONTNEED_LOCKED, MADV_HWPOISON */
		return advice < 64 && HARMLESS_ADVICE >> advice & 1 ? 0 : INVLOCK_KIND_DISCARD;
	}
}

static inline void decode_mmap(struct change *c, u64 addr, u64 len, u64 flags)
{
	bool small = (flags & MAP_ANONYMOUS) && !(flags & MAP_HUGETLB);

	if (!(flags & MAP_FIXED) || (flags & MAP_FIXED_NOREPLACE) || !len)
		return;
	addr &= ADDRESS_MASK & VM_PAGE_MASK;
	set_range(&c->range[0], addr, small ? addr + page_up(len) : huge_end(addr, len),
		  INVLOCK_KIND_FIXED);
	c->nr = 1;
}

static inline void decode_mremap(struct change *c, const u64 *arg)
{
	u64 old = arg[0] & ADDRESS_MASK, to = arg[4] & ADDRESS_MASK;
	u64 old_len = page_up(arg[1]), len = page_up(arg[2]), flags = arg[3];

	if (old_len && (len > old_len || (flags & (MREMAP_FIXED | MREMAP_DONTUNMAP))))
		set_range(&c->range[c->nr++ & 1], old, huge_end(old, old_len),
			  INVLOCK_KIND_REMAP_FROM);
	else if (old_len > len)		/* the mapping stays in place and loses its tail */
		set_range(&c->range[c->nr++ & 1], old + len, huge_end(old, old_len),
			  INVLOCK_KIND_REMAP_FROM);
	if (flags & MREMAP_FIXED)
		set_range(&c->range[c->nr++ & 1], to, huge_end(to, len), INVLOCK_KIND_REMAP_TO);
}

/* Does only one thread use this mm? Then no other thread can change it after our look. */
static inline bool is_alone(struct task_struct *task)
{
	return task->mm->mm_users.counter == 1;
}

static inline void decode_brk(struct change *c, struct task_struct *task, u64 to)
{
	struct mm_struct *mm = task->mm;
	u64 from = page_up(mm->brk), low = page_up(to);
	bool alone = is_alone(task);

	/*
	 * An address below the heap only queries where the heap ends. Which of these two limits the
	 * kernel compares with depends on its configuration and on the process.
	 */
	if (to < VM_PAGE_SIZE || (alone && to < mm->start_brk && to < mm->end_data))
		return;
	if (alone && low >= from)
		return;
	/* Another thread may move the heap's end before this call does: leave room above it. */
	set_range(&c->range[0], low, alone ? from : (low > from ? low : from) + BRK_REACH,
		  INVLOCK_KIND_BRK);
	c->nr = 1;
}

/*
 * Does this prctl() move the heap's end? Then the ranges of running brk() calls no longer fit. So
 * everything is marked while it runs. If the end has moved when it exits, the feed is closed: see
 * end_call().
 */
static inline void decode_prctl(struct change *c, const u64 *arg)
{
	u32 what = arg[1];

	if ((u32)arg[0] == SET_MM &&
	    (what == SET_MM_START_BRK || what == SET_MM_BRK || what == SET_MM_MAP))
		change_everything(c, INVLOCK_KIND_BRK);
}

/*
 * Fills look only for a segment of System V's shared memory. The kernel wraps the file of an
 * attached segment in another file, whose private data knows the segment's namespace.
 */
static long look_at_segment(struct task_struct *task, struct vm_area_struct *vma,
			    struct vma_look *look)
{
	struct file *file = vma->vm_file;
	struct shm_file_data *data = file ? BPF_CORE_READ(file, private_data) : NULL;

	if (data && BPF_CORE_READ(data, ns) == BPF_CORE_READ(task, nsproxy, ipc_ns) &&
	    BPF_CORE_READ(data, file, f_mapping) == BPF_CORE_READ(file, f_mapping))
		look_at_vma(task, vma, look);
	return 0;
}

/*
 * shmdt() unmaps all of a segment, from addr on, although parts of the segment may be gone or
 * covered by other mappings. The kernel takes the first mapping of a segment whose distance from
 * addr equals its offset in the segment. We know which segment that is, and where it ends, only if
 * the beginning of the segment is mapped at addr.
 */
static inline void decode_shmdt(struct change *c, struct task_struct *task, u64 addr, bool after)
{
	struct vma_look look = {};
	u64 end = INVLOCK_ADDRESS_END;

	addr &= ADDRESS_MASK;
	if (!after && is_alone(task) && !bpf_find_vma(task, addr, look_at_segment, &look, 0) &&
	    look.start == addr && look.mapping && !look.offset) {
		end = addr + page_up(look.file_size);
		/* mremap() can make a mapping longer than its segment. */
		if (end < look.end)
			end = look.end;
	}
	set_range(&c->range[0], addr, end, INVLOCK_KIND_SHMDT);
	c->nr = 1;
}

/*
 * The change begins at addr. Its end is unknown, since the kernel stores the sizes of segments and
 * rings behind locks: assume the end of all addresses.
 */
static inline void change_above(struct change *c, u64 addr, u32 kind)
{
	set_range(&c->range[0], addr & ADDRESS_MASK & VM_PAGE_MASK, INVLOCK_ADDRESS_END, kind);
	c->nr = 1;
}

/**
 * decode() - what will this call change?
 * @c: zeroed; filled
 * @call: the call
 * @task: the caller
 * @after: the call is over, so the map is no longer what the call found
 */
static inline void decode(struct change *c, const struct call *call, struct task_struct *task,
			  bool after)
{
	const u64 *arg = call->arg;
	u32 kind;

	switch (call->class) {
	case CALL_MUNMAP:
		change_pages(c, arg[0], arg[1], INVLOCK_KIND_UNMAP);
		break;
	case CALL_MMAP:
		decode_mmap(c, arg[0], arg[1], arg[3]);
		break;
	case CALL_MREMAP:
		decode_mremap(c, arg);
		break;
	case CALL_MADVISE:
		kind = advice_kind(arg[2]);
		if (kind)
			change_pages(c, arg[0], arg[1], kind);
		break;
	case CALL_PROCESS_MADVISE:
		/*
		 * The ranges lie in memory. The pidfd need not be checked: for another process, the
		 * kernel allows only advice that drops nothing.
		 */
		kind = advice_kind(arg[3]);
		if (kind && arg[2])
			change_everything(c, kind);
		break;
	case CALL_MPROTECT:
		change_pages(c, arg[0], arg[1], INVLOCK_KIND_PROTECT);
		break;
	case CALL_BRK:
		decode_brk(c, task, arg[0]);
		break;
	case CALL_SHMDT:
		decode_shmdt(c, task, arg[0], after);
		break;
	case CALL_SHMAT:
		if (arg[2] & SHM_REMAP)
			change_above(c, arg[1], INVLOCK_KIND_SHM_REMAP);
		break;
	case CALL_IPC:
		if ((arg[0] & 0xffff) == IPC_SHMDT)
			decode_shmdt(c, task, arg[4], after);
		else if ((arg[0] & 0xffff) == IPC_SHMAT && arg[2] & SHM_REMAP)
			change_above(c, arg[4], INVLOCK_KIND_SHM_REMAP);
		break;
	case CALL_REMAP_FILE_PAGES:
		change_pages(c, arg[0], arg[1], INVLOCK_KIND_REORDER);
		break;
	case CALL_IO_DESTROY:
		/*
		 * The number of a context is the address of its ring, and the whole ring is
		 * unmapped.
		 */
		change_above(c, arg[0], INVLOCK_KIND_UNMAP);
		break;
	case CALL_OLD_MMAP:
		/* The arguments lie in memory. */
		change_everything(c, INVLOCK_KIND_FIXED);
		break;
	case CALL_IO_SETUP:
		/*
		 * If the kernel cannot store the number of the context, it unmaps the ring that it
		 * has mapped.
		 */
		change_everything(c, INVLOCK_KIND_UNMAP);
		break;
	case CALL_PRCTL:
		decode_prctl(c, arg);
		break;
	}
}

#endif /* INVLOCK_BPF_DECODE_H */
