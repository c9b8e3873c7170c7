/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Pinned pages, for comparison with the mirror. The pages are pinned once, at registration, as
 * RDMA without on-demand paging and the fixed buffers of io_uring do it. Nothing checks whether
 * the pages are still mapped.
 */
#ifndef INVLOCK_MIRROR_PIN_H
#define INVLOCK_MIRROR_PIN_H

#include <linux/mutex.h>
#include <linux/types.h>

struct mirror_pins {
	struct mutex lock;	/* guards nr, pages and addr */
	struct mm_struct *mm;	/* held with mmgrab(); its locked_vm counts the pages */
	struct page **pages;	/* the pinned pages; guarded by lock */
	unsigned long nr;	/* how many pages; guarded by lock */
	u64 addr;		/* the address of the first page; guarded by lock */
};

void invlock_mirror_pins_init(struct mirror_pins *pins, struct mm_struct *mm);
void invlock_mirror_pins_destroy(struct mirror_pins *pins);

/*
 * Unpin what is pinned, then pin the pages that @arg, a struct invlock_mirror_pin, names. Return:
 * 0 or -errno. The error is -ENOMEM also if the pages exceed RLIMIT_MEMLOCK.
 */
long invlock_mirror_pins_set(struct mirror_pins *pins, const void __user *arg);

/* The range must lie within one page. Return: 0; -EFAULT if the page is not pinned. */
int invlock_mirror_pins_read(struct mirror_pins *pins, u64 addr, void *buffer, size_t len);

#endif /* INVLOCK_MIRROR_PIN_H */
