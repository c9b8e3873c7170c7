// SPDX-License-Identifier: MIT
/*
 * A daemon begins by closing all descriptors, including ours, and then opens files that get their
 * numbers. The library must not read, write or close those files; nothing may hang, and no hit may
 * be stale.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

#include "tests/test.h"
#include "tests/lib/rig.h"

#define PATIENCE_S	300	/* after this time a child counts as hanging */
#define NR_MOST		200	/* the most descriptors that a child may have */
#define EXIT_SKIP	77
#define REAP_MS		1

/* ---- the files that the program opens ----  */

static const char text[] = "the program's own text";

static int open_memfd(void)
{
	int fd = memfd_create("own", 0);

	return write(fd, text, sizeof(text)) != sizeof(text) || lseek(fd, 0, SEEK_SET) ? -1 : fd;
}

static bool memfd_is_as_it_was(int fd)
{
	char now[2 * sizeof(text)];

	return !lseek(fd, 0, SEEK_CUR) && read(fd, now, sizeof(now)) == sizeof(text) &&
	       !memcmp(now, text, sizeof(text));
}

/* There is nothing to read, so a poll on it does not wake up. */
static int open_eventfd(void)
{
	return eventfd(0, EFD_NONBLOCK);
}

static bool eventfd_is_as_it_was(int fd)
{
	eventfd_t count;

	return eventfd_read(fd, &count) && errno == EAGAIN;
}

/* It has the period of the cache's own timer, and an expiration waits to be read. */
static int open_timer(void)
{
	const struct itimerspec t = {
		.it_value.tv_nsec = 1, .it_interval.tv_nsec = 1000000 * REAP_MS,
	};
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);

	return timerfd_settime(fd, 0, &t, NULL) ? -1 : fd;
}

static bool timer_is_as_it_was(int fd)
{
	uint64_t expirations;
	struct itimerspec t;

	return !timerfd_gettime(fd, &t) && t.it_interval.tv_nsec == 1000000 * REAP_MS &&
	       read(fd, &expirations, sizeof(expirations)) == sizeof(expirations) &&
	       expirations > 20;
}

/* It answers as ours does, but no change of the page makes an event in it. */
static int open_userfaultfd(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	int fd = (int)syscall(SYS_userfaultfd, O_NONBLOCK | UFFD_USER_MODE_ONLY);

	return fd < 0 || ioctl(fd, UFFDIO_API, &api) ? -1 : fd;
}

static bool userfaultfd_is_as_it_was(int fd)
{
	struct uffd_msg m;

	return read(fd, &m, sizeof(m)) < 0 && errno == EAGAIN;
}

static const struct file {
	const char *name;
	int (*open)(void);
	bool (*is_as_it_was)(int fd);
} files[] = {
	{ "memfd", open_memfd, memfd_is_as_it_was },
	{ "eventfd", open_eventfd, eventfd_is_as_it_was },
	{ "timerfd", open_timer, timer_is_as_it_was },
	{ "userfaultfd", open_userfaultfd, userfaultfd_is_as_it_was },
};
#define NR_FILES	(sizeof(files) / sizeof(files[0]))

/* ---- the program, in a child ---- */

static char *why;	/* the child's complaint, or its reason to skip; shared */
static struct fake_device fake;

