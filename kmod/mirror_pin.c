// SPDX-License-Identifier: GPL-2.0-only
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/invlock_dev.h>

#include "mirror_pin.h"

/* Locks: pins->lock */
static void drop_locked(struct mirror_pins *pins)
{
	if (pins->nr)
		unpin_user_pages_dirty_lock(pins->pages, pins->nr, true);
	kvfree(pins->pages);
	pins->pages = NULL;
	pins->nr = 0;
}

void mirror_pins_drop(struct mirror_pins *pins)
{
	mutex_lock(&pins->lock);
	drop_locked(pins);
	mutex_unlock(&pins->lock);
}

/* Locks: pins->lock */
static long pin_locked(struct mirror_pins *pins, u64 addr, unsigned long nr)
{
	long got;

	pins->pages = kvcalloc(nr, sizeof(*pins->pages), GFP_KERNEL);
	if (!pins->pages)
		return -ENOMEM;
	got = pin_user_pages_fast(addr, nr, FOLL_WRITE | FOLL_LONGTERM, pins->pages);
	pins->nr = max(got, 0L);
	pins->addr = addr;
	if (got == nr)
		return 0;
	drop_locked(pins);
	return got < 0 ? got : -EFAULT;
}

long mirror_pins_set(struct mirror_pins *pins, const void __user *arg)
{
	struct invlock_mirror_pin pin;
	long err = 0;

	if (copy_from_user(&pin, arg, sizeof(pin)))
		return -EFAULT;
	if (pin.size != sizeof(pin) || pin.reserved || (pin.addr | pin.len) & ~PAGE_MASK ||
	    pin.len > INVLOCK_MIRROR_MAX_LEN)
		return -EINVAL;
	mutex_lock(&pins->lock);
	drop_locked(pins);
	if (pin.len)
		err = pin_locked(pins, pin.addr, pin.len >> PAGE_SHIFT);
	mutex_unlock(&pins->lock);
	return err;
}

int mirror_pins_read(struct mirror_pins *pins, u64 addr, void *buffer, size_t len)
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
