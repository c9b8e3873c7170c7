// SPDX-License-Identifier: MIT
/*
 * Beside UCX and libfabric in one process. UCX patches libc's code to learn of changes. Neither
 * library disturbs the other, and ours misses nothing. A change is made through libc, which UCX
 * sees, and by a raw system call, which it does not see.
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#ifdef HAVE_UCM
#include <ucm/api/ucm.h>
#endif
#ifdef HAVE_FABRIC
#include <rdma/fabric.h>
#include <rdma/fi_domain.h>
#endif

#include "calls.h"
#include "tests/test.h"

#define ROUNDS	500

static struct rig rig;

static void unmap_by_libc(void *addr)
{
	munmap(addr, PAGE);
}

static void unmap_raw(void *addr)
{
	syscall(SYS_munmap, addr, PAGE);
}

/* Return: rounds in which a page was called valid after another page had taken its place */
static unsigned int unmap_and_look(void (*unmap)(void *addr))
{
	unsigned int nr_stale = 0;
	uint64_t before = 0;

	for (int i = 0; i < ROUNDS; i++) {
		struct invlock_pin pin;

		assert_int_equal(invlock_cache_get(rig.cache, rig.page, PAGE, 0, &pin), 0);
		nr_stale += pin.handle == before;
		before = pin.handle;
		assert_int_equal(invlock_cache_put(&pin), 0);
		unmap(rig.page);
		assert_ptr_equal(mmap(rig.page, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE |
				      MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0), rig.page);
	}
	return nr_stale;
}

#ifdef HAVE_UCM
static unsigned int nr_heard;	/* atomic */

static void hear(__attribute__((unused)) ucm_event_type_t type, ucm_event_t *event,
		 __attribute__((unused)) void *arg)
{
	if (event->vm_unmapped.address == rig.page)
		__atomic_add_fetch(&nr_heard, 1, __ATOMIC_RELAXED);
}

static void beside_ucx(const char *monitor, bool ucx_first)
{
	unsigned int by_libc, raw;

	__atomic_store_n(&nr_heard, 0, __ATOMIC_RELAXED);
	if (!ucx_first)
		rig_open_or_skip(&rig, monitor);
	assert_int_equal(ucm_set_event_handler(UCM_EVENT_VM_UNMAPPED, 1000, hear, NULL), UCS_OK);
	if (ucx_first)
		rig_open_or_skip(&rig, monitor);
	assert_int_equal(unmap_and_look(unmap_by_libc), 0);
	by_libc = __atomic_load_n(&nr_heard, __ATOMIC_RELAXED);
	assert_int_equal(unmap_and_look(unmap_raw), 0);
	raw = __atomic_load_n(&nr_heard, __ATOMIC_RELAXED) - by_libc;
	ucm_unset_event_handler(UCM_EVENT_VM_UNMAPPED, hear, NULL);
	rig_close(&rig);
	print_message("# UCX heard of %u of %d unmaps through libc, of %u of %d raw ones\n",
		      by_libc, ROUNDS, raw, ROUNDS);
	/* our library does not disturb UCX, either */
	assert_true(by_libc >= ROUNDS);
}
#else
static void beside_ucx(__attribute__((unused)) const char *monitor,
		       __attribute__((unused)) bool ucx_first)
{
	TEST_SKIP("built without libucx-dev");
}
#endif

TEST(beside_ucx_bpf_sees_every_change)
{
	beside_ucx("bpf", true);
	beside_ucx("bpf", false);
}

TEST(beside_ucx_uffd_sees_every_change)
{
	beside_ucx("uffd", true);
	beside_ucx("uffd", false);
}

#ifdef HAVE_FABRIC
/* Opens a domain of each provider, and registers memory with it. Return: the number of domains */
static unsigned int open_domains(void)
{
	struct fi_info *all = NULL;
	unsigned int nr = 0;

	setenv("FI_MR_CACHE_MONITOR", "memhooks", 1);
	assert_int_equal(fi_getinfo(FI_VERSION(1, 15), NULL, NULL, 0, NULL, &all), 0);
	for (struct fi_info *info = all; info; info = info->next) {
		struct fid_fabric *fabric;
		struct fid_domain *domain;
		struct fid_mr *mr;

		/* They stay open until the process ends, because their hooks cannot be removed. */
		if (fi_fabric(info->fabric_attr, &fabric, NULL) ||
		    fi_domain(fabric, info, &domain, NULL))
			continue;
		fi_mr_reg(domain, rig.page, PAGE, FI_SEND | FI_RECV, 0, nr, 0, &mr, NULL);
		nr++;
	}
	fi_freeinfo(all);
	return nr;
}

TEST(beside_libfabric_every_monitor_sees_every_change)
{
	static const char *const monitors[] = { "bpf", "uffd" };
	unsigned char before[16];

	memcpy(before, (const void *)munmap, sizeof(before));
	for (unsigned int i = 0; i < 2; i++) {
		rig_open_or_skip(&rig, monitors[i]);
		if (!i)
			print_message("# %u domains\n", open_domains());
		assert_int_equal(unmap_and_look(unmap_by_libc), 0);
		assert_int_equal(unmap_and_look(unmap_raw), 0);
		rig_close(&rig);
	}
	print_message("# libfabric's hook of munmap is %s\n",
		      memcmp(before, (const void *)munmap, sizeof(before)) ? "in place" :
		      "not in place: none of its providers here caches registrations");
}
#else
TEST(beside_libfabric_every_monitor_sees_every_change)
{
	(void)unmap_by_libc, (void)unmap_raw, (void)unmap_and_look;
	TEST_SKIP("built without libfabric-dev");
}
#endif

TEST(a_monitor_to_which_no_change_is_reported_is_stale_in_each_round)
{
	rig_open_or_skip(&rig, "manual");
	assert_int_equal(unmap_and_look(unmap_by_libc), ROUNDS - 1);
	rig_close(&rig);
}

TEST_MAIN()
