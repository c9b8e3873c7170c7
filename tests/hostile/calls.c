// SPDX-License-Identifier: MIT
#include "calls.h"

#include <errno.h>
#include <fcntl.h>
#include <invlock/manual.h>
#include <invlock/section.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/test.h"

static int reg(void *ctx, void *addr, size_t len, uint64_t *ret_handle)
{
	struct rig *rig = ctx;

	(void)addr, (void)len;
	/* A cancellation point, at which the library must not let the thread be cancelled. */
	pthread_testcancel();
	*ret_handle = __atomic_add_fetch(&rig->nr_reg, 1, __ATOMIC_RELAXED);
	return 0;
}

static void dereg(void *ctx, void *addr, size_t len, uint64_t handle)
{
	struct rig *rig = ctx;

	(void)addr, (void)len, (void)handle;
	pthread_testcancel();
	__atomic_add_fetch(&rig->nr_dereg, 1, __ATOMIC_RELAXED);
}

static void open_uring(struct rig *rig)
{
	struct invlock_uring_options options = { .size = sizeof(options), .slots = 8,
						 .min_len = 1, .need = NEED };

	rig->uring = NULL;
	if (io_uring_queue_init(8, &rig->ring, 0))
		return;
	if (invlock_uring_open(&rig->ring, rig->mm, &options, &rig->uring, NULL))
		io_uring_queue_exit(&rig->ring);
}

static int open_cache(struct rig *rig, unsigned int flags, struct invlock_cache **ret_cache)
{
	struct invlock_cache_options options = { .size = sizeof(options),
						 .flags = flags ?: INVLOCK_CACHE_NO_REAPER,
						 .ops = { reg, dereg }, .ctx = rig, .need = NEED,
						 .max_entries = 64,
						 /* also where a thread waits long for a CPU */
						 .time_ns = 10000000000 };

	return invlock_cache_open(rig->mm, &options, ret_cache, &rig->why);
}

int rig_open(struct rig *rig, const char *monitor)
{
	struct invlock_mm_options options = { .size = sizeof(options), .monitor = monitor,
					      .need = NEED };
	int err;

	*rig = (struct rig){ .monitor = monitor };
	rig->page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (rig->page == MAP_FAILED) {
		strcpy(rig->why.text, "no page for the test");
		return -ENOMEM;
	}
	err = invlock_mm_open(&options, &rig->mm, &rig->why);
	if (err)
		goto unmap;
	err = open_cache(rig, 0, &rig->cache);
	if (err)
		goto close_mm;
	open_uring(rig);
	return 0;

close_mm:
	invlock_mm_close(rig->mm);
unmap:
	munmap(rig->page, PAGE);
	return err;
}

int rig_try_close(struct rig *rig)
{
	int err = invlock_cache_close(rig->cache);

	if (rig->uring) {
		err = invlock_uring_close(rig->uring) ? : err;
		io_uring_queue_exit(&rig->ring);
	}
	invlock_mm_close(rig->mm);
	munmap(rig->page, PAGE);
	return err ? err : rig->nr_reg == rig->nr_dereg ? 0 : -EPROTO;
}

void rig_close(struct rig *rig)
{
	assert_int_equal(rig_try_close(rig), 0);
}

void rig_open_or_skip(struct rig *rig, const char *monitor)
{
	int err = rig_open(rig, monitor);

	/* A monitor that can be opened and does not see what it should fails the test. */
	if (strstr(rig->why.text, "self-test"))
		fail_msg("%s", rig->why.text);
	if (err == -EPERM || err == -ENOSYS || err == -EOPNOTSUPP || err == -ENOENT)
		TEST_SKIP("%.190s", rig->why.text);
	if (err)
		fail_msg("%d: %s", err, rig->why.text);
}

static int put_page_anew(struct rig *rig)
{
	bool manual = rig->monitor && !strcmp(rig->monitor, "manual");
	void *page;

	if (manual)
		invlock_manual_start(rig->mm, rig->page, PAGE);
	page = mmap(rig->page, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS |
		    MAP_FIXED, -1, 0);
	if (manual)
		invlock_manual_end(rig->mm, rig->page, PAGE);
	return page == rig->page ? 0 : -errno;
}

int rig_check(struct rig *rig)
{
	struct invlock_pin before, after;
	int err = invlock_cache_get(rig->cache, rig->page, PAGE, 0, &before);

	if (err)
		return err;
	invlock_cache_put(&before);
	err = put_page_anew(rig);
	if (err)
		return err;
	err = invlock_cache_get(rig->cache, rig->page, PAGE, 0, &after);
	if (err)
		return err;
	invlock_cache_put(&after);
	return before.handle == after.handle ? -ESTALE : 0;
}

/* ---- the calls ---- */

static bool opens_another_mm(struct rig *rig)
{
	struct invlock_mm_options options = { .size = sizeof(options), .monitor = rig->monitor,
					      .need = NEED };
	struct invlock_mm *mm;

	if (invlock_mm_open(&options, &mm, NULL))
		return false;
	invlock_mm_close(mm);
	return true;
}

static bool asks_the_mm(struct rig *rig)
{
	struct invlock_mm_info info = { .size = sizeof(info) };

	return !invlock_mm_info(rig->mm, &info);
}

static bool opens_another_cache(struct rig *rig)
{
	struct invlock_cache *cache;

	if (open_cache(rig, INVLOCK_CACHE_REAPER, &cache))
		return false;
	return !invlock_cache_close(cache);
}

