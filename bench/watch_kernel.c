// SPDX-License-Identifier: MIT
/*
 * Measures in a virtual machine: how much longer do calls take in a process that a monitor of the
 * kernel watches, and in one that is not watched? Only ratios count. The kernel of the virtual
 * machine lets the bpf monitor attach at functions, which many kernels do not: see bpf/attach.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "no_op.h"
#include "lib/monitor/bpf/bpf.h"
#include "tests/bpf/nothing.h"
#include "tests/page.h"
#include "tests/vm/driver/drill.h"

#define BLOCK		64
#define NR_REGIONS	100000U
/* the fastest of this many tries counts: the machine interrupts the others */
#define TRIES		25

static char *pages;

static void call_getppid(int nr)
{
	(void)nr;
	syscall(SYS_getppid);
}

static void call_discard(int nr)
{
	madvise(pages + nr * PAGE, PAGE, MADV_DONTNEED);
}

static void call_munmap(int nr)
{
	munmap(pages + nr * PAGE, PAGE);
}

/* A process that answers each byte, and two pipes to it. */
static struct partner {
	pid_t pid;
	int to, from;
} partner;

static void partner_start(void)
{
	int there[2], back[2];
	char byte;

	if (pipe2(there, O_CLOEXEC) || pipe2(back, O_CLOEXEC))
		_exit(1);
	partner = (struct partner){ .pid = fork(), .to = there[1], .from = back[0] };
	if (!partner.pid) {
		close(there[1]);
		while (read(there[0], &byte, 1) == 1 && write(back[1], &byte, 1) == 1)
			;
		_exit(0);
	}
	close(there[0]);
	close(back[1]);
}

static void partner_end(void)
{
	close(partner.to);
	close(partner.from);
	waitpid(partner.pid, NULL, 0);
}

/* On one CPU, this makes two context switches: to the partner and back. */
static void call_partner(int nr)
{
	char byte = 0;

	(void)nr;
	if (write(partner.to, &byte, 1) != 1 || read(partner.from, &byte, 1) != 1)
		_exit(1);
}

static const struct guest_call {
	const char *name;
	void (*call)(int nr);
	bool used;		/* the memory has pages */
	double at_most;		/* the target for watched / bare, except at tracepoints */
} calls[] = {
	{ "getppid", call_getppid, false, 1.10 },
	{ "two context switches", call_partner, false, 0 },
	{ "munmap, used page", call_munmap, true, 1.10 },
	{ "MADV_DONTNEED, used page", call_discard, true, 1.10 },
	{ "MADV_DONTNEED, untouched", call_discard, false, 1.10 },
};

#define NR_CALLS (sizeof(calls) / sizeof(*calls))

struct guest_sample {
	double ns[NR_CALLS];
};

static double measure_block(const struct guest_call *c)
{
	const size_t len = BLOCK * PAGE;
	double begin, end;

	pages = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	madvise(pages, len, MADV_NOHUGEPAGE);
	/* touch the pages in any case, so that there is a page table for them */
	memset(pages, 1, len);
	if (!c->used)
		madvise(pages, len, MADV_DONTNEED);
	begin = bench_now();
	for (int i = 0; i < BLOCK; i++)
		c->call(i);
	end = bench_now();
	munmap(pages, len);
	return (end - begin) / BLOCK;
}

static struct guest_sample measure(void)
{
	struct guest_sample s;

	partner_start();
	for (size_t c = 0; c < NR_CALLS; c++) {
		s.ns[c] = measure_block(&calls[c]);
		for (int i = 1; i < TRIES; i++) {
			double ns = measure_block(&calls[c]);

			if (ns < s.ns[c])
				s.ns[c] = ns;
		}
	}
	partner_end();
	return s;
}