#define EXPECT(cond)							\
do {									\
	if (!(cond)) {							\
		snprintf(why, PAGE, "line %d: not so: %s", __LINE__, #cond); \
		_exit(1);						\
	}								\
} while (0)

static void open_with(const char *monitor)
{
	const struct invlock_mm_options mo = {
		.size = sizeof(mo), .monitor = monitor, .need = INVLOCK_BIT(UNMAP),
	};
	const struct invlock_cache_options co = {
		.size = sizeof(co), .need = INVLOCK_BIT(UNMAP),
		/* The manual monitor has no descriptor, so the cache has one: its timer. */
		.flags = strcmp(monitor, "manual") ? INVLOCK_CACHE_REAPER : INVLOCK_CACHE_NO_REAPER,
		.ops = { fake_reg, fake_dereg }, .ctx = &fake, .reap_ms = REAP_MS,
	};
	struct invlock_why reason;
	int err = invlock_mm_open(&mo, &fake.mm, &reason);

	if (err) {
		snprintf(why, PAGE, "%s", reason.text);
		_exit(err == -EPERM || err == -ENOSYS || err == -EOPNOTSUPP ? EXIT_SKIP : 1);
	}
	EXPECT(!invlock_cache_open(fake.mm, &co, &fake.cache, &reason));
}

static void change(const char *monitor, char *page)
{
	EXPECT(mmap(page, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		    -1, 0) == page);
	if (!strcmp(monitor, "manual"))
		fake_change(&fake, page, PAGE);
}

/* No hit is stale. A monitor that has lost its descriptors says so. */
static void use(const char *monitor, char *page, uint64_t *latest)
{
	struct invlock_pin pin;
	int err;

	change(monitor, page);
	err = invlock_cache_get(fake.cache, page, PAGE, 0, &pin);
	EXPECT(!err || err == -ENOTRECOVERABLE || err == -EBUSY);
	if (err)
		return;
	EXPECT(pin.handle > *latest);
	*latest = pin.handle;
	invlock_cache_drop(fake.cache, page, PAGE);
	EXPECT(!invlock_cache_put(&pin));
}

/* Opens files from descriptor 3 on, without a gap. */
static void open_files(const struct file *f, int nr)
{
	for (int fd = 3; fd < nr; fd++) {
		int got = f->open();

		if (got < 0) {
			snprintf(why, PAGE, "no %s here: %s", f->name, strerror(errno));
			_exit(EXIT_SKIP);
		}
		EXPECT(got == fd);
	}
}

static void run_program(const char *monitor, const struct file *f)
{
	char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const struct rlimit few = { NR_MOST, NR_MOST };
	struct invlock_pin pin, other;
	uint64_t latest;
	int nr;

	/* a low limit, so that the program's files get the numbers of ours */
	EXPECT(!setrlimit(RLIMIT_NOFILE, &few));
	open_with(monitor);
	EXPECT(!invlock_cache_get(fake.cache, page, PAGE, 0, &pin));
	latest = pin.handle;
	nr = dup(2) + 1;
	EXPECT(nr > 4 && nr < NR_MOST);
	EXPECT(!syscall(SYS_close_range, 3, ~0U, 0));
	open_files(f, nr);

	/* Changes are no longer reported, and the first get after that returns the error. */
	if (!strcmp(monitor, "uffd"))
		EXPECT(invlock_cache_get(fake.cache, page, PAGE, 0, &other) == -ENOTRECOVERABLE);
	for (int i = 0; i < 3; i++)
		use(monitor, page, &latest);
	/* The region is dead by now, so the put wakes the reaper, or sets the timer. */
	EXPECT(!invlock_cache_put(&pin));
	EXPECT(invlock_cache_fd(fake.cache) == -EBADF);
	EXPECT(invlock_cache_reap(fake.cache) >= 0);
	/* The reaper needs no descriptor. */
	while (__atomic_load_n(&fake.nr_live, __ATOMIC_SEQ_CST))
		usleep(1000);
	/* give the program's own timer, if it has one, time to expire */
	usleep(30 * 1000 * REAP_MS);
	EXPECT(!invlock_cache_close(fake.cache));
	invlock_mm_close(fake.mm);
	EXPECT(!fake.nr_live && !fake.nr_wrong);
	for (int fd = 3; fd < nr; fd++)
		if (!f->is_as_it_was(fd)) {
			snprintf(why, PAGE, "descriptor %d, a %s, is not as it was", fd, f->name);
			_exit(1);
		}
}

/* ---- */

static void run(const char *monitor, const struct file *f)
{
	int status;
	pid_t pid;

	fake = (struct fake_device){};
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		alarm(PATIENCE_S);
		run_program(monitor, f);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SKIP)
		TEST_SKIP("%.180s", why);
	if (status)
		fail_msg("%s: status %#x %s", f->name, status, why);
}

static void run_all(const char *monitor)
{
	why = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(why, MAP_FAILED);
	for (unsigned int i = 0; i < NR_FILES; i++)
		run(monitor, &files[i]);
	munmap(why, PAGE);
}

TEST(files_with_the_number_of_a_caches_timer_are_not_touched)
{
	run_all("manual");
}

TEST(files_with_the_numbers_of_uffd_are_not_touched_and_not_mistaken_for_it)
{
	run_all("uffd");
}

TEST(files_with_the_numbers_of_bpf_are_not_touched)
{
	run_all("bpf");
}

TEST_MAIN()
