// SPDX-License-Identifier: MIT
/*
 * Programs of map changes and cache calls, compared with what memory contains.
 *
 * Each page that the kernel gives us gets a number of its own, once, in its first bytes: its
 * generation. The device reads these numbers when it registers; it knows nothing else. A pin is
 * stale if memory now has another number than the device.
 *
 * INVLOCK_FUZZ_MONITOR: manual (the program reports each change), uffd, or bpf.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <invlock/cache.h>
#include <invlock/manual.h>
#include <invlock/section.h>

#include "fuzz.h"
#include "lib/monitor/monitor.h"
#include "tests/page.h"

#define NR_PAGES	24u
#define NR_FILE_PAGES	8u
#define NR_PINS		12u
#define NR_REGS		4096u	/* registrations of one input */
#define MAX_OPS		200u
#define ELSEWHERE	((char *)0x7000000000)	/* reported as changed; unmapped */

enum backing { NOTHING, ANON, SHARED };

struct reg {
	uint64_t stamp[NR_PAGES];
	unsigned int first, nr;
	unsigned int nr_pins;
	bool live;
};

/* a change that has begun and not ended; only with the manual monitor */
struct open_change {
	unsigned int op, first, nr, other;
	bool made;
	bool open;
};

static struct invlock_mm *mm;
static bool manual, exact_files;
static char *mem;
static int file;
static uint64_t last_stamp;

static enum backing backing[NR_PAGES];
static unsigned int file_page[NR_PAGES];
static struct invlock_cache *cache;
static struct reg regs[NR_REGS];
static unsigned int nr_regs, nr_live, max_entries;
static size_t live_bytes, max_bytes;	/* max_bytes: 0 = no limit */
static struct invlock_pin pins[NR_PINS];
static bool pinned[NR_PINS];
static struct open_change open_change;
static struct open_change during_reg;	/* the next reg() makes this change */
static int fail_reg;

const char *const fuzz_plants[] = { NULL };

void fuzz_plant(__attribute__((unused)) const char *name)
{
}

static char *page(unsigned int nr)
{
	return mem + nr * PAGE;
}

static uint64_t *stamp_of(unsigned int nr)
{
	return (uint64_t *)page(nr);
}

static void stamp_file(unsigned int nr)
{
	uint64_t stamp = ++last_stamp;

	if (pwrite(file, &stamp, sizeof(stamp), nr * PAGE) != sizeof(stamp))
		abort();
}

/* ---- changes of the map ---- */

enum change_op { TO_ANON, TO_FILE, TO_NOTHING, MOVE, DISCARD, PUNCH, TRUNCATE, NR_CHANGES };

static void map(unsigned int nr, unsigned int at, enum backing what, unsigned int in_file)
{
	int flags = MAP_FIXED | (what == SHARED ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS);

	if (mmap(page(at), nr * PAGE, PROT_READ | PROT_WRITE, flags,
		 what == SHARED ? file : -1, what == SHARED ? in_file * PAGE : 0) == MAP_FAILED)
		abort();
	for (unsigned int i = 0; i < nr; i++) {
		backing[at + i] = what;
		file_page[at + i] = in_file + i;
		if (what == ANON)
			*stamp_of(at + i) = ++last_stamp;
	}
}

/* Reserves unmapped addresses, so that no other thread's mmap() gets them. */
static void reserve(unsigned int nr, unsigned int at)
{
	if (mmap(page(at), nr * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		 0) == MAP_FAILED)
		abort();
	for (unsigned int i = at; i < at + nr; i++)
		backing[i] = NOTHING;
}

/* Pages of the file go, and each gets a successor. */
static void renew_file(unsigned int from, unsigned int nr, bool truncate)
{
	if (truncate) {
		if (ftruncate(file, from * PAGE) || ftruncate(file, NR_FILE_PAGES * PAGE))
			abort();
		nr = NR_FILE_PAGES - from;
	} else if (fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from * PAGE,
			     nr * PAGE)) {
		abort();
	}
	for (unsigned int i = from; i < from + nr; i++)
		stamp_file(i);
}

/* Moves one page onto another; its old address stays reserved. */
static void move(unsigned int from, unsigned int to)
{
	if (backing[from] == NOTHING || from == to)
		return;
	if (mremap(page(from), PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, page(to)) !=
	    page(to))
		abort();
	backing[to] = backing[from];
	file_page[to] = file_page[from];
	reserve(1, from);
}

