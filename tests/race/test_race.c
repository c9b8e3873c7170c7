// SPDX-License-Identifier: MIT
/*
 * The races. With the library as it is, nothing may be stale. With a part of its check removed,
 * something must be stale: a race that cannot fail proves nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "tests/test.h"
#include "tests/race/rig.h"

#define BIG	(128 * PAGE)	/* so long that a munmap of it can be met in its middle */

static struct gate gate;

static void write_number(void *page)
{
	__atomic_store_n((uint64_t *)page, race_number(), __ATOMIC_RELEASE);
}

/* ---- one thread: unmap, map, look up ---- */

static unsigned long same_thread(void)
{
	struct race race = {};
	char *p = race_map(PAGE);

	race_open(&race);
	write_number(p);
	for (unsigned long i = 0; i < race_rounds; i++) {
		race_use(&race, p, PAGE);
		munmap(p, PAGE);
		if (mmap(p, PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != p)
			abort();
		write_number(p);
		race_use(&race, p, PAGE);
	}
	munmap(p, PAGE);
	assert_true(race.hits >= race_rounds);
	race_close(&race);
	return race.stale;
}

/* The same, but the page lives on at another address. */
static unsigned long moved_away(void)
{
	struct race race = {};
	char *p = race_map(PAGE), *to = race_map(PAGE);

	race_open(&race);
	write_number(p);
	for (unsigned long i = 0; i < race_rounds; i++) {
		race_use(&race, p, PAGE);
		if (mremap(p, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to ||
		    mmap(p, PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != p)
			abort();
		write_number(p);
		race_use(&race, p, PAGE);
	}
	munmap(p, PAGE);
	munmap(to, PAGE);
	assert_true(race.hits >= race_rounds);
	race_close(&race);
	return race.stale;
}

/* ---- another thread gets the address while the first is still inside munmap ---- */

struct handed {
	char *addr;
	unsigned long rounds;
};

/* Starts a thread that changes what is handed to it, in turn with this one. */
static pthread_t begin_turns(struct race *race, struct handed *h,
			     void *(*each_turn)(void *handed))
{
	pthread_t t;

	race_open(race);
	gate.turn = 0;
	write_number(h->addr);
	if (pthread_create(&t, NULL, each_turn, h))
		abort();
	return t;
}

/* Return: stale uses */
static unsigned long end_turns(struct race *race, struct handed *h, pthread_t t)
{
	pthread_join(t, NULL);
	munmap(h->addr, BIG);
	race_close(race);
	return race->stale;
}

static void *unmap_each_turn(void *arg)
{
	struct handed *h = arg;

	for (unsigned int i = 0; i < h->rounds; i++) {
		gate_wait(&gate, 2 * i + 1);
		munmap(h->addr, BIG);
		gate_open(&gate, 2 * i + 2);
	}
	return NULL;
}

/* Takes the first page as soon as its address is free, in the middle of the other's munmap. */
static void take_over(char *addr)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
	unsigned int tries = 1;

	for (; mmap(addr, PAGE, PROT_READ | PROT_WRITE, flags, -1, 0) != addr; tries++) {
		if (errno != EEXIST)
			abort();
		if (tries % 1024 == 0)
			sched_yield();
	}
}

static unsigned long handed_in_munmap(void)
{
	struct race race = {};
	struct handed h = { race_map(BIG), race_rounds };
	unsigned long rounds = race_rounds;
	pthread_t t;

	t = begin_turns(&race, &h, unmap_each_turn);
	for (unsigned int i = 0; i < rounds; i++) {
		madvise(h.addr, BIG, MADV_POPULATE_WRITE);
		race_use(&race, h.addr, PAGE);
		gate_open(&gate, 2 * i + 1);
		take_over(h.addr);
		write_number(h.addr);
		race_use(&race, h.addr, PAGE);
		gate_wait(&gate, 2 * i + 2);
		/* restore the whole mapping for the next round */
		if (mmap(h.addr + PAGE, BIG - PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED)
			abort();
	}
	return end_turns(&race, &h, t);
}

/* ---- the same, but the munmap is held when its memory is free, for as long as needed ---- */

#define HELD_ROUNDS	100

static unsigned long held_in_munmap(void)
{
	struct race race = {};
	struct handed h = { race_map(BIG), HELD_ROUNDS };
	int uffd = race_open_uffd();
	pthread_t t;

	t = begin_turns(&race, &h, unmap_each_turn);
	for (unsigned int i = 0; i < h.rounds; i++) {
		race_hold_changes(uffd, h.addr, BIG);
		race_use(&race, h.addr, PAGE);
		gate_open(&gate, 2 * i + 1);
		take_over(h.addr);
		write_number(h.addr);
		race_use(&race, h.addr, PAGE);
		hold_let_go(uffd);
		gate_wait(&gate, 2 * i + 2);
		if (mmap(h.addr + PAGE, BIG - PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED)
			abort();
	}
	end_turns(&race, &h, t);
	close(uffd);
	return race.stale;
}

/* ---- another thread sees new memory in the middle of the change, then looks up ---- */

static void *discard_each_turn(void *arg)
{
	struct handed *h = arg;

	for (unsigned int i = 0; i < h->rounds; i++) {
		gate_wait(&gate, 2 * i + 1);
		madvise(h->addr, BIG, MADV_DONTNEED);
		gate_open(&gate, 2 * i + 2);
	}
	return NULL;
}

static unsigned long new_memory_seen(void)
{
	struct race race = {};
	struct handed h = { race_map(BIG), race_rounds };
	pthread_t t;

	t = begin_turns(&race, &h, discard_each_turn);
	for (unsigned int i = 0; i < h.rounds; i++) {
		madvise(h.addr, BIG, MADV_POPULATE_WRITE);
		race_use(&race, h.addr, PAGE);
		gate_open(&gate, 2 * i + 1);
		/* the first page is dropped first, and once; the call goes on for a while */
		for (unsigned int looks = 1; __atomic_load_n((uint64_t *)h.addr, __ATOMIC_ACQUIRE);
		     looks++)
			if (looks % 65536 == 0)
				sched_yield();
		write_number(h.addr);
		race_use(&race, h.addr, PAGE);
		gate_wait(&gate, 2 * i + 2);
	}
	return end_turns(&race, &h, t);
}

/* ---- the same, but the discard is held when its first page is new, for as long as needed ---- */

/* Newer kernels leave the old page in the TLB until the discard ends, or another thread unmaps. */
static void see_new_memory(char *addr)
{
	while (__atomic_load_n((uint64_t *)addr, __ATOMIC_ACQUIRE)) {
		char *other = race_map(PAGE);

		*other = 1;
		munmap(other, PAGE);
	}
}

static unsigned long held_in_discard(void)
{
	struct race race = {};
	struct handed h = { race_map(BIG), HELD_ROUNDS };
	int uffd = race_open_uffd();
	pthread_t t;

	t = begin_turns(&race, &h, discard_each_turn);
	/* The first half has been dropped when the second one waits to be let go. */
	race_hold_changes(uffd, h.addr + BIG / 2, BIG / 2);
	for (unsigned int i = 0; i < h.rounds; i++) {
		race_use(&race, h.addr, PAGE);
		gate_open(&gate, 2 * i + 1);
		if (!hold_await(uffd, -1))
			abort();
		see_new_memory(h.addr);
		write_number(h.addr);
		race_use(&race, h.addr, PAGE);
		hold_let_go(uffd);
		gate_wait(&gate, 2 * i + 2);
	}
	close(uffd);
	return end_turns(&race, &h, t);
}

/* ---- another process truncates a file that we have mapped, or punches a hole into it ---- */

static void punch(int fd)
{
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE))
		_exit(1);
}

static void truncate_and_grow(int fd)
{
	if (ftruncate(fd, 0) || ftruncate(fd, PAGE))
		_exit(1);
}

static pid_t start_other(struct gate *shared, unsigned long rounds, int fd, void (*change)(int))
{
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (unsigned int i = 0; i < rounds; i++) {
		gate_wait(shared, 2 * i + 1);
		change(fd);
		gate_open(shared, 2 * i + 2);
	}
	_exit(0);
}

static unsigned long other_process(void (*change)(int))
{
	struct gate *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int fd = memfd_create("race", MFD_CLOEXEC), status;
	struct race race = {};
	char *p;
	pid_t pid;

	assert_true(fd >= 0 && shared != MAP_FAILED && !ftruncate(fd, PAGE));
	race_open(&race);
	pid = start_other(shared, race_rounds, fd, change);
	p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(pid > 0 && p != MAP_FAILED);
	write_number(p);
	for (unsigned int i = 0; i < race_rounds; i++) {
		race_use(&race, p, PAGE);
		gate_open(shared, 2 * i + 1);
		gate_wait(shared, 2 * i + 2);
		write_number(p);
		race_use(&race, p, PAGE);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	munmap(p, PAGE);
	munmap(shared, PAGE);
	close(fd);
	race_close(&race);
	return race.stale;
}

/* ---- the tests ---- */

#define CONTROL_ROUNDS	3000

#ifdef __SANITIZE_THREAD__
#define SLOWED_DOWN	true
#else
#define SLOWED_DOWN	false
#endif

/* A control runs until it has failed, but only so many times as long as the real test. */
#define assert_control_fails(call)						\
do {										\
	unsigned long full = race_rounds, failed = 0;				\
										\
	race_rounds = full < CONTROL_ROUNDS ? full : CONTROL_ROUNDS;		\
	for (unsigned long done = 0; !failed && done < 100 * full; done += race_rounds) \
		failed = call;							\
	race_rounds = full;							\
	if (!failed && SLOWED_DOWN)						\
		TEST_SKIP("too slow under ThreadSanitizer to hit the window of this control"); \
	print_message("# %s: %lu stale, as it must be\n", #call, failed);	\
	assert_true(failed > 0);						\
} while (0)

TEST(unmap_then_lookup_on_one_thread_is_never_stale)
{
	assert_int_equal(same_thread(), 0);
}

TEST_PLANTED(no_check, unmap_then_lookup_is_stale_without_the_check)
{
	assert_control_fails(same_thread());
}

TEST(move_then_lookup_on_one_thread_is_never_stale)
{
	assert_int_equal(moved_away(), 0);
}

TEST_PLANTED(no_check, move_then_lookup_is_stale_without_the_check)
{
	assert_control_fails(moved_away());
}

TEST_PLANTED(no_calls, what_no_call_announces_falls_into_the_net_and_is_never_stale)
{
	race_need_functions();
	assert_int_equal(same_thread(), 0);
	assert_int_equal(moved_away(), 0);
	assert_int_equal(handed_in_munmap(), 0);
	assert_int_equal(new_memory_seen(), 0);
}

TEST_PLANTED(no_calls_no_net, what_no_call_announces_is_stale_without_the_net)
{
	race_need_functions();
	assert_control_fails(same_thread());
	assert_control_fails(moved_away());
	assert_control_fails(handed_in_munmap());
	assert_control_fails(new_memory_seen());
}

TEST(an_address_handed_over_inside_munmap_is_never_stale)
{
	assert_int_equal(handed_in_munmap(), 0);
}

TEST_PLANTED(no_check, an_address_handed_over_inside_munmap_is_stale_without_the_check)
{
	assert_control_fails(handed_in_munmap());
}

TEST_PLANTED(end_only, an_address_handed_over_inside_munmap_is_stale_with_the_end_only)
{
	unsigned long stale = held_in_munmap();

	/* In a munmap that is not held, this moment is too short to be met with certainty. */
	print_message("# %lu of %d uses stale, as they must be\n", stale, HELD_ROUNDS);
	assert_true(stale > 0);
}

TEST(new_memory_seen_by_another_thread_is_never_stale)
{
	assert_int_equal(new_memory_seen(), 0);
}

TEST_PLANTED(no_check, new_memory_seen_by_another_thread_is_stale_without_the_check)
{
	assert_control_fails(new_memory_seen());
}

TEST_PLANTED(end_only, new_memory_seen_by_another_thread_is_stale_with_the_end_only)
{
	unsigned long stale = held_in_discard();

	/* In a discard that is not held, this moment is too short to be met with certainty. */
	print_message("# %lu of %d uses stale, as they must be\n", stale, HELD_ROUNDS);
	assert_true(stale > 0);
}

TEST(a_hole_punched_by_another_process_is_never_stale)
{
	assert_int_equal(other_process(punch), 0);
}

TEST_PLANTED(no_check, a_hole_punched_by_another_process_is_stale_without_the_check)
{
	assert_control_fails(other_process(punch));
}

TEST(a_truncation_by_another_process_is_never_stale)
{
	assert_int_equal(other_process(truncate_and_grow), 0);
}

TEST_PLANTED(no_check, a_truncation_by_another_process_is_stale_without_the_check)
{
	assert_control_fails(other_process(truncate_and_grow));
}

#define URING_RACE(name, change)						\
TEST(a_real_write_after_##name##_raced_a_registration_is_never_stale)		\
{										\
	unsigned long writes = 0;						\
										\
	assert_int_equal(uring_race(change, race_rounds, &writes), 0);		\
	assert_true(writes > race_rounds / 2);					\
}										\
TEST_PLANTED(no_check,								\
	     a_real_write_after_##name##_raced_a_registration_is_stale_without_the_check) \
{										\
	unsigned long writes;							\
										\
	assert_control_fails(uring_race(change, race_rounds, &writes));		\
}

URING_RACE(discard, CHANGE_DISCARD)
URING_RACE(map_fixed, CHANGE_FIXED)
URING_RACE(mremap, CHANGE_REMAP)

#define HELD_WRITES	10

TEST(a_real_write_after_a_registration_in_a_held_discard_is_never_stale)
{
	unsigned long writes = 0;

	assert_int_equal(uring_held_discard(HELD_WRITES, &writes), 0);
	assert_true(writes > HELD_WRITES / 2);
}

TEST_PLANTED(start_only,
	     a_real_write_after_a_registration_in_a_held_discard_is_stale_with_the_start_only)
{
	unsigned long writes = 0, stale = uring_held_discard(HELD_WRITES, &writes);

	print_message("# %lu of %lu writes stale, as they must be\n", stale, writes);
	assert_int_equal(stale, HELD_WRITES);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		race_rounds = strtoul(argv[1], NULL, 0);
	return test_run(&(struct test_fixtures){});
}
