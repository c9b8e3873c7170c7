// SPDX-License-Identifier: MIT
/*
 * docs/sandbox.md lists the system calls that the library makes once everything is open, and the
 * sizes of its parts. Here a program uses the library under a filter that reports each call to the
 * parent.
 */
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <invlock/uring.h>

#include "lib/cache/region.h"
#include "lib/cache/thread.h"
#include "tests/test.h"
#include "tests/lib/rig.h"

#define NR_CALLS	600
#define NEED		(INVLOCK_BIT(UNMAP) | INVLOCK_BIT(FIXED) | INVLOCK_BIT(DISCARD))
#define EXIT_SKIP	77

/* ---- the document ---- */

static char document[65536];

static void read_document(void)
{
	FILE *f = fopen(DOCUMENT, "re");
	size_t len;

	assert_non_null(f);
	len = fread(document, 1, sizeof(document) - 1, f);
	document[len] = '\0';
	fclose(f);
}

/* The rest of the table row that begins with this column; NULL = there is none. */
static const char *row(const char *first)
{
	char begin[80];
	const char *at;

	snprintf(begin, sizeof(begin), "\n| %s |", first);
	at = strstr(document, begin);
	return at ? at + strlen(begin) : NULL;
}

#define CALL(name)	{ #name, SYS_##name }
static const struct {
	const char *name;
	long nr;
} names[] = {
	CALL(bpf), CALL(clock_gettime), CALL(close), CALL(fcntl), CALL(fstat), CALL(futex),
	CALL(getrlimit), CALL(io_uring_register), CALL(io_uring_enter), CALL(ioctl), CALL(madvise),
	CALL(membarrier), CALL(mmap), CALL(mprotect), CALL(mremap), CALL(munmap), CALL(nanosleep),
#ifdef SYS_poll
	CALL(poll),
#endif
	CALL(openat), CALL(ppoll), CALL(read), CALL(rt_sigprocmask), CALL(sched_yield),
	CALL(timerfd_gettime), CALL(timerfd_settime), CALL(brk), CALL(gettid), CALL(newfstatat),
	CALL(lseek), CALL(pread64), CALL(getpid), CALL(write), CALL(set_robust_list), CALL(rseq),
};

static const char *name_of(long nr)
{
	static char number[32];

	for (unsigned int i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (names[i].nr == nr)
			return names[i].name;
	snprintf(number, sizeof(number), "number %ld", nr);
	return number;
}

static bool is_in_row(const char *first, long nr)
{
	const char *at = row(first), *end = at ? strchr(at, '\n') : NULL;
	char quoted[50];
	const char *found;

	assert_non_null(end);
	snprintf(quoted, sizeof(quoted), "`%s`", name_of(nr));
	found = strstr(at, quoted);
	return found && found < end;
}

/* ---- the program ---- */

static struct fake_device fake;
static struct invlock_cache *without_reaper;
static struct invlock_uring *uring;
static struct io_uring ring;

static void open_all(const char *monitor)
{
	const struct invlock_mm_options mo = {
		.size = sizeof(mo), .monitor = monitor, .need = NEED,
	};
	struct invlock_cache_options co = {
		.size = sizeof(co), .need = NEED, .ops = { fake_reg, fake_dereg }, .ctx = &fake,
		.reap_ms = 1, .max_entries = 8,
	};
	const struct invlock_uring_options uo = {
		.size = sizeof(uo), .need = NEED, .min_len = 1, .align = 1, .reap_ms = 1,
	};

	if (invlock_mm_open(&mo, &fake.mm, NULL) ||
	    invlock_cache_open(fake.mm, &co, &fake.cache, NULL))
		_exit(EXIT_SKIP);
	co.flags = INVLOCK_CACHE_NO_REAPER;
	if (invlock_cache_open(fake.mm, &co, &without_reaper, NULL))
		_exit(EXIT_SKIP);
	if (io_uring_queue_init(8, &ring, 0))
		return;
	if (invlock_uring_open(&ring, fake.mm, &uo, &uring, NULL))
		_exit(1);
}

static void change(const char *monitor, char *at)
{
	madvise(at, PAGE, MADV_DONTNEED);
	if (mmap(at, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		 0) != at)
		_exit(1);
	if (!strcmp(monitor, "manual"))
		fake_change(&fake, at, PAGE);
}

static void use_cache(const char *monitor, struct invlock_cache *cache, char *at)
{
	struct invlock_cache_stats stats = { .size = sizeof(stats) };
	struct invlock_mm_info info = { .size = sizeof(info) };
	struct invlock_pin pin;

	for (int i = 0; i < 24; i++) {
		unsigned int flags = i % 3 == 2 ? INVLOCK_GET_BYPASS : 0;

		if (!invlock_cache_get(cache, at + i % 12 * PAGE, PAGE, flags, &pin))
			invlock_cache_put(&pin);
		if (!invlock_cache_get(cache, at, PAGE, INVLOCK_GET_CACHED, &pin)) {
			change(monitor, at);
			invlock_cache_put(&pin);
		}
	}
	invlock_cache_drop(cache, at, 12 * PAGE);
	invlock_cache_reap(cache);
	invlock_cache_stats(cache, &stats);
	invlock_mm_info(fake.mm, &info);
}

static void use_uring(const char *monitor, char *at)
{
	struct invlock_uring_op op;
	struct io_uring_sqe sqe;

	for (int i = 0; uring && i < 4; i++) {
		if (invlock_uring_prep_read(uring, &sqe, 0, at, PAGE, 0, &op) >= 0)
			invlock_uring_done(&op);
		change(monitor, at);
	}
}

static void use_all(const char *monitor)
{
	char *at = mmap(NULL, 12 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			0);
	const struct timespec while_reaping = { .tv_nsec = 20000000 };

	memset(at, 1, 12 * PAGE);
	use_cache(monitor, fake.cache, at);
	use_cache(monitor, without_reaper, at);
	use_uring(monitor, at);
	change(monitor, at);
	nanosleep(&while_reaping, NULL);
	munmap(at, 12 * PAGE);
}

/* ---- the filter ---- */

/* Return: a descriptor that reports all but a few calls of this process; -1 = not possible here */
static int report_calls(void)
{
	/* calls of the program itself: to end, to tell the parent, and to sleep */
	const struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 4, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clock_nanosleep, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_restart_syscall, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(filter) / sizeof(*filter), (void *)filter };
	unsigned int flags = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_TSYNC |
			     SECCOMP_FILTER_FLAG_TSYNC_ESRCH;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -1;
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

static void run_program(const char *monitor, int tell)
{
	int listener;

	open_all(monitor);
	listener = report_calls();
	if (listener < 0)
		_exit(EXIT_SKIP);
	if (write(tell, &listener, sizeof(listener)) != sizeof(listener))
		_exit(1);
	use_all(monitor);
	_exit(fake.nr_wrong ? 1 : 0);
}

/* Notes each call, and lets it go on, until the program has ended. */
static void watch_calls(int listener, bool *ret_made)
{
	struct pollfd next = { .fd = listener, .events = POLLIN };

	while (poll(&next, 1, -1) > 0 && next.revents & POLLIN) {
		struct seccomp_notif call = {};
		struct seccomp_notif_resp go_on = { .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE };

		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call))
			continue;
		if (call.data.nr >= 0 && call.data.nr < NR_CALLS)
			ret_made[call.data.nr] = true;
		go_on.id = call.id;
		ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &go_on);
	}
}

