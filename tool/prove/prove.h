/* SPDX-License-Identifier: MIT */
/*
 * `invlock prove`: direct I/O through cached registrations of memory that is being torn apart.
 *
 *	prove.c		the command line, the run, the verdict
 *	monitor.c		which monitor watches, and which changes are therefore made
 *	file.c		the file that is read, its reference copy, the scratch file
 *	memory.c		areas of memory, and who owns them
 *	storm.c		the changes
 *	race.c		the threads that make them, and lookups that race with them
 *	io.c		the threads that do I/O and check every byte
 *	device_uring.c	io_uring with fixed buffers
 *	device_soft.c	a device in software, for where there is no io_uring
 *	report.c		progress, the table, JSON
 *
 * Ownership. An area is changed, written and read by the one thread that owns it, from
 * area_take() to area_release(); I/O on it begins and ends in between. So whatever differs
 * from what was asked for is the fault of the registration that was used, never of the test.
 * What others may do with an area is to look its memory up in a cache, which changes nothing:
 * that is how registrations come to race with changes.
 *
 * The columns share the areas. A stale registration may write to a page that the program no
 * longer sees, so no page that was ever registered is mapped again at another address where
 * I/O is done: then it could hurt another column, and every change in storm.c keeps this.
 */
#ifndef INVLOCK_TOOL_PROVE_PROVE_H
#define INVLOCK_TOOL_PROVE_PROVE_H

#include <pthread.h>
#include <signal.h>
#include <sys/types.h>
#include <invlock/cache.h>
#include "core/invlock.h"

enum column { COLUMN_PLAIN, COLUMN_INVLOCK, COLUMN_NAIVE, NR_COLUMNS };
extern const char *const column_names[NR_COLUMNS];

/* exit codes; --help has them */
enum {
	PROVE_PROVED	= 0,	/* invlock never stale, naive stale, and the cache did hit */
	PROVE_NOT	= 1,	/* the run finished and one of these does not hold */
	PROVE_USAGE	= 2,	/* an option, or the file, is no good */
	PROVE_CANNOT	= 3,	/* the run could not be made, or failed */
	PROVE_CUT	= 130,	/* ended by a signal; what was measured is reported */
};

#define MIN_HIT_PERCENT	20

#define NR_BUFFERS	8	/* of an area; also the depth of the I/O */
#define MAX_AREAS	64
#define MAX_ENGINES	8
#define MAX_STORMS	16	/* kinds of change */
#define STORM_NONE	MAX_STORMS	/* a buffer that was never changed */

/* the file's side */
struct data {
	int fd;			/* read by the columns, O_DIRECT where possible */
	int plain;		/* the user's file, buffered; -1 for our own */
	int scratch;		/* written by the columns */
	const char *path;	/* NULL = a file of our own, that has no name */
	u8 *reference;		/* what the first @bytes of the file hold; never changes */
	size_t bytes;
	size_t block;		/* of offsets and lengths */
	size_t mem_align;	/* of memory addresses */
};

enum memory { MEMORY_MALLOC, MEMORY_MMAP, MEMORY_MEMFD, MEMORY_BRK, MEMORY_HUGE, NR_MEMORIES };
extern const char *const memory_names[NR_MEMORIES];

struct buffer {
	u8 *addr;		/* written by the owner, read by others with port_load */
	void *chunk;		/* of malloc */
	unsigned int storm;	/* the latest change */
};

struct area {
	u32 owned;
	u32 uses;		/* I/O turns since the latest change */
	enum memory memory;
	const struct prove *prove;
	int fd;			/* of a memfd */
	u8 *base;		/* where it is mapped; NULL for malloc */
	size_t span;		/* bytes mapped there */
	u8 *side;		/* an address range of the same size for mremap; brk has none */
	size_t len;		/* of a buffer, as I/O is done with it */
	size_t stride;		/* from one buffer to the next: whole pages */
	size_t chunk;		/* what malloc is asked for, for each */
	struct buffer buffers[NR_BUFFERS];
} __attribute__((aligned(64)));

/* one request, and what the oracle remembers of it */
struct transfer {
	bool write;
	bool eligible;		/* set by the device: it could use a registration */
	u8 *buf;
	size_t len;
	u64 offset;
	ssize_t res;
	u64 key;		/* of the poison, or of the data written */
};

struct engine;
struct prove;
struct storm;

#define NR_WAYS	16

/**
 * struct device - what does the I/O
 * @max_engines: that make sense
 * @open: an engine: one of everything for each column; 0, or -errno and a sentence
 * @close: undo it, also one that was opened half
 * @begin: look all buffers up, as the program does before it starts a device; nothing is read
 *	or written yet. Fills eligible. 0 or -errno; @finish follows in any case
 * @finish: do all that was begun, wait for all, fill res; 0 or -errno
 * @cache: of a column; NULL for plain
 * @ways: how requests went, to be added to ret_ways; 0 is through a registration
 * @way_name: NULL for a number that is none
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

/* I/O turns on an area between two changes of it, for each engine: what a hit rate needs */
#define USES_PER_ENGINE	5

extern const struct device device_uring;
extern const struct device device_soft;

/* what one thread at a time drives; threads beyond MAX_ENGINES share */
struct engine {
	pthread_mutex_t lock;
	const struct prove *prove;
	void *data;		/* the device's */
	u64 scratch_offset;	/* its part of the scratch file */
	u8 *back;		/* where the scratch file is read back: NR_BUFFERS buffers */
};

