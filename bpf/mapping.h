/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Calls that may map a file, and what they have mapped when they exit.
 *
 * Nobody has to wait for a call to return before using what it maps: a thread that fills the
 * mapping runs beside others. So from the call's enter on until its result is in the table of
 * files, the table is not known (files.h). The result is believed only when one mapping holds
 * all that was asked for: had another thread split or replaced part of it meanwhile, something of
 * it may lie elsewhere in the range. What another thread has moved away is that thread's to find.
 *
 * Not every call says where its result is, or how long. Such calls are rare: after them all
 * mappings are looked at once more.
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
		/* shared anonymous memory is a file that others may have mapped, too */
		return !(arg[3] & MAP_ANONYMOUS) || (arg[3] & MAP_SHARED_BIT);
	case CALL_MREMAP:
		/* not one that only makes a mapping shorter */
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

/* the call has mapped len bytes at addr */
static inline void note_mapped(struct bpf_user *u, struct task_struct *task, u64 addr, u64 len)
{
	struct vma_look look;

	/* the descriptor that was mapped would not do: it may be another file's by now */
	if (find_vma(task, addr, &look)) {
		files_unknown(u);
		return;
	}
	file_mapped(u, look.mapping, look.start, look.end, look.offset);
	if (look.end - addr < len)
		files_unknown(u);
}

/* remember the file that this call has mapped; before it counts as over */
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
			/* of several mappings, some may have been moved */
			files_unknown(u);
		break;
	default:
		/* those that store their result in memory fail after they have mapped */
		if (!failed || ret == -(u64)EFAULT)
			files_unknown(u);
	}
}

#endif /* INVLOCK_BPF_MAPPING_H */
