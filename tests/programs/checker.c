// SPDX-License-Identifier: MIT
/*
 * A checker, to be preloaded into a program that knows nothing of it:
 *
 *	INVLOCK_CHECKER=DIR LD_PRELOAD=libchecker.so PROGRAM
 *
 * A thread keeps registrations of random pages of the program, pins them as io_uring fixed buffers,
 * and notes their page frames. Again and again it reads the present frames, and then asks the feed.
 * The kernel itself neither moves a pinned page nor gives its frame away, so:
 *
 *	frame		feed		meaning
 *	the same	valid		correct
 *	another, none	not valid	stale, and known to be
 *	another, none	valid		a MISS: the frame was read first, so the change was over
 *	the same	not valid	a change that has begun; if the frames are the same after
 *					100 turns, a false alarm, or a change that leaves pinned
 *					pages where they are (MADV_FREE)
 *
 * The counts are kept in the file DIR/PID, so they are there in whatever way the program ends. More
 * variables of the environment:
 *
 *	INVLOCK_CHECKER_MONITOR	default: "bpf"; "manual", to which nobody reports, sees nothing
 *	INVLOCK_CHECKER_ONLY	the name of the program to check, if a shell starts it
 *	INVLOCK_CHECKER_FORKS	if set, forked children are checked, too
 */
#include <errno.h>
#include <fcntl.h>
#include <invlock/section.h>
#include <liburing.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "checker.h"

#define NR_HELD		256
#define TURN_NS		1000000
#define LIFE		100	/* how many turns a registration is kept, on average */
#define DOUBT		100	/* turns within which a change that has begun takes place */
#define FORK_TURNS	50	/* a child that lives shorter is not checked: most only exec */

/* the content of the file; test_programs.py has the same layout */
struct findings {
	uint64_t opened;
	uint64_t events;
	uint64_t registered;
	uint64_t refused;
	uint64_t checks;
	uint64_t stale;
	uint64_t misses;
	uint64_t false_alarms;
	uint64_t unsettled;
	char why[sizeof(struct invlock_why)];
};

struct held {
	bool used;
	unsigned int doubt;	/* turns left; 0 = no doubt */
	struct held_range range;
	uint64_t frames[MAX_PAGES];
	struct invlock_read rd;
};

static struct findings *report;
static struct invlock_mm *mm;
static struct io_uring ring;
static struct held held[NR_HELD];

static void turn_over(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = TURN_NS }, NULL);
}

static struct findings *map_report(const char *dir)
{
	struct findings *mapped = NULL;
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%d", dir, getpid());
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return NULL;
	if (!ftruncate(fd, sizeof(*report)))
		mapped = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return mapped == MAP_FAILED ? NULL : mapped;
}

static int pin(unsigned int slot, const struct held_range *range)
{
	struct iovec iov = { NULL, 0 };
	int err;

	if (range)
		iov = (struct iovec){ (void *)range->start, range->nr_pages * PAGE };
	err = io_uring_register_buffers_update_tag(&ring, slot, &iov, NULL, 1);
	return err < 0 ? err : 0;
}

static void let_go(struct held *h)
{
	invlock_read_end(&h->rd);
	if (h->used)
		pin((unsigned int)(h - held), NULL);
	h->used = false;
	h->doubt = 0;
}

/* Makes a translation, the pin and the frames, in a read section. */
static void take(struct held *h)
{
	bool ok = false;

	if (!range_pick(&h->range))
		return;
	invlock_read_init(&h->rd, mm, (void *)h->range.start, h->range.nr_pages * PAGE, NULL, 0);
	while (invlock_read_attempt(&h->rd)) {
		h->used = !pin((unsigned int)(h - held), &h->range);
		ok = h->used && frames_read(&h->range, h->frames) == FRAMES_HELD;
		if (!ok || invlock_read_commit(&h->rd))
			break;
		pin((unsigned int)(h - held), NULL);
		h->used = ok = false;
	}
	if (ok) {
		report->registered++;
		return;
	}
	report->refused++;
	let_go(h);
}

