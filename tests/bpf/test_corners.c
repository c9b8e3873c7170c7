// SPDX-License-Identifier: MIT
/* Calls whose range is not in their arguments, or cannot be found out when they are entered. */
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/prctl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include "rig.h"

static struct invlock_mm mm;
static char *stripe;

static void open_rig(void)
{
	monitor_open(&mm);
	stripe = stripe_new();
}

static int close_rig(void **state)
{
	(void)state;
	/* The test was skipped, because the monitor could not be opened. */
	if (!mm.data)
		return 0;
	stripe_free(stripe);
	monitor_close(&mm);
	mm.data = NULL;
	return 0;
}

static void expect_stale(struct watched *w)
{
	assert_int_equal(watched_verdict(w), INVLOCK_STALE);
	assert_true(feed_quiet(&mm));
}

/* An idle second thread: with it, the kernel's state of this mm is no longer ours alone. */
static int leave[2];

static void *idle(void *unused)
{
	char byte;

	(void)unused;
	while (read(leave[0], &byte, 1) < 0)
		;
	return NULL;
}

static pthread_t start_idler(void)
{
	pthread_t thread;

	assert_int_equal(pipe(leave), 0);
	assert_int_equal(pthread_create(&thread, NULL, idle, NULL), 0);
	return thread;
}

static void stop_idler(pthread_t thread)
{
	assert_int_equal(write(leave[1], "", 1), 1);
	pthread_join(thread, NULL);
	close(leave[0]);
	close(leave[1]);
}

/* ---- the heap ---- */