static void only_calls_of_the_document(const char *monitor)
{
	bool made[NR_CALLS] = {};
	int tell[2], listener = -1, status, theirs;
	char quoted[20];
	pid_t pid;

	if (IS_SANITIZED)
		TEST_SKIP("a sanitizer makes calls of its own");
	read_document();
	assert_int_equal(pipe2(tell, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid)
		run_program(monitor, tell[1]);
	close(tell[1]);
	if (read(tell[0], &theirs, sizeof(theirs)) == sizeof(theirs)) {
		int process = (int)syscall(SYS_pidfd_open, pid, 0);

		listener = (int)syscall(SYS_pidfd_getfd, process, theirs, 0);
		close(process);
		assert_true(listener >= 0);
		watch_calls(listener, made);
	}
	close(listener);
	close(tell[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SKIP)
		TEST_SKIP("%s, or a filter that reports calls, cannot be had here", monitor);
	assert_int_equal(status, 0);
	snprintf(quoted, sizeof(quoted), "`%s`", monitor);
	for (long nr = 0; nr < NR_CALLS; nr++)
		if (made[nr] && !is_in_row("every cache", nr) &&
		    !is_in_row("a cache without a reaper", nr) &&
		    !is_in_row("io_uring adapter", nr) && !is_in_row(quoted, nr) &&
		    !is_in_row("a thread of the library that has just started", nr))
			fail_msg("docs/sandbox.md does not name %s, which is called with %s",
				 name_of(nr), monitor);
	/* Are calls reported at all? */
	assert_true(made[SYS_futex] && made[SYS_mmap] && made[SYS_timerfd_settime]);
}

TEST(with_bpf_the_calls_after_the_open_are_those_of_the_document)
{
	only_calls_of_the_document("bpf");
}

TEST(with_uffd_the_calls_after_the_open_are_those_of_the_document)
{
	only_calls_of_the_document("uffd");
}

TEST(with_manual_the_calls_after_the_open_are_those_of_the_document)
{
	only_calls_of_the_document("manual");
}

/* ---- memory ---- */

static void is_said(const char *what, const char *unit, unsigned long bytes, unsigned long per)
{
	char expected[60];
	const char *at = row(what), *end = at ? strchr(at, '\n') : NULL, *found;

	assert_non_null(end);
	snprintf(expected, sizeof(expected), " %lu %s", (bytes + per - 1) / per, unit);
	found = strstr(at, expected);
	if (!found || found > end)
		fail_msg("docs/sandbox.md does not say that %s is%s", what, expected);
}

TEST(the_sizes_in_the_document_are_those_of_the_structs)
{
	unsigned long feed = invlock_feed_bytes(INVLOCK_NR_WORDS, INVLOCK_NR_EVENTS);

	read_document();
	is_said("a feed", "KiB", feed, 1024);
	is_said("a region", "bytes", sizeof(struct region), 1);
	is_said("a thread that uses caches", "KiB", PAGE, 1024);
	/* with few caches, the record and the nearest counters share a page */
	assert_true(THREAD_COUNTERS * sizeof(u64) % PAGE + sizeof(struct pin_thread) <= PAGE);
}

TEST_MAIN()
