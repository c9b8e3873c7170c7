// SPDX-License-Identifier: MIT
/*
 * A device that is deleted while a program uses it. Soft RoCE cannot take its objects away from a
 * program: it vanishes from the list of devices, and the call that deletes it returns when the last
 * of them is destroyed. So that call also shows that the adapter has left nothing behind.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <invlock/verbs.h>

#include "loop.h"
#include "tests/test.h"
#include "torn.h"

#define LEN	16384
#define NR	8
#define DEVICE	"rxe1"		/* on a network device that is there for this test */

static struct loop loop;
static struct invlock_mm *mm;
static struct invlock_verbs *verbs;
static pid_t deleter;

static void add_device(void)
{
	assert_int_equal(system("rxe_add " DEVICE " elsewhere"), 0);
}

static void open_all(void)
{
	struct invlock_mm_options watch = {
		.size = sizeof(watch), .need = INVLOCK_KINDS_DEFAULT,
	};
	/* a busy machine may leave a CPU out for longer than the default of one second */
	struct invlock_verbs_options options = {
		.size = sizeof(options), .time_ns = 60000000000, .access = LOOP_ACCESS,
	};
	const char *error = loop_open(&loop, DEVICE);

	if (error)
		fail_msg("%s", error);
	assert_int_equal(invlock_mm_open(&watch, &mm, NULL), 0);
	assert_int_equal(invlock_verbs_open(mm, &options, &verbs, NULL), 0);
}

static bool is_listed(void)
{
	struct ibv_device **list = ibv_get_device_list(NULL);
	bool listed = false;

	for (int i = 0; list && list[i]; i++)
		listed |= !strcmp(ibv_get_device_name(list[i]), DEVICE);
	if (list)
		ibv_free_device_list(list);
	return listed;
}

/* Starts to delete the device, and returns when it has vanished. */
static void delete_device(void)
{
	deleter = fork();
	if (!deleter) {
		execlp("rxe_add", "rxe_add", "--delete", DEVICE, NULL);
		_exit(127);
	}
	while (is_listed())
		usleep(1000);
}

static void wait_until_deleted(void)
{
	int status;

	assert_int_equal(waitpid(deleter, &status, 0), deleter);
	assert_int_equal(status, 0);
}

/* Has the kernel taken the objects away? Then it says so by an event. */
static bool is_taken_away(void)
{
	struct pollfd fd = { .fd = loop.context->async_fd, .events = POLLIN };
	struct ibv_async_event event;
	bool fatal = false;

	while (poll(&fd, 1, 0) == 1 && !ibv_get_async_event(loop.context, &event)) {
		fatal |= event.event_type == IBV_EVENT_DEVICE_FATAL;
		ibv_ack_async_event(&event);
	}
	return fatal;
}

/* One message from @mem to @peer. What cannot be registered any more needs a sentence for it. */
static void try_message(char *mem, const struct invlock_verbs_pin *peer, unsigned char byte,
			struct torn_tally *tally)
{
	struct invlock_verbs_pin pin;
	struct invlock_why why;
	int err = invlock_verbs_get(verbs, loop.pd, mem, LEN, LOOP_ACCESS, &pin);

	if (err) {
		assert_int_equal(invlock_verbs_explain(verbs, mem, LEN, LOOP_ACCESS, err, &why),
				 err);
		assert_non_null(strstr(why.text, "gone away"));
		return;
	}
	memset(mem, byte, LEN);
	if (loop_request(&loop, IBV_WR_RDMA_WRITE, mem, pin.lkey, peer->addr, peer->rkey, LEN) ==
	    IBV_WC_SUCCESS)
		torn_judge(tally, TORN_NOTHING, peer->addr, LEN, byte);
	assert_int_equal(invlock_verbs_put(&pin), 0);
}

static char *map(size_t len)
{
	char *mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(mem, MAP_FAILED);
	return mem;
}

/* Messages from memory that was registered before, has changed since, and is new. */
static void use_device(char *mem, const struct invlock_verbs_pin *peer)
{
	struct torn_tally tally = {};

	for (int i = 0; i < 4 * NR; i++) {
		char *at = mem + i % NR * LEN;

		if (i % 3 == 0)
			assert_int_equal(madvise(at, LEN, MADV_DONTNEED), 0);
		try_message(at, peer, 1 + i, &tally);
	}
	printf("#   %u messages after the deletion began, %u stale\n", tally.sent[TORN_NOTHING],
	       tally.stale[TORN_NOTHING]);
	assert_int_equal(tally.stale[TORN_NOTHING], 0);
}

