// SPDX-License-Identifier: MIT
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "log.h"
#include "mm.h"
#include "lib/monitor/monitor.h"
#include "options.h"
#include "lib/selftest/selftest.h"

#define NR_MONITORS 5

const struct monitor *const monitors[NR_MONITORS + 1] = {
	&monitor_kmod,
	&monitor_bpf,
	&monitor_daemon,
	&monitor_uffd,
	&monitor_manual,
	NULL,
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct invlock_mm *opened[NR_MONITORS];	/* mm_lock() */

void mm_lock(void)
{
	pthread_mutex_lock(&lock);
}

bool mm_try_lock(void)
{
	return !pthread_mutex_trylock(&lock);
}

void mm_unlock(void)
{
	pthread_mutex_unlock(&lock);
}

/* A child must not find the lock held by a thread that exists only in the parent. */
__attribute__((constructor)) static void survive_fork(void)
{
	pthread_atfork(mm_lock, mm_unlock, mm_unlock);
}

void *map_wiped_on_fork(size_t bytes)
{
	void *mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		return NULL;
	if (madvise(mem, bytes, MADV_WIPEONFORK)) {
		munmap(mem, bytes);
		return NULL;
	}
	return mem;
}

const char *monitor_in_environment(void)
{
	const char *name = secure_getenv("INVLOCK_MONITOR");

	return name && *name ? name : NULL;
}

const char *monitor_advice(const struct monitor *monitor, u64 missing)
{
	return missing & ~(INVLOCK_KINDS_DEFAULT & ~monitor->ready) ? NULL : monitor->advice;
}

int mm_sees(const struct monitor *monitor, u64 seen, u64 need, struct invlock_why *why)
{
	u64 covered = seen | monitor->refused;
	u64 missing = monitor->sees_what_it_is_told ? 0 : need & ~covered;
	const char *advice = monitor_advice(monitor, missing);
	char names[KIND_NAMES];

	if (!missing)
		return 0;
	name_kinds(names, missing);
	return explain(why, -EOPNOTSUPP, "monitor %s does not see these kinds of change: %s; %s",
		       monitor->name, names, advice ? advice :
		       "name another monitor, or need fewer kinds if they cannot happen");
}

bool monitor_can_be_chosen(const struct monitor *monitor, u64 seen, u64 exact, u64 need)
{
	return !monitor->sees_what_it_is_told && !(need & ~(seen | monitor->refused)) &&
	       !(need & monitor->exact & ~exact);
}

int mm_is_exact(const struct invlock_mm *mm, u64 need, struct invlock_why *why)
{
	struct invlock_why how = { "" };

	if (!(need & mm->monitor->exact & ~mm->exact))
		return 0;
	if (mm->monitor->describe)
		mm->monitor->describe(mm, &how);
	return explain(why, -EOPNOTSUPP, "monitor %s can miss changes here: %s; name another "
		       "monitor", mm->monitor->name, how.text);
}

int mm_create(const struct monitor *monitor, unsigned int flags, struct invlock_mm **ret_mm,
	      struct invlock_why *why)
{
	static u64 nr_created;
	struct invlock_mm *mm = calloc(1, sizeof(*mm));
	int err;

	if (!mm)
		return explain(why, -ENOMEM, "out of memory");
	mm->number = port_fetch_add(&nr_created, 1) + 1;
	mm->monitor = monitor;
	mm->seen = monitor->seen;
	mm->exact = monitor->exact;
	mm->users = 1;
	mm->alive = map_wiped_on_fork(sizeof(*mm->alive));
	if (!mm->alive) {
		err = explain(why, -ENOMEM, "cannot map a page that is wiped on fork: %s",
			      strerror(errno));
		goto free_mm;
	}
	err = monitor->open(mm, why);
	if (err)
		goto unmap_alive;
	port_store(mm->alive, 1);
	if (!(flags & INVLOCK_MM_NO_SELFTEST) && !monitor->sees_what_it_is_told) {
		err = selftest(mm, why);
		if (err)
			goto close_monitor;
	}
	*ret_mm = mm;
	return 0;

close_monitor:
	monitor->close(mm, true);
unmap_alive:
	munmap(mm->alive, sizeof(*mm->alive));
free_mm:
	free(mm);
	return err;
}

/* one user less. Locks: mm_lock() */
static void close_locked(struct invlock_mm *mm)
{
	bool mine = mm_alive(mm);

	if (--mm->users)
		return;
	for (unsigned int i = 0; i < NR_MONITORS; i++)
		if (opened[i] == mm)
			opened[i] = NULL;
	port_store(mm->alive, 0);
	mm->monitor->close(mm, mine);
	munmap(mm->alive, sizeof(*mm->alive));
	free(mm);
}

/* Locks: mm_lock() */
static int open_one(unsigned int nr, const struct invlock_mm_options *options,
		    struct invlock_mm **ret_mm, struct invlock_why *why)
{
	const struct monitor *monitor = monitors[nr];
	int err = mm_sees(monitor, monitor->seen | monitor->perhaps, options->need, why);
	struct invlock_mm *mm;

	if (err)
		return err;
	/* A forked child gets a new mm. Those who hold the one that it inherited close that. */
	if (!opened[nr] || !mm_alive(opened[nr])) {
		err = mm_create(monitor, options->flags, &mm, why);
		if (err)
			return err;
		opened[nr] = mm;
	} else {
		mm = opened[nr];
		mm->users++;
	}
	err = mm_sees(monitor, mm->seen, options->need, why);
	if (err)
		close_locked(mm);
	else
		*ret_mm = mm;
	return err;
}

static int open_named(const struct invlock_mm_options *options, struct invlock_mm **ret_mm,
		      struct invlock_why *why)
{
	for (unsigned int i = 0; monitors[i]; i++)
		if (!strcmp(monitors[i]->name, options->monitor))
			return open_one(i, options, ret_mm, why);
	return explain(why, -EINVAL, "there is no monitor named \"%.100s\"; "
		       "see `invlock doctor` for those there are", options->monitor);
}

/* A monitor that may miss changes is chosen only by its name: else close it. Locks: mm_lock() */
static int close_unless_chosen(struct invlock_mm *mm, u64 need, struct invlock_why *why)
{
	int err;

	if (monitor_can_be_chosen(mm->monitor, mm->seen, mm->exact, need))
		return 0;
	/* open_one() has checked all the rest */
	err = mm_is_exact(mm, need, why);
	close_locked(mm);
	return err;
}

/* @only: the monitor to choose; NULL = any but those that see what they are told */
static int open_first(const struct invlock_mm_options *options, const char *only,
		      struct invlock_mm **ret_mm, struct invlock_why *why)
{
	struct invlock_why one;
	const char *between = "";
	int err = -EINVAL;

	if (only)
		explain(why, 0, "INVLOCK_MONITOR=%.100s leaves no other monitor to choose; ", only);
	for (unsigned int i = 0; monitors[i]; i++) {
		if (monitors[i]->sees_what_it_is_told || (only && strcmp(monitors[i]->name, only)))
			continue;
		one.text[0] = '\0';
		err = open_one(i, options, ret_mm, &one);
		if (!err)
			err = close_unless_chosen(*ret_mm, options->need, &one);
		if (!err)
			return 0;
		explain_more(why, "%s%s: %s", between, monitors[i]->name, one.text);
		between = "; ";
	}
	if (!*between)
		explain_more(why, "it can be kmod, bpf, daemon or uffd%s",
			     strcmp(only, "manual") ? "" :
			     ": only a program that reports its changes may name manual");
	return err;
}

/* @choice: the sentences of the monitors that were passed over; empty if there were none */
static void tell_opened(const struct invlock_mm *mm, const char *choice)
{
	size_t len = strlen(choice);
	struct invlock_why how = { "" };

	if (!log_is_set())
		return;
	if (mm->monitor->describe)
		mm->monitor->describe(mm, &how);
	/* a list of which no item came */
	if (len > 2 && !strcmp(choice + len - 2, "; "))
		len -= 2;
	log_event(INVLOCK_LOG_OPENED, "monitor %s is open%s%s%s%.*s%s", mm->monitor->name,
		  how.text[0] ? ": " : "", how.text, len ? " (why this one: " : "", (int)len,
		  choice, len ? ")" : "");
}

void mm_tell_if_closed(struct invlock_mm *mm)
{
	u64 flags = port_load(&mm->il.feed->flags);
	struct invlock_why how = { "" };

	if (likely(!(flags & (INVLOCK_FEED_DEAD | INVLOCK_FEED_DEGRADED))) || !log_is_set() ||
	    !mm_alive(mm) || port_cmpxchg(&mm->told_closed, 0u, 1u))
		return;
	if (mm->monitor->describe)
		mm->monitor->describe(mm, &how);
	log_event(INVLOCK_LOG_CLOSED, "the feed of monitor %s is closed, so that nothing is valid "
		  "any more until the program opens the mm anew%s%s", mm->monitor->name,
		  how.text[0] ? ": " : "", how.text);
}

int invlock_mm_open(const struct invlock_mm_options *options, struct invlock_mm **ret_mm,
		    struct invlock_why *why)
{
	struct invlock_mm_options o = { .size = sizeof(o) };
	struct invlock_why nobodys = { "" };
	int err = 0, old_state;

	/* what was passed over is logged, also if the caller does not want to know */
	why = why ?: &nobodys;
	why->text[0] = '\0';
	if (!ret_mm)
		return explain(why, -EINVAL, "no place for the result: ret_mm is NULL");
	if (options)
		err = options_in("invlock_mm_options", &o, sizeof(o), sizeof(o), options, why);
	if (err)
		return err;
	if (o.flags & ~INVLOCK_MM_NO_SELFTEST)
		return explain(why, -EINVAL, "unknown flags 0x%x in the options", o.flags);
	if (!o.need)
		o.need = INVLOCK_KINDS_DEFAULT;
	/* This thread must not be cancelled while it holds the lock and opens a monitor. */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old_state);
	mm_lock();
	err = o.monitor ? open_named(&o, ret_mm, why) :
			  open_first(&o, monitor_in_environment(), ret_mm, why);
	mm_unlock();
	pthread_setcancelstate(old_state, NULL);
	if (!err) {
		tell_opened(*ret_mm, o.monitor ? "" : why->text);
		why->text[0] = '\0';
	}
	return err;
}

