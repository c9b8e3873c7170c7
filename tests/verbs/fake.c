// SPDX-License-Identifier: MIT
#include "fake.h"

#include <errno.h>
#include <stdlib.h>

#define REGIONS	65536

/* verbs.h makes macros of these names */
#undef ibv_reg_mr

struct fake_verbs fake_verbs;

static struct {
	_Atomic(struct ibv_pd *) pd;
	atomic_uint access;
} regions[REGIONS];

static int fails(size_t len)
{
	if (fake_verbs.fail_with && atomic_load(&fake_verbs.fail_times)) {
		if (atomic_load(&fake_verbs.fail_times) > 0)
			atomic_fetch_sub(&fake_verbs.fail_times, 1);
		return fake_verbs.fail_with;
	}
	if (fake_verbs.max_bytes && atomic_load(&fake_verbs.bytes) + len > fake_verbs.max_bytes)
		return ENOMEM;
	return 0;
}

static struct ibv_mr *reg(struct ibv_pd *pd, void *addr, size_t len, unsigned int access)
{
	uint32_t key = 1 + atomic_fetch_add(&fake_verbs.nr_reg, 1) % (REGIONS - 1);
	struct ibv_mr *mr;

	errno = fails(len);
	mr = errno ? NULL : calloc(1, sizeof(*mr));
	if (!mr) {
		atomic_fetch_sub(&fake_verbs.nr_reg, 1);
		return NULL;
	}
	*mr = (struct ibv_mr){
		.context = pd->context, .pd = pd, .addr = addr, .length = len,
		.lkey = key, .rkey = key + REGIONS,
	};
	atomic_store(&regions[key].access, access);
	atomic_store(&regions[key].pd, pd);
	atomic_fetch_add(&fake_verbs.bytes, len);
	return mr;
}

struct ibv_mr *ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t len, int access)
{
	return reg(pd, addr, len, access);
}

/* what the header makes of ibv_reg_mr() where the rights are not constant */
struct ibv_mr *ibv_reg_mr_iova2(struct ibv_pd *pd, void *addr, size_t len,
				__attribute__((unused)) uint64_t iova, unsigned int access)
{
	return reg(pd, addr, len, access);
}

int ibv_dereg_mr(struct ibv_mr *mr)
{
	atomic_fetch_add(&fake_verbs.nr_dereg, 1);
	atomic_fetch_sub(&fake_verbs.bytes, mr->length);
	/* a second deregistration would be found here */
	if (!atomic_exchange(&regions[mr->lkey].pd, NULL))
		abort();
	free(mr);
	return fake_verbs.dereg_fails;
}

int fake_is_live(uint32_t lkey, const struct ibv_pd *pd, unsigned int access)
{
	return atomic_load(&regions[lkey].pd) == pd &&
	       atomic_load(&regions[lkey].access) == access;
}
