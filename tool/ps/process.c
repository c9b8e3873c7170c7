// SPDX-License-Identifier: MIT
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ps.h"

#define DEVICE		"/dev/invlock"
#define UFFD_THREAD	"invlock-uffd"	/* lib/monitor/uffd/uffd.c */
#define INITIAL_PIDS	"pid:[4026531836]"	/* the kernel's own pid namespace */

u64 ps_boot_time(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

bool ps_pids_are_the_kernels(void)
{
	char name[64] = "";

	return readlink("/proc/self/ns/pid", name, sizeof(name) - 1) > 0 &&
	       !strcmp(name, INITIAL_PIDS);
}

/* Reads a line of a file of a process. Return: false = it is gone, or this user may not. */
static bool read_line(const char *folder, const char *name, char *line, size_t size)
{
	char path[320];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "re");
	if (!f)
		return false;
	line = fgets(line, size, f);
	fclose(f);
	return line;
}

/* A process chooses its name: what is no plain text could do harm to a terminal. */
static void read_command(const char *folder, char *ret_command)
{
	char line[COMMAND_SIZE];

	ret_command[0] = '\0';
	if (!read_line(folder, "comm", line, sizeof(line)))
		return;
	line[strcspn(line, "\n")] = '\0';
	for (char *c = line; *c; c++)
		if (!isprint((unsigned char)*c))
			*c = '?';
	strcpy(ret_command, line);
}

/* When a task was started: CLOCK_BOOTTIME, nanoseconds; 0 = unknown. */
static u64 read_start(const char *folder)
{
	char line[1024], *at;
	unsigned long long ticks;

	if (!read_line(folder, "stat", line, sizeof(line)))
		return 0;
	/* The name may have blanks and brackets, so count from its end: the time is field 22. */
	at = strrchr(line, ')');
	for (int field = 2; at && field < 22; field++)
		at = strchr(at + 1, ' ');
	if (!at || sscanf(at, "%llu", &ticks) != 1)
		return 0;
	return ticks * (1000000000ULL / sysconf(_SC_CLK_TCK));
}

void ps_look_at_process(struct ps_process *p, pid_t pid)
{
	struct stat stat_of;
	char folder[40];

	*p = (struct ps_process){ .pid = pid, .uid = -1 };
	snprintf(folder, sizeof(folder), "/proc/%d", pid);
	if (pid <= 0 || stat(folder, &stat_of))
		return;
	p->uid = stat_of.st_uid;
	p->started = read_start(folder);
	read_command(folder, p->command);
}

/* Is the device mapped there? Return: 1 or 0; -1 = this user may not see it. */
static int maps_device(const char *folder)
{
	char path[64], line[512];
	int found = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/maps", folder);
	f = fopen(path, "re");
	if (!f)
		return errno == EACCES || errno == EPERM ? -1 : 0;
	while (!found && fgets(line, sizeof(line), f)) {
		const char *name = strchr(line, '/');

		found = name && !strcmp(name, DEVICE "\n");
	}
	/* A process of another user can be opened, and then nothing is read. */
	if (ferror(f))
		found = -1;
	fclose(f);
	return found;
}

/* Finds the thread that the monitor uffd has in a process. @ret_started: when it was started. */
static bool has_uffd_thread(const char *folder, u64 *ret_started)
{
	char path[64], task[320], name[COMMAND_SIZE];
	struct dirent *entry;
	bool found = false;
	DIR *tasks;

	snprintf(path, sizeof(path), "%s/task", folder);
	tasks = opendir(path);
	while (tasks && !found && (entry = readdir(tasks))) {
		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		snprintf(task, sizeof(task), "%s/%s", path, entry->d_name);
		read_command(task, name);
		found = !strcmp(name, UFFD_THREAD);
		if (found)
			*ret_started = read_start(task);
	}
	if (tasks)
		closedir(tasks);
	return found;
}

static int add_found(struct ps_report *r, const char *monitor, pid_t pid, u64 started)
{
	struct ps_feed *f = ps_add(r, monitor);

	if (!f)
		return -ENOMEM;
	ps_look_at_process(&f->process, pid);
	f->age = started ? ps_boot_time() - started : 0;
	return 0;
}

int ps_find_in_proc(struct ps_report *r)
{
	bool kmod = !access(DEVICE, F_OK);
	unsigned int nr_hidden = 0;
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	int err = 0, maps;
	char folder[40];
	u64 started = 0;
	pid_t pid;

	if (!proc)
		return 0;
	while (!err && (entry = readdir(proc))) {
		pid = atoi(entry->d_name);
		if (pid <= 0)
			continue;
		snprintf(folder, sizeof(folder), "/proc/%d", pid);
		maps = kmod ? maps_device(folder) : 0;
		nr_hidden += maps < 0;
		if (maps > 0)
			err = add_found(r, "kmod", pid, 0);
		if (!err && has_uffd_thread(folder, &started))
			err = add_found(r, "uffd", pid, started);
	}
	closedir(proc);
	if (nr_hidden)
		ps_note(r, "this user may not see what %u processes have mapped: feeds of the "
			"kernel module may be missing", nr_hidden);
	return err;
}
