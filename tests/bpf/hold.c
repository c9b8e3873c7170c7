// SPDX-License-Identifier: MIT
/*
 * Holds the set of programs for as long as this process runs, so that the tests which start
 * meanwhile join that set: in an emulated machine it takes long to have a set verified, and each
 * test would do so.
 *
 *	hold FILE	creates FILE as soon as the programs are loaded
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <invlock/mm.h>

int main(int argc, char **argv)
{
	struct invlock_mm_options options = { .size = sizeof(options), .monitor = "bpf" };
	struct invlock_mm *mm;
	struct invlock_why why;

	if (argc != 2)
		return 2;
	if (invlock_mm_open(&options, &mm, &why)) {
		fprintf(stderr, "# nothing is held: %s\n", why.text);
		return 1;
	}
	close(open(argv[1], O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	for (;;)
		pause();
}
