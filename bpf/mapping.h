/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Calls that may map a file, and what they have mapped by the time they exit.
 *
 * Another thread may use a mapping before the call that makes it has returned: the thread that
 * fills the mapping runs beside others. So from the call's enter until its result is in the table
 * of files, the table is incomplete (files.h). The result is accepted only if one mapping covers
 * all that was asked for: if another thread has split or replaced part of it meanwhile, the file
 * may also lie elsewhere in the range. A part that another thread has moved away is found when the
 * call of that thread exits.
 *
 * Some calls do not tell where their result is, or how long it is. Such calls are rare: after each
 * of them, all mappings are scanned once more.
 */
#ifndef INVLOCK_BPF_MAPPING_H
#define INVLOCK_BPF_MAPPING_H

#include "decode.h"

#define MAX_ERRNO	4095ULL
#define EFAULT		14

static inline bool may_map_file(const struct call *call)
{
	const u64 *arg = call->arg;

	switch (call->class) {
	case CALL_MMAP:
		/* Shared anonymous memory is a file, which other processes may map as well. */
		return !(arg[3] & MAP_ANONYMOUS) || (arg[3] & MAP_SHARED_BIT);
	case CALL_MREMAP:
		/* A call that only makes a mapping shorter maps nothing. */
		return page_up(arg[1]) < page_up(arg[2]) || !page_up(arg[1]) ||
		       (arg[3] & (MREMAP_FIXED | MREMAP_DONTUNMAP));
	case CALL_OLD_MMAP:
	case CALL_SHMAT:
	case CALL_REMAP_FILE_PAGES:
	case CALL_IO_SETUP:
		return true;
	case CALL_IPC:
		return (arg[0] & 0xffff) == IPC_SHMAT;
	}
	return false;
}

static inline void files_unknown(struct bpf_user *u)
{
	port_fetch_add(&u->state.nr_unknown, 1);
}

/* The call has mapped len bytes at addr. */
static inline void note_mapped(struct bpf_user *u, struct task_struct *task, u64 addr, u64 len)
{
	struct vma_look look;

	/* Look the mapping up, not the descriptor: the descriptor may mean another file by now. */
	if (find_vma(task, addr, &look)) {
		files_unknown(u);
		return;
	}
	file_mapped(u, look.mapping, look.start, look.end, look.offset);
	if (look.end - addr < len)
		files_unknown(u);
}

/* Record the file that this call has mapped. This comes before the call counts as over. */
static inline void note_file(struct bpf_user *u, struct task_struct *task,
			     const struct call *call, u64 ret)
{
	bool failed = ret >= -MAX_ERRNO;

	switch (call->class) {
	case CALL_MMAP:
		if (!failed)
			note_mapped(u, task, ret, page_up(call->arg[1]));
		break;
	case CALL_MREMAP:
		if (!failed)
			note_mapped(u, task, ret, page_up(call->arg[2]));
		else if (call->arg[3] & MREMAP_FIXED)
			/*
			 * If the call moves several mappings, some may have been moved before it
			 * failed.
			 */
			files_unknown(u);
		break;
	default:
		/* A call that stores its result in memory may fail after it has mapped. */
		if (!failed || ret == -(u64)EFAULT)
			files_unknown(u);
	}
}

#endif /* INVLOCK_BPF_MAPPING_H */
