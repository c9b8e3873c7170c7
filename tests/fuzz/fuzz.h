/* SPDX-License-Identifier: MIT */
/*
 * A fuzz target is one file, fuzz_NAME.c. For `make fuzz` it is linked to libFuzzer. For `make
 * test` it is linked to replay.c, which runs the kept corpus and a number of mutations of it.
 */
#ifndef INVLOCK_TESTS_FUZZ_FUZZ_H
#define INVLOCK_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/*
 * Faults that the target can plant in itself, ending with NULL. The library's are in planted.txt.
 */
extern const char *const fuzz_plants[];

/*
 * Plants a fault for all inputs from now on. libFuzzer's build reads its name from
 * INVLOCK_FUZZ_PLANT.
 */
void fuzz_plant(const char *name);

/* Checks a property that must hold. An input that breaks it is a find. */
#define FUZZ_CHECK(cond, ...)						\
do {									\
	if (!(cond)) {							\
		fprintf(stderr, "%s:%d: not so: %s: ", __FILE__, __LINE__, #cond); \
		fprintf(stderr, __VA_ARGS__);				\
		fputc('\n', stderr);					\
		abort();						\
	}								\
} while (0)

/* The input, read byte by byte; behind its end are zeros. */
struct bytes {
	const uint8_t *at, *end;
};

static inline uint8_t byte(struct bytes *b)
{
	return b->at < b->end ? *b->at++ : 0;
}

static inline uint64_t word(struct bytes *b)
{
	uint64_t value = 0;

	for (int i = 0; i < 8; i++)
		value |= (uint64_t)byte(b) << 8 * i;
	return value;
}

#endif /* INVLOCK_TESTS_FUZZ_FUZZ_H */
