// SPDX-License-Identifier: MIT
/*
 * How much CPU time does a direct read take: into plain memory, into buffers that were registered
 * by hand, and into the same memory through the cache?
 *
 * The program reads a file of its own into memory of 4 KiB pages, 16 reads at a time. The kernel
 * does the same work for both kinds of registered memory, so the difference is small, but the noise
 * of the machine is not. Therefore the ways take turns after one or a few waves of 16 reads, one
 * call waits for all reads of a wave (otherwise the number of wake-ups would be random), and the
 * value of a round is the median of its turns.
 */
#include <errno.h>
#include <fcntl.h>
#include <invlock/uring.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "bench.h"

#define DEPTH		16
#define LARGEST		(1UL << 20)
#define FILE_BYTES	(64UL << 20)

/* The more noise, the more turns; the slower the reads, the fewer. */
static const struct {
	size_t len;
	int waves;	/* per turn */
	int turns;	/* per round */
} sizes[] = {
	{ 4096, 4, 33 },
	{ 16384, 4, 33 },
	{ 65536, 1, 33 },
	{ 262144, 1, 17 },
	{ LARGEST, 1, 9 },
};
#define NR_SIZES	(sizeof(sizes) / sizeof(*sizes))
#define MAX_TURNS	33

static char *buffers;
static int file = -1;
static struct invlock_mm *mm;

static void die(const char *what, int err)
{
	fprintf(stderr, "direct_io: %s: %s\n", what, strerror(-err));
	exit(1);
}

/* A way to read. Each has a ring of its own. */
struct io_way {
	const char *name;
	void (*prep)(struct io_way *w, struct io_uring_sqe *sqe, int slot, size_t len,
		     uint64_t offset);
	size_t min_len;		/* option of the cache; 0 = the default */
	int every;		/* it takes every 1st, 4th, ... turn; a large ratio needs fewer */
	struct io_uring ring;
	struct invlock_uring *uring;	/* NULL without a cache */
	struct invlock_uring_op ops[DEPTH];
};

static char *buffer(int slot)
{
	return buffers + (size_t)slot * LARGEST;
}

static void prep_plain(struct io_way *w, struct io_uring_sqe *sqe, int slot, size_t len,
		       uint64_t offset)
{
	(void)w;
	io_uring_prep_read(sqe, file, buffer(slot), len, offset);
}

static void prep_fixed(struct io_way *w, struct io_uring_sqe *sqe, int slot, size_t len,
		       uint64_t offset)
{
	(void)w;
	io_uring_prep_read_fixed(sqe, file, buffer(slot), len, offset, slot);
}

static void prep_invlock(struct io_way *w, struct io_uring_sqe *sqe, int slot, size_t len,
			 uint64_t offset)
{
	int err = invlock_uring_prep_read(w->uring, sqe, file, buffer(slot), len, offset,
					  &w->ops[slot]);

	if (err < 0)
		die("invlock_uring_prep_read", err);
}

/* The cache does plain I/O for requests shorter than min_len, so it runs with two values of it. */
static struct io_way ways[] = {
	{ .name = "plain", .prep = prep_plain, .every = 4 },
	{ .name = "fixed by hand", .prep = prep_fixed, .every = 1 },
	{ .name = "invlock", .prep = prep_invlock, .every = 4 },
	{ .name = "invlock, min_len 1", .prep = prep_invlock, .min_len = 1, .every = 1 },
};
#define NR_WAYS	(sizeof(ways) / sizeof(*ways))

static void wave(struct io_way *w, size_t len, unsigned int nr)
{
	struct io_uring_cqe *cqe;
	int err;

	for (int slot = 0; slot < DEPTH; slot++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&w->ring);

		w->prep(w, sqe, slot, len, (uint64_t)(nr * DEPTH + slot) * len % FILE_BYTES);
		io_uring_sqe_set_data64(sqe, slot);
	}
	err = io_uring_submit_and_wait(&w->ring, DEPTH);
	for (int ended = 0; ended < DEPTH; ended++) {
		if (err >= 0 || err == -EINTR)
			err = io_uring_wait_cqe(&w->ring, &cqe);
		if (err)
			die("io_uring", err);
		if (cqe->res != (int)len)
			die("a read", cqe->res < 0 ? cqe->res : -EIO);
		if (w->uring)
			invlock_uring_done(&w->ops[io_uring_cqe_get_data64(cqe)]);
		io_uring_cqe_seen(&w->ring, cqe);
	}
}

/* Return: the nanoseconds of CPU time per read, including the kernel's threads for this process. */
static double take_turn(struct io_way *w, size_t len, int waves)
{
	static unsigned int nr;
	double begin = bench_clock(CLOCK_PROCESS_CPUTIME_ID);

	for (int i = 0; i < waves; i++)
		wave(w, len, nr++);
	return (bench_clock(CLOCK_PROCESS_CPUTIME_ID) - begin) / (waves * DEPTH);
}

