// SPDX-License-Identifier: MIT
/* What the command says on a kernel that is locked down, as with Secure Boot. */
#include <json-c/json.h>
#include <sys/klog.h>

#include "lib/lockdown.h"
#include "tests/test.h"
#include "tests/tool/rig.h"

#define READ_ALL_OF_THE_LOG	3	/* klogctl() has no name for it */

static struct ran ran;

#define RUN(program, ...) RUN_PROGRAM(program, AS_WE_ARE, &ran, __VA_ARGS__)

/* Fails unless the words are in the text, in this order. */
static void has(const char *text, const char *const *words)
{
	const char *at = text;

	for (; *words; words++) {
		at = strstr(at, *words);
		if (!at)
			fail_msg("\"%s\" is not where it should be in: %s", *words, text);
	}
}

#define HAS(text, ...) has(text, (const char *const[]){ __VA_ARGS__, NULL })

/* Runs doctor for one monitor. Return: its object, a part of *ret_all. */
static struct json_object *ask(char *monitor, struct json_object **ret_all)
{
	struct json_object *monitors;

	RUN("/bin/invlock", "invlock", "doctor", "--json", "--monitor", monitor);
	*ret_all = json_tokener_parse(ran.out);
	assert_non_null(*ret_all);
	assert_true(json_object_object_get_ex(*ret_all, "monitors", &monitors));
	return json_object_array_get_idx(monitors, 0);
}

static const char *text(struct json_object *o, const char *key)
{
	struct json_object *found;

	assert_true(json_object_object_get_ex(o, key, &found));
	return json_object_get_string(found);
}

TEST(this_kernel_is_locked_down)
{
	assert_non_null(lockdown_mode());
	print_message("# %s\n", lockdown_mode());
}

static bool log_says(const char *words)
{
	static char log[1 << 18];
	int len = klogctl(READ_ALL_OF_THE_LOG, log, sizeof(log) - 1);

	log[len > 0 ? len : 0] = '\0';
	return strstr(log, words);
}

/* docs/install-module.md quotes what is seen here */
TEST(a_module_without_a_signature_is_refused_however_it_is_loaded)
{
	bool said = false;

	/* Of many things that lockdown restricts, the kernel logs only ten in five seconds. */
	for (int i = 0; i < 20 && !said; i++) {
		if (i)
			sleep(1);
		RUN("/bin/busybox", "insmod", "/modules/invlock.ko");
		assert_int_not_equal(ran.code, 0);
		HAS(ran.err, "Operation not permitted");
		said = log_says("unsigned module loading is restricted");
	}
	assert_true(said);
}

TEST(doctor_says_of_the_module_that_it_has_to_be_signed)
{
	struct json_object *all, *kmod = ask("kmod", &all);

	assert_string_equal(text(kmod, "usable"), "false");
	HAS(text(kmod, "reason"), "locked down (", lockdown_mode(), "signed", "invlock.ko(4)");
	assert_null(strstr(text(kmod, "reason"), "modprobe"));
	json_object_put(all);
}

TEST(with_integrity_bpf_is_at_functions_and_with_confidentiality_doctor_says_why_not)
{
	struct json_object *all, *bpf = ask("bpf", &all);

	print_message("# %s%s\n", text(bpf, "reason"), text(bpf, "how"));
	if (!strcmp(lockdown_mode(), "integrity")) {
		assert_string_equal(text(bpf, "usable"), "true");
		assert_string_equal(text(bpf, "selftest"), "passed");
		assert_string_equal(text(all, "chosen"), "bpf");
		HAS(text(bpf, "how"), "at the functions");
	} else {
		assert_string_equal(text(bpf, "usable"), "false");
		HAS(text(bpf, "reason"), "locked down for confidentiality", "lockdown=integrity");
	}
	json_object_put(all);
}

TEST_MAIN()
