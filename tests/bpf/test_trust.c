// SPDX-License-Identifier: MIT
/*
 * Whom a set of programs trusts: a process joins no set that was loaded with fewer privileges. A
 * child without privileges takes no seat, sees no address of the kernel, and closes no other feed.
 */
#include <bpf/bpf.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include "lib/monitor/bpf/progset.h"
#include "rig.h"
#include "tests/child.h"

static struct invlock_mm mm;

static u64 family(void)
{
	return progset_object_hash() ^ monitor_bpf_options.family;
}

static void become_nobody(void)
{
	if (setgroups(0, NULL) || setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
		_exit(99);
}

/* Keeps the two capabilities that loading takes, and uid 0. */
static void keep_two_capabilities(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[2] = {};

	caps[1].effective = caps[1].permitted =
		1u << (CAP_BPF - 32) | 1u << (CAP_PERFMON - 32);
	if (syscall(SYS_capset, &head, caps))
		_exit(99);
}

/* The set that the monitor uses: the first member of what it keeps there. */
static const struct progset *own_set(void)
{
	return progset_of(&mm);
}

/* Loads a set, says so, and keeps it until the reader is gone. */
static void hold_set(int said, int until)
{
	struct invlock_why why = {};
	struct progset set;
	char c;

	c = progset_load(&set, family(), &why) ? 'n' : 'y';
	if (write(said, &c, 1) == 1)
		while (read(until, &c, 1) > 0)
			;
	_exit(0);
}

/* How many sets has the process that opens the monitor loaded, beside one that @be has loaded? */
static unsigned int sets_loaded_beside(void (*be)(void))
{
	int said[2], until[2], status;
	unsigned int before;
	pid_t holder;
	char c = 0;

	assert_int_equal(pipe2(said, O_CLOEXEC), 0);
	assert_int_equal(pipe2(until, O_CLOEXEC), 0);
	holder = fork();
	assert_true(holder >= 0);
	if (!holder) {
		close(until[1]);
		if (be)
			be();
		hold_set(said[1], until[0]);
	}
	close(said[1]);
	close(until[0]);
	assert_int_equal(read(said[0], &c, 1), 1);
	assert_int_equal(c, 'y');
	before = set_nr_loaded;
	monitor_open(&mm);
	monitor_close(&mm);
	close(until[1]);
	close(said[0]);
	assert_int_equal(waitpid(holder, &status, 0), holder);
	return set_nr_loaded - before;
}

static void need_to_look(void)
{
	u32 id = 0;

	monitor_open(&mm);	/* may skip */
	monitor_close(&mm);
	if (bpf_link_get_next_id(0, &id) == -EPERM)
		TEST_SKIP("without CAP_SYS_ADMIN nothing is shared");
}

TEST(a_set_is_joined_only_if_its_loader_had_all_that_joining_takes)
{
	need_to_look();
	assert_int_equal(sets_loaded_beside(NULL), 0);
	/* The hash and the uid of this set are right, but its loader has power over its maps. */
	assert_int_equal(sets_loaded_beside(keep_two_capabilities), 1);
}

static bool is_kernel_address(u64 n)
{
	/* small negative numbers are no addresses */
	return n >> 47 == (1 << 17) - 1 && n < (u64)-(1 << 20);
}

static unsigned int count_addresses(const u64 *at, size_t bytes)
{
	unsigned int nr = 0;

	for (size_t i = 0; i < bytes / sizeof(*at); i++)
		nr += is_kernel_address(at[i]);
	return nr;
}

/* What a process sees in the maps of which it has descriptors. */
struct seen {
	unsigned int maps;
	unsigned int addresses;
};

static void look_into_map(int fd, u32 bytes, struct seen *seen)
{
	u32 zero = 0, mapped = (u32)page_up(bytes);
	const u64 *mem = mmap(NULL, mapped, PROT_READ, MAP_SHARED, fd, 0);
	u64 *copy = calloc(1, mapped);

	seen->maps++;
	if (mem != MAP_FAILED) {
		seen->addresses += count_addresses(mem, mapped);
		munmap((void *)mem, mapped);
	}
	if (copy && !bpf_map_lookup_elem(fd, &zero, copy))
		seen->addresses += count_addresses(copy, bytes);
	free(copy);
}

static struct seen look_into_maps(void)
{
	struct seen seen = {};

	for (int fd = 3; fd < 1024; fd++) {
		struct bpf_map_info info = {};
		u32 size = sizeof(info);
		char path[64], link[64] = "";

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		if (readlink(path, link, sizeof(link) - 1) > 0 && strstr(link, "bpf-map") &&
		    !bpf_obj_get_info_by_fd(fd, &info, &size))
			look_into_map(fd, info.value_size, &seen);
	}
	return seen;
}

static int nobody_sees_addresses(void)
{
	struct seen seen;

	become_nobody();
	seen = look_into_maps();
	return !seen.maps ? 98 : seen.addresses > 90 ? 90 : (int)seen.addresses;
}

TEST(what_a_process_and_its_children_map_shows_no_address_of_the_kernel)
{
	int file = memfd_create("mapped", 0);
	char *at;

	monitor_open(&mm);
	/* The tables hold the address of the mm, and of this file. */
	assert_int_equal(ftruncate(file, PAGE), 0);
	at = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, file, 0);
	assert_ptr_not_equal(at, MAP_FAILED);
	assert_int_equal(count_addresses((const u64 *)mm.il.feed, sizeof(struct bpf_user)), 0);
	assert_int_equal(in_child(nobody_sees_addresses), 0);
	munmap(at, PAGE);
	close(file);
	monitor_close(&mm);
}

