// SPDX-License-Identifier: MIT
/*
 * The storm: changes of memory that the caches hold registrations of.
 *
 * After each, a registration made before it names other pages than the program sees, or
 * none; what remains of the old pages is never seen by the program again (see prove.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "prove.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE	23
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL	102
#define MADV_GUARD_REMOVE	103
#endif

#define DECOY_BYTES		((size_t)64 << 10)
#define IDLE_NS			50000

static int map_again(const struct area *a, u8 *addr, size_t len)
{
	return area_map(a, addr, len, MAP_FIXED_NOREPLACE);
}

static int unmap_and_map(const struct part *part)
{
	return munmap(part->addr, part->len) ? -errno : map_again(part->area, part->addr, part->len);
}

/*
 * The area is given up before it is unmapped: whoever takes it maps it anew as soon as the
 * kernel lets it, which is while this thread is still inside munmap().
 */
static int unmap_and_hand_over(const struct part *part)
{
	struct area *a = part->area;
	const struct prove *p = a->prove;
	u8 *base = a->base;
	size_t span = a->span;
	size_t used = NR_BUFFERS * a->len;
	int err;

	madvise(base + used, span - used, MADV_POPULATE_WRITE);
	a->going = true;
	/* reported while it is still ours: the next owner finds it running */
	report_start(p, base, span);
	area_release(a);
	err = munmap(base, span) ? -errno : 0;
	report_end(p, base, span);
	return err;
}

static int map_over(const struct part *part)
{
	return area_map(part->area, part->addr, part->len, MAP_FIXED);
}

/* another memfd over the whole of the old one, which then goes */
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

static int remap_away(const struct part *part)
{
	const struct area *a = part->area;
	u8 *addr = part->addr;
	size_t len = part->len;
	int err;

	if (mremap(addr, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, a->side) == MAP_FAILED)
		return -errno;
	err = map_again(a, addr, len);
	/* the old pages are registered here and there: they may not stay */
	return munmap(a->side, len) ? -errno : err;
}

static int remap_onto(const struct part *part)
{
	const struct area *a = part->area;
	size_t len = part->len;
	int err = map_again(a, a->side, len);

	if (err)
		return err;
	memset(a->side, 1, len);
	return mremap(a->side, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, part->addr) == MAP_FAILED ?
	       -errno : 0;
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

/* raw calls: libc's own idea of where the heap ends is not moved, see brk_open() */
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
	return ftruncate(a->fd, part->first * a->len) || ftruncate(a->fd, a->span) ? -errno : 0;
}

static int punch(const struct part *part)
{
	return fallocate(part->area->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 part->addr - part->area->base, part->len) ? -errno : 0;
}

#define ON(memory)	(1u << MEMORY_##memory)
#define ON_ANON		(ON(MMAP) | ON(HUGE))

const struct storm storms[] = {
	{ "munmap, mmap", INVLOCK_BIT(UNMAP), ON_ANON, .make = unmap_and_map },
	{ "munmap, taken by another thread meanwhile", INVLOCK_BIT(UNMAP), ON(MMAP),
	  .whole = true, .releases = true, .make = unmap_and_hand_over },
	{ "mmap MAP_FIXED", INVLOCK_BIT(FIXED), ON_ANON, .make = map_over },
	{ "mmap MAP_FIXED, memfd", INVLOCK_BIT(FIXED), ON(MEMFD), .whole = true,
	  .make = map_memfd_over },
	{ "mremap away", INVLOCK_BIT(REMAP_FROM) | INVLOCK_BIT(UNMAP), ON_ANON,
	  .make = remap_away },
	{ "mremap onto", INVLOCK_BIT(REMAP_TO), ON_ANON, .make = remap_onto },
	{ "madvise DONTNEED", INVLOCK_BIT(DISCARD), ON_ANON | ON(BRK), .make = discard },
	{ "madvise REMOVE", INVLOCK_BIT(REMOVE), ON(MEMFD), .make = remove_pages },
	{ "guard pages", INVLOCK_BIT(GUARD), ON(MMAP), .make = guard },
	{ "free, malloc", INVLOCK_BIT(UNMAP) | INVLOCK_BIT(FIXED) | INVLOCK_BIT(DISCARD) |
	  INVLOCK_BIT(FREE) | INVLOCK_BIT(BRK), ON(MALLOC),
	  .make = free_and_malloc },
	{ "brk", INVLOCK_BIT(BRK), ON(BRK), .to_the_end = true, .make = shrink_and_grow },
	{ "truncate", INVLOCK_BIT(TRUNCATE), ON(MEMFD), .to_the_end = true,
	  .make = truncate_and_grow },
	{ "punch hole", INVLOCK_BIT(TRUNCATE), ON(MEMFD), .make = punch },
};
const unsigned int nr_storms = sizeof(storms) / sizeof(storms[0]);
_Static_assert(sizeof(storms) / sizeof(storms[0]) <= MAX_STORMS, "MAX_STORMS is too small");

