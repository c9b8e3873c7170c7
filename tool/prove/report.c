// SPDX-License-Identifier: MIT
/* Prints progress during the run, and a table or one JSON object at the end. */
#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/explain.h"
#include "prove.h"

#define SECOND		1000000000ULL
#define CLEAR_LINE	"\r\033[K"
#define PLAIN_EVERY_S	5	/* how often a line of progress goes to a pipe or a file */

const char *const column_names[NR_COLUMNS] = { "plain", "invlock", "naive" };

u64 now_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (u64)t.tv_sec * SECOND + (u64)t.tv_nsec;
}

struct counts counts_of(const struct prove *p, enum column column)
{
	struct counts sum = {};
	u64 *to = (u64 *)&sum;

	for (unsigned int i = 0; i < p->nr_io; i++) {
		const u64 *from = (const u64 *)&p->workers[i].counts[column];

		for (unsigned int n = 0; n < sizeof(sum) / sizeof(u64); n++)
			to[n] += port_load(&from[n]);
	}
	return sum;
}

/* Return: only the fields that the report uses; hits and misses are counted in io.c. */
struct invlock_cache_stats cache_stats_of(const struct prove *p, enum column column)
{
	struct invlock_cache_stats sum = {};

	for (unsigned int i = 0; i < p->nr_engines; i++) {
		struct invlock_cache *cache = p->device->cache(&p->engines[i], column);
		struct invlock_cache_stats one = { .size = sizeof(one) };

		if (!cache || invlock_cache_stats(cache, &one))
			continue;
		sum.collided += one.collided;
		sum.refused_busy += one.refused_busy;
		sum.stale += one.stale;
		sum.evicted += one.evicted;
		sum.reg_calls += one.reg_calls;
	}
	return sum;
}

unsigned int hit_percent(const struct counts *c)
{
	return c->eligible ? (unsigned int)(c->hits * 100 / c->eligible) : 0;
}

void print_progress(const struct prove *p, bool last)
{
	static u64 next_line = PLAIN_EVERY_S;
	u64 elapsed = (now_ns(CLOCK_MONOTONIC) - p->started_ns) / SECOND;
	bool terminal = isatty(STDOUT_FILENO);
	struct counts plain, invlock, naive;

	if (p->options.json || (!terminal && elapsed < next_line))
		return;
	if (last) {
		/* clear the line of progress for the table */
		printf("%s", terminal ? CLEAR_LINE : "");
		return;
	}
	next_line = elapsed + PLAIN_EVERY_S;
	plain = counts_of(p, COLUMN_PLAIN);
	invlock = counts_of(p, COLUMN_INVLOCK);
	naive = counts_of(p, COLUMN_NAIVE);
	printf("%s%3llu s of %u: %llu I/Os; stale uses: invlock %llu, naive %llu%s",
	       terminal ? CLEAR_LINE : "", elapsed, p->options.seconds,
	       plain.ios + invlock.ios + naive.ios, invlock.stale, naive.stale,
	       terminal ? "" : "\n");
	fflush(stdout);
}

/* One row of the table. An empty cell is printed as "-". */
struct row {
	const char *name;
	char cells[NR_COLUMNS][32];
};

__attribute__((format(printf, 3, 4)))
static void cell(struct row *row, enum column column, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(row->cells[column], sizeof(row->cells[column]), format, args);
	va_end(args);
}

static void print_row(const struct row *row)
{
	printf("%-24s", row->name);
	for (unsigned int i = 0; i < NR_COLUMNS; i++)
		printf("%14s", row->cells[i][0] ? row->cells[i] : "-");
	printf("\n");
}

static double ratio(double a, double b)
{
	return b ? a / b : 0;
}

static u64 plain_requests(const struct prove *p, enum column column, u64 ways[NR_WAYS])
{
	u64 nr = 0;

	memset(ways, 0, NR_WAYS * sizeof(ways[0]));
	for (unsigned int i = 0; i < p->nr_engines; i++)
		p->device->ways(&p->engines[i], column, ways);
	for (unsigned int i = 1; i < NR_WAYS; i++)
		nr += ways[i];
	return nr;
}

