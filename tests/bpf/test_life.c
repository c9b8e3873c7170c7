// SPDX-License-Identifier: MIT
/* How feeds begin and end: fork, vfork, exec, exit, SIGKILL, close, open; and access to them. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include "rig.h"

static struct invlock_mm mm;

#define STACK	(64 * 1024)

/* A descriptor that this process has for a BPF object; -1 = none. */
static int bpf_fd(const char *what, const char *name)
{
	for (int fd = 3; fd < 1024; fd++) {
		struct bpf_prog_info prog = {};
		struct bpf_map_info map = {};
		u32 prog_size = sizeof(prog), map_size = sizeof(map);
		char path[64], link[64] = "";

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		if (readlink(path, link, sizeof(link) - 1) < 0 || strcmp(link, what))
			continue;
		if (strstr(what, "map"))
			bpf_obj_get_info_by_fd(fd, &map, &map_size);
		else
			bpf_obj_get_info_by_fd(fd, &prog, &prog_size);
		if (!strcmp(map.name, name) || !strcmp(prog.name, name))
			return fd;
	}
	return -1;
}

static int map_fd(const char *name)
{
	return bpf_fd("anon_inode:bpf-map", name);
}

static int prog_fd(const char *name)
{
	return bpf_fd("anon_inode:bpf-prog", name);
}

static unsigned int count_mappings(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned int nr = 0;
	int c;

	assert_non_null(maps);
	while ((c = fgetc(maps)) != EOF)
		nr += c == '\n';
	fclose(maps);
	return nr;
}

TEST(only_the_programs_can_write_the_feed)
{
	static char value[sizeof(struct bpf_user)];
	u32 key[2] = {};
	int fd;

	monitor_open(&mm);
	assert_int_equal(mprotect(mm.il.feed, PAGE, PROT_READ | PROT_WRITE), -1);
	fd = map_fd("invlock_user");
	assert_true(fd >= 0);
	assert_ptr_equal(mmap(NULL, mm.feed_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0),
			 MAP_FAILED);
	assert_int_equal(errno, EPERM);
	assert_int_equal(bpf_map_update_elem(fd, key, value, BPF_ANY), -EPERM);
	/* Children inherit no descriptor of the map that holds the feeds, because there is none. */
	assert_int_equal(map_fd("invlock_users"), -1);
	fd = map_of_program(prog_fd("ask"), "invlock_set");
	assert_true(fd >= 0);
	assert_int_equal(bpf_map_update_elem(fd, key, value, BPF_ANY), -EPERM);
	close(fd);
	monitor_close(&mm);
}

TEST(runs_that_the_kernel_skipped_make_everything_stale_when_they_are_noted)
{
	/* more than a guard can have seen */
	const u64 many = 1ULL << 40;
	struct bpf_ask skipped = { .what = BPF_ASK_NOTE_MISSED, .nr = many, .total = many };
	LIBBPF_OPTS(bpf_test_run_opts, run, .ctx_in = &skipped, .ctx_size_in = sizeof(skipped));
	char *stripe = stripe_new();
	struct bpf_set_header head;
	struct watched some;

	/* the set may be closed, which is then ours alone */
	monitor_bpf_options.family = getpid();
	monitor_open(&mm);
	watched_sample(&some, &mm, stripe);
	assert_int_equal(monitor_bpf_note_missed(&mm), 0);
	assert_int_equal(mm.il.feed->missed, 0);
	assert_int_equal(watched_verdict(&some), INVLOCK_VALID);
	/* Report skipped runs, as if the kernel had counted them. */
	assert_int_equal(bpf_prog_test_run_opts(prog_fd("ask"), &run), 0);
	assert_int_equal(run.retval, 0);
	assert_int_equal(mm.il.feed->missed, many);
	monitor_bpf_set(&mm, &head);
	if (head.guard == BPF_GUARD_ON)
		/* The guard has seen no preemption that explains them, so it cannot be trusted. */
		assert_int_equal(mm.il.feed->flags, INVLOCK_FEED_DEGRADED);
	else
		assert_int_equal(mm.il.feed->lost, 1);
	assert_int_equal(watched_verdict(&some), INVLOCK_STALE);
	stripe_free(stripe);
	monitor_close(&mm);
	monitor_bpf_options.family = 0;
}

