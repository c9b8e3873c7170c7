// SPDX-License-Identifier: MIT
/* What a client without privileges gets from the daemon, what it cannot do with it, and limits. */
#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include "daemon/policy.h"
#include "lib/monitor/bpf/client.h"
#include "lib/monitor/bpf/progset.h"
#include "rig.h"
#include "tests/child.h"
#include "tests/seccomp.h"

/* Opens the monitor. Return: 0 or errno, with a sentence */
static int open_own(struct invlock_why *why)
{
	memset(&other_mm, 0, sizeof(other_mm));
	other_mm.monitor = &monitor_daemon;
	return -monitor_daemon.open(&other_mm, why);
}

TEST(a_process_without_privileges_is_watched_exactly)
{
	struct other o;

	daemon_start("");
	other_start(&o, become_nobody);
	assert_int_equal(other_do(&o, OPEN), 0);
	for (int i = 0; i < 50; i++)
		assert_int_equal(other_do(&o, CHANGE), 0);
	assert_int_equal(other_do(&o, CLOSE), 0);
	assert_int_equal(other_do(&o, OPEN), 0);
	assert_int_equal(other_do(&o, CHANGE), 0);
	other_end(&o, 0);
	daemon_end(0);
}

/* What is wrong with the descriptors that the monitor of this process holds? 0 = nothing. */
static int check_descriptors(void)
{
	u32 key = 0;

	for (int fd = 3; fd < 4096; fd++) {
		struct bpf_map_info info = {};
		struct bpf_link_info link = {};
		u32 size = sizeof(info), link_size = sizeof(link);
		char path[64], what[64] = "";
		static char value[sizeof(struct bpf_user)];

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		if (readlink(path, what, sizeof(what) - 1) < 0)
			continue;
		if (strstr(what, "link") &&
		    (bpf_obj_get_info_by_fd(fd, &link, &link_size) || !bpf_link_detach(fd) ||
		     !bpf_link_update(fd, fd, NULL)))
			return 1;
		if (!strstr(what, "bpf-map"))
			continue;
		if (bpf_obj_get_info_by_fd(fd, &info, &size) || strcmp(info.name, "invlock_user"))
			return 2;
		if (mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED)
			return 3;
		if (!bpf_map_update_elem(fd, &key, value, BPF_ANY))
			return 4;
		if (!bpf_map_delete_elem(fd, &key))
			return 5;
	}
	return 0;
}

static int nobody_tries(void)
{
	const struct progset *set;
	struct invlock_why why;
	int wrong;

	become_nobody();
	if (open_own(&why))
		return 20;
	wrong = check_descriptors();
	if (wrong)
		return wrong;
	set = progset_of(&other_mm);
	for (enum bpf_what what = BPF_ASK_CLAIM; what <= BPF_ASK_LOADED; what++)
		for (u32 seat = 0; seat < BPF_NR_USERS; seat++)
			if (what != BPF_ASK_LEAVE && what != BPF_ASK_UNMARKED &&
			    what != BPF_ASK_NOTE_FOUND && what != BPF_ASK_NOTE_MISSED &&
			    what != BPF_ASK_LOOK && progset_ask_of(set, what, seat, 0) >= 0)
				return 30 + what;
	if (mprotect(other_mm.il.feed, PAGE, PROT_READ | PROT_WRITE) != -1)
		return 21;
	return answer_change() ? 22 : 0;
}

TEST(a_client_can_write_nothing_and_ask_for_nothing_but_its_own)
{
	struct other o;

	daemon_start("");
	others_open(&o, 1);
	assert_int_equal(in_child(nobody_tries), 0);
	assert_int_equal(other_do(&o, CHANGE), 0);
	other_end(&o, 0);
	daemon_end(0);
}

/* Asks for a seat with bare hands. Return: descriptors, as enum daemon_fd says */
static void ask_for_seat(int conn, int *fds)
{
	struct daemon_request q = {
		.version = DAEMON_VERSION, .user_bytes = sizeof(struct bpf_user),
		.ask_bytes = sizeof(struct bpf_ask), .what = DAEMON_OPEN,
	};
	char control[CMSG_SPACE(DAEMON_ROOM * sizeof(int))];
	struct daemon_reply r;
	struct iovec iov = { &r, sizeof(r) };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
		.msg_controllen = sizeof(control),
	};

	assert_int_equal(send(conn, &q, sizeof(q), 0), sizeof(q));
	assert_int_equal(recvmsg(conn, &msg, MSG_CMSG_CLOEXEC), sizeof(r));
	assert_int_equal(r.err, 0);
	assert_non_null(CMSG_FIRSTHDR(&msg));
	memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&msg)), DAEMON_NR_FDS * sizeof(int));
}

