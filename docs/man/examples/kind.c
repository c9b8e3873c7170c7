/* SPDX-License-Identifier: MIT */
/* Prints the kinds of change that the best monitor of this machine sees, and what it refuses. */
#include <invlock/mm.h>
#include <stdio.h>

/* lies in a private mapping of the program's file */
static int variable = 1;

int main(void)
{
	struct invlock_mm_options options = { .size = sizeof(options), .need = INVLOCK_BIT(UNMAP) };
	struct invlock_mm_info info = { .size = sizeof(info) };
	struct invlock_mm *mm;
	struct invlock_why why;

	if (invlock_mm_open(&options, &mm, &why)) {
		fprintf(stderr, "%s\n", why.text);
		return 1;
	}
	invlock_mm_info(mm, &info);
	printf("invlock %s, monitor %s\n", invlock_version(), info.monitor);
	for (unsigned int kind = 0; kind < INVLOCK_NR_KINDS; kind++)
		if (info.seen >> kind & 1)
			printf("%s%s\n", invlock_kind_name(kind),
			       info.exact >> kind & 1 ? "" : " (not exact)");
	if (invlock_mm_explain(mm, &variable, sizeof(variable), &why))
		printf("not cached: %s\n", why.text);
	invlock_mm_close(mm);
	return 0;
}
