// SPDX-License-Identifier: MIT
/* The write side for writers that a lock excludes from each other, as in the kernel. */
#include "cases.h"

#undef port_fetch_add
#undef port_cmpxchg
#include "core/port_serial.h"
#include "core/invalidate.h"

void serial_inv_start(const struct invlock *il, u64 start, u64 end)
{
	invlock_inv_start(il, start, end, INVLOCK_KIND_UNMAP, 1, 0);
}

void serial_inv_end(const struct invlock *il, u64 start, u64 end)
{
	invlock_inv_end(il, start, end);
}

void serial_close_feed(const struct invlock *il, u64 flag)
{
	invlock_close_feed(il, flag);
}
