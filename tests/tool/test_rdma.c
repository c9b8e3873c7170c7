// SPDX-License-Identifier: MIT
/* What doctor finds out about RDMA: on a machine that this test makes up, and on this one. */
#include <fcntl.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rig.h"
#include "tests/test.h"
#include "tool/doctor/rdma.h"

#define NOT_HERE	"libinvlock-test-that-nobody-has.so.1"

static char folder[] = "/tmp/invlock-rdma-XXXXXX";
static char devices[100], nodes[100], broken[100];
static struct rdma_places places;
static struct rdma rdma;
static struct ran ran;

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

/* A device as sysfs shows it. @open: with a node that can be opened */
static void add_device(const char *entry, const char *name, bool open)
{
	char path[300];

	snprintf(path, sizeof(path), "%s/%s", devices, entry);
	assert_int_equal(mkdir(path, 0755), 0);
	snprintf(path, sizeof(path), "%s/%s/ibdev", devices, entry);
	write_file(path, name);
	snprintf(path, sizeof(path), "%s/%s", nodes, entry);
	if (open)
		write_file(path, "");
}

static int setup(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(devices, sizeof(devices), "%s/devices", folder);
	snprintf(nodes, sizeof(nodes), "%s/nodes", folder);
	snprintf(broken, sizeof(broken), "%s/broken.so", folder);
	assert_int_equal(mkdir(devices, 0755) | mkdir(nodes, 0755), 0);
	write_file(broken, "no library");
	return 0;
}

static int teardown(void **state)
{
	char command[200];

	(void)state;
	snprintf(command, sizeof(command), "rm -r %s", folder);
	return system(command);
}

static void probe_elsewhere(void)
{
	memset(&rdma, 0, sizeof(rdma));
	probe_rdma(&rdma, &places);
}

static void reset(void)
{
	places = (struct rdma_places){ devices, nodes, NOT_HERE, NOT_HERE, "/nowhere", "/nowhere" };
	memset(&rdma, 0, sizeof(rdma));
}

typedef void text_of(const struct rdma *rdma, struct invlock_why *ret_text);

static void says(text_of *text, const char *expected)
{
	struct invlock_why why;

	text(&rdma, &why);
	if (!strstr(why.text, expected))
		fail_msg("not said: \"%s\" in \"%s\"", expected, why.text);
}

static void does_not_say(text_of *text, const char *unexpected)
{
	struct invlock_why why;

	text(&rdma, &why);
	if (strstr(why.text, unexpected))
		fail_msg("said: \"%s\" in \"%s\"", unexpected, why.text);
}

TEST(a_machine_without_rdma_has_nothing)
{
	reset();
	places.devices = "/nowhere";
	probe_elsewhere();
	assert_false(rdma_is_here(&rdma));
	says(rdma_devices_text, "none.");
	says(rdma_libfabric_text, "not found");
	says(rdma_ucx_text, "not found");
}

TEST(a_library_that_cannot_be_loaded_is_called_by_its_error)
{
	reset();
	places.libfabric = broken;
	places.ucx = broken;
	probe_elsewhere();
	assert_true(rdma_is_here(&rdma));
	says(rdma_libfabric_text, "cannot be used: ");
	says(rdma_libfabric_text, "broken.so");
	says(rdma_ucx_text, "cannot be used: ");
}

TEST(devices_that_the_user_may_not_open_are_named)
{
	reset();
	add_device("uverbs0", "rxe0\n", true);
	add_device("uverbs1", "mlx5_0\n", true);
	probe_elsewhere();
	assert_int_equal(rdma.devices.nr, 2);
	says(rdma_devices_text, " and ");
	does_not_say(rdma_devices_text, "may not open");
	add_device("uverbs2", "mlx5_1\n", false);
	probe_elsewhere();
	assert_int_equal(rdma.devices.nr, 3);
	says(rdma_devices_text, "This user may not open mlx5_1: ask for");
}

TEST(many_devices_do_not_overflow_the_list)
{
	char entry[16], name[16];

	reset();
	for (int i = 10; i < 10 + 2 * MAX_NAMES; i++) {
		snprintf(entry, sizeof(entry), "uverbs%d", i);
		snprintf(name, sizeof(name), "rxe%d", i);
		add_device(entry, name, true);
	}
	probe_elsewhere();
	assert_int_equal(rdma.devices.nr, MAX_NAMES);
	says(rdma_devices_text, "rxe");
}

static struct rdma_library *made_up(struct rdma_library *l, const char *version)
{
	reset();
	l->found = true;
	strcpy(l->version, version);
	l->cached = (struct name_list){ 1, { "verbs" } };
	l->uncached = (struct name_list){ 2, { "tcp", "shm" } };
	return l;
}

