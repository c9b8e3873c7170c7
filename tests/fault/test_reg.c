// SPDX-License-Identifier: MIT
/* The user's reg(): it blocks, calls back, forks, or unmaps the memory that it is to register. */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "lib/cache/cache_internal.h"
#include "tests/test.h"
#include "tests/lib/rig.h"


static struct fake_device fake;
static char *const mem = (char *)0x100000000;

/* ---- reg() blocks ---- */

static sem_t inside, go_on;

static void block(struct fake_device *t, void *addr, size_t len)
{
	(void)len;
	/* only the first registration of the first page */
	if (addr != mem)
		return;
	t->during_reg = NULL;
	sem_post(&inside);
	while (sem_wait(&go_on))
		;
}

static void *get_the_first(void *ret)
{
	struct invlock_pin pin;

	*(int *)ret = invlock_cache_get(fake.cache, mem, PAGE, 0, &pin);
	if (!*(int *)ret)
		invlock_cache_put(&pin);
	return NULL;
}

static void use(char *at)
{
	struct invlock_pin pin;

	assert_int_equal(invlock_cache_get(fake.cache, at, PAGE, 0, &pin), 0);
	assert_true(fake_is_live(&fake, pin.handle));
	assert_int_equal(invlock_cache_put(&pin), 0);
}

static void while_another_blocks(bool change)
{
	struct invlock_cache_options o = { .size = sizeof(o), .max_entries = 8 };
	pthread_t id;
	int err = 1;

	fake_open(&fake, &o);
	sem_init(&inside, 0, 0);
	sem_init(&go_on, 0, 0);
	use(mem + 16 * PAGE);
	fake.during_reg = block;
	assert_int_equal(pthread_create(&id, NULL, get_the_first, &err), 0);
	while (sem_wait(&inside))
		;
	/* hits, misses, evictions, a second registration of the same page, and all other calls */
	use(mem + 16 * PAGE);
	for (int i = 1; i < 20; i++)
		use(mem + i * PAGE);
	use(mem);
	if (change)
		fake_change(&fake, mem, PAGE);
	assert_true(invlock_cache_drop(fake.cache, mem, 4 * PAGE) >= 0);
	assert_true(invlock_cache_reap(fake.cache) >= 0);
	assert_true(fake_stats(&fake).entries <= 8);
	sem_post(&go_on);
	assert_int_equal(pthread_join(id, NULL), 0);
	assert_int_equal(err, 0);
	assert_int_equal(fake_stats(&fake).collided, change);
	use(mem);
	fake_close(&fake);
}

TEST(while_reg_blocks_everything_else_goes_on)
{
	while_another_blocks(false);
}

TEST(a_change_while_reg_blocks_undoes_it)
{
	while_another_blocks(true);
}

/* ---- reg() calls back ---- */

static unsigned int depth, deepest;
static int wrong;

static void call_everything(struct fake_device *t, void *addr, size_t len)
{
	struct invlock_pin pin, other;

	if (depth == 3)
		return;
	depth++;
	if (depth > deepest)
		deepest = depth;
	/* The very range that is being registered, a part of it, and another range. */
	if (invlock_cache_get(t->cache, addr, len, 0, &pin))
		wrong++;
	else if (invlock_cache_get(t->cache, addr, 1, INVLOCK_GET_BYPASS, &other) ||
		 invlock_cache_put(&other) || invlock_cache_put(&pin))
		wrong++;
	if (invlock_cache_drop(t->cache, (char *)addr + 8 * PAGE, PAGE) < 0 ||
	    invlock_cache_reap(t->cache) < 0)
		wrong++;
	depth--;
}

static void with_callbacks(bool from_dereg)
{
	depth = deepest = wrong = 0;
	fake_open(&fake, NULL);
	if (from_dereg)
		fake.during_dereg = call_everything;
	else
		fake.during_reg = call_everything;
	for (int i = 0; i < 4; i++) {
		use(mem + i * PAGE);
		fake_change(&fake, mem + i * PAGE, PAGE);
		assert_true(invlock_cache_reap(fake.cache) >= 1);
	}
	fake.during_reg = fake.during_dereg = NULL;
	assert_int_equal(wrong, 0);
	assert_true(deepest >= 2);
	use(mem);
	fake_close(&fake);
}

TEST(reg_may_call_everything_for_the_range_that_it_registers)
{
	with_callbacks(false);
}

TEST(dereg_may_call_everything)
{
	with_callbacks(true);
}

static void fork_and_open_another(struct fake_device *t, void *addr, size_t len)
{
	struct invlock_mm_options mo = { .size = sizeof(mo), .monitor = "manual" };
	struct invlock_cache_options co = {
		.size = sizeof(co), .ops = { fake_reg, fake_dereg }, .ctx = t,
	};
	struct invlock_cache *another;
	struct invlock_mm *mm;
	int status = 1;
	pid_t pid = fork();

	(void)addr, (void)len;
	if (!pid)
		_exit(0);
	if (waitpid(pid, &status, 0) != pid || status)
		wrong++;
	if (invlock_mm_open(&mo, &mm, NULL) || invlock_cache_open(mm, &co, &another, NULL) ||
	    invlock_cache_close(another))
		wrong++;
	invlock_mm_close(mm);
}

