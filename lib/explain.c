// SPDX-License-Identifier: MIT
#include "explain.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int explain(struct invlock_why *why, int err, const char *format, ...)
{
	va_list args;

	if (why) {
		va_start(args, format);
		vsnprintf(why->text, sizeof(why->text), format, args);
		va_end(args);
	}
	return err;
}

void explain_more(struct invlock_why *why, const char *format, ...)
{
	size_t len;
	va_list args;

	if (why) {
		len = strlen(why->text);
		va_start(args, format);
		vsnprintf(why->text + len, sizeof(why->text) - len, format, args);
		va_end(args);
	}
}

void name_kinds(char text[KIND_NAMES], uint64_t kinds)
{
	uint64_t unknown = kinds & -(UINT64_C(1) << INVLOCK_NR_KINDS);
	size_t len = 0;

	text[0] = '\0';
	for (unsigned int kind = 0; kind < INVLOCK_NR_KINDS; kind++)
		if (kinds >> kind & 1)
			len += snprintf(text + len, KIND_NAMES - len, "%s%s", len ? ", " : "",
					invlock_kind_name(kind));
	if (unknown)
		snprintf(text + len, KIND_NAMES - len, "%s%d that this version does not know",
			 len ? ", and " : "", __builtin_popcountll(unknown));
}
