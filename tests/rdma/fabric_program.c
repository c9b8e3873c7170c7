// SPDX-License-Identifier: MIT
/*
 * An ordinary program of libfabric: two endpoints of one process, and messages from memory and into
 * memory that changes in between. It knows nothing of invlock.
 *
 * usage: fabric_program MESSAGES DOMAINS
 */
#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_tagged.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "torn.h"

#define LEN	65536
#define ADDRESS	"10.9.0.1"
#define DOMAINS	2

struct end {
	struct fid_ep *ep;
	struct fid_cq *cq;
	struct fid_av *av;
	fi_addr_t peer;
	char name[256];
	size_t name_len;
};

static struct {
	struct fid_fabric *fabric;
	struct fid_domain *domain;
	struct end ends[2];
} all[DOMAINS];

static void check(int err, const char *what)
{
	if (!err)
		return;
	fprintf(stderr, "%s: %s\n", what, fi_strerror(-err));
	exit(3);
}

static struct fi_info *info_of(int port)
{
	struct fi_info *hints = fi_allocinfo(), *info;
	char text[16];

	hints->ep_attr->type = FI_EP_RDM;
	hints->caps = FI_MSG | FI_TAGGED | FI_RMA;
	hints->mode = FI_CONTEXT;
	/* not FI_MR_LOCAL: the provider registers what is sent and received, and caches that */
	hints->domain_attr->mr_mode = FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY;
	hints->domain_attr->data_progress = FI_PROGRESS_MANUAL;
	hints->fabric_attr->prov_name = strdup("verbs;ofi_rxm");
	snprintf(text, sizeof(text), "%d", port);
	check(fi_getinfo(FI_VERSION(1, 13), ADDRESS, text, FI_SOURCE, hints, &info), "getinfo");
	fi_freeinfo(hints);
	return info;
}

static void open_end(struct fid_domain *domain, struct fi_info *info, struct end *e)
{
	struct fi_cq_attr cq = { .format = FI_CQ_FORMAT_TAGGED, .size = 64 };
	struct fi_av_attr av = { .type = FI_AV_TABLE, .count = 4 };

	check(fi_endpoint(domain, info, &e->ep, NULL), "endpoint");
	check(fi_cq_open(domain, &cq, &e->cq, NULL), "cq");
	check(fi_av_open(domain, &av, &e->av, NULL), "av");
	check(fi_ep_bind(e->ep, &e->cq->fid, FI_SEND | FI_RECV), "bind cq");
	check(fi_ep_bind(e->ep, &e->av->fid, 0), "bind av");
	check(fi_enable(e->ep), "enable");
	e->name_len = sizeof(e->name);
	check(fi_getname(&e->ep->fid, e->name, &e->name_len), "name");
}

static void open_domain(int which)
{
	struct fi_info *info = info_of(7471 + 2 * which);
	struct end *ends = all[which].ends;

	check(fi_fabric(info->fabric_attr, &all[which].fabric, NULL), "fabric");
	check(fi_domain(all[which].fabric, info, &all[which].domain, NULL), "domain");
	for (int i = 0; i < 2; i++) {
		struct fi_info *own = info_of(7471 + 2 * which + i);

		open_end(all[which].domain, own, &ends[i]);
		fi_freeinfo(own);
	}
	for (int i = 0; i < 2; i++)
		if (fi_av_insert(ends[i].av, ends[!i].name, 1, &ends[i].peer, 0, NULL) != 1)
			check(-FI_EADDRNOTAVAIL, "av_insert");
	fi_freeinfo(info);
}

static void close_domain(int which)
{
	for (int i = 1; i >= 0; i--)
		fi_close(&all[which].ends[i].ep->fid);
	for (int i = 0; i < 2; i++) {
		fi_close(&all[which].ends[i].cq->fid);
		fi_close(&all[which].ends[i].av->fid);
	}
	fi_close(&all[which].domain->fid);
	fi_close(&all[which].fabric->fid);
}

static void progress(struct end *ends, int *done)
{
	for (int i = 0; i < 2; i++) {
		struct fi_cq_tagged_entry entry;
		ssize_t nr = fi_cq_read(ends[i].cq, &entry, 1);

		if (nr == 1)
			done[i]++;
		else if (nr != -FI_EAGAIN)
			check((int)nr, "completion");
	}
}

static void message(struct end *ends, const void *from, void *to)
{
	struct fi_context contexts[2];
	int done[2] = {}, err;

	while ((err = fi_trecv(ends[1].ep, to, LEN, NULL, FI_ADDR_UNSPEC, 5, 0, &contexts[1])) ==
	       -FI_EAGAIN)
		progress(ends, done);
	check(err, "trecv");
	while ((err = fi_tsend(ends[0].ep, from, LEN, NULL, ends[0].peer, 5, &contexts[0])) ==
	       -FI_EAGAIN)
		progress(ends, done);
	check(err, "tsend");
	while (!done[0] || !done[1])
		progress(ends, done);
}

int main(int argc, char **argv)
{
	int nr = argc > 1 ? atoi(argv[1]) : 100, domains = argc > 2 ? atoi(argv[2]) : 1;
	struct torn *from = torn_open(LEN), *to = torn_open(LEN);
	struct torn_tally tally = {};
	unsigned int seed = 1;

	for (int i = 0; i < domains && i < DOMAINS; i++)
		open_domain(i);
	for (int i = 0; i < nr; i++) {
		enum torn_change change = torn_next(&seed);
		char *source = torn_tear(from, change), *target = torn_tear(to, change);

		if (!source || !target)
			continue;
		memset(source, 1 + i % 255, LEN);
		memset(target, 0, LEN);
		message(all[i % domains].ends, source, target);
		torn_judge(&tally, change, target, LEN, 1 + i % 255);
	}
	torn_print(&tally);
	for (int i = 0; i < domains && i < DOMAINS; i++)
		close_domain(i);
	return 0;
}
