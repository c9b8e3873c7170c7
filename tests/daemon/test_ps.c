// SPDX-License-Identifier: MIT
/* invlock ps, where the daemon gives the feeds. */
#include <json-c/json.h>
#include "rig.h"
#include "tests/tool/rig.h"

static struct ran ran;

/* Is a feed of the daemon listed that this process has? */
static bool is_listed(pid_t pid)
{
	struct json_object *o = json_tokener_parse(ran.out), *feeds, *found;
	bool listed = false;

	assert_non_null(o);
	assert_true(json_object_object_get_ex(o, "feeds", &feeds));
	for (size_t i = 0; i < json_object_array_length(feeds); i++) {
		struct json_object *f = json_object_array_get_idx(feeds, i);

		assert_true(json_object_object_get_ex(f, "pid", &found));
		if (json_object_get_int(found) != pid)
			continue;
		assert_true(json_object_object_get_ex(f, "monitor", &found));
		assert_string_equal(json_object_get_string(found), "daemon");
		assert_true(json_object_object_get_ex(f, "state", &found));
		assert_string_equal(json_object_get_string(found), "open");
		listed = true;
	}
	json_object_put(o);
	return listed;
}

static void become_another(void)
{
	become(NOBODY - 1);
}

TEST(root_sees_all_feeds_of_the_daemon_and_a_user_its_own)
{
	struct other nobodys, anothers;

	daemon_start("");
	other_start(&nobodys, become_nobody);
	other_start(&anothers, become_another);
	assert_int_equal(other_do(&nobodys, OPEN), 0);
	assert_int_equal(other_do(&anothers, OPEN), 0);
	RUN_PROGRAM(getenv("INVLOCK_TOOL"), AS_WE_ARE, &ran, "invlock", "ps", "-jn");
	assert_int_equal(ran.code, 0);
	assert_true(is_listed(nobodys.pid));
	assert_true(is_listed(anothers.pid));
	RUN_PROGRAM(getenv("INVLOCK_TOOL"), AS_NOBODY, &ran, "invlock", "ps", "-jn");
	assert_int_equal(ran.code, 0);
	assert_true(is_listed(nobodys.pid));
	assert_false(is_listed(anothers.pid));
	other_end(&nobodys, 0);
	other_end(&anothers, 0);
	daemon_end(0);
}

TEST_MAIN(.teardown = daemon_gone)