static void make_change(const struct open_change *c)
{
	unsigned int nr = c->nr < NR_FILE_PAGES ? c->nr : NR_FILE_PAGES;
	unsigned int in_file = c->other % (NR_FILE_PAGES + 1 - nr);

	switch (c->op) {
	case TO_ANON:
		map(c->nr, c->first, ANON, 0);
		break;
	case TO_FILE:
		map(nr, c->first, SHARED, in_file);
		break;
	case TO_NOTHING:
		munmap(page(c->first), c->nr * PAGE);
		reserve(c->nr, c->first);
		break;
	case MOVE:
		move(c->first, c->other % NR_PAGES);
		break;
	case DISCARD:
		for (unsigned int i = c->first; i < c->first + c->nr; i++) {
			if (backing[i] != ANON)
				continue;
			if (madvise(page(i), PAGE, MADV_DONTNEED))
				abort();
			*stamp_of(i) = ++last_stamp;
		}
		break;
	case PUNCH:
	case TRUNCATE:
		if (exact_files)
			renew_file(in_file, nr, c->op == TRUNCATE);
		break;
	}
}

/* The program tells the manual monitor what it is about to do, or has done. */
static void report(const struct open_change *c, int (*call)(struct invlock_mm *, const void *,
							    size_t))
{
	if (!manual)
		return;
	switch (c->op) {
	case MOVE:
		call(mm, page(c->first), PAGE);
		call(mm, page(c->other % NR_PAGES), PAGE);
		break;
	case PUNCH:
	case TRUNCATE:
		/* the file's pages may be mapped anywhere */
		call(mm, mem, NR_PAGES * PAGE);
		break;
	default:
		call(mm, page(c->first), c->nr * PAGE);
	}
}

static struct open_change read_change(struct bytes *b)
{
	struct open_change c = { .op = byte(b) % NR_CHANGES, .first = byte(b) % NR_PAGES };

	c.nr = 1 + byte(b) % (NR_PAGES - c.first);
	c.other = byte(b);
	return c;
}

static void change(const struct open_change *c)
{
	report(c, invlock_manual_start);
	make_change(c);
	report(c, invlock_manual_end);
}

static void end_open_change(void)
{
	if (!open_change.open)
		return;
	if (!open_change.made)
		make_change(&open_change);
	report(&open_change, invlock_manual_end);
	open_change.open = false;
}

static void begin_open_change(struct bytes *b)
{
	if (!manual || open_change.open)
		return;
	open_change = read_change(b);
	open_change.made = byte(b) & 1;
	open_change.open = true;
	report(&open_change, invlock_manual_start);
	if (open_change.made)
		make_change(&open_change);
}

/* ---- the device ---- */

static int reg(void *ctx, void *addr, size_t len, uint64_t *ret_handle)
{
	unsigned int first = ((char *)addr - mem) / PAGE, nr = len / PAGE;
	struct open_change c = during_reg;
	struct reg *r = &regs[nr_regs];
	int err = fail_reg;

	(void)ctx;
	fail_reg = 0;
	during_reg.open = false;
	if (err || nr_regs == NR_REGS)
		return err ? err : -ENOMEM;
	if (c.open && c.made)
		change(&c);
	for (unsigned int i = 0; i < nr; i++) {
		if (backing[first + i] == NOTHING)
			return -EFAULT;
		r->stamp[i] = *stamp_of(first + i);
	}
	if (c.open && !c.made)
		change(&c);
	r->first = first;
	r->nr = nr;
	r->nr_pins = 0;
	r->live = true;
	*ret_handle = nr_regs++;
	nr_live++;
	live_bytes += len;
	FUZZ_CHECK(nr_live <= max_entries, "%u registrations, %u allowed", nr_live, max_entries);
	FUZZ_CHECK(!max_bytes || live_bytes <= max_bytes, "%zu bytes, %zu allowed", live_bytes,
		   max_bytes);
	return 0;
}

static void dereg(void *ctx, void *addr, size_t len, uint64_t handle)
{
	struct reg *r = &regs[handle];

	(void)ctx;
	FUZZ_CHECK(handle < nr_regs && r->live, "handle %lu is not registered", handle);
	FUZZ_CHECK(addr == page(r->first) && len == r->nr * PAGE, "another range");
	FUZZ_CHECK(!r->nr_pins, "deregistered under %u pins", r->nr_pins);
	r->live = false;
	nr_live--;
	live_bytes -= len;
}

