// SPDX-License-Identifier: MIT
/*
 * What does a call cost? The kernel measures the runs of our programs while this process, and then
 * a watched child, make many calls. Other processes make calls meanwhile: of several batches the
 * cheapest one counts.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/explain.h"
#include "lib/monitor/bpf/bpf.h"
#include "lib/page.h"
#include "ps.h"

#define NR_BATCHES	8
#define NR_CALLS	2000
#define REST_NS		200000000
#define PATIENCE_S	60

static void make_calls(char *page)
{
	for (int i = 0; i < NR_CALLS; i++) {
		if (page) {
			*(volatile char *)page = 1;
			madvise(page, page_bytes(), MADV_DONTNEED);
		} else {
			syscall(SYS_getppid);
		}
	}
}

/* @page: to be discarded; NULL = a call that changes no map. Return: nanoseconds for a call; -1 */
static double cost_of_call(const struct progsets *sets, char *page)
{
	struct run_count before, after;
	double least = -1;

	for (int i = 0; i < NR_BATCHES; i++) {
		double ns;

		if (sets_count_runs(sets, &before))
			return -1;
		make_calls(page);
		if (sets_count_runs(sets, &after))
			return -1;
		ns = (double)(after.ns - before.ns) / NR_CALLS;
		if (least < 0 || ns < least)
			least = ns;
	}
	return least;
}

static int cost_of_calls(const struct progsets *sets, double *ret_cost, double *ret_change)
{
	char *page = mmap(NULL, page_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);

	if (page == MAP_FAILED)
		return -errno;
	*ret_cost = cost_of_call(sets, NULL);
	*ret_change = cost_of_call(sets, page);
	munmap(page, page_bytes());
	return *ret_cost < 0 || *ret_change < 0 ? -EIO : 0;
}

/* What the watched child has measured. */
struct ps_watched {
	int err;
	struct invlock_why why;
	double cost, change;
};

/* Takes a seat of a set that runs, or one of the daemon's. */
static int open_watched(struct invlock_mm **ret_mm, struct invlock_why *why)
{
	struct invlock_mm_options o = {
		.size = sizeof(o), .flags = INVLOCK_MM_NO_SELFTEST, .monitor = "bpf",
		.need = INVLOCK_BIT(UNMAP),
	};

	monitor_bpf_options.only_join = true;
	if (!invlock_mm_open(&o, ret_mm, why))
		return 0;
	o.monitor = "daemon";
	return invlock_mm_open(&o, ret_mm, why);
}

static void measure_watched(const struct progsets *sets, struct ps_watched *w)
{
	struct invlock_mm *mm;

	w->err = open_watched(&mm, &w->why);
	if (w->err)
		return;
	w->err = cost_of_calls(sets, &w->cost, &w->change);
	invlock_mm_close(mm);
}

static void measure_in_child(const struct progsets *sets, struct ps_cost *c)
{
	struct ps_watched *w = mmap(NULL, sizeof(*w), PROT_READ | PROT_WRITE,
				    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid;
	int status;

	if (w == MAP_FAILED)
		return;
	w->err = explain(&w->why, -ECHILD, "the process that was to be watched did not end well");
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		alarm(PATIENCE_S);
		measure_watched(sets, w);
		_exit(0);
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	c->watched_measured = !w->err;
	c->watched_why_not = w->why;
	c->watched = w->cost;
	c->watched_change = w->change;
	munmap(w, sizeof(*w));
}

/* What do all processes of the machine together cause, without us? */
static int measure_load(const struct progsets *sets, struct ps_cost *c)
{
	const struct timespec rest = { .tv_nsec = REST_NS };
	struct run_count before, after;
	u64 began = port_now(), ns;
	int err = sets_count_runs(sets, &before);

	nanosleep(&rest, NULL);
	if (!err)
		err = sets_count_runs(sets, &after);
	if (err)
		return err;
	ns = port_now() - began;
	c->runs_per_second = (after.runs - before.runs) * 1e9 / ns;
	c->cpu_share = (double)(after.ns - before.ns) / ns;
	return 0;
}

static void measure(struct ps_cost *c, const struct progsets *sets)
{
	int stats = bpf_enable_stats(BPF_STATS_RUN_TIME), err;

	if (stats < 0) {
		explain(&c->why_not, stats, "the kernel does not measure its programs for us: %s; "
			"this takes CAP_SYS_ADMIN", strerror(-stats));
		return;
	}
	err = measure_load(sets, c);
	if (!err)
		err = cost_of_calls(sets, &c->unwatched, &c->unwatched_change);
	if (err)
		explain(&c->why_not, err, "the kernel does not tell what it has measured: %s",
			strerror(-err));
	c->measured = !err;
	if (!err)
		measure_in_child(sets, c);
	close(stats);
}

void ps_measure(struct ps_cost *c)
{
	struct progsets *sets = calloc(1, sizeof(*sets));
	int err = sets ? progsets_look(sets) : -ENOMEM;

	c->any = err || sets->nr;
	if (err)
		explain(&c->why_not, err, "the BPF programs cannot be looked at: %s%s",
			strerror(-err), err == -EPERM ? "; this takes CAP_SYS_ADMIN" : "");
	else if (sets->nr)
		measure(c, sets);
	for (unsigned int i = 0; sets && i < sets->nr; i++)
		progset_release(&sets->set[i]);
	free(sets);
}
