// SPDX-License-Identifier: MIT
/*
 * Programs that know nothing of invlock, over libfabric, UCX and MPI: alone they go stale, and with
 * what the environment names beside them they do not.
 */
#include "tests/test.h"

#define ALONE		150	/* messages of a control */
#define WITH		1100	/* of which some kernels know no change for every twentieth */
#define PLUGIN		"FI_PROVIDER_PATH=/usr/lib/invlock/libfabric INVLOCK_STATS=1 "
#define PRELOAD		"LD_PRELOAD=/usr/lib/invlock/libinvlock-ucx-preload.so"

#define OPEN_MPI	"mpirun.openmpi --allow-run-as-root --oversubscribe -n 2 "
#define OVER_LIBFABRIC	"--mca pml cm --mca mtl ofi --mca mtl_ofi_provider_include 'verbs;ofi_rxm' "
#define OVER_UCX	"--mca pml ucx --mca pml_ucx_tls any --mca pml_ucx_devices any "

struct result {
	unsigned int messages, stale;
	unsigned long hits;		/* of all processes */
	unsigned int complaints;	/* lines that begin with invlock: and are no statistics */
	char complaint[300];
};

static void read_line(struct result *r, const char *line)
{
	unsigned long lookups, hits, forgotten;

	if (sscanf(line, "%u stale of %u messages", &r->stale, &r->messages) == 2)
		return;
	if (sscanf(line, "invlock: libfabric, process %*d: %lu lookups, %lu hits", &lookups,
		   &hits) == 2) {
		r->hits += hits;
	} else if (sscanf(line, "invlock: UCX, process %*d: %lu checks, %lu forgotten", &lookups,
			  &forgotten) == 2) {
		r->hits += lookups - forgotten;
	} else if (!strncmp(line, "invlock:", 8)) {
		r->complaints++;
		snprintf(r->complaint, sizeof(r->complaint), "%.299s", line);
	}
}

/* Runs a command of the shell and prints what it says. */
static struct result run(const char *environment, const char *command, unsigned int messages,
			 const char *rest)
{
	struct result r = {};
	char line[4096];
	FILE *said;

	snprintf(line, sizeof(line), "%s timeout 600 %s %u %s 2>&1 < /dev/null", environment,
		 command, messages, rest);
	printf("# %s\n", line);
	said = popen(line, "r");
	assert_non_null(said);
	while (fgets(line, sizeof(line), said)) {
		printf("#   %s", line);
		read_line(&r, line);
	}
	pclose(said);
	fflush(stdout);
	return r;
}

static void goes_stale(const char *environment, const char *command, const char *rest)
{
	struct result r = run(environment, command, ALONE, rest);

	assert_true(r.messages > ALONE / 2);
	assert_true(r.stale > 0);
}

static struct result stays_right(const char *environment, const char *command, const char *rest)
{
	struct result r = run(environment, command, WITH, rest);

	assert_true(r.messages >= 1000);
	assert_int_equal(r.stale, 0);
	return r;
}

TEST(a_program_of_libfabric_alone_goes_stale)
{
	goes_stale("", "fabric_program", "1");
}

TEST(a_program_of_libfabric_with_the_plug_in_stays_right)
{
	struct result r = stays_right(PLUGIN, "fabric_program", "1");

	assert_true(r.hits > WITH / 4);
	assert_int_equal(r.complaints, 0);
}

TEST(two_domains_of_libfabric_with_the_plug_in_stay_right)
{
	assert_true(stays_right(PLUGIN, "fabric_program", "2").hits > 0);
}

TEST(a_cache_of_one_registration_stays_right)
{
	struct result r = run(PLUGIN "FI_MR_CACHE_MAX_COUNT=1", "fabric_program", ALONE, "1");

	assert_true(r.messages > ALONE / 2);
	assert_int_equal(r.stale, 0);
}

TEST(without_a_monitor_libfabric_goes_on_without_a_cache_and_says_so_once)
{
	struct result r = run(PLUGIN "INVLOCK_MONITOR=manual", "fabric_program", ALONE, "2");

	assert_true(r.messages > ALONE / 2);
	assert_int_equal(r.stale, 0);
	assert_int_equal(r.complaints, 1);
	assert_non_null(strstr(r.complaint, "without a cache"));
}

TEST(a_program_of_ucx_alone_goes_stale)
{
	goes_stale("", "ucx_program", "");
}

TEST(a_program_of_ucx_with_the_preload_stays_right)
{
	struct result r = stays_right("INVLOCK_STATS=1 " PRELOAD, "ucx_program", "");

	assert_true(r.hits > WITH / 4);
	assert_int_equal(r.complaints, 0);
}

TEST(a_program_of_ucx_stays_right_where_nobody_can_say_what_changes)
{
	struct result r = run("INVLOCK_MONITOR=manual " PRELOAD, "ucx_program", ALONE, "");

	assert_true(r.messages > ALONE / 2);
	assert_int_equal(r.stale, 0);
	assert_int_equal(r.complaints, 1);
}

TEST(open_mpi_over_libfabric_alone_goes_stale)
{
	goes_stale("", OPEN_MPI OVER_LIBFABRIC "mpi_program.openmpi", "");
}

TEST(open_mpi_over_libfabric_with_the_plug_in_stays_right)
{
	assert_true(stays_right(PLUGIN, OPEN_MPI OVER_LIBFABRIC "mpi_program.openmpi", "").hits);
}

TEST(open_mpi_over_ucx_alone_goes_stale)
{
	goes_stale("", OPEN_MPI OVER_UCX "mpi_program.openmpi", "");
}

TEST(open_mpi_over_ucx_with_the_preload_stays_right)
{
	assert_true(stays_right("INVLOCK_STATS=1", OPEN_MPI "-x " PRELOAD " " OVER_UCX
				"mpi_program.openmpi", "").hits);
}

TEST(mpich_over_ucx_alone_goes_stale)
{
	goes_stale("", "mpirun.mpich -n 2 mpi_program.mpich", "");
}

TEST(mpich_over_ucx_with_the_preload_stays_right)
{
	assert_true(stays_right("INVLOCK_STATS=1", "mpirun.mpich -n 2 -env " PRELOAD
				" mpi_program.mpich", "").hits);
}

TEST_MAIN()