TEST(an_open_leaves_no_descriptor_to_an_exec_and_a_close_none_at_all)
{
	unsigned int fds = count_fds(), before = fds, mappings;

	monitor_open(&mm);
	assert_true(count_fds() > before);
	for (int fd = 3; fd < 1024; fd++) {
		char path[64], link[64] = "";

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		if (readlink(path, link, sizeof(link) - 1) > 0 && strstr(link, "bpf"))
			assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	}
	monitor_close(&mm);
	assert_int_equal(count_fds(), fds);
	mappings = count_mappings();
	for (int i = 0; i < 50; i++) {
		monitor_open(&mm);
		monitor_close(&mm);
	}
	assert_int_equal(count_fds(), fds);
	/* The heap may have gained a mapping; a leak would be fifty. */
	assert_true(count_mappings() < mappings + 10);
}

#define NR_OTHERS	64

/* Return: 0, or the number of the step that failed */
static int close_among_others(void)
{
	struct invlock_mm own = {};
	struct invlock_why why = {};
	int others[NR_OTHERS];

	if (monitor_bpf.open(&own, &why))
		return 1;
	/* A daemon begins by closing every descriptor, and then opens its own. */
	if (syscall(SYS_close_range, 3, ~0U, 0))
		return 2;
	for (int i = 0; i < NR_OTHERS; i++)
		others[i] = open("/dev/null", O_RDONLY);
	monitor_bpf.close(&own, true);
	for (int i = 0; i < NR_OTHERS; i++)
		if (others[i] < 0 || fcntl(others[i], F_GETFD) < 0)
			return 3;
	return 0;
}

TEST(a_close_spares_the_files_that_took_the_numbers_of_closed_descriptors)
{
	int status;
	pid_t pid;

	monitor_open(&mm);	/* may skip */
	monitor_close(&mm);
	pid = fork();
	if (!pid)
		_exit(close_among_others());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void expect_alive(void)
{
	char *stripe = stripe_new();
	struct watched victim;

	watched_sample(&victim, &mm, stripe + VICTIM);
	assert_int_equal(watched_verdict(&victim), INVLOCK_VALID);
	munmap(stripe + VICTIM, PAGE);
	assert_int_equal(watched_verdict(&victim), INVLOCK_STALE);
	expect_open(&mm);
	assert_true(feed_quiet(&mm));
	stripe_free(stripe);
}

static int reaped(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, __WALL), pid);
	return status;
}

TEST(a_forked_child_neither_writes_the_feed_nor_ends_it)
{
	char *stripe = stripe_new();
	struct watched victim;
	u64 before;
	pid_t pid;

	monitor_open(&mm);
	watched_sample(&victim, &mm, stripe + VICTIM);
	before = mm.il.feed->sequence;
	pid = fork();
	if (!pid) {
		munmap(stripe, STRIPE);
		monitor_bpf.close(&mm, false);
		_exit(0);
	}
	assert_int_equal(reaped(pid), 0);
	pid = fork();
	if (!pid) {
		execl("/bin/true", "true", NULL);
		_exit(1);
	}
	assert_int_equal(reaped(pid), 0);
	assert_int_equal(mm.il.feed->sequence - before, 0);
	assert_int_equal(watched_verdict(&victim), INVLOCK_VALID);
	stripe_free(stripe);
	expect_alive();
	monitor_close(&mm);
}

TEST(a_forked_child_can_open_its_own_monitor)
{
	pid_t pid;

	monitor_open(&mm);
	pid = fork();
	if (!pid) {
		struct invlock_mm own = {};
		struct invlock_why why = {};
		char *p = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		u64 before;

		monitor_bpf.close(&mm, false);
		if (monitor_bpf.open(&own, &why))
			_exit(1);
		before = own.il.feed->sequence;
		munmap(p, PAGE);
		_exit(own.il.feed->sequence == before ? 2 : 0);
	}
	assert_int_equal(reaped(pid), 0);
	expect_alive();
	monitor_close(&mm);
}

static int unmap_and_exec(void *arg)
{
	/* this runs in the parent's mm */
	syscall(SYS_munmap, arg, PAGE);
	execl("/bin/true", "true", NULL);
	_exit(1);
}

