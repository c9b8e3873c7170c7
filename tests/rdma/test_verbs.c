// SPDX-License-Identifier: MIT
/* The adapter for verbs with a device, whose data is the judge. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <invlock/verbs.h>

#include "loop.h"
#include "tests/test.h"
#include "torn.h"

#define LEN		16384
#define MESSAGES	1200

static struct loop loop;
static struct torn *torn;
static struct invlock_mm *mm;
static struct invlock_verbs *verbs;
static char *peer;
static struct ibv_mr *peer_mr;

static int setup(void **state)
{
	struct invlock_mm_options watch = {
		.size = sizeof(watch), .need = INVLOCK_KINDS_DEFAULT,
	};
	/* a busy machine may leave a CPU out for longer than the default of one second */
	struct invlock_verbs_options options = {
		.size = sizeof(options), .time_ns = 60000000000,
	};
	const char *error = loop_open(&loop, NULL);
	struct invlock_why why;

	(void)state;
	if (error || invlock_mm_open(&watch, &mm, &why) ||
	    invlock_verbs_open(mm, &options, &verbs, &why)) {
		fprintf(stderr, "%s\n", error ?: why.text);
		return -1;
	}
	torn = torn_open(LEN);
	peer = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	peer_mr = ibv_reg_mr(loop.pd, peer, LEN, LOOP_ACCESS);
	return peer_mr ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	if (invlock_verbs_close(verbs) || ibv_dereg_mr(peer_mr))
		return -1;
	invlock_mm_close(mm);
	loop_close(&loop);
	return 0;
}

/*
 * One message by this region, with the memory at either end and in either direction. Return: where
 * it has to arrive
 */
static const char *message(int way, char *mem, uint32_t lkey, uint32_t rkey, unsigned char byte)
{
	bool send = way & 1;
	int status;

	memset(send ? mem : peer, byte, LEN);
	memset(send ? peer : mem, 0, LEN);
	if (way & 2)	/* the device reads or writes the memory for a peer, by its rkey */
		status = loop_request(&loop, send ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE, peer,
				      peer_mr->lkey, mem, rkey, LEN);
	else
		status = loop_request(&loop, send ? IBV_WR_RDMA_WRITE : IBV_WR_RDMA_READ, mem, lkey,
				      peer, peer_mr->rkey, LEN);
	assert_int_equal(status, IBV_WC_SUCCESS);
	return send ? peer : mem;
}

static unsigned int sum(const unsigned int *counts)
{
	unsigned int all = 0;

	for (int i = 0; i < TORN_NR; i++)
		all += counts[i];
	return all;
}

static void print(const struct torn_tally *tally)
{
	for (int i = 0; i < TORN_NR; i++)
		if (tally->sent[i])
			printf("#   %s: %u stale of %u\n", torn_names[i], tally->stale[i],
			       tally->sent[i]);
}

TEST(a_region_from_the_adapter_stays_right_whatever_changes)
{
	struct invlock_cache_stats stats = { .size = sizeof(stats) };
	struct torn_tally tally = {};
	unsigned int seed = 1;

	for (int i = 0; i < MESSAGES; i++) {
		enum torn_change change = torn_next(&seed);
		char *mem = torn_tear(torn, change);
		struct invlock_verbs_pin pin;

		if (!mem)
			continue;
		assert_int_equal(invlock_verbs_get(verbs, loop.pd, mem, LEN, LOOP_ACCESS, &pin), 0);
		torn_judge(&tally, change, message(i, mem, pin.lkey, pin.rkey, 1 + i % 255), LEN,
			   1 + i % 255);
		assert_int_equal(invlock_verbs_put(&pin), 0);
	}
	print(&tally);
	invlock_cache_stats(invlock_verbs_cache(verbs), &stats);
	printf("#   %u messages, %u stale; %llu hits, %llu misses\n", sum(tally.sent),
	       sum(tally.stale), (unsigned long long)stats.hits, (unsigned long long)stats.misses);
	assert_int_equal(sum(tally.stale), 0);
	assert_true(sum(tally.sent) >= 1000);
	assert_true(stats.hits * 3 > stats.misses);
}