void mm_hold(struct invlock_mm *mm)
{
	mm_lock();
	mm->users++;
	mm_unlock();
}

void invlock_mm_close(struct invlock_mm *mm)
{
	int old_state;

	if (!mm)
		return;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old_state);
	mm_lock();
	close_locked(mm);
	mm_unlock();
	pthread_setcancelstate(old_state, NULL);
}

bool invlock_mm_alive(const struct invlock_mm *mm)
{
	return mm && mm_alive(mm);
}

int invlock_mm_info(const struct invlock_mm *mm, struct invlock_mm_info *ret_info)
{
	struct invlock_mm_info info;
	struct invlock_feed *feed;

	if (!mm || !ret_info)
		return -EINVAL;
	if (!mm_alive(mm))
		return -EOWNERDEAD;
	mm_note_missed(mm);
	mm_tell_if_closed((struct invlock_mm *)mm);
	feed = mm->il.feed;
	info = (struct invlock_mm_info){
		.monitor = mm->monitor->name,
		.seen = mm->seen,
		.exact = mm->exact,
		.sequence = port_load_acquire(&feed->sequence),
		.lost = port_load(&feed->lost),
		.dropped = port_load(&feed->dropped),
		.missed = port_load(&feed->missed),
		.feed = feed,
		.feed_size = mm->feed_bytes,
		.refused = mm->monitor->refused & ~mm->seen,
		.caught = mm->monitor->nr_caught ? mm->monitor->nr_caught(mm) : 0,
	};
	return options_out(ret_info, sizeof(info), &info, sizeof(info));
}