static int nobody_asks(void)
{
	const struct progset *set = own_set();

	become_nobody();
	if (progset_ask(set, BPF_ASK_CLAIM, 0) != -EPERM)
		return 1;
	if (progset_ask(set, BPF_ASK_TAKE_LEFT, 0) != -EPERM)
		return 2;
	return 0;
}

static int two_capabilities_ask(void)
{
	keep_two_capabilities();
	return progset_ask(own_set(), BPF_ASK_CLAIM, 0) >= 0 ? 0 : 1;
}

TEST(a_seat_is_for_those_who_may_open_the_monitor)
{
	monitor_open(&mm);
	assert_int_equal(in_child(nobody_asks), 0);
	assert_int_equal(in_child(two_capabilities_ask), 0);
	monitor_close(&mm);
}

/* A process that gave up its privileges states more skipped runs than there can have been. */
static int nobody_notes_missed(void)
{
	const struct bpf_user *user;

	monitor_open(&mm);
	user = (const struct bpf_user *)mm.il.feed;
	become_nobody();
	if (progset_note_missed(own_set(), 1, 1ULL << 40))
		return 1;
	return user->feed.flags & INVLOCK_FEED_DEGRADED ? 0 : 2;
}

TEST(a_process_without_privileges_closes_no_feed_but_its_own)
{
	struct bpf_set_header head;

	monitor_bpf_options.guard = true;
	monitor_bpf_options.family++;
	monitor_open(&mm);
	monitor_bpf_set(&mm, &head);
	if (head.guard != BPF_GUARD_ON) {
		monitor_close(&mm);
		TEST_SKIP("there is no guard here, so nobody states how many runs it has seen");
	}
	assert_int_equal(in_child(nobody_notes_missed), 0);
	assert_int_equal(mm.il.feed->flags, 0);
	monitor_close(&mm);
}

static int own_family(void **state)
{
	(void)state;
	/* A family of our own: tests that run at the same time have sets, too. */
	monitor_bpf_options.family = (u64)getpid() << 32;
	return 0;
}

TEST_MAIN(.before_all = own_family)
