// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "rig.h"

static unsigned char byte_at(uint64_t offset)
{
	uint64_t word = (offset / 8 + 1) * UINT64_C(0x9e3779b97f4a7c15);

	return word >> offset % 8 * 8;
}

/* the content of each known file, aligned for O_DIRECT */
static unsigned char known[FILE_SIZE] __attribute__((aligned(4096)));

bool holds(const void *buf, uint64_t offset, size_t len)
{
	return offset <= FILE_SIZE && len <= FILE_SIZE - offset &&
	       !memcmp(buf, known + offset, len);
}

void *memory(size_t len, unsigned char fill)
{
	void *mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(mem, MAP_FAILED);
	memset(mem, fill, len);
	return mem;
}

void replace(const struct rig *rig, void *buf, size_t len)
{
	invlock_manual_start(rig->mm, buf, len);
	assert_ptr_equal(mmap(buf, len, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), buf);
	invlock_manual_end(rig->mm, buf, len);
}

/*
 * A file in the current folder. tmpfs has no O_DIRECT before Linux 6.6, so there is a second
 * choice.
 */
static int temporary_file(int flags)
{
	static const char *const places[] = { "invlock-XXXXXX", "/var/tmp/invlock-XXXXXX" };
	char path[40];
	int fd;

	for (unsigned int i = 0; i < 2; i++) {
		strcpy(path, places[i]);
		fd = mkostemp(path, O_CLOEXEC | flags);
		if (fd >= 0) {
			unlink(path);
			return fd;
		}
		/* a file system without O_DIRECT creates the file before it fails */
		unlink(path);
	}
	return -1;
}

int known_file(int flags)
{
	int fd = temporary_file(flags);

	if (fd < 0)
		return -1;
	for (uint64_t i = 0; i < FILE_SIZE; i++)
		known[i] = byte_at(i);
	if (pwrite(fd, known, FILE_SIZE, 0) == FILE_SIZE)
		return fd;
	close(fd);
	return -1;
}

static int cannot(struct rig *rig, const char *what, int err)
{
	bool here = err == -EPERM || err == -ENOSYS || err == -EACCES;

	snprintf(rig->why, sizeof(rig->why), "%s: %s", what, strerror(-err));
	return here ? 1 : err;
}

int rig_open(struct rig *rig, const char *monitor, unsigned int ring_flags,
	     const struct invlock_uring_options *options)
{
	struct invlock_mm_options mm = { .size = sizeof(mm), .monitor = monitor };
	/* unless the test has options, what is dead stays so until it says otherwise */
	const struct invlock_uring_options quiet = {
		.size = sizeof(quiet), .flags = INVLOCK_URING_NO_REAPER,
	};
	struct invlock_why why;
	int err;

	*rig = (struct rig){};
	err = io_uring_queue_init(64, &rig->ring, ring_flags);
	/* A kernel that does not know the ring's flags is a reason to skip. */
	if (err == -EINVAL && ring_flags)
		err = -ENOSYS;
	if (err)
		return cannot(rig, "io_uring cannot be used here", err);
	rig->fd = known_file(O_DIRECT);
	if (rig->fd < 0) {
		err = cannot(rig, "no file with O_DIRECT", -errno);
		io_uring_queue_exit(&rig->ring);
		return err == -EINVAL ? 1 : err;
	}
	err = invlock_mm_open(&mm, &rig->mm, &why);
	if (!err) {
		err = invlock_uring_open(&rig->ring, rig->mm, options ? options : &quiet,
					 &rig->uring, &why);
		if (err)
			invlock_mm_close(rig->mm);
	}
	if (err) {
		/* the manual monitor works everywhere */
		if (strcmp(monitor, "manual"))
			err = 1;
		snprintf(rig->why, sizeof(rig->why), "%s", why.text);
		close(rig->fd);
		io_uring_queue_exit(&rig->ring);
	}
	return err;
}

int rig_try_join(struct rig *rig, const struct rig *first, unsigned int ring_flags)
{
	struct invlock_mm_options mm = { .size = sizeof(mm), .monitor = "manual" };
	struct invlock_why why;
	int err;

	*rig = (struct rig){ .fd = dup(first->fd) };
	err = io_uring_queue_init(64, &rig->ring, ring_flags);
	if (err)
		return cannot(rig, "no second ring", err);
	err = invlock_mm_open(&mm, &rig->mm, &why);
	if (!err)
		err = invlock_uring_join(&rig->ring, first->uring, &rig->uring, &why);
	if (err)
		snprintf(rig->why, sizeof(rig->why), "%s", why.text);
	return err;
}

