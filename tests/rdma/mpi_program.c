// SPDX-License-Identifier: MIT
/*
 * An ordinary MPI program: rank 0 sends from memory, and rank 1 receives into memory, that changes
 * between two messages. It knows nothing of invlock.
 *
 * usage: mpirun -n 2 mpi_program MESSAGES
 */
#include <mpi.h>
#include <stdlib.h>
#include <string.h>

#include "torn.h"

#define LEN	65536

int main(int argc, char **argv)
{
	struct torn *torn = torn_open(LEN);
	struct torn_tally tally = {};
	unsigned int seed = 1;
	int rank, nr;

	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	nr = argc > 1 ? atoi(argv[1]) : 100;
	for (int i = 0; i < nr; i++) {
		/* both ranks know which change comes next */
		enum torn_change change = torn_next(&seed);
		char *mem = torn_tear(torn, change);

		if (!mem)
			continue;
		memset(mem, rank ? 0 : 1 + i % 255, LEN);
		if (rank) {
			MPI_Recv(mem, LEN, MPI_BYTE, 0, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
			torn_judge(&tally, change, mem, LEN, 1 + i % 255);
		} else {
			MPI_Send(mem, LEN, MPI_BYTE, 1, 1, MPI_COMM_WORLD);
		}
	}
	if (rank)
		torn_print(&tally);
	MPI_Finalize();
	return 0;
}
