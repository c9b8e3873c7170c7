// SPDX-License-Identifier: MIT
/*
 * If a container forbids something, the next monitor is chosen, or the refusal names what is
 * missing.
 */
#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "calls.h"
#include "places.h"
#include "tests/seccomp.h"
#include "tests/test.h"

/* Skips the test if the monitor does not work even without a container. */
static void need(const char *monitor)
{
	struct rig rig;

	rig_open_or_skip(&rig, monitor);
	rig_close(&rig);
}

static bool empty_root(__attribute__((unused)) long arg)
{
	char name[] = "/tmp/invlock-root-XXXXXX";

	/*
	 * The directory is removed before it becomes the root, so nobody can put anything into it.
	 */
	return mkdtemp(name) && !chdir(name) && !rmdir(name) && !chroot(".");
}

static struct place_outcome in_empty_root(const char *monitor)
{
	struct place_outcome o = open_in(empty_root, 0, monitor);

	if (!o.shut_in)
		TEST_SKIP("chroot is not allowed here");
	works_or_says_why(&o);
	return o;
}

TEST(without_proc_and_sys_it_works_or_names_what_is_missing)
{
	struct place_outcome o = in_empty_root("uffd");

	NEEDS_BPF_IN_THIS_BUILD();
	assert_true(!o.err || strstr(o.why, "/proc") || o.err == -ENOSYS || o.err == -EPERM);
	o = in_empty_root("bpf");
	assert_true(!o.err || strstr(o.why, "/sys") || strstr(o.why, "BTF") || o.err == -EPERM);
	o = in_empty_root(NULL);
	assert_true(!o.err || (strstr(o.why, "bpf: ") && strstr(o.why, "uffd: ")));
	o = in_empty_root("manual");
	assert_int_equal(o.err, 0);
	assert_int_equal(o.check, 0);
}

static bool forbid_one(long nr)
{
	return refuse_calls(&nr, 1);
}

static bool forbid_both(__attribute__((unused)) long arg)
{
	const long refused[] = { SYS_bpf, SYS_userfaultfd };

	return refuse_calls(refused, 2);
}

static struct place_outcome without(bool (*prepare)(long arg), long nr, const char *monitor)
{
	struct place_outcome o = open_in(prepare, nr, monitor);

	if (!o.shut_in)
		TEST_SKIP("no seccomp filters here");
	works_or_says_why(&o);
	return o;
}

TEST(where_bpf_is_forbidden_the_next_monitor_is_chosen)
{
	struct place_outcome o;

	NEEDS_BPF_IN_THIS_BUILD();
	need("uffd");
	o = without(forbid_one, SYS_bpf, NULL);
	assert_int_equal(o.err, 0);
	assert_true(!strcmp(o.monitor, "uffd") || !strcmp(o.monitor, "kmod"));
	assert_int_equal(o.check, 0);
	o = without(forbid_one, SYS_bpf, "bpf");
	assert_int_equal(o.err, -EPERM);
}

TEST(where_userfaultfd_is_forbidden_bpf_still_works)
{
	struct place_outcome o;

	need("bpf");
	o = without(forbid_one, SYS_userfaultfd, NULL);
	assert_int_equal(o.err, 0);
	assert_int_equal(o.check, 0);
	o = without(forbid_one, SYS_userfaultfd, "uffd");
	assert_int_equal(o.err, -EPERM);
	assert_non_null(strstr(o.why, "seccomp"));
}

TEST(where_io_uring_is_forbidden_every_monitor_works)
{
	static const char *const monitors[] = { "manual", "uffd", "bpf" };

	need("uffd");
	need("bpf");
	for (unsigned int i = 0; i < 3; i++) {
		struct place_outcome o = without(forbid_one, SYS_io_uring_setup, monitors[i]);

		assert_int_equal(o.err, 0);
		assert_int_equal(o.check, 0);
	}
}

TEST(where_everything_is_forbidden_the_refusal_has_a_sentence_for_each_monitor)
{
	struct place_outcome o = without(forbid_both, 0, NULL);

	if (!o.err)
		TEST_SKIP("the kernel module needs none of these calls");
	assert_int_equal(o.err, -EPERM);
	assert_non_null(strstr(o.why, "bpf: "));
	assert_non_null(strstr(o.why, "uffd: "));
}

/* User "nobody" owns the namespace, and has every privilege inside it and none outside. */
static bool user_namespace(__attribute__((unused)) long arg)
{
	return become_nobody() && !unshare(CLONE_NEWUSER);
}

static bool user_namespace_without_capabilities(long arg)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct none[2] = {};

	return user_namespace(arg) && !syscall(SYS_capset, &header, none);
}

static void next_monitor_is_taken(bool (*prepare)(long arg), const char *complaint)
{
	struct place_outcome o;

	need("uffd");
	o = open_in(prepare, 0, "bpf");
	if (!o.shut_in)
		TEST_SKIP("no user namespace can be entered here: forbidden, or a sanitizer's "
			  "thread runs");
	works_or_says_why(&o);
	assert_int_equal(o.err, -EPERM);
	if (!strstr(o.why, complaint))
		fail_msg("%s", o.why);
	o = open_in(prepare, 0, NULL);
	works_or_says_why(&o);
	assert_int_equal(o.err, 0);
	assert_int_equal(o.check, 0);
}

TEST(in_a_user_namespace_bpf_is_refused_and_the_next_monitor_is_chosen)
{
	NEEDS_BPF_IN_THIS_BUILD();
	/* The process has the capabilities, but the kernel does not count those of a namespace. */
	next_monitor_is_taken(user_namespace, "inside a user namespace");
}

TEST(without_capabilities_bpf_names_them_and_the_next_monitor_is_chosen)
{
	NEEDS_BPF_IN_THIS_BUILD();
	next_monitor_is_taken(user_namespace_without_capabilities, "CAP_BPF");
}

TEST_MAIN()
