/* SPDX-License-Identifier: MIT */
/*
 * The version: that of the headers when a program is compiled, that of the library when it runs.
 *
 * The two can differ, because a program may run with a newer library than it was compiled for. A
 * library of the same soname (libinvlock.so.0) that is not older has everything that the headers
 * promise.
 *
 *	#if INVLOCK_VERSION_NUMBER >= INVLOCK_MAKE_VERSION(0, 2, 0)
 *		what came with 0.2, when compiling
 *	#endif
 *	if (invlock_version_number() >= INVLOCK_MAKE_VERSION(0, 2, 0))
 *		what came with 0.2, when running
 */
#ifndef INVLOCK_VERSION_H
#define INVLOCK_VERSION_H

#ifdef __cplusplus
extern "C" {
#endif

/* A version as one number, to be compared, also by the preprocessor. Each part is below 256. */
#define INVLOCK_MAKE_VERSION(major, minor, patch)	((major) << 16 | (minor) << 8 | (patch))

/* of these headers */
#define INVLOCK_VERSION_MAJOR	0
#define INVLOCK_VERSION_MINOR	1
#define INVLOCK_VERSION_PATCH	0
#define INVLOCK_VERSION		"0.1.0"
#define INVLOCK_VERSION_NUMBER	INVLOCK_MAKE_VERSION(INVLOCK_VERSION_MAJOR, \
						     INVLOCK_VERSION_MINOR, INVLOCK_VERSION_PATCH)

/**
 * invlock_version() - the version of the library that runs, as text
 *
 * Context: any. Return: a constant string, "0.1.0". Since: 0.1
 */
const char *invlock_version(void);

/**
 * invlock_version_number() - the version of the library that runs, as a number
 *
 * Context: any. Return: as INVLOCK_MAKE_VERSION() makes it. Since: 0.1
 */
unsigned int invlock_version_number(void);

/*
 * Argument @nr of a function is the address of memory that the function does not read. Without this
 * gcc warns that memory from malloc(), which a device is to fill, may be used uninitialized.
 */
#define INVLOCK_ONLY_ADDRESS(nr)
#ifdef __has_attribute
#if __has_attribute(access)
#undef INVLOCK_ONLY_ADDRESS
#define INVLOCK_ONLY_ADDRESS(nr)	__attribute__((access(none, nr)))
#endif
#endif

#ifdef __cplusplus
}
#endif

#endif /* INVLOCK_VERSION_H */
