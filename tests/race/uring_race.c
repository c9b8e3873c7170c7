// SPDX-License-Identifier: MIT
/*
 * A change of the map races a registration of the same memory as an io_uring fixed buffer.
 * Afterwards a real write from that buffer must carry what memory contains.
 *
 * A round: the owner fills the buffer and starts the other thread, which gets and puts the
 * registration again and again while the owner changes the map. When both are done, the owner
 * writes a new number into each page, gets a registration, and uses it to write the buffer to a
 * memfd. These numbers must arrive there.
 */
#include <liburing.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/test.h"
#include "tests/race/rig.h"

#define NR_PAGES	64
#define LEN		(NR_PAGES * PAGE)
#define NR_SLOTS	64

struct uring_rig {
	struct io_uring ring;
	struct race race;
	pthread_mutex_t lock;		/* guards free_slots */
	uint64_t free_slots;
	int memfd;
	char *arrived;			/* the content of the memfd */
	char *buf, *spare;
	struct gate gate;
	unsigned long rounds;
};

static int buffer_reg(void *ctx, void *addr, size_t len, uint64_t *ret_handle)
{
	struct iovec iov = { addr, len };
	__u64 tag = 0;
	struct uring_rig *rig = ctx;
	int slot, err;

	pthread_mutex_lock(&rig->lock);
	slot = rig->free_slots ? __builtin_ctzll(rig->free_slots) : -1;
	if (slot >= 0)
		rig->free_slots &= ~(1ULL << slot);
	pthread_mutex_unlock(&rig->lock);
	if (slot < 0)
		return -ENOSPC;
	err = io_uring_register_buffers_update_tag(&rig->ring, slot, &iov, &tag, 1);
	if (err < 0) {
		pthread_mutex_lock(&rig->lock);
		rig->free_slots |= 1ULL << slot;
		pthread_mutex_unlock(&rig->lock);
		return err;
	}
	*ret_handle = slot;
	return 0;
}

static void buffer_dereg(void *ctx, void *addr, size_t len, uint64_t handle)
{
	struct iovec none = {};
	__u64 tag = 0;
	struct uring_rig *rig = ctx;

	(void)addr, (void)len;
	if (io_uring_register_buffers_update_tag(&rig->ring, handle, &none, &tag, 1) < 0)
		abort();
	pthread_mutex_lock(&rig->lock);
	rig->free_slots |= 1ULL << handle;
	pthread_mutex_unlock(&rig->lock);
}

static void rig_open(struct uring_rig *rig)
{
	struct invlock_cache_options co = {
		.size = sizeof(co), .ops = { buffer_reg, buffer_dereg }, .ctx = rig,
		.max_entries = NR_SLOTS,
		/* A get in the middle of a discard that waits for us gives up soon. */
		.time_ns = 100000000,
	};
	struct race plain = {};
	int err;

	/* skips the test if bpf cannot be opened; its cache is not used */
	race_open(&plain);
	invlock_cache_close(plain.cache);
	rig->race.mm = plain.mm;
	err = io_uring_queue_init(8, &rig->ring, 0);
	if (err) {
		invlock_mm_close(rig->race.mm);
		TEST_SKIP("no io_uring here: %s", strerror(-err));
	}
	assert_int_equal(io_uring_register_buffers_sparse(&rig->ring, NR_SLOTS), 0);
	assert_int_equal(invlock_cache_open(rig->race.mm, &co, &rig->race.cache, NULL), 0);
	pthread_mutex_init(&rig->lock, NULL);
	rig->free_slots = ~0ULL;
	rig->memfd = memfd_create("race", MFD_CLOEXEC);
	assert_true(rig->memfd >= 0 && !ftruncate(rig->memfd, LEN));
	rig->arrived = mmap(NULL, LEN, PROT_READ, MAP_SHARED, rig->memfd, 0);
	assert_true(rig->arrived != MAP_FAILED);
	rig->buf = race_map(LEN);
	rig->spare = race_map(LEN);
}

static void rig_close(struct uring_rig *rig)
{
	race_close(&rig->race);
	io_uring_queue_exit(&rig->ring);
	munmap(rig->buf, LEN);
	munmap(rig->spare, LEN);
	munmap(rig->arrived, LEN);
	close(rig->memfd);
}

/* The other thread: its registrations race the change. */
static void *register_each_turn(void *arg)
{
	struct uring_rig *rig = arg;

	for (unsigned int i = 0; i < rig->rounds; i++) {
		gate_wait(&rig->gate, 3 * i + 1);
		do {
			struct invlock_pin pin;

			if (!invlock_cache_get(rig->race.cache, rig->buf, LEN, 0, &pin))
				invlock_cache_put(&pin);
		} while (__atomic_load_n(&rig->gate.turn, __ATOMIC_ACQUIRE) != 3 * i + 2);
		gate_open(&rig->gate, 3 * i + 3);
	}
	return NULL;
}

