/* SPDX-License-Identifier: MIT */
/* Threads of this process, found by their names. */
#ifndef INVLOCK_TESTS_THREADS_H
#define INVLOCK_TESTS_THREADS_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

/* How many threads have this @name? Stores the id of one of them, or 0, unless @ret_tid is NULL. */
static inline unsigned int threads_named(const char *name, pid_t *ret_tid)
{
	DIR *dir = opendir("/proc/self/task");
	char path[300], comm[32];
	unsigned int nr = 0;
	struct dirent *d;
	pid_t tid = 0;
	FILE *f;

	while (dir && (d = readdir(dir))) {
		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", d->d_name);
		f = fopen(path, "re");
		if (!f)
			continue;
		if (fgets(comm, sizeof(comm), f)) {
			comm[strcspn(comm, "\n")] = '\0';
			if (!strcmp(comm, name)) {
				tid = atoi(d->d_name);
				nr++;
			}
		}
		fclose(f);
	}
	if (dir)
		closedir(dir);
	if (ret_tid)
		*ret_tid = tid;
	return nr;
}

/* Return: the id of a thread of this @name; 0 = there is none. */
static inline pid_t thread_named(const char *name)
{
	pid_t tid;

	threads_named(name, &tid);
	return tid;
}

#endif /* INVLOCK_TESTS_THREADS_H */
