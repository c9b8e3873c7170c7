// SPDX-License-Identifier: MIT
/*
 * Changes that libc makes by itself, for example when free() gives memory back to the kernel.
 *
 * An allocator may also keep the memory. Then nothing changes, and a monitor can see nothing. So
 * each function here checks whether the page is still there.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "changes.h"
#include "lib/selftest/trial.h"

#define MIB		(1UL << 20)
/* libc always gives a block of this size a mapping of its own */
#define LARGEST_BLOCK	(64 * MIB)

/* Return: a page that lies inside the block, away from the data of the allocator. */
static u8 *page_inside(const struct trial *t, void *block)
{
	return (u8 *)(((unsigned long)block + 2 * t->page) & ~(t->page - 1));
}

/* Return: true if the result is final; false if the allocator kept the memory. */
static bool free_and_malloc(struct trial *t, size_t size)
{
	void *block = malloc(size), *again;
	bool kept;
	u8 *page;

	if (!block) {
		trial_unknown(t, "out of memory");
		return true;
	}
	page = page_inside(t, block);
	memset(block, 1, 4 * t->page);
	if (!trial_begin(t, page, t->page)) {
		free(block);
		return true;
	}
	free(block);
	kept = page_is_present(page);
	again = malloc(size);
	if (kept)
		trial_unknown(t, "this allocator kept the memory, so nothing changed");
	else
		trial_end(t, 0);
	free(again);
	return !kept;
}

static void reallocate(struct trial *t)
{
	size_t size = LARGEST_BLOCK;
	/* "block" lies directly below "above", so realloc() has to move it */
	void *above = malloc(size), *block = malloc(size), *larger = NULL;
	unsigned long before = (unsigned long)block;
	u8 *page;

	if (!above || !block) {
		trial_unknown(t, "out of memory");
		goto free_blocks;
	}
	page = page_inside(t, block);
	memset(block, 1, 4 * t->page);
	if (!trial_begin(t, page, t->page))
		goto free_blocks;
	larger = realloc(block, 2 * size);
	if (!larger) {
		trial_unknown(t, "out of memory");
		goto free_blocks;
	}
	block = NULL;
	if ((unsigned long)larger == before || page_is_present(page))
		trial_unknown(t, "this allocator did not move the memory, so nothing changed");
	else
		trial_end(t, 0);
free_blocks:
	free(larger);
	free(block);
	free(above);
}

static void free_then_malloc(struct trial *t)
{
	/* libc may have learned to keep blocks of this size: then try a larger one */
	for (size_t size = MIB; size <= LARGEST_BLOCK; size *= 2)
		if (free_and_malloc(t, size))
			break;
}

#ifdef __GLIBC__
#define NR_BLOCKS	64
#define BLOCK		65536

static void trim(struct trial *t)
{
	u8 *blocks[NR_BLOCKS] = {}, *last = NULL, *page;
	unsigned int nr;

	for (nr = 0; nr < NR_BLOCKS; nr++) {
		blocks[nr] = malloc(BLOCK);
		if (!blocks[nr])
			break;
		memset(blocks[nr], 1, BLOCK);
	}
	/* this block stays, so that the others are not at the end of the heap */
	last = malloc(BLOCK);
	page = page_inside(t, blocks[NR_BLOCKS / 2]);
	for (unsigned int i = 0; i < nr; i++)
		free(blocks[i]);
	if (nr < NR_BLOCKS || !last) {
		trial_unknown(t, "out of memory");
	} else if (!page_is_present(page)) {
		trial_unknown(t, "this allocator gives memory back without being told to trim");
	} else if (trial_begin(t, page, t->page)) {
		malloc_trim(0);
		if (page_is_present(page))
			trial_unknown(t, "this allocator kept the memory, so nothing changed");
		else
			trial_end(t, 0);
	}
	free(last);
}
#else
static void trim(struct trial *t)
{
	trial_unknown(t, "this libc has no malloc_trim()");
}
#endif

/*
 * May another thread allocate memory? It could get memory between the old break and the break that
 * we raise, and we would destroy that memory when we lower the break again. The threads of our own
 * monitor, and the kernel's threads for io_uring, do not allocate.
 */
static bool others_may_allocate(void)
{
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *entry;
	bool found = !tasks;

	while (tasks && !found && (entry = readdir(tasks))) {
		char path[300], name[32] = "";
		FILE *comm;

		if (entry->d_name[0] == '.' || atoi(entry->d_name) == gettid())
			continue;
		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
		comm = fopen(path, "re");
		if (comm) {
			found = !fgets(name, sizeof(name), comm) ||
				(strncmp(name, "iou-", 4) && strncmp(name, "invlock-uffd", 12));
			fclose(comm);
		}
	}
	if (tasks)
		closedir(tasks);
	return found;
}

static void lower_break(struct trial *t)
{
	unsigned long top, page;

	if (others_may_allocate()) {
		trial_unknown(t, "other threads run, which may use the break at the same time");
		return;
	}
	top = (unsigned long)sbrk(0);
	page = (top + t->page - 1) & ~(t->page - 1);
	if (brk((void *)(page + t->len))) {
		trial_unknown(t, "the break cannot be raised: %s", strerror(errno));
		return;
	}
	memset((void *)page, 1, t->len);
	if (trial_begin(t, (void *)page, t->len)) {
		if ((unsigned long)sbrk(0) != page + t->len) {
			trial_unknown(t, "another part of the program moved the break");
			return;
		}
		trial_end(t, brk((void *)top));
	} else if ((unsigned long)sbrk(0) == page + t->len && brk((void *)top)) {
		trial_unknown(t, "the break cannot be lowered: %s", strerror(errno));
	}
}

/* small libraries that come with libc, and that few programs load */
static const char *const libraries[] = {
	"libBrokenLocale.so.1", "libanl.so.1", "libutil.so.1", "libpcprofile.so",
	"libthread_db.so.1", "libmvec.so.1",
};

static void *open_a_library(void)
{
	for (size_t i = 0; i < sizeof(libraries) / sizeof(libraries[0]); i++) {
		void *loaded = dlopen(libraries[i], RTLD_NOW | RTLD_NOLOAD);

		if (!loaded)
			loaded = dlopen(libraries[i], RTLD_NOW | RTLD_LOCAL);
		else if (!dlclose(loaded))
			continue;
		if (loaded)
			return loaded;
	}
	return NULL;
}

static void unload_library(struct trial *t)
{
	void *library = open_a_library();
	struct link_map *map;
	u8 *page;

	if (!library || dlinfo(library, RTLD_DI_LINKMAP, &map)) {
		trial_unknown(t, "cannot find a small library to load");
		if (library)
			dlclose(library);
		return;
	}
	page = (u8 *)((unsigned long)map->l_ld & ~(t->page - 1));
	if (!trial_begin(t, page, t->page)) {
		dlclose(library);
		return;
	}
	dlclose(library);
	if (page_is_present(page))
		trial_unknown(t, "the library stayed loaded, so nothing changed");
	else
		trial_end(t, 0);
}

const struct map_change libc_changes[] = {
	{ "free + malloc of 1 MiB", INVLOCK_KIND_UNMAP, free_then_malloc },
	{ "realloc (grows)", INVLOCK_KIND_REMAP_FROM, reallocate },
	{ "malloc_trim", INVLOCK_KIND_DISCARD, trim },
	{ "brk (shrink)", INVLOCK_KIND_BRK, lower_break },
	{ "dlclose", INVLOCK_KIND_UNMAP, unload_library },
	{ NULL }
};
