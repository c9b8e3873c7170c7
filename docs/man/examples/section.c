/* SPDX-License-Identifier: MIT */
/* Translates an address by hand, and asks later whether the translation is still good. */
#include <invlock/section.h>
#include <stdio.h>
#include <sys/mman.h>

static long translate(const char *buf)
{
	return *buf;		/* stands for slow work: pin, register, walk a table */
}

int main(void)
{
	struct invlock_mm_options watch = { .size = sizeof(watch), .need = INVLOCK_BIT(DISCARD) };
	struct invlock_mm *mm;
	struct invlock_why why;
	struct invlock_read rd;
	long result = 0;
	char *buf = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int err;

	if (invlock_mm_open(&watch, &mm, &why)) {
		fprintf(stderr, "%s\n", why.text);
		return 1;
	}
	invlock_read_init(&rd, mm, buf, 4096, NULL, 0);
	while (invlock_read_attempt(&rd)) {
		result = translate(buf);
		if (invlock_read_commit(&rd))
			break;
		/* the map changed meanwhile: undo, and go round */
	}
	err = invlock_read_error(&rd);
	if (!err && invlock_read_valid(&rd))
		printf("translated to %ld, still good\n", result);
	madvise(buf, 4096, MADV_DONTNEED);
	if (!err && !invlock_read_valid(&rd))
		printf("stale now\n");
	invlock_read_end(&rd);
	invlock_mm_close(mm);
	return err != 0;
}