static bool gets(struct rig *rig, unsigned int flags)
{
	struct invlock_pin pin;
	int err = invlock_cache_get(rig->cache, rig->page, PAGE, flags, &pin);

	/* A storm of changes may spend the budget: then the get returns -EBUSY. */
	return err ? err == -EBUSY : !invlock_cache_put(&pin);
}

static bool misses(struct rig *rig)
{
	return invlock_cache_drop(rig->cache, rig->page, PAGE) >= 0 && gets(rig, 0);
}

static bool hits(struct rig *rig)
{
	return gets(rig, 0);
}

static bool bypasses(struct rig *rig)
{
	return gets(rig, INVLOCK_GET_BYPASS);
}

static bool reaps(struct rig *rig)
{
	return invlock_cache_reap(rig->cache) >= 0;
}

static bool asks_the_cache(struct rig *rig)
{
	struct invlock_cache_stats stats = { .size = sizeof(stats) };

	return !invlock_cache_stats(rig->cache, &stats) && invlock_cache_fd(rig->cache) >= 0;
}

static bool reads(struct rig *rig)
{
	struct invlock_read rd;
	int err;

	invlock_read_init(&rd, rig->mm, rig->page, PAGE, NULL, 0);
	while (invlock_read_attempt(&rd) && !invlock_read_commit(&rd))
		;
	err = invlock_read_error(&rd);
	if (!err)
		(void)invlock_read_valid(&rd);
	invlock_read_end(&rd);
	return !err || err == -EBUSY;
}

/* The range is marked as changing for longer than the budget, so that the attempt waits. */
static bool waits_in_a_section(struct rig *rig)
{
	struct invlock_read_budget budget = { .time_ns = 20000000 };
	struct invlock_read rd;
	bool busy;

	if (!rig->monitor || strcmp(rig->monitor, "manual"))
		return true;
	if (invlock_manual_start(rig->mm, rig->page, PAGE))
		return false;
	invlock_read_init(&rd, rig->mm, rig->page, PAGE, &budget, 0);
	busy = !invlock_read_attempt(&rd) && invlock_read_error(&rd) == -EBUSY;
	invlock_read_end(&rd);
	return !invlock_manual_end(rig->mm, rig->page, PAGE) && busy;
}

/* A request that is prepared and never submitted. */
static bool prepares(struct rig *rig, struct invlock_uring *uring)
{
	struct io_uring_sqe sqe = {};
	struct invlock_uring_op op;

	return invlock_uring_prep_read(uring, &sqe, 0, rig->page, PAGE, 0, &op) >= 0 &&
	       !invlock_uring_done(&op) &&
	       invlock_uring_prep_write(uring, &sqe, 1, rig->page, PAGE, 0, &op) >= 0 &&
	       !invlock_uring_done(&op);
}

static bool opens_another_uring(struct rig *rig, unsigned int ring_flags, unsigned int flags)
{
	struct invlock_uring_options options = { .size = sizeof(options), .slots = 8,
						 .flags = flags, .min_len = 1, .need = NEED };
	struct invlock_uring *uring;
	struct io_uring ring;
	bool ok;

	if (!rig->uring)
		return true;
	if (io_uring_queue_init(8, &ring, ring_flags))
		return false;
	ok = !invlock_uring_open(&ring, rig->mm, &options, &uring, NULL);
	if (ok) {
		ok = prepares(rig, uring);
		invlock_cache_drop(invlock_uring_cache(uring), rig->page, PAGE);
		ok = ok && prepares(rig, uring);
		ok = !invlock_uring_close(uring) && ok;
	}
	io_uring_queue_exit(&ring);
	return ok;
}

static bool opens_a_reaped_uring(struct rig *rig)
{
	return opens_another_uring(rig, 0, INVLOCK_URING_REAPER);
}

static bool opens_a_uring_of_one_thread(struct rig *rig)
{
	return opens_another_uring(rig, IORING_SETUP_SINGLE_ISSUER, INVLOCK_URING_REAPER);
}

static bool reads_by_uring(struct rig *rig)
{
	struct invlock_uring_stats stats = { .size = sizeof(stats) };

	return !rig->uring || (prepares(rig, rig->uring) &&
			       !invlock_uring_stats(rig->uring, &stats));
}

static bool asks_for_names(struct rig *rig)
{
	(void)rig;
	return invlock_kind_name(0) && invlock_version() && invlock_version_number() &&
	       invlock_uring_way_name(0);
}

const struct public_call calls[] = {
	{ "invlock_mm_open, _close", opens_another_mm },
	{ "invlock_mm_info", asks_the_mm },
	{ "invlock_cache_open, _close", opens_another_cache },
	{ "invlock_cache_drop, _get, _put: a miss", misses },
	{ "invlock_cache_get, _put: a hit", hits },
	{ "invlock_cache_get, _put: past the cache", bypasses },
	{ "invlock_cache_reap", reaps },
	{ "invlock_cache_stats, _fd", asks_the_cache },
	{ "invlock_read_init, _attempt, _commit, _valid, _end, _error", reads },
	{ "invlock_manual_start, invlock_read_attempt: a wait, _end", waits_in_a_section },
	{ "invlock_uring_open, _close", opens_a_reaped_uring },
	{ "invlock_uring_open, _close: a ring of one thread", opens_a_uring_of_one_thread },
	{ "invlock_uring_prep_read, _prep_write, _done, _stats", reads_by_uring },
	{ "invlock_kind_name, invlock_version, _version_number, invlock_uring_way_name",
	  asks_for_names },
	{}
};
