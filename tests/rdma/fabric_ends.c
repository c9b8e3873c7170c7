// SPDX-License-Identifier: MIT
#include "fabric_ends.h"

#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_tagged.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TAG	5

void ends_check(int err, const char *what)
{
	if (!err)
		return;
	fprintf(stderr, "%s: %s\n", what, fi_strerror(-err));
	exit(3);
}

struct fi_info *ends_info(const char *provider, enum fi_ep_type type, int port)
{
	const char *address = getenv("ENDS_ADDRESS") ?: "10.9.0.1";
	struct fi_info *hints = fi_allocinfo(), *info;
	char text[16];

	hints->ep_attr->type = type;
	hints->caps = FI_MSG | FI_RMA | (type == FI_EP_RDM ? FI_TAGGED : 0);
	hints->mode = FI_CONTEXT;
	/* without FI_MR_LOCAL, a provider over verbs registers what is sent and received */
	hints->domain_attr->mr_mode = FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY |
				      (type == FI_EP_RDM ? 0 : FI_MR_LOCAL);
	hints->domain_attr->data_progress = FI_PROGRESS_MANUAL;
	hints->fabric_attr->prov_name = strdup(provider);
	snprintf(text, sizeof(text), "%d", port);
	ends_check(fi_getinfo(FI_VERSION(1, 13), address, text, FI_SOURCE, hints, &info),
		   "getinfo");
	fi_freeinfo(hints);
	return info;
}

static void open_end(struct fid_domain *domain, struct fi_info *info, struct end *e)
{
	struct fi_cq_attr cq = { .format = FI_CQ_FORMAT_TAGGED, .size = 64 };
	struct fi_av_attr av = { .type = FI_AV_TABLE, .count = 4 };

	ends_check(fi_endpoint(domain, info, &e->ep, NULL), "endpoint");
	ends_check(fi_cq_open(domain, &cq, &e->cq, NULL), "cq");
	ends_check(fi_av_open(domain, &av, &e->av, NULL), "av");
	ends_check(fi_ep_bind(e->ep, &e->cq->fid, FI_SEND | FI_RECV), "bind cq");
	ends_check(fi_ep_bind(e->ep, &e->av->fid, 0), "bind av");
	ends_check(fi_enable(e->ep), "enable");
	e->name_len = sizeof(e->name);
	ends_check(fi_getname(&e->ep->fid, e->name, &e->name_len), "name");
}

void ends_open(struct ends *all, int port)
{
	struct fi_info *info = ends_info("verbs;ofi_rxm", FI_EP_RDM, port);
	struct end *ends = all->ends;

	ends_check(fi_fabric(info->fabric_attr, &all->fabric, NULL), "fabric");
	ends_check(fi_domain(all->fabric, info, &all->domain, NULL), "domain");
	for (int i = 0; i < 2; i++) {
		struct fi_info *own = ends_info("verbs;ofi_rxm", FI_EP_RDM, port + i);

		open_end(all->domain, own, &ends[i]);
		fi_freeinfo(own);
	}
	for (int i = 0; i < 2; i++)
		if (fi_av_insert(ends[i].av, ends[!i].name, 1, &ends[i].peer, 0, NULL) != 1)
			ends_check(-FI_EADDRNOTAVAIL, "av_insert");
	fi_freeinfo(info);
}

void ends_close(struct ends *all)
{
	for (int i = 1; i >= 0; i--)
		fi_close(&all->ends[i].ep->fid);
	for (int i = 0; i < 2; i++) {
		fi_close(&all->ends[i].cq->fid);
		fi_close(&all->ends[i].av->fid);
	}
	fi_close(&all->domain->fid);
	fi_close(&all->fabric->fid);
}

static int progress(struct end *ends, int *done)
{
	for (int i = 0; i < 2; i++) {
		struct fi_cq_tagged_entry entry;
		ssize_t nr = fi_cq_read(ends[i].cq, &entry, 1);

		if (nr == 1)
			done[i]++;
		else if (nr != -FI_EAGAIN)
			return (int)nr;
	}
	return 0;
}

int ends_message(struct ends *all, int sender, const void *from, void *to, size_t len)
{
	struct end *ends = all->ends;
	struct fi_context contexts[2];
	int done[2] = {}, err;

	while ((err = (int)fi_trecv(ends[!sender].ep, to, len, NULL, FI_ADDR_UNSPEC, TAG, 0,
				    &contexts[1])) == -FI_EAGAIN)
		if ((err = progress(ends, done)))
			break;
	if (err)
		return err;
	while ((err = (int)fi_tsend(ends[sender].ep, from, len, NULL, ends[sender].peer, TAG,
				    &contexts[0])) == -FI_EAGAIN)
		if ((err = progress(ends, done)))
			break;
	while (!err && (!done[0] || !done[1]))
		err = progress(ends, done);
	return err;
}