static void fill(struct invlock_mm *mm)
{
	struct invlock_cache_options o = NO_OP_OPTIONS;
	unsigned int nr = BENCH_SIZE(NR_REGIONS, 100);
	char *at = mmap(NULL, 2 * PAGE * nr, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct invlock_cache *cache;

	if (invlock_cache_open(mm, &o, &cache, NULL))
		_exit(1);
	no_op_fill(cache, at, nr);
}

/* Not a monitor, but a notifier that only counts under a lock: no kernel monitor can be cheaper. */
static const char idle_notifier[] = "idle notifier";

static void register_idle_notifier(void)
{
	struct drill drill = {};
	int fd = open("/dev/invlock_drill", O_RDWR | O_CLOEXEC);

	if (fd < 0 || ioctl(fd, DRILL_IDLE, &drill)) {
		fprintf(stderr, "watch: cannot register the idle notifier: %s\n", strerror(errno));
		_exit(1);
	}
}

/* Watch this process. @monitor is NULL if nobody shall watch it. */
static struct invlock_mm *watch(const char *monitor)
{
	struct invlock_mm_options o = { .size = sizeof(o), .monitor = monitor };
	struct invlock_mm *mm = NULL;
	struct invlock_why why;

	if (monitor == idle_notifier) {
		register_idle_notifier();
		return NULL;
	}
	if (monitor && invlock_mm_open(&o, &mm, &why)) {
		fprintf(stderr, "watch: %s\n", why.text);
		_exit(1);
	}
	return mm;
}

/* Measure in a child that this monitor watches. */
static void measure_watched(const char *monitor, bool regions, const char *more, const char *who)
{
	struct guest_sample s;
	char what[64];
	int result[2];

	if (pipe(result))
		exit(1);
	if (!fork()) {
		struct invlock_mm *mm = watch(monitor);

		if (regions)
			fill(mm);
		s = measure();
		_exit(write(result[1], &s, sizeof(s)) != sizeof(s));
	}
	close(result[1]);
	if (read(result[0], &s, sizeof(s)) != sizeof(s))
		exit(1);
	close(result[0]);
	wait(NULL);
	for (size_t c = 0; c < NR_CALLS; c++) {
		snprintf(what, sizeof(what), "%s, %s", calls[c].name, more);
		bench_add(what, who, s.ns[c]);
	}
}

static void compare(const char *name, const struct guest_call *c, const char *who, double at_most)
{
	char what[64];

	snprintf(what, sizeof(what), "%s, %s", c->name, name);
	bench_target(what, who, what, "bare", at_most);
}

/* Attach an empty program to a function, for as long as this process lives. */
static void empty_program(const char *function, enum bpf_attach_type at)
{
	int link = attach_nothing_to_function(function, at);

	if (link < 0)
		bench_note("cannot attach an empty program to %s: %s", function, strerror(-link));
}

/* This comes last, because the empty programs stay until this process ends. */
static void measure_nothing(void)
{
	static const char *const functions[] = { "__x64_sys_munmap", "__x64_sys_madvise" };
	static const char name[] = "empty programs at functions";

	for (int round = 0; round < bench_rounds; round++)
		measure_watched(NULL, false, name, "bare");
	for (size_t i = 0; i < sizeof(functions) / sizeof(*functions); i++) {
		empty_program(functions[i], BPF_TRACE_FENTRY);
		empty_program(functions[i], BPF_TRACE_FEXIT);
	}
	for (int round = 0; round < bench_rounds; round++)
		measure_watched(NULL, false, name, "empty");
	/* The other calls have no empty program. */
	for (size_t c = 0; c < NR_CALLS; c++)
		if (calls[c].call == call_munmap || calls[c].call == call_discard)
			compare(name, &calls[c], "empty", 0);
}

static void measure_idle_notifier(void)
{
	for (int round = 0; round < bench_rounds; round++) {
		measure_watched(NULL, false, idle_notifier, "bare");
		measure_watched(idle_notifier, false, idle_notifier, "idle");
	}
	for (size_t c = 0; c < NR_CALLS; c++)
		compare(idle_notifier, &calls[c], "idle", 0);
}

static const struct guest_watcher {
	const char *name;
	const char *monitor;
	bool tracepoints;
} watchers[] = {
	{ "bpf at functions", "bpf", false },
	{ "bpf at tracepoints", "bpf", true },
	{ "kmod", "kmod", false },
};

/* A child that keeps the BPF programs loaded, and what it says about them. */
struct held_programs {
	pid_t holder;
	struct bpf_set_header head;
};

/*
 * Keep the programs loaded in a child, so that the measured processes need not load them. This
 * process must not do it: that would change its memory map, and that of its children.
 */
static struct held_programs hold(const char *monitor)
{
	struct held_programs h = { .head.attached = BPF_AT_FUNCTIONS };
	int fds[2];

	if (pipe(fds))
		exit(1);
	h.holder = fork();
	if (!h.holder) {
		struct invlock_mm *mm = watch(monitor);

		if (!strcmp(monitor, "bpf"))
			monitor_bpf_set(mm, &h.head);
		if (write(fds[1], &h.head, sizeof(h.head)) == sizeof(h.head))
			pause();
		_exit(0);
	}
	close(fds[1]);
	if (read(fds[0], &h.head, sizeof(h.head)) != sizeof(h.head))
		exit(1);
	close(fds[0]);
	return h;
}

/* The kernel unloads the programs some time after their last holder has ended. */
static void wait_until_gone(void)
{
	__u32 id;

	while (!bpf_prog_get_next_id(0, &id))
		usleep(1000);
}

static void measure_watcher(const struct guest_watcher *w)
{
	struct held_programs h;

	for (int round = 0; round < bench_rounds; round++)
		measure_watched(NULL, false, w->name, "bare");
	monitor_bpf_options.tracepoints = w->tracepoints;
	h = hold(w->monitor);
	if (h.head.attached != (w->tracepoints ? BPF_AT_TRACEPOINTS : BPF_AT_FUNCTIONS))
		bench_note("the results for \"%s\" are not valid, because the programs are not "
			   "attached there: %s", w->name, h.head.reason);
	for (int round = 0; round < bench_rounds; round++) {
		measure_watched(w->monitor, false, w->name, "watched");
		measure_watched(w->monitor, true, w->name, "100k regions");
		measure_watched(NULL, false, w->name, "not watched");
	}
	kill(h.holder, SIGKILL);
	wait(NULL);
	wait_until_gone();
	for (size_t c = 0; c < NR_CALLS; c++) {
		double most = w->tracepoints ? 0 : calls[c].at_most;

		compare(w->name, &calls[c], "watched", most);
		compare(w->name, &calls[c], "100k regions", most);
		/* getppid() stands for every call that no monitor looks at */
		compare(w->name, &calls[c], "not watched",
			calls[c].call == call_getppid ? most : 0);
	}
}

int main(int argc, char **argv)
{
	bench_begin("watched in a guest", "ns", argc, argv);
	for (size_t i = 0; i < sizeof(watchers) / sizeof(*watchers); i++)
		measure_watcher(&watchers[i]);
	measure_idle_notifier();
	measure_nothing();
	bench_note("measured in a virtual machine without hardware support, so only ratios count");
	return bench_end();
}
