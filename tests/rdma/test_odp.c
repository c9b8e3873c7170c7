// SPDX-License-Identifier: MIT
/*
 * On-demand registrations of Soft RoCE, with a fault loop that is the kernel's own or has been
 * converted: tests/vm/odp.sh. $odp says which: "plain" or "any". tests/vm/odp/walk.c counts the
 * rounds of the loop, and can make them collide with an invalidation.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "loop.h"
#include "odp.h"
#include "tests/hold.h"
#include "tests/test.h"
#include "torn.h"

#define MESSAGES	1200
#define BURSTS		150
#define CHANGES		12		/* in a burst */
#define ROUNDS		(64 + 8)	/* of the converted loop: the slow path has 8 */
#define MANY		300		/* rounds that the converted loop never takes */

/* the ways of request(); first those in which the device reads, which do no harm if stale */
static const int ways[] = { 1, 3, 0, 2 };
static struct loop loop;
static char *peer;		/* an ordinary registration */
static struct ibv_mr *peer_mr;

static bool is_converted(void)
{
	const char *odp = getenv("odp");

	assert_non_null(odp);
	return strcmp(odp, "plain");
}

static int setup(void **state)
{
	const char *error = loop_open(&loop, NULL);

	(void)state;
	if (error) {
		fprintf(stderr, "%s\n", error);
		return -1;
	}
	peer = mmap(NULL, ODP_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	peer_mr = ibv_reg_mr(loop.pd, peer, ODP_LEN, LOOP_ACCESS);
	walk_set("collide", 0);
	walk_set("missed", 0);
	return peer_mr ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	if (ibv_dereg_mr(peer_mr))
		return -1;
	loop_close(&loop);
	/* a walk that no invalidation hit shows nothing */
	return walk_get("missed") ? -1 : 0;
}

static struct ibv_mr *on_demand(void *mem)
{
	struct ibv_mr *mr = ibv_reg_mr(loop.pd, mem, ODP_LEN, LOOP_ACCESS | IBV_ACCESS_ON_DEMAND);

	assert_non_null(mr);
	return mr;
}

/*
 * One message between the peer and memory that is registered on demand, which is at either end and
 * sends or receives. Return: the status
 */
static int request(int way, char *mem, struct ibv_mr *mr)
{
	bool send = way & 1;

	if (way & 2)	/* the device reads or writes the memory for a peer, by its rkey */
		return loop_request(&loop, send ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE, peer,
				    peer_mr->lkey, mem, mr->rkey, ODP_LEN);
	return loop_request(&loop, send ? IBV_WR_RDMA_WRITE : IBV_WR_RDMA_READ, mem, mr->lkey,
			    peer, peer_mr->rkey, ODP_LEN);
}

/* Sends a message while nothing changes, and counts whether it arrives where the program looks. */
static void judge(struct torn_tally *tally, enum torn_change change, int way, char *mem,
		  struct ibv_mr *mr, unsigned char byte)
{
	bool send = way & 1;

	memset(send ? mem : peer, byte, ODP_LEN);
	memset(send ? peer : mem, 0, ODP_LEN);
	assert_int_equal(request(way, mem, mr), IBV_WC_SUCCESS);
	torn_judge(tally, change, send ? peer : mem, ODP_LEN, byte);
}

static void print(const struct torn_tally *tally)
{
	for (int i = 0; i < TORN_NR; i++)
		if (tally->sent[i])
			printf("#   %s: %u stale of %u\n", torn_names[i], tally->stale[i],
			       tally->sent[i]);
}

static unsigned int sum(const unsigned int *counts)
{
	unsigned int all = 0;

	for (int i = 0; i < TORN_NR; i++)
		all += counts[i];
	return all;
}

TEST(programs_that_know_nothing_of_it_run_on_demand)
{
	/* the client tries until the server listens, or is gone */
	static const char pair[] =
		"%s > /tmp/server 2>&1 & until %s 10.9.0.1 >> /tmp/client 2>&1; do "
		"kill -0 $! || { cat /tmp/client /tmp/server; exit 1; }; sleep 0.2; done; wait $!";
	static const char *const programs[] = {
		"ibv_rc_pingpong -g 1 -m 4096 -o -c",
		"ib_write_bw -d rxe0 -x 1 -m 4096 -s 4096 -n 300 --odp",
		"ib_send_bw -d rxe0 -x 1 -m 4096 -s 4096 -n 300 --odp",
	};
	char line[1000];

	for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++) {
		long faults = walk_get("faults");
		int status;

		snprintf(line, sizeof(line), pair, programs[i], programs[i]);
		status = system(line);
		printf("#   %s: %d, %ld faults\n", programs[i], status,
		       walk_get("faults") - faults);
		assert_int_equal(status, 0);
		assert_true(walk_get("faults") > faults);
	}
}

