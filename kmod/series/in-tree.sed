# SPDX-License-Identifier: GPL-2.0-only
# What changes in the files of kmod/ when they become a part of the kernel.
s/\<MMU_INVLOCK\(_ANY\)\?_H\>/_LINUX_&/
s|#include "\(mmu_invlock.*\.h\)"|#include <linux/\1>|
s|docs/driver\.md|Documentation/mm/mmu_invlock.rst|
s|in fault\.c\.|in mm/mmu_invlock_fault.c.|
/^ \* Since: /d

# the wait that only the kernel itself can end
/^ \* A fatal signal ends the wait for the mmap lock/,/^ \* kernel tells nobody/c\
 * A fatal signal ends every wait. The budget ends the wait for invalidations, which are all those\
 * of the mm that overlap in time with one of the notifier's range.
/^\/\* Return: 0\. In a module/c\
/* Return: 0; -EAGAIN if the time is spent; -EINTR. */
s|^\tf->seq = mmu_interval_read_begin(f->notifier);$|\treturn mmu_interval_read_begin_timeout(f->notifier, mmu_invlock_left_jiffies(\&f->left),\n\t\t\t\t\t       \&f->seq);|
/return mmu_interval_read_begin_timeout/{
n
d
}
