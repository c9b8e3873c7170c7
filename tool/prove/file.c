// SPDX-License-Identifier: MIT
/* The data file, which the columns read; its reference copy; the scratch file, which they write. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/monitor/monitor.h"
#include "prove.h"

#define OWN_BYTES	((size_t)32 << 20)
#define MAX_BYTES	((size_t)64 << 20)	/* the most that is read of the user's file */
#define CHUNK		((size_t)1 << 20)

/* Make a file without a name, which goes away however the run ends. Return: a descriptor. */
static int nameless(const char *dir)
{
	char name[4096];
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT))
		return fd < 0 ? -errno : fd;
	/* this file system does not support O_TMPFILE */
	if (snprintf(name, sizeof(name), "%s/invlock-prove-XXXXXX", dir) >= (int)sizeof(name))
		return -ENAMETOOLONG;
	fd = mkostemp(name, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	unlink(name);
	return fd;
}

/* Prefer /var/tmp: /tmp is often in memory, where direct I/O does not work. */
static int open_temporary(struct invlock_why *why)
{
	const char *dir = getenv("TMPDIR");
	int fd;

	if (dir && *dir) {
		fd = nameless(dir);
		return fd >= 0 ? fd : explain(why, fd, "cannot make a file in $TMPDIR (%s): %s",
					      dir, strerror(-fd));
	}
	fd = nameless("/var/tmp");
	if (fd < 0)
		fd = nameless("/tmp");
	return fd >= 0 ? fd : explain(why, fd, "cannot make a file in /var/tmp or /tmp: %s; set "
				      "TMPDIR to a directory where one can be made", strerror(-fd));
}

/* Raise the alignments to what direct I/O on this file needs. */
static void add_alignment(struct data *data, int fd)
{
	size_t block = 4096, mem_align = 4096;

#ifdef STATX_DIOALIGN
	struct statx sx;

	if (!statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) &&
	    sx.stx_mask & STATX_DIOALIGN && sx.stx_dio_offset_align) {
		block = sx.stx_dio_offset_align;
		mem_align = sx.stx_dio_mem_align;
	}
#else
	(void)fd;
#endif
	if (block < 512)
		block = 512;
	if (mem_align < 16)
		mem_align = 16;
	/* the kernel splits a fixed buffer at pages, and each piece must consist of whole blocks */
	if (mem_align < block)
		mem_align = block;
	if (block > data->block)
		data->block = block;
	if (mem_align > data->mem_align)
		data->mem_align = mem_align;
}

static bool go_direct(struct prove *p, int fd, const char *name)
{
	if (!fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_DIRECT))
		return true;
	prove_note(p, "the file system of %s has no direct I/O, so this run uses buffered I/O: the "
		   "stale uses count as much, but the speeds mean nothing", name);
	return false;
}

