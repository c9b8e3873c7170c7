// SPDX-License-Identifier: MIT
#include "capability.h"

#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* the inode number of the machine's own user namespace: an ABI of the kernel since 3.8 */
#define FIRST_USER_NAMESPACE	0xEFFFFFFDu

bool in_user_namespace(void)
{
	struct stat namespace;

	return !stat("/proc/self/ns/user", &namespace) && namespace.st_ino != FIRST_USER_NAMESPACE;
}

bool has_capability(unsigned int cap)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3] = {};

	return !syscall(SYS_capget, &header, caps) &&
	       caps[CAP_TO_INDEX(cap)].effective & CAP_TO_MASK(cap) && !in_user_namespace();
}