static void describe_miss(const struct held *h, const uint64_t *frames)
{
	unsigned int i = 0;

	while (i + 1 < h->range.nr_pages && frames[i] == h->frames[i])
		i++;
	if (!report->misses)
		snprintf(report->why, sizeof(report->why), "page %u of %u at 0x%lx, %s: frame %llx,"
			 " was %llx", i, h->range.nr_pages, h->range.start,
			 h->range.shared ? "shared" : "private", (unsigned long long)frames[i],
			 (unsigned long long)h->frames[i]);
}

static bool same_frames(const struct held *h, const uint64_t *frames)
{
	return !memcmp(frames, h->frames, h->range.nr_pages * sizeof(*frames));
}

/* The translation is no longer valid: did the range change? */
static void settle(struct held *h, bool same)
{
	if (!same) {
		report->stale++;
		let_go(h);
	} else if (!h->doubt) {
		h->doubt = DOUBT;
	} else if (!--h->doubt) {
		report->false_alarms++;
		let_go(h);
	}
}

/* Return: false = the translation is gone, so nothing is left to check */
static bool check(struct held *h)
{
	uint64_t frames[MAX_PAGES];
	enum frames found = frames_read(&h->range, frames);
	bool same = found == FRAMES_HELD && same_frames(h, frames);
	/* Asked after reading the frames: a change that shows in them has been marked by now. */
	bool valid = !h->doubt && invlock_read_valid(&h->rd);

	if (found == FRAMES_UNKNOWN)
		return false;
	if (found == FRAMES_MOVING) {
		report->unsettled++;
		return true;
	}
	report->checks += !h->doubt;
	if (!valid) {
		settle(h, same);
	} else if (!same) {
		describe_miss(h, frames);
		report->misses++;
		let_go(h);
	}
	return true;
}

/* Return: false = the program has closed all descriptors, the monitor's included */
static bool turn(void)
{
	struct invlock_mm_info info = { .size = sizeof(info) };

	for (unsigned int i = 0; i < NR_HELD; i++) {
		if (held[i].used && !check(&held[i]))
			return false;
		if (held[i].used && !held[i].doubt && !pick(LIFE))
			let_go(&held[i]);
		if (!held[i].used)
			take(&held[i]);
	}
	if (!invlock_mm_info(mm, &info))
		report->events = info.sequence;
	return true;
}

static int open_all(void)
{
	const char *monitor = getenv("INVLOCK_CHECKER_MONITOR");
	struct invlock_mm_options options = { .size = sizeof(options),
					      .monitor = monitor ? monitor : "bpf" };
	struct invlock_why why;
	int err = frames_open();

	if (err) {
		snprintf(report->why, sizeof(report->why), "no page frames in /proc/self/pagemap "
			 "(they need CAP_SYS_ADMIN): %s", strerror(-err));
		return err;
	}
	err = io_uring_queue_init(1, &ring, 0);
	if (!err)
		err = io_uring_register_buffers_sparse(&ring, NR_HELD);
	if (err) {
		snprintf(report->why, sizeof(report->why), "no io_uring: %s", strerror(-err));
		return err;
	}
	err = invlock_mm_open(&options, &mm, &why);
	if (err)
		memcpy(report->why, why.text, sizeof(report->why));
	return err;
}

static void *run(void *turns_to_wait)
{
	for (long i = 0; i < (long)turns_to_wait; i++)
		turn_over();
	report = map_report(getenv("INVLOCK_CHECKER"));
	if (!report || open_all())
		return NULL;
	report->opened = 1;
	while (turn())
		turn_over();
	return NULL;
}

/* The checker's thread takes none of the program's signals. */
static void start(long turns_to_wait)
{
	sigset_t all, before;
	pthread_t thread;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	if (!pthread_create(&thread, NULL, run, (void *)turns_to_wait))
		pthread_detach(thread);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* The child's inherited mm knows that it is dead, and the pins belong to the parent's ring. */
static void start_in_child(void)
{
	memset(held, 0, sizeof(held));
	start(FORK_TURNS);
}

__attribute__((constructor)) static void begin(void)
{
	const char *only = getenv("INVLOCK_CHECKER_ONLY");

	if (!getenv("INVLOCK_CHECKER") || (only && strcmp(only, program_invocation_short_name)))
		return;
	if (getenv("INVLOCK_CHECKER_FORKS"))
		pthread_atfork(NULL, NULL, start_in_child);
	start(0);
}
