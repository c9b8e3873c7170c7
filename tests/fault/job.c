// SPDX-License-Identifier: MIT
#include "job.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <invlock/cache.h>
#include <invlock/manual.h>
#include <invlock/section.h>
#include <invlock/uring.h>

#include "lib/cache/cache_internal.h"
#include "tests/page.h"

#define NR_PAGES	512
#define NR_HELD		70	/* pins at once: more than a thread's record has slots */
#define NR_FILLED	381	/* single pages; with two more the index has to grow */
#define MAX_ENTRIES_FEW	8
#define MAX_REGS	4096

struct job_options job_options;

struct life {
	const struct fault *fault;	/* NULL: everything must succeed */
	bool window;
	struct outcome *out;
	char *mem;
	struct invlock_mm *mm;
	struct invlock_cache *cache;
	uint64_t stamp;
	/* the fake device; the lock is for the thread and the reaper */
	pthread_mutex_t lock;
	unsigned int nr_regs, nr_live;
	struct reg {
		uint64_t stamp;
		bool live;
	} regs[MAX_REGS];
};

static char *page(struct life *l, unsigned int nr)
{
	return l->mem + nr * PAGE;
}

static bool is_manual(void)
{
	return !strcmp(job_options.monitor, "manual");
}

static bool is_typed(const struct life *l, int err)
{
	switch (err) {
	case -ENOMEM:
	case -ENOSPC:
	case -EBUSY:
	case -ENOENT:
	case -EOPNOTSUPP:
	case -ENOTRECOVERABLE:
	case -EMEDIUMTYPE:	/* the monitor could not look at the memory */
		return true;
	default:
		return err == -l->fault->err;
	}
}

/*
 * Checks a result. Return: true = success; false = an error, which must be one that the fault
 * explains
 */
static bool check(struct life *l, const char *what, int err, const struct invlock_why *why)
{
	if (!err)
		return true;
	if (!l->fault)
		complain(l->out, "%s: %d without a fault: %.100s", what, err, why ? why->text : "");
	/* A failed open returns the kernel's error, and says in a sentence what it was doing. */
	else if (why && (err > 0 || strlen(why->text) < 10 || why->text[0] == ' '))
		complain(l->out, "%s: error %d without a sentence", what, err);
	else if (!why && !is_typed(l, err))
		complain(l->out, "%s: error %d is none of its own", what, err);
	return false;
}

static int device_reg(void *ctx, void *addr, size_t len, uint64_t *ret_handle)
{
	struct life *l = ctx;
	struct reg *r;

	(void)len;
	pthread_mutex_lock(&l->lock);
	*ret_handle = l->nr_regs++;
	if (*ret_handle == MAX_REGS)
		abort();
	r = &l->regs[*ret_handle];
	*r = (struct reg){ .stamp = *(volatile uint64_t *)addr, .live = true };
	l->nr_live++;
	pthread_mutex_unlock(&l->lock);
	return 0;
}

static void device_dereg(void *ctx, void *addr, size_t len, uint64_t handle)
{
	struct life *l = ctx;

	(void)addr;
	(void)len;
	pthread_mutex_lock(&l->lock);
	if (!l->regs[handle].live)
		complain(l->out, "deregistered twice");
	l->regs[handle].live = false;
	l->nr_live--;
	pthread_mutex_unlock(&l->lock);
}

