/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * From a system call to the ranges that it may change.
 *
 * A range may be larger than what the call will change, never smaller. What cannot be
 * decoded is everything: [0, INVLOCK_ADDRESS_END).
 */
#ifndef INVLOCK_BPF_DECODE_H
#define INVLOCK_BPF_DECODE_H

#include "files.h"

enum call_class {
	CALL_NONE,
	CALL_MUNMAP,
	CALL_MMAP,
	CALL_OLD_MMAP,		/* i386: the arguments lie in memory */
	CALL_MREMAP,
	CALL_MADVISE,
	CALL_PROCESS_MADVISE,
	CALL_MPROTECT,
	CALL_BRK,
	CALL_SHMDT,
	CALL_SHMAT,
	CALL_IPC,		/* i386: shmat and shmdt among others */
	CALL_REMAP_FILE_PAGES,
	CALL_IO_DESTROY,	/* unmaps the ring of the old aio calls */
};

/* x86-64 numbers, and x32's, which have bit 30 set */
#define NATIVE(class)	(class)
/* i386 numbers */
#define COMPAT(class)	((class) << 4)
#define NR_MASK		511

/* both tables in one load: most calls are in neither. attach.h has the functions of all of them */
static const u8 call_classes[NR_MASK + 1] = {
	[9]	= NATIVE(CALL_MMAP),
	[10]	= NATIVE(CALL_MPROTECT),
	[11]	= NATIVE(CALL_MUNMAP),
	[12]	= NATIVE(CALL_BRK),
	[25]	= NATIVE(CALL_MREMAP),
	[28]	= NATIVE(CALL_MADVISE),
	[30]	= NATIVE(CALL_SHMAT),
	[45]	= COMPAT(CALL_BRK),
	[67]	= NATIVE(CALL_SHMDT),
	[90]	= COMPAT(CALL_OLD_MMAP),
	[91]	= COMPAT(CALL_MUNMAP),
	[117]	= COMPAT(CALL_IPC),
	[125]	= COMPAT(CALL_MPROTECT),
	[163]	= COMPAT(CALL_MREMAP),
	[192]	= COMPAT(CALL_MMAP),
	[207]	= NATIVE(CALL_IO_DESTROY),
	[216]	= NATIVE(CALL_REMAP_FILE_PAGES),
	[219]	= COMPAT(CALL_MADVISE),
	[246]	= COMPAT(CALL_IO_DESTROY),
	[257]	= COMPAT(CALL_REMAP_FILE_PAGES),
	[329]	= NATIVE(CALL_MPROTECT),
	[380]	= COMPAT(CALL_MPROTECT),
	[397]	= COMPAT(CALL_SHMAT),
	[398]	= COMPAT(CALL_SHMDT),
	[440]	= NATIVE(CALL_PROCESS_MADVISE) | COMPAT(CALL_PROCESS_MADVISE),
};

struct call {
	u32 class;
	bool foreign;	/* i386 or x32: structs in memory have another layout */
	u64 arg[6];
};

struct range {
	u64 start;
	u64 end;
	u32 kind;
};

/* up to two ranges; nr = 0: the call changes nothing */
struct change {
	u32 nr;
	struct range range[2];
};

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
#define X32_BIT			(1ULL << 30)

/* The kernel ignores the tag of a pointer (LAM) in most of these calls. */
#define ADDRESS_MASK		((1ULL << 57) - 1)

/* No heap grows by more than this while a call runs. */
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

/* [addr, addr + len), whole pages; nothing when it is empty */
static inline void change_pages(struct change *c, u64 addr, u64 len, u32 kind)
{
	if (!len)
		return;
	addr &= ADDRESS_MASK & VM_PAGE_MASK;
	set_range(&c->range[0], addr, addr + page_up(len), kind);
	c->nr = 1;
}

/* hugetlb rounds a length up to its page size, which is possible where the address is aligned */
static inline u64 huge_end(u64 addr, u64 len)
{
	u64 end = addr + page_up(len);

	if (!(addr & ((1ULL << 30) - 1)))
		return (end + (1ULL << 30) - 1) & ~((1ULL << 30) - 1);
	if (!(addr & ((1ULL << 21) - 1)))
		return (end + (1ULL << 21) - 1) & ~((1ULL << 21) - 1);
	return end;
}

static inline u32 advice_kind(u32 advice)
{
	switch (advice) {
	case 4:		/* MADV_DONTNEED */
	case 24:	/* MADV_DONTNEED_LOCKED */
	case 100:	/* MADV_HWPOISON */
		return INVLOCK_KIND_DISCARD;
	case 8:
		return INVLOCK_KIND_FREE;
	case 9:
		return INVLOCK_KIND_REMOVE;
	case 102:	/* MADV_GUARD_INSTALL */
		return INVLOCK_KIND_GUARD;
	default:
		/* COLD, PAGEOUT, COLLAPSE leave pinned pages where they are; others drop none */
		return 0;
	}
}

