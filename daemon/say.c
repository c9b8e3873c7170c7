// SPDX-License-Identifier: MIT
#include "say.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

void say(const char *format, ...)
{
	static unsigned int said, left_out;
	static time_t second;
	struct timespec now;
	va_list args;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (now.tv_sec != second) {
		if (left_out)
			fprintf(stderr, "invlockd: %u messages were left out\n", left_out);
		second = now.tv_sec;
		said = left_out = 0;
	}
	if (said++ >= SAY_PER_SECOND) {
		left_out++;
		return;
	}
	fprintf(stderr, "invlockd: ");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\n");
}
