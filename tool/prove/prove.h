/* SPDX-License-Identifier: MIT */
/*
 * `invlock prove` does direct I/O through cached registrations of memory while other threads change
 * the mappings of that memory. It compares three columns: plain I/O without a cache, an invlock
 * cache, and a naive cache, which never learns of changes.
 *
 *	prove.c		parses the options, runs the threads, judges the result
 *	monitor.c	chooses the monitor, and leaves out the changes that it does not see
 *	file.c		the data file and its reference copy, and the scratch file
 *	memory.c	areas of memory, each owned by one thread at a time
 *	change.c		the changes
 *	race.c		the threads that make changes, and lookups that race with them
 *	io.c		the threads that do I/O and check every byte
 *	device_uring.c	the device io_uring, with fixed buffers
 *	device_soft.c	a device in software, for hosts without io_uring
 *	report.c	prints progress, the table, JSON
 *
 * Ownership: only the thread that owns an area changes, writes and reads it, from area_take() to
 * area_release(), and its I/O on the area begins and ends in between. So if data is wrong, the
 * registration was stale; the test cannot be the cause. Other threads may look up the area's
 * memory in a cache, which changes nothing. That makes registrations race with changes.
 *
 * The columns share the areas. A device with a stale registration may write to a page that the
 * program no longer sees. Such a page must never hold the data of another column. Therefore no page
 * that was ever registered is mapped again at another address where I/O is done. Every change in
 * change.c obeys this.
 */
#ifndef INVLOCK_TOOL_PROVE_PROVE_H
#define INVLOCK_TOOL_PROVE_PROVE_H

#include <pthread.h>
#include <signal.h>
#include <sys/types.h>
#include <invlock/cache.h>
#include "core/invlock.h"
#include "lib/explain.h"

enum column { COLUMN_PLAIN, COLUMN_INVLOCK, COLUMN_NAIVE, NR_COLUMNS };
extern const char *const column_names[NR_COLUMNS];

/* exit codes, as in --help */
enum {
	PROVE_PROVED	= 0,	/* invlock was never stale and had enough hits; naive was stale */
	PROVE_NOT	= 1,	/* the run finished, but one of these does not hold */
	PROVE_USAGE	= 2,	/* an option or the file is wrong */
	PROVE_CANNOT	= 3,	/* the run could not start, or it failed */
	PROVE_CUT	= 130,	/* a signal ended the run early; the results so far are reported */
};

#define MIN_HIT_PERCENT	20

#define NR_BUFFERS	8	/* in an area; also the number of requests in flight */
#define MAX_AREAS	64
#define MAX_ENGINES	8
#define MAX_PROVE_CHANGES	16
#define CHANGE_NONE	MAX_PROVE_CHANGES	/* a buffer that was never changed */

/* The files. */
struct data {
	int fd;			/* the columns read this, with O_DIRECT where possible */
	int plain;		/* the user's file without O_DIRECT; -1 for a file of our own */
	int scratch;		/* the columns write this */
	const char *path;	/* NULL = a file of our own, which has no name */
	u8 *reference;		/* a copy of the first @bytes of the file; never changes */
	size_t bytes;
	size_t block;		/* alignment of offsets and lengths */
	size_t mem_align;	/* alignment of memory addresses */
};

enum memory { MEMORY_MALLOC, MEMORY_MMAP, MEMORY_MEMFD, MEMORY_BRK, MEMORY_HUGE, NR_MEMORIES };
extern const char *const memory_names[NR_MEMORIES];

struct area_buffer {
	u8 *addr;		/* the owner writes it, others read it with port_load() */
	void *chunk;		/* from malloc() */
	unsigned int change;	/* index of the latest change, or CHANGE_NONE */
};

struct area {
	u32 owned;		/* 1 while a thread owns the area; atomic */
	u32 uses;		/* I/O turns since the latest change; atomic */
	enum memory memory;
	const struct prove *prove;
	int fd;			/* a memfd, or -1 */
	u8 *base;		/* where the area is mapped; NULL for malloc */
	size_t span;		/* bytes mapped there */
	u8 *side;		/* free addresses for mremap; NULL for malloc and brk */
	size_t len;		/* bytes of each request */
	size_t stride;		/* bytes from one buffer to the next, in whole pages */
	size_t chunk;		/* bytes that malloc() is asked for, for each buffer */
	struct area_buffer buffers[NR_BUFFERS];
} __attribute__((aligned(64)));

