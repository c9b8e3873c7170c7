// SPDX-License-Identifier: MIT
#include "options.h"

#include <errno.h>
#include <string.h>

static size_t size_of(const void *struct_with_size)
{
	size_t size;

	memcpy(&size, struct_with_size, sizeof(size));
	return size;
}

int options_in(void *dst, size_t size, size_t min, const void *src)
{
	size_t given = size_of(src);
	const unsigned char *bytes = src;

	if (given < min)
		return -EINVAL;
	for (size_t i = size; i < given; i++)
		if (bytes[i])
			return -E2BIG;
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