static inline void decode_mmap(struct change *c, u64 addr, u64 len, u64 flags)
{
	bool small = (flags & MAP_ANONYMOUS) && !(flags & MAP_HUGETLB);

	if (!(flags & MAP_FIXED) || (flags & MAP_FIXED_NOREPLACE) || !len)
		return;
	addr &= VM_PAGE_MASK;
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
	else if (old_len > len)		/* stays where it is, and loses its tail */
		set_range(&c->range[c->nr++ & 1], old + len, huge_end(old, old_len),
			  INVLOCK_KIND_REMAP_FROM);
	if (flags & MREMAP_FIXED)
		set_range(&c->range[c->nr++ & 1], to, huge_end(to, len), INVLOCK_KIND_REMAP_TO);
}

static inline void decode_process_madvise(struct change *c, const struct call *call)
{
	/*
	 * Of another process, only advice that drops nothing is allowed, so the pidfd is not
	 * looked at: what is not for us costs a false event.
	 */
	u32 kind = advice_kind(call->arg[3]);
	struct {
		u64 base;
		u64 len;
	} vec;

	if (!kind || !call->arg[2])
		return;
	if (call->arg[2] != 1 || call->foreign ||
	    bpf_probe_read_user(&vec, sizeof(vec), (void *)call->arg[1]))
		change_everything(c, kind);
	else
		change_pages(c, vec.base, vec.len, kind);
}

static inline void decode_brk(struct change *c, struct task_struct *task, u64 to)
{
	struct mm_struct *mm = task->mm;
	u64 from = mm->brk;

	/* below the heap: only asks where its end is */
	if (to < mm->end_data)
		return;
	if (mm->mm_users.counter > 1)
		/* another thread may move the end before this call does: open above */
		set_range(&c->range[0], page_up(to), page_up(to) + BRK_REACH, INVLOCK_KIND_BRK);
	else if (page_up(to) < page_up(from))
		set_range(&c->range[0], page_up(to), page_up(from), INVLOCK_KIND_BRK);
	else
		return;
	c->nr = 1;
}

/* from addr on, all of a segment, of which parts may be gone or covered by others */
static inline void decode_shmdt(struct change *c, struct task_struct *task, u64 addr, bool after)
{
	struct vma_look look;
	u64 end = INVLOCK_ADDRESS_END;

	addr &= ADDRESS_MASK;
	if (!after && !find_vma(task, addr, &look) && look.mapping && look.start == addr &&
	    !look.offset)
		end = addr + page_up(look.file_size);
	set_range(&c->range[0], addr, end, INVLOCK_KIND_SHMDT);
	c->nr = 1;
}

static inline void decode_io_destroy(struct change *c, struct task_struct *task, u64 ring,
				     bool after)
{
	struct vma_look look;

	/* the context's number is the address of its ring; any other number fails */
	if (!after && !find_vma(task, ring, &look))
		set_range(&c->range[0], look.start, look.end, INVLOCK_KIND_UNMAP);
	else
		set_range(&c->range[0], ring, INVLOCK_ADDRESS_END, INVLOCK_KIND_UNMAP);
	c->nr = 1;
}

static inline void decode_shmat(struct change *c, u64 addr, u64 flags)
{
	if (!(flags & SHM_REMAP))
		return;
	/* the segment's size is behind a lock */
	set_range(&c->range[0], addr & VM_PAGE_MASK, INVLOCK_ADDRESS_END, INVLOCK_KIND_SHM_REMAP);
	c->nr = 1;
}

/**
 * decode() - what will this call change?
 * @c: zeroed; filled
 * @call: the call
 * @task: the caller
 * @after: the call is over, and the map no longer what it found
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
		decode_process_madvise(c, call);
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
		decode_shmat(c, arg[1], arg[2]);
		break;
	case CALL_IPC:
		if ((arg[0] & 0xffff) == IPC_SHMDT)
			decode_shmdt(c, task, arg[4], after);
		else if ((arg[0] & 0xffff) == IPC_SHMAT)
			decode_shmat(c, arg[4], arg[2]);
		break;
	case CALL_REMAP_FILE_PAGES:
		change_pages(c, arg[0], arg[1], INVLOCK_KIND_REORDER);
		break;
	case CALL_IO_DESTROY:
		decode_io_destroy(c, task, arg[0], after);
		break;
	}
}

#endif /* INVLOCK_BPF_DECODE_H */
