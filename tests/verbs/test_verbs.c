// SPDX-License-Identifier: MIT
/* The adapter for RDMA verbs, without a device. */
#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <invlock/manual.h>
#include <invlock/verbs.h>

#include "fake.h"
#include "rig.h"
#include "tests/child.h"
#include "tests/test.h"

#define REMOTE	(IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ)

static struct ibv_pd pds[300];

static void reopen(struct invlock_verbs_options o)
{
	assert_int_equal(invlock_verbs_close(verbs), 0);
	open_with(&o);
}

static void change(const void *addr, size_t len)
{
	assert_int_equal(invlock_manual_start(mm, addr, len), 0);
	assert_int_equal(invlock_manual_end(mm, addr, len), 0);
}

static struct invlock_verbs_stats stats_now(void)
{
	struct invlock_verbs_stats s = { .size = sizeof(s) };

	assert_int_equal(invlock_verbs_stats(verbs, &s), 0);
	return s;
}

static void get_and_put(struct ibv_pd *pd, const void *addr, size_t len, unsigned int access)
{
	struct invlock_verbs_pin pin;

	assert_int_equal(invlock_verbs_get(verbs, pd, addr, len, access, &pin), 0);
	assert_true(fake_is_live(pin.lkey, pd, access ?: IBV_ACCESS_LOCAL_WRITE));
	assert_ptr_equal(pin.mr->pd, pd);
	assert_int_equal(pin.rkey, pin.mr->rkey);
	assert_true((char *)pin.addr <= (char *)addr);
	assert_true((char *)addr + len <= (char *)pin.addr + pin.len);
	assert_int_equal(invlock_verbs_put(&pin), 0);
}

/* a get that must fail, and a sentence with these words */
static void refused(struct ibv_pd *pd, unsigned int access, int err, const char *words)
{
	struct invlock_verbs_pin pin;

	assert_int_equal(invlock_verbs_get(verbs, pd, mem, PAGE, access, &pin), err);
	assert_int_equal(invlock_verbs_explain(verbs, mem, PAGE, access, err, &why), err);
	if (!strstr(why.text, words))
		fail_msg("\"%s\" does not say \"%s\"", why.text, words);
}

TEST(a_region_is_registered_once_and_again_after_a_change)
{
	for (int i = 0; i < 10; i++)
		get_and_put(&pds[0], mem, PAGE, 0);
	assert_int_equal(fake_verbs.nr_reg, 1);
	change(mem, PAGE);
	get_and_put(&pds[0], mem + 100, 10, 0);
	assert_int_equal(fake_verbs.nr_reg, 2);
}

TEST(each_domain_and_each_right_has_regions_of_its_own)
{
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < 5; i++) {
			get_and_put(&pds[i], mem, LEN, 0);
			get_and_put(&pds[i], mem, LEN, REMOTE);
			get_and_put(&pds[i], mem, LEN, REMOTE | IBV_ACCESS_RELAXED_ORDERING);
		}
	assert_int_equal(fake_verbs.nr_reg, 15);
	assert_int_equal(stats_now().domains, 5);
	assert_int_equal(stats_now().regions, 15);
}

TEST(rights_that_are_not_for_a_cache_are_refused_with_a_sentence)
{
	struct invlock_verbs_options o = { .size = sizeof(o), .access = IBV_ACCESS_ON_DEMAND };
	struct invlock_verbs *other;

	refused(&pds[0], IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_ON_DEMAND, -EINVAL, "ON_DEMAND");
	refused(&pds[0], IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_MW_BIND, -EINVAL, "memory window");
	refused(&pds[0], IBV_ACCESS_ZERO_BASED, -EINVAL, "ZERO_BASED");
	refused(&pds[0], 1u << 15 | 1, -EINVAL, "not known here: 0x8000");
	refused(&pds[0], IBV_ACCESS_REMOTE_WRITE, -EINVAL, "need IBV_ACCESS_LOCAL_WRITE");
	assert_int_equal(fake_verbs.nr_reg, 0);
	assert_int_equal(invlock_verbs_open(mm, &o, &other, &why), -EINVAL);
	assert_non_null(strstr(why.text, "ON_DEMAND"));
}

