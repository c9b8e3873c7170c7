/* SPDX-License-Identifier: MIT */
/* How much memory a process may have pinned: the default limit of adapters. */
#ifndef INVLOCK_ADAPTERS_MEMLOCK_H
#define INVLOCK_ADAPTERS_MEMLOCK_H

#include <linux/capability.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* may this process lock more than RLIMIT_MEMLOCK? */
static inline bool may_lock_all(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3] = {};

	if (syscall(SYS_capget, &header, caps))
		return false;
	return caps[CAP_TO_INDEX(CAP_IPC_LOCK)].effective & CAP_TO_MASK(CAP_IPC_LOCK);
}

/* bytes; 0 = no limit */
static inline uint64_t memlock_limit(void)
{
	struct rlimit limit;

	if (may_lock_all() || getrlimit(RLIMIT_MEMLOCK, &limit) || limit.rlim_cur == RLIM_INFINITY)
		return 0;
	/* 0 would mean no limit */
	return limit.rlim_cur ? limit.rlim_cur : 1;
}

#endif /* INVLOCK_ADAPTERS_MEMLOCK_H */
