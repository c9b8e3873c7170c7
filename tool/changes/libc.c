// SPDX-License-Identifier: MIT
/*
 * Changes that no one asked for: libc gives memory back in the middle of free().
 *
 * An allocator may keep what it is given. Then there was no change and nothing to see, so
 * each of these looks whether the page is still there.
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

#include "lib/selftest/trial.h"

#define MIB		(1UL << 20)
/* libc maps blocks of this size for themselves alone, whatever it has learned before */
#define LARGEST_BLOCK	(64 * MIB)

/* a page that is in the block and holds nothing but the caller's bytes */
static u8 *page_inside(const struct trial *t, void *block)
{
	return (u8 *)(((unsigned long)block + 2 * t->page) & ~(t->page - 1));
}

/* true = it did change, or was not to be tried: the result is final */
static bool free_and_malloc(struct trial *t, size_t size)
{
	void *block = malloc(size), *again;
	bool kept;
	u8 *page;

	if (!block) {
		trial_unknown(t, "no memory to try it on");
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
		trial_unknown(t, "this allocator kept the memory");
	else
		trial_end(t, 0);
	free(again);
	return !kept;
}

static void reallocate(struct trial *t)
{
	size_t size = LARGEST_BLOCK;
	/* the later block lies below the earlier one, and cannot grow where it is */
	void *above = malloc(size), *block = malloc(size), *larger = NULL;
	unsigned long before = (unsigned long)block;
	u8 *page;

	if (!above || !block) {
		trial_unknown(t, "no memory to try it on");
		goto free_blocks;
	}
	page = page_inside(t, block);
	memset(block, 1, 4 * t->page);
	if (!trial_begin(t, page, t->page))
		goto free_blocks;
	larger = realloc(block, 2 * size);
	if (!larger) {
		trial_unknown(t, "no memory to try it on");
		goto free_blocks;
	}
	block = NULL;
	if ((unsigned long)larger == before || page_is_present(page))
		trial_unknown(t, "this allocator did not move the memory");
	else
		trial_end(t, 0);
free_blocks:
	free(larger);
	free(block);
	free(above);
}

static void free_then_malloc(struct trial *t)
{
	/* libc learns to keep a size that comes back to it: then a larger one goes */
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
	/* stays, so that what is below it is not at the heap's end */
	last = malloc(BLOCK);
	page = page_inside(t, blocks[NR_BLOCKS / 2]);
	for (unsigned int i = 0; i < nr; i++)
		free(blocks[i]);
	if (nr < NR_BLOCKS || !last) {
		trial_unknown(t, "no memory to try it on");
	} else if (!page_is_present(page)) {
		trial_unknown(t, "this allocator gives memory back without being told to trim");
	} else if (trial_begin(t, page, t->page)) {
		malloc_trim(0);
		if (page_is_present(page))
			trial_unknown(t, "this allocator kept the memory");
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
 * May another thread allocate? It could take memory above the break that we raise, which
 * lowering the break again would destroy. The threads of our own monitor, and the kernel's
 * that work for io_uring, allocate nothing.
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
			trial_unknown(t, "something else uses the break");
			return;
		}
		trial_end(t, brk((void *)top));
	} else if ((unsigned long)sbrk(0) == page + t->len && brk((void *)top)) {
		trial_unknown(t, "the break cannot be lowered: %s", strerror(errno));
	}
}

/* small ones that come with libc and that hardly a program loads */
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
		trial_unknown(t, "no library to try it on");
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
		trial_unknown(t, "the library stayed loaded");
	else
		trial_end(t, 0);
}

const struct change libc_changes[] = {
	{ "free + malloc of 1 MiB", INVLOCK_KIND_UNMAP, free_then_malloc },
	{ "realloc (grows)", INVLOCK_KIND_REMAP_FROM, reallocate },
	{ "malloc_trim", INVLOCK_KIND_DISCARD, trim },
	{ "brk (shrink)", INVLOCK_KIND_BRK, lower_break },
	{ "dlclose", INVLOCK_KIND_UNMAP, unload_library },
	{ NULL }
};
