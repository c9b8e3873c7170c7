/* SPDX-License-Identifier: MIT */
/* Threads with a ring each read into one buffer after another: it is registered once for all. */
#include <fcntl.h>
#include <invlock/uring.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define LEN	65536
#define THREADS	4

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static struct invlock_uring *first;
static void *buf;
static int fd;

static void *read_once(void *arg)
{
	struct invlock_uring *uring;
	struct invlock_uring_op op;
	struct io_uring_cqe *cqe;
	struct invlock_why why;
	struct io_uring ring;

	(void)arg;
	/* Rings of one thread are the fastest; each is set up on its thread. */
	if (io_uring_queue_init(8, &ring, IORING_SETUP_SINGLE_ISSUER))
		return NULL;
	if (invlock_uring_join(&ring, first, &uring, &why)) {
		fprintf(stderr, "%s\n", why.text);
		return NULL;
	}
	pthread_mutex_lock(&turn);
	invlock_uring_prep_read(uring, io_uring_get_sqe(&ring), fd, buf, LEN, 0, &op);
	if (io_uring_submit_and_wait(&ring, 1) == 1 && !io_uring_peek_cqe(&ring, &cqe)) {
		printf("%d bytes, %s\n", cqe->res, invlock_uring_way_name(op.way));
		io_uring_cqe_seen(&ring, cqe);
	}
	invlock_uring_done(&op);
	pthread_mutex_unlock(&turn);
	invlock_uring_close(uring);
	io_uring_queue_exit(&ring);
	return NULL;
}

int main(int argc, char **argv)
{
	struct invlock_uring_options options = {
		.size = sizeof(options), .flags = INVLOCK_URING_SHARE,
	};
	struct invlock_cache_stats stats = { .size = sizeof(stats) };
	pthread_t threads[THREADS];
	struct invlock_mm *mm;
	struct invlock_why why;
	struct io_uring ring;

	fd = open(argc > 1 ? argv[1] : argv[0], O_RDONLY);
	buf = aligned_alloc(4096, LEN);
	if (fd < 0 || !buf || io_uring_queue_init(8, &ring, 0)) {
		perror("open, or io_uring");
		return 1;
	}
	if (invlock_mm_open(NULL, &mm, &why) ||
	    invlock_uring_open(&ring, mm, &options, &first, &why)) {
		fprintf(stderr, "%s\n", why.text);
		return 1;
	}
	for (int i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, read_once, NULL);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	/* 1; or 0, where the kernel does not share and each thread's adapter had its own cache */
	invlock_cache_stats(invlock_uring_cache(first), &stats);
	printf("registered %llu times\n", (unsigned long long)stats.reg_calls);
	invlock_uring_close(first);
	io_uring_queue_exit(&ring);
	invlock_mm_close(mm);
	free(buf);
	return 0;
}
