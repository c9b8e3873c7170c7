// SPDX-License-Identifier: MIT
#include "explain.h"

#include <stdarg.h>
#include <stdio.h>

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

void name_kinds(char *text, size_t size, uint64_t kinds)
{
	size_t len = 0;

	text[0] = '\0';
	for (unsigned int kind = 0; kind < 64 && len < size; kind++)
		if (kinds >> kind & 1)
			len += snprintf(text + len, size - len, "%s%s", len ? ", " : "",
					invlock_kind_name(kind));
}
