/* SPDX-License-Identifier: MIT */
/*
 * What every adapter needs, so that its errors and structs work like those of the library. An
 * adapter includes what is installed, this header and its own, and nothing of lib/ or core/.
 */
#ifndef INVLOCK_ADAPTERS_COMMON_H
#define INVLOCK_ADAPTERS_COMMON_H

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <invlock/mm.h>
#include <invlock/version.h>

#define OPTIONS_MAX	4096u	/* bytes; no version has so many: the size was not set */

/* format a sentence into why->text, and return err: `return explain(why, -EPERM, "...")` */
__attribute__((format(printf, 3, 4)))
static inline int explain(struct invlock_why *why, int err, const char *format, ...)
{
	va_list args;

	if (why) {
		va_start(args, format);
		vsnprintf(why->text, sizeof(why->text), format, args);
		va_end(args);
	}
	return err;
}

/*
 * Copy a caller's options into @dst, a struct of that name. Both begin with a size_t that is their
 * size; the caller's may be longer than @dst, when it is of a later version and has nothing set
 * behind ours. 0, or -errno and a sentence
 */
static inline int options_in(const char *name, void *dst, size_t size, const void *src,
			     struct invlock_why *why)
{
	const unsigned char *bytes = src;
	size_t given;

	memcpy(&given, src, sizeof(given));
	if (given < size || given > OPTIONS_MAX)
		return explain(why, -EINVAL, "the options' size is %zu: set it to sizeof(struct "
			       "%s), which is %zu here", given, name, size);
	for (size_t i = size; i < given; i++)
		if (bytes[i])
			return explain(why, -E2BIG, "the program was compiled for a later version "
				       "than " INVLOCK_VERSION ", and sets a field that this one "
				       "does not know, at byte %zu of struct %s: leave it 0, or "
				       "install the later version", i, name);
	memcpy(dst, src, size);
	return 0;
}

/* Copy results into a caller's struct, whose size it has set; 0 or -EINVAL */
static inline int results_out(void *dst, const void *src, size_t size)
{
	size_t given;

	memcpy(&given, dst, sizeof(given));
	if (given < size)
		return -EINVAL;
	/* all but the size, which stays what the caller said */
	memcpy((char *)dst + sizeof(size_t), (const char *)src + sizeof(size_t),
	       size - sizeof(size_t));
	return 0;
}

#endif /* INVLOCK_ADAPTERS_COMMON_H */
