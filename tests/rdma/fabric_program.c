// SPDX-License-Identifier: MIT
/*
 * An ordinary program of libfabric: two endpoints of one process, and messages from memory and into
 * memory that changes in between. It knows nothing of invlock.
 *
 * usage: fabric_program MESSAGES DOMAINS
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fabric_ends.h"
#include "torn.h"

#define LEN	65536
#define DOMAINS	2

int main(int argc, char **argv)
{
	int nr = argc > 1 ? atoi(argv[1]) : 100, domains = argc > 2 ? atoi(argv[2]) : 1;
	struct torn *from = torn_open(LEN), *to = torn_open(LEN);
	struct torn_tally tally = {};
	struct ends all[DOMAINS];
	unsigned int seed = 1;

	if (domains > DOMAINS)
		domains = DOMAINS;
	for (int i = 0; i < domains; i++)
		ends_open(&all[i], 7471 + 2 * i);
	for (int i = 0; i < nr; i++) {
		enum torn_change change = torn_next(&seed);
		char *source = torn_tear(from, change), *target = torn_tear(to, change);

		if (!source || !target)
			continue;
		memset(source, 1 + i % 255, LEN);
		memset(target, 0, LEN);
		ends_check(ends_message(&all[i % domains], 0, source, target, LEN), "message");
		torn_judge(&tally, change, target, LEN, 1 + i % 255);
		if (!i) {
			puts("the first message is there");
			fflush(stdout);
		}
	}
	torn_print(&tally);
	for (int i = 0; i < domains; i++)
		ends_close(&all[i]);
	return 0;
}
