// SPDX-License-Identifier: MIT
#include "bench.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MAX_SERIES	128
#define MAX_RATIOS	64
#define MAX_NOTES	8
#define NAME		64
#define MAX_THREADS	2
/* how long each thread runs: much longer than it takes to start the other thread */
#define SPELL_NS	BENCH_SIZE(100e6, 1e5)
#define TIMES		BENCH_SIZE(20000, 1000)

struct series {
	char what[NAME];
	char who[NAME];
	double values[BENCH_ROUNDS];
	int nr;
};

struct ratio {
	const struct series *series;
	const struct series *base;	/* NULL = report the value itself */
	double at_most;
};

int bench_rounds = BENCH_ROUNDS;
bool bench_quick;

/* One of the threads of bench_concurrent_ns(). */
struct runner {
	pthread_barrier_t *begin;
	void (*body)(void *arg, int thread, unsigned int times);
	void *arg;
	int thread;
	double ns;
};

static const char *name, *unit;
static struct series all[MAX_SERIES];
static int nr_series;
static struct ratio ratios[MAX_RATIOS];
static int nr_ratios;
static char notes[MAX_NOTES][600];
static int nr_notes;

__attribute__((noreturn)) static void die(const char *what, const char *which)
{
	fprintf(stderr, "%s: %s %s\n", name, what, which);
	exit(1);
}

void bench_begin(const char *bench_name, const char *bench_unit, int argc, char **argv)
{
	name = bench_name;
	unit = bench_unit;
	if (argc > 2 || (argc == 2 && strcmp(argv[1], "--quick")))
		die("the only option is --quick, not", argv[1]);
	bench_quick = argc == 2;
	if (bench_quick)
		bench_rounds = 1;
}

static struct series *find(const char *what, const char *who)
{
	for (int i = 0; i < nr_series; i++)
		if (!strcmp(all[i].what, what) && !strcmp(all[i].who, who))
			return &all[i];
	return NULL;
}

void bench_add(const char *what, const char *who, double value)
{
	struct series *s = find(what, who);

	if (!s) {
		if (nr_series == MAX_SERIES)
			die("MAX_SERIES is too small for", what);
		s = &all[nr_series++];
		snprintf(s->what, NAME, "%s", what);
		snprintf(s->who, NAME, "%s", who);
	}
	if (s->nr == BENCH_ROUNDS)
		die("there are more values than rounds for", what);
	s->values[s->nr++] = value;
}

static void add_ratio(const struct series *s, const struct series *base, double at_most)
{
	if (nr_ratios == MAX_RATIOS)
		die("MAX_RATIOS is too small for", s->what);
	ratios[nr_ratios++] = (struct ratio){ s, base, at_most };
}

void bench_target(const char *what, const char *who, const char *base_what, const char *base_who,
		  double at_most)
{
	const struct series *s = find(what, who), *base = find(base_what, base_who);

	/* one of the contenders may be missing on this machine */
	if (s && base)
		add_ratio(s, base, at_most);
}

void bench_limit(const char *what, const char *who, double at_most)
{
	const struct series *s = find(what, who);

	if (s)
		add_ratio(s, NULL, at_most);
}

void bench_note(const char *format, ...)
{
	va_list args;

	if (nr_notes == MAX_NOTES)
		die("MAX_NOTES is too small for", format);
	va_start(args, format);
	vsnprintf(notes[nr_notes++], sizeof(notes[0]), format, args);
	va_end(args);
}

static double print_spread(const double *values, int nr)
{
	double v[BENCH_ROUNDS];

	memcpy(v, values, nr * sizeof(*v));
	qsort(v, nr, sizeof(*v), bench_order);
	printf("\"median\": %.9g, \"q1\": %.9g, \"q3\": %.9g, \"min\": %.9g, \"max\": %.9g",
	       v[nr / 2], v[nr / 4], v[nr - 1 - nr / 4], v[0], v[nr - 1]);
	return v[nr / 2];
}