void rig_join(struct rig *rig, const struct rig *first, unsigned int ring_flags)
{
	if (rig_try_join(rig, first, ring_flags))
		fail_msg("%s", rig->why);
}

void rig_close(struct rig *rig)
{
	const struct iovec one = { .iov_base = rig, .iov_len = 1 };

	assert_int_equal(uring_stats(rig).in_flight, 0);
	assert_int_equal(invlock_cache_drop(rig->uring ? invlock_uring_cache(rig->uring) : NULL,
					    (void *)1, ~0ul - 1) < 0, 0);
	/* the reaper may be about to clear a slot */
	for (int i = 0; uring_stats(rig).slots_used && i < 30000; i++)
		usleep(1000);
	assert_int_equal(uring_stats(rig).slots_used, 0);
	assert_int_equal(invlock_uring_close(rig->uring), 0);
	/* The adapter has given its table back, so there is room for another one. */
	assert_int_equal(io_uring_register_buffers(&rig->ring, &one, 1), 0);
	invlock_mm_close(rig->mm);
	io_uring_queue_exit(&rig->ring);
	close(rig->fd);
}

int finish(struct rig *rig)
{
	struct io_uring_cqe *cqe;
	int res;

	assert_true(io_uring_submit(&rig->ring) >= 0);
	assert_int_equal(io_uring_wait_cqe(&rig->ring, &cqe), 0);
	assert_int_equal(invlock_uring_done(io_uring_cqe_get_data(cqe)), 0);
	res = cqe->res;
	io_uring_cqe_seen(&rig->ring, cqe);
	return res;
}

int prepare(struct rig *rig, int fd, void *buf, size_t len, uint64_t offset,
	    struct invlock_uring_op *op)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&rig->ring);
	int way = invlock_uring_prep_read(rig->uring, sqe, fd, buf, len, offset, op);

	io_uring_sqe_set_data(sqe, op);
	return way;
}

static int one(struct rig *rig, int way, struct io_uring_sqe *sqe, struct invlock_uring_op *op,
	       int *ret_way)
{
	assert_true(way >= 0);
	assert_int_equal(way, op->way);
	if (way == INVLOCK_URING_FIXED)
		assert_true(sqe->opcode == IORING_OP_READ_FIXED ||
			    sqe->opcode == IORING_OP_WRITE_FIXED);
	else
		assert_true(sqe->opcode == IORING_OP_READ || sqe->opcode == IORING_OP_WRITE);
	io_uring_sqe_set_data(sqe, op);
	if (ret_way)
		*ret_way = way;
	return finish(rig);
}

int read_one(struct rig *rig, int fd, void *buf, size_t len, uint64_t offset, int *ret_way)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&rig->ring);
	struct invlock_uring_op op;

	return one(rig, invlock_uring_prep_read(rig->uring, sqe, fd, buf, len, offset, &op), sqe,
		   &op, ret_way);
}

int write_one(struct rig *rig, int fd, const void *buf, size_t len, uint64_t offset, int *ret_way)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&rig->ring);
	struct invlock_uring_op op;

	return one(rig, invlock_uring_prep_write(rig->uring, sqe, fd, buf, len, offset, &op), sqe,
		   &op, ret_way);
}

int update_buffers(struct io_uring *ring, unsigned int off, const struct iovec *iovecs,
		   unsigned int nr)
{
	struct io_uring_rsrc_update2 update = {
		.offset = off,
		.data = (unsigned long)iovecs,
		.nr = nr,
	};
	long ret = syscall(SYS_io_uring_register, ring->ring_fd, IORING_REGISTER_BUFFERS_UPDATE,
			   &update, sizeof(update));

	return ret < 0 ? -errno : ret;
}

struct invlock_uring_stats uring_stats(const struct rig *rig)
{
	struct invlock_uring_stats s = { .size = sizeof(s) };

	assert_int_equal(invlock_uring_stats(rig->uring, &s), 0);
	return s;
}

struct invlock_cache_stats cache_stats(const struct rig *rig)
{
	struct invlock_cache_stats s = { .size = sizeof(s) };

	assert_int_equal(invlock_cache_stats(invlock_uring_cache(rig->uring), &s), 0);
	return s;
}

void in_child(int (*run)(void *arg), void *arg)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (!pid)
		_exit(run(arg));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}
