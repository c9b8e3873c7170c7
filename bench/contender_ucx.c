// SPDX-License-Identifier: MIT
#include <sys/mman.h>
#include <ucm/api/ucm.h>
#include <ucs/memory/rcache.h>

#include "contender.h"

static ucs_rcache_t *rcache;

static ucs_status_t reg(void *context, ucs_rcache_t *r, void *arg, ucs_rcache_region_t *region,
			uint16_t flags)
{
	(void)context, (void)r, (void)arg, (void)region, (void)flags;
	return UCS_OK;
}

static void dereg(void *context, ucs_rcache_t *r, ucs_rcache_region_t *region)
{
	(void)context, (void)r, (void)region;
}

static void dump(void *context, ucs_rcache_t *r, ucs_rcache_region_t *region, char *buf, size_t max)
{
	(void)context, (void)r, (void)region, (void)max;
	buf[0] = '\0';
}

static bool ucx_open(void)
{
	static const ucs_rcache_ops_t ops = { reg, dereg, dump };
	ucs_rcache_params_t params = {
		.region_struct_size = sizeof(ucs_rcache_region_t),
		.alignment = 4096,
		.max_alignment = 4096,
		.ucm_events = UCM_EVENT_VM_UNMAPPED,
		.ucm_event_priority = 1000,
		.ops = &ops,
		.flags = UCS_RCACHE_FLAG_NO_PFN_CHECK,
		.max_regions = (unsigned long)-1,
		.max_size = (size_t)-1,
		.max_unreleased = (size_t)-1,
	};

	return ucs_rcache_create(&params, "bench", NULL, &rcache) == UCS_OK;
}

static void ucx_close(void)
{
	ucs_rcache_destroy(rcache);
}

static uint64_t ucx_hit(void *addr, size_t len)
{
	ucs_rcache_region_t *region;

	if (ucs_rcache_get(rcache, addr, len, PROT_READ | PROT_WRITE, NULL, &region) != UCS_OK)
		return 0;
	ucs_rcache_region_put(rcache, region);
	return (uintptr_t)addr;
}

/* Invalidate, as UCX's hook of munmap() does. */
static void ucx_drop(void *addr, size_t len)
{
	ucm_vm_munmap(addr, len);
}

const struct contender ucx = { "UCX", ucx_open, ucx_close, ucx_hit, ucx_drop };