/* each written by one thread, with port_store */
struct counts {
	u64 ios;
	u64 bytes;
	u64 wall_ns;		/* in I/O */
	u64 cpu_ns;
	u64 eligible;
	u64 hits;
	u64 misses;
	u64 stale;		/* I/Os with at least one wrong byte */
	u64 stale_bytes;
	u64 stale_by_storm[MAX_STORMS + 1];
	u64 stale_by_memory[NR_MEMORIES];
};

struct part {
	struct area *area;
	unsigned int first;	/* buffers [first, first + nr) */
	unsigned int nr;
	u8 *addr;		/* [addr, addr + len), but for malloc */
	size_t len;
};

struct change {
	const struct storm *storm;
	struct part part;
};

/* a change that an I/O thread asks a storm thread for, see race.c */
struct job {
	u32 state;
	struct change change;	/* of whoever owns the area */
};

struct worker {
	struct prove *prove;
	pthread_t thread;
	unsigned int nr;
	u64 random;
	struct engine *engine;		/* of an I/O thread */
	struct job job;			/* the same */
	struct counts counts[NR_COLUMNS];
	u64 lookups;			/* of areas that were being changed */
	u64 changes[MAX_STORMS];
	u64 handovers;			/* areas taken out of a running munmap */
};

struct prove_options {
	const char *file;
	unsigned int seconds;
	unsigned int threads;
	const char *monitor;
	const char *device;
	enum invlock_check plant;
	bool json;
};

struct prove {
	struct prove_options options;
	struct data data;
	const struct device *device;
	struct invlock_mm *mm;
	struct invlock_mm_info info;
	bool manual;			/* the storm reports what it does */
	u64 need;			/* kinds that the caches ask for */
	char not_attempted[MAX_STORMS][160];	/* the reason; empty = attempted */
	char notes[8][480];
	unsigned int nr_notes;

	struct area areas[MAX_AREAS];
	unsigned int nr_areas;
	u64 pin_limit;			/* bytes that each cache may pin; 0 = any */

	struct engine engines[MAX_ENGINES];
	unsigned int nr_engines;
	struct worker *workers;		/* I/O threads, then storm threads */
	unsigned int nr_io;
	unsigned int nr_storm;
	u32 stop;
	u32 failed;			/* the run is void: failure says why */
	char failure[480];
	pthread_mutex_t failure_lock;
	u64 started_ns;
	u64 ended_ns;
};

/* prove.c */


/* the run is void; keeps the first sentence and stops all threads */
__attribute__((format(printf, 2, 3)))
void prove_fail(struct prove *p, const char *format, ...);

/* something that the reader of the report must know */
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

/* monitor.c: 0, or -errno and a sentence */
int monitor_choose(struct prove *p, struct invlock_why *why);
bool storm_is_attempted(const struct prove *p, unsigned int nr);
/* the names of a set of kinds, "unmap, truncate" */
void name_kinds(char *text, size_t size, u64 kinds);
/* to the manual monitor, where that one is used */
void report_start(const struct prove *p, void *addr, size_t len);
void report_end(const struct prove *p, void *addr, size_t len);

/* file.c: 0, or -errno and a sentence */
int data_open(struct prove *p, struct invlock_why *why);
/* the file that is written, at least so large; after data_open() */
int scratch_open(struct prove *p, size_t bytes, struct invlock_why *why);
void data_close(struct data *data);
/* is the file still what the reference says, by plain reads? */
bool data_unchanged(const struct data *data, u64 offset, size_t len);

/* memory.c */
int areas_open(struct prove *p, struct invlock_why *why);
void areas_close(struct prove *p);
/* a random area with at least so many uses since the latest change; NULL = none is free */
struct area *area_take(struct worker *w, u32 min_uses);
void area_release(struct area *a);
/* map [addr, addr + len) of an area that is a hole now, or with MAP_FIXED over what is there */
int area_map(const struct area *a, u8 *addr, size_t len, int flags);
int area_malloc(struct area *a, unsigned int nr);

/* storm.c */
struct storm {
	const char *name;
	u64 kinds;		/* what a monitor must see */
	unsigned int memories;	/* a bit for each enum memory it is made on */
	bool whole;		/* of the area, never of some buffers */
	bool to_the_end;	/* from some buffer to the area's end */
	bool seldom;		/* pages leave a file: to a monitor that may be many changes */
	bool taken;		/* unmaps; the thread that asked for it maps the area anew */
	int (*make)(const struct part *part);
};
extern const struct storm storms[];
extern const unsigned int nr_storms;
void storms_probe(struct prove *p);
/*
 * A random change of an area that the worker owns, marked in it as made; handed: it will be made
 * by another thread. false = there is none for this kind of memory.
 */
bool storm_choose(struct worker *w, struct area *a, bool handed, struct change *ret);
void storm_make(struct worker *w, const struct change *change);

/* race.c */
/* have an area of the worker's changed by another thread, and look it up meanwhile */
void race_change(struct worker *w, struct area *a);
void *storm_thread(void *worker);

/* io.c */
void *io_thread(void *worker);

/* report.c */
unsigned int hit_percent(const struct counts *c);
u64 now_ns(clockid_t clock);
void progress(const struct prove *p, bool last);
void report(const struct prove *p, int verdict, const char *sentence);
struct counts counts_of(const struct prove *p, enum column column);
struct invlock_cache_stats cache_stats_of(const struct prove *p, enum column column);

#endif /* INVLOCK_TOOL_PROVE_PROVE_H */
