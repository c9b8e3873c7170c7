// SPDX-License-Identifier: MIT
#include "device.h"

#include <json-c/json.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "tool_rig.h"

#define TOOL	"/bin/invlock"

static struct ran ran;

#define RUN(program, ...) RUN_PROGRAM(program, AS_WE_ARE, &ran, __VA_ARGS__)

static struct json_object *member(struct json_object *o, const char *key)
{
	struct json_object *found;

	if (!json_object_object_get_ex(o, key, &found))
		fail_msg("no member \"%s\" in: %s", key, ran.out);
	return found;
}

static struct json_object *answer(void)
{
	struct json_object *o = json_tokener_parse(ran.out);

	if (!o)
		fail_msg("exit code %d: %s%s", ran.code, ran.out, ran.err);
	return o;
}

void check_doctor(const char *monitor)
{
	struct json_object *o, *m;

	RUN(TOOL, "invlock", "doctor", "--json", "--monitor", (char *)monitor);
	o = answer();
	m = json_object_array_get_idx(member(o, "monitors"), 0);
	print_message("# %s: usable %s, self-test %s. %s%s\n", monitor,
		      json_object_get_string(member(m, "usable")),
		      json_object_get_string(member(m, "selftest")),
		      json_object_get_string(member(m, "reason")),
		      json_object_get_string(member(m, "selftest_reason")));
	assert_string_equal(json_object_get_string(member(m, "name")), monitor);
	assert_string_equal(json_object_get_string(member(m, "selftest")), "passed");
	assert_int_equal(ran.code, 0);
	json_object_put(o);
}

void need_monitor(const char *monitor)
{
	struct json_object *o, *m;

	RUN(TOOL, "invlock", "doctor", "--json", "--monitor", (char *)monitor);
	o = answer();
	m = json_object_array_get_idx(member(o, "monitors"), 0);
	if (strcmp(json_object_get_string(member(m, "usable")), "true"))
		TEST_SKIP("%s", json_object_get_string(member(m, "reason")));
	json_object_put(o);
}

void check_chosen(const char *monitor)
{
	struct json_object *o;

	RUN(TOOL, "invlock", "doctor", "--json");
	o = answer();
	assert_string_equal(json_object_get_string(member(o, "chosen")), monitor);
	json_object_put(o);
}

/* Mount a file system in memory on which direct I/O works. All tests use the same one. */
static void mount_disk(void)
{
	static bool mounted;
	char device[32], size[64];
	FILE *control;
	int nr;

	if (mounted)
		return;
	/* to read this file makes another device, and returns its number */
	control = fopen("/sys/class/zram-control/hot_add", "r");
	if (!control)
		TEST_SKIP("this kernel has no zram: %s", strerror(errno));
	assert_int_equal(fscanf(control, "%d", &nr), 1);
	fclose(control);
	snprintf(device, sizeof(device), "/dev/zram%d", nr);
	snprintf(size, sizeof(size), "/sys/block/zram%d/disksize", nr);
	assert_true(write_file(size, "160M"));
	RUN("/bin/busybox", "mke2fs", "-F", "-b", "4096", device);
	if (ran.code)
		fail_msg("mke2fs: %s%s", ran.out, ran.err);
	mkdir("/tmp/disk", 0755);
	if (mount(device, "/tmp/disk", "ext4", 0, NULL))
		TEST_SKIP("no ext4 here: %s", strerror(errno));
	assert_int_equal(setenv("TMPDIR", "/tmp/disk", 1), 0);
	mounted = true;
}

/* Return: did the naive cache use stale registrations, and did invlock hit, in so many seconds? */
static bool prove_shows_something(const char *monitor, const char *device, const char *seconds)
{
	struct json_object *o, *columns;
	int64_t invlock, naive, hits;

	RUN(TOOL, "invlock", "prove", "--json", "--monitor", (char *)monitor, "--device",
	    (char *)device, "--seconds", (char *)seconds, "--threads", "2");
	o = answer();
	columns = member(o, "columns");
	invlock = json_object_get_int64(member(member(columns, "invlock"), "stale"));
	naive = json_object_get_int64(member(member(columns, "naive"), "stale"));
	hits = json_object_get_int64(member(member(columns, "invlock"), "hits"));
	print_message("# %s\n# stale: invlock %lld, naive %lld, hits %lld\n",
		      json_object_get_string(member(o, "verdict")), (long long)invlock,
		      (long long)naive, (long long)hits);
	assert_string_equal(json_object_get_string(member(o, "monitor")), monitor);
	assert_string_equal(json_object_get_string(member(o, "device")), device);
	assert_int_equal(invlock, 0);
	json_object_put(o);
	/* a slow machine may have few hits, and then the exit code is 1: do not look at it */
	return naive > 0 && hits > 0;
}

void check_prove(const char *monitor, const char *device)
{
	mount_disk();
	/* give a slow machine more time */
	assert_true(prove_shows_something(monitor, device, "4") ||
		    prove_shows_something(monitor, device, "20") ||
		    prove_shows_something(monitor, device, "100"));
}

bool is_listed(pid_t pid, const char *monitor, uid_t uid, enum surroundings who_asks)
{
	struct json_object *o, *feeds, *f;
	bool listed = false;

	RUN_PROGRAM(TOOL, who_asks, &ran, "invlock", "ps", "--json", "--no-cost");
	assert_int_equal(ran.code, 0);
	o = answer();
	feeds = member(o, "feeds");
	for (size_t i = 0; i < json_object_array_length(feeds); i++) {
		f = json_object_array_get_idx(feeds, i);
		if (json_object_get_int(member(f, "pid")) != pid)
			continue;
		assert_string_equal(json_object_get_string(member(f, "monitor")), monitor);
		assert_int_equal(json_object_get_int(member(f, "uid")), uid);
		listed = true;
	}
	json_object_put(o);
	return listed;
}