/* A child that shares our mm, as after vfork(), and then execs or exits. */
static void child_with_our_mm(int (*run)(void *), void *arg, int flags)
{
	char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pid_t pid = clone(run, stack + STACK, CLONE_VM | flags | SIGCHLD, arg);

	assert_true(pid > 0);
	assert_int_equal(reaped(pid), 0);
	munmap(stack, STACK);
}

TEST(a_vfork_childs_calls_are_seen_and_its_exec_does_not_end_the_feed)
{
	char *stripe = stripe_new();
	struct watched victim;

	monitor_open(&mm);
	watched_sample(&victim, &mm, stripe + VICTIM);
	child_with_our_mm(unmap_and_exec, stripe + VICTIM, CLONE_VFORK);
	assert_int_equal(watched_verdict(&victim), INVLOCK_STALE);
	stripe_free(stripe);
	expect_alive();
	monitor_close(&mm);
}

static int unmap_and_exit(void *arg)
{
	syscall(SYS_munmap, arg, PAGE);
	return 0;
}

TEST(a_clone_vm_childs_calls_are_seen_and_its_exit_does_not_end_the_feed)
{
	char *stripe = stripe_new();
	struct watched victim;

	monitor_open(&mm);
	watched_sample(&victim, &mm, stripe + VICTIM);
	child_with_our_mm(unmap_and_exit, stripe + VICTIM, 0);
	assert_int_equal(watched_verdict(&victim), INVLOCK_STALE);
	stripe_free(stripe);
	expect_alive();
	monitor_close(&mm);
}

