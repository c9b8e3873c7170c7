// SPDX-License-Identifier: MIT
/*
 * The I/O threads. They find a stale use by looking at the data.
 *
 * Before a read, every byte of the buffer is made to differ from the byte of the file. If a byte
 * still differs afterwards, the device did not write it, but wrote to another page.
 *
 * Before a write, the buffer is filled with data that was never used before. After the write, the
 * scratch file is read back into memory that never changes. If a byte differs, the device read it
 * from another page.
 */
#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "prove.h"

static u64 mix(u64 x)
{
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93ULL;
	return x ^ x >> 32;
}

static u64 word_of(u64 key, size_t place)
{
	return mix(key + place * 0x9e3779b97f4a7c15ULL);
}

/* Lengths and addresses are multiples of 8, because direct I/O needs an even larger alignment. */
static void fill(u8 *buf, size_t len, u64 key)
{
	for (size_t i = 0; i < len; i += 8) {
		u64 word = word_of(key, i);

		memcpy(buf + i, &word, 8);
	}
}

static bool is_filled(const u8 *buf, size_t len, u64 key)
{
	u64 differences = 0;

	for (size_t i = 0; i < len; i += 8) {
		u64 word;

		memcpy(&word, buf + i, 8);
		differences |= word ^ word_of(key, i);
	}
	return !differences;
}

static void poison(u8 *buf, const u8 *expected, size_t len, u64 key)
{
	u64 flip = (key & 0x7f7f7f7f7f7f7f7fULL) | 0x8080808080808080ULL;

	for (size_t i = 0; i < len; i += 8) {
		u64 word;

		memcpy(&word, expected + i, 8);
		word ^= flip;
		memcpy(buf + i, &word, 8);
	}
}

static void plan(struct worker *w, const struct area *a, struct transfer t[NR_BUFFERS])
{
	const struct data *data = &w->prove->data;
	size_t blocks = (data->bytes - a->len) / data->block + 1;

	for (unsigned int i = 0; i < NR_BUFFERS; i++) {
		u64 random = next_random(&w->random);

		t[i] = (struct transfer){
			.write = random >> 63,
			.buf = a->buffers[i].addr,
			.len = a->len,
			.key = mix(random),
		};
		t[i].offset = t[i].write ? w->engine->scratch_offset + i * a->len :
			      random % blocks * data->block;
	}
}

static void fill_all(const struct worker *w, const struct transfer t[NR_BUFFERS])
{
	const u8 *reference = w->prove->data.reference;

	for (unsigned int i = 0; i < NR_BUFFERS; i++) {
		if (t[i].write)
			fill(t[i].buf, t[i].len, t[i].key);
		else
			poison(t[i].buf, reference + t[i].offset, t[i].len, t[i].key);
	}
}

static u64 hits_and_misses(const struct engine *e, enum column column, u64 *ret_misses)
{
	struct invlock_cache *cache = e->prove->device->cache(e, column);
	struct invlock_cache_stats stats = { .size = sizeof(stats) };

	if (!cache || invlock_cache_stats(cache, &stats))
		memset(&stats, 0, sizeof(stats));
	*ret_misses = stats.misses;
	return stats.hits;
}

/* Read back all that was written. One read suffices; nobody looks at the bytes in between. */
static bool read_back(struct worker *w, const struct transfer *t)
{
	size_t bytes = NR_BUFFERS * t->len;
	bool written = false;
	ssize_t n;

	for (unsigned int i = 0; i < NR_BUFFERS; i++)
		written |= t[i].write;
	if (!written)
		return true;
	n = pread(w->prove->data.scratch, w->engine->back, bytes, w->engine->scratch_offset);
	if (n != (ssize_t)bytes)
		prove_fail(w->prove, "cannot read the scratch file back: %s",
			   n < 0 ? strerror(errno) : "it is too short");
	return n == (ssize_t)bytes;
}

static bool check_results(struct worker *w, enum column column, const struct transfer *t)
{
	for (unsigned int i = 0; i < NR_BUFFERS; i++) {
		if (t[i].res == (ssize_t)t[i].len)
			continue;
		prove_fail(w->prove, "column %s: a %s of %zu bytes at offset %llu %s%s",
			   column_names[column], t[i].write ? "write" : "read", t[i].len,
			   (unsigned long long)t[i].offset,
			   t[i].res < 0 ? "failed: " : "was short",
			   t[i].res < 0 ? strerror((int)-t[i].res) : "");
		return false;
	}
	return true;
}

static u64 count_wrong(const u8 *got, const u8 *expected, size_t len)
{
	u64 wrong = 0;

	for (size_t i = 0; i < len; i++)
		wrong += got[i] != expected[i];
	return wrong;
}

