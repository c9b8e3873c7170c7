/* SPDX-License-Identifier: MIT */
/*
 * Files that stay open when their descriptors are closed.
 *
 * Programs close descriptors that they do not know: closefrom(3) is how a daemon begins. What
 * must go on all the same is registered with an io_uring that is mapped and has no descriptor
 * either: as long as the mapping is there, so are the ring and its files.
 */
#ifndef INVLOCK_LIB_MONITOR_BPF_KEEP_H
#define INVLOCK_LIB_MONITOR_BPF_KEEP_H

/*
 * Locks: mm_lock(), for which a fork waits: no child has what keeps them for as long as it lives.
 * Return: what keeps them, to be given to keep_end(); NULL = there is no io_uring here
 */
void *keep_open(const int *fds, unsigned int nr);

/* the kernel closes them soon afterwards; NULL is nothing. In a forked child nothing is kept */
void keep_end(void *kept);

#endif /* INVLOCK_LIB_MONITOR_BPF_KEEP_H */