static int write_all(int fd, const u8 *from, size_t bytes)
{
	for (size_t done = 0; done < bytes;) {
		size_t len = bytes - done < CHUNK ? bytes - done : CHUNK;
		ssize_t n = pwrite(fd, from + done, len, done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ENOSPC;
		done += n;
	}
	return fdatasync(fd) ? -errno : 0;
}

static int read_all(int fd, u8 *into, size_t bytes)
{
	for (size_t done = 0; done < bytes;) {
		ssize_t n = pread(fd, into + done, bytes - done, done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ENODATA;
		done += n;
	}
	return 0;
}

static int make_own_file(struct prove *p, struct invlock_why *why)
{
	struct data *data = &p->data;
	u64 state = 0x9e3779b97f4a7c15ULL;
	int err;

	data->fd = open_temporary(why);
	if (data->fd < 0)
		return data->fd;
	data->bytes = OWN_BYTES;
	data->reference = malloc(data->bytes);
	if (!data->reference)
		return explain(why, -ENOMEM, "out of memory for a copy of the data file");
	for (size_t i = 0; i < data->bytes; i += 8) {
		u64 word = next_random(&state);

		memcpy(data->reference + i, &word, 8);
	}
	err = write_all(data->fd, data->reference, data->bytes);
	if (err)
		return explain(why, err, "cannot write a data file of %zu MiB: %s; set TMPDIR to a "
			       "directory that has room", data->bytes >> 20, strerror(-err));
	add_alignment(data, data->fd);
	go_direct(p, data->fd, "the data file");
	return 0;
}

static int open_named_file(struct prove *p, struct invlock_why *why)
{
	struct data *data = &p->data;
	const char *path = p->options.file;
	struct stat st;
	off_t size;
	int err;

	data->path = path;
	data->plain = open(path, O_RDONLY | O_CLOEXEC);
	if (data->plain < 0)
		return explain(why, -EINVAL, "cannot open '%s': %s", path, strerror(errno));
	if (fstat(data->plain, &st))
		return explain(why, -errno, "cannot stat '%s': %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return explain(why, -EINVAL, "'%s' is %s: --file needs a regular file or a block "
			       "device", path,
			       S_ISDIR(st.st_mode) ? "a directory" : "neither");
	data->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (data->fd < 0)
		return explain(why, -EINVAL, "cannot open '%s': %s", path, strerror(errno));
	add_alignment(data, data->fd);
	go_direct(p, data->fd, path);

	size = lseek(data->plain, 0, SEEK_END);
	if (size < (off_t)data->block)
		return explain(why, -EINVAL, "'%s' has %lld bytes, which is less than one block "
			       "of %zu bytes: --file needs a larger file", path, (long long)size,
			       data->block);
	data->bytes = size < (off_t)MAX_BYTES ? (size_t)size : MAX_BYTES;
	data->bytes -= data->bytes % data->block;
	if (size > (off_t)MAX_BYTES)
		prove_note(p, "this run reads only the first %zu MiB of %s", MAX_BYTES >> 20, path);
	data->reference = malloc(data->bytes);
	if (!data->reference)
		return explain(why, -ENOMEM, "out of memory for a copy of %zu bytes of '%s'",
			       data->bytes, path);
	err = read_all(data->plain, data->reference, data->bytes);
	return err ? explain(why, err, "cannot read '%s': %s", path, strerror(-err)) : 0;
}

int data_open(struct prove *p, struct invlock_why *why)
{
	p->data = (struct data){ .fd = -1, .plain = -1, .scratch = -1 };
	return p->options.file ? open_named_file(p, why) : make_own_file(p, why);
}

int scratch_open(struct prove *p, size_t bytes, struct invlock_why *why)
{
	struct data *data = &p->data;
	u8 *zeros;
	int err;

	data->scratch = open_temporary(why);
	if (data->scratch < 0)
		return data->scratch;
	/* write all of it once, so that no write of the run has to allocate space */
	zeros = calloc(1, bytes);
	if (!zeros)
		return explain(why, -ENOMEM, "out of memory for %zu bytes", bytes);
	err = write_all(data->scratch, zeros, bytes);
	free(zeros);
	if (err)
		return explain(why, err, "cannot write a scratch file of %zu MiB: %s; set "
			       "TMPDIR to a directory that has room", bytes >> 20, strerror(-err));
	go_direct(p, data->scratch, "the scratch file");
	return 0;
}

bool data_unchanged(const struct data *data, u64 offset, size_t len)
{
	u8 now[4096];

	for (size_t i = 0; i < len && data->plain >= 0; i += sizeof(now)) {
		size_t part = len - i < sizeof(now) ? len - i : sizeof(now);

		if (pread(data->plain, now, part, offset + i) != (ssize_t)part ||
		    memcmp(now, data->reference + offset + i, part))
			return false;
	}
	return true;
}

void data_close(struct data *data)
{
	if (data->fd >= 0)
		close(data->fd);
	if (data->plain >= 0)
		close(data->plain);
	if (data->scratch >= 0)
		close(data->scratch);
	free(data->reference);
	*data = (struct data){ .fd = -1, .plain = -1, .scratch = -1 };
}
