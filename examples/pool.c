/* SPDX-License-Identifier: MIT */
/*
 * A pool of readers, as databases have: each thread has a ring, and reads blocks into frames of one
 * pool, with several requests in flight. Now and then a frame's pages are given back to the system,
 * as allocators do, and some reads are large and go into memory of their own, which is freed again.
 *
 * The rings share registrations, so the pool is registered and pinned once, for all threads. Nobody
 * tells the adapters what was given back or freed. Every byte that was read is checked.
 */
#define _GNU_SOURCE
#include <invlock/uring.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define THREADS		4
#define DEPTH		8	/* requests in flight on a ring */
#define READS		2000	/* of each thread */
#define FRAME		(64 * 1024)
#define FRAMES		(THREADS * DEPTH)
#define LARGE		(1024 * 1024)
#define FILE_SIZE	(16 * 1024 * 1024)

/* the frames, and those of them that are free */
static char *pool, *free_frames[FRAMES];
static unsigned int nr_free;
static pthread_mutex_t pool_lock = PTHREAD_MUTEX_INITIALIZER;

static struct invlock_uring *first;
static int fd;

struct block_read {
	struct invlock_uring_op op;
	char *buf;
	size_t len;
	uint64_t offset;
	struct block_read *next_free;
};

struct reader {
	pthread_t thread;
	unsigned int seed;
	struct io_uring ring;
	struct invlock_uring *uring;
	struct block_read requests[DEPTH], *free;
	unsigned long nr_wrong, nr_fixed;
	int err;
};

static char *frame_take(void)
{
	char *frame;

	pthread_mutex_lock(&pool_lock);
	frame = free_frames[--nr_free];
	pthread_mutex_unlock(&pool_lock);
	return frame;
}

static void frame_give(struct reader *r, char *frame)
{
	if (rand_r(&r->seed) % 8 == 0)
		madvise(frame, FRAME, MADV_DONTNEED);
	pthread_mutex_lock(&pool_lock);
	free_frames[nr_free++] = frame;
	pthread_mutex_unlock(&pool_lock);
}

static void read_starts(struct reader *r)
{
	struct block_read *q = r->free;
	struct io_uring_sqe *sqe = io_uring_get_sqe(&r->ring);

	r->free = q->next_free;
	q->len = rand_r(&r->seed) % 16 ? FRAME : LARGE;
	q->buf = q->len == FRAME ? frame_take() : aligned_alloc(4096, LARGE);
	q->offset = (uint64_t)(rand_r(&r->seed) % ((FILE_SIZE - LARGE) / 4096)) * 4096;
	invlock_uring_prep_read(r->uring, sqe, fd, q->buf, q->len, q->offset, &q->op);
	io_uring_sqe_set_data(sqe, q);
}

/* each word of the file is its own place */
static int is_right(const struct block_read *q, int result)
{
	const uint64_t *words = (const uint64_t *)(const void *)q->buf;

	for (size_t i = 0; i < q->len / 8; i++)
		if (words[i] != q->offset + 8 * i)
			return 0;
	return result == (int)q->len;
}

static void read_ends(struct reader *r, struct io_uring_cqe *cqe)
{
	struct block_read *q = io_uring_cqe_get_data(cqe);

	invlock_uring_done(&q->op);
	r->nr_wrong += !is_right(q, cqe->res);
	r->nr_fixed += q->op.way == INVLOCK_URING_FIXED;
	io_uring_cqe_seen(&r->ring, cqe);
	if (q->len == FRAME)
		frame_give(r, q->buf);
	else
		free(q->buf);
	q->next_free = r->free;
	r->free = q;
}

static void *reader(void *arg)
{
	struct io_uring_cqe *cqe;
	struct reader *r = arg;
	unsigned int nr_started = 0, in_flight = 0;

	/* A ring that belongs to one thread is set up on that thread, and so is its adapter. */
	r->err = io_uring_queue_init(DEPTH, &r->ring, IORING_SETUP_SINGLE_ISSUER);
	if (r->err)
		return NULL;
	r->err = invlock_uring_join(&r->ring, first, &r->uring, NULL);
	while (!r->err && (nr_started < READS || in_flight)) {
		for (; r->free && nr_started < READS; nr_started++, in_flight++)
			read_starts(r);
		io_uring_submit(&r->ring);
		r->err = io_uring_wait_cqe(&r->ring, &cqe);
		if (!r->err) {
			read_ends(r, cqe);
			in_flight--;
		}
	}
	invlock_uring_close(r->uring);
	io_uring_queue_exit(&r->ring);
	return NULL;
}

static int file_of_places(void)
{
	FILE *file = tmpfile();

	for (uint64_t at = 0; file && at < FILE_SIZE; at += sizeof(at))
		fwrite(&at, sizeof(at), 1, file);
	return file && !fflush(file) ? fileno(file) : -1;
}

/* Return: the reads that were wrong, or -errno */
static long read_all(unsigned long *ret_fixed)
{
	static struct reader readers[THREADS];
	long nr_wrong = 0;

	for (unsigned int i = 0; i < THREADS; i++) {
		readers[i].seed = i + 1;
		for (unsigned int j = 0; j < DEPTH; j++) {
			readers[i].requests[j].next_free = readers[i].free;
			readers[i].free = &readers[i].requests[j];
		}
		if (pthread_create(&readers[i].thread, NULL, reader, &readers[i]))
			abort();
	}
	for (unsigned int i = 0; i < THREADS; i++) {
		pthread_join(readers[i].thread, NULL);
		if (readers[i].err)
			nr_wrong = readers[i].err;
		if (nr_wrong >= 0)
			nr_wrong += readers[i].nr_wrong;
		*ret_fixed += readers[i].nr_fixed;
	}
	return nr_wrong;
}

int main(void)
{
	struct invlock_uring_options options = {
		.size = sizeof(options), .flags = INVLOCK_URING_SHARE,
	};
	unsigned long nr_fixed = 0;
	struct invlock_mm *mm;
	struct invlock_why why;
	struct io_uring ring;
	long nr_wrong;

	fd = file_of_places();
	pool = aligned_alloc(4096, FRAMES * FRAME);
	if (fd < 0 || !pool || io_uring_queue_init(1, &ring, 0)) {
		perror("pool: a temporary file, or io_uring");
		return 1;
	}
	for (nr_free = 0; nr_free < FRAMES; nr_free++)
		free_frames[nr_free] = pool + nr_free * FRAME;
	if (invlock_mm_open(NULL, &mm, &why) ||
	    invlock_uring_open(&ring, mm, &options, &first, &why)) {
		fprintf(stderr, "pool: %s\n", why.text);
		return 1;
	}
	invlock_uring_prime(first, pool, FRAMES * FRAME);
	nr_wrong = read_all(&nr_fixed);
	if (nr_wrong < 0) {
		fprintf(stderr, "pool: io_uring: %s\n", strerror((int)-nr_wrong));
		return 1;
	}
	printf("%u reads, %lu of them with registered memory, %ld wrong\n", THREADS * READS,
	       nr_fixed, nr_wrong);
	invlock_uring_close(first);
	io_uring_queue_exit(&ring);
	invlock_mm_close(mm);
	free(pool);
	return nr_wrong != 0;
}