static void bad_range(const void *addr, size_t len, const char *words)
{
	struct invlock_verbs_pin pin;

	assert_int_equal(invlock_verbs_get(verbs, &pds[0], addr, len, 0, &pin), -EINVAL);
	assert_int_equal(invlock_verbs_explain(verbs, addr, len, 0, -EINVAL, &why), -EINVAL);
	if (!strstr(why.text, words))
		fail_msg("\"%s\" does not say \"%s\"", why.text, words);
}

TEST(the_sentence_says_what_is_wrong_with_a_range)
{
	bad_range(mem, 0, "len is 0");
	bad_range(NULL, PAGE, "addr is (nil)");
	bad_range((void *)1, PAGE, "in the first page");
	bad_range(mem, SIZE_MAX, "beyond user memory");
	bad_range((void *)(1UL << 57), PAGE, "beyond user memory");
	assert_int_equal(fake_verbs.nr_reg, 0);
}

TEST(bad_options_and_pointers_are_refused)
{
	struct invlock_verbs_options o = { .size = sizeof(o), .flags = 3 };
	struct invlock_verbs_pin pin;
	struct invlock_verbs *other;

	assert_int_equal(invlock_verbs_open(mm, &o, &other, &why), -EINVAL);
	o.flags = 64;
	assert_int_equal(invlock_verbs_open(mm, &o, &other, &why), -EINVAL);
	assert_non_null(strstr(why.text, "0x40"));
	o.flags = 0;
	o.size = 8;
	assert_int_equal(invlock_verbs_open(mm, &o, &other, &why), -EINVAL);
	o.size = SIZE_MAX;
	assert_int_equal(invlock_verbs_open(mm, &o, &other, &why), -EINVAL);
	assert_non_null(strstr(why.text, "set it to sizeof"));
	assert_int_equal(invlock_verbs_open(NULL, NULL, &other, &why), -EINVAL);
	assert_int_equal(invlock_verbs_get(verbs, NULL, mem, 1, 0, &pin), -EINVAL);
	assert_int_equal(invlock_verbs_get(verbs, &pds[0], NULL, 1, 0, &pin), -EINVAL);
	assert_int_equal(invlock_verbs_get(verbs, &pds[0], mem, 0, 0, &pin), -EINVAL);
	assert_int_equal(invlock_verbs_put(NULL), -EINVAL);
	assert_int_equal(invlock_verbs_remove_pd(verbs, NULL), -EINVAL);
	assert_null(invlock_verbs_cache(NULL));
	assert_int_equal(invlock_verbs_close(NULL), 0);
}

TEST(a_domain_that_is_removed_has_no_region_left)
{
	struct invlock_verbs_pin pin;

	get_and_put(&pds[0], mem, PAGE, 0);
	get_and_put(&pds[0], mem + 8 * PAGE, PAGE, REMOTE);
	get_and_put(&pds[1], mem + 4 * PAGE, PAGE, 0);
	assert_int_equal(invlock_verbs_get(verbs, &pds[0], mem, PAGE, REMOTE, &pin), 0);
	assert_int_equal(invlock_verbs_remove_pd(verbs, &pds[0]), -EBUSY);
	assert_true(fake_is_live(pin.lkey, &pds[0], REMOTE));
	assert_int_equal(invlock_verbs_put(&pin), 0);
	assert_int_equal(invlock_verbs_remove_pd(verbs, &pds[0]), 0);
	assert_int_equal(stats_now().domains, 1);
	assert_int_equal(stats_now().regions, 1);
	assert_int_equal(invlock_verbs_remove_pd(verbs, &pds[0]), 0);
	/* another domain in the same place is another domain */
	get_and_put(&pds[2], mem, PAGE, 0);
	assert_int_equal(stats_now().domains, 2);
}

