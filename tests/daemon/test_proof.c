// SPDX-License-Identifier: MIT
/* The proof of the command, by a user without privileges, through the daemon. */
#include "rig.h"
#include "tests/prove/rig.h"

static struct said said;

TEST(nobody_proves_through_the_daemon_that_nothing_is_stale)
{
	const struct as nobody = { .uid = NOBODY };

	daemon_start("");
	PROVE_UNTIL_JUDGED(&said, &nobody, "--monitor", "daemon");
	daemon_end(0);
	expect_proof(&said);
	/* It says which monitor it has used, and names no kind that is not exact. */
	assert_non_null(strstr(said.out, "daemon"));
	assert_null(strstr(said.out, "not exact"));
}

TEST_MAIN(.teardown = daemon_gone)