/* Return: how many bytes of one I/O are wrong. */
static u64 wrong_bytes(struct worker *w, const struct transfer *t, unsigned int nr)
{
	const struct data *data = &w->prove->data;
	const u8 *back = w->engine->back + nr * t->len;
	const u8 *expected = data->reference + t->offset;
	u64 wrong = 0;

	if (t->write) {
		if (is_filled(back, t->len, t->key))
			return 0;
		for (size_t i = 0; i < t->len; i += 8) {
			u64 word = word_of(t->key, i);

			wrong += count_wrong(back + i, (const u8 *)&word, 8);
		}
		return wrong;
	}
	if (!memcmp(t->buf, expected, t->len))
		return 0;
	if (!data_unchanged(data, t->offset, t->len)) {
		prove_fail(w->prove, "another program has changed %s during the run: use a file "
			   "that does not change", data->path ? data->path : "the data file");
		return 0;
	}
	return count_wrong(t->buf, expected, t->len);
}

static void verify(struct worker *w, enum column column, const struct area *a,
		   const struct transfer *t)
{
	struct counts *c = &w->counts[column];

	for (unsigned int i = 0; i < NR_BUFFERS; i++) {
		u64 wrong = wrong_bytes(w, &t[i], i);
		u64 *by_change = &c->stale_by_change[a->buffers[i].change];

		if (!wrong || port_load(&w->prove->failed))
			continue;
		port_store(&c->stale, c->stale + 1);
		port_store(&c->stale_bytes, c->stale_bytes + wrong);
		port_store(by_change, *by_change + 1);
		port_store(&c->stale_by_memory[a->memory], c->stale_by_memory[a->memory] + 1);
	}
}

struct cost {
	u64 wall_ns;
	u64 cpu_ns;
};

static void clock_start(struct cost *cost)
{
	cost->wall_ns -= now_ns(CLOCK_MONOTONIC);
	cost->cpu_ns -= now_ns(CLOCK_THREAD_CPUTIME_ID);
}

static void clock_stop(struct cost *cost)
{
	cost->cpu_ns += now_ns(CLOCK_THREAD_CPUTIME_ID);
	cost->wall_ns += now_ns(CLOCK_MONOTONIC);
}

/*
 * Do the I/O and measure it. The buffers are looked up before they are filled, so that the lookup
 * follows a change as closely as possible. The thread that makes the change may still be in the
 * kernel then.
 */
static bool transfer_all(struct worker *w, enum column column, struct transfer t[NR_BUFFERS])
{
	const struct device *device = w->prove->device;
	struct counts *c = &w->counts[column];
	u64 hits, misses, hits0, misses0, bytes = 0, eligible = 0;
	struct cost cost = {};
	int err, err2;

	hits0 = hits_and_misses(w->engine, column, &misses0);
	clock_start(&cost);
	err = device->begin(w->engine, column, t);
	clock_stop(&cost);
	hits = hits_and_misses(w->engine, column, &misses);
	fill_all(w, t);
	clock_start(&cost);
	err2 = device->finish(w->engine, column, t);
	clock_stop(&cost);
	if (err || err2) {
		prove_fail(w->prove, "column %s: the device failed: %s", column_names[column],
			   strerror(err ? -err : -err2));
		return false;
	}
	for (unsigned int i = 0; i < NR_BUFFERS; i++) {
		bytes += t[i].len;
		eligible += t[i].eligible;
	}
	port_store(&c->ios, c->ios + NR_BUFFERS);
	port_store(&c->bytes, c->bytes + bytes);
	port_store(&c->wall_ns, c->wall_ns + cost.wall_ns);
	port_store(&c->cpu_ns, c->cpu_ns + cost.cpu_ns);
	port_store(&c->eligible, c->eligible + eligible);
	port_store(&c->hits, c->hits + hits - hits0);
	port_store(&c->misses, c->misses + misses - misses0);
	return true;
}

static void io_on(struct worker *w, enum column column, struct area *a)
{
	struct transfer t[NR_BUFFERS];

	plan(w, a, t);
	pthread_mutex_lock(&w->engine->lock);
	if (transfer_all(w, column, t) && check_results(w, column, t) && read_back(w, t))
		verify(w, column, a, t);
	pthread_mutex_unlock(&w->engine->lock);
}

/* At times, change the area, or let another thread change it while this one looks up its memory. */
static void change_now_and_then(struct worker *w, struct area *a)
{
	struct planned_change change;

	if (port_load(&a->uses) < USES_PER_ENGINE * w->prove->nr_engines)
		return;
	switch (next_random(&w->random) % 4) {
	case 0:
		return;		/* leave it to a changing thread */
	case 1:
		if (change_choose(w, a, false, &change))
			change_make(w, &change);
		return;
	default:
		race_change(w, a);
	}
}

void *io_thread(void *worker)
{
	struct worker *w = worker;
	const struct timespec idle = { .tv_nsec = 100000 };

	/* neighbouring threads begin with different columns; each then takes the columns in turn */
	for (u64 turn = w->nr; !prove_stopped(w->prove); turn++) {
		struct area *a = area_take(w, 0);

		if (!a) {
			nanosleep(&idle, NULL);
			continue;
		}
		change_now_and_then(w, a);
		if (!prove_stopped(w->prove))
			io_on(w, turn % NR_COLUMNS, a);
		port_store(&a->uses, a->uses + 1);
		area_release(a);
	}
	return NULL;
}
