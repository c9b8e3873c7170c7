// SPDX-License-Identifier: MIT
#include "memory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/explain.h"

#define PATH_ROOM	512
#define NO_LIMIT	(1ULL << 60)	/* version 1 writes a number above it */

/* The files of one version of cgroups. */
struct memory_files {
	const char *below;	/* where the memory controller is mounted */
	const char *max, *used;
	const char *reclaimable[2];	/* lines of memory.stat */
};

static const struct memory_files version_1 = {
	"/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
	{ "total_inactive_file", "total_active_file" },
};
static const struct memory_files version_2 = {
	"", "memory.max", "memory.current", { "inactive_file", "active_file" },
};

/* Return: the number in a file, or in its line that begins with @line; @otherwise = none there */
static u64 read_number(const char *directory, const char *name, const char *line, u64 otherwise)
{
	char path[PATH_ROOM], text[128], word[64];
	u64 number = otherwise;
	unsigned long long n;
	FILE *f;

	if (snprintf(path, sizeof(path), "%s/%s", directory, name) >= (int)sizeof(path))
		return otherwise;
	f = fopen(path, "re");
	if (!f)
		return otherwise;
	while (number == otherwise && fgets(text, sizeof(text), f)) {
		if (!line && sscanf(text, "%llu", &n) == 1)
			number = n;
		if (line && sscanf(text, "%63s %llu", word, &n) == 2 && !strcmp(word, line))
			number = n;
	}
	fclose(f);
	return number;
}

static u64 left_at(const struct memory_files *files, const char *directory)
{
	u64 max = read_number(directory, files->max, NULL, ~0ULL);
	u64 used = read_number(directory, files->used, NULL, ~0ULL), cache = 0;

	if (max >= NO_LIMIT || used == ~0ULL)
		return ~0ULL;
	for (int i = 0; i < 2; i++)
		cache += read_number(directory, "memory.stat", files->reclaimable[i], 0);
	used -= cache < used ? cache : used;
	return used < max ? max - used : 0;
}

/* In the cgroup at this path and in all above it. */
static u64 left_above(const struct memory_files *files, const char *mounted_at, const char *path)
{
	char directory[PATH_ROOM];
	u64 left = ~0ULL;
	size_t root;

	root = snprintf(directory, sizeof(directory), "%s%s", mounted_at, files->below);
	/* A path with "/.." leads to a cgroup that this process cannot see: look at the root. */
	if (root + strlen(path) >= sizeof(directory) || strstr(path, "/.."))
		path = "";
	strcpy(directory + root, path);
	for (;;) {
		u64 here = left_at(files, directory);
		char *slash = strrchr(directory + root, '/');

		if (here < left)
			left = here;
		if (!slash)
			return left;
		*slash = '\0';
	}
}

/* Which version has the memory controller, as this line of the list tells? NULL = not this line */
static const struct memory_files *files_of(const char *controllers)
{
	if (!*controllers)
		return &version_2;
	for (; controllers; controllers = strchr(controllers, ',')) {
		controllers += *controllers == ',';
		if (!strncmp(controllers, "memory", 6) && strchr(",", controllers[6]))
			return &version_1;
	}
	return NULL;
}

u64 memory_left_in(const char *mounted_at, const char *list)
{
	char text[PATH_ROOM], *controllers, *path;
	FILE *f = fopen(list, "re");
	u64 left = ~0ULL;

	if (!f)
		return left;
	while (fgets(text, sizeof(text), f)) {
		const struct memory_files *files;
		u64 here;

		/* 4:memory:/path */
		text[strcspn(text, "\n")] = '\0';
		controllers = strchr(text, ':');
		path = controllers ? strchr(controllers + 1, ':') : NULL;
		if (!path)
			continue;
		*controllers++ = *path++ = '\0';
		files = files_of(controllers);
		here = files ? left_above(files, mounted_at, path) : left;
		if (here < left)
			left = here;
	}
	fclose(f);
	return left;
}

int memory_check(u64 need, const char *what, struct invlock_why *why)
{
	u64 left = memory_left_in("/sys/fs/cgroup", "/proc/self/cgroup");

	if (left >= need)
		return 0;
	return explain(why, -ENOMEM, "the memory cgroup of this process has %llu MiB left, and %s "
		       "takes %llu MiB: raise its limit (memory.max)", left >> 20, what,
		       need >> 20);
}
