// SPDX-License-Identifier: MIT
/*
 * Programs that know nothing of invlock, over libfabric, UCX and MPI: alone they go stale, and with
 * what the environment names beside them they do not.
 */
#include "command.h"

#define OPEN_MPI	"mpirun.openmpi --allow-run-as-root --oversubscribe -n 2 "
#define MPI4PY		"python3 /usr/lib/invlock/mpi_program.py"
#define OVER_LIBFABRIC	"--mca pml cm --mca mtl ofi --mca mtl_ofi_provider_include 'verbs;ofi_rxm' "
#define OVER_UCX	"--mca pml ucx --mca pml_ucx_tls any --mca pml_ucx_devices any "

TEST(a_program_of_libfabric_alone_goes_stale)
{
	goes_stale("", "fabric_program", "1");
}

TEST(a_program_of_libfabric_with_the_plug_in_stays_right)
{
	struct result r = stays_right(PLUGIN, "fabric_program", "1");

	assert_true(r.hits > enough_of(WITH) / 4);
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
	need_verbs_of_ucx();
	goes_stale("", "ucx_program", "");
}

TEST(a_program_of_ucx_with_the_preload_stays_right)
{
	struct result r;

	need_verbs_of_ucx();
	r = stays_right("INVLOCK_STATS=1 " PRELOAD, "ucx_program", "");

	assert_true(r.hits > enough_of(WITH) / 4);
	assert_int_equal(r.complaints, 0);
}

TEST(a_program_of_ucx_stays_right_where_nobody_can_say_what_changes)
{
	struct result r;

	need_verbs_of_ucx();
	r = run("INVLOCK_MONITOR=manual " PRELOAD, "ucx_program", ALONE, "");

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
	need_verbs_of_ucx();
	goes_stale("", OPEN_MPI OVER_UCX "mpi_program.openmpi", "");
}

TEST(open_mpi_over_ucx_with_the_preload_stays_right)
{
	need_verbs_of_ucx();
	assert_true(stays_right("INVLOCK_STATS=1", OPEN_MPI "-x " PRELOAD " " OVER_UCX
				"mpi_program.openmpi", "").hits);
}

TEST(mpich_over_ucx_alone_goes_stale)
{
	need_verbs_of_ucx();
	goes_stale("", "mpirun.mpich -n 2 mpi_program.mpich", "");
}

TEST(mpich_over_ucx_with_the_preload_stays_right)
{
	need_verbs_of_ucx();
	assert_true(stays_right("INVLOCK_STATS=1", "mpirun.mpich -n 2 -env " PRELOAD
				" mpi_program.mpich", "").hits);
}

TEST(a_program_of_mpi4py_alone_goes_stale)
{
	goes_stale("", OPEN_MPI OVER_LIBFABRIC MPI4PY, "");
}

TEST(a_program_of_mpi4py_with_the_plug_in_stays_right)
{
	assert_true(stays_right(PLUGIN, OPEN_MPI OVER_LIBFABRIC MPI4PY, "").hits > 0);
}

TEST_MAIN()