TEST(domains_that_are_not_removed_are_too_many_in_the_end)
{
	for (int i = 0; i < 256; i++)
		get_and_put(&pds[i], mem, PAGE, 0);
	refused(&pds[256], 0, -EMFILE, "256 protection domains");
	assert_int_equal(invlock_verbs_remove_pd(verbs, &pds[17]), 0);
	get_and_put(&pds[256], mem, PAGE, 0);
}

TEST(memory_that_is_short_makes_room_first_and_then_a_sentence)
{
	struct invlock_verbs_pin pin;

	fake_verbs.max_bytes = 4 * PAGE;
	/* what is idle goes */
	for (int i = 0; i < 16; i++)
		get_and_put(&pds[0], mem + i * PAGE, PAGE, 0);
	/* what is in use stays */
	assert_int_equal(invlock_verbs_get(verbs, &pds[0], mem, 4 * PAGE, 0, &pin), 0);
	assert_int_equal(invlock_verbs_get(verbs, &pds[0], mem + 8 * PAGE, PAGE, 0,
					   &(struct invlock_verbs_pin){}), -ENOMEM);
	invlock_verbs_explain(verbs, mem, PAGE, 0, -ENOMEM, &why);
	assert_non_null(strstr(why.text, "that are registered"));
	assert_int_equal(invlock_verbs_put(&pin), 0);
}

TEST(the_limit_is_that_of_memlock_if_none_is_named)
{
	struct rlimit old, low;

	assert_int_equal(getrlimit(RLIMIT_MEMLOCK, &old), 0);
	reopen((struct invlock_verbs_options){ .max_bytes = 2 * PAGE });
	assert_int_equal(stats_now().max_bytes, 2 * PAGE);
	refused(&pds[0], IBV_ACCESS_ON_DEMAND, -EINVAL, "ON_DEMAND");
	get_and_put(&pds[0], mem, 2 * PAGE, 0);
	assert_int_equal(invlock_verbs_get(verbs, &pds[0], mem, 3 * PAGE, 0,
					   &(struct invlock_verbs_pin){}), -ENOSPC);
	invlock_verbs_explain(verbs, mem, 3 * PAGE, 0, -ENOSPC, &why);
	assert_non_null(strstr(why.text, "the limit is"));
	if (!geteuid())
		return;	/* whom memlock does not limit */
	low = (struct rlimit){ 5 * PAGE, old.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &low), 0);
	reopen((struct invlock_verbs_options){});
	assert_int_equal(stats_now().max_bytes, 5 * PAGE);
	assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &old), 0);
}

/* what a get says that finds no room, while a region of so many pages is in use */
static void full(struct invlock_verbs_options o, size_t used, size_t len, const char *words)
{
	struct invlock_verbs_pin pin, other;

	reopen(o);
	assert_int_equal(invlock_verbs_get(verbs, &pds[0], mem, used, 0, &pin), 0);
	assert_int_equal(invlock_verbs_get(verbs, &pds[0], mem + LEN / 2, len, 0, &other),
			 -ENOSPC);
	invlock_verbs_explain(verbs, mem + LEN / 2, len, 0, -ENOSPC, &why);
	if (!strstr(why.text, words))
		fail_msg("\"%s\" does not say \"%s\"", why.text, words);
	assert_int_equal(invlock_verbs_put(&pin), 0);
}

TEST(the_sentence_names_the_limit_that_is_reached)
{
	struct invlock_verbs_options bytes = { .max_bytes = 4 * PAGE };
	struct invlock_verbs_options entries = { .max_bytes = 4 * PAGE, .max_entries = 1 };

	full(bytes, 3 * PAGE, 2 * PAGE, "find no room beside");
	full(bytes, PAGE, 5 * PAGE, "or register the memory in pieces");
	full(entries, PAGE, PAGE, "max_entries is reached, and all of the 1 regions");
	assert_int_equal(invlock_verbs_explain(verbs, mem, PAGE, 0, 0, &why), 0);
	assert_non_null(strstr(why.text, "did not fail"));
}

