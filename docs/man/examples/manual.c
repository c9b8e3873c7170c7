/* SPDX-License-Identifier: MIT */
/* Reports the changes of a heap of its own: no privilege is needed, and nothing is watched. */
#include <invlock/manual.h>
#include <invlock/section.h>
#include <stdio.h>

static char heap[65536];

int main(void)
{
	struct invlock_mm_options options = { .size = sizeof(options), .monitor = "manual" };
	struct invlock_mm *mm;
	struct invlock_why why;
	struct invlock_read rd;

	if (invlock_mm_open(&options, &mm, &why)) {
		fprintf(stderr, "%s\n", why.text);
		return 1;
	}
	invlock_read_init(&rd, mm, heap, sizeof(heap), NULL, 0);
	if (invlock_read_attempt(&rd) && invlock_read_commit(&rd))
		printf("%s\n", invlock_read_valid(&rd) ? "good" : "stale");
	invlock_manual_start(mm, heap, sizeof(heap));
	heap[0]++;		/* stands for whatever moves this memory */
	invlock_manual_end(mm, heap, sizeof(heap));
	printf("%s\n", invlock_read_valid(&rd) ? "good" : "stale");
	invlock_read_end(&rd);
	invlock_mm_close(mm);
	return 0;
}
