/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The other way, for comparison: pages fixed once, at registration, as RDMA without on-demand
 * paging and io_uring's fixed buffers do. Nothing here asks whether they are still mapped.
 */
#ifndef INVLOCK_MIRROR_PIN_H
#define INVLOCK_MIRROR_PIN_H

#include <linux/mutex.h>
#include <linux/types.h>

struct mirror_pins {
	struct mutex lock;	/* all of this */
	struct mm_struct *mm;	/* grabbed; its locked_vm counts the pages */
	struct page **pages;	/* guarded by lock */
	unsigned long nr;	/* the same */
	u64 addr;		/* the same */
};

void mirror_pins_init(struct mirror_pins *pins, struct mm_struct *mm);
void mirror_pins_destroy(struct mirror_pins *pins);

/* @arg: struct invlock_mirror_pin. Return: 0 or -errno; -ENOMEM beyond RLIMIT_MEMLOCK, too */
long mirror_pins_set(struct mirror_pins *pins, const void __user *arg);

/* @addr, @len: within one page. Return: 0; -EFAULT when it is not pinned */
int mirror_pins_read(struct mirror_pins *pins, u64 addr, void *buffer, size_t len);

#endif /* INVLOCK_MIRROR_PIN_H */
