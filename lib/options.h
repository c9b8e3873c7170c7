/* SPDX-License-Identifier: MIT */
/* Structs that grow: options come in and information goes out with a size first. */
#ifndef INVLOCK_LIB_OPTIONS_H
#define INVLOCK_LIB_OPTIONS_H

#include <stddef.h>

struct invlock_why;

/**
 * options_in() - copy a caller's options, older or newer than ours
 * @name: of the struct, for sentences
 * @dst: zeroed where the caller's are shorter
 * @size: of @dst
 * @min: the size of the first version
 * @src: begins with a size_t that says how long it is
 * @why: NULL, or filled with what is wrong
 *
 * Return: 0; -EINVAL when @src is shorter than @min, or its size was not set; -E2BIG when it has
 * something set that we do not know.
 */
int options_in(const char *name, void *dst, size_t size, size_t min, const void *src,
	       struct invlock_why *why);

/* the reverse: @dst begins with its size; -EINVAL when that is below @min */
int options_out(void *dst, size_t min, const void *src, size_t size);

#endif /* INVLOCK_LIB_OPTIONS_H */