/* A note may contain the sentence of an error; its quotes must not end the string. */
static void print_string(const char *key, const char *text)
{
	printf("\"%s\": \"", key);
	for (; *text; text++)
		putchar(*text == '"' || *text == '\\' || (unsigned char)*text < ' ' ? '\'' : *text);
	putchar('"');
}

static void print_ratio(const struct ratio *r)
{
	double values[BENCH_ROUNDS], median;

	for (int i = 0; i < r->series->nr; i++)
		values[i] = r->series->values[i] / (r->base ? r->base->values[i] : 1);
	printf("  {");
	print_string("what", r->series->what);
	printf(", ");
	print_string("who", r->series->who);
	if (r->base) {
		printf(", ");
		print_string("base_what", r->base->what);
		printf(", ");
		print_string("base_who", r->base->who);
	}
	printf(", ");
	median = print_spread(values, r->series->nr);
	if (r->at_most != 0)
		printf(", \"at_most\": %.4g, \"met\": %s", r->at_most,
		       median <= r->at_most ? "true" : "false");
	printf("}");
}

/* Stay on the nr-th CPU of those that this process may use. */
static void stay_on_cpu(int nr)
{
	cpu_set_t allowed, mine;

	if (sched_getaffinity(0, sizeof(allowed), &allowed))
		return;
	CPU_ZERO(&mine);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &allowed) && !nr--)
			CPU_SET(cpu, &mine);
	/* if there are too few CPUs, the set is empty, and this call fails */
	sched_setaffinity(0, sizeof(mine), &mine);
}

static void *run_body(void *arg)
{
	struct runner *r = arg;
	double begin, ns, times = 0;

	stay_on_cpu(r->thread);
	pthread_barrier_wait(r->begin);
	begin = bench_clock(CLOCK_THREAD_CPUTIME_ID);
	do {
		r->body(r->arg, r->thread, TIMES);
		times += TIMES;
		ns = bench_clock(CLOCK_THREAD_CPUTIME_ID) - begin;
	} while (ns < SPELL_NS);
	r->ns = ns / times;
	return NULL;
}

double bench_concurrent_ns(int nr_threads,
			   void (*body)(void *arg, int thread, unsigned int times), void *arg)
{
	struct runner runners[MAX_THREADS];
	pthread_t threads[MAX_THREADS];
	pthread_barrier_t begin;
	double ns = 0;

	pthread_barrier_init(&begin, NULL, nr_threads);
	for (int i = 0; i < nr_threads; i++) {
		runners[i] = (struct runner){ &begin, body, arg, i, 0 };
		if (pthread_create(&threads[i], NULL, run_body, &runners[i]))
			die("cannot create a thread:", strerror(errno));
	}
	for (int i = 0; i < nr_threads; i++) {
		pthread_join(threads[i], NULL);
		ns += runners[i].ns / nr_threads;
	}
	pthread_barrier_destroy(&begin);
	return ns;
}

int bench_end(void)
{
	printf("{");
	print_string("bench", name);
	printf(", ");
	print_string("unit", unit);
	printf(", \"rounds\": %d,\n \"series\": [", bench_rounds);
	for (int i = 0; i < nr_series; i++) {
		printf("%s\n  {", i ? "," : "");
		print_string("what", all[i].what);
		printf(", ");
		print_string("who", all[i].who);
		printf(", ");
		print_spread(all[i].values, all[i].nr);
		printf("}");
	}
	printf("],\n \"ratios\": [");
	for (int i = 0; i < nr_ratios; i++) {
		printf("%s\n", i ? "," : "");
		if (ratios[i].base && ratios[i].base->nr != ratios[i].series->nr)
			die("a base has another number of rounds than", ratios[i].series->what);
		print_ratio(&ratios[i]);
	}
	printf("],\n \"notes\": [");
	for (int i = 0; i < nr_notes; i++) {
		printf("%s\n  {", i ? "," : "");
		print_string("note", notes[i]);
		printf("}");
	}
	printf("]}\n");
	return fflush(stdout) || ferror(stdout);
}
