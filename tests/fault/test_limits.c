// SPDX-License-Identifier: MIT
/* Something runs out: mappings, locked memory, ranges to watch, or the ring. */
#include <errno.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "lib/monitor/monitor.h"
#include "lib/monitor/uffd/uffd.h"
#include "tests/test.h"
#include "tests/lib/rig.h"

#define STRIDE	(2 * PAGE)	/* ranges at this distance are not merged */

static struct fake_device fake;

/* Opens an mm of this monitor, and a cache of the fake device. */
static void open_with(const char *monitor, const struct invlock_cache_options *options)
{
	struct invlock_mm_options mo = {
		.size = sizeof(mo), .monitor = monitor, .need = INVLOCK_BIT(UNMAP),
	};
	struct invlock_cache_options co = *options;
	struct invlock_why why;
	int err;

	fake = (struct fake_device){};
	err = invlock_mm_open(&mo, &fake.mm, &why);
	if (err == -EPERM || err == -ENOSYS || err == -EOPNOTSUPP)
		TEST_SKIP("%.180s", why.text);
	assert_int_equal(err, 0);
	co.need = INVLOCK_BIT(UNMAP);
	co.ops = (struct invlock_cache_ops){ fake_reg, fake_dereg };
	co.ctx = &fake;
	assert_int_equal(invlock_cache_open(fake.mm, &co, &fake.cache, NULL), 0);
}

static char *map_pages(size_t len)
{
	char *mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(mem, MAP_FAILED);
	return mem;
}

static int get(char *at, struct invlock_pin *pin)
{
	return invlock_cache_get(fake.cache, at, PAGE, 0, pin);
}

static int use(char *at)
{
	struct invlock_pin pin;
	int err = get(at, &pin);

	return err ? err : invlock_cache_put(&pin);
}

/* ---- the ranges that a monitor can watch ---- */

TEST(when_the_monitor_can_watch_no_more_idle_entries_make_room)
{
	struct invlock_cache_options o = { .size = sizeof(o) };
	char *mem = map_pages(100 * STRIDE);

	open_with("uffd", &o);
	((struct uffd *)fake.mm->data)->max_runs = 8;
	for (int i = 0; i < 100; i++)
		assert_int_equal(use(mem + i * STRIDE), 0);
	assert_true(fake_stats(&fake).evicted >= 92);
	assert_int_equal(fake_stats(&fake).refused, 0);
	assert_true(fake.nr_live <= 8);
	fake_close(&fake);
	munmap(mem, 100 * STRIDE);
}

TEST(pinned_entries_make_no_room_and_the_error_says_full)
{
	struct invlock_cache_options o = { .size = sizeof(o) };
	char *mem = map_pages(10 * STRIDE);
	struct invlock_pin pins[8], more;

	open_with("uffd", &o);
	((struct uffd *)fake.mm->data)->max_runs = 8;
	for (int i = 0; i < 8; i++)
		assert_int_equal(get(mem + i * STRIDE, &pins[i]), 0);
	assert_int_equal(get(mem + 8 * STRIDE, &more), -ENOSPC);
	assert_int_equal(fake_stats(&fake).refused_full, 1);
	assert_int_equal(fake.nr_live, 8);
	assert_int_equal(invlock_cache_put(&pins[3]), 0);
	assert_int_equal(get(mem + 8 * STRIDE, &pins[3]), 0);
	for (int i = 0; i < 8; i++)
		assert_int_equal(invlock_cache_put(&pins[i]), 0);
	fake_close(&fake);
	munmap(mem, 10 * STRIDE);
}

/* ---- vm.max_map_count ---- */

/* Makes every other page a mapping of its own until the limit is reached. */
static void use_up_maps(char *mem, size_t len)
{
	for (size_t at = PAGE; at < len; at += 2 * PAGE)
		if (mprotect(mem + at, PAGE, PROT_READ)) {
			assert_int_equal(errno, ENOMEM);
			return;
		}
	fail_msg("the limit was not reached");
}

