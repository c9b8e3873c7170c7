// SPDX-License-Identifier: MIT
/*
 * The changes: ways to change memory of which the caches hold registrations.
 *
 * After a change, an earlier registration names pages that the program no longer sees there. The
 * program never sees the old pages anywhere else either: prove.h says why.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/page.h"
#include "prove.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE	23
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL	102
#define MADV_GUARD_REMOVE	103
#endif

/* a change that is marked "seldom" is considered once in this many times */
#define SELDOM	6

static int map_again(const struct area *a, u8 *addr, size_t len)
{
	return area_map(a, addr, len, MAP_FIXED_NOREPLACE);
}

static int unmap_and_map(const struct part *part)
{
	if (munmap(part->addr, part->len))
		return -errno;
	return map_again(part->area, part->addr, part->len);
}

/* Unmap all of the area, with a tail that makes it take longer. Another thread maps it anew. */
static int unmap_all(const struct part *part)
{
	const struct area *a = part->area;
	u8 *base = a->base;
	size_t span = a->span;

	madvise(part->addr + part->len, span - part->len, MADV_POPULATE_WRITE);
	return munmap(base, span) ? -errno : 0;
}

static int map_over(const struct part *part)
{
	return area_map(part->area, part->addr, part->len, MAP_FIXED);
}

/* Map another memfd over the whole area, and close the old one. */
static int map_memfd_over(const struct part *part)
{
	struct area *a = part->area;
	int old = a->fd;
	int fd = memfd_create("invlock-prove", MFD_CLOEXEC);
	int err;

	if (fd < 0)
		return -errno;
	err = ftruncate(fd, a->span) ? -errno : 0;
	a->fd = fd;
	if (!err)
		err = area_map(a, a->base, a->span, MAP_FIXED);
	close(old);
	return err;
}

/* Move one buffer at a time: the kernel cannot move a range that a monitor has split in pieces. */
static int remap_away(const struct part *part)
{
	const struct area *a = part->area;
	int err = 0;

	for (u8 *addr = part->addr; addr < part->addr + part->len && !err; addr += a->stride) {
		if (mremap(addr, a->stride, a->stride, MREMAP_MAYMOVE | MREMAP_FIXED, a->side) ==
		    MAP_FAILED)
			return -errno;
		err = map_again(a, addr, a->stride);
		/* the old pages are registered, so they must not stay mapped */
		if (munmap(a->side, a->stride))
			err = -errno;
	}
	return err;
}

static int remap_onto(const struct part *part)
{
	const struct area *a = part->area;
	int err = map_again(a, a->side, part->len);

	if (err)
		return err;
	memset(a->side, 1, part->len);
	return mremap(a->side, part->len, part->len, MREMAP_MAYMOVE | MREMAP_FIXED, part->addr) ==
	       MAP_FAILED ? -errno : 0;
}

static int advise(const struct part *part, int advice)
{
	return madvise(part->addr, part->len, advice) ? -errno : 0;
}

static int discard(const struct part *part)
{
	return advise(part, MADV_DONTNEED);
}

static int remove_pages(const struct part *part)
{
	return advise(part, MADV_REMOVE);
}

static int guard(const struct part *part)
{
	int err = advise(part, MADV_GUARD_INSTALL);

	return err ? err : advise(part, MADV_GUARD_REMOVE);
}

static int free_and_malloc(const struct part *part)
{
	struct area *a = part->area;
	int err = 0;

	for (unsigned int i = part->first; i < part->first + part->nr; i++)
		free(a->buffers[i].chunk);
	for (unsigned int i = part->first; i < part->first + part->nr; i++) {
		a->buffers[i].chunk = NULL;
		if (!err)
			err = area_malloc(a, i);
	}
	return err;
}

/* Raw system calls, so that libc does not learn that the end of the heap moves: see brk_open(). */
static int shrink_and_grow(const struct part *part)
{
	const struct area *a = part->area;
	u8 *end = a->base + a->span;

	if ((u8 *)syscall(SYS_brk, part->addr) != part->addr ||
	    (u8 *)syscall(SYS_brk, end) != end)
		return -ENOMEM;
	return 0;
}

static int truncate_and_grow(const struct part *part)
{
	const struct area *a = part->area;
	return ftruncate(a->fd, part->first * a->stride) || ftruncate(a->fd, a->span) ? -errno : 0;
}

static int punch(const struct part *part)
{
	return fallocate(part->area->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 part->addr - part->area->base, part->len) ? -errno : 0;
}

#define ON(memory)	(1u << MEMORY_##memory)
#define ON_ANON		(ON(MMAP) | ON(HUGE))

