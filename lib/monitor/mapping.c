// SPDX-License-Identifier: MIT
#include "mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Copied here, since the oldest headers that we build with do not have this struct. */
struct query {
	u64 size, flags, addr;
	u64 start, end, vma_flags, page_size, offset, inode;
	u32 major, minor, name_size, build_id_size;
	u64 name, build_id;
};

#define QUERY_IOCTL	_IOWR('f', 17, struct query)
#define QUERY_SHARED	8u

/* open(), close() and read() of libc are cancellation points: call the kernel directly. */
int mappings_open(void)
{
	long fd = syscall(SYS_openat, AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : (int)fd;
}

void mappings_close(int maps)
{
	syscall(SYS_close, maps);
}

static int query(int maps, u64 addr, struct mapping *ret, bool named)
{
	struct query q = {
		.size = sizeof(q),
		.addr = addr,
		.name_size = named ? sizeof(ret->name) : 0,
		.name = named ? (unsigned long)ret->name : 0,
	};

	/* all of it: what the kernel stores there is unknown to tools that watch memory */
	memset(ret->name, 0, sizeof(ret->name));
	if (ioctl(maps, QUERY_IOCTL, &q))
		return -errno;
	ret->start = q.start;
	ret->end = q.end;
	ret->inode = q.inode;
	ret->shared = q.vma_flags & QUERY_SHARED;
	if (!named)
		strcpy(ret->name, "a long name");
	return 0;
}

/*
 * Parses a line of the text, whose end is cut off if it is long. Return: false = it is not a line
 * of a mapping.
 */
static bool parse(const char *line, struct mapping *ret)
{
	unsigned long long start, end, inode;
	char flags[5];
	int name = 0;

	if (sscanf(line, "%llx-%llx %4s %*x %*x:%*x %llu %n", &start, &end, flags, &inode,
		   &name) != 4 || !name)
		return false;
	ret->start = start;
	ret->end = end;
	ret->inode = inode;
	ret->shared = flags[3] == 's';
	snprintf(ret->name, sizeof(ret->name), "%s", line + name);
	return true;
}

/* Return: 0; -ENOENT = nothing is mapped at addr; 1 = the answer is in a later line. */
static int look_at_line(const char *line, u64 addr, struct mapping *ret)
{
	if (!parse(line, ret) || ret->end <= addr)
		return 1;
	return ret->start <= addr ? 0 : -ENOENT;
}

int mapping_find_in_text(int maps, u64 addr, struct mapping *ret)
{
	char line[MAPPING_NAME + 100], text[1024];
	size_t len = 0;
	ssize_t got;
	int found;

	if (lseek(maps, 0, SEEK_SET))
		return -errno;
	while ((got = syscall(SYS_read, maps, text, sizeof(text))) > 0) {
		for (ssize_t i = 0; i < got; i++) {
			if (text[i] != '\n') {
				if (len < sizeof(line) - 1)
					line[len++] = text[i];
				continue;
			}
			line[len] = '\0';
			len = 0;
			found = look_at_line(line, addr, ret);
			if (found <= 0)
				return found;
		}
	}
	return got < 0 ? -errno : -ENOENT;
}

int mapping_find(int maps, u64 addr, struct mapping *ret)
{
	int err = query(maps, addr, ret, true);

	if (err == -ENAMETOOLONG)
		err = query(maps, addr, ret, false);
	return err == -ENOTTY ? mapping_find_in_text(maps, addr, ret) : err;
}

/*
 * The kernel's own mappings also have no inode, but have names in brackets. Names of files begin
 * with a slash, or with the kind of object that they are: no such name can be mistaken for the
 * names here.
 */
bool mapping_is_anon(const struct mapping *m)
{
	static const char hugepage[] = "/anon_hugepage (deleted)";

	if (m->shared)
		return false;
	if (m->inode)
		return !strcmp(m->name, hugepage);
	return !m->name[0] || !strcmp(m->name, "[heap]") || !strcmp(m->name, "[stack]") ||
	       !strncmp(m->name, "[anon:", 6);
}
