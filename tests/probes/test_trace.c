// SPDX-License-Identifier: MIT
/* A tracer attaches to the probes of the library in this process, and sees each of them. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <sys/mman.h>

#include <invlock/cache.h>
#include <invlock/manual.h>

#include "lib/page.h"
#include "tests/test.h"
#include "trace.h"
#include "trace.skel.h"

#define PAGES	4

static struct trace_bpf *tracer;
static struct invlock_mm *mm;
static struct invlock_cache *cache;
static char *memory;
static int reg_result;

static int reg(void *ctx, void *addr, size_t len, uint64_t *ret_handle)
{
	(void)ctx;
	(void)addr;
	*ret_handle = len;
	return reg_result;
}

static void dereg(void *ctx, void *addr, size_t len, uint64_t handle)
{
	(void)ctx;
	(void)addr;
	(void)len;
	(void)handle;
}

static char *page(int nr)
{
	return memory + nr * page_bytes();
}

static void open_cache(void)
{
	struct invlock_mm_options m = { .size = sizeof(m), .monitor = "manual" };
	struct invlock_cache_options c = {
		.size = sizeof(c), .ops = { reg, dereg }, .max_entries = 2,
		.flags = INVLOCK_CACHE_NO_REAPER,
	};

	assert_int_equal(invlock_mm_open(&m, &mm, NULL), 0);
	assert_int_equal(invlock_cache_open(mm, &c, &cache, NULL), 0);
	memory = mmap(NULL, PAGES * page_bytes(), PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(memory, MAP_FAILED);
	reg_result = 0;
}

static int close_all(void **state)
{
	(void)state;
	invlock_cache_close(cache);
	invlock_mm_close(mm);
	munmap(memory, PAGES * page_bytes());
	trace_bpf__destroy(tracer);
	cache = NULL;
	mm = NULL;
	tracer = NULL;
	return 0;
}

static void attach(void)
{
	struct bpf_program *prog;
	struct bpf_link **link;

	tracer = trace_bpf__open_and_load();
	if (!tracer)
		TEST_SKIP("no BPF program can be loaded here: %s", strerror(errno));
	link = (struct bpf_link **)&tracer->links;
	bpf_object__for_each_program(prog, tracer->obj) {
		*link = bpf_program__attach_usdt(prog, getpid(), LIBRARY, "invlock",
						 bpf_program__name(prog), NULL);
		if (!*link && (errno == EPERM || errno == EACCES))
			TEST_SKIP("no tracer can be attached here: %s", strerror(errno));
		if (!*link)
			fail_msg("%s: %s", bpf_program__name(prog), strerror(errno));
		link++;
	}
}

static struct trace traced(enum probe probe)
{
	struct trace t;
	__u32 key = probe;

	assert_int_equal(bpf_map_lookup_elem(bpf_map__fd(tracer->maps.traces), &key, &t), 0);
	return t;
}

/* Has this probe told something so many times, lately of this page? */
static void expect(enum probe probe, unsigned int nr, int nr_args, const char *at)
{
	struct trace t = traced(probe);

	assert_int_equal(t.nr, nr);
	if (!nr)
		return;
	assert_int_equal(t.nr_args, nr_args);
	assert_int_equal(t.arg[0], (long)cache);
	assert_int_equal(t.arg[1], (long)at);
}

static void get_and_put(const char *at)
{
	struct invlock_pin pin;

	assert_int_equal(invlock_cache_get(cache, at, 8, 0, &pin), 0);
	assert_int_equal(invlock_cache_put(&pin), 0);
}

TEST(a_miss_and_a_registration_are_traced_and_a_hit_is_not)
{
	open_cache();
	attach();
	get_and_put(page(0) + 16);
	expect(PROBE_MISS, 1, 4, page(0) + 16);
	assert_int_equal(traced(PROBE_MISS).arg[2], 8);
	expect(PROBE_REG, 1, 5, page(0));
	assert_int_equal(traced(PROBE_REG).arg[2], page_bytes());
	assert_int_equal((int)traced(PROBE_REG).arg[3], 0);
	assert_true(traced(PROBE_REG).arg[4] > 0);
	for (int i = 0; i < 10; i++)
		get_and_put(page(0) + 16);
	for (enum probe p = 0; p < NR_PROBES; p++)
		assert_int_equal(traced(p).nr, p == PROBE_MISS || p == PROBE_REG);
}

TEST(a_refused_get_is_traced_with_its_error)
{
	struct invlock_pin pin;

	open_cache();
	attach();
	reg_result = -EIO;
	assert_int_equal(invlock_cache_get(cache, page(1), 8, 0, &pin), -EIO);
	expect(PROBE_REFUSED, 1, 4, page(1));
	assert_int_equal(traced(PROBE_REFUSED).arg[2], 8);
	assert_int_equal((int)traced(PROBE_REFUSED).arg[3], -EIO);
	expect(PROBE_REG, 1, 5, page(1));
	assert_int_equal((int)traced(PROBE_REG).arg[3], -EIO);
	expect(PROBE_DEREG, 0, 0, NULL);
}

TEST(a_stale_region_and_its_deregistration_are_traced)
{
	open_cache();
	attach();
	get_and_put(page(0));
	invlock_manual_start(mm, page(0), page_bytes());
	invlock_manual_end(mm, page(0), page_bytes());
	get_and_put(page(0));
	expect(PROBE_STALE, 1, 3, page(0));
	assert_int_equal(traced(PROBE_STALE).arg[2], page_bytes());
	assert_true(invlock_cache_reap(cache) <= 1);
	expect(PROBE_DEREG, 1, 4, page(0));
	assert_int_equal(traced(PROBE_DEREG).arg[2], page_bytes());
	assert_true(traced(PROBE_DEREG).arg[3] > 0);
}

TEST(an_eviction_is_traced)
{
	open_cache();
	attach();
	for (int i = 0; i < 3; i++)
		get_and_put(page(2 * (i & 1) + i / 2));
	assert_int_equal(traced(PROBE_EVICT).nr, 1);
	assert_int_equal(traced(PROBE_EVICT).nr_args, 3);
	assert_int_equal(traced(PROBE_EVICT).arg[2], page_bytes());
	assert_int_equal(traced(PROBE_DEREG).nr, 1);
	assert_int_equal(traced(PROBE_STALE).nr, 0);
}

TEST_MAIN(.teardown = close_all)
