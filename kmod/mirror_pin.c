// SPDX-License-Identifier: GPL-2.0-only
/* Lock order: pins->lock, mmap lock. */
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <invlock/dev.h>

#include "mirror_device.h"
#include "mirror_pin.h"

/* Locks: pins->lock. */
static void invlock_mirror_pins_drop_locked(struct mirror_pins *pins)
{
	lockdep_assert_held(&pins->lock);
	if (!pins->nr)
		return;
	unpin_user_pages_dirty_lock(pins->pages, pins->nr, true);
	kvfree(pins->pages);
	account_locked_vm(pins->mm, pins->nr, false);
	pins->pages = NULL;
	pins->nr = 0;
}

void invlock_mirror_pins_init(struct mirror_pins *pins, struct mm_struct *mm)
{
	mutex_init(&pins->lock);
	mmgrab(mm);
	pins->mm = mm;
}

void invlock_mirror_pins_destroy(struct mirror_pins *pins)
{
	mutex_lock(&pins->lock);
	invlock_mirror_pins_drop_locked(pins);
	mutex_unlock(&pins->lock);
	mmdrop(pins->mm);
}

/* Locks: pins->lock. Nothing may be pinned yet. */
static long invlock_mirror_pins_pin_locked(struct mirror_pins *pins, u64 addr, unsigned long nr)
{
	struct page **pages;
	long got = 0, more, err;

	pages = kvcalloc(nr, sizeof(*pages), GFP_KERNEL_ACCOUNT);
	if (!pages)
		return -ENOMEM;
	err = account_locked_vm(pins->mm, nr, true);
	if (err)
		goto free_pages;
	/* a call may pin fewer pages than asked for; the next call then returns the error */
	do {
		more = pin_user_pages_fast(addr + got * PAGE_SIZE, nr - got,
					   FOLL_WRITE | FOLL_LONGTERM, pages + got);
		got += max(more, 0L);
	} while (more > 0 && got < nr);
	if (got == nr) {
		pins->pages = pages;
		pins->nr = nr;
		pins->addr = addr;
		return 0;
	}
	err = more ?: -EFAULT;
	if (got)
		unpin_user_pages(pages, got);
	account_locked_vm(pins->mm, nr, false);
free_pages:
	kvfree(pages);
	return err;
}

long invlock_mirror_pins_set(struct mirror_pins *pins, const void __user *arg)
{
	struct invlock_mirror_pin pin;
	long err = invlock_mirror_range_get(arg, 0, INVLOCK_MIRROR_MAX_LEN, &pin);

	if (err)
		return err;
	mutex_lock(&pins->lock);
	invlock_mirror_pins_drop_locked(pins);
	if (pin.len)
		err = invlock_mirror_pins_pin_locked(pins, pin.addr, pin.len >> PAGE_SHIFT);
	mutex_unlock(&pins->lock);
	return err;
}

int invlock_mirror_pins_read(struct mirror_pins *pins, u64 addr, void *buffer, size_t len)
{
	unsigned long nr;
	int err = -EFAULT;
	void *memory;

	mutex_lock(&pins->lock);
	nr = (addr - pins->addr) >> PAGE_SHIFT;
	if (pins->nr && addr >= pins->addr && nr < pins->nr) {
		memory = kmap_local_page(pins->pages[nr]);
		memcpy(buffer, memory + offset_in_page(addr), len);
		kunmap_local(memory);
		err = 0;
	}
	mutex_unlock(&pins->lock);
	return err;
}
