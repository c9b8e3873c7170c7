// SPDX-License-Identifier: MIT
/* What a registration that is kept too long delivers: the reason why the adapters exist. */
#include <string.h>
#include <sys/mman.h>

#include "loop.h"
#include "tests/test.h"
#include "torn.h"

#define LEN	65536

static struct loop loop;
static struct torn *torn;
static char *peer;
static struct ibv_mr *peer_mr;

static int setup(void **state)
{
	const char *error = loop_open(&loop, NULL);

	(void)state;
	if (error) {
		fprintf(stderr, "%s\n", error);
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
	ibv_dereg_mr(peer_mr);
	loop_close(&loop);
	return 0;
}

static bool is_all(const char *mem, char byte)
{
	return mem[0] == byte && !memcmp(mem, mem + 1, LEN - 1);
}

/* Sends and receives by a registration that was made before the change. */
static void try_change(enum torn_change change)
{
	bool harmful = torn_is_harmful(change);
	char *mem = torn_memory(torn, change), *after;
	struct ibv_mr *kept;

	memset(mem, 'o', LEN);
	kept = ibv_reg_mr(loop.pd, mem, LEN, LOOP_ACCESS);
	assert_non_null(kept);
	after = torn_tear(torn, change);
	if (!after) {
		ibv_dereg_mr(kept);
		return;
	}
	assert_ptr_equal(after, mem);
	memset(mem, 'n', LEN);
	memset(peer, '-', LEN);
	/* the device does not notice: its status is always success */
	assert_int_equal(loop_request(&loop, IBV_WR_RDMA_WRITE, mem, kept->lkey, peer,
				      peer_mr->rkey, LEN), IBV_WC_SUCCESS);
	if (!is_all(peer, harmful ? 'o' : 'n'))
		fail_msg("%s: sent '%c'", torn_names[change], peer[0]);
	memset(peer, 'p', LEN);
	assert_int_equal(loop_request(&loop, IBV_WR_RDMA_READ, mem, kept->lkey, peer,
				      peer_mr->rkey, LEN), IBV_WC_SUCCESS);
	if (!is_all(mem, harmful ? 'n' : 'p'))
		fail_msg("%s: received '%c'", torn_names[change], mem[0]);
	ibv_dereg_mr(kept);
}

TEST(a_registration_that_is_kept_goes_stale_in_both_directions)
{
	for (enum torn_change change = 0; change < TORN_NR; change++)
		if (torn_is_harmful(change))
			try_change(change);
}

TEST(a_registration_that_is_kept_stays_right_when_the_pages_stay)
{
	for (enum torn_change change = 0; change < TORN_NR; change++)
		if (!torn_is_harmful(change))
			try_change(change);
}

TEST_MAIN(.before_all = setup, .after_all = teardown)
