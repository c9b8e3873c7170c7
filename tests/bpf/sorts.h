/* SPDX-License-Identifier: MIT */
/*
 * Sorts of memory. Each function maps LEN bytes over what is at a place, and returns MAP_FAILED if
 * this machine has no such memory.
 */
#ifndef INVLOCK_TESTS_BPF_SORTS_H
#define INVLOCK_TESTS_BPF_SORTS_H

#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/page.h"

#define LEN	(2 * PAGE)

static inline void *map_file(void *at, int fd, int prot, int flags, off_t offset)
{
	void *p = fd < 0 ? MAP_FAILED : mmap(at, LEN, prot, flags | MAP_FIXED, fd, offset);

	/* the mapping keeps the file alive */
	if (fd >= 0)
		close(fd);
	return p;
}

static inline void *anon(void *at)
{
	return mmap(at, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		    -1, 0);
}

static inline void *shared_anon(void *at)
{
	return mmap(at, LEN, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

static inline void *dev_zero(void *at)
{
	return map_file(at, open("/dev/zero", O_RDWR), PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
}

static inline int memfd(void)
{
	int fd = memfd_create("refuse", 0);

	if (fd >= 0 && ftruncate(fd, LEN)) {
		close(fd);
		return -1;
	}
	return fd;
}

static inline void *shared_memfd(void *at)
{
	return map_file(at, memfd(), PROT_READ | PROT_WRITE, MAP_SHARED, 0);
}

static inline void *private_memfd(void *at)
{
	return map_file(at, memfd(), PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
}

static inline int disk_file(void)
{
	char path[] = "/var/tmp/invlock-XXXXXX";
	int fd = mkstemp(path);

	if (fd < 0)
		return -1;
	unlink(path);
	if (ftruncate(fd, LEN)) {
		close(fd);
		return -1;
	}
	return fd;
}

static inline void *shared_file(void *at)
{
	return map_file(at, disk_file(), PROT_READ | PROT_WRITE, MAP_SHARED, 0);
}

static inline void *private_file(void *at)
{
	char *p = map_file(at, disk_file(), PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);

	/*
	 * write, so that the page is a private copy: it must go together with the file's page, too
	 */
	if (p != MAP_FAILED)
		*p = 1;
	return p;
}

static inline void *program_text(void *at)
{
	return map_file(at, open("/proc/self/exe", O_RDONLY), PROT_READ, MAP_PRIVATE, 0);
}

static inline void *sysv(void *at)
{
	int id = shmget(IPC_PRIVATE, LEN, 0600);
	void *p = id < 0 ? (void *)-1 : shmat(id, at, SHM_REMAP);

	if (id >= 0)
		shmctl(id, IPC_RMID, NULL);
	return p;
}

static inline void *tcp_socket(void *at)
{
	return map_file(at, socket(AF_INET, SOCK_STREAM, 0), PROT_READ, MAP_SHARED, 0);
}

static inline void *packet_ring(void *at)
{
	int fd = socket(AF_PACKET, SOCK_RAW, 0);
	struct tpacket_req req = {
		.tp_block_size = PAGE, .tp_block_nr = 2, .tp_frame_size = PAGE, .tp_frame_nr = 2,
	};

	if (fd >= 0 && setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &req, sizeof(req))) {
		close(fd);
		return MAP_FAILED;
	}
	return map_file(at, fd, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
}

static inline void *perf_buffer(void *at)
{
	struct perf_event_attr attr = {
		.size = sizeof(attr), .type = PERF_TYPE_SOFTWARE,
		.config = PERF_COUNT_SW_DUMMY,
	};

	return map_file(at, syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0),
			PROT_READ | PROT_WRITE, MAP_SHARED, 0);
}

#endif /* INVLOCK_TESTS_BPF_SORTS_H */