static void check_pin(const struct invlock_pin *pin, unsigned int first, unsigned int nr)
{
	const struct reg *r = &regs[pin->handle];

	FUZZ_CHECK(pin->handle < nr_regs && r->live, "a pin of what is not registered");
	FUZZ_CHECK(r->first <= first && first + nr <= r->first + r->nr, "a pin of other memory");
	for (unsigned int i = r->first; i < r->first + r->nr; i++)
		FUZZ_CHECK(backing[i] != NOTHING && r->stamp[i - r->first] == *stamp_of(i),
			   "stale: page %u, the device has generation %lu", i,
			   r->stamp[i - r->first]);
}

/* ---- calls ---- */

static bool is_typed(int err, int may_fail)
{
	return err == -EBUSY || err == -ENOSPC || err == -EFAULT || err == -EMEDIUMTYPE ||
	       err == may_fail;
}

static int get(unsigned int first, unsigned int nr, unsigned int flags, unsigned int at)
{
	int may_fail = flags & INVLOCK_GET_CACHED ? -ENOENT : fail_reg;
	int err;

	if (nr_regs + 100 > NR_REGS)
		may_fail = -ENOMEM;
	err = invlock_cache_get(cache, page(first) + 1, nr * PAGE - 1, flags, &pins[at]);
	if (err) {
		FUZZ_CHECK(is_typed(err, may_fail), "get: %d", err);
		return err;
	}
	check_pin(&pins[at], first, nr);
	pinned[at] = true;
	regs[pins[at].handle].nr_pins++;
	return 0;
}

static void put(unsigned int at)
{
	struct invlock_pin copy = pins[at];

	if (!pinned[at]) {
		FUZZ_CHECK(!copy.cache || invlock_cache_put(&copy) == -EINVAL, "put twice");
		return;
	}
	pinned[at] = false;
	regs[pins[at].handle].nr_pins--;
	FUZZ_CHECK(!invlock_cache_put(&pins[at]), "a put failed");
}

static void get_somewhere(struct bytes *b)
{
	static const unsigned int flags[] = { 0, 0, INVLOCK_GET_BYPASS, INVLOCK_GET_CACHED };
	unsigned int at = byte(b) % NR_PINS, first = byte(b) % NR_PAGES;
	unsigned int nr = 1 + byte(b) % (NR_PAGES - first);

	if (pinned[at])
		put(at);
	get(first, nr, flags[byte(b) % 4], at);
}

/* A read section, step by step; its result at the end is compared with the memory. */
static void section(struct bytes *b)
{
	const struct invlock_read_budget budget = { .rounds = 2, .time_ns = 1 };
	unsigned int at = byte(b) % NR_PAGES;
	struct open_change c = read_change(b);
	struct invlock_read rd;
	uint64_t stamp = 0;

	invlock_read_init(&rd, mm, page(at), PAGE, &budget, 0);
	if (invlock_read_attempt(&rd) && backing[at] != NOTHING) {
		stamp = *stamp_of(at);
		if (c.other & 64)
			change(&c);
		if (invlock_read_commit(&rd)) {
			FUZZ_CHECK(backing[at] != NOTHING && *stamp_of(at) == stamp, "stale");
			/* not during an open change of the file, for which the section may wait */
			if (!open_change.open) {
				change(&c);
				FUZZ_CHECK(!invlock_read_valid(&rd) ||
					   (backing[at] != NOTHING && *stamp_of(at) == stamp),
					   "stale later");
			}
		}
	}
	invlock_read_end(&rd);
}

/* Makes changes elsewhere, as many as may overrun the ring. */
static void storm(unsigned int nr)
{
	for (unsigned int i = 0; manual && i < nr << 10; i++) {
		invlock_manual_start(mm, ELSEWHERE, PAGE);
		invlock_manual_end(mm, ELSEWHERE, PAGE);
	}
}

static void check_stats(void)
{
	struct invlock_cache_stats s = { .size = sizeof(s) };

	FUZZ_CHECK(!invlock_cache_stats(cache, &s), "stats");
	FUZZ_CHECK(s.entries + s.dead == nr_live && s.reg_calls - s.dereg_calls == nr_live &&
		   s.refused == s.refused_full + s.refused_busy + s.refused_reg +
				s.refused_memory,
		   "%lu entries, %lu dead, %u registered", s.entries, s.dead, nr_live);
}