static int storm(void *arg)
{
	(void)arg;
	/* the storm must not outlive a test that fails */
	syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	for (;;) {
		long p = syscall(SYS_mmap, NULL, 4 * STRIPE, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

		syscall(SYS_munmap, p, 4 * STRIPE);
	}
	return 0;
}

TEST(a_child_killed_in_the_middle_of_a_storm_leaves_no_word_running)
{
	char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	monitor_open(&mm);
	for (int i = 0; i < 50; i++) {
		u64 before = mm.il.feed->sequence;
		pid_t pid = clone(storm, stack + STACK, CLONE_VM | SIGCHLD, NULL);

		assert_true(pid > 0);
		while (mm.il.feed->sequence - before < 5)
			sched_yield();
		kill(pid, SIGKILL);
		assert_int_equal(reaped(pid), SIGKILL);
		assert_true(feed_quiet(&mm));
	}
	expect_alive();
	munmap(stack, STACK);
	monitor_close(&mm);
}

/* A process of its own. We map its feed and look at it from outside. */
struct subject {
	pid_t pid;
	struct invlock il;
	size_t bytes;
};

static void *storm_thread(void *arg)
{
	storm(arg);
	return NULL;
}

static void *do_nothing(void *arg)
{
	return arg;
}

static void be_subject(int out, int nr_storms)
{
	struct invlock_why why = {};
	pthread_t thread;
	int fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	memset(&mm, 0, sizeof(mm));
	if (monitor_bpf.open(&mm, &why))
		_exit(1);
	/* The end of a thread is not the end of the process. */
	pthread_create(&thread, NULL, do_nothing, NULL);
	pthread_join(thread, NULL);
	for (int i = 0; i < nr_storms; i++)
		pthread_create(&thread, NULL, storm_thread, NULL);
	fd = map_fd("invlock_user");
	if (write(out, &fd, sizeof(fd)) != sizeof(fd))
		_exit(1);
}

static void subject_start(struct subject *s, int nr_storms, void (*then)(void))
{
	int fds[2], pidfd, fd;
	void *mem;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	s->pid = fork();
	if (!s->pid) {
		be_subject(fds[1], nr_storms);
		raise(SIGSTOP);
		then();
		_exit(0);
	}
	/* so that the read ends if the subject has none */
	close(fds[1]);
	assert_int_equal(read(fds[0], &fd, sizeof(fd)), sizeof(fd));
	pidfd = syscall(SYS_pidfd_open, s->pid, 0);
	assert_int_equal(waitpid(s->pid, NULL, WUNTRACED), s->pid);
	fd = syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	assert_true(fd >= 0);
	s->bytes = invlock_feed_bytes(INVLOCK_NR_WORDS, INVLOCK_NR_EVENTS);
	mem = mmap(NULL, s->bytes, PROT_READ, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(mem, MAP_FAILED);
	assert_int_equal(invlock_attach(&s->il, mem, s->bytes), 0);
	assert_int_equal(s->il.feed->flags, 0);
	close(fd);
	close(pidfd);
	close(fds[0]);
}

/* Invalidations of everything that run, without those that say that a CPU is blind. */
static u64 running_wide(const struct invlock_feed *feed)
{
	return (port_load(&feed->wide) - port_load(&feed->blind)) & INVLOCK_RUNNING_MASK;
}

/* The feed is dead, and the only invalidation that still runs is the one that says so. */
static void expect_dead(struct subject *s)
{
	struct invlock_snapshot snap;
	u64 running = 0, wide = 0;

	assert_int_equal(s->il.feed->flags, INVLOCK_FEED_DEAD);
	/* A CPU may become blind, or see again, between the two loads. */
	for (int i = 0; i < 1000 && wide != 1; i++) {
		wide = running_wide(s->il.feed);
		nap_ms(1);
	}
	assert_int_equal(wide, 1);
	for (u32 i = 0; i <= s->il.word_mask; i++)
		running |= s->il.words[i] & INVLOCK_RUNNING_MASK;
	assert_int_equal(running, 0);
	assert_int_equal(invlock_sample(&s->il, PAGE, 2 * PAGE, &snap), -EOWNERDEAD);
	munmap(s->il.feed, s->bytes);
}

static void skip_unless_allowed(void)
{
	monitor_open(&mm);
	monitor_close(&mm);
}

static void exec_and_wait(void)
{
	execl("/bin/sleep", "sleep", "1000", NULL);
}

static void wait_for_kill(void)
{
	pause();
}

static void just_exit(void)
{
}

TEST(exec_ends_the_feed)
{
	struct subject s;

	skip_unless_allowed();
	subject_start(&s, 0, exec_and_wait);
	kill(s.pid, SIGCONT);
	for (int i = 0; i < 60000 && !port_load(&s.il.feed->flags); i++)
		nap_ms(1);
	expect_dead(&s);
	kill(s.pid, SIGKILL);
	reaped(s.pid);
}

TEST(exit_ends_the_feed)
{
	struct subject s;

	skip_unless_allowed();
	subject_start(&s, 0, just_exit);
	kill(s.pid, SIGCONT);
	assert_int_equal(reaped(s.pid), 0);
	expect_dead(&s);
}

TEST(sigkill_in_storms_of_four_threads_leaves_no_word_running)
{
	skip_unless_allowed();
	for (int i = 0; i < 10; i++) {
		struct subject s;
		u64 before;

		subject_start(&s, 4, wait_for_kill);
		before = s.il.feed->sequence;
		kill(s.pid, SIGCONT);
		while (port_load(&s.il.feed->sequence) - before < 20)
			sched_yield();
		kill(s.pid, SIGKILL);
		assert_int_equal(reaped(s.pid), SIGKILL);
		expect_dead(&s);
	}
}

TEST(another_process_cannot_discard_our_pages_with_process_madvise)
{
	char *stripe = stripe_new();
	pid_t self = getpid(), pid = fork();

	if (!pid) {
		struct iovec {
			void *base;
			size_t len;
		} vec = { stripe, PAGE };
		int pidfd = syscall(SYS_pidfd_open, self, 0);

		if (syscall(SYS_process_madvise, pidfd, &vec, 1, MADV_DONTNEED, 0) >= 0)
			_exit(1);
		_exit(errno == EINVAL ? 0 : 2);
	}
	assert_int_equal(reaped(pid), 0);
	assert_int_equal(stripe[0], 1);
	stripe_free(stripe);
}

TEST(without_capabilities_the_open_names_those_that_are_missing)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = {};
	struct invlock_why why = {};
	unsigned int fds = count_fds();
	pid_t pid = fork();

	if (!pid) {
		struct invlock_mm own = {};

		if (syscall(SYS_capset, &head, none))
			_exit(1);
		if (monitor_bpf.open(&own, &why) != -EPERM)
			_exit(2);
		if (!strstr(why.text, "CAP_BPF") || !strstr(why.text, "CAP_PERFMON"))
			_exit(3);
		_exit(count_fds() == fds ? 0 : 4);
	}
	assert_int_equal(reaped(pid), 0);
}

TEST_MAIN()
