// SPDX-License-Identifier: MIT
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "tests/test.h"
#include "tests/race/rig.h"
#include "lib/monitor/bpf/bpf.h"

unsigned long race_rounds = 2000;

static int number_reg(void *ctx, void *addr, size_t len, uint64_t *ret_handle)
{
	(void)ctx, (void)len;
	*ret_handle = __atomic_load_n((uint64_t *)addr, __ATOMIC_ACQUIRE);
	return 0;
}

static void number_dereg(void *ctx, void *addr, size_t len, uint64_t handle)
{
	(void)ctx, (void)addr, (void)len, (void)handle;
}

void race_open(struct race *race)
{
	struct invlock_mm_options mo = {
		.size = sizeof(mo),
		/* the self-test would find a planted fault at once */
		.flags = PLANTED[0] ? INVLOCK_MM_NO_SELFTEST : 0,
		.monitor = "bpf",
	};
	struct invlock_cache_options co = {
		.size = sizeof(co), .ops = { number_reg, number_dereg }, .max_entries = 64,
		/* A thread that starts maps memory, which could fill the hole of a race. */
		.flags = race->reaper ? 0 : INVLOCK_CACHE_NO_REAPER,
	};
	struct invlock_why why;
	int err;

	/* no other process may join a set from which programs are missing */
	if (strstr(PLANTED, "no_calls"))
		monitor_bpf_options.family = (u64)getpid();
	err = invlock_mm_open(&mo, &race->mm, &why);

	if (err == -EPERM || err == -EOPNOTSUPP || err == -EINVAL)
		TEST_SKIP("%.180s", why.text);
	assert_int_equal(err, 0);
	assert_int_equal(invlock_cache_open(race->mm, &co, &race->cache, NULL), 0);
}

void race_need_functions(void)
{
	struct race race = {};
	struct bpf_set_header head;

	race_open(&race);
	monitor_bpf_set(race.mm, &head);
	race_close(&race);
	if (head.attached != BPF_AT_FUNCTIONS)
		TEST_SKIP("no program is at a function here: %.150s", head.reason);
}

void race_close(struct race *race)
{
	assert_int_equal(invlock_cache_close(race->cache), 0);
	invlock_mm_close(race->mm);
}

uint64_t race_number(void)
{
	static uint64_t number;

	return __atomic_add_fetch(&number, 1, __ATOMIC_RELAXED);
}

void race_use(struct race *race, void *addr, size_t len)
{
	struct invlock_pin pin;

	if (invlock_cache_get(race->cache, addr, len, 0, &pin)) {
		race->refused++;
		return;
	}
	race->hits++;
	if (pin.handle != __atomic_load_n((uint64_t *)pin.addr, __ATOMIC_ACQUIRE))
		race->stale++;
	invlock_cache_put(&pin);
}

int race_open_uffd(void)
{
	uint64_t features = 0;
	int fd = hold_open(UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_EVENT_REMOVE, &features);

	if (fd < 0)
		TEST_SKIP("there is no userfaultfd, which would hold a change in its middle");
	if (!(features & UFFD_FEATURE_PAGEFAULT_FLAG_WP)) {
		close(fd);
		TEST_SKIP("this kernel's userfaultfd protects no pages: what it holds would wait");
	}
	return fd;
}

void race_hold_changes(int uffd, char *addr, size_t len)
{
	/* no page is protected, so no access waits */
	if (hold_memory(uffd, addr, len, UFFDIO_REGISTER_MODE_WP))
		abort();
}

void *race_map(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		abort();
	return p;
}