TEST(a_device_that_is_gone_is_named_and_its_domain_can_be_removed)
{
	get_and_put(&pds[0], mem, PAGE, 0);
	fake_verbs.fail_with = EIO;
	fake_verbs.fail_times = -1;
	fake_verbs.dereg_fails = EIO;
	refused(&pds[0], REMOTE, -EIO, "gone away");
	assert_int_equal(invlock_verbs_remove_pd(verbs, &pds[0]), 0);
	assert_int_equal(stats_now().regions, 0);
	assert_int_equal(stats_now().failed_deregs, 1);
}

TEST(an_adapter_is_not_closed_while_a_region_is_in_use)
{
	struct invlock_verbs_pin pin;

	assert_int_equal(invlock_verbs_get(verbs, &pds[0], mem, PAGE, 0, &pin), 0);
	assert_int_equal(invlock_verbs_close(verbs), -EBUSY);
	assert_int_equal(invlock_verbs_put(&pin), 0);
}

static int in_forked_child(void)
{
	struct invlock_verbs_stats s = { .size = sizeof(s) };
	unsigned int before = fake_verbs.nr_dereg;
	struct invlock_verbs_pin pin;

	return invlock_verbs_get(verbs, &pds[0], mem, PAGE, 0, &pin) != -EOWNERDEAD ||
	       invlock_verbs_remove_pd(verbs, &pds[0]) != -EOWNERDEAD ||
	       invlock_verbs_stats(verbs, &s) != -EOWNERDEAD ||
	       invlock_verbs_close(verbs) || fake_verbs.nr_dereg != before;
}

TEST(a_forked_child_has_no_regions_and_takes_none_away)
{
	get_and_put(&pds[0], mem, PAGE, 0);
	assert_int_equal(in_child(in_forked_child), 0);
	get_and_put(&pds[0], mem, PAGE, 0);
	assert_int_equal(fake_verbs.nr_reg, 1);
}

#define ROUNDS	2000

static atomic_uint nr_wrong;

static void *use_regions(void *arg)
{
	unsigned int seed = (unsigned int)(uintptr_t)arg;

	for (int i = 0; i < ROUNDS; i++) {
		struct ibv_pd *pd = &pds[rand_r(&seed) % 3];
		unsigned int access = rand_r(&seed) & 64 ? REMOTE : IBV_ACCESS_LOCAL_WRITE;
		struct invlock_verbs_pin pin;
		char *at = mem + rand_r(&seed) % 15 * PAGE;
		int err = invlock_verbs_get(verbs, pd, at, PAGE, access, &pin);

		if (err) {
			nr_wrong += err != -EBUSY;
			continue;
		}
		nr_wrong += !fake_is_live(pin.lkey, pd, access) || pin.mr->pd != pd;
		if (rand_r(&seed) % 4 == 0 && (invlock_manual_start(mm, at, PAGE) ||
					       invlock_manual_end(mm, at, PAGE)))
			nr_wrong++;
		nr_wrong += !fake_is_live(pin.lkey, pd, access);
		invlock_verbs_put(&pin);
	}
	return NULL;
}

/* The fourth domain comes and goes all the time. */
static void *add_and_remove(__attribute__((unused)) void *arg)
{
	for (int i = 0; i < ROUNDS / 4; i++) {
		struct invlock_verbs_pin pin;

		if (!invlock_verbs_get(verbs, &pds[3], mem + i % 15 * PAGE, PAGE, 0, &pin)) {
			nr_wrong += !fake_is_live(pin.lkey, &pds[3], IBV_ACCESS_LOCAL_WRITE);
			invlock_verbs_put(&pin);
		}
		nr_wrong += !!invlock_verbs_remove_pd(verbs, &pds[3]);
	}
	return NULL;
}

TEST(threads_share_domains_that_come_and_go)
{
	pthread_t threads[4];

	reopen((struct invlock_verbs_options){ .flags = INVLOCK_VERBS_REAPER, .reap_ms = 1 });
	for (uintptr_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL,
						i ? use_regions : add_and_remove, (void *)i), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(nr_wrong, 0);
}

TEST_MAIN(.setup = setup, .teardown = teardown)