/* One request, and what is needed to check it. */
struct transfer {
	bool write;
	bool eligible;		/* could use a registration; set by the device */
	u8 *buf;
	size_t len;
	u64 offset;
	ssize_t res;
	u64 key;		/* generates the poison of a read, or the data of a write */
};

struct engine;
struct prove;
struct prove_change;

#define NR_WAYS	16

/**
 * struct device - a kind of device that does the I/O
 * @max_engines: the largest number of engines that makes sense
 * @open: open an engine, with a cache for each column that has one. Return: 0, or -errno and a
 *	sentence in @why
 * @close: close an engine, even if @open has failed halfway
 * @begin: look up all buffers, as a program does before it starts a device. Nothing is read or
 *	written yet. Sets eligible. Return: 0 or -errno; @finish follows in any case
 * @finish: do the I/O, wait for all of it, and set res. Return: 0 or -errno
 * @cache: the cache of a column; NULL for plain
 * @ways: add to ret_ways how many requests went which way. Way 0 is a registration; the others
 *	are plain I/O, for different reasons
 * @way_name: the name of a way; NULL if there is none of that number
 */
struct device {
	const char *name;
	unsigned int max_engines;
	int (*open)(const struct prove *p, struct engine *e, struct invlock_why *why);
	void (*close)(struct engine *e);
	int (*begin)(struct engine *e, enum column column, struct transfer t[NR_BUFFERS]);
	int (*finish)(struct engine *e, enum column column, struct transfer t[NR_BUFFERS]);
	struct invlock_cache *(*cache)(const struct engine *e, enum column column);
	void (*ways)(const struct engine *e, enum column column, u64 ret_ways[NR_WAYS]);
	const char *(*way_name)(unsigned int way);
};

/* an area may be changed after this many I/O turns for each engine: enough for hits */
#define USES_PER_ENGINE	5

extern const struct device device_uring;
extern const struct device device_soft;

/* An open device. One thread at a time uses it; threads beyond MAX_ENGINES share engines. */
struct engine {
	pthread_mutex_t lock;
	const struct prove *prove;
	void *data;		/* belongs to the device */
	u64 scratch_offset;	/* where the engine's part of the scratch file begins */
	u8 *back;		/* memory for reading back that part: NR_BUFFERS buffers */
};

/* One thread writes each of these, with port_store(). */
struct counts {
	u64 ios;
	u64 bytes;
	u64 wall_ns;		/* spent in I/O */
	u64 cpu_ns;		/* spent in I/O */
	u64 eligible;
	u64 hits;
	u64 misses;
	u64 stale;		/* I/Os with at least one wrong byte */
	u64 stale_bytes;
	u64 stale_by_change[MAX_PROVE_CHANGES + 1];
	u64 stale_by_memory[NR_MEMORIES];
};

/* The buffers [first, first + nr) of an area. */
struct part {
	struct area *area;
	unsigned int first;
	unsigned int nr;
	u8 *addr;		/* the memory is [addr, addr + len), except for malloc */
	size_t len;
};

struct planned_change {
	const struct prove_change *change;
	struct part part;
};

/* A change that an I/O thread asks a changing thread to make: see race.c. */
struct job {
	u32 state;			/* atomic */
	struct planned_change planned;	/* belongs to the thread that owns the area */
};

struct worker {
	struct prove *prove;
	pthread_t thread;
	unsigned int nr;
	u64 random;
	struct engine *engine;		/* NULL for a changing thread */
	struct job job;			/* used by I/O threads */
	struct counts counts[NR_COLUMNS];
	u64 lookups;			/* in areas that another thread was changing */
	u64 changes[MAX_PROVE_CHANGES];
	u64 handovers;			/* areas mapped anew while their munmap() was running */
};

struct prove_options {
	const char *file;
	unsigned int seconds;
	unsigned int threads;
	const char *monitor;
	const char *device;
	bool json;
};

struct prove {
	struct prove_options options;
	struct data data;
	const struct device *device;
	struct invlock_mm *mm;
	struct invlock_mm *deaf;	/* for the naive column: nobody reports a change to it */
	struct invlock_mm_info info;
	u64 need;			/* a mask of the kinds that the caches need */
	/* why a change is left out; empty = it is made */
	char not_attempted[MAX_PROVE_CHANGES][KIND_NAMES + 100];
	char notes[16][sizeof(struct invlock_why) + 100];
	unsigned int nr_notes;