TEST(a_message_after_any_change_is_never_stale)
{
	struct ibv_mr *mr[2] = {};
	struct torn *torn = torn_open(ODP_LEN);
	struct torn_tally tally = {};
	long faults = walk_get("faults"), walks = walk_get("walks");
	unsigned int seed = 1;

	for (int i = 0; i < MESSAGES; i++) {
		enum torn_change change = torn_next(&seed);
		bool shared = change == TORN_TRUNCATE || change == TORN_REMOVE;
		char *mem;

		/* malloc's memory begins within a page: tests/vm/odp_init */
		if (change == TORN_FREE)
			continue;
		mem = torn_tear(torn, change);
		if (!mem)
			continue;
		if (!mr[shared])
			mr[shared] = on_demand(mem);
		judge(&tally, change, i, mem, mr[shared], 1 + i % 255);
	}
	assert_true(!ibv_dereg_mr(mr[0]) && !ibv_dereg_mr(mr[1]));
	print(&tally);
	printf("#   %ld faults in %ld rounds\n", walk_get("faults") - faults,
	       walk_get("walks") - walks);
	assert_int_equal(sum(tally.stale), 0);
	assert_true(sum(tally.sent) >= 1000);
}

struct tearing {
	struct odp_memory *memory;
	unsigned int seed;
};

static void *tear_apart(void *arg)
{
	struct tearing *t = arg;

	for (int i = 0; i < CHANGES; i++)
		odp_tear(t->memory, rand_r(&t->seed) % ODP_CHANGES);
	return NULL;
}

/* Return: how many messages were sent while another thread tore the memory apart */
static unsigned int send_during(struct tearing *t, struct ibv_mr *mr, unsigned int *refused)
{
	unsigned int nr = 0;
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, tear_apart, t), 0);
	do {
		/* where nothing is mapped, the device refuses the message, and disconnects */
		if (request(nr++, t->memory->at, mr) == IBV_WC_SUCCESS)
			continue;
		++*refused;
		assert_null(loop_connect(&loop));
	} while (pthread_tryjoin_np(thread, NULL));
	return nr;
}

TEST(a_message_after_memory_was_torn_apart_under_messages_is_never_stale)
{
	long faults = walk_get("faults"), walks = walk_get("walks");
	unsigned int during = 0, refused = 0;
	struct torn_tally tally = {};
	struct odp_memory memory[2];
	struct ibv_mr *mr[2];
	struct tearing t = { .seed = 1 };

	for (int i = 0; i < 2; i++) {
		odp_memory_open(&memory[i], i);
		mr[i] = on_demand(memory[i].at);
	}
	for (int i = 0; i < BURSTS; i++) {
		t.memory = &memory[i % 2];
		during += send_during(&t, mr[i % 2], &refused);
		for (int way = 0; way < 4; way++)
			judge(&tally, TORN_UNMAP, way, t.memory->at, mr[i % 2],
			      1 + (4 * i + way) % 255);
	}
	for (int i = 0; i < 2; i++) {
		assert_int_equal(ibv_dereg_mr(mr[i]), 0);
		odp_memory_close(&memory[i]);
	}
	printf("#   %d bursts of %d changes, under %u messages, of which %u were refused\n", BURSTS,
	       CHANGES, during, refused);
	printf("#   %u stale of %u after them\n", sum(tally.stale), sum(tally.sent));
	printf("#   %ld faults in %ld rounds\n", walk_get("faults") - faults,
	       walk_get("walks") - walks);
	assert_int_equal(sum(tally.stale), 0);
}

struct plan {
	struct odp_memory *memory;
	enum odp_change change;
	long held;
};

static void *change_when_held(void *arg)
{
	struct plan *p = arg;

	while (walk_get("held") == p->held)
		usleep(100);
	odp_tear(p->memory, p->change);
	return NULL;
}

/* A walk finds pages, which change before the loop can commit. The next message needs the new. */
static void change_under_walk(struct torn_tally *tally, enum odp_change change, bool shared,
			      int way)
{
	struct odp_memory memory;
	struct plan plan = { &memory, change, walk_get("held") };
	struct ibv_mr *mr;
	pthread_t thread;

	odp_memory_open(&memory, shared);
	mr = on_demand(memory.at);
	odp_memory_fill(&memory, change);
	walk_set("collide", 1);
	assert_int_equal(pthread_create(&thread, NULL, change_when_held, &plan), 0);
	assert_int_equal(request(way, memory.at, mr), IBV_WC_SUCCESS);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(walk_get("held"), plan.held + 1);
	judge(tally, TORN_DISCARD, way, memory.at, mr, 1 + way);
	assert_int_equal(sum(tally->stale), 0);
	assert_int_equal(ibv_dereg_mr(mr), 0);
	odp_memory_close(&memory);
}

TEST(what_changes_between_walk_and_commit_is_not_published)
{
	struct torn_tally tally = {};

	for (int i = 0; i < 4; i++) {
		change_under_walk(&tally, ODP_DISCARD, false, ways[i]);
		change_under_walk(&tally, ODP_DISCARD, true, ways[i]);
		/* a device that writes has the pages copied itself */
		if (ways[i] & 1)
			change_under_walk(&tally, ODP_COPY, false, ways[i]);
	}
	printf("#   0 stale of %u\n", sum(tally.sent));
	assert_int_equal(sum(tally.sent), 10);
}

