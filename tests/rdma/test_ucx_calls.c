// SPDX-License-Identifier: MIT
/* Each call of UCX that takes memory of a program: alone it goes stale, with the preload never. */
#include "command.h"

#define CALLS		24	/* that ucx_calls makes */
#define EACH_ALONE	100	/* messages of each call */
#define EACH_WITH	300

struct counted {
	char name[32];
	unsigned int messages, stale;
};

struct results {
	struct counted calls[CALLS];
	unsigned int nr;
	unsigned long checks, forgotten, unknown;
};

/* UCX 1.13 copies what an atomic operation returns, and the pieces of a long tagged message. */
static bool is_copied(const char *name)
{
	return !strncmp(name, "atomic", 6) || !strncmp(name, "tag_pieces", 10);
}

static struct results run_calls(const char *environment, unsigned int messages)
{
	struct results r = {};
	char line[4096], name[32];
	FILE *said;

	snprintf(line, sizeof(line), "UCX_ZCOPY_THRESH=8192 %s timeout 200 ucx_calls %u "
		 "2>&1 < /dev/null", environment, messages);
	said = popen(line, "r");
	assert_non_null(said);
	while (fgets(line, sizeof(line), said)) {
		struct counted *last = &r.calls[r.nr ? r.nr - 1 : 0];

		printf("#   %s", line);
		if (r.nr < CALLS && sscanf(line, "call %31s", name) == 1)
			strcpy(r.calls[r.nr++].name, name);
		sscanf(line, "%u stale of %u messages", &last->stale, &last->messages);
		sscanf(line, "invlock: UCX, process %*d: %lu checks, %lu forgotten, of which %lu",
		       &r.checks, &r.forgotten, &r.unknown);
	}
	assert_int_equal(pclose(said), 0);
	fflush(stdout);
	assert_int_equal(r.nr, CALLS);
	return r;
}

TEST(each_call_alone_goes_stale)
{
	struct results r;

	need_verbs_of_ucx();
	r = run_calls("", EACH_ALONE);

	for (unsigned int i = 0; i < CALLS; i++) {
		assert_true(r.calls[i].messages > EACH_ALONE / 2);
		if (!r.calls[i].stale && !is_copied(r.calls[i].name))
			fail_msg("%s: no message was stale", r.calls[i].name);
	}
}

TEST(each_call_with_the_preload_stays_right)
{
	struct results r;

	need_verbs_of_ucx();
	r = run_calls("INVLOCK_STATS=1 " PRELOAD, enough_of(EACH_WITH));

	for (unsigned int i = 0; i < CALLS; i++) {
		assert_true(r.calls[i].messages > enough_of(EACH_WITH) / 2);
		if (r.calls[i].stale)
			fail_msg("%s: %u of %u were stale", r.calls[i].name, r.calls[i].stale,
				 r.calls[i].messages);
	}
	/* UCX keeps what has not changed */
	assert_true(r.checks > 2 * r.forgotten);
	assert_int_equal(r.unknown, 0);
}

TEST_MAIN()
