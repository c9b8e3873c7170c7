// SPDX-License-Identifier: MIT
/*
 * A program of libfabric that does everything at once: threads with a domain each, which they
 * close and open again; memory that all send from, and memory of their own; ranges of any place and
 * length that overlap. It knows nothing of invlock.
 *
 * usage: fabric_torture THREADS MESSAGES [late]
 *	late	some memory is replaced when it has just been registered, and libfabric does not
 *		know of the registration yet
 */
#include <infiniband/verbs.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "fabric_ends.h"
#include "torn.h"

#define LEN	262144u
#define UNIT	2048u		/* ranges begin and end at multiples of it */
#define LEAST	32768u		/* what is shorter may be copied */
#define THREADS	8

/* Held for reading while messages are on their way, and for writing while the map changes. */
static pthread_rwlock_t map = PTHREAD_RWLOCK_INITIALIZER;
static struct torn *shared;
static char *shared_mem;
static unsigned char shared_byte;	/* what each byte of it is */
static int messages;
static bool late;

static struct sender {
	pthread_t thread;
	int nr, domains, replaced;
	unsigned int seed;
	struct ends ends;
	struct torn *from, *to;
	struct torn_tally tally;
} senders[THREADS];

/* Of this thread: the memory of which a part is replaced, and whether that has happened. */
static __thread const char *replaceable;
static __thread unsigned int late_seed;
static __thread bool replaced;

static void replace(void *addr, size_t len)
{
	if (!late || len < LEAST || (const char *)addr < replaceable ||
	    (const char *)addr >= replaceable + LEN || rand_r(&late_seed) & 32)
		return;
	/* this fails where the range begins within a page */
	if (madvise(addr, len, MADV_DONTNEED))
		return;
	replaced = true;
}

/* libfabric calls these, and not those of libibverbs. */
#undef ibv_reg_mr
#define SEEN_BY_LIBFABRIC	__attribute__((visibility("default")))

SEEN_BY_LIBFABRIC
struct ibv_mr *ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t len, int access)
{
	struct ibv_mr *(*real)(struct ibv_pd *pd, void *addr, size_t len, int access) =
		dlsym(RTLD_NEXT, "ibv_reg_mr");
	struct ibv_mr *mr = real(pd, addr, len, access);

	replace(addr, len);
	return mr;
}

SEEN_BY_LIBFABRIC
struct ibv_mr *ibv_reg_mr_iova2(struct ibv_pd *pd, void *addr, size_t len, uint64_t iova,
				unsigned int access)
{
	struct ibv_mr *(*real)(struct ibv_pd *pd, void *addr, size_t len, uint64_t iova,
			       unsigned int access) = dlsym(RTLD_NEXT, "ibv_reg_mr_iova2");
	struct ibv_mr *mr = real(pd, addr, len, iova, access);

	replace(addr, len);
	return mr;
}

static void open_domain(struct sender *s)
{
	pthread_rwlock_rdlock(&map);
	ends_open(&s->ends, 7471 + 1000 * s->nr + 2 * s->domains++);
	pthread_rwlock_unlock(&map);
}

static void close_domain(struct sender *s)
{
	pthread_rwlock_rdlock(&map);
	ends_close(&s->ends);
	pthread_rwlock_unlock(&map);
}

/* One message; if its memory was replaced meanwhile, one more with other data. */
static void message(struct sender *s, char *source, char *target, bool all, enum torn_change change)
{
	unsigned int start = rand_r(&s->seed) % ((LEN - LEAST) / UNIT) * UNIT;
	unsigned int len = LEAST + rand_r(&s->seed) % ((LEN - LEAST - start) / UNIT) * UNIT;
	unsigned char byte = all ? shared_byte : 1 + rand_r(&s->seed) % 255;

	do {
		replaced = false;
		if (!all) {
			byte = 1 + byte % 255;
			memset(source + start, byte, len);
		}
		memset(target + start, 0, len);
		ends_check(ends_message(&s->ends, 0, source + start, target + start, len),
			   "message");
		s->replaced += replaced;
	} while (replaced);
	torn_judge(&s->tally, change, target + start, len, byte);
}

static void change_and_send(struct sender *s)
{
	enum torn_change change = torn_next(&s->seed);
	bool all = rand_r(&s->seed) & 64;
	char *source, *target;

	pthread_rwlock_wrlock(&map);
	source = torn_tear(all ? shared : s->from, change);
	target = torn_tear(s->to, change);
	if (all && source) {
		shared_mem = source;
		memset(shared_mem, ++shared_byte, LEN);
	}
	pthread_rwlock_unlock(&map);
	if (!source || !target)
		return;
	pthread_rwlock_rdlock(&map);
	/* MADV_DONTNEED replaces private memory only */
	replaceable = change == TORN_NOTHING && !all ? source : NULL;
	message(s, all ? shared_mem : source, target, all, change);
	pthread_rwlock_unlock(&map);
}

static void *run(void *arg)
{
	struct sender *s = arg;

	s->seed = late_seed = s->nr + 1;
	pthread_rwlock_wrlock(&map);
	s->from = torn_open(LEN);
	s->to = torn_open(LEN);
	pthread_rwlock_unlock(&map);
	open_domain(s);
	for (int i = 0; i < messages; i++) {
		if (i % 32 == 31) {
			close_domain(s);
			open_domain(s);
		}
		change_and_send(s);
	}
	close_domain(s);
	return NULL;
}

int main(int argc, char **argv)
{
	int nr = argc > 1 ? atoi(argv[1]) : 2, all_replaced = 0;
	struct torn_tally tally = {};

	if (argc < 3 || nr < 1 || nr > THREADS) {
		fprintf(stderr, "usage: fabric_torture THREADS MESSAGES [late]\n");
		return 2;
	}
	messages = atoi(argv[2]);
	late = argc > 3;
	shared = torn_open(LEN);
	shared_mem = torn_memory(shared, TORN_NOTHING);
	memset(shared_mem, shared_byte, LEN);
	for (int i = 0; i < nr; i++) {
		senders[i].nr = i;
		if (pthread_create(&senders[i].thread, NULL, run, &senders[i]))
			return 3;
	}
	for (int i = 0; i < nr; i++) {
		pthread_join(senders[i].thread, NULL);
		all_replaced += senders[i].replaced;
		for (int change = 0; change < TORN_NR; change++) {
			tally.sent[change] += senders[i].tally.sent[change];
			tally.stale[change] += senders[i].tally.stale[change];
		}
	}
	torn_print(&tally);
	/* a test that asks for it must not pass without it */
	if (late)
		printf("replaced %d times\n", all_replaced);
	return late && !all_replaced;
}
