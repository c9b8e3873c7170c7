/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The system calls that can change a map, as decode.h knows them. */
#ifndef INVLOCK_BPF_CALL_CLASS_H
#define INVLOCK_BPF_CALL_CLASS_H

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
	CALL_IO_SETUP,		/* maps that ring, and unmaps it if a later step fails */
	CALL_PRCTL,		/* PR_SET_MM can move the heap */
};

/*
 * A number is a call of its own in each of the two ABIs of a machine, so an entry of call_classes
 * (bpf/arch_*.h) has two classes: one load reads both, since most calls are in neither.
 */
#define NATIVE(class)	(class)
#define COMPAT(class)	((class) << 4)
#define NR_MASK		511

#endif /* INVLOCK_BPF_CALL_CLASS_H */