static void run_round(const char *what, size_t len, int waves, int turns)
{
	double values[NR_WAYS][MAX_TURNS];
	int nr[NR_WAYS] = {};

	for (int turn = 0; turn < turns; turn++) {
		for (size_t i = 0; i < NR_WAYS; i++) {
			/* reverse the order at times, so that no way always follows the same one */
			size_t way = (turn + turn / 4) % 2 ? NR_WAYS - 1 - i : i;

			if (turn % ways[way].every == 0)
				values[way][nr[way]++] = take_turn(&ways[way], len, waves);
		}
	}
	for (size_t i = 0; i < NR_WAYS; i++)
		bench_add(what, ways[i].name, bench_median(values[i], nr[i]));
}

static void make_file(void)
{
	const char *dir = getenv("TMPDIR");

	if (!dir)
		dir = "/var/tmp";
	file = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (file < 0)
		die(dir, -errno);
	for (size_t at = 0; at < FILE_BYTES; at += LARGEST)
		if (pwrite(file, buffers, LARGEST, (off_t)at) != (ssize_t)LARGEST)
			die("cannot write 64 MiB; set TMPDIR to a directory that has room", -errno);
	if (fsync(file) || fcntl(file, F_SETFL, O_DIRECT))
		die("direct I/O does not work there; set TMPDIR to another directory", -errno);
}

static void open_cache(struct io_way *w)
{
	struct invlock_uring_options o = { .size = sizeof(o), .min_len = w->min_len };
	struct invlock_why why;

	if (invlock_uring_open(&w->ring, mm, &o, &w->uring, &why)) {
		fprintf(stderr, "direct_io: %s\n", why.text);
		exit(1);
	}
}

static void open_all(void)
{
	struct iovec iov[DEPTH];
	struct invlock_why why;
	int err;

	buffers = mmap(NULL, DEPTH * LARGEST, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);
	if (buffers == MAP_FAILED)
		die("mmap", -errno);
	madvise(buffers, DEPTH * LARGEST, MADV_NOHUGEPAGE);
	memset(buffers, 1, DEPTH * LARGEST);
	make_file();
	for (size_t i = 0; i < NR_WAYS; i++) {
		err = io_uring_queue_init(DEPTH, &ways[i].ring, IORING_SETUP_SINGLE_ISSUER |
					  IORING_SETUP_DEFER_TASKRUN);
		if (err)
			die("io_uring_queue_init", err);
	}
	for (int i = 0; i < DEPTH; i++)
		iov[i] = (struct iovec){ buffer(i), LARGEST };
	err = io_uring_register_buffers(&ways[1].ring, iov, DEPTH);
	if (err)
		die("io_uring_register_buffers", err);
	if (invlock_mm_open(NULL, &mm, &why)) {
		fprintf(stderr, "direct_io: %s\n", why.text);
		exit(1);
	}
	open_cache(&ways[2]);
	open_cache(&ways[3]);
}

static void close_all(void)
{
	for (size_t i = 0; i < NR_WAYS; i++) {
		invlock_uring_close(ways[i].uring);
		io_uring_queue_exit(&ways[i].ring);
	}
	invlock_mm_close(mm);
}

static void tell_ways(struct io_way *w)
{
	struct invlock_uring_stats stats = { .size = sizeof(stats) };
	char text[500] = "";
	size_t at = 0;

	invlock_uring_stats(w->uring, &stats);
	for (int way = 0; way < INVLOCK_URING_NR_WAYS && at < sizeof(text); way++)
		if (stats.ways[way])
			at += snprintf(text + at, sizeof(text) - at, "%s%llu %s", at ? ", " : "",
				       (unsigned long long)stats.ways[way],
				       invlock_uring_way_name(way));
	bench_note("%s did this many reads each way: %s", w->name, text);
}

int main(int argc, char **argv)
{
	char what[40];

	bench_begin("direct_io", "ns CPU", argc, argv);
	open_all();
	for (size_t s = 0; s < NR_SIZES; s++) {
		size_t len = sizes[s].len;

		snprintf(what, sizeof(what), "%zu KiB", len >> 10);
		/* the first reads fault in pages and register buffers, so do not count them */
		for (size_t i = 0; i < NR_WAYS; i++)
			take_turn(&ways[i], len, sizes[s].waves);
		for (int round = 0; round < bench_rounds; round++)
			run_round(what, len, sizes[s].waves, BENCH_SIZE(sizes[s].turns, 1));
		bench_target(what, "invlock, min_len 1", what, "fixed by hand", 1.05);
		bench_target(what, "invlock", what, "plain", len < 16384 ? 0 : 1);
	}
	tell_ways(&ways[2]);
	tell_ways(&ways[3]);
	close_all();
	return bench_end();
}
