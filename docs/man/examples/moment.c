/* SPDX-License-Identifier: MIT */
/* Trusts what a library has translated, although the library tells of it only afterwards. */
#include <invlock/section.h>
#include <stdio.h>
#include <sys/mman.h>

/* stands for a library that chooses the memory itself */
static char *library_translates(char *buf)
{
	buf[4096] = 1;
	return buf + 4096;
}

int main(void)
{
	struct invlock_mm_options watch = { .size = sizeof(watch), .need = INVLOCK_BIT(DISCARD) };
	struct invlock_moment before;
	struct invlock_mm *mm;
	struct invlock_why why;
	struct invlock_read rd;
	char *buf = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *where;

	if (invlock_mm_open(&watch, &mm, &why)) {
		fprintf(stderr, "%s\n", why.text);
		return 1;
	}
	invlock_moment_take(&before, mm);
	where = library_translates(buf);
	invlock_read_init(&rd, mm, where, 4096, NULL, 0);
	if (invlock_read_commit_since(&rd, &before))
		printf("the library's translation is good\n");
	else
		printf("something may have changed: let the library translate again\n");
	invlock_read_end(&rd);
	invlock_mm_close(mm);
	return 0;
}
