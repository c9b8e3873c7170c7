// SPDX-License-Identifier: MIT
/*
 * sim [-d] [-f] [-m sc|tso|weak] [-n STATES] [CASE...]
 *
 * Explores the cases, and prints one TAP line for each case and model. CASE may be a pattern. -d:
 * deep, without the bounds of the quick run. -f: stop at the first case that fails. -n: explore no
 * more states than this for each case, and say so if there are more; that is a failure, unless with
 * -d. Exit: 0 = all cases hold, 1 = one fails, 2 = wrong usage.
 */
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cases.h"

static const char * const models[] = { "sc", "tso", "weak" };
static int only_model = -1;
static u64 max_states = 100000000;
static bool deep, stop_at_first;
static u32 nr_tests, nr_failed, nr_caught;
static char **wanted;

static bool is_wanted(const char *name)
{
	if (!*wanted)
		return true;
	for (char **w = wanted; *w; w++)
		if (!fnmatch(*w, name, 0))
			return true;
	return false;
}

static void test(const struct sim_case *c, enum sim_model model)
{
	struct sim_result r = sim_explore(c, model, max_states, true, deep);
	bool ok = !r.failed && (r.complete || deep);

	nr_tests++;
	nr_failed += !ok;
	nr_caught += r.failed;
	if (r.failed)
		printf("# %s\n", r.failure);
	else if (!r.complete)
		printf("# not explored to the end: stopped at %llu states\n", max_states);
	printf("%sok %u - %s, %s: %s\n", ok ? "" : "not ", nr_tests, c->name, models[model],
	       c->claim);
	printf("# %llu states, %llu schedules, %llu ms%s\n", r.states, r.schedules,
	       r.seconds_x1000, deep || c->preemptions < 0 ? "" : ", bounded");
	fflush(stdout);
}

static void test_all(const struct sim_case *cases)
{
	for (const struct sim_case *c = cases; c->name; c++)
		for (int m = 0; m < SIM_NR_MODELS; m++)
			if (c->models & 1u << m && (only_model < 0 || only_model == m) &&
			    is_wanted(c->name) && !(stop_at_first && nr_caught))
				test(c, m);
}

static int model_named(const char *name)
{
	for (int m = 0; m < SIM_NR_MODELS; m++)
		if (!strcmp(name, models[m]))
			return m;
	fprintf(stderr, "sim: there is no model \"%s\"; the models are sc, tso and weak\n", name);
	exit(2);
}

int main(int argc, char **argv)
{
	int option;

	while ((option = getopt(argc, argv, "dfm:n:")) >= 0) {
		switch (option) {
		case 'd': deep = true; break;
		case 'f': stop_at_first = true; break;
		case 'm': only_model = model_named(optarg); break;
		case 'n': max_states = strtoull(optarg, NULL, 0); break;
		default: return 2;
		}
	}
	wanted = argv + optind;
	test_all(lock_cases);
	test_all(blind_cases);
	test_all(cache_cases);
	if (!nr_tests) {
		fprintf(stderr, "sim: no such case\n");
		return 2;
	}
	printf("1..%u\n", nr_tests);
	return nr_failed ? 1 : 0;
}
