// SPDX-License-Identifier: MIT
/* What fixed requests ask of the memory's alignment, on this kernel and of a file. */
#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "adapter.h"

bool fixed_asks_no_more(const char *release)
{
	int major = 0, minor = 0;

	/*
	 * Kernels before 6.0 serve it, too. But distributions put a later io_uring into old
	 * kernels, and then the version does not tell.
	 */
	return sscanf(release, "%d.%d", &major, &minor) == 2 &&
	       (major > 6 || (major == 6 && minor >= 18));
}

unsigned int default_align(void)
{
	struct utsname kernel;

	return !uname(&kernel) && fixed_asks_no_more(kernel.release) ? 1 :
	       (unsigned int)sysconf(_SC_PAGESIZE);
}

int invlock_uring_file_align(int fd)
{
	int align = (int)default_align(), flags = fcntl(fd, F_GETFL);
	struct statx sx;

	if (flags < 0)
		return -errno;
	if (align == 1 || !(flags & O_DIRECT))
		return 1;
	memset(&sx, 0, sizeof(sx));
	/* A kernel before 6.1 does not tell, and some file systems do not. */
	if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) ||
	    !(sx.stx_mask & STATX_DIOALIGN) || !sx.stx_dio_offset_align)
		return align;
	return sx.stx_dio_offset_align > (unsigned int)align ? -EOPNOTSUPP :
	       (int)sx.stx_dio_offset_align;
}
