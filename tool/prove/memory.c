// SPDX-License-Identifier: MIT
/* The areas: memory of every kind that programs do I/O with. One thread at a time owns an area. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/capability.h"
#include "lib/monitor/monitor.h"
#include "lib/page.h"
#include "prove.h"

#define PAGE		((size_t)page_bytes())
#define SLOT		((size_t)16 << 20)	/* address space for each area */
#define SIDE		((size_t)8 << 20)	/* where area->side begins in the slot */
#define TAIL		((size_t)1 << 20)	/* makes the munmap() of a whole area take longer */
#define HUGE		((size_t)2 << 20)
#define LARGE_CHUNK	((size_t)128 << 10)
#define BUFFER_LEN	((size_t)64 << 10)
#define BUFFER_LEN_MIN	((size_t)16 << 10)
#define NO_LIMIT	(~0ULL)

const char *const memory_names[NR_MEMORIES] = {
	[MEMORY_MALLOC]	= "malloc",
	[MEMORY_MMAP]	= "mmap",
	[MEMORY_MEMFD]	= "memfd",
	[MEMORY_BRK]	= "brk",
	[MEMORY_HUGE]	= "huge pages",
};

int area_map(const struct area *a, u8 *addr, size_t len, int flags)
{
	bool shared = a->memory == MEMORY_MEMFD;
	void *mem;

	flags |= shared ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	mem = mmap(addr, len, PROT_READ | PROT_WRITE, flags, shared ? a->fd : -1,
		   shared ? addr - a->base : 0);
	if (mem == MAP_FAILED)
		return -errno;
	if (mem != addr) {
		munmap(mem, len);	/* kernels before 4.17 may map it elsewhere */
		return -EEXIST;
	}
	if (a->memory == MEMORY_HUGE)
		madvise(addr, len, MADV_HUGEPAGE);
	return 0;
}

struct area *area_take(struct worker *w, u32 min_uses)
{
	struct prove *p = w->prove;
	unsigned int first = next_random(&w->random) % p->nr_areas;

	for (unsigned int i = 0; i < p->nr_areas; i++) {
		struct area *a = &p->areas[(first + i) % p->nr_areas];

		if (port_load(&a->owned) || port_load(&a->uses) < min_uses)
			continue;
		/* pairs with area_release(), which publishes what the last owner did */
		if (!port_cmpxchg(&a->owned, 0u, 1u))
			return a;
	}
	return NULL;
}

void area_release(struct area *a)
{
	port_store_release(&a->owned, 0u);
}

int area_malloc(struct area *a, unsigned int nr)
{
	struct area_buffer *b = &a->buffers[nr];
	size_t align = a->prove->data.mem_align;

	b->chunk = malloc(a->chunk);
	if (!b->chunk)
		return -ENOMEM;
	port_store(&b->addr, (u8 *)(((uintptr_t)b->chunk + align - 1) & ~(align - 1)));
	return 0;
}

/*
 * Make an area at the end of the heap, so that a brk() that shrinks the heap takes only our pages.
 * A guard page follows the area. It keeps an allocator from growing the heap while our pages are
 * given back: the allocator asks for at least M_TOP_PAD bytes, which is more than we give back.
 * The page before the area is ours, and it stays. It keeps an allocator from finding its own memory
 * at the end of the heap, which the allocator would trim.
 */
static int brk_open(struct area *a)
{
	size_t len = NR_BUFFERS * a->stride;
	u8 *old = sbrk(0);
	u8 *base = (u8 *)(((uintptr_t)old + PAGE - 1) & ~(PAGE - 1)) + PAGE;
	u8 *guard = base + len + PAGE;

	mallopt(M_TOP_PAD, (int)(2 * len));
	if (sbrk(base + len - old) != old)
		return -ENOMEM;
	if (mmap(guard, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
		 -1, 0) != guard) {
		sbrk(old - (base + len));
		return -EEXIST;
	}
	a->base = base;
	a->span = len;
	return 0;
}

/* Find a range of addresses where the kernel maps nothing unless it is told to. */
static u8 *find_zone(size_t bytes)
{
	/* these lie between the program and its mappings; sanitizers leave one of them free */
	static const uintptr_t hints[] = {
		UINT64_C(0x2000000000), UINT64_C(0x200000000000), UINT64_C(0x600000000000),
	};

	for (unsigned int i = 0; i < sizeof(hints) / sizeof(hints[0]); i++) {
		void *zone = mmap((void *)hints[i], bytes, PROT_NONE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE |
				  MAP_FIXED_NOREPLACE, -1, 0);

		if (zone == MAP_FAILED)
			continue;
		munmap(zone, bytes);
		if (zone == (void *)hints[i])
			return zone;
	}
	return NULL;
}

static bool huge_pages_are_off(void)
{
	char text[64] = "[never]";
	int fd = open("/sys/kernel/mm/transparent_hugepage/enabled", O_RDONLY | O_CLOEXEC);

	if (fd >= 0) {
		ssize_t n = read(fd, text, sizeof(text) - 1);

		text[n > 0 ? n : 0] = '\0';
		close(fd);
	}
	return strstr(text, "[never]");
}

