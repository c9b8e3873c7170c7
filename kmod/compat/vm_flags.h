/* SPDX-License-Identifier: GPL-2.0-only */
/* Linux 6.3 made vma->vm_flags read-only and added functions that change it. */
#ifndef INVLOCK_COMPAT_VM_FLAGS_H
#define INVLOCK_COMPAT_VM_FLAGS_H

#include <linux/mm.h>
#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
static inline void vm_flags_mod(struct vm_area_struct *vma, vm_flags_t set, vm_flags_t clear)
{
	vma->vm_flags = (vma->vm_flags & ~clear) | set;
}
#endif

#endif /* INVLOCK_COMPAT_VM_FLAGS_H */
