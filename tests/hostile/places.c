// SPDX-License-Identifier: MIT
#include "places.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "calls.h"
#include "tests/test.h"

#define NOBODY	65534

/* The directories are opened before the child is confined, because there may be no /proc there. */
static unsigned int entries(DIR *dir)
{
	unsigned int nr = 0;

	rewinddir(dir);
	while (readdir(dir))
		nr++;
	return nr;
}

static void *do_nothing(void *unused)
{
	return unused;
}

static void try_all(struct place_outcome *o, const char *monitor, DIR *fds, DIR *tasks)
{
	struct invlock_mm_info info = { .size = sizeof(info) };
	unsigned int nr_fds, nr_tasks;
	pthread_t thread;
	struct rig rig;

	/* With the first thread of a process, a sanitizer starts one of its own, which stays. */
	if (!pthread_create(&thread, NULL, do_nothing, NULL))
		pthread_join(thread, NULL);
	nr_fds = entries(fds);
	nr_tasks = entries(tasks);
	o->err = rig_open(&rig, monitor);
	memcpy(o->why, rig.why.text, sizeof(o->why));
	if (!o->err) {
		if (!invlock_mm_info(rig.mm, &info))
			snprintf(o->monitor, sizeof(o->monitor), "%s", info.monitor);
		o->check = rig_check(&rig);
		o->close = rig_try_close(&rig);
	}
	/* a thread that was joined disappears from /proc a moment later */
	for (int i = 0; i < 60000 && entries(tasks) > nr_tasks; i++)
		usleep(1000);
	o->clean = entries(fds) <= nr_fds && entries(tasks) <= nr_tasks;
}

struct place_outcome open_in(bool (*prepare)(long arg), long arg, const char *monitor)
{
	struct place_outcome *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
				      MAP_SHARED | MAP_ANONYMOUS, -1, 0), outcome;
	int status;
	pid_t child;

	assert_ptr_not_equal(shared, MAP_FAILED);
	*shared = (struct place_outcome){ .died = true };
	child = fork();
	if (!child) {
		DIR *fds = opendir("/proc/self/fd"), *tasks = opendir("/proc/self/task");

		shared->shut_in = fds && tasks && prepare(arg);
		if (shared->shut_in)
			try_all(shared, monitor, fds, tasks);
		shared->died = false;
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	outcome = *shared;
	outcome.died |= status != 0;
	munmap(shared, sizeof(*shared));
	return outcome;
}

bool become_nobody(void)
{
	/* setuid() made the process undumpable, which closes /proc/self/pagemap to it: undo that */
	return geteuid() || (!setuid(NOBODY) && !prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
}

void works_or_says_why(const struct place_outcome *o)
{
	if (o->died || !o->clean || (o->err && !o->why[0]) || o->check == -ESTALE || o->close)
		fail_msg("open %d (%s) by %s, check %d, close %d, %s, %s", o->err, o->why,
			 o->monitor, o->check, o->close, o->clean ? "clean" : "not clean",
			 o->died ? "died" : "lived");
}
