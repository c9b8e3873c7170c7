/* SPDX-License-Identifier: MIT */
/*
 * A read section by hand, around a translation that another thread keeps spoiling.
 *
 * A heap moves its block from place to place, as a GPU's does. A translation says where the
 * block is now. The heap reports each move ("manual" monitor), so whoever holds a translation
 * can ask whether it is still good, and never believes what it found through a stale one.
 */
#include <invlock/manual.h>
#include <invlock/section.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>

#define MOVES	200000
#define CONTENT	42		/* where the block is; elsewhere -1 */

static struct invlock_mm *mm;
static int heap[2] = { CONTENT, -1 };
static int block;		/* the place it is at */
static bool done;

static void *keep_moving(void *unused)
{
	for (int i = 0; i < MOVES; i++) {
		invlock_manual_start(mm, heap, sizeof(heap));
		__atomic_store_n(&heap[block], -1, __ATOMIC_RELAXED);
		__atomic_store_n(&heap[!block], CONTENT, __ATOMIC_RELAXED);
		__atomic_store_n(&block, !block, __ATOMIC_RELAXED);
		invlock_manual_end(mm, heap, sizeof(heap));
	}
	__atomic_store_n(&done, true, __ATOMIC_RELEASE);
	return unused;
}

/* the loads are acquire so that they come before the check that follows them */
static int load(const int *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

int main(void)
{
	struct invlock_mm_options options = { .size = sizeof(options), .monitor = "manual" };
	int uses = 0, translations = 0, wrong = 0;
	struct invlock_why why;
	struct invlock_read rd;
	pthread_t mover;

	if (invlock_mm_open(&options, &mm, &why)) {
		fprintf(stderr, "section: %s\n", why.text);
		return 1;
	}
	if (pthread_create(&mover, NULL, keep_moving, NULL))
		return 1;
	while (!__atomic_load_n(&done, __ATOMIC_ACQUIRE)) {
		int place = 0, content;

		invlock_read_init(&rd, mm, heap, sizeof(heap), NULL, 0);
		while (invlock_read_attempt(&rd)) {
			place = load(&block);
			if (invlock_read_commit(&rd))
				break;
		}
		/* an error is not for ever: too much was going on */
		translations += !invlock_read_error(&rd);
		while (content = load(&heap[place]), invlock_read_valid(&rd)) {
			wrong += content != CONTENT;
			if (++uses % 1000 == 0)
				break;
		}
		invlock_read_end(&rd);
	}
	pthread_join(mover, NULL);
	invlock_mm_close(mm);
	printf("%d uses of %d translations, %d wrong\n", uses, translations, wrong);
	return wrong || !uses;
}