TEST(libfabric_without_the_plug_in_has_the_variable_to_set)
{
	struct rdma_library *l = made_up(&rdma.libfabric, "1.17");

	says(rdma_libfabric_text, "1.17, without the plug-in, which is not installed: it is in the "
	     "package invlock-libfabric. Providers that use its cache of registrations: verbs; "
	     "that do not: tcp and shm");
	strcpy(l->installed, "/usr/lib/invlock/libfabric/libinvlock-fi.so");
	says(rdma_libfabric_text, "so cached registrations can go stale. Start programs with "
	     "FI_PROVIDER_PATH=/usr/lib/invlock/libfabric, and");
	l->cached.nr = 0;
	does_not_say(rdma_libfabric_text, "stale");
	says(rdma_libfabric_text, "No provider that works here uses its cache of registrations: "
	     "tcp and shm");
}

TEST(libfabric_with_the_plug_in_needs_no_advice)
{
	struct rdma_library *l = made_up(&rdma.libfabric, "2.1");

	strcpy(l->loaded, "/a/libinvlock-fi.so");
	says(rdma_libfabric_text, "2.1, with the plug-in /a/libinvlock-fi.so. Providers");
	l->disabled = true;
	says(rdma_libfabric_text, "FI_MR_CACHE_MONITOR=disabled switches its cache off");
	does_not_say(rdma_libfabric_text, "plug-in");
	l->too_old = true;
	says(rdma_libfabric_text, "too old to take the plug-in: 1.13 is needed");
}

TEST(ucx_has_the_variable_to_set)
{
	struct rdma_library *l = made_up(&rdma.ucx, "1.13.1");

	says(rdma_ucx_text, "1.13.1, without the preload, which is not installed: it is in the "
	     "package libinvlock-ucx0");
	strcpy(l->installed, "/a/preload.so");
	says(rdma_ucx_text, "can go stale. Start programs with LD_PRELOAD=/a/preload.so");
	strcpy(l->loaded, "/a/preload.so");
	says(rdma_ucx_text, "1.13.1, with the preload /a/preload.so");
	does_not_say(rdma_ucx_text, "Start");
}

/* Runs doctor on this machine. Return: its object of this library; @ret_all is to be put. */
static struct json_object *real(enum surroundings where, const char *library,
				struct json_object **ret_all)
{
	struct json_object *o;

	RUN_PROGRAM(TOOL, where, &ran, "invlock", "doctor", "--json", "--monitor", "manual");
	*ret_all = json_tokener_parse(ran.out);
	assert_non_null(*ret_all);
	assert_true(json_object_object_get_ex(*ret_all, "rdma", &o));
	assert_true(json_object_object_get_ex(o, library, &o));
	return o;
}

static bool flag(struct json_object *o, const char *key)
{
	struct json_object *found;

	assert_true(json_object_object_get_ex(o, key, &found));
	return json_object_get_boolean(found);
}

#if defined(PLUGIN_DIR) && defined(PRELOAD_FILE)
TEST(doctor_tells_whether_libfabric_loads_the_plug_in)
{
	struct json_object *all, *o = real(AS_WE_ARE, "libfabric", &all);

	if (!flag(o, "found"))
		TEST_SKIP("libfabric is not installed here");
	assert_false(flag(o, "loaded"));
	json_object_put(all);
	setenv("FI_PROVIDER_PATH", PLUGIN_DIR, 1);
	o = real(AS_WE_ARE, "libfabric", &all);
	unsetenv("FI_PROVIDER_PATH");
	assert_true(flag(o, "loaded"));
	assert_string_equal(ran.err, "");
	json_object_put(all);
}

TEST(doctor_tells_whether_the_preload_is_there)
{
	struct json_object *all, *o = real(AS_WE_ARE, "ucx", &all);

	if (!flag(o, "found"))
		TEST_SKIP("UCX is not installed here");
	assert_false(flag(o, "loaded"));
	json_object_put(all);
	if (IS_SANITIZED)
		TEST_SKIP("the runtime of a sanitizer must be loaded first");
	setenv("LD_PRELOAD", PRELOAD_FILE, 1);
	o = real(AS_WE_ARE, "ucx", &all);
	unsetenv("LD_PRELOAD");
	assert_true(flag(o, "loaded"));
	json_object_put(all);
}
#endif

TEST(without_privileges_the_answer_comes_too)
{
	struct json_object *all, *o = real(AS_NOBODY, "libfabric", &all);

	flag(o, "found");
	assert_string_equal(ran.err, "");
	json_object_put(all);
}

TEST_MAIN(.before_all = setup, .after_all = teardown)