/* Field number nr of /proc/self/stat, counted from 1 as in proc(5). */
static unsigned long stat_field(int nr)
{
	static char text[4096];
	/* no stdio: it uses malloc(), which expects the heap's end where it left it */
	int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
	char *p;

	assert_true(read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
	p = strrchr(text, ')') + 2;
	for (int i = 3; i < nr; i++)
		p = strchr(p, ' ') + 1;
	return strtoul(p, NULL, 10);
}

static struct prctl_mm_map map_of_process(void)
{
	return (struct prctl_mm_map){
		.start_code = stat_field(26), .end_code = stat_field(27),
		.start_stack = stat_field(28), .start_data = stat_field(45),
		.end_data = stat_field(46), .start_brk = stat_field(47),
		.brk = syscall(SYS_brk, 0),
		.arg_start = stat_field(48), .arg_end = stat_field(49),
		.env_start = stat_field(50), .env_end = stat_field(51), .exe_fd = -1,
	};
}

static int set_map(struct prctl_mm_map *map)
{
	return prctl(PR_SET_MM, PR_SET_MM_MAP, map, sizeof(*map), 0);
}

/* Grows the heap and returns its new pages. Each test puts the end back. */
static char *heap_grow(void)
{
	char *end = (char *)(((uintptr_t)syscall(SYS_brk, 0) + PAGE - 1) & ~(PAGE - 1));

	assert_ptr_equal(syscall(SYS_brk, end + 2 * GROUP), end + 2 * GROUP);
	memset(end, 1, 2 * GROUP);
	return end;
}

TEST(brk_is_seen_when_the_data_segment_was_moved_above_the_heap)
{
	struct prctl_mm_map map, old;
	struct watched top;
	char *end;

	open_rig();
	end = heap_grow();
	old = map = map_of_process();
	map.start_data = (uintptr_t)end + 2 * GROUP;
	map.end_data = map.start_data + PAGE;
	if (set_map(&map)) {
		syscall(SYS_brk, end);
		TEST_SKIP("PR_SET_MM_MAP: %s", strerror(errno));
	}
	watched_sample(&top, &mm, end);
	assert_ptr_equal(syscall(SYS_brk, end), end);
	expect_stale(&top);
	old.brk = (uintptr_t)end;
	assert_int_equal(set_map(&old), 0);
}

TEST(moving_the_heaps_end_makes_everything_stale)
{
	struct prctl_mm_map map;
	struct watched far;

	open_rig();
	map = map_of_process();
	watched_sample(&far, &mm, stripe + BYSTANDER);
	if (set_map(&map))
		TEST_SKIP("PR_SET_MM_MAP: %s", strerror(errno));
	expect_stale(&far);
	expect_open(&mm);
}

TEST(with_other_threads_a_heap_that_has_moved_degrades_the_feed)
{
	struct prctl_mm_map map, old;
	pthread_t idler = start_idler();
	char *end;

	open_rig();
	end = heap_grow();
	old = map = map_of_process();
	/*
	 * Setting the map that is already set moves nothing; programs do so to change their title.
	 */
	if (set_map(&map)) {
		stop_idler(idler);
		TEST_SKIP("PR_SET_MM_MAP: %s", strerror(errno));
	}
	expect_open(&mm);
	map.brk = (uintptr_t)end;
	assert_int_equal(set_map(&map), 0);
	assert_int_equal(mm.il.feed->flags, INVLOCK_FEED_DEGRADED);
	set_map(&old);
	stop_idler(idler);
	syscall(SYS_brk, end);
}

/* ---- segments ---- */

static char *attach_segment(size_t len)
{
	int id = shmget(IPC_PRIVATE, len, IPC_CREAT | 0600);
	char *at = stripe + VICTIM;

	assert_true(id >= 0);
	munmap(at, len);
	assert_ptr_equal(shmat(id, at, 0), at);
	assert_int_equal(shmctl(id, IPC_RMID, NULL), 0);
	memset(at, 1, len);
	return at;
}

TEST(shmdt_is_seen_behind_a_file_that_covers_the_segments_first_page)
{
	char *segment;
	int fd = memfd_create("invlock-test", MFD_CLOEXEC);
	struct watched second;

	open_rig();
	segment = attach_segment(2 * GROUP);
	assert_int_equal(ftruncate(fd, PAGE), 0);
	assert_ptr_equal(mmap(segment, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0), segment);
	watched_sample(&second, &mm, segment + GROUP);
	assert_int_equal(shmdt(segment), 0);
	expect_stale(&second);
	close(fd);
}

TEST(shmdt_is_seen_where_mremap_made_the_mapping_longer_than_its_segment)
{
	char *segment;
	struct watched tail;

	open_rig();
	segment = attach_segment(GROUP);
	munmap(segment + GROUP, GROUP);
	assert_ptr_equal(mremap(segment, GROUP, 2 * GROUP, 0), segment);
	watched_sample(&tail, &mm, segment + GROUP);
	assert_int_equal(shmdt(segment), 0);
	expect_stale(&tail);
}

/* If two segments begin at one address, the order of attaching decides which one goes. */
TEST(with_other_threads_shmdt_makes_everything_above_it_stale)
{
	char *segment;
	pthread_t idler = start_idler();
	struct watched above;

	open_rig();
	segment = attach_segment(GROUP);
	watched_sample(&above, &mm, segment + 2 * GROUP);
	assert_int_equal(shmdt(segment), 0);
	expect_stale(&above);
	stop_idler(idler);
}

/* ---- rings of aio ---- */

TEST(destroying_an_aio_context_is_seen_at_each_piece_of_its_ring)
{
	aio_context_t ctx = 0;
	struct watched ring;
	char *second;

	open_rig();
	if (syscall(SYS_io_setup, 4096, &ctx))
		TEST_SKIP("io_setup: %s", strerror(errno));
	second = (char *)ctx + PAGE;
	assert_ptr_equal(mmap(second, GROUP, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
			      -1, 0), second);
	watched_sample(&ring, &mm, second);
	assert_int_equal(syscall(SYS_io_destroy, ctx), 0);
	expect_stale(&ring);
}

/* By the time of the failure the kernel has mapped the ring, and unmaps it again. */
TEST(a_failed_io_setup_makes_everything_stale)
{
	aio_context_t *at;
	struct watched far;

	open_rig();
	at = (aio_context_t *)(stripe + VICTIM);
	*at = 0;
	assert_int_equal(mprotect(stripe + VICTIM, PAGE, PROT_READ), 0);
	watched_sample(&far, &mm, stripe + BYSTANDER);
	assert_int_equal(syscall(SYS_io_setup, 8, at), -1);
	if (errno != EFAULT)
		TEST_SKIP("io_setup: %s", strerror(errno));
	expect_stale(&far);
}

/* ---- advice ---- */

TEST(unknown_advice_counts_as_a_discard)
{
	struct watched victim, bystander;

	open_rig();
	watched_sample(&victim, &mm, stripe + VICTIM);
	watched_sample(&bystander, &mm, stripe + BYSTANDER);
	assert_int_equal(madvise(stripe + VICTIM, GROUP, 4711), -1);
	expect_stale(&victim);
	assert_int_equal(watched_verdict(&bystander), INVLOCK_VALID);
}

TEST(advice_that_drops_nothing_is_no_event)
{
	static const int harmless[] = {
		MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTFORK,
		MADV_DOFORK, MADV_MERGEABLE, MADV_UNMERGEABLE, MADV_HUGEPAGE, MADV_NOHUGEPAGE,
		MADV_DONTDUMP, MADV_DODUMP, MADV_WIPEONFORK, MADV_KEEPONFORK, MADV_COLD,
		MADV_PAGEOUT, 22 /* POPULATE_READ */, 23 /* POPULATE_WRITE */, 25 /* COLLAPSE */,
		103 /* GUARD_REMOVE */,
	};
	u64 before;

	open_rig();
	before = mm.il.feed->sequence;
	for (size_t i = 0; i < sizeof(harmless) / sizeof(*harmless); i++)
		madvise(stripe + VICTIM, GROUP, harmless[i]);
	assert_int_equal(mm.il.feed->sequence - before, 0);
}

/* Another thread may change the vector between our look and the kernel's. */
TEST(process_madvise_makes_everything_stale_whatever_its_vector_says)
{
	int pidfd = syscall(SYS_pidfd_open, getpid(), 0);
	struct iovec *vec;
	struct watched far;

	open_rig();
	vec = (struct iovec *)(stripe + VICTIM);
	*vec = (struct iovec){ stripe + VICTIM + GROUP, PAGE };
	watched_sample(&far, &mm, stripe + BYSTANDER);
	syscall(SYS_process_madvise, pidfd, vec, 1, MADV_DONTNEED, 0);
	expect_stale(&far);
	close(pidfd);
}

/* ---- a call whose arguments are changed after its thread made it ---- */

/*
 * In a child: stops the parent at the entry of its munmap, and replaces the bystander's address by
 * the victim's.
 */
static int debug(pid_t child)
{
	struct __ptrace_syscall_info info;
	int status;

	if (ptrace(PTRACE_ATTACH, child, 0, 0) || waitpid(child, &status, 0) != child)
		return 1;
	ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
	for (int signal = 0;;) {
		if (ptrace(PTRACE_SYSCALL, child, 0, signal) ||
		    waitpid(child, &status, 0) != child || !WIFSTOPPED(status))
			return 1;
		signal = WSTOPSIG(status);
		if (signal == SIGSTOP)
			signal = 0;
		if (signal != (SIGTRAP | 0x80))
			continue;
		signal = 0;
		if (ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof(info), &info) <= 0)
			return 1;
		if (info.op != PTRACE_SYSCALL_INFO_ENTRY || info.entry.nr != SYS_munmap ||
		    info.entry.args[0] != (uintptr_t)stripe + BYSTANDER)
			continue;
		if (change_argument(child, (uintptr_t)stripe + VICTIM))
			return 1;
		return ptrace(PTRACE_DETACH, child, 0, 0) ? 1 : 0;
	}
}