bool mm_has_to_watch(const struct invlock_mm *mm)
{
	return mm->monitor->look || mm->monitor->watch;
}

int mm_watch(struct invlock_mm *mm, u64 start, u64 end, struct look *ret_look)
{
	const struct monitor *monitor = mm->monitor;
	int mapped = 0;

	ret_look->mapped = MAPPED_GOOD;
	if (monitor->look)
		mapped = monitor->look(mm, start, end, ret_look);
	if (mapped)
		return mapped < 0 ? mapped : look_error(mapped);
	return monitor->watch ? monitor->watch(mm, start, end) : 0;
}

int invlock_mm_explain(struct invlock_mm *mm, const void *addr, size_t len,
		       struct invlock_why *why)
{
	u64 start = (unsigned long)addr, end = start + len;
	struct look look;
	int err, old_state;

	if (why)
		why->text[0] = '\0';
	if (!mm || !user_range_ok(start, end))
		return explain(why, -EINVAL, !mm ? "mm is NULL" :
			       "the range is empty, wraps, or begins at NULL");
	if (!mm_alive(mm))
		return explain(why, -EOWNERDEAD, "this mm is the parent's: open another one in "
			       "the forked child");
	/* not cancelled with a descriptor open */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old_state);
	err = mm_watch(mm, start, end, &look);
	if (!err)
		mm_unwatch(mm, start, end);
	else if (look.mapped != MAPPED_GOOD)
		look_explain(&look, mm->monitor->name, why);
	else if (err == -EMEDIUMTYPE)
		explain(why, err, "monitor %s cannot watch this range: the kernel refuses it, as "
			"it does where another userfaultfd of the program watches the memory",
			mm->monitor->name);
	else
		explain(why, err, "monitor %s cannot watch this range: %s", mm->monitor->name,
			strerror(-err));
	pthread_setcancelstate(old_state, NULL);
	return err;
}

void mm_unwatch(struct invlock_mm *mm, u64 start, u64 end)
{
	if (mm->monitor->unwatch)
		mm->monitor->unwatch(mm, start, end);
}

void mm_release(struct invlock_mm *mm, u64 start, u64 end)
{
	if (mm->monitor->release)
		mm->monitor->release(mm, start, end);
}

void mm_note_missed(const struct invlock_mm *mm)
{
	int old_state;

	if (!mm->monitor->note_missed)
		return;
	/* not cancelled with a descriptor open */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old_state);
	/* an error changes nothing, and there is no caller to tell */
	mm->monitor->note_missed(mm);
	pthread_setcancelstate(old_state, NULL);
}
