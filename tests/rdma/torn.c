// SPDX-License-Identifier: MIT
#include "torn.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define GUARD_INSTALL	102	/* MADV_GUARD_INSTALL */
#define GUARD_REMOVE	103
/* free() gives what is this long back to the kernel, and malloc() maps it there again */
#define HEAP_LEN	(1ul << 20)

const char *const torn_names[TORN_NR] = {
	[TORN_NOTHING] = "nothing",
	[TORN_PROTECT] = "mprotect and back",
	[TORN_UNMAP] = "munmap, mmap at the same address",
	[TORN_UNMAP_RAW] = "the same, by raw system calls",
	[TORN_MAP_OVER] = "mmap over it",
	[TORN_DISCARD] = "MADV_DONTNEED",
	[TORN_MOVE_AWAY] = "mremap away",
	[TORN_MOVE_ONTO] = "mremap onto it",
	[TORN_GUARD] = "guard pages, removed again",
	[TORN_TRUNCATE] = "truncate the file",
	[TORN_REMOVE] = "MADV_REMOVE",
	[TORN_FREE] = "free, malloc",
};

struct torn {
	size_t len;
	int file;
	char *private, *shared, *heap;
};

bool torn_is_harmful(enum torn_change change)
{
	return change != TORN_NOTHING && change != TORN_PROTECT;
}

static void check(bool good, const char *what)
{
	if (good)
		return;
	perror(what);
	exit(3);
}

/* @at: NULL, or where; what is mapped there goes if @over */
static char *map(void *at, size_t len, int file, bool over)
{
	int flags = file < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
	void *mem;

	if (at)
		flags |= over ? MAP_FIXED : MAP_FIXED_NOREPLACE;
	mem = (void *)syscall(SYS_mmap, at, len, PROT_READ | PROT_WRITE, flags, file, 0L);
	check(mem != MAP_FAILED, "mmap");
	return mem;
}

struct torn *torn_open(size_t len)
{
	struct torn *t = malloc(sizeof(*t));

	check(t, "malloc");
	mallopt(M_MMAP_THRESHOLD, HEAP_LEN);
	t->len = len;
	t->file = memfd_create("torn", MFD_CLOEXEC);
	check(t->file >= 0 && !ftruncate(t->file, (off_t)len), "memfd");
	t->private = map(NULL, len, -1, false);
	t->shared = map(NULL, len, t->file, false);
	t->heap = malloc(HEAP_LEN + len);
	check(t->heap, "malloc");
	return t;
}

static char **place_of(struct torn *t, enum torn_change change)
{
	switch (change) {
	case TORN_TRUNCATE:
	case TORN_REMOVE:
		return &t->shared;
	case TORN_FREE:
		return &t->heap;
	default:
		return &t->private;
	}
}

void *torn_memory(struct torn *t, enum torn_change change)
{
	return *place_of(t, change);
}

/* mremap: from @mem to another place, or other memory to @mem */
static void move(char *mem, size_t len, bool away)
{
	char *other = map(NULL, len, -1, false);
	char *from = away ? mem : other, *to = away ? other : mem;

	memset(other, 0xee, len);
	/* a raw call: UCX's hook loses the last argument */
	check(syscall(SYS_mremap, from, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, to) == (long)to,
	      "mremap");
	if (!away)
		return;
	map(mem, len, -1, false);
	munmap(other, len);
}

void *torn_tear(struct torn *t, enum torn_change change)
{
	char **place = place_of(t, change), *mem = *place;
	size_t len = t->len;

	switch (change) {
	case TORN_PROTECT:
		check(!mprotect(mem, len, PROT_NONE) &&
		      !mprotect(mem, len, PROT_READ | PROT_WRITE), "mprotect");
		break;
	case TORN_UNMAP:
		munmap(mem, len);
		map(mem, len, -1, false);
		break;
	case TORN_UNMAP_RAW:
		syscall(SYS_munmap, mem, len);
		map(mem, len, -1, false);
		break;
	case TORN_MAP_OVER:
		map(mem, len, -1, true);
		break;
	case TORN_DISCARD:
		check(!syscall(SYS_madvise, mem, len, MADV_DONTNEED), "MADV_DONTNEED");
		break;
	case TORN_MOVE_AWAY:
	case TORN_MOVE_ONTO:
		move(mem, len, change == TORN_MOVE_AWAY);
		break;
	case TORN_GUARD:
		if (madvise(mem, len, GUARD_INSTALL))
			return NULL;
		check(!madvise(mem, len, GUARD_REMOVE), "MADV_GUARD_REMOVE");
		break;
	case TORN_TRUNCATE:
		check(!ftruncate(t->file, 0) && !ftruncate(t->file, (off_t)len), "ftruncate");
		break;
	case TORN_REMOVE:
		check(!madvise(mem, len, MADV_REMOVE), "MADV_REMOVE");
		break;
	case TORN_FREE:
		free(mem);
		*place = malloc(HEAP_LEN + len);
		check(*place, "malloc");
		break;
	default:
		break;
	}
	return *place;
}

enum torn_change torn_next(unsigned int *seed)
{
	return rand_r(seed) & 64 ? TORN_NOTHING : rand_r(seed) % TORN_NR;
}

void torn_judge(struct torn_tally *tally, enum torn_change change, const void *got, size_t len,
		unsigned char want)
{
	const unsigned char *bytes = got;
	bool right = bytes[0] == want && !memcmp(bytes, bytes + 1, len - 1);

	tally->sent[change]++;
	tally->stale[change] += !right;
}

void torn_print(const struct torn_tally *tally)
{
	unsigned int sent = 0, stale = 0;

	for (int i = 0; i < TORN_NR; i++) {
		if (!tally->sent[i])
			continue;
		printf("  %s: %u of %u\n", torn_names[i], tally->stale[i], tally->sent[i]);
		sent += tally->sent[i];
		stale += tally->stale[i];
	}
	printf("%u stale of %u messages\n", stale, sent);
	fflush(stdout);
}