static void change_map(struct uring_rig *rig, enum uring_change change)
{
	switch (change) {
	case CHANGE_DISCARD:
		madvise(rig->buf, LEN, MADV_DONTNEED);
		break;
	case CHANGE_FIXED:
		if (mmap(rig->buf, LEN, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != rig->buf)
			abort();
		break;
	case CHANGE_REMAP:
		if (mremap(rig->spare, LEN, LEN, MREMAP_MAYMOVE | MREMAP_FIXED,
			   rig->buf) != rig->buf)
			abort();
		rig->spare = race_map(LEN);
		break;
	}
}

static void fill(char *buf)
{
	for (int i = 0; i < NR_PAGES; i++)
		*(uint64_t *)(buf + i * PAGE) = race_number();
}

/* Writes the buffer through its registration. Return: true = something else arrived */
static bool write_is_stale(struct uring_rig *rig)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&rig->ring);
	struct io_uring_cqe *cqe;
	struct invlock_pin pin;
	bool stale = false;

	if (invlock_cache_get(rig->race.cache, rig->buf, LEN, 0, &pin)) {
		rig->race.refused++;
		io_uring_prep_nop(sqe);
		pin.cache = NULL;
	} else {
		io_uring_prep_write_fixed(sqe, rig->memfd, rig->buf, LEN, 0, (int)pin.handle);
	}
	if (io_uring_submit_and_wait(&rig->ring, 1) != 1 || io_uring_wait_cqe(&rig->ring, &cqe))
		abort();
	if (pin.cache && cqe->res != (int)LEN)
		abort();
	io_uring_cqe_seen(&rig->ring, cqe);
	if (!pin.cache)
		return false;
	invlock_cache_put(&pin);
	rig->race.hits++;
	for (size_t at = 0; at < LEN; at += PAGE)
		stale |= *(volatile uint64_t *)(rig->arrived + at) != *(uint64_t *)(rig->buf + at);
	return stale;
}

static void start_thread(pthread_t *t, void *(*run)(void *), struct uring_rig *rig)
{
	if (pthread_create(t, NULL, run, rig))
		abort();
}

/* Return: stale writes */
static unsigned long end_race(struct uring_rig *rig, pthread_t t, unsigned long *ret_writes)
{
	pthread_join(t, NULL);
	*ret_writes = rig->race.hits;
	rig_close(rig);
	return rig->race.stale;
}

unsigned long uring_race(enum uring_change change, unsigned long rounds,
			 unsigned long *ret_writes)
{
	struct uring_rig rig = { .rounds = rounds };
	pthread_t t;

	rig_open(&rig);
	start_thread(&t, register_each_turn, &rig);
	for (unsigned int i = 0; i < rounds; i++) {
		fill(rig.buf);
		gate_open(&rig.gate, 3 * i + 1);
		change_map(&rig, change);
		gate_open(&rig.gate, 3 * i + 2);
		gate_wait(&rig.gate, 3 * i + 3);
		fill(rig.buf);
		rig.race.stale += write_is_stale(&rig);
	}
	return end_race(&rig, t, ret_writes);
}

static void *discard_each_turn(void *arg)
{
	struct uring_rig *rig = arg;

	for (unsigned int i = 0; i < rig->rounds; i++) {
		gate_wait(&rig->gate, 2 * i + 1);
		madvise(rig->buf, LEN, MADV_DONTNEED);
		gate_open(&rig->gate, 2 * i + 2);
	}
	return NULL;
}

unsigned long uring_held_discard(unsigned long rounds, unsigned long *ret_writes)
{
	struct uring_rig rig = { .rounds = rounds };
	int uffd = race_open_uffd();
	pthread_t t;

	rig_open(&rig);
	race_hold_changes(uffd, rig.buf, LEN);
	start_thread(&t, discard_each_turn, &rig);
	for (unsigned int i = 0; i < rounds; i++) {
		struct invlock_pin pin;

		fill(rig.buf);
		gate_open(&rig.gate, 2 * i + 1);
		if (!hold_await(uffd, -1))
			abort();
		if (!invlock_cache_get(rig.race.cache, rig.buf, LEN, 0, &pin))
			invlock_cache_put(&pin);
		hold_let_go(uffd);
		gate_wait(&rig.gate, 2 * i + 2);
		fill(rig.buf);
		rig.race.stale += write_is_stale(&rig);
	}
	close(uffd);
	return end_race(&rig, t, ret_writes);
}