static void step(struct bytes *b)
{
	struct open_change c;
	unsigned int first;

	switch (byte(b) % 12) {
	case 0:
	case 1:
	case 2:
		get_somewhere(b);
		break;
	case 3:
		put(byte(b) % NR_PINS);
		break;
	case 4:
	case 5:
		c = read_change(b);
		change(&c);
		break;
	case 6:
		if (open_change.open)
			end_open_change();
		else
			begin_open_change(b);
		break;
	case 7:
		during_reg = read_change(b);
		during_reg.made = byte(b) & 1;
		during_reg.open = true;
		break;
	case 8:
		fail_reg = byte(b) & 1 ? -ENOMEM : -EPERM;
		break;
	case 9:
		first = byte(b) % NR_PAGES;
		FUZZ_CHECK(invlock_cache_drop(cache, page(first), PAGE) >= 0, "drop");
		break;
	case 10:
		if (byte(b) & 1)
			storm(byte(b) % 80);
		else
			FUZZ_CHECK(invlock_cache_reap(cache) >= 0, "reap");
		check_stats();
		break;
	case 11:
		section(b);
		break;
	}
}

static void begin(struct bytes *b)
{
	struct invlock_cache_options o = {
		.size = sizeof(o),
		/* what is dead stays so until the input says otherwise */
		.flags = INVLOCK_CACHE_NO_REAPER,
		.ops = { reg, dereg },
		.need = manual ? 0 : INVLOCK_BIT(UNMAP),
		.max_entries = 1 + byte(b) % 10,
		.rounds = 1 + byte(b) % 3,
		.time_ns = manual ? 1 : 60000000000,
	};
	uint8_t limit = byte(b);

	if (limit & 1)
		o.max_bytes = (1 + limit % NR_PAGES) * PAGE;
	max_entries = o.max_entries;
	max_bytes = o.max_bytes;
	nr_regs = nr_live = live_bytes = 0;
	fail_reg = 0;
	during_reg.open = open_change.open = false;
	memset(pins, 0, sizeof(pins));
	memset(pinned, 0, sizeof(pinned));
	if (invlock_cache_open(mm, &o, &cache, NULL))
		abort();
	map(NR_PAGES, 0, ANON, 0);
}

/* At the end everything that is mapped can be registered, and no registration is left over. */
static void end(void)
{
	const struct open_change renew = { .op = TO_ANON, .nr = 1 };
	int err;

	end_open_change();
	for (unsigned int i = 0; i < NR_PINS; i++)
		put(i);
	fail_reg = 0;
	during_reg.open = false;
	change(&renew);
	if (nr_regs + 100 < NR_REGS) {
		err = get(0, 1, 0, 0);
		FUZZ_CHECK(!err, "memory is refused although nothing is in use: %d", err);
		put(0);
	}
	check_stats();
	FUZZ_CHECK(!invlock_cache_close(cache), "close");
	FUZZ_CHECK(!nr_live, "%u registrations are left", nr_live);
}

static void set_up(void)
{
	const char *name = getenv("INVLOCK_FUZZ_MONITOR");
	struct invlock_mm_options o = {
		.size = sizeof(o),
		.monitor = name ? name : "manual",
		.need = INVLOCK_BIT(UNMAP),
#ifdef PLANTED
		/* without a self-test, which would find the planted fault at once */
		.flags = INVLOCK_MM_NO_SELFTEST,
#endif
	};
	struct invlock_why why;

	if (invlock_mm_open(&o, &mm, &why)) {
		fprintf(stderr, "%s\n", why.text);
		exit(77);
	}
	manual = !strcmp(o.monitor, "manual");
	exact_files = manual || mm->monitor->seen & INVLOCK_BIT(TRUNCATE);
	mem = mmap(NULL, NR_PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	file = memfd_create("fuzz", MFD_CLOEXEC);
	if (mem == MAP_FAILED || file < 0 || ftruncate(file, NR_FILE_PAGES * PAGE))
		abort();
	for (unsigned int i = 0; i < NR_FILE_PAGES; i++)
		stamp_file(i);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes b = { data, data + size };

	if (!mm)
		set_up();
	begin(&b);
	for (unsigned int nr = 0; nr < MAX_OPS && b.at < b.end; nr++)
		step(&b);
	end();
	return 0;
}