static int area_open(struct prove *p, struct area *a, u8 *slot, struct invlock_why *why)
{
	int err = 0;

	for (unsigned int i = 0; i < NR_BUFFERS; i++)
		a->buffers[i].change = CHANGE_NONE;
	a->prove = p;
	if (a->memory == MEMORY_MALLOC) {
		for (unsigned int i = 0; i < NR_BUFFERS && !err; i++)
			err = area_malloc(a, i);
	} else if (a->memory == MEMORY_BRK) {
		err = brk_open(a);
	} else {
		a->base = slot;
		a->side = slot + SIDE;
		a->span = a->memory == MEMORY_HUGE ? HUGE : NR_BUFFERS * a->stride;
		if (a->memory == MEMORY_MMAP)
			a->span += TAIL;
		if (a->memory == MEMORY_MEMFD) {
			a->fd = memfd_create("invlock-prove", MFD_CLOEXEC);
			if (a->fd < 0 || ftruncate(a->fd, a->span))
				err = -errno;
		}
		if (!err)
			err = area_map(a, a->base, a->span, MAP_FIXED_NOREPLACE);
	}
	if (err)
		return explain(why, err, "cannot allocate memory of the kind '%s': %s",
			       memory_names[a->memory], strerror(-err));
	for (unsigned int i = 0; i < NR_BUFFERS && a->base; i++)
		a->buffers[i].addr = a->base + i * a->stride;
	return 0;
}

static void add_areas(struct prove *p, enum memory memory, size_t len, unsigned int nr)
{
	while (nr-- && p->nr_areas < MAX_AREAS) {
		struct area *a = &p->areas[p->nr_areas++];

		a->memory = memory;
		a->fd = -1;
		a->len = len < p->data.bytes ? len : p->data.bytes;
		a->stride = (a->len + PAGE - 1) & ~(PAGE - 1);
		/* glibc allocates small chunks in a heap, and makes a mapping for each large one */
		a->chunk = a->len + p->data.mem_align + (nr % 2 ? 0 : LARGE_CHUNK);
	}
}

/* Return: how many bytes all caches together may pin. */
static u64 pin_limit(const struct prove *p)
{
	struct rlimit limit;

	/* RLIMIT_MEMLOCK does not count the pages in the pipes of the soft device */
	if (p->device != &device_uring || has_capability(CAP_IPC_LOCK) ||
	    getrlimit(RLIMIT_MEMLOCK, &limit) || limit.rlim_cur == RLIM_INFINITY)
		return NO_LIMIT;
	return limit.rlim_cur;
}

/* Choose the number and size of the areas, so that all caches together may pin all of them. */
static void plan(struct prove *p)
{
	unsigned int nr = p->nr_io / 2;
	u64 limit = pin_limit(p);
	u64 caches = 2 * p->nr_engines;
	size_t len = BUFFER_LEN;

	nr = nr < 2 ? 2 : nr > MAX_ENGINES ? MAX_ENGINES : nr;
	/* 3 kinds with nr areas each, 1 of brk; half as much again for dead regions until a reap */
	while (len > BUFFER_LEN_MIN &&
	       (3 * nr + 1) * NR_BUFFERS * len * caches * 3 / 2 > limit)
		len /= 2;
	p->pin_limit = limit == NO_LIMIT ? 0 : limit / caches;
	add_areas(p, MEMORY_MMAP, len, nr / 2);
	add_areas(p, MEMORY_MMAP, BUFFER_LEN_MIN, nr - nr / 2);
	add_areas(p, MEMORY_MEMFD, len, nr / 2);
	add_areas(p, MEMORY_MEMFD, BUFFER_LEN_MIN, nr - nr / 2);
	add_areas(p, MEMORY_MALLOC, len, nr);
	add_areas(p, MEMORY_BRK, len, 1);
	if (limit != NO_LIMIT) {
		prove_note(p, "this run uses no huge pages: RLIMIT_MEMLOCK is %llu KiB, which is "
			   "too little for a huge page in each of %llu caches (see ulimit -l)",
			   (unsigned long long)limit >> 10, (unsigned long long)caches);
		return;
	}
	add_areas(p, MEMORY_HUGE, len, nr > 4 ? nr / 4 : 1);
	if (huge_pages_are_off())
		prove_note(p, "transparent huge pages are switched off on this host, so \"huge "
			   "pages\" are small pages here");
}

int areas_open(struct prove *p, struct invlock_why *why)
{
	u8 *zone = find_zone(MAX_AREAS * SLOT);
	int err = 0;

	if (!zone)
		return explain(why, -ENOMEM, "cannot find %zu MiB of free address space",
			       MAX_AREAS * SLOT >> 20);
	/* a fixed threshold: otherwise glibc raises it, and free() unmaps less and less */
	mallopt(M_MMAP_THRESHOLD, (int)LARGE_CHUNK);
	plan(p);
	for (unsigned int i = 0; i < p->nr_areas && !err; i++)
		err = area_open(p, &p->areas[i], zone + i * SLOT, why);
	return err;
}

/* Call this after all threads have ended. */
void areas_close(struct prove *p)
{
	for (unsigned int i = 0; i < p->nr_areas; i++) {
		struct area *a = &p->areas[i];

		if (a->memory == MEMORY_MALLOC)
			for (unsigned int b = 0; b < NR_BUFFERS; b++)
				free(a->buffers[b].chunk);
		else if (a->memory != MEMORY_BRK && a->base)
			munmap(a->base, a->span);
		if (a->fd >= 0)
			close(a->fd);
	}
	p->nr_areas = 0;
}