/* The control: the same messages, with regions that are registered once. */
TEST(a_region_that_nobody_checks_is_stale_after_each_kind_of_change)
{
	struct { char *mem; struct ibv_mr *mr; } kept[TORN_NR] = {};
	struct torn_tally tally = {};
	unsigned int seed = 1;

	for (int i = 0; i < MESSAGES / 4; i++) {
		enum torn_change change = torn_next(&seed);
		char *mem = torn_tear(torn, change);
		int k = 0;

		if (!mem)
			continue;
		while (kept[k].mem && kept[k].mem != mem)
			k++;
		if (!kept[k].mem) {
			kept[k].mem = mem;
			kept[k].mr = ibv_reg_mr(loop.pd, mem, LEN, LOOP_ACCESS);
			assert_non_null(kept[k].mr);
		}
		torn_judge(&tally, change, message(i, mem, kept[k].mr->lkey, kept[k].mr->rkey,
						   1 + i % 255), LEN, 1 + i % 255);
	}
	for (int k = 0; k < TORN_NR; k++)
		if (kept[k].mr)
			ibv_dereg_mr(kept[k].mr);
	print(&tally);
	assert_true(sum(tally.stale) * 2 > sum(tally.sent));
}

TEST(a_domain_that_is_freed_first_stays_until_it_is_removed)
{
	struct ibv_pd *pd = ibv_alloc_pd(loop.context);
	struct invlock_verbs_pin pin;

	assert_non_null(pd);
	assert_int_equal(invlock_verbs_get(verbs, pd, peer, LEN, 0, &pin), 0);
	assert_int_equal(invlock_verbs_put(&pin), 0);
	assert_int_equal(ibv_dealloc_pd(pd), EBUSY);
	assert_int_equal(invlock_verbs_remove_pd(verbs, pd), 0);
	assert_int_equal(ibv_dealloc_pd(pd), 0);
}

TEST(a_region_for_reading_alone_sees_what_is_written_later)
{
	char *mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct invlock_verbs_pin pin;

	/* never touched before it is registered, and without the right to write */
	assert_int_equal(invlock_verbs_get(verbs, loop.pd, mem, LEN, IBV_ACCESS_REMOTE_READ, &pin),
			 0);
	for (int i = 1; i < 5; i++) {
		struct torn_tally tally = {};

		torn_judge(&tally, TORN_NOTHING, message(1, mem, pin.lkey, pin.rkey, i), LEN, i);
		assert_int_equal(tally.stale[TORN_NOTHING], 0);
	}
	assert_int_equal(invlock_verbs_put(&pin), 0);
	munmap(mem, LEN);
}

TEST(the_parents_regions_stay_right_beside_a_child_that_writes)
{
	char *mem = torn_memory(torn, TORN_NOTHING);
	struct invlock_verbs_pin pin;
	struct torn_tally tally = {};
	pid_t child;
	int status;

	for (int i = 0; i < 20; i++) {
		assert_int_equal(invlock_verbs_get(verbs, loop.pd, mem, LEN, LOOP_ACCESS, &pin), 0);
		child = fork();
		if (!child) {
			memset(mem, 0xcc, LEN);
			_exit(invlock_verbs_get(verbs, loop.pd, mem, LEN, 0, &pin) != -EOWNERDEAD);
		}
		torn_judge(&tally, TORN_NOTHING, message(i, mem, pin.lkey, pin.rkey, i + 1), LEN,
			   i + 1);
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_int_equal(status, 0);
		assert_int_equal(invlock_verbs_put(&pin), 0);
	}
	assert_int_equal(tally.stale[TORN_NOTHING], 0);
}

TEST_MAIN(.before_all = setup, .after_all = teardown)