/* what this kernel does not have is not attempted */
void storms_probe(struct prove *p)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (unsigned int i = 0; i < nr_storms; i++)
		if (storms[i].make == guard &&
		    (page == MAP_FAILED || madvise(page, 4096, MADV_GUARD_INSTALL)))
			snprintf(p->not_attempted[i], sizeof(p->not_attempted[i]),
				 "this kernel has no guard pages (6.13 has)");
	if (page != MAP_FAILED)
		munmap(page, 4096);
}

static const struct storm *choose(struct worker *w, const struct area *a, bool keep)
{
	unsigned int first = next_random(&w->random) % nr_storms;

	for (unsigned int i = 0; i < nr_storms; i++) {
		unsigned int nr = (first + i) % nr_storms;

		if (storms[nr].memories & (1u << a->memory) && storm_is_attempted(w->prove, nr) &&
		    !(keep && storms[nr].releases))
			return &storms[nr];
	}
	return NULL;
}

static struct part choose_part(struct worker *w, struct area *a, const struct storm *storm)
{
	struct part part = { .area = a, .nr = NR_BUFFERS };

	if (!storm->whole && next_random(&w->random) % 4) {
		part.first = next_random(&w->random) % NR_BUFFERS;
		part.nr = 1 + next_random(&w->random) % 2;
	}
	if (storm->to_the_end || part.first + part.nr > NR_BUFFERS)
		part.nr = NR_BUFFERS - part.first;
	part.addr = a->buffers[part.first].addr;
	part.len = part.nr * a->len;
	return part;
}

bool storm_change(struct worker *w, struct area *a, bool keep)
{
	const struct storm *storm = choose(w, a, keep);
	const struct prove *p = w->prove;
	size_t len = a->len;
	u8 *old[NR_BUFFERS];
	struct part part;
	int err;

	if (!storm)
		return true;
	part = choose_part(w, a, storm);
	port_store(&a->uses, 0u);
	for (unsigned int i = 0; i < part.nr; i++) {
		old[i] = a->buffers[part.first + i].addr;
		a->buffers[part.first + i].storm = storm - storms;
	}
	for (unsigned int i = 0; i < part.nr && !storm->releases; i++)
		report_start(p, old[i], len);
	err = storm->make(&part);
	for (unsigned int i = 0; i < part.nr && !storm->releases; i++)
		report_end(p, old[i], len);
	if (err)
		prove_fail(w->prove, "cannot change memory of the kind '%s' by '%s': %s",
			   memory_names[a->memory], storm->name, strerror(-err));
	port_store(&w->changes[storm - storms], w->changes[storm - storms] + 1);
	return !storm->releases;
}

/* memory that nobody uses comes and goes beside the areas: their words move all the time */
static void decoy(struct worker *w)
{
	const struct prove *p = w->prove;
	const struct area *a = &p->areas[next_random(&w->random) % p->nr_areas];
	u8 *addr = a->base + (1ULL << INVLOCK_STRIPE_SHIFT) - DECOY_BYTES;
	void *mem;

	if (!a->side || addr < a->base + a->span)
		return;
	mem = mmap(addr, DECOY_BYTES, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (mem == MAP_FAILED)
		return;
	report_start(p, mem, DECOY_BYTES);
	munmap(mem, DECOY_BYTES);
	report_end(p, mem, DECOY_BYTES);
}

void *storm_thread(void *worker)
{
	struct worker *w = worker;
	const struct timespec idle = { .tv_nsec = IDLE_NS };

	while (!prove_stopped(w->prove)) {
		struct area *a = area_take(w, USES_PER_ENGINE * w->prove->nr_engines);

		if (a && storm_change(w, a, false))
			area_release(a);
		if (!a || next_random(&w->random) % 4 == 0) {
			decoy(w);
			nanosleep(&idle, NULL);
		}
	}
	return NULL;
}