static char *exhaust_maps(size_t *ret_len)
{
	FILE *f = fopen("/proc/sys/vm/max_map_count", "re");
	unsigned long max;
	char *mem;

	if (!f || fscanf(f, "%lu", &max) != 1 || max > 1000000)
		TEST_SKIP("vm.max_map_count is too large to be used up, or cannot be read");
	fclose(f);
	*ret_len = 2 * max * PAGE;
	mem = mmap(NULL, *ret_len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_ptr_not_equal(mem, MAP_FAILED);
	use_up_maps(mem, *ret_len);
	return mem;
}

static void is_refused_with_a_sentence(const char *monitor)
{
	struct invlock_mm_options o = {
		.size = sizeof(o), .monitor = monitor, .need = INVLOCK_BIT(UNMAP),
	};
	struct invlock_mm *mm = NULL;
	struct invlock_why why;
	int err = invlock_mm_open(&o, &mm, &why);

	assert_true(err < 0);
	assert_null(mm);
	if (strlen(why.text) < 10)
		fail_msg("%s: %d %s", monitor, err, why.text);
}

static void without_maps(const char *monitor)
{
	struct invlock_cache_options o = { .size = sizeof(o) };
	size_t filler_len, len = 40 * STRIDE;
	struct invlock_pin pin;
	char *mem, *filler;
	int err;

	open_with(monitor, &o);
	mem = map_pages(len);
	assert_int_equal(use(mem), 0);
	filler = exhaust_maps(&filler_len);
	/* A hit needs no mapping. A miss works or is refused. A failed open gives its reason. */
	assert_int_equal(invlock_cache_get(fake.cache, mem, PAGE, INVLOCK_GET_CACHED, &pin), 0);
	assert_int_equal(invlock_cache_put(&pin), 0);
	for (int i = 1; i < 40; i++) {
		err = use(mem + i * STRIDE);
		if (err && err != -ENOSPC && err != -ENOMEM)
			fail_msg("%s: get: %d", monitor, err);
	}
	/* Use up the mappings that a monitor has given back, too. */
	use_up_maps(filler, filler_len);
	is_refused_with_a_sentence(strcmp(monitor, "uffd") ? "uffd" : "bpf");
	munmap(filler, filler_len);
	for (int i = 0; i < 40; i++)
		assert_int_equal(use(mem + i * STRIDE), 0);
	fake_close(&fake);
	munmap(mem, len);
}

TEST(without_more_mappings_the_manual_monitor_works)
{
	without_maps("manual");
}

TEST(without_more_mappings_the_uffd_monitor_works)
{
	without_maps("uffd");
}

TEST(without_more_mappings_the_bpf_monitor_works)
{
	without_maps("bpf");
}

/* ---- RLIMIT_MEMLOCK ---- */

#define LOCKED_PAGES	16UL

/* A registration in two steps; the limit may be reached between them. */
static int lock_halves(void *ctx, void *addr, size_t len, uint64_t *ret_handle)
{
	size_t half = len / 2;

	if (mlock(addr, half))
		return -errno;
	if (mlock((char *)addr + half, len - half)) {
		munlock(addr, half);
		return -ENOMEM;
	}
	return fake_reg(ctx, addr, len, ret_handle);
}

static void unlock(void *ctx, void *addr, size_t len, uint64_t handle)
{
	munlock(addr, len);
	fake_dereg(ctx, addr, len, handle);
}

static long locked_kib(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	char line[200];
	long kib = -1;

	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "VmLck: %ld", &kib);
	if (f)
		fclose(f);
	return kib;
}

