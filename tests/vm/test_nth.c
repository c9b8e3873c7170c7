// SPDX-License-Identifier: MIT
/*
 * The 1st, 2nd, ... allocation that a system call makes fails, for each call that allocates:
 * it says so, works the next time, and leaves nothing. Needs a kernel that fails when it is
 * told to, as K=debug. Run with interval=1.
 */
#include "device.h"

#include <sys/resource.h>

#define NOBODY	65534
#define PINNED	(64 * PAGE)

/* as many times 10 ms may the kernel take to free a feed */
#define PATIENCE	30000

static int nth_fd = -1;		/* of this thread */
static int fd = -1;		/* what a call opens, or is about */
static char *memory;
static void *mapped;

/* one system call, and how to take back what it did; both may come more than once */
struct call {
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

/* the page is there, only the device does not know it yet */
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

/* Return: what the call says. @ret_met: it came to so many allocations */
static int call_with_failure(const struct call *call, unsigned int nth, bool *ret_met)
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

static void fail_each(const struct call *call)
{
	unsigned int nth = 0, refused = 0;
	bool met;
	int err;

	do {
		err = call_with_failure(call, ++nth, &met);
		call->take_back();
		if (err && (err != -ENOMEM || !met))
			fail_msg("%s, without its allocation %u: %d", call->what, nth, err);
		refused += err == -ENOMEM;
	} while (met);
	print_message("# %s: refused without %u of %u allocations\n", call->what, refused,
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
	/* what was lost before is not ours */
	write_file("/sys/kernel/debug/kmemleak", "clear");
	memory = map_aligned(PINNED);
	madvise(memory, PINNED, MADV_NOHUGEPAGE);
	return 0;
}

#define NEEDS_FAILURES()						\
do {									\
	if (nth_fd < 0)							\
		TEST_SKIP("this kernel does not fail on request: K=debug does");	\
} while (0)

TEST(an_open_without_memory_is_refused_and_the_next_one_works)
{
	const struct call calls[] = {
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
	const struct call call = { "open by nobody", open_feed, close_it };
	int err = -ENOSPC;

	NEEDS_FAILURES();
	assert_int_equal(setresuid(NOBODY, NOBODY, 0), 0);
	fail_each(&call);
	assert_int_equal(setresuid(0, 0, 0), 0);
	assert_true(write_file(limit, "1"));
	assert_int_equal(setresuid(NOBODY, NOBODY, 0), 0);
	/* those that were opened are freed a moment after their close */
	for (unsigned int i = 0; i < PATIENCE && err == -ENOSPC; i++) {
		sleep_ms(10);
		err = open_feed();
	}
	close_it();
	assert_int_equal(setresuid(0, 0, 0), 0);
	assert_true(write_file(limit, "64"));
	assert_int_equal(err, 0);
}

TEST(a_map_without_memory_is_refused_and_the_next_one_works)
{
	const struct call call = { "map of the feed", map_feed, unmap_feed };

	NEEDS_FAILURES();
	assert_int_equal(open_feed(), 0);
	fail_each(&call);
	close_it();
}

TEST(a_read_without_memory_is_refused_and_the_next_one_works)
{
	const struct call call = { "first read of a page", read_page, forget_page };

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

TEST(a_pin_without_memory_is_refused_and_the_next_one_works)
{
	const struct call call = { "pin", pin_pages, unpin_pages };

	NEEDS_FAILURES();
	assert_int_equal(open_mirror(), 0);
	fail_each(&call);
	close_it();
}

/* Return: memory of the module's that nobody knows any more */
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

TEST(nothing_is_left_of_what_failed)
{
	NEEDS_FAILURES();
	/* what is younger than 5 s is not looked at, and what was not looked at is not lost */
	sleep_ms(6000);
	for (unsigned int i = 0; i < 2; i++)
		assert_true(write_file("/sys/kernel/debug/kmemleak", "scan"));
	assert_false(is_lost());
}

TEST_MAIN(.before_all = setup)
