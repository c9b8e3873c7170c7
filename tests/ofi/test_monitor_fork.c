// SPDX-License-Identifier: MIT
/* The monitor for libfabric in a forked child, which has neither the mm nor the reaper. */
#include "adapters/ofi/monitor.c"

#include <sys/mman.h>

#include "tests/child.h"
#include "tests/test.h"

uint32_t fi_version(void)
{
	return FI_VERSION(2, 1);
}

static char *mem;

/* libfabric closes what the child has inherited, and the child opens a domain of its own */
static int in_forked_child(void)
{
	const struct fi_ops_mem_monitor *ops = ofi_monitor.export_ops;

	if (ops->valid(&ofi_monitor, mem, PAGE) ||
	    ops->subscribe(&ofi_monitor, mem, PAGE) != -FI_ENOSYS)
		return 1;
	ops->unsubscribe(&ofi_monitor, mem, PAGE);
	ops->stop(&ofi_monitor);
	if (ops->start(&ofi_monitor))
		return 2;
	if (ops->subscribe(&ofi_monitor, mem, PAGE))
		return 3;
	ops->unsubscribe(&ofi_monitor, mem, PAGE);
	ops->stop(&ofi_monitor);
	return 0;
}

static void *fork_a_child(void *arg)
{
	*(int *)arg = in_child(in_forked_child);
	return NULL;
}

TEST(a_child_that_was_forked_while_the_reaper_works_does_not_wait_for_it)
{
	const struct fi_ops_mem_monitor *ops = ofi_monitor.export_ops;
	pthread_t thread;
	int result;

#ifdef __SANITIZE_THREAD__
	TEST_SKIP("ThreadSanitizer starts no thread in a forked child");
#endif
	mem = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ops->start(&ofi_monitor))
		TEST_SKIP("no monitor here sees every change, as stderr says");
	assert_int_equal(ops->subscribe(&ofi_monitor, mem, PAGE), 0);
	/* in place of the reaper */
	pthread_mutex_lock(&lock);
	assert_int_equal(pthread_create(&thread, NULL, fork_a_child, &result), 0);
	pthread_join(thread, NULL);
	pthread_mutex_unlock(&lock);
	assert_int_equal(result, 0);
	ops->unsubscribe(&ofi_monitor, mem, PAGE);
	ops->stop(&ofi_monitor);
	munmap(mem, PAGE);
}

TEST_MAIN()