static void close_all(void)
{
	struct invlock_verbs_stats stats = { .size = sizeof(stats) };

	assert_int_equal(invlock_verbs_remove_pd(verbs, loop.pd), 0);
	assert_int_equal(invlock_verbs_stats(verbs, &stats), 0);
	assert_int_equal(stats.regions, 0);
	assert_int_equal(stats.domains, 0);
	assert_int_equal(invlock_verbs_close(verbs), 0);
	invlock_mm_close(mm);
	loop_close(&loop);
}

TEST(a_device_that_goes_away_is_used_to_the_end_and_then_nothing_is_left)
{
	char *mem = map(2 * NR * LEN), *peer_mem = map(LEN);
	struct invlock_verbs_pin peer, held;
	struct torn_tally tally = {};

	add_device();
	open_all();
	assert_int_equal(invlock_verbs_get(verbs, loop.pd, peer_mem, LEN, LOOP_ACCESS, &peer), 0);
	assert_int_equal(invlock_verbs_get(verbs, loop.pd, mem, LEN, LOOP_ACCESS, &held), 0);
	for (int i = 0; i < NR; i++)
		try_message(mem + i * LEN, &peer, 1 + i, &tally);
	assert_int_equal(tally.sent[TORN_NOTHING], NR);
	assert_int_equal(tally.stale[TORN_NOTHING], 0);
	delete_device();
	printf("#   the kernel %s\n", is_taken_away() ? "has taken the objects away" :
	       "waits for the program");
	use_device(mem, &peer);
	use_device(mem + NR * LEN, &peer);
	/* while pins are held the domain stays, as ever */
	assert_int_equal(invlock_verbs_remove_pd(verbs, loop.pd), -EBUSY);
	assert_int_equal(invlock_verbs_put(&held), 0);
	assert_int_equal(invlock_verbs_put(&peer), 0);
	close_all();
	wait_until_deleted();
	munmap(mem, 2 * NR * LEN);
	munmap(peer_mem, LEN);
}

TEST(a_device_that_comes_back_is_used_again)
{
	char *mem = map(NR * LEN), *peer_mem = map(LEN);
	struct invlock_verbs_pin peer;

	add_device();
	open_all();
	assert_int_equal(invlock_verbs_get(verbs, loop.pd, peer_mem, LEN, LOOP_ACCESS, &peer), 0);
	use_device(mem, &peer);
	assert_int_equal(invlock_verbs_put(&peer), 0);
	close_all();
	delete_device();
	wait_until_deleted();
}

/* Its registrations and its connections end with it. */
TEST(a_program_that_is_killed_lets_the_device_go)
{
	pid_t user;
	int status, ready[2];
	char byte;

	add_device();
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	user = fork();
	if (!user) {
		struct invlock_verbs_pin pin;

		open_all();
		if (!invlock_verbs_get(verbs, loop.pd, map(LEN), LEN, LOOP_ACCESS, &pin))
			(void)!write(ready[1], "", 1);
		for (;;)
			pause();
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	delete_device();
	assert_int_equal(kill(user, SIGKILL), 0);
	assert_int_equal(waitpid(user, &status, 0), user);
	wait_until_deleted();
	close(ready[0]);
}

/* Return: how a program of libfabric ended whose device was deleted while it sent messages */
static int delete_under_program(const char *environment)
{
	char line[4096];
	int status = -1;
	FILE *said;

	add_device();
	snprintf(line, sizeof(line), "ENDS_ADDRESS=10.9.1.1 %s timeout 100 fabric_program 100000 1 "
		 "2>&1; echo status $?", environment);
	said = popen(line, "r");
	assert_non_null(said);
	while (fgets(line, sizeof(line), said)) {
		printf("#   %s", line);
		if (strstr(line, "first message"))
			delete_device();
		sscanf(line, "status %d", &status);
	}
	pclose(said);
	wait_until_deleted();
	return status;
}

/* What libfabric then says is for libfabric to decide, but the plug-in must not hang or crash. */
TEST(a_program_of_libfabric_ends_when_its_device_goes_away)
{
	/* 124 or more: it was stopped, or died of a signal */
	if (delete_under_program("") >= 124)
		TEST_SKIP("this libfabric does not survive it without the plug-in, either");
	assert_in_range(delete_under_program("INVLOCK_STATS=1 "
					     "FI_PROVIDER_PATH=/usr/lib/invlock/libfabric"),
			0, 123);
}

TEST_MAIN()
