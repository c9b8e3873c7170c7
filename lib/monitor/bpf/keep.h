/* SPDX-License-Identifier: MIT */
/*
 * Files that stay open when their descriptors are closed.
 *
 * Some programs close descriptors that they do not know: closefrom(3) is how a daemon begins. A
 * file that must stay open all the same is registered with an io_uring, which is mapped and has no
 * descriptor either: as long as the mapping exists, so do the ring and its files.
 */
#ifndef INVLOCK_LIB_MONITOR_BPF_KEEP_H
#define INVLOCK_LIB_MONITOR_BPF_KEEP_H

/*
 * Locks: mm_lock(). A fork waits for it, so no child inherits the mapping that keeps the files
 * open.
 * Return: the mapping that keeps the files open, for keep_end(); NULL = there is no io_uring here.
 */
void *keep_open(const int *fds, unsigned int nr);

/*
 * Ends the keeping: the kernel closes the files soon afterwards. NULL does nothing. A forked child
 * keeps no files.
 */
void keep_end(void *kept);

#endif /* INVLOCK_LIB_MONITOR_BPF_KEEP_H */
