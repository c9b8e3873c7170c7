// SPDX-License-Identifier: MIT
/*
 * For each system call that allocates, the first, the second, ... of its allocations fails. The
 * call must report that, work the next time, and leave no memory behind. Needs a kernel that can
 * make allocations fail, such as K=debug.
 */
#include "device.h"

#include <sys/resource.h>

#define NOBODY	65534
#define PINNED	(64 * PAGE)

/* how many times 10 ms the kernel may take to free a feed */
#define PATIENCE	30000

static int nth_fd = -1;		/* fail-nth of this thread */
static int fd = -1;		/* the device */
static char *memory;
static void *mapped;

/* One system call, and how to undo it. Both run many times. */
struct failing_call {
	const char *what;
	int (*make)(void);
	void (*take_back)(void);
};

static int open_device(const char *path, int flags)
{
	fd = open(path, flags);
	return fd < 0 ? -errno : 0;
}

static int open_feed(void)
{
	return open_device("/dev/invlock", O_RDONLY);
}

static int open_mirror(void)
{
	return open_device("/dev/invlock_mirror", O_RDWR);
}

static int open_interval(void)
{
	return open_device("/dev/invlock_interval", O_RDWR);
}

static void close_it(void)
{
	if (fd >= 0)
		close(fd);
	fd = -1;
}

static int map_feed(void)
{
	mapped = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	return mapped == MAP_FAILED ? -errno : 0;
}

static void unmap_feed(void)
{
	if (mapped != MAP_FAILED)
		munmap(mapped, PAGE);
}

/* The page is mapped, but the device has no translation for it yet. */
static int read_page(void)
{
	char byte;

	return mirror_read(fd, memory, &byte, 1);
}

static void forget_page(void)
{
	assert_int_equal(madvise(memory, PAGE, MADV_DONTNEED), 0);
	memory[0] = 1;
}

static int pin(size_t len)
{
	struct invlock_mirror_pin p = {
		.size = sizeof(p), .addr = (unsigned long)memory, .len = len,
	};

	return ioctl(fd, INVLOCK_MIRROR_PIN, &p) ? -errno : 0;
}

static int pin_pages(void)
{
	return pin(PINNED);
}

static void unpin_pages(void)
{
	assert_int_equal(pin(0), 0);
	assert_int_equal(madvise(memory, PINNED, MADV_DONTNEED), 0);
}

static bool set_nth(unsigned int nth)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%u", nth);

	return pwrite(nth_fd, text, len, 0) == len;
}

/* Return: the result of the call. @ret_met: did the call make at least @nth allocations? */
static int call_with_failure(const struct failing_call *call, unsigned int nth, bool *ret_met)
{
	char left[16] = "";
	int err;

	assert_true(set_nth(nth));
	err = call->make();
	assert_true(pread(nth_fd, left, sizeof(left) - 1, 0) > 0);
	assert_true(set_nth(0));
	*ret_met = !strtoul(left, NULL, 10);
	return err;
}

static void fail_each(const struct failing_call *call)
{
	unsigned int nth = 0, refused = 0;
	bool met;
	int err;

	do {
		err = call_with_failure(call, ++nth, &met);
		call->take_back();
		if (err && (err != -ENOMEM || !met))
			fail_msg("%s, when allocation %u failed: %d", call->what, nth, err);
		refused += err == -ENOMEM;
	} while (met);
	print_message("# %s: %u of %u allocations make the call fail\n", call->what, refused,
		      nth - 1);
	assert_true(refused > 0);
}

static int setup(void **state)
{
	static const char *const settings[][2] = {
		{ "failslab/ignore-gfp-wait", "N" },
		{ "failslab/verbose", "0" },
		{ "fail_page_alloc/ignore-gfp-wait", "N" },
		{ "fail_page_alloc/min-order", "0" },
		{ "fail_page_alloc/ignore-gfp-highmem", "N" },
		{ "fail_page_alloc/verbose", "0" },
	};
	char path[80];

	(void)state;
	nth_fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	for (unsigned int i = 0; nth_fd >= 0 && i < sizeof(settings) / sizeof(settings[0]); i++) {
		snprintf(path, sizeof(path), "/sys/kernel/debug/%s", settings[i][0]);
		if (!write_file(path, settings[i][1]))
			return -1;
	}
	/* do not report what other tests have lost */
	write_file("/sys/kernel/debug/kmemleak", "clear");
	memory = map_aligned(PINNED);
	madvise(memory, PINNED, MADV_NOHUGEPAGE);
	return 0;
}

