// SPDX-License-Identifier: MIT
/*
 * A device in software, for hosts without io_uring. It needs no privilege and no special kernel.
 *
 * Its translation of a range is a pipe that holds the pages of the range. vmsplice() takes
 * references to the pages, which last as long as the pipe does, whatever happens to the mapping.
 * tee() and read() fetch the current content of those pages. So a stale registration delivers old
 * data for memory of every kind, as that of a real device does.
 *
 * This works in one direction only, because a program cannot write to pages that it no longer has
 * mapped. Writes to the file go through registrations; reads are plain I/O in every column.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lib/monitor/monitor.h"
#include "lib/page.h"
#include "prove.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE	23
#endif

#define PIPE_BYTES	((size_t)1 << 20)	/* every user may have this; no buffer is larger */

struct soft_engine {
	struct invlock_cache *caches[NR_COLUMNS];	/* NULL for plain */
	int copies[2];		/* a pipe into which tee() duplicates a registration */
	u8 *bounce;		/* the device's own memory */
	struct invlock_pin pins[NR_BUFFERS];
	bool pinned[NR_BUFFERS];
	u64 ways[NR_COLUMNS][NR_WAYS];	/* guarded by the engine's lock */
};

enum soft_way { SOFT_REGISTERED, SOFT_READ, SOFT_REFUSED, NR_SOFT_WAYS };

struct soft_pages {
	int pipe[2];
};

static int soft_reg(void *ctx, void *addr, size_t len, uint64_t *ret_handle)
{
	struct soft_pages *pages = malloc(sizeof(*pages));
	struct iovec iov = { addr, len };
	int err;

	(void)ctx;
	if (!pages)
		return -ENOMEM;
	/* a page that was never written is the zero page, and the first write would replace it */
	if (madvise(addr, len, MADV_POPULATE_WRITE) ||
	    pipe2(pages->pipe, O_CLOEXEC | O_NONBLOCK)) {
		err = -errno;
		goto free_pages;
	}
	err = fcntl(pages->pipe[1], F_SETPIPE_SZ, len) < 0 ? -errno : 0;
	while (!err && iov.iov_len) {
		ssize_t n = vmsplice(pages->pipe[1], &iov, 1, SPLICE_F_NONBLOCK);

		if (n <= 0) {
			err = n < 0 ? -errno : -EFAULT;
			break;
		}
		iov.iov_base = (u8 *)iov.iov_base + n;
		iov.iov_len -= n;
	}
	if (err)
		goto close_pipe;
	*ret_handle = (uintptr_t)pages;
	return 0;

close_pipe:
	close(pages->pipe[0]);
	close(pages->pipe[1]);
free_pages:
	free(pages);
	return err;
}

static void soft_dereg(void *ctx, void *addr, size_t len, uint64_t handle)
{
	struct soft_pages *pages = (struct soft_pages *)(uintptr_t)handle;

	(void)ctx;
	(void)addr;
	(void)len;
	close(pages->pipe[0]);
	close(pages->pipe[1]);
	free(pages);
}

static int soft_open(const struct prove *p, struct engine *e, struct invlock_why *why)
{
	struct soft_engine *s = calloc(1, sizeof(*s));
	struct invlock_cache_options options = {
		.size = sizeof(options),
		.flags = INVLOCK_CACHE_REAPER,
		.ops = { .reg = soft_reg, .dereg = soft_dereg },
		.need = p->need,
	};
	int err = 0;

	if (!s)
		return explain(why, -ENOMEM, "out of memory");
	e->data = s;
	s->copies[0] = s->copies[1] = -1;
	if (pipe2(s->copies, O_CLOEXEC | O_NONBLOCK) ||
	    fcntl(s->copies[1], F_SETPIPE_SZ, PIPE_BYTES) < 0)
		return explain(why, -errno, "the soft device cannot make a pipe of %zu KiB: %s",
			       PIPE_BYTES >> 10, strerror(errno));
	if (posix_memalign((void **)&s->bounce, page_bytes(), PIPE_BYTES)) {
		s->bounce = NULL;
		return explain(why, -ENOMEM, "out of memory");
	}
	if (madvise(s->bounce, PIPE_BYTES, MADV_POPULATE_WRITE))
		return explain(why, -EOPNOTSUPP, "the soft device needs Linux 5.14 or newer");
	for (unsigned int column = COLUMN_INVLOCK; column < NR_COLUMNS && !err; column++)
		err = invlock_cache_open(monitor_of(p, column), &options, &s->caches[column], why);
	return err;
}

