// SPDX-License-Identifier: MIT
/*
 * A provider for libfabric that provides nothing. libfabric loads it with its other plug-ins, and
 * so it can import a memory monitor before any program has opened a domain: nothing of the
 * program changes.
 */
#include <rdma/fi_errno.h>
#include <rdma/providers/fi_prov.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "monitor.h"

static bool imported;

static int no_info(__attribute__((unused)) uint32_t version,
		   __attribute__((unused)) const char *node,
		   __attribute__((unused)) const char *service,
		   __attribute__((unused)) uint64_t flags,
		   __attribute__((unused)) const struct fi_info *hints,
		   __attribute__((unused)) struct fi_info **ret_info)
{
	return -FI_ENODATA;
}

static int no_fabric(__attribute__((unused)) struct fi_fabric_attr *attr,
		     __attribute__((unused)) struct fid_fabric **ret_fabric,
		     __attribute__((unused)) void *context)
{
	return -FI_ENODATA;
}

/* libfabric ends, and checks after this that no monitor is left. */
static void cleanup(void)
{
	if (imported)
		fi_close(&ofi_monitor.fid);
	imported = false;
}

static struct fi_provider provider = {
	.version = FI_VERSION(0, 1),
	.fi_version = FI_VERSION(1, 13),
	.name = "invlock",
	.getinfo = no_info,
	.fabric = no_fabric,
	.cleanup = cleanup,
};

/* A user who has switched libfabric's cache off gets none. */
static bool is_wanted(void)
{
	const char *monitor = getenv("FI_MR_CACHE_MONITOR");

	return !monitor || strcmp(monitor, "disabled");
}

static int import(void)
{
	struct fid *cache;
	int err = fi_open(FI_VERSION(1, 13), "mr_cache", NULL, 0, 0, &cache, NULL);

	if (err)
		return err;
	err = fi_import_fid(cache, &ofi_monitor.fid, 0);
	fi_close(cache);
	return err;
}

FI_EXT_INI
{
	int err = 0;

	if (is_wanted() && !imported) {
		err = import();
		imported = !err;
	}
	if (err)
		fprintf(stderr, "invlock: libfabric %d.%d takes no memory monitor from here (%s): "
			"it goes on with its own\n", FI_MAJOR(fi_version()),
			FI_MINOR(fi_version()), fi_strerror(-err));
	return &provider;
}
