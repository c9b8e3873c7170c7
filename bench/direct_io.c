// SPDX-License-Identifier: MIT
/*
 * What CPU time does a direct read take: into plain memory, into buffers that were registered
 * by hand, and into the same memory through the cache?
 *
 * 16 reads at a time from a file of our own, into memory of 4 KiB pages.
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

static const size_t sizes[] = { 4096, 16384, 65536, 262144, LARGEST };
#define NR_SIZES	(sizeof(sizes) / sizeof(*sizes))

static char *buffers;
static int file = -1;
static struct invlock_mm *mm;

static void die(const char *what, int err)
{
	fprintf(stderr, "direct_io: %s: %s\n", what, strerror(-err));
	exit(1);
}

/* how to ask for one read; each way has a ring of its own */
struct way {
	const char *name;
	void (*prep)(struct way *w, struct io_uring_sqe *sqe, int slot, size_t len,
		     uint64_t offset);
	size_t min_len;		/* of the cache; 0 = its default */
	struct io_uring ring;
	struct invlock_uring *uring;	/* where a cache is asked */
	struct invlock_uring_op ops[DEPTH];
};

static char *buffer(int slot)
{
	return buffers + (size_t)slot * LARGEST;
}

static void prep_plain(struct way *w, struct io_uring_sqe *sqe, int slot, size_t len,
		       uint64_t offset)
{
	(void)w;
	io_uring_prep_read(sqe, file, buffer(slot), len, offset);
}

static void prep_fixed(struct way *w, struct io_uring_sqe *sqe, int slot, size_t len,
		       uint64_t offset)
{
	(void)w;
	io_uring_prep_read_fixed(sqe, file, buffer(slot), len, offset, slot);
}

static void prep_invlock(struct way *w, struct io_uring_sqe *sqe, int slot, size_t len,
			 uint64_t offset)
{
	int err = invlock_uring_prep_read(w->uring, sqe, file, buffer(slot), len, offset,
					  &w->ops[slot]);

	if (err < 0)
		die("invlock_uring_prep_read", err);
}

/* the cache takes the plain way for what is shorter than min_len, so it has two columns */
static struct way ways[] = {
	{ .name = "plain", .prep = prep_plain },
	{ .name = "fixed by hand", .prep = prep_fixed },
	{ .name = "invlock", .prep = prep_invlock },
	{ .name = "invlock, min_len 1", .prep = prep_invlock, .min_len = 1 },
};
#define NR_WAYS	(sizeof(ways) / sizeof(*ways))

static void submit(struct way *w, int slot, size_t len, unsigned int nr)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&w->ring);

	w->prep(w, sqe, slot, len, (uint64_t)nr * len % FILE_BYTES);
	io_uring_sqe_set_data64(sqe, slot);
}

/* ns of CPU time per read, the kernel's threads for us included */
static double measure(struct way *w, size_t len)
{
	unsigned int nr = BENCH_SIZE(2 * FILE_BYTES / len, DEPTH), begun = 0, ended = 0;
	double begin;

	if (nr > 2048)
		nr = 2048;
	begin = bench_clock(CLOCK_PROCESS_CPUTIME_ID);
	while (begun < DEPTH) {
		submit(w, begun, len, begun);
		begun++;
	}
	while (ended < nr) {
		struct io_uring_cqe *cqe;
		int slot, err = io_uring_submit_and_wait(&w->ring, 1);

		if (err < 0 && err != -EINTR)
			die("io_uring_submit_and_wait", err);
		while (ended < nr && !io_uring_peek_cqe(&w->ring, &cqe)) {
			slot = (int)io_uring_cqe_get_data64(cqe);
			if (cqe->res != (int)len)
				die("a read", cqe->res < 0 ? cqe->res : -EIO);
			io_uring_cqe_seen(&w->ring, cqe);
			if (w->uring)
				invlock_uring_done(&w->ops[slot]);
			ended++;
			if (begun < nr)
				submit(w, slot, len, begun++);
		}
	}
	return (bench_clock(CLOCK_PROCESS_CPUTIME_ID) - begin) / nr;
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
		die("no direct I/O there; set TMPDIR to another directory", -errno);
}

static void open_cache(struct way *w)
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
		err = io_uring_queue_init(DEPTH, &ways[i].ring, 0);
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

static void tell_ways(struct way *w)
{
	struct invlock_uring_stats stats = { .size = sizeof(stats) };

	invlock_uring_stats(w->uring, &stats);
	for (int way = 0; way < INVLOCK_URING_NR_WAYS; way++) {
		unsigned long long nr = stats.ways[way];

		if (nr)
			bench_note("%s: %llu reads: %s", w->name, nr, invlock_uring_way_name(way));
	}
}

int main(int argc, char **argv)
{
	char what[40];

	bench_begin("direct_io", "ns CPU", argc, argv);
	open_all();
	for (size_t s = 0; s < NR_SIZES; s++) {
		snprintf(what, sizeof(what), "%zu KiB", sizes[s] >> 10);
		/* the first reads fault in, register, and fill what is measured later */
		for (size_t i = 0; i < NR_WAYS; i++)
			measure(&ways[i], sizes[s]);
		for (int round = 0; round < bench_rounds; round++)
			for (size_t i = 0; i < NR_WAYS; i++)
				bench_add(what, ways[i].name, measure(&ways[i], sizes[s]));
		bench_target(what, "invlock, min_len 1", what, "fixed by hand", 1.05);
		bench_target(what, "invlock", what, "plain", sizes[s] < 16384 ? 0 : 1);
	}
	tell_ways(&ways[2]);
	tell_ways(&ways[3]);
	close_all();
	return bench_end();
}
