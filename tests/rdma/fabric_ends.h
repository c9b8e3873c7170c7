/* SPDX-License-Identifier: MIT */
/*
 * Two endpoints of libfabric in one process, connected to each other. The programs that use this
 * know nothing of invlock.
 */
#ifndef INVLOCK_TESTS_RDMA_FABRIC_ENDS_H
#define INVLOCK_TESTS_RDMA_FABRIC_ENDS_H

#include <rdma/fabric.h>
#include <rdma/fi_endpoint.h>
#include <stddef.h>

struct end {
	struct fid_ep *ep;
	struct fid_cq *cq;
	struct fid_av *av;
	fi_addr_t peer;
	char name[256];
	size_t name_len;
};

struct ends {
	struct fid_fabric *fabric;
	struct fid_domain *domain;
	struct end ends[2];
};

/* Ends the program with a sentence if @err is not 0. */
void ends_check(int err, const char *what);

/*
 * What is needed to open a domain of this provider, and endpoints of this type at this port, of the
 * address $ENDS_ADDRESS. The provider registers what is sent and received, and caches that.
 */
struct fi_info *ends_info(const char *provider, enum fi_ep_type type, int port);

/* Opens endpoints at @port and the next one; ends the program on an error */
void ends_open(struct ends *all, int port);
void ends_close(struct ends *all);

/* Sends one message from an end to the other, and waits until it is there. Return: 0 or -errno */
int ends_message(struct ends *all, int sender, const void *from, void *to, size_t len);

#endif /* INVLOCK_TESTS_RDMA_FABRIC_ENDS_H */