const struct prove_change prove_changes[] = {
	{ "munmap, mmap", INVLOCK_BIT(UNMAP), ON_ANON, .make = unmap_and_map },
	{ "mmap MAP_FIXED", INVLOCK_BIT(FIXED), ON_ANON, .make = map_over },
	{ "mmap MAP_FIXED, memfd", INVLOCK_BIT(FIXED), ON(MEMFD), .whole = true,
	  .make = map_memfd_over },
	{ "mremap away", INVLOCK_BIT(REMAP_FROM) | INVLOCK_BIT(UNMAP), ON_ANON,
	  .make = remap_away },
	{ "mremap onto", INVLOCK_BIT(REMAP_TO), ON_ANON, .make = remap_onto },
	{ "madvise DONTNEED", INVLOCK_BIT(DISCARD), ON_ANON | ON(BRK), .make = discard },
	{ "madvise REMOVE", INVLOCK_BIT(REMOVE), ON(MEMFD), .seldom = true,
	  .make = remove_pages },
	{ "guard pages", INVLOCK_BIT(GUARD), ON(MMAP), .make = guard },
	{ "free, malloc", INVLOCK_BIT(UNMAP) | INVLOCK_BIT(FIXED) | INVLOCK_BIT(DISCARD) |
	  INVLOCK_BIT(FREE) | INVLOCK_BIT(BRK), ON(MALLOC),
	  .make = free_and_malloc },
	{ "brk", INVLOCK_BIT(BRK), ON(BRK), .to_the_end = true, .make = shrink_and_grow },
	{ "truncate", INVLOCK_BIT(TRUNCATE), ON(MEMFD), .to_the_end = true,
	  .seldom = true, .make = truncate_and_grow },
	{ "punch hole", INVLOCK_BIT(TRUNCATE), ON(MEMFD), .seldom = true, .make = punch },
	{ "munmap, while another thread maps it anew", INVLOCK_BIT(UNMAP), ON(MMAP),
	  .whole = true, .taken = true, .make = unmap_all },
};
const unsigned int nr_prove_changes = sizeof(prove_changes) / sizeof(prove_changes[0]);
_Static_assert(sizeof(prove_changes) / sizeof(prove_changes[0]) <= MAX_PROVE_CHANGES,
	       "MAX_PROVE_CHANGES is too small");

/* Leave out the changes that this kernel does not support. */
void changes_probe(struct prove *p)
{
	size_t len = page_bytes();
	void *page = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (unsigned int i = 0; i < nr_prove_changes; i++)
		if (prove_changes[i].make == guard &&
		    (page == MAP_FAILED || madvise(page, len, MADV_GUARD_INSTALL)))
			snprintf(p->not_attempted[i], sizeof(p->not_attempted[i]),
				 "this kernel has no guard pages, which need Linux 6.13");
	if (page != MAP_FAILED)
		munmap(page, len);
}

static bool is_possible(const struct worker *w, const struct area *a, bool handed, unsigned int nr)
{
	const struct prove_change *change = &prove_changes[nr];

	return change->memories & (1u << a->memory) && change_is_attempted(w->prove, nr) &&
	       (handed || !change->taken);
}

bool change_choose(struct worker *w, struct area *a, bool handed, struct planned_change *ret)
{
	unsigned int nr = 0, possible = 0;

	for (unsigned int i = 0; i < nr_prove_changes; i++) {
		if (!is_possible(w, a, handed, i))
			continue;
		if (prove_changes[i].seldom && next_random(&w->random) % SELDOM)
			continue;
		possible++;
		/* all are equally likely, except for the one that needs two threads */
		if (next_random(&w->random) % (prove_changes[i].taken ? 2 : possible) == 0)
			nr = i;
	}
	if (!possible)
		return false;
	ret->change = &prove_changes[nr];
	ret->part = (struct part){ .area = a, .nr = NR_BUFFERS };
	if (!prove_changes[nr].whole && next_random(&w->random) % 8) {
		ret->part.first = next_random(&w->random) % NR_BUFFERS;
		ret->part.nr = 1 + next_random(&w->random) % 2;
	}
	if (prove_changes[nr].to_the_end || ret->part.first + ret->part.nr > NR_BUFFERS)
		ret->part.nr = NR_BUFFERS - ret->part.first;
	ret->part.addr = a->buffers[ret->part.first].addr;
	ret->part.len = ret->part.nr * a->stride;

	port_store(&a->uses, 0u);
	for (unsigned int i = 0; i < ret->part.nr; i++)
		a->buffers[ret->part.first + i].change = nr;
	return true;
}

/* After make(), another thread may own the area, so this function does not read it any more. */
void change_make(struct worker *w, const struct planned_change *planned)
{
	const struct prove_change *change = planned->change;
	const char *memory = memory_names[planned->part.area->memory];
	u64 *nr = &w->changes[change - prove_changes];
	int err = change->make(&planned->part);

	if (err)
		prove_fail(w->prove, "cannot make the change '%s' on memory of the kind '%s': %s",
			   change->name, memory, strerror(-err));
	port_store(nr, *nr + 1);
}