static bool has_ended(pid_t pid)
{
	siginfo_t info = {};

	return waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT) || info.si_pid;
}

TEST(if_a_debugger_changes_the_arguments_at_entry_the_new_ones_count)
{
	struct watched victim, bystander;
	pid_t tracer;
	int status;

	open_rig();
	prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
	watched_sample(&victim, &mm, stripe + VICTIM);
	watched_sample(&bystander, &mm, stripe + BYSTANDER);
	tracer = fork();
	if (!tracer)
		_exit(debug(getppid()));
	/*
	 * Until the debugger is attached the call unmaps the bystander: put it back and try again.
	 */
	while (!has_ended(tracer)) {
		assert_int_equal(syscall(SYS_munmap, stripe + BYSTANDER, GROUP), 0);
		if (watched_verdict(&victim) == INVLOCK_STALE)
			break;
		mmap(stripe + BYSTANDER, GROUP, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		nap_ms(1);
		watched_sample(&bystander, &mm, stripe + BYSTANDER);
	}
	assert_int_equal(waitpid(tracer, &status, 0), tracer);
	if (status)
		TEST_SKIP("this process cannot be traced here");
	expect_stale(&victim);
	assert_int_equal(watched_verdict(&bystander), INVLOCK_VALID);
}

TEST_MAIN(.teardown = close_rig)