TEST(as_many_collisions_cost_as_many_rounds_in_both_forms)
{
	static const int collisions[] = { 0, 1, 2, 10, ROUNDS - 1 };
	struct odp_memory memory;
	struct ibv_mr *mr;
	pid_t puncher;

	odp_memory_open(&memory, true);
	mr = on_demand(memory.at);
	puncher = odp_punch_held(&memory, walk_get("held"));
	for (size_t i = 0; i < sizeof(collisions) / sizeof(collisions[0]); i++) {
		long walks = walk_get("walks");

		odp_tear(&memory, ODP_DISCARD);
		walk_set("collide", collisions[i]);
		assert_int_equal(odp_prefetch(&loop, mr), 0);
		walks = walk_get("walks") - walks;
		printf("#   %d collisions: %ld rounds\n", collisions[i], walks);
		assert_int_equal(walks, collisions[i] + 1);
	}
	odp_kill(puncher);
	assert_int_equal(ibv_dereg_mr(mr), 0);
	odp_memory_close(&memory);
}

TEST(a_fault_whose_every_round_collides_is_bounded_if_converted)
{
	struct torn_tally tally = {};
	struct odp_memory memory;
	struct ibv_mr *mr;
	pid_t puncher;
	long walks;
	int err;

	odp_memory_open(&memory, true);
	mr = on_demand(memory.at);
	puncher = odp_punch_held(&memory, walk_get("held"));
	walks = walk_get("walks");
	walk_set("collide", MANY);
	err = odp_prefetch(&loop, mr);
	walk_set("collide", 0);
	walks = walk_get("walks") - walks;
	odp_kill(puncher);
	printf("#   %ld rounds, then %s\n", walks, err ? strerror(-err) : "the storm is over");
	assert_int_equal(err, is_converted() ? -EBUSY : 0);
	assert_int_equal(walks, is_converted() ? ROUNDS : MANY + 1);
	/* it has left nothing behind that a message would use */
	for (int i = 0; i < 4; i++) {
		judge(&tally, TORN_REMOVE, ways[i], memory.at, mr, 1 + i);
		assert_int_equal(sum(tally.stale), 0);
	}
	assert_int_equal(ibv_dereg_mr(mr), 0);
	odp_memory_close(&memory);
}

/* a process of its own, which says when it is about to fault, and waits for an answer */
static void fault(const struct odp_memory *memory, int to[2], int from[2])
{
	struct loop own;
	struct ibv_mr *mr;
	char byte = 0;

	if (loop_open(&own, NULL))
		_exit(1);
	mr = ibv_reg_mr(own.pd, memory->at, ODP_LEN, LOOP_ACCESS | IBV_ACCESS_ON_DEMAND);
	if (!mr || write(to[1], &byte, 1) != 1 || read(from[0], &byte, 1) != 1)
		_exit(2);
	_exit(odp_prefetch(&own, mr) ? 3 : 0);
}

/* The process is killed during its first round, which collides then, as would many more. */
TEST(a_fault_ends_when_its_process_is_killed_if_converted)
{
	struct odp_memory memory;
	int to[2], from[2], status;
	long walks, held;
	pid_t child, puncher;
	char byte = 0;

	odp_memory_open(&memory, true);
	assert_true(!pipe(to) && !pipe(from));
	child = fork();
	if (!child)
		fault(&memory, to, from);
	assert_int_equal(read(to[0], &byte, 1), 1);
	walks = walk_get("walks");
	held = walk_get("held");
	walk_set("collide", MANY);
	assert_int_equal(write(from[1], &byte, 1), 1);
	while (walk_get("held") == held)
		usleep(100);
	assert_int_equal(kill(child, SIGKILL), 0);
	/* it counts from here, so it answers the walk that is held, too */
	puncher = odp_punch_held(&memory, held);
	assert_int_equal(waitpid(child, &status, 0), child);
	walks = walk_get("walks") - walks;
	walk_set("collide", 0);
	odp_kill(puncher);
	printf("#   the process that was killed took %ld rounds\n", walks);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(walks, is_converted() ? 1 : MANY + 1);
	odp_memory_close(&memory);
}

/* The walk faults without permission to wait, so nobody's answer is waited for. */
TEST(a_fault_of_memory_behind_a_userfaultfd_fails)
{
	struct uffdio_api api = { .api = UFFD_API };
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	long walks = walk_get("walks");
	struct odp_memory memory;
	struct ibv_mr *mr;

	odp_memory_open(&memory, false);
	mr = on_demand(memory.at);
	assert_int_equal(ioctl(fd, UFFDIO_API, &api), 0);
	assert_int_equal(hold_memory(fd, memory.at, ODP_LEN, UFFDIO_REGISTER_MODE_MISSING), 0);
	assert_int_equal(odp_prefetch(&loop, mr), -EFAULT);
	assert_int_equal(walk_get("walks"), walks + 2);	/* the first one is the registration's */
	close(fd);
	assert_int_equal(odp_prefetch(&loop, mr), 0);
	assert_int_equal(ibv_dereg_mr(mr), 0);
	odp_memory_close(&memory);
}

TEST_MAIN(.setup = setup, .teardown = teardown)
