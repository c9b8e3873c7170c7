// SPDX-License-Identifier: MIT
/*
 * The 1st, 2nd, ... allocation fails, or the 1st, 2nd, ... system call, with each error, until a
 * run makes so few that none fails. Nothing may leak, hang or crash, no hit may be stale, and what
 * comes afterwards must work.
 */
#include <errno.h>
#include <fcntl.h>
#include <gnu/libc-version.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "job.h"
#include "lib/monitor/monitor.h"
#include "tests/test.h"

#define EVERY	1u
/*
 * Of the hundreds of faults in a life with uffd, and of the thousands with bpf, this many are
 * tried.
 */
#define SOME	25u
#define FEW	3u
#define MORE	40u	/* make proof tries this many times more: all of uffd's */

static bool more;

static unsigned int step_for(unsigned int nr, unsigned int nr_wanted)
{
	return nr_wanted == EVERY ? 1 : 1 + nr / (nr_wanted * (more ? MORE : 1));
}

static const int errors[] = { EINTR, ENOMEM, EPERM, EBUSY, EAGAIN };

static void describe(const struct fault *f, const struct outcome *out, char *text, size_t size)
{
	if (f->kind == FAULT_ALLOCATION)
		snprintf(text, size, "allocation %u%s fails", f->nth,
			 f->and_all_later ? " and all later" : "");
	else
		snprintf(text, size, "system call %u (number %ld) fails with %s", f->nth, out->met,
			 strerrorname_np(f->err));
}

/* Where it cannot start a thread, glibc 2.43 itself leaks a block. */
static long libc_leaks(const struct outcome *out)
{
	return out->met == SYS_clone3 && strverscmp(gnu_get_libc_version(), "2.43") >= 0;
}

/* Return: whether anything is wrong; text then has a sentence about it */
static bool is_wrong(const struct fault *f, const struct outcome *out,
		     const struct holdings *reference, char *text, size_t size)
{
	const struct holdings *h = &out->holdings;
	char fault[80];

	describe(f, out, fault, sizeof(fault));
	if (out->wrong[0])
		snprintf(text, size, "%s: %s", fault, out->wrong);
	else if (h->blocks > reference->blocks + libc_leaks(out) || h->fds > reference->fds ||
		 /* memory that a failed munmap() did not unmap is no leak of ours */
		 (h->mapped > reference->mapped && out->met != SYS_munmap))
		snprintf(text, size, "%s: %ld blocks, %ld bytes mapped, %ld descriptors leak",
			 fault, h->blocks - reference->blocks, h->mapped - reference->mapped,
			 h->fds - reference->fds);
	else
		return false;
	return true;
}

/* Return: whether the fault happened */
static bool run(const struct fault *f, job_fn *job, const struct holdings *reference)
{
	struct outcome out;
	char text[400];

	if (inject(f, job, &out))
		TEST_SKIP("no debugger may be used here");
	if (is_wrong(f, &out, reference, text, sizeof(text)))
		fail_msg("%s", text);
	return out.met_allocation || out.met >= 0;
}

static struct outcome run_without_fault(job_fn *job)
{
	struct invlock_mm_options o = {
		.size = sizeof(o), .monitor = job_options.monitor, .need = INVLOCK_BIT(UNMAP),
	};
	struct fault none = {};
	struct outcome out;
	struct invlock_mm *mm;
	struct invlock_why why;
	int err = invlock_mm_open(&o, &mm, &why);

	if (err == -EPERM || err == -ENOSYS || err == -EOPNOTSUPP)
		TEST_SKIP("%.180s", why.text);
	assert_int_equal(err, 0);
	invlock_mm_close(mm);
	assert_int_equal(inject(&none, job, &out), 0);
	if (out.wrong[0])
		fail_msg("without a fault: %s", out.wrong);
	return out;
}

static void each_allocation(job_fn *job, unsigned int nr_wanted)
{
	struct outcome reference = run_without_fault(job);
	struct fault f = { .kind = FAULT_ALLOCATION };
	unsigned int step, nr = 0;

	assert_true(reference.nr_allocations > 2);
	step = step_for(reference.nr_allocations, nr_wanted);
	for (int later = 0; later < 2; later++) {
		f.and_all_later = later;
		for (f.nth = 1; run(&f, job, &reference.holdings); f.nth += step)
			nr++;
	}
	print_message("# %u faults\n", nr);
	assert_true(nr > 2);
}

