// SPDX-License-Identifier: MIT
/*
 * Preloaded into fio: serves its libaio engine by io_uring, and takes away the memory under its
 * buffers all the time.
 *
 * INVLOCK_AIO says how the buffers are registered: "invlock" = by the adapter; "once" = when they
 * are first used, and kept for ever, as a program does by hand; "plain" = not at all.
 * INVLOCK_AIO_REPORT names a file to which the numbers are appended when the queue ends.
 *
 * Before a read its buffer is discarded or mapped anew. fio cannot tell, since the read fills all
 * of it. So whatever fio's verification finds wrong was read into, or written from, memory that is
 * no longer there.
 */
#include <errno.h>
#include <fcntl.h>
#include <invlock/uring.h>
#include <linux/aio_abi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define DEPTH		256
#define NO_MONITOR	77	/* this machine cannot run the test */

enum how { PLAIN, ONCE, ADAPTER };

struct request {
	struct invlock_uring_op op;
	struct iocb *iocb;
	struct request *next_free;
};

struct queue {
	struct io_uring ring;
	enum how how;
	struct invlock_mm *mm;
	struct invlock_uring *uring;
	struct request requests[DEPTH], *free;
	void *once[DEPTH];	/* the buffer in each slot */
	unsigned int nr_once;
	unsigned long nr_fixed, nr_plain, nr_taken;
};

int io_queue_init(int nr, struct queue **ret_queue);
int io_submit(struct queue *q, long nr, struct iocb **iocbs);
int io_getevents(struct queue *q, long min, long nr, struct io_event *events,
		 struct timespec *timeout);
int io_cancel(struct queue *q, struct iocb *iocb, struct io_event *event);
int io_destroy(struct queue *q);

static void leave(const char *what)
{
	fprintf(stderr, "aio: %s\n", what);
	_exit(NO_MONITOR);
}

static void open_adapter(struct queue *q)
{
	const struct invlock_uring_options options = { .size = sizeof(options), .min_len = 1 };
	struct invlock_why why;

	if (invlock_mm_open(NULL, &q->mm, &why) ||
	    invlock_uring_open(&q->ring, q->mm, &options, &q->uring, &why))
		leave(why.text);
}

int io_queue_init(int nr, struct queue **ret_queue)
{
	const char *how = getenv("INVLOCK_AIO") ?: "plain";
	struct queue *q = calloc(1, sizeof(*q));

	(void)nr;	/* fio asks for as many as there can be */
	if (!q || io_uring_queue_init(DEPTH, &q->ring, 0))
		leave("io_uring cannot be used here");
	for (unsigned int i = 0; i < DEPTH; i++) {
		q->requests[i].next_free = q->free;
		q->free = &q->requests[i];
	}
	q->how = !strcmp(how, "invlock") ? ADAPTER : !strcmp(how, "once") ? ONCE : PLAIN;
	if (q->how == ADAPTER)
		open_adapter(q);
	else if (q->how == ONCE && io_uring_register_buffers_sparse(&q->ring, DEPTH))
		leave("this kernel has no sparse buffer tables");
	*ret_queue = q;
	return 0;
}