#define NEEDS_FAILURES()						\
do {									\
	if (nth_fd < 0)							\
		TEST_SKIP("this kernel cannot make allocations fail; K=debug can");	\
} while (0)

TEST(an_open_that_gets_no_memory_fails_and_the_next_one_works)
{
	const struct failing_call calls[] = {
		{ "open of the feed", open_feed, close_it },
		{ "open of the mirror", open_mirror, close_it },
		{ "open of the other mirror", open_interval, close_it },
	};

	NEEDS_FAILURES();
	for (unsigned int i = 0; i < 3; i++)
		fail_each(&calls[i]);
}

TEST(a_feed_that_could_not_be_opened_is_not_counted)
{
	static const char limit[] = "/sys/module/invlock/parameters/user_feeds";
	const struct failing_call call = { "open by nobody", open_feed, close_it };
	int err = -ENOSPC;

	NEEDS_FAILURES();
	assert_int_equal(setresuid(NOBODY, NOBODY, 0), 0);
	fail_each(&call);
	assert_int_equal(setresuid(0, 0, 0), 0);
	assert_true(write_file(limit, "1"));
	assert_int_equal(setresuid(NOBODY, NOBODY, 0), 0);
	/* the feeds that were opened are freed a moment after their close */
	for (unsigned int i = 0; i < PATIENCE && err == -ENOSPC; i++) {
		sleep_ms(10);
		err = open_feed();
	}
	close_it();
	assert_int_equal(setresuid(0, 0, 0), 0);
	assert_true(write_file(limit, "128"));
	assert_int_equal(err, 0);
}

TEST(a_map_that_gets_no_memory_fails_and_the_next_one_works)
{
	const struct failing_call call = { "map of the feed", map_feed, unmap_feed };

	NEEDS_FAILURES();
	assert_int_equal(open_feed(), 0);
	fail_each(&call);
	close_it();
}

TEST(a_read_that_gets_no_memory_fails_and_the_next_one_works)
{
	const struct failing_call call = { "first read of a page", read_page, forget_page };

	NEEDS_FAILURES();
	forget_page();
	assert_int_equal(open_mirror(), 0);
	fail_each(&call);
	assert_int_equal(mirror_stats(fd).running, 0);
	assert_int_equal(mirror_stats(fd).entries, 0);
	close_it();
	assert_int_equal(open_interval(), 0);
	fail_each(&call);
	close_it();
}

TEST(a_pin_that_gets_no_memory_fails_and_the_next_one_works)
{
	const struct failing_call call = { "pin", pin_pages, unpin_pages };

	NEEDS_FAILURES();
	assert_int_equal(open_mirror(), 0);
	fail_each(&call);
	close_it();
}

/* Return: has the kernel found memory of the module to which no pointer exists any more? */
static bool is_lost(void)
{
	FILE *f = fopen("/sys/kernel/debug/kmemleak", "r");
	bool lost = false;
	char line[256];

	assert_non_null(f);
	while (!lost && fgets(line, sizeof(line), f))
		lost = strstr(line, "[invlock]");
	fclose(f);
	if (lost)
		print_message("# lost, from %s", line);
	return lost;
}

TEST(calls_that_failed_leave_no_memory_behind)
{
	NEEDS_FAILURES();
	/* kmemleak leaves out memory that is younger than 5 s */
	sleep_ms(6000);
	for (unsigned int i = 0; i < 2; i++)
		assert_true(write_file("/sys/kernel/debug/kmemleak", "scan"));
	assert_false(is_lost());
}

TEST_MAIN(.before_all = setup)