static void each_call(job_fn *job, unsigned int nr_wanted)
{
	struct fault f = { .kind = FAULT_SYSCALL, .err = EINTR, .nth = ~0u };
	struct outcome reference = run_without_fault(job);
	unsigned int step, nr = 0;

	/* How many are there? */
	if (inject(&f, job, &reference))
		TEST_SKIP("no debugger may be used here");
	assert_true(reference.nr_syscalls > 10);
	step = step_for(reference.nr_syscalls, nr_wanted);
	for (unsigned int i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		f.err = errors[i];
		/* each error is tried at other places */
		for (f.nth = 1 + i * step / 5; run(&f, job, &reference.holdings); f.nth += step)
			nr++;
	}
	print_message("# %u faults\n", nr);
	assert_true(nr > 10);
}

static void with(const char *monitor, bool reaper)
{
	job_options = (struct job_options){ .monitor = monitor, .reaper = reaper };
}

TEST(each_allocation_of_a_cache_may_fail)
{
	with("manual", false);
	each_allocation(job_cache, EVERY);
}

TEST(each_allocation_of_a_cache_with_a_reaper_may_fail)
{
	with("manual", true);
	each_allocation(job_cache, EVERY);
}

TEST(each_allocation_of_the_uffd_monitor_may_fail)
{
	with("uffd", false);
	each_allocation(job_cache, EVERY);
}

TEST(each_allocation_of_the_uring_adapter_may_fail)
{
	with("manual", false);
	each_allocation(job_uring, EVERY);
}

TEST(allocations_of_the_bpf_monitor_may_fail)
{
	with("bpf", false);
	each_allocation(job_cache, FEW);
}

TEST(each_system_call_of_a_cache_may_fail_with_each_error)
{
	with("manual", false);
	each_call(job_cache, EVERY);
}

TEST(each_system_call_of_a_cache_with_a_reaper_may_fail_with_each_error)
{
	with("manual", true);
	each_call(job_cache, EVERY);
}

TEST(each_system_call_of_the_uring_adapter_may_fail_with_each_error)
{
	with("manual", false);
	each_call(job_uring, EVERY);
}

TEST(system_calls_of_the_uffd_monitor_may_fail_with_each_error)
{
	with("uffd", false);
	each_call(job_cache, SOME);
}

TEST(system_calls_of_the_bpf_monitor_may_fail_with_each_error)
{
	with("bpf", false);
	each_call(job_cache, FEW);
}

TEST(allocations_and_system_calls_of_a_self_test_may_fail)
{
	with("uffd", false);
	job_options.selftest = true;
	each_call(job_cache, SOME);
	each_allocation(job_cache, EVERY);
}

/* ---- planted faults: the harness must find each ---- */

static void job_leaks(const struct fault *f, struct outcome *out)
{
	inject_window(true);
	static void *volatile leaked;	/* the compiler drops what nobody keeps */

	free(malloc(1));
	inject_window(false);
	if (!f->kind)
		return;
	if (f->nth == 1) {
		leaked = malloc(100);
		if (!leaked)
			complain(out, "no memory");
	}
	if (f->nth == 2)
		mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (f->nth == 3)
		open("/dev/null", O_RDONLY);
	if (f->nth == 4)
		abort();
	if (f->nth == 5) {
		alarm(1);
		pause();
	}
}

TEST(a_leak_a_crash_and_a_hang_are_found)
{
	static const char *const words[] = {
		"1 blocks", "4096 bytes", "1 descriptors", "killed by", "it hangs",
	};
	struct fault f = { .kind = FAULT_NONE };
	struct outcome reference, out;
	char text[400];

	assert_int_equal(inject(&f, job_leaks, &reference), 0);
	f.kind = FAULT_ALLOCATION;
	for (f.nth = 1; f.nth <= 5; f.nth++) {
		assert_int_equal(inject(&f, job_leaks, &out), 0);
		assert_true(is_wrong(&f, &out, &reference.holdings, text, sizeof(text)));
		if (!strstr(text, words[f.nth - 1]))
			fail_msg("%s, not %s", text, words[f.nth - 1]);
	}
}

TEST_PLANTED(no_check, a_cache_that_does_not_check_is_found)
{
	struct fault none = {};
	struct outcome out;

	with("manual", false);
	assert_int_equal(inject(&none, job_cache, &out), 0);
	assert_non_null(strstr(out.wrong, "a stale hit"));
}

static bool is_of_bpf(const char *name)
{
	return strstr(name, "_of_the_bpf_monitor_");
}

static bool is_not_of_bpf(const char *name)
{
	return !is_of_bpf(name);
}

/*
 * test_nth [more] [bpf]. more: try more faults; bpf: only those of the bpf monitor, else all
 * others.
 */
int main(int argc, char **argv)
{
	bool of_bpf = argc > 1 && !strcmp(argv[argc - 1], "bpf");

	more = argc > 1 && !strcmp(argv[1], "more");
	return test_run(&(struct test_fixtures){
		.wanted = of_bpf ? is_of_bpf : is_not_of_bpf,
	});
}