static const struct bpf_user *map_user(int fd)
{
	void *at = mmap(NULL, page_up(sizeof(struct bpf_user)), PROT_READ, MAP_SHARED, fd,
			0);

	assert_ptr_not_equal(at, MAP_FAILED);
	return at;
}

static int sit_fd;

static int sit(void)
{
	int result;

	return read(sit_fd, &result, sizeof(result)) == sizeof(result) ? -result : 99;
}

TEST(the_mm_that_takes_a_seat_is_that_of_the_reader_and_a_seat_is_taken_once)
{
	int fds[DAEMON_NR_FDS], conn;
	const struct bpf_user *user;

	daemon_start("");
	conn = daemon_connection();
	ask_for_seat(conn, fds);
	user = map_user(fds[DAEMON_FD_USER]);
	sit_fd = fds[DAEMON_FD_SIT];
	/* Nothing is watched before the read, whoever has the descriptor. */
	munmap(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), PAGE);
	assert_int_equal(user->state.watching, 0);
	/* A child reads: it is the child that is watched, until it is gone. */
	assert_int_equal(in_child(sit), 0);
	munmap(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), PAGE);
	assert_int_equal(user->state.watching, 0);
	assert_true(user->feed.flags & INVLOCK_FEED_DEAD);
	/* The iterator has been read; a child's copy is the same file. */
	assert_int_not_equal(in_child(sit), 0);
	close(conn);
	daemon_end(0);
}

TEST(when_the_connection_ends_the_feed_is_closed)
{
	int fds[DAEMON_NR_FDS], conn;
	const struct bpf_user *user;
	u64 give_up;

	daemon_start("");
	conn = daemon_connection();
	ask_for_seat(conn, fds);
	user = map_user(fds[DAEMON_FD_USER]);
	sit_fd = fds[DAEMON_FD_SIT];
	assert_int_equal(sit(), 0);
	assert_int_equal(user->state.watching, 1);
	assert_int_equal(user->feed.flags, 0);
	close(conn);
	give_up = port_now() + 60000000000ULL;
	while (!port_load(&user->feed.flags) && port_now() < give_up)
		nap_ms(1);
	assert_int_equal(user->feed.flags, INVLOCK_FEED_DEGRADED);
	assert_int_equal(user->state.closed, BPF_CLOSED_EVICTED);
	daemon_end(0);
}

/* A seat that is given back before it is taken belongs to the next client. */
TEST(an_iterator_of_a_connection_that_has_ended_takes_no_seat)
{
	int first[DAEMON_NR_FDS], second[DAEMON_NR_FDS], conn;

	daemon_start("");
	conn = daemon_connection();
	ask_for_seat(conn, first);
	close(conn);
	conn = daemon_connection();
	ask_for_seat(conn, second);
	assert_int_equal(map_user(first[DAEMON_FD_USER])->state.index,
			 map_user(second[DAEMON_FD_USER])->state.index);
	sit_fd = first[DAEMON_FD_SIT];
	assert_int_equal(sit(), EINVAL);
	sit_fd = second[DAEMON_FD_SIT];
	assert_int_equal(sit(), 0);
	assert_int_equal(map_user(second[DAEMON_FD_USER])->state.watching, 1);
	close(conn);
	daemon_end(0);
}

static int garbage(void)
{
	static char bytes[4096];
	int conn;

	become_nobody();
	for (unsigned int size = 0; size <= sizeof(bytes); size += 13) {
		struct daemon_request q = {
			.version = DAEMON_VERSION, .user_bytes = sizeof(struct bpf_user),
			.ask_bytes = sizeof(struct bpf_ask), .what = 1 + size,
		};

		conn = daemon_connection();
		memset(bytes, size, sizeof(bytes));
		if (send(conn, bytes, size, MSG_NOSIGNAL) < 0)
			return 1;
		close(conn);
		conn = daemon_connection();
		if (send(conn, &q, sizeof(q), MSG_NOSIGNAL) < 0)
			return 2;
		close(conn);
	}
	return 0;
}

/* What the list of this process's user says. */
struct listed {
	struct daemon_feed feed[8];
	unsigned int nr;
};

static int note_listed(const struct daemon_feed *feed, void *arg)
{
	struct listed *l = arg;

	if (l->nr < 8)
		l->feed[l->nr] = *feed;
	l->nr++;
	return 0;
}

static const struct listed *list_feeds(void)
{
	static struct listed l;
	struct invlock_why why;

	l.nr = 0;
	return daemon_list(note_listed, &l, &why) ? NULL : &l;
}

static const struct daemon_feed *feed_of(const struct listed *l, pid_t pid)
{
	for (unsigned int i = 0; l && i < l->nr; i++)
		if (l->feed[i].pid == pid)
			return &l->feed[i];
	return NULL;
}

