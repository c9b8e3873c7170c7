// SPDX-License-Identifier: MIT
#include "options.h"

#include <errno.h>
#include <invlock/version.h>
#include <string.h>

#include "lib/explain.h"

#define OPTIONS_MAX	4096u	/* bytes; no version has so many: the size was not set */

static size_t size_of(const void *struct_with_size)
{
	size_t size;

	memcpy(&size, struct_with_size, sizeof(size));
	return size;
}

int options_in(const char *name, void *dst, size_t size, size_t min, const void *src,
	       struct invlock_why *why)
{
	size_t given = size_of(src);
	const unsigned char *bytes = src;

	if (given < min || given > OPTIONS_MAX)
		return explain(why, -EINVAL, "the options' size is %zu: set it to sizeof(struct "
			       "%s), which is %zu here", given, name, size);
	for (size_t i = size; i < given; i++)
		if (bytes[i])
			return explain(why, -E2BIG, "the program was compiled for a later version "
				       "than " INVLOCK_VERSION ", and sets a field that this one "
				       "does not know, at byte %zu of struct %s: leave it 0, or "
				       "install the later version", i, name);
	memset(dst, 0, size);
	memcpy(dst, src, given < size ? given : size);
	return 0;
}

int options_out(void *dst, size_t min, const void *src, size_t size)
{
	size_t given = size_of(dst);

	if (given < min)
		return -EINVAL;
	/* all but the size, which stays what the caller said */
	memcpy((char *)dst + sizeof(size_t), (const char *)src + sizeof(size_t),
	       (given < size ? given : size) - sizeof(size_t));
	return 0;
}