	struct area areas[MAX_AREAS];
	unsigned int nr_areas;
	u64 pin_limit;			/* bytes that each cache may pin; 0 = no limit */

	struct engine engines[MAX_ENGINES];
	unsigned int nr_engines;
	struct worker *workers;		/* nr_io I/O threads, then nr_changing others */
	unsigned int nr_io;
	unsigned int nr_changing;
	u32 stop;			/* atomic */
	u32 failed;			/* the run is void, and failure says why; atomic */
	char failure[sizeof(struct invlock_why) + 100];
	pthread_mutex_t failure_lock;
	u64 started_ns;
	u64 ended_ns;
};

/* --- prove.c --- */

/* The run is void: keep the first sentence about it, and stop all threads. */
__attribute__((format(printf, 2, 3)))
void prove_fail(struct prove *p, const char *format, ...);

/* Add a sentence that the reader of the report must know. */
__attribute__((format(printf, 2, 3)))
void prove_note(struct prove *p, const char *format, ...);

static inline bool prove_stopped(const struct prove *p)
{
	return port_load(&p->stop);
}

static inline u64 next_random(u64 *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* --- monitor.c --- */

/* Choose and open the monitor. Return: 0, or -errno and a sentence in @why. */
int monitor_choose(struct prove *p, struct invlock_why *why);
/* Return: the handle with which the caches of a column are opened. */
struct invlock_mm *monitor_of(const struct prove *p, enum column column);
bool change_is_attempted(const struct prove *p, unsigned int nr);

/* --- file.c --- */

/* Open or make the data file, and copy it. Return: 0, or -errno and a sentence in @why. */
int data_open(struct prove *p, struct invlock_why *why);
/* After data_open(), make a scratch file of at least @bytes. Return: as data_open(). */
int scratch_open(struct prove *p, size_t bytes, struct invlock_why *why);
void data_close(struct data *data);
/* Read the range again without O_DIRECT: is it still equal to the reference? */
bool data_unchanged(const struct data *data, u64 offset, size_t len);

/* --- memory.c --- */

int areas_open(struct prove *p, struct invlock_why *why);
void areas_close(struct prove *p);
/*
 * Take a random area that was used at least @min_uses times since its latest change. Return: the
 * area, which the worker owns now, or NULL if there is none.
 */
struct area *area_take(struct worker *w, u32 min_uses);
void area_release(struct area *a);
/* Map [addr, addr + len) of an area. With MAP_FIXED in @flags, replace what is mapped there. */
int area_map(const struct area *a, u8 *addr, size_t len, int flags);
int area_malloc(struct area *a, unsigned int nr);

/* --- change.c --- */

/* One way to change memory. */
struct prove_change {
	const char *name;
	u64 kinds;		/* a mask of the kinds that a monitor must see */
	unsigned int memories;	/* a mask of the enum memory that it is made on */
	bool whole;		/* always changes the whole area, never some buffers */
	bool to_the_end;	/* changes all buffers from one of them to the end of the area */
	bool seldom;		/* removes pages of a file, which costs some monitors a lot */
	bool taken;		/* only unmaps; the thread that asked for it maps the area anew */
	int (*make)(const struct part *part);
};
extern const struct prove_change prove_changes[];
extern const unsigned int nr_prove_changes;
void changes_probe(struct prove *p);
/*
 * Choose a random change of an area that the worker owns, and note it in the area's buffers.
 * @handed: another thread will make it. Return: false if no change fits this kind of memory.
 */
bool change_choose(struct worker *w, struct area *a, bool handed, struct planned_change *ret);
void change_make(struct worker *w, const struct planned_change *planned);

/* --- race.c --- */

/* Let another thread change an area that the worker owns, and look up its memory meanwhile. */
void race_change(struct worker *w, struct area *a);
void *change_thread(void *worker);

/* --- io.c --- */

void *io_thread(void *worker);

/* --- report.c --- */

unsigned int hit_percent(const struct counts *c);
u64 now_ns(clockid_t clock);
void print_progress(const struct prove *p, bool last);
void print_report(const struct prove *p, int verdict, const char *sentence);
struct counts counts_of(const struct prove *p, enum column column);
struct invlock_cache_stats cache_stats_of(const struct prove *p, enum column column);

#endif /* INVLOCK_TOOL_PROVE_PROVE_H */
