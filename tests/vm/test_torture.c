// SPDX-License-Identifier: MIT
/*
 * The device and the program add to counters while storms change the pages of the counters in every
 * way there is. No addition may be lost. torture=SECONDS on the kernel's command line makes the
 * test longer.
 */
#include "torture.h"

#define SHORT_SECONDS	5

static unsigned int long_seconds(void)
{
	const char *text = getenv("torture");

	return text ? strtoul(text, NULL, 10) : 0;
}

static struct torture_results *new_results(void)
{
	struct torture_results *results = mmap(NULL, sizeof(*results), PROT_READ | PROT_WRITE,
					       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(results, MAP_FAILED);
	return results;
}

static uint64_t sum(const uint64_t *per_adder)
{
	uint64_t n = 0;

	for (unsigned int who = 0; who < NR_ADDERS; who++)
		n += per_adder[who];
	return n;
}

/* The time between walk and commit; long enough to make a planted fault certain to show. */
static unsigned int window_us(void)
{
	return fault_is_planted() ? 20000 : 500;
}

static unsigned int endure(const struct torture_storm *storms, unsigned int nr,
			   unsigned int seconds)
{
	struct torture_results *results = new_results();
	struct invlock_mirror_stats stats;
	unsigned int unable;
	uint64_t added = 0, lost;

	set_mirror_us("delay_us", window_us());
	assert_true(torture_map(results, make_memfd(REGION, MFD_CLOEXEC)));
	torture.fd = mirror_open();
	unable = torture_run(storms, nr, seconds);
	stats = mirror_stats(torture.fd);
	for (unsigned int cell = 0; cell < NR_CELLS; cell++)
		added += results->added[1][cell] + results->added[2][cell];
	lost = torture_lost(0, 1, 0);
	print_message("# %llu added by the device, %llu refused, %llu zapped, %llu collisions, "
		      "%llu slow; %llu lost, %llu stale\n", (unsigned long long)added,
		      (unsigned long long)sum(results->refused), stats.zapped, stats.collisions,
		      stats.slow, (unsigned long long)lost,
		      (unsigned long long)sum(results->stale));
	set_delay_ms(0);
	assert_int_equal(lost, 0);
	assert_int_equal(sum(results->stale), 0);
	assert_int_equal(sum(results->wrong), 0);
	assert_true(added > 0);
	assert_int_equal(stats.running, 0);
	assert_true(unable || storms->rare || torture_has_met());
	close(torture.fd);
	close(torture.memfd);
	torture_unmap();
	munmap(results, sizeof(*results));
	return unable;
}

/* *state is the storm */
static void nothing_is_lost_in_one_storm(void **state)
{
	const struct torture_storm *storm = *state;

	if (endure(storm, 1, long_seconds() / nr_torture_storms))
		TEST_SKIP("no %s on this kernel", storm->name);
}

TEST(nothing_is_lost_in_all_storms_at_once)
{
	endure(torture_storms, nr_torture_storms, long_seconds() ?: SHORT_SECONDS);
}

int main(void)
{
	static struct test tests[32];
	static char names[32][64];

	for (unsigned int i = 0; i < nr_torture_storms; i++) {
		snprintf(names[i], sizeof(names[i]), "nothing_is_lost_in_a_storm_of_%s",
			 torture_storms[i].name);
		tests[i] = (struct test){
			.name = names[i],
			.run = nothing_is_lost_in_one_storm,
			.state = (void *)&torture_storms[i],
			.order = -1,	/* before the one of all storms */
		};
		test_add(&tests[i]);
	}
	return test_run(&(struct test_fixtures){});
}
