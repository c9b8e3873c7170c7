/* SPDX-License-Identifier: MIT */
/* Iterators: programs that the kernel runs for each of its objects while a descriptor is read. */
#ifndef INVLOCK_LIB_MONITOR_BPF_ITER_H
#define INVLOCK_LIB_MONITOR_BPF_ITER_H

union bpf_iter_link_info;

/*
 * Makes an iterator of a program. @info: what it walks through; NULL = everything. Return: a
 * descriptor or -errno.
 */
int iter_open(int prog, union bpf_iter_link_info *info);

/* Walks to the end, drops what the program writes, and closes the iterator. Return: 0 or -errno. */
int iter_run(int iter);

#endif /* INVLOCK_LIB_MONITOR_BPF_ITER_H */
