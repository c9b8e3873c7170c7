/* SPDX-License-Identifier: MIT */
/* A filter that makes system calls fail, as the sandbox of a container does. */
#ifndef INVLOCK_TESTS_SECCOMP_H
#define INVLOCK_TESTS_SECCOMP_H

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define REFUSED_MOST	8

/*
 * From now on these @nr calls, at most REFUSED_MOST, fail with EPERM in all threads of this
 * process. Return: false = filters are not possible here
 */
static inline bool refuse_calls(const long *refused, unsigned int nr)
{
	struct sock_filter filter[REFUSED_MOST + 3] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	};
	struct sock_fprog program = { .filter = filter };
	unsigned short at = 1;

	if (nr > REFUSED_MOST)
		return false;
	for (unsigned int i = 0; i < nr; i++)
		filter[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
							    (unsigned int)refused[i], nr - i, 0);
	filter[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	filter[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
	program.len = at;
	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
	       !syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
}

#endif /* INVLOCK_TESTS_SECCOMP_H */
