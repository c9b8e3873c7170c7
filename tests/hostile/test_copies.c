// SPDX-License-Identifier: MIT
/*
 * Three copies of the library in one process: one is linked into this program, one is shared, and
 * one is shared with a libc of its own (dlmopen). Each has its own feed and its own records of
 * threads, and none may mislead another.
 */
#include <dlfcn.h>
#include <errno.h>
#include <sys/mman.h>

#include "calls.h"
#include "tests/test.h"

#define NR_COPIES	3
#define ROUNDS		200

struct copy {
	const char *name;
	int (*mm_open)(const struct invlock_mm_options *, struct invlock_mm **,
		       struct invlock_why *);
	void (*mm_close)(struct invlock_mm *);
	int (*cache_open)(struct invlock_mm *, const struct invlock_cache_options *,
			  struct invlock_cache **, struct invlock_why *);
	int (*cache_close)(struct invlock_cache *);
	int (*get)(struct invlock_cache *, const void *, size_t, unsigned int,
		   struct invlock_pin *);
	int (*put)(struct invlock_pin *);
	struct invlock_mm *mm;
	struct invlock_cache *cache;
	unsigned int nr_reg, nr_dereg;
};

static struct copy copies[NR_COPIES];

static int reg(void *ctx, void *addr, size_t len, uint64_t *ret_handle)
{
	struct copy *copy = ctx;

	(void)addr, (void)len;
	*ret_handle = ++copy->nr_reg;
	return 0;
}

static void dereg(void *ctx, void *addr, size_t len, uint64_t handle)
{
	struct copy *copy = ctx;

	(void)addr, (void)len, (void)handle;
	copy->nr_dereg++;
}

static void find(void *library, const char *name, void *ret_function)
{
	void *function = dlsym(library, name);

	if (!function)
		fail_msg("%s", dlerror());
	*(void **)ret_function = function;
}

static void load(struct copy *copy, const char *name, void *library)
{
	if (!library)
		fail_msg("%s: %s", name, dlerror());
	*copy = (struct copy){ .name = name };
	find(library, "invlock_mm_open", &copy->mm_open);
	find(library, "invlock_mm_close", &copy->mm_close);
	find(library, "invlock_cache_open", &copy->cache_open);
	find(library, "invlock_cache_close", &copy->cache_close);
	find(library, "invlock_cache_get", &copy->get);
	find(library, "invlock_cache_put", &copy->put);
}

static void load_all(void)
{
	const char *path = getenv("INVLOCK_LIBRARY");

	assert_non_null(path);
	copies[0] = (struct copy){
		.name = "this program's", .mm_open = invlock_mm_open,
		.mm_close = invlock_mm_close, .cache_open = invlock_cache_open,
		.cache_close = invlock_cache_close, .get = invlock_cache_get,
		.put = invlock_cache_put,
	};
	load(&copies[1], "the shared one", dlopen(path, RTLD_NOW | RTLD_LOCAL));
	load(&copies[2], "the shared one in a namespace of its own",
	     dlmopen(LM_ID_NEWLM, path, RTLD_NOW | RTLD_LOCAL));
	assert_ptr_not_equal(copies[0].get, copies[1].get);
	assert_ptr_not_equal(copies[1].get, copies[2].get);
}

static void open_copy(struct copy *copy, const char *monitor)
{
	struct invlock_mm_options watch = { .size = sizeof(watch), .monitor = monitor,
					    .need = NEED };
	struct invlock_cache_options options = { .size = sizeof(options), .ops = { reg, dereg },
						 .ctx = copy, .need = NEED, .max_entries = 64 };
	struct invlock_why why;

	if (copy->mm_open(&watch, &copy->mm, &why)) {
		if (copy == copies)
			TEST_SKIP("%.190s", why.text);
		fail_msg("%s: %s", copy->name, why.text);
	}
	assert_int_equal(copy->cache_open(copy->mm, &options, &copy->cache, &why), 0);
}

/* Uses every copy's cache in turn. ret_refused: gets that failed. Return: stale hits */
static unsigned int use_all(const char *monitor, unsigned int *ret_refused)
{
	char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t handles[NR_COPIES] = {};
	unsigned int nr_stale = 0;

	assert_ptr_not_equal(page, MAP_FAILED);
	load_all();
	for (unsigned int i = 0; i < NR_COPIES; i++)
		open_copy(&copies[i], monitor);
	*ret_refused = 0;
	for (unsigned int round = 0; round < ROUNDS; round++) {
		for (unsigned int i = 0; i < NR_COPIES; i++) {
			struct invlock_pin first, second;

			if (copies[i].get(copies[i].cache, page, PAGE, 0, &first)) {
				++*ret_refused;
				continue;
			}
			nr_stale += first.handle == handles[i];
			handles[i] = first.handle;
			/* A copy must not invalidate what another copy has found. */
			assert_int_equal(copies[i].get(copies[i].cache, page, PAGE, 0, &second), 0);
			assert_int_equal(second.handle, first.handle);
			assert_int_equal(copies[i].put(&first), 0);
			assert_int_equal(copies[i].put(&second), 0);
		}
		assert_ptr_equal(mmap(page, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE |
				      MAP_ANONYMOUS | MAP_FIXED, -1, 0), page);
	}
	for (unsigned int i = 0; i < NR_COPIES; i++) {
		assert_int_equal(copies[i].cache_close(copies[i].cache), 0);
		copies[i].mm_close(copies[i].mm);
		assert_int_equal(copies[i].nr_reg, copies[i].nr_dereg);
	}
	munmap(page, PAGE);
	return nr_stale;
}

TEST(three_copies_with_bpf_see_every_change)
{
	unsigned int refused;

	assert_int_equal(use_all("bpf", &refused), 0);
	assert_int_equal(refused, 0);
}

/* The kernel lets one userfaultfd watch a range. The other copies are refused and do not cache. */
TEST(three_copies_with_uffd_are_never_stale_and_only_one_caches_a_page)
{
	unsigned int refused;

	assert_int_equal(use_all("uffd", &refused), 0);
	print_message("# %u of %u gets refused\n", refused, ROUNDS * NR_COPIES);
	assert_in_range(refused, 1, ROUNDS * (NR_COPIES - 1));
}

TEST(three_copies_to_which_no_change_is_reported_are_stale)
{
	unsigned int refused;

	assert_int_equal(use_all("manual", &refused), (ROUNDS - 1) * NR_COPIES);
}

TEST_MAIN()
