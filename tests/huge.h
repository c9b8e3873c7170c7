/* SPDX-License-Identifier: MIT */
/* The size of the huge pages that MAP_HUGETLB gives: it depends on the machine and its pages. */
#ifndef INVLOCK_TESTS_HUGE_H
#define INVLOCK_TESTS_HUGE_H

#include <stdio.h>

/* Return: bytes; 2 MiB where there are none, so that a test finds out by trying */
static inline unsigned long huge_page_bytes(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	unsigned long kib = 2048;
	char line[128];

	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "Hugepagesize: %lu kB", &kib);
	if (f)
		fclose(f);
	return kib << 10;
}

#endif /* INVLOCK_TESTS_HUGE_H */