/* 0: the only feed that nobody sees is nobody's. */
static int nobody_lists(void)
{
	const struct listed *l;

	become_nobody();
	l = list_feeds();
	if (!l)
		return 1;
	return l->nr == 1 && l->feed[0].uid == NOBODY ? 0 : 2;
}

static void become_another(void)
{
	become(NOBODY - 1);
}

TEST(the_daemon_lists_all_feeds_to_root_and_to_a_user_its_own)
{
	const struct daemon_feed *f;
	const struct listed *l;
	struct other o[2];
	u64 before;

	daemon_start("");
	other_start(&o[0], become_nobody);
	other_start(&o[1], become_another);
	assert_int_equal(list_feeds()->nr, 0);
	before = port_now();
	assert_int_equal(other_do(&o[0], OPEN), 0);
	assert_int_equal(other_do(&o[1], OPEN), 0);
	l = list_feeds();
	assert_non_null(l);
	assert_int_equal(l->nr, 2);
	for (int i = 0; i < 2; i++) {
		f = feed_of(l, o[i].pid);
		assert_non_null(f);
		assert_int_equal(f->uid, NOBODY - i);
		assert_int_equal(f->err, 0);
		assert_int_equal(f->view.by_daemon, 1);
		assert_int_equal(f->view.closed, BPF_OPEN);
		assert_true(f->view.since >= before);
		assert_true(f->view.since <= port_now());
	}
	assert_int_equal(other_do(&o[0], CHANGE), 0);
	assert_true(feed_of(list_feeds(), o[0].pid)->view.sequence > 0);
	assert_int_equal(in_child(nobody_lists), 0);
	assert_int_equal(other_do(&o[0], CLOSE), 0);
	assert_int_equal(list_feeds()->nr, 1);
	other_end(&o[0], 0);
	other_end(&o[1], 0);
	daemon_end(0);
}

TEST(a_client_that_sends_garbage_costs_nobody_else_anything)
{
	struct other o;

	daemon_start("");
	others_open(&o, 1);
	assert_int_equal(in_child(garbage), 0);
	assert_true(daemon_said("uid 65534"));
	assert_int_equal(other_do(&o, CHANGE), 0);
	other_end(&o, 0);
	daemon_end(0);
}

static int connect_only(void)
{
	int first;
	char c;

	become_nobody();
	first = daemon_connection();
	for (int i = 0; i < 300; i++)
		daemon_connection();
	/* The daemon ends the connection, since nothing is asked for. */
	return recv(first, &c, 1, 0);
}

TEST(a_user_who_only_connects_keeps_nobody_out_and_is_disconnected)
{
	struct other o;
	int status;
	pid_t child;

	daemon_start("");
	child = fork();
	assert_true(child >= 0);
	if (!child)
		_exit(connect_only());
	assert_true(daemon_said("too many connections"));
	others_open(&o, 1);
	assert_int_equal(other_do(&o, CHANGE), 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_true(daemon_said("asked for nothing"));
	assert_int_equal(other_do(&o, CHANGE), 0);
	other_end(&o, 0);
	daemon_end(0);
}

TEST(a_user_gets_no_more_feeds_than_the_policy_says_and_others_get_theirs)
{
	struct other o[4];

	daemon_start("feeds_per_user = 2\n");
	for (int i = 0; i < 3; i++) {
		other_start(&o[i], become_nobody);
		assert_int_equal(other_do(&o[i], OPEN), i < 2 ? 0 : EDQUOT);
	}
	assert_true(daemon_said("feeds_per_user"));
	others_open(&o[3], 1);	/* root */
	assert_int_equal(other_do(&o[3], CHANGE), 0);
	/* A seat comes back, however its process ends. */
	other_end(&o[0], SIGKILL);
	assert_int_equal(other_do(&o[2], OPEN), 0);
	assert_int_equal(other_do(&o[2], CHANGE), 0);
	assert_int_equal(other_do(&o[1], CHANGE), 0);
	others_end(&o[1], 3);
	daemon_end(0);
}

TEST(all_users_together_get_no_more_feeds_than_the_policy_says)
{
	struct other o[3];

	daemon_start("feeds = 2\n");
	for (int i = 0; i < 3; i++) {
		other_start(&o[i], i ? become_nobody : NULL);
		assert_int_equal(other_do(&o[i], OPEN), i < 2 ? 0 : EDQUOT);
	}
	assert_true(daemon_said("(feeds in"));
	other_end(&o[0], 0);
	assert_int_equal(other_do(&o[2], OPEN), 0);
	assert_int_equal(other_do(&o[2], CHANGE), 0);
	others_end(&o[1], 2);
	daemon_end(0);
}

/* The documents say how much that is: docs/daemon.md, invlockd.conf and its page. */
TEST(a_feed_takes_4_mib_from_the_start_whatever_its_process_does)
{
	const unsigned int maps_of_feed = 2;
	struct maps before;
	unsigned long one;
	struct other o[3];

	daemon_start("feeds_per_user = 2\n");
	before = daemon_maps(0);
	others_open(&o[0], 1);
	/* The next seat is made ready a moment later. */
	one = daemon_maps(before.nr + maps_of_feed).bytes - before.bytes;
	assert_int_equal(FEED_MIB, 4);
	assert_int_equal((one + (1 << 20) - 1) >> 20, FEED_MIB);
	others_open(&o[1], 1);
	assert_int_equal(daemon_maps(before.nr + 2 * maps_of_feed).bytes, before.bytes + 2 * one);
	for (int i = 0; i < 50; i++)
		assert_int_equal(other_do(&o[0], CHANGE), 0);
	/* So the number of feeds bounds the memory, and who is refused learns how much that is. */
	other_start(&o[2], NULL);
	assert_int_equal(other_do(&o[2], OPEN), EDQUOT);
	assert_true(daemon_said("has 2 feeds (8 MiB)"));
	assert_int_equal(daemon_maps(0).bytes, before.bytes + 2 * one);
	others_end(o, 3);
	assert_int_equal(daemon_maps(before.nr).bytes, before.bytes);
	daemon_end(0);
}

/* A map that is made now has a higher number than one that was there before. */
TEST(a_client_gets_a_seat_that_was_ready_before_it_came)
{
	struct bpf_map_info now = {}, given = {};
	u32 size = sizeof(now);
	int fds[DAEMON_NR_FDS], conn, map;

	daemon_start("");
	map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "now", sizeof(u32), sizeof(u32), 1, NULL);
	assert_true(map >= 0);
	assert_int_equal(bpf_obj_get_info_by_fd(map, &now, &size), 0);
	conn = daemon_connection();
	ask_for_seat(conn, fds);
	assert_int_equal(bpf_obj_get_info_by_fd(fds[DAEMON_FD_USER], &given, &size), 0);
	assert_true(given.id < now.id);
	close(conn);
	close(map);
	daemon_end(0);
}