/* The pages under a buffer that is about to be filled. */
static void take_away(struct queue *q, const struct iocb *iocb)
{
	void *buf = (void *)(unsigned long)iocb->aio_buf;

	if (q->nr_taken++ % 2)
		madvise(buf, iocb->aio_nbytes, MADV_DONTNEED);
	else if (mmap(buf, iocb->aio_nbytes, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != buf)
		leave("a buffer is not at a page: fio is to use direct I/O");
}

/* Return: the slot in which this buffer was registered; -1 when there is none */
static int slot_once(struct queue *q, void *buf, size_t len)
{
	const struct iovec iov = { .iov_base = buf, .iov_len = len };
	const __u64 tag = 0;

	for (unsigned int i = 0; i < q->nr_once; i++)
		if (q->once[i] == buf)
			return i;
	if (q->nr_once == DEPTH ||
	    io_uring_register_buffers_update_tag(&q->ring, q->nr_once, &iov, &tag, 1) != 1)
		return -1;
	q->once[q->nr_once] = buf;
	return q->nr_once++;
}

static void prepare(struct queue *q, struct io_uring_sqe *sqe, struct request *r)
{
	const struct iocb *iocb = r->iocb;
	void *buf = (void *)(unsigned long)iocb->aio_buf;
	bool write = iocb->aio_lio_opcode == IOCB_CMD_PWRITE;
	size_t len = iocb->aio_nbytes;
	int slot = -1, fd = iocb->aio_fildes;

	if (q->how == ADAPTER) {
		if (write)
			invlock_uring_prep_write(q->uring, sqe, fd, buf, len, iocb->aio_offset,
						 &r->op);
		else
			invlock_uring_prep_read(q->uring, sqe, fd, buf, len, iocb->aio_offset,
						&r->op);
		slot = r->op.way == INVLOCK_URING_FIXED ? 0 : -1;
	} else {
		if (q->how == ONCE)
			slot = slot_once(q, buf, len);
		io_uring_prep_rw(write ? IORING_OP_WRITE : IORING_OP_READ, sqe, fd, buf, len,
				 iocb->aio_offset);
		if (slot >= 0) {
			sqe->opcode = write ? IORING_OP_WRITE_FIXED : IORING_OP_READ_FIXED;
			sqe->buf_index = slot;
		}
	}
	q->nr_fixed += slot >= 0;
	q->nr_plain += slot < 0;
}

int io_submit(struct queue *q, long nr, struct iocb **iocbs)
{
	long i;

	for (i = 0; i < nr && q->free; i++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&q->ring);
		struct request *r = q->free;

		if (!sqe)
			break;
		q->free = r->next_free;
		r->iocb = iocbs[i];
		if (r->iocb->aio_lio_opcode == IOCB_CMD_PREAD)
			take_away(q, r->iocb);
		else if (r->iocb->aio_lio_opcode != IOCB_CMD_PWRITE)
			leave("only reads and writes are served");
		prepare(q, sqe, r);
		io_uring_sqe_set_data(sqe, r);
	}
	if (io_uring_submit(&q->ring) < 0)
		leave("io_uring_submit()");
	return i ? (int)i : -EAGAIN;
}

int io_getevents(struct queue *q, long min, long nr, struct io_event *events,
		 struct timespec *timeout)
{
	struct io_uring_cqe *cqe;
	long i;

	(void)timeout;
	for (i = 0; i < nr; i++) {
		struct request *r;

		if (i < min ? io_uring_wait_cqe(&q->ring, &cqe) :
			      io_uring_peek_cqe(&q->ring, &cqe))
			break;
		r = io_uring_cqe_get_data(cqe);
		events[i] = (struct io_event){
			.data = r->iocb->aio_data, .obj = (unsigned long)r->iocb, .res = cqe->res,
		};
		io_uring_cqe_seen(&q->ring, cqe);
		if (q->how == ADAPTER)
			invlock_uring_done(&r->op);
		r->next_free = q->free;
		q->free = r;
	}
	return (int)i;
}

int io_cancel(struct queue *q, struct iocb *iocb, struct io_event *event)
{
	(void)q, (void)iocb, (void)event;
	return -EAGAIN;
}

static void report(const struct queue *q)
{
	struct invlock_cache_stats stats = { .size = sizeof(stats) };
	const char *path = getenv("INVLOCK_AIO_REPORT");
	int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND, 0600) : -1;

	if (q->uring)
		invlock_cache_stats(invlock_uring_cache(q->uring), &stats);
	if (fd >= 0)
		dprintf(fd, "{\"fixed\": %lu, \"plain\": %lu, \"taken\": %lu, \"hits\": %llu, "
			"\"stale\": %llu}\n", q->nr_fixed, q->nr_plain, q->nr_taken,
			(unsigned long long)stats.hits, (unsigned long long)stats.stale);
	close(fd);
}

int io_destroy(struct queue *q)
{
	report(q);
	invlock_uring_close(q->uring);
	invlock_mm_close(q->mm);
	io_uring_queue_exit(&q->ring);
	free(q);
	return 0;
}