static void print_table(const struct prove *p)
{
	struct row head = { "", { "plain", "invlock", "naive" } };
	struct row ios = { "I/Os" }, mb = { "MB/s during I/O" }, cpu = { "CPU us per I/O" };
	struct row hits = { "hits" }, rate = { "hit rate" }, misses = { "misses" };
	struct row plain = { "I/Os not registered" };
	struct row expired = { "stale regions found" }, collided = { "collisions" };
	struct row retries = { "retries" }, stale = { "stale uses" }, bytes = { "stale bytes" };
	const struct row *const rows[] = { &head, &ios, &mb, &cpu, &hits, &misses, &rate, &plain,
					   &expired, &collided, &retries, &stale, &bytes };

	for (unsigned int i = 0; i < NR_COLUMNS; i++) {
		struct counts c = counts_of(p, i);
		struct invlock_cache_stats s = cache_stats_of(p, i);
		u64 ways[NR_WAYS];

		cell(&ios, i, "%llu", c.ios);
		cell(&mb, i, "%.0f", ratio(c.bytes * 1000.0, c.wall_ns));
		cell(&cpu, i, "%.1f", ratio(c.cpu_ns / 1000.0, c.ios));
		cell(&stale, i, "%llu", c.stale);
		cell(&bytes, i, "%llu", c.stale_bytes);
		if (i == COLUMN_PLAIN)
			continue;
		cell(&hits, i, "%llu", c.hits);
		cell(&misses, i, "%llu", c.misses);
		cell(&rate, i, "%u%%", hit_percent(&c));
		cell(&plain, i, "%llu", plain_requests(p, i, ways));
		cell(&expired, i, "%llu", (u64)s.stale);
		cell(&collided, i, "%llu", (u64)s.collided);
		cell(&retries, i, "%llu", (u64)s.collided - s.refused_busy);
	}
	for (unsigned int i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		print_row(rows[i]);
}

static u64 changes_of(const struct prove *p, unsigned int nr)
{
	u64 sum = 0;

	for (unsigned int i = 0; i < p->nr_io + p->nr_changing; i++)
		sum += port_load(&p->workers[i].changes[nr]);
	return sum;
}

static u64 handovers_of(const struct prove *p)
{
	u64 sum = 0;

	for (unsigned int i = 0; i < p->nr_io + p->nr_changing; i++)
		sum += port_load(&p->workers[i].handovers);
	return sum;
}

static u64 lookups_of(const struct prove *p)
{
	u64 sum = 0;

	for (unsigned int i = 0; i < p->nr_io; i++)
		sum += port_load(&p->workers[i].lookups);
	return sum;
}

static void print_changes(const struct prove *p)
{
	struct counts invlock = counts_of(p, COLUMN_INVLOCK), naive = counts_of(p, COLUMN_NAIVE);

	printf("\nStale uses by the latest change of the memory\n%-46s%10s%10s%10s\n", "",
	       "changes", "invlock", "naive");
	for (unsigned int i = 0; i < nr_prove_changes; i++)
		if (change_is_attempted(p, i))
			printf("%-46s%10llu%10llu%10llu\n", prove_changes[i].name,
			       changes_of(p, i), invlock.stale_by_change[i],
			       naive.stale_by_change[i]);
	for (unsigned int i = 0; i < nr_prove_changes; i++)
		if (!change_is_attempted(p, i))
			printf("left out: %s: %s\n", prove_changes[i].name, p->not_attempted[i]);
	printf("%llu areas were mapped anew while their munmap() was still running, %llu lookups "
	       "raced with a change\n", handovers_of(p), lookups_of(p));
}

/* Return: the kinds attempted that the monitor neither refuses nor sees before the change. */
static u64 inexact_kinds(const struct prove *p)
{
	return p->need & ~(p->info.exact | p->info.refused);
}

static void print_text(const struct prove *p, const char *sentence)
{
	u64 inexact = inexact_kinds(p);
	char names[KIND_NAMES];

	printf("device %s, monitor %s, %u threads do I/O, %u threads change memory, %.1f s\n",
	       p->device->name, p->info.monitor, p->nr_io, p->nr_changing,
	       (double)(p->ended_ns - p->started_ns) / SECOND);
	printf("file: %s, %zu KiB, blocks of %zu bytes\n\n",
	       p->data.path ? p->data.path : "made for this run", p->data.bytes >> 10,
	       p->data.block);
	puts("plain: I/O without a cache; invlock: through an invlock cache; naive: through a "
	     "cache that never\nlearns of changes. A stale use is an I/O that delivered wrong "
	     "data.\n");
	print_table(p);
	print_changes(p);
	for (unsigned int i = 0; i < p->nr_notes; i++)
		printf("note: %s\n", p->notes[i]);
	if (inexact) {
		name_kinds(names, inexact);
		printf("note: the monitor %s is not exact for these kinds: %s. It learns of such a "
		       "change only after it was made, so a use in between can be stale\n",
		       p->info.monitor, names);
	}
	printf("%s\n", sentence);
	printf("stale: invlock %llu, naive %llu\n",
	       counts_of(p, COLUMN_INVLOCK).stale, counts_of(p, COLUMN_NAIVE).stale);
}

static void add_int(struct json_object *to, const char *key, u64 value)
{
	json_object_object_add(to, key, json_object_new_int64((int64_t)value));
}

static void add_text(struct json_object *to, const char *key, const char *value)
{
	json_object_object_add(to, key, value ? json_object_new_string(value) : NULL);
}

static struct json_object *json_kinds(u64 kinds)
{
	struct json_object *names = json_object_new_array();

	for (unsigned int kind = 0; kind < INVLOCK_NR_KINDS; kind++)
		if (kinds >> kind & 1)
			json_object_array_add(names,
					      json_object_new_string(invlock_kind_name(kind)));
	return names;
}

static struct json_object *json_column(const struct prove *p, enum column column)
{
	struct json_object *to = json_object_new_object();
	struct counts c = counts_of(p, column);
	struct invlock_cache_stats s = cache_stats_of(p, column);
	struct json_object *plain;
	u64 ways[NR_WAYS];

	add_int(to, "ios", c.ios);
	add_int(to, "bytes", c.bytes);
	json_object_object_add(to, "mb_per_s",
			       json_object_new_double(ratio(c.bytes * 1000.0, c.wall_ns)));
	json_object_object_add(to, "cpu_us_per_io",
			       json_object_new_double(ratio(c.cpu_ns / 1000.0, c.ios)));
	add_int(to, "stale", c.stale);
	add_int(to, "stale_bytes", c.stale_bytes);
	if (column == COLUMN_PLAIN)
		return to;
	add_int(to, "eligible", c.eligible);
	add_int(to, "hits", c.hits);
	add_int(to, "misses", c.misses);
	add_int(to, "hit_percent", hit_percent(&c));
	add_int(to, "expired", s.stale);
	add_int(to, "collisions", s.collided);
	add_int(to, "retries", s.collided - s.refused_busy);
	add_int(to, "registrations", s.reg_calls);
	plain = json_object_new_object();
	plain_requests(p, column, ways);
	for (unsigned int i = 1; p->device->way_name(i); i++)
		if (ways[i])
			add_int(plain, p->device->way_name(i), ways[i]);
	json_object_object_add(to, "plain_requests", plain);
	return to;
}

/* What the monitor recorded in the whole process, which includes changes outside of the areas. */
static struct json_object *json_feed(const struct prove *p)
{
	struct json_object *to = json_object_new_object();
	const struct invlock_feed *feed = p->info.feed;

	add_int(to, "sequence", port_load(&feed->sequence));
	add_int(to, "lost", port_load(&feed->lost));
	add_int(to, "dropped", port_load(&feed->dropped));
	add_int(to, "missed", port_load(&feed->missed));
	return to;
}

static struct json_object *json_changes(const struct prove *p)
{
	struct counts invlock = counts_of(p, COLUMN_INVLOCK), naive = counts_of(p, COLUMN_NAIVE);
	struct json_object *list = json_object_new_array();

	for (unsigned int i = 0; i < nr_prove_changes; i++) {
		struct json_object *one = json_object_new_object();

		add_text(one, "name", prove_changes[i].name);
		json_object_object_add(one, "attempted",
				       json_object_new_boolean(change_is_attempted(p, i)));
		add_text(one, "reason", change_is_attempted(p, i) ? NULL : p->not_attempted[i]);
		add_int(one, "changes", changes_of(p, i));
		add_int(one, "stale_invlock", invlock.stale_by_change[i]);
		add_int(one, "stale_naive", naive.stale_by_change[i]);
		json_object_array_add(list, one);
	}
	return list;
}

static struct json_object *json_memories(const struct prove *p)
{
	struct counts invlock = counts_of(p, COLUMN_INVLOCK), naive = counts_of(p, COLUMN_NAIVE);
	struct json_object *list = json_object_new_array();

	for (unsigned int i = 0; i < NR_MEMORIES; i++) {
		struct json_object *one = json_object_new_object();
		unsigned int nr = 0;

		for (unsigned int a = 0; a < p->nr_areas; a++)
			nr += p->areas[a].memory == i;
		add_text(one, "kind", memory_names[i]);
		add_int(one, "areas", nr);
		add_int(one, "stale_invlock", invlock.stale_by_memory[i]);
		add_int(one, "stale_naive", naive.stale_by_memory[i]);
		json_object_array_add(list, one);
	}
	return list;
}

static void print_json(const struct prove *p, int verdict, const char *sentence)
{
	struct json_object *to = json_object_new_object();
	struct json_object *columns = json_object_new_object();
	struct json_object *notes = json_object_new_array();

	add_text(to, "version", invlock_version());
	json_object_object_add(to, "proved", json_object_new_boolean(verdict == PROVE_PROVED));
	json_object_object_add(to, "cut_short", json_object_new_boolean(verdict == PROVE_CUT));
	add_text(to, "verdict", sentence);
	add_text(to, "device", p->device->name);
	add_text(to, "monitor", p->info.monitor);
	json_object_object_add(to, "attempted", json_kinds(p->need));
	json_object_object_add(to, "inexact", json_kinds(inexact_kinds(p)));
	add_text(to, "file", p->data.path);
	add_int(to, "file_bytes", p->data.bytes);
	json_object_object_add(to, "seconds", json_object_new_double(
			       (double)(p->ended_ns - p->started_ns) / SECOND));
	add_int(to, "io_threads", p->nr_io);
	add_int(to, "change_threads", p->nr_changing);
	for (unsigned int i = 0; i < NR_COLUMNS; i++)
		json_object_object_add(columns, column_names[i], json_column(p, i));
	json_object_object_add(to, "columns", columns);
	json_object_object_add(to, "changes", json_changes(p));
	json_object_object_add(to, "memory", json_memories(p));
	json_object_object_add(to, "feed", json_feed(p));
	add_int(to, "handovers", handovers_of(p));
	add_int(to, "racing_lookups", lookups_of(p));
	for (unsigned int i = 0; i < p->nr_notes; i++)
		json_object_array_add(notes, json_object_new_string(p->notes[i]));
	json_object_object_add(to, "notes", notes);
	printf("%s\n", json_object_to_json_string_ext(to, JSON_C_TO_STRING_PRETTY));
	json_object_put(to);
}

void print_report(const struct prove *p, int verdict, const char *sentence)
{
	if (p->options.json)
		print_json(p, verdict, sentence);
	else
		print_text(p, sentence);
	fflush(stdout);
}