/* Runs in a child. Return: 0; the number of the step that failed; 77 = this cannot be tried */
static int live_with_memlock(char *mem)
{
	struct rlimit limit = { LOCKED_PAGES * PAGE, LOCKED_PAGES * PAGE };
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = {};
	struct invlock_cache_options o = {
		.size = sizeof(o), .ops = { lock_halves, unlock }, .ctx = &fake,
	};
	struct invlock_mm_options mo = { .size = sizeof(mo), .monitor = "manual" };
	struct invlock_pin pins[8], more;

	if (setrlimit(RLIMIT_MEMLOCK, &limit) || syscall(SYS_capset, &head, none))
		return 77;
	if (invlock_mm_open(&mo, &fake.mm, NULL) ||
	    invlock_cache_open(fake.mm, &o, &fake.cache, NULL))
		return 8;
	/* 5 pages each, so that the limit is reached in the middle of a registration */
	for (int i = 0; i < 50; i++) {
		if (invlock_cache_get(fake.cache, mem + i * 6 * PAGE, 5 * PAGE, 0, &more) ||
		    invlock_cache_put(&more))
			return 1;
		if (locked_kib() > (long)(LOCKED_PAGES * PAGE / 1024))
			return 2;
	}
	for (int i = 0; i < 3; i++)
		if (invlock_cache_get(fake.cache, mem + i * 6 * PAGE, 5 * PAGE, 0, &pins[i]))
			return 3;
	if (invlock_cache_get(fake.cache, mem + 200 * PAGE, 5 * PAGE, 0, &more) != -ENOMEM)
		return 4;
	/* The half that was locked has been unlocked. */
	if (locked_kib() != 15 * 4)
		return 5;
	if (invlock_cache_put(&pins[0]) ||
	    invlock_cache_get(fake.cache, mem + 200 * PAGE, 5 * PAGE, 0, &pins[0]))
		return 6;
	for (int i = 0; i < 3; i++)
		invlock_cache_put(&pins[i]);
	if (invlock_cache_close(fake.cache) || locked_kib() || fake.nr_live || fake.nr_wrong)
		return 7;
	invlock_mm_close(fake.mm);
	return 0;
}

TEST(locked_memory_runs_out_in_the_middle_of_a_registration)
{
	char *mem = map_pages(400 * PAGE);
	int status;
	pid_t pid;

	fake = (struct fake_device){};
	pid = fork();
	assert_true(pid >= 0);
	if (!pid)
		_exit(live_with_memlock(mem));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		TEST_SKIP("the limit on locked memory cannot be set here");
	assert_int_equal(status, 0);
	munmap(mem, 400 * PAGE);
}

/* ---- the ring ---- */

static char *const nowhere = (char *)0x100000000;

static void change_the_neighbour(unsigned int nr)
{
	while (nr--)
		fake_change(&fake, nowhere + 7 * PAGE, PAGE);
}

TEST(a_ring_that_was_overrun_proves_nothing)
{
	struct invlock_pin a, b;

	fake_open(&fake, NULL);
	assert_int_equal(get(nowhere, &a), 0);
	/* As many events as the ring holds: they prove that none was in our range. */
	change_the_neighbour(INVLOCK_NR_EVENTS);
	assert_int_equal(get(nowhere, &b), 0);
	assert_int_equal(a.handle, b.handle);
	invlock_cache_put(&b);
	/* One event in our range, which then leaves the ring. */
	fake_change(&fake, nowhere, PAGE);
	change_the_neighbour(2 * INVLOCK_NR_EVENTS);
	assert_int_equal(get(nowhere, &b), 0);
	assert_int_not_equal(a.handle, b.handle);
	invlock_cache_put(&a);
	/* No event in our range, but one more than the ring holds. */
	change_the_neighbour(INVLOCK_NR_EVENTS + 1);
	assert_int_equal(get(nowhere, &a), 0);
	assert_int_not_equal(a.handle, b.handle);
	invlock_cache_put(&a);
	invlock_cache_put(&b);
	fake_close(&fake);
}

TEST_PLANTED(no_check, without_the_check_an_overrun_ring_leads_to_a_stale_hit)
{
	struct invlock_pin a, b;

	fake_open(&fake, NULL);
	assert_int_equal(get(nowhere, &a), 0);
	fake_change(&fake, nowhere, PAGE);
	change_the_neighbour(INVLOCK_NR_EVENTS);
	assert_int_equal(get(nowhere, &b), 0);
	assert_int_equal(a.handle, b.handle);
	invlock_cache_put(&a);
	invlock_cache_put(&b);
	fake_close(&fake);
}

TEST_MAIN()