static void soft_close(struct engine *e)
{
	struct soft_engine *s = e->data;

	if (!s)
		return;
	for (unsigned int column = 0; column < NR_COLUMNS; column++)
		invlock_cache_close(s->caches[column]);
	for (unsigned int i = 0; i < 2; i++)
		if (s->copies[i] >= 0)
			close(s->copies[i]);
	free(s->bounce);
	free(s);
	e->data = NULL;
}

/* Copy the content of the registered pages to the device's memory. Return: 0 or -errno. */
static int fetch(struct soft_engine *s, const struct invlock_pin *pin)
{
	const struct soft_pages *pages = (const struct soft_pages *)(uintptr_t)pin->handle;
	ssize_t n = tee(pages->pipe[0], s->copies[1], pin->len, SPLICE_F_NONBLOCK);
	size_t left = pin->len;

	if (n != (ssize_t)pin->len)
		return n < 0 ? -errno : -EIO;
	while (left) {
		n = read(s->copies[0], s->bounce + (pin->len - left), left);
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		left -= n;
	}
	return 0;
}

static int soft_begin(struct engine *e, enum column column, struct transfer t[NR_BUFFERS])
{
	struct soft_engine *s = e->data;
	struct invlock_cache *cache = s->caches[column];

	for (unsigned int i = 0; i < NR_BUFFERS; i++) {
		t[i].eligible = cache && t[i].write;
		s->pinned[i] = t[i].eligible &&
			       !invlock_cache_get(cache, t[i].buf, t[i].len, 0, &s->pins[i]);
		s->ways[column][s->pinned[i] ? SOFT_REGISTERED :
				t[i].write ? SOFT_REFUSED : SOFT_READ]++;
	}
	return 0;
}

static void soft_one(struct engine *e, unsigned int nr, struct transfer *t)
{
	struct soft_engine *s = e->data;
	const struct data *data = &e->prove->data;
	const u8 *from = t->buf;
	int err = 0;

	if (s->pinned[nr]) {
		err = fetch(s, &s->pins[nr]);
		/* direct I/O also needs the device's memory to be aligned */
		from = memmove(s->bounce, s->bounce + (t->buf - (u8 *)s->pins[nr].addr), t->len);
		invlock_cache_put(&s->pins[nr]);
	}
	if (err) {
		t->res = err;
		return;
	}
	t->res = t->write ? pwrite(data->scratch, from, t->len, t->offset) :
			    pread(data->fd, t->buf, t->len, t->offset);
	if (t->res < 0)
		t->res = -errno;
}

static int soft_finish(struct engine *e, __attribute__((unused)) enum column column,
		       struct transfer t[NR_BUFFERS])
{
	for (unsigned int i = 0; i < NR_BUFFERS; i++)
		soft_one(e, i, &t[i]);
	return 0;
}

static struct invlock_cache *soft_cache(const struct engine *e, enum column column)
{
	return ((const struct soft_engine *)e->data)->caches[column];
}

static void soft_ways(const struct engine *e, enum column column, u64 ret_ways[NR_WAYS])
{
	const struct soft_engine *s = e->data;

	for (unsigned int i = 0; i < NR_WAYS && column != COLUMN_PLAIN; i++)
		ret_ways[i] += s->ways[column][i];
}

static const char *soft_way_name(unsigned int way)
{
	static const char *const names[NR_SOFT_WAYS] = {
		[SOFT_REGISTERED]	= "registered",
		[SOFT_READ]		= "read",
		[SOFT_REFUSED]		= "refused",
	};

	return way < NR_SOFT_WAYS ? names[way] : NULL;
}

/* only two engines: the pipe of each registration counts against the user's limit of pipe pages */
const struct device device_soft = {
	.name = "soft",
	.max_engines = 2,
	.open = soft_open,
	.close = soft_close,
	.begin = soft_begin,
	.finish = soft_finish,
	.cache = soft_cache,
	.ways = soft_ways,
	.way_name = soft_way_name,
};