/* Return: false = the change was made to fail, and changed nothing */
static bool change(struct life *l, unsigned int nr)
{
	char *at = page(l, nr);
	bool changed;

	if (is_manual())
		invlock_manual_start(l->mm, at, PAGE);
	/* not mmap(), which counts the mapping */
	changed = (char *)syscall(SYS_mmap, at, PAGE, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at;
	if (changed)
		*(volatile uint64_t *)at = ++l->stamp;
	if (is_manual())
		invlock_manual_end(l->mm, at, PAGE);
	return changed;
}

static unsigned int nr_registered(struct life *l)
{
	unsigned int nr;

	pthread_mutex_lock(&l->lock);
	nr = l->nr_live;
	pthread_mutex_unlock(&l->lock);
	return nr;
}

static bool get(struct life *l, unsigned int nr, unsigned int flags, struct invlock_pin *ret)
{
	unsigned int nr_before = nr_registered(l);
	const struct reg *r;
	uint64_t stamp;

	if (!check(l, "get", invlock_cache_get(l->cache, page(l, nr), PAGE, flags, ret), NULL)) {
		if (nr_registered(l) > nr_before)
			complain(l->out, "a get that failed leaves a registration");
		return false;
	}
	r = &l->regs[ret->handle];
	stamp = *(volatile uint64_t *)page(l, nr);
	if (!r->live || ret->addr != page(l, nr))
		complain(l->out, "a pin of what is not registered");
	else if (r->stamp != stamp)
		complain(l->out, "a stale hit: the device has page %lu, the program %lu",
			 (unsigned long)r->stamp, (unsigned long)stamp);
	return true;
}

static void put(struct life *l, struct invlock_pin *pin)
{
	if (invlock_cache_put(pin))
		complain(l->out, "a put failed");
}

static void use(struct life *l, unsigned int nr, unsigned int flags)
{
	struct invlock_pin pin;

	if (get(l, nr, flags, &pin))
		put(l, &pin);
}

static void *use_on_a_thread(void *arg)
{
	use(arg, 20, 0);
	change(arg, 20);
	use(arg, 20, 0);
	return NULL;
}

static void thread(struct life *l)
{
	pthread_t id;
	int err = pthread_create(&id, NULL, use_on_a_thread, l);

	if (!err)
		pthread_join(id, NULL);
	else if (!l->fault)
		complain(l->out, "a thread does not start: %d", err);
}

static void hold_many(struct life *l)
{
	struct invlock_pin pins[NR_HELD];
	unsigned int nr = 0;

	while (nr < NR_HELD && get(l, 0, nr == PIN_SLOTS ? INVLOCK_GET_BYPASS : 0, &pins[nr]))
		nr++;
	while (nr)
		put(l, &pins[--nr]);
}

static void section(struct life *l)
{
	struct invlock_read rd;
	bool committed = false;

	invlock_read_init(&rd, l->mm, page(l, 30), PAGE, NULL, 0);
	while (!committed && invlock_read_attempt(&rd))
		committed = invlock_read_commit(&rd);
	if (!committed)
		check(l, "section", invlock_read_error(&rd), NULL);
	else if (change(l, 30) && invlock_read_valid(&rd))
		complain(l->out, "a stale section");
	invlock_read_end(&rd);
}

/* Whatever failed before: as long as there are entries, the cache must look for dead ones. */
static void idle(struct life *l)
{
	struct pollfd due = { .fd = invlock_cache_fd(l->cache), .events = POLLIN };
	struct invlock_pin pin;

	if (job_options.reaper)
		return;
	inject_window(false);
	invlock_cache_drop(l->cache, page(l, 0), PAGE);
	if (get(l, 0, 0, &pin)) {
		put(l, &pin);
		if (poll(&due, 1, 60000) != 1)
			complain(l->out, "there are entries, and it is never time to reap");
	}
	inject_window(l->window);
}

static void use_the_cache(struct life *l)
{
	struct invlock_cache_stats stats = { .size = sizeof(stats) };
	struct invlock_mm_info info = { .size = sizeof(info) };

	use(l, 0, 0);
	hold_many(l);
	change(l, 0);
	use(l, 0, 0);
	for (unsigned int nr = 0; nr < 2 * MAX_ENTRIES_FEW; nr++)
		use(l, nr, 0);
	use(l, 1, INVLOCK_GET_BYPASS);
	thread(l);
	section(l);
	change(l, 2);
	check(l, "drop", invlock_cache_drop(l->cache, page(l, 3), 4 * PAGE) < 0, NULL);
	check(l, "reap", invlock_cache_reap(l->cache) < 0, NULL);
	use(l, 2, 0);
	check(l, "stats", invlock_cache_stats(l->cache, &stats), NULL);
	check(l, "info", invlock_mm_info(l->mm, &info), NULL);
	idle(l);
}

static void open_and_use(struct life *l)
{
	struct invlock_mm_options mo = {
		.size = sizeof(mo),
		.flags = job_options.selftest ? 0 : INVLOCK_MM_NO_SELFTEST,
		.monitor = job_options.monitor,
		.need = INVLOCK_BIT(UNMAP),
	};
	struct invlock_cache_options co = {
		.size = sizeof(co),
		.flags = job_options.reaper ? INVLOCK_CACHE_REAPER : INVLOCK_CACHE_NO_REAPER,
		.ops = { device_reg, device_dereg },
		.ctx = l,
		.need = INVLOCK_BIT(UNMAP),
		.max_entries = is_manual() ? NR_PAGES : MAX_ENTRIES_FEW,
		.reap_ms = 10,
		/* Without a fault all must succeed, also where a thread waits long for a CPU. */
		.time_ns = l->fault ? 0 : 60000000000,
	};
	struct invlock_why why;

	if (!check(l, "mm open", invlock_mm_open(&mo, &l->mm, &why), &why))
		return;
	if (check(l, "cache open", invlock_cache_open(l->mm, &co, &l->cache, &why), &why)) {
		inject_window(false);
		for (unsigned int nr = 0; is_manual() && nr < NR_FILLED; nr++)
			use(l, NR_PAGES - 1 - nr, 0);
		inject_window(l->window);
		use_the_cache(l);
		check(l, "cache close", invlock_cache_close(l->cache), NULL);
	}
	invlock_mm_close(l->mm);
}

static void live(const struct fault *fault, struct outcome *out, void (*use_it)(struct life *l))
{
	static struct life life;
	struct life *l = &life;

	*l = (struct life){
		.fault = fault && fault->kind ? fault : NULL,
		.window = fault,
		.out = out,
		.lock = PTHREAD_MUTEX_INITIALIZER,
	};
	l->mem = mmap(NULL, NR_PAGES * PAGE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (l->mem == MAP_FAILED) {
		complain(out, "no memory");
		return;
	}
	use_it(l);
	if (l->nr_live)
		complain(out, "%u registrations are left", l->nr_live);
	munmap(l->mem, NR_PAGES * PAGE);
}

static void use_a_cache(struct life *l)
{
	inject_window(l->window);
	open_and_use(l);
	inject_window(false);
}

void job_cache(const struct fault *f, struct outcome *out)
{
	live(f, out, use_a_cache);
	live(NULL, out, use_a_cache);
}

/* Uses the adapter on a ring of the program: reads of /dev/zero into memory that changes. */
static void read_zeros(struct life *l, struct io_uring *ring, struct invlock_uring *uring, int fd)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	struct io_uring_cqe *cqe;
	struct invlock_uring_op op;
	int way = invlock_uring_prep_read(uring, sqe, fd, page(l, 0), PAGE, 0, &op);
	int res;

	if (way < 0) {
		complain(l->out, "a request is not prepared: %d", way);
		return;
	}
	if (way && !l->fault)
		complain(l->out, "a request goes the way of %s", invlock_uring_way_name(way));
	/* faults in the program's own calls on the ring would prove nothing */
	inject_window(false);
	if (io_uring_submit(ring) != 1 || io_uring_wait_cqe(ring, &cqe)) {
		complain(l->out, "the ring does not work");
		return;
	}
	res = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	if (res != PAGE || *(volatile uint64_t *)page(l, 0))
		complain(l->out, "a read of %d bytes, by way of %s, did not arrive", res,
			 invlock_uring_way_name(way));
	inject_window(l->window);
	if (invlock_uring_done(&op))
		complain(l->out, "a request is not done");
}

static void use_an_adapter(struct life *l)
{
	struct invlock_mm_options mo = { .size = sizeof(mo), .monitor = job_options.monitor };
	struct invlock_uring_options uo = { .size = sizeof(uo), .slots = 4, .min_len = 1 };
	struct invlock_uring *uring;
	struct invlock_why why;
	struct io_uring ring;
	int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || invlock_mm_open(&mo, &l->mm, &why) || io_uring_queue_init(8, &ring, 0)) {
		complain(l->out, "no io_uring");
		return;
	}
	inject_window(l->window);
	if (check(l, "uring open", invlock_uring_open(&ring, l->mm, &uo, &uring, &why), &why)) {
		for (int i = 0; i < 3; i++) {
			read_zeros(l, &ring, uring, fd);
			change(l, 0);
		}
		check(l, "uring close", invlock_uring_close(uring), NULL);
	}
	inject_window(false);
	io_uring_queue_exit(&ring);
	invlock_mm_close(l->mm);
	close(fd);
}

void job_uring(const struct fault *f, struct outcome *out)
{
	live(f, out, use_an_adapter);
	live(NULL, out, use_an_adapter);
}
