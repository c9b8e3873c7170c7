// SPDX-License-Identifier: MIT
/*
 * Measures the kernel module in a virtual machine: how long the begin and commit of a fault take,
 * compared with mmu_interval_notifier, and how long an invalidation takes that misses the device.
 * Only ratios count, because the machine is emulated.
 */
#include <sys/wait.h>

#include "bench/bench.h"
#include "tests/vm/drill_device.h"

#define LOOPS	200
/* the fastest of this many tries counts: the machine interrupts the others */
#define TRIES	25

static double least(double a, double b)
{
	return !a || b < a ? b : a;
}

/* Begin and commit: drill_main.c does the same work around both. */
static void measure_sections(void)
{
	char *p = map_aligned(2 * MIB);
	int fd = drill_open();

	for (int round = 0; round < bench_rounds; round++) {
		double invlock = 0, interval = 0;

		for (unsigned int i = 0; i < TRIES; i++) {
			struct drill drill = {
				.addr = (unsigned long)p, .len = PAGE, .rounds = LOOPS,
			};

			assert_int_equal(drill_do(fd, DRILL_MEASURE, &drill), 0);
			invlock = least(invlock, (double)drill.time_ns / LOOPS);
			interval = least(interval, (double)drill.plain_ns / LOOPS);
		}
		bench_add("begin, commit", "invlock", invlock);
		bench_add("begin, commit", "interval", interval);
	}
	close(fd);
	bench_target("begin, commit", "invlock", "begin, commit", "interval", 1.0);
}

static const struct cost_watcher {
	const char *name;
	const char *device;	/* NULL = nobody watches */
	enum { AS_OPENED, ELSEWHERE, IDLE } how;
} watchers[] = {
	{ "nobody", NULL, AS_OPENED },
	{ "invlock", "/dev/invlock_mirror", AS_OPENED },
	/* watches another range than the one that is invalidated */
	{ "interval", "/dev/invlock_interval", ELSEWHERE },
	{ "interval, whole mm", "/dev/invlock_interval", AS_OPENED },
	/* its start and end only count under a lock, which is the least that any driver must do */
	{ "idle notifier", "/dev/invlock_drill", IDLE },
	{ "the feed", "/dev/invlock", AS_OPENED },
};

#define NR_WATCHERS	(sizeof(watchers) / sizeof(watchers[0]))

/* Return: an open device, or -1. */
static int watch(const struct cost_watcher *w)
{
	struct invlock_mirror_pin range = {
		.size = sizeof(range), .addr = (unsigned long)map_aligned(2 * MIB), .len = PAGE,
	};
	struct drill none = {};
	int fd = open(w->device, O_RDWR);

	if ((w->how == ELSEWHERE && ioctl(fd, INVLOCK_MIRROR_RANGE, &range)) ||
	    (w->how == IDLE && ioctl(fd, DRILL_IDLE, &none)))
		return -1;
	return fd;
}

/*
 * Return: how many nanoseconds it takes to discard a page in a process that @w watches. With
 * @touch, this includes a write to the page before.
 */
static double discard_in_a_child(const struct cost_watcher *w, bool touch)
{
	int result[2];
	double ns = 0, start;
	pid_t child;

	assert_int_equal(pipe(result), 0);
	child = fork();
	if (!child) {
		char *p = map_aligned(2 * MIB);

		if (w->device && watch(w) < 0)
			_exit(1);
		for (unsigned int try = 0; try < TRIES; try++) {
			start = bench_now();
			for (unsigned int i = 0; i < LOOPS; i++) {
				if (touch)
					*(volatile char *)p = 1;
				madvise(p, PAGE, MADV_DONTNEED);
			}
			ns = least(ns, (bench_now() - start) / LOOPS);
		}
		_exit(write(result[1], &ns, sizeof(ns)) != sizeof(ns));
	}
	close(result[1]);
	assert_int_equal(read(result[0], &ns, sizeof(ns)), sizeof(ns));
	close(result[0]);
	assert_int_equal(waitpid(child, NULL, 0), child);
	return ns;
}

static void measure_invalidations(void)
{
	static const char untouched[] = "discard, nothing there", touched[] = "touch, discard";

	for (int round = 0; round < bench_rounds; round++) {
		for (unsigned int i = 0; i < NR_WATCHERS; i++) {
			const struct cost_watcher *w = &watchers[i];

			bench_add(untouched, w->name, discard_in_a_child(w, false));
			bench_add(touched, w->name, discard_in_a_child(w, true));
		}
	}
	bench_target(untouched, "invlock", untouched, "interval", 1.0);
	bench_target(untouched, "invlock", untouched, "interval, whole mm", 1.0);
	bench_target(untouched, "idle notifier", untouched, "interval", 0);
	bench_target(untouched, "invlock", untouched, "idle notifier", 0);
	bench_target(untouched, "the feed", untouched, "nobody", 0);
	bench_target(touched, "invlock", touched, "interval", 1.0);
	bench_target(touched, "the feed", touched, "nobody", 1.1);
}

int main(int argc, char **argv)
{
	bench_begin("kernel cost", "ns", argc, argv);
	measure_sections();
	measure_invalidations();
	bench_note("measured in a virtual machine without hardware support, so only ratios count");
	return bench_end();
}
