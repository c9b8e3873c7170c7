// SPDX-License-Identifier: MIT
/*
 * The real device: io_uring, with one ring for each column. The two columns with a cache differ
 * only in whether the cache is told of changes. The plain column has no registered buffers.
 */
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>

#include <invlock/uring.h>
#include "lib/monitor/monitor.h"
#include "prove.h"

struct uring_engine {
	struct io_uring rings[NR_COLUMNS];
	unsigned int nr_rings;
	struct invlock_uring *urings[NR_COLUMNS];	/* NULL for plain */
	struct invlock_uring_op ops[NR_BUFFERS];
	unsigned int nr_ops;		/* prepared, not finished */
	unsigned int nr_queued;		/* nr_ops, plus one if the last entry failed */
};

static struct invlock_cache *uring_cache(const struct engine *e, enum column column)
{
	const struct uring_engine *u = e->data;

	return invlock_uring_cache(u->urings[column]);
}

static const char *uring_error_text(int err)
{
	switch (err) {
	case -EPERM:
		return "it is forbidden (by seccomp or /proc/sys/kernel/io_uring_disabled)";
	case -ENOMEM:
		return "out of memory, or RLIMIT_MEMLOCK is too small (see ulimit -l)";
	default:
		return strerror(-err);
	}
}

static int open_column(struct uring_engine *u, const struct prove *p, enum column column,
		       struct invlock_why *why)
{
	/* with min_len 1, even the requests of a small file are cached */
	struct invlock_uring_options options = {
		.size = sizeof(options),
		.flags = INVLOCK_URING_REAPER,
		.min_len = 1,
		/* add_alignment() in file.c makes our memory at least this aligned */
		.align = p->data.block,
		.max_bytes = p->pin_limit,
		.need = p->need,
	};
	int err;

	err = io_uring_queue_init(2 * NR_BUFFERS, &u->rings[column], 0);
	if (err)
		return explain(why, err, "cannot set up io_uring: %s; --device soft works "
			       "without it", uring_error_text(err));
	u->nr_rings++;
	if (column == COLUMN_PLAIN)
		return 0;
	return invlock_uring_open(&u->rings[column], monitor_of(p, column), &options,
				  &u->urings[column], why);
}

static int uring_open(const struct prove *p, struct engine *e, struct invlock_why *why)
{
	struct uring_engine *u = calloc(1, sizeof(*u));
	int err = 0;

	if (!u)
		return explain(why, -ENOMEM, "out of memory");
	e->data = u;
	for (unsigned int column = 0; column < NR_COLUMNS && !err; column++)
		err = open_column(u, p, column, why);
	return err;
}

static void uring_close(struct engine *e)
{
	struct uring_engine *u = e->data;

	if (!u)
		return;
	for (unsigned int i = 0; i < u->nr_rings; i++) {
		invlock_uring_close(u->urings[i]);
		io_uring_queue_exit(&u->rings[i]);
	}
	free(u);
	e->data = NULL;
}

static int prepare(struct uring_engine *u, enum column column, int fd, struct transfer *t,
		   struct invlock_uring_op *op)
{
	/* not NULL: the queue has room for all requests that are prepared at a time */
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->rings[column]);
	int way = 0;

	t->eligible = column != COLUMN_PLAIN;
	if (column == COLUMN_PLAIN && t->write)
		io_uring_prep_write(sqe, fd, t->buf, t->len, t->offset);
	else if (column == COLUMN_PLAIN)
		io_uring_prep_read(sqe, fd, t->buf, t->len, t->offset);
	else if (t->write)
		way = invlock_uring_prep_write(u->urings[column], sqe, fd, t->buf, t->len,
					       t->offset, op);
	else
		way = invlock_uring_prep_read(u->urings[column], sqe, fd, t->buf, t->len,
					      t->offset, op);
	if (way < 0)
		io_uring_prep_nop(sqe);	/* the entry is in the queue and will be submitted */
	io_uring_sqe_set_data(sqe, t);
	return way < 0 ? way : 0;
}

/* After these errors the caller tries again: a return would leave I/O in flight. */
static bool is_transient(int err)
{
	return err == -EINTR || err == -EAGAIN || err == -EBUSY;
}

static int submit_and_reap(struct io_uring *ring, unsigned int nr)
{
	struct io_uring_cqe *cqe;
	struct transfer *t;
	int err;

	do
		err = io_uring_submit_and_wait(ring, nr);
	while (is_transient(err) || (err >= 0 && io_uring_sq_ready(ring)));
	while (err >= 0 && nr) {
		err = io_uring_wait_cqe(ring, &cqe);
		if (is_transient(err)) {
			err = 0;
			continue;
		}
		if (err)
			break;
		t = io_uring_cqe_get_data(cqe);
		t->res = cqe->res;
		io_uring_cqe_seen(ring, cqe);
		nr--;
	}
	return err < 0 ? err : 0;
}

static int uring_begin(struct engine *e, enum column column, struct transfer t[NR_BUFFERS])
{
	struct uring_engine *u = e->data;
	const struct data *data = &e->prove->data;
	int err;

	for (u->nr_ops = 0, u->nr_queued = 0; u->nr_ops < NR_BUFFERS; u->nr_ops++) {
		struct transfer *one = &t[u->nr_ops];

		err = prepare(u, column, one->write ? data->scratch : data->fd, one,
			      &u->ops[u->nr_ops]);
		u->nr_queued++;
		if (err)
			return err;
	}
	return 0;
}

static int uring_finish(struct engine *e, enum column column,
			__attribute__((unused)) struct transfer t[NR_BUFFERS])
{
	struct uring_engine *u = e->data;
	int err = submit_and_reap(&u->rings[column], u->nr_queued);

	for (unsigned int i = 0; i < u->nr_ops && column != COLUMN_PLAIN; i++)
		invlock_uring_done(&u->ops[i]);
	return err;
}

static void uring_ways(const struct engine *e, enum column column, u64 ret_ways[NR_WAYS])
{
	const struct uring_engine *u = e->data;
	struct invlock_uring_stats stats = { .size = sizeof(stats) };

	if (!u->urings[column] || invlock_uring_stats(u->urings[column], &stats))
		return;
	for (unsigned int i = 0; i < NR_WAYS; i++)
		ret_ways[i] += stats.ways[i];
}

static const char *uring_way_name(unsigned int way)
{
	return way < INVLOCK_URING_NR_WAYS ? invlock_uring_way_name(way) : NULL;
}

const struct device device_uring = {
	.name = "uring",
	.max_engines = MAX_ENGINES,
	.open = uring_open,
	.close = uring_close,
	.begin = uring_begin,
	.finish = uring_finish,
	.cache = uring_cache,
	.ways = uring_ways,
	.way_name = uring_way_name,
};
