/* SPDX-License-Identifier: MIT */
/* Threads of this process, found by their names. */
#ifndef INVLOCK_TESTS_THREADS_H
#define INVLOCK_TESTS_THREADS_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

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

/* Waits until no thread has this @name: one that was joined is in /proc for a moment longer. */
static inline void await_no_thread(const char *name)
{
	while (threads_named(name, NULL))
		usleep(1000);
}

/* Return: the id of a thread of this @name; 0 = there is none. */
static inline pid_t thread_named(const char *name)
{
	pid_t tid;

	threads_named(name, &tid);
	return tid;
}

/* Return: whether the thread of this @name sleeps: then it holds no lock of libc. */
static inline bool thread_sleeps(const char *name)
{
	char path[64], line[512] = "", *state;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", thread_named(name));
	f = fopen(path, "re");
	if (!f)
		return false;
	state = fgets(line, sizeof(line), f) ? strrchr(line, ')') : NULL;
	fclose(f);
	return state && !strncmp(state, ") S", 3);
}

#endif /* INVLOCK_TESTS_THREADS_H */
