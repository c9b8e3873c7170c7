// SPDX-License-Identifier: MIT
/* invlock doctor and invlock prove agree on the monitor, whoever runs them. */
#include <json-c/json.h>

#include "tests/test.h"
#include "rig.h"

static struct ran ran;

#define RUN(where, ...) RUN_PROGRAM(TOOL, where, &ran, "invlock", __VA_ARGS__)

/* The string of this name in what was printed, or "" if it is null. */
static void read_text(const char *key, char ret[20])
{
	struct json_object *o = json_tokener_parse(ran.out), *found;

	if (!json_object_object_get_ex(o, key, &found))
		fail_msg("no member \"%s\" in %s%s", key, ran.out, ran.err);
	snprintf(ret, 20, "%s", found ? json_object_get_string(found) : "");
	json_object_put(o);
}

static void compare(enum surroundings where, const char *environment)
{
	char chosen[20], fewer[20], used[20];

	if (environment)
		setenv("INVLOCK_MONITOR", environment, 1);
	RUN(where, "doctor", "--json");
	if (ran.code == NO_SURROUNDINGS)
		TEST_SKIP("these surroundings cannot be had here");
	read_text("chosen", chosen);
	read_text("with_fewer_kinds", fewer);
	RUN(where, "prove", "--seconds", "1", "--json");
	unsetenv("INVLOCK_MONITOR");
	if (*chosen || *fewer) {
		read_text("monitor", used);
		assert_string_equal(used, *chosen ? chosen : fewer);
	} else {
		assert_in_range(ran.code, 2, 3);
		assert_string_equal(ran.out, "");
		assert_true(*ran.err);
	}
}

TEST(with_our_rights)
{
	compare(AS_WE_ARE, NULL);
}

TEST(as_an_ordinary_user)
{
	if (geteuid())
		TEST_SKIP("only root can become another user");
	compare(AS_NOBODY, NULL);
}

TEST(in_a_user_namespace)
{
	compare(IN_USER_NAMESPACE, NULL);
}

TEST(when_the_environment_names_a_monitor)
{
	static const char *const names[] = { "kmod", "bpf", "daemon", "uffd", "manual",
					     "crystal-ball" };

	for (unsigned int i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		compare(AS_WE_ARE, names[i]);
		if (!geteuid())
			compare(AS_NOBODY, names[i]);
	}
}

TEST_MAIN()
