// SPDX-License-Identifier: MIT
/* Whatever a limit forbids, the open works or gives its reason, and nothing is left behind. */
#include <errno.h>
#include <pthread.h>
#include <sys/resource.h>

#include "calls.h"
#include "places.h"
#include "tests/test.h"

static const char *const monitors[] = { "manual", "uffd", "bpf", NULL };
#define NR_MONITORS	4

static bool limit(int resource, long value)
{
	const struct rlimit limit = { (rlim_t)value, (rlim_t)value };

	return !setrlimit(resource, &limit);
}

/*
 * Opens each monitor at each value of the limit, and counts how often that was refused and worked.
 */
static void sweep(bool (*prepare)(long arg), long from, long to, long step,
		  unsigned int *ret_refused, unsigned int *ret_worked)
{
	*ret_refused = *ret_worked = 0;
	for (unsigned int i = 0; i < NR_MONITORS; i++)
		for (long value = from; value <= to; value += step) {
			struct place_outcome o = open_in(prepare, value, monitors[i]);

			if (!o.shut_in)
				TEST_SKIP("the limit cannot be set here");
			works_or_says_why(&o);
			*(o.err ? ret_refused : ret_worked) += 1;
		}
}

static bool few_files(long nr)
{
	return limit(RLIMIT_NOFILE, nr);
}

TEST(however_few_files_may_be_open_it_works_or_gives_its_reason)
{
	unsigned int refused, worked;

	sweep(few_files, 3, 48, 3, &refused, &worked);
	print_message("# %u refused, %u worked\n", refused, worked);
	/* The values begin with too few for anything, and end with enough. */
	assert_true(refused > 0 && worked > 0);
}

static long mapped_kib(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	long pages = 0;

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%ld", &pages), 1);
	fclose(f);
	return pages * 4;
}

static bool little_room(long kib)
{
	return limit(RLIMIT_AS, (mapped_kib() + kib) << 10);
}

TEST(however_little_address_space_is_left_it_works_or_gives_its_reason)
{
	unsigned int refused, worked;

	if (IS_SANITIZED)
		TEST_SKIP("a sanitizer itself ends if it gets no memory");
	sweep(little_room, 64, 40000, 3331, &refused, &worked);
	print_message("# %u refused, %u worked\n", refused, worked);
	assert_true(refused > 0 && worked > 0);
}

static bool no_locked_memory(long bytes)
{
	/* the limit does not bind root */
	return limit(RLIMIT_MEMLOCK, bytes) && become_nobody();
}

TEST(without_locked_memory_it_works_or_gives_its_reason)
{
	unsigned int refused, worked;

	sweep(no_locked_memory, 0, 65536, 65536, &refused, &worked);
	assert_true(worked > 0);
}

static bool no_more_threads(long nr)
{
	return limit(RLIMIT_NPROC, nr) && become_nobody();
}

TEST(a_user_who_may_start_no_thread_gets_that_as_the_reason)
{
	struct place_outcome o;

	if (IS_SANITIZED)
		TEST_SKIP("a sanitizer itself ends if it gets no thread");
	o = open_in(no_more_threads, 0, "uffd");
	if (!o.shut_in)
		TEST_SKIP("the limit cannot be set here");
	works_or_says_why(&o);
	if (o.err == -ENOSYS || o.err == -EPERM || o.err == -EOPNOTSUPP)
		TEST_SKIP("%.190s", o.why);
	assert_int_equal(o.err, -EAGAIN);
	assert_non_null(strstr(o.why, "thread"));
	/* the manual monitor needs no thread */
	o = open_in(no_more_threads, 0, "manual");
	works_or_says_why(&o);
	assert_int_equal(o.err, 0);
}

static bool small_stacks(long bytes)
{
	pthread_attr_t attr;
	bool ok;

	/*
	 * RLIMIT_STACK decides for programs that start; for this program, the default of pthreads
	 * does
	 */
	if (!limit(RLIMIT_STACK, bytes) || pthread_attr_init(&attr))
		return false;
	ok = !pthread_attr_setstacksize(&attr, (size_t)bytes) &&
	     !pthread_setattr_default_np(&attr);
	pthread_attr_destroy(&attr);
	return ok;
}

TEST(with_small_stacks_it_works_or_gives_its_reason)
{
	unsigned int refused, worked;

	if (IS_SANITIZED)
		TEST_SKIP("the frames of a sanitizer do not fit");
	/* The main thread's stack is not limited, since its larger frames exist already. */
	sweep(small_stacks, 128 << 10, 512 << 10, 128 << 10, &refused, &worked);
	assert_true(worked > 0);
}

TEST_MAIN()