static int denied(void)
{
	struct invlock_why why;

	become_nobody();
	return open_own(&why) == EACCES && strstr(why.text, "policy") ? 0 : 1;
}

TEST(the_policy_names_the_users_and_groups_that_get_feeds)
{
	struct other o;

	daemon_start("# some\nusers = root 4321\ngroups = 4322 # more\n");
	assert_int_equal(in_child(denied), 0);
	others_open(&o, 1);
	other_end(&o, 0);
	daemon_end(0);
	daemon_start("groups = 65534\n");
	other_start(&o, become_nobody);
	assert_int_equal(other_do(&o, OPEN), 0);
	other_end(&o, 0);
	daemon_end(0);
}

/* In namespaces of its own, in which it is root, and which see no other process. */
static int in_namespaces(void)
{
	struct invlock_why why;
	int status;
	pid_t child;

	become_nobody();
	if (unshare(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC))
		return 77;
	child = fork();
	if (!child) {
		if (getpid() != 1)
			_exit(1);
		if (open_own(&why)) {
			print_message("# %s\n", why.text);
			_exit(2);
		}
		_exit(answer_change() ? 3 : 0);
	}
	return waitpid(child, &status, 0) == child ? WEXITSTATUS(status) : 4;
}

TEST(a_client_in_namespaces_of_its_own_is_watched_exactly)
{
	int result;

	daemon_start("");
	result = in_child(in_namespaces);
	daemon_end(0);
	if (result == 77)
		TEST_SKIP("a user may make no namespaces here");
	assert_int_equal(result, 0);
}

static int without_calls(void)
{
	struct invlock_why why;
	struct look look;
	char *anon;

	become_nobody();
	/* as the profile of most containers does */
	if (!refuse_calls((long[]){ SYS_bpf, SYS_io_uring_setup }, 2))
		return 77;
	if (open_own(&why)) {
		print_message("# %s\n", why.text);
		return 1;
	}
	if (answer_change())
		return 2;
	anon = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (monitor_daemon.look(&other_mm, (u64)anon, (u64)anon + PAGE, &look) != MAPPED_GOOD)
		return 3;
	if (monitor_daemon.note_missed(&other_mm) || other_mm.il.feed->flags)
		return 4;
	monitor_daemon.close(&other_mm, true);
	return 0;
}

TEST(a_client_that_may_not_call_bpf_is_watched_exactly)
{
	int result;

	daemon_start("");
	result = in_child(without_calls);
	daemon_end(0);
	if (result == 77)
		TEST_SKIP("seccomp is not available");
	assert_int_equal(result, 0);
}

TEST_MAIN(.teardown = daemon_gone)