TEST(reg_and_dereg_may_fork_and_open_another_cache)
{
	wrong = 0;
	fake_open(&fake, NULL);
	fake.during_reg = fake.during_dereg = fork_and_open_another;
	use(mem);
	fake_change(&fake, mem, PAGE);
	assert_int_equal(invlock_cache_reap(fake.cache), 1);
	use(mem);
	assert_int_equal(wrong, 0);
	/* the close calls dereg() once more */
	fake_close(&fake);
	assert_int_equal(wrong, 0);
}

/* More pins than a record has slots, all taken by reg(). */
static struct invlock_pin taken[PIN_SLOTS + 5];
static unsigned int nr_taken;

static void take_all_slots(struct fake_device *t, void *addr, size_t len)
{
	t->during_reg = NULL;
	(void)len;
	while (nr_taken < PIN_SLOTS + 5) {
		if (invlock_cache_get(t->cache, (char *)addr + 64 * PAGE, PAGE, 0,
				      &taken[nr_taken++]))
			abort();
	}
}

TEST(reg_takes_every_slot_of_its_thread)
{
	struct invlock_pin pin;

	fake_open(&fake, NULL);
	nr_taken = 0;
	fake.during_reg = take_all_slots;
	assert_int_equal(invlock_cache_get(fake.cache, mem, PAGE, 0, &pin), 0);
	assert_int_equal(nr_taken, PIN_SLOTS + 5);
	for (unsigned int i = 0; i < nr_taken; i++) {
		assert_int_not_equal(taken[i].handle, pin.handle);
		assert_int_equal(invlock_cache_put(&taken[i]), 0);
	}
	assert_int_equal(invlock_cache_put(&pin), 0);
	fake_close(&fake);
}

/* ---- reg() unmaps ---- */

static bool manual;
static unsigned int nr_registered;

/* A device that pins memory, so the memory must be there. */
static int reg_and_unmap(void *ctx, void *addr, size_t len, uint64_t *ret_handle)
{
	unsigned char resident;

	if (mincore(addr, PAGE, &resident))
		return -EFAULT;
	if (manual)
		invlock_manual_start(fake.mm, addr, len);
	munmap(addr, len);
	if (manual)
		invlock_manual_end(fake.mm, addr, len);
	nr_registered++;
	return fake_reg(ctx, addr, len, ret_handle);
}

static void unmaps(const char *monitor, int want)
{
	struct invlock_mm_options mo = {
		.size = sizeof(mo), .monitor = monitor, .need = INVLOCK_BIT(UNMAP),
	};
	struct invlock_cache_options co = {
		.size = sizeof(co),
		.need = INVLOCK_BIT(UNMAP),
		.ops = { reg_and_unmap, fake_dereg },
		.ctx = &fake,
		/* A thread that starts maps memory, which could fill the hole that reg() makes. */
		.flags = INVLOCK_CACHE_NO_REAPER,
		.time_ns = 60000000000,	/* never spent, however late the thread of uffd runs */
	};
	struct invlock_why why;
	struct invlock_pin pin;
	void *page;
	int err;

	manual = !strcmp(monitor, "manual");
	nr_registered = 0;
	fake = (struct fake_device){};
	err = invlock_mm_open(&mo, &fake.mm, &why);
	if (err == -EPERM || err == -ENOSYS || err == -EOPNOTSUPP)
		TEST_SKIP("%.180s", why.text);
	assert_int_equal(err, 0);
	assert_int_equal(invlock_cache_open(fake.mm, &co, &fake.cache, NULL), 0);
	page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(page, MAP_FAILED);
	/*
	 * The page is registered, the registration collides, and then there is nothing to register.
	 */
	assert_int_equal(invlock_cache_get(fake.cache, page, PAGE, 0, &pin), want);
	assert_int_equal(nr_registered, 1);
	if (!want)
		assert_int_equal(invlock_cache_put(&pin), 0);
	else
		assert_int_equal(fake_stats(&fake).collided, 1);
	fake_close(&fake);
}

TEST(reg_unmaps_what_it_registers_under_the_manual_monitor)
{
	unmaps("manual", -EFAULT);
}

TEST(reg_unmaps_what_it_registers_under_the_uffd_monitor)
{
	unmaps("uffd", -EFAULT);
}

TEST(reg_unmaps_what_it_registers_under_the_bpf_monitor)
{
	unmaps("bpf", -EFAULT);
}

TEST_PLANTED(no_check, without_the_check_a_registration_that_reg_unmapped_is_handed_out)
{
	unmaps("manual", 0);
}

TEST_MAIN(.ends_with_failure = true)
