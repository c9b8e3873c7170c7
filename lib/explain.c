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

/* What stands before an item of a list, of which @left are still to be written, itself included. */
static const char *before_item(size_t len, unsigned int left)
{
	return !len ? "" : left > 1 ? ", " : " and ";
}

void name_kinds(char text[KIND_NAMES], uint64_t kinds)
{
	uint64_t known = (UINT64_C(1) << INVLOCK_NR_KINDS) - 1, unknown = kinds & ~known;
	unsigned int left = __builtin_popcountll(kinds & known) + !!unknown;
	size_t len = 0;

	text[0] = '\0';
	for (unsigned int kind = 0; kind < INVLOCK_NR_KINDS; kind++)
		if (kinds >> kind & 1)
			len += snprintf(text + len, KIND_NAMES - len, "%s%s",
					before_item(len, left--), invlock_kind_name(kind));
	if (unknown)
		snprintf(text + len, KIND_NAMES - len, "%s%d that this version does not know",
			 before_item(len, left), __builtin_popcountll(unknown));
}
