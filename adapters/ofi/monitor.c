// SPDX-License-Identifier: MIT
/* What libfabric asks at each use of a cached registration, and the reaper. */
#include "monitor.h"

#include <errno.h>
#include <pthread.h>
#include <rdma/fi_errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "quiet.h"
#include "records.h"

#define REAP_NS		50000000
#define DOOMED		64	/* ranges that the reaper has dropped at once */
#define SAMPLES		8	/* that a thread keeps for its next registrations */
#define SAMPLE_NS	10000000

static struct invlock_mm *mm;		/* constant while libfabric uses the monitor */
static unsigned int opening;		/* how often the mm was opened */
static bool unsubscribes;		/* constant: libfabric tells what it drops, since 2.1 */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;	/* guards the rest */
static pthread_cond_t wake;		/* waits by CLOCK_MONOTONIC */
static struct records records;
static pthread_t reaper;
static bool reaping;
static struct {
	unsigned long hits, stale, first, unknown, subscribed, sampled, notified;
} count;

/* A sample that this thread took when a lookup of the range was refused. */
struct fi_sample {
	bool taken;
	unsigned int opening;	/* of the mm; a sample of an earlier one is nothing */
	uintptr_t addr;
	size_t len;
	struct invlock_read read;
};

static __thread struct fi_sample samples[SAMPLES];
static __thread unsigned int next_sample;

/* The last subscribe() of this thread: what it registers next is later than this moment. */
static __thread struct {
	unsigned int opening;	/* of the mm; 0 = there was none */
	unsigned long nr;	/* that subscribe() was the nr-th of the process */
	uintptr_t addr;
	size_t len;
	struct invlock_moment moment;
} last_subscribe;

/*
 * A forked child has no mm and no reaper, and finds the lock as the reaper held it. libfabric goes
 * on there without a cache, until it has stopped the monitor and started it again.
 */
static bool is_child(void)
{
	return !invlock_mm_alive(mm);
}

static bool is_taken(const struct fi_sample *s)
{
	return s->taken && s->opening == opening;
}

static bool sample_range(struct invlock_read *read, const void *addr, size_t len)
{
	struct invlock_read_budget budget = { .rounds = 1, .time_ns = SAMPLE_NS };

	invlock_read_init(read, mm, addr, len, &budget, 0);
	if (invlock_read_attempt(read) && invlock_read_commit(read))
		return true;
	invlock_read_end(read);
	return false;
}

static void take_sample(const void *addr, size_t len)
{
	struct fi_sample *s = NULL;

	for (int i = 0; i < SAMPLES && !s; i++)
		if (is_taken(&samples[i]) && samples[i].addr == (uintptr_t)addr &&
		    samples[i].len == len)
			s = &samples[i];
	if (!s)
		s = &samples[next_sample++ % SAMPLES];
	if (is_taken(s))
		invlock_read_end(&s->read);
	s->opening = opening;
	s->addr = (uintptr_t)addr;
	s->len = len;
	s->taken = sample_range(&s->read, addr, len);
}

/* Gives the record a sample that is older than the registration, if this thread has one. */
static bool use_sample(struct fi_record *r)
{
	for (int i = 0; i < SAMPLES; i++) {
		struct fi_sample *s = &samples[i];

		if (!is_taken(s) || s->addr > r->addr || r->addr + r->len > s->addr + s->len ||
		    !invlock_read_valid(&s->read))
			continue;
		r->read = s->read;	/* moved, not copied: it is ended once */
		s->taken = false;
		return true;
	}
	return false;
}

/*
 * Is the last subscribe() surely before the registration? A provider's cache may register by way of
 * another cache, which then subscribes in the middle of the registration. But both subscribe to the
 * same memory.
 */
static bool last_subscribe_is_before(const struct fi_record *r)
{
	return last_subscribe.opening == opening &&
	       (last_subscribe.addr >= r->addr + r->len ||
		r->addr >= last_subscribe.addr + last_subscribe.len);
}

/* Has nothing changed there since a moment that is surely before the registration? */
static bool use_last_subscribe(struct fi_record *r)
{
	if (!last_subscribe_is_before(r))
		return false;
	invlock_read_init(&r->read, mm, (void *)r->addr, r->len, NULL, 0);
	if (invlock_read_commit_since(&r->read, &last_subscribe.moment))
		return true;
	invlock_read_end(&r->read);
	return false;
}

/*
 * The record is not new. Was it there before the registration that is subscribed to now? libfabric
 * registers without its lock, so another thread may have made the record meanwhile.
 */
static bool is_older(const struct fi_record *r)
{
	bool same = last_subscribe.opening == opening && last_subscribe.addr == r->addr &&
		    last_subscribe.len == r->len;

	return (same || last_subscribe_is_before(r)) && r->born <= last_subscribe.nr;
}

/* Is the registration as good as the record says? */
static bool may_join(const struct fi_record *r)
{
	struct fi_record alone = { .addr = r->addr, .len = r->len };

	if (is_older(r))
		return true;
	if (!use_sample(&alone) && !use_last_subscribe(&alone))
		return false;
	invlock_read_end(&alone.read);
	return true;
}

static void note_subscribe(const void *addr, size_t len)
{
	last_subscribe.opening = opening;
	last_subscribe.nr = count.subscribed;
	last_subscribe.addr = (uintptr_t)addr;
	last_subscribe.len = len;
	invlock_moment_take(&last_subscribe.moment, mm);
}

static int subscribe(__attribute__((unused)) struct fid_mem_monitor *monitor, const void *addr,
		     size_t len)
{
	struct fi_record *r;

	if (is_child())
		return -FI_ENOSYS;
	pthread_mutex_lock(&lock);
	quiet_forget();
	records_remove_emptied(&records);
	count.subscribed++;
	r = records_find(&records, addr, len);
	if (!r) {
		r = records_add(&records, addr, len);
		if (!r) {
			pthread_mutex_unlock(&lock);
			return -FI_ENOMEM;
		}
		r->born = count.subscribed;
		r->known = use_sample(r) || use_last_subscribe(r);
		/* too late to trust the range, but early enough to tell later that it is stale */
		r->sampled = r->known || sample_range(&r->read, addr, len);
		count.sampled += r->known;
	} else if (r->known && !may_join(r)) {
		r->known = false;
	}
	r->nr++;
	r->nr_since++;
	if (records.nr > RECORDS_MAX)
		pthread_cond_signal(&wake);
	note_subscribe(addr, len);
	pthread_mutex_unlock(&lock);
	return 0;
}

/* Locks: held */
static void drop_locked(struct fi_record *r)
{
	if (r && r->nr && !--r->nr)
		records_remove(&records, r);
}

static void unsubscribe(__attribute__((unused)) struct fid_mem_monitor *monitor, const void *addr,
			size_t len)
{
	if (is_child())
		return;
	pthread_mutex_lock(&lock);
	drop_locked(records_find(&records, addr, len));
	pthread_mutex_unlock(&lock);
}

/* libfabric drops the one registration that it asked for. Locks: held */
static void refuse_locked(struct fi_record *r)
{
	if (!r) {
		count.unknown++;
		return;
	}
	if (r->known)
		count.stale++;
	else
		count.first++;
	if (r->nr > 1) {
		/* the others may be as old, and it would not say whether it asks for them */
		record_doom(r);
		pthread_cond_signal(&wake);
	}
	if (!unsubscribes)
		drop_locked(r);
}

__attribute__((noinline))
static bool refuse(struct fi_record *r, const void *addr, size_t len)
{
	if (is_child())
		return false;
	pthread_mutex_lock(&lock);
	quiet_forget();
	refuse_locked(r);
	pthread_mutex_unlock(&lock);
	take_sample(addr, len);
	return false;
}

static bool valid(__attribute__((unused)) struct fid_mem_monitor *monitor, const void *addr,
		  size_t len)
{
	struct fi_record *r;

	if (is_quiet()) {
		count.hits++;
		return true;
	}
	r = records_find(&records, addr, len);
	if (!r)
		return refuse(NULL, addr, len);
	/* the record's own range, so that a hit need not keep addr and len over a call */
	if (!record_is_good(r))
		return refuse(r, (void *)r->addr, r->len);
	count.hits++;
	return true;
}

/* Makes all caches drop the ranges, without a lock. */
static void drop_everywhere(const struct fi_range *doomed, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++)
		ofi_monitor.import_ops->notify(&ofi_monitor, (void *)doomed[i].addr,
					       doomed[i].len);
	pthread_mutex_lock(&lock);
	count.notified += nr;
	for (unsigned int i = 0; i < nr; i++) {
		struct fi_record *r = records_find(&records, (void *)doomed[i].addr, doomed[i].len);

		/*
		 * A registration that came since may have come before notify() or after it. Its
		 * record must stay, and refuse: a new record would vouch for it.
		 */
		if (!r || !r->nr || !r->doomed || unsubscribes)
			continue;
		r->nr = r->nr_since;
		if (!r->nr)
			records_empty(&records, r);
	}
	pthread_mutex_unlock(&lock);
}

/* Locks: held */
static void look_for_quiet(void)
{
	uint64_t number = quiet_begin(mm);

	if (number && records_are_good(&records))
		quiet_end(number);
}

/* Registrations that nobody asks for again would stay pinned for ever. */
static void *reap(__attribute__((unused)) void *arg)
{
	static struct fi_range doomed[DOOMED];
	struct timespec until;
	unsigned int nr;

	pthread_mutex_lock(&lock);
	while (reaping) {
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += REAP_NS;
		if (until.tv_nsec >= 1000000000) {
			until.tv_nsec -= 1000000000;
			until.tv_sec++;
		}
		pthread_cond_timedwait(&wake, &lock, &until);
		nr = reaping ? records_doom(&records, doomed, DOOMED) : 0;
		if (nr)
			quiet_forget();
		else if (!is_quiet())
			look_for_quiet();
		pthread_mutex_unlock(&lock);
		drop_everywhere(doomed, nr);
		pthread_mutex_lock(&lock);
	}
	pthread_mutex_unlock(&lock);
	return NULL;
}

/* The program's signals are not for this thread. */
static int start_reaper(void)
{
	pthread_condattr_t monotonic;
	sigset_t all, old;
	int err;

	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&wake, &monotonic);
	sigfillset(&all);
	reaping = true;
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(&reaper, NULL, reap, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	/* there is no thread that reads it */
	if (err)
		reaping = false;
	return err;
}

static int open_mm(void)
{
	struct invlock_mm_options options = {
		.size = sizeof(options), .need = INVLOCK_KINDS_DEFAULT,
	};
	static bool said;
	struct invlock_why why;
	int err;

	unsubscribes = FI_VERSION_GE(fi_version(), FI_VERSION(2, 1));
	err = invlock_mm_open(&options, &mm, &why);
	if (!err)
		quiet_open(mm);
	if (!err && start_reaper()) {
		quiet_close();
		invlock_mm_close(mm);
		err = -EAGAIN;
		snprintf(why.text, sizeof(why.text), "cannot start a thread");
	}
	opening++;
	if (!err)
		return 0;
	mm = NULL;
	if (!said)
		fprintf(stderr, "invlock: libfabric registers memory for each use, without a "
			"cache: %s\n", why.text);
	said = true;
	return -FI_ENOSYS;
}

/*
 * An error lets libfabric go on without a cache. A thread that is cancelled in here, or in stop(),
 * would keep libfabric's lock.
 */
static int start(__attribute__((unused)) struct fid_mem_monitor *monitor)
{
	int err, old_state;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old_state);
	err = open_mm();
	pthread_setcancelstate(old_state, NULL);
	return err;
}

static void print_counts(void)
{
	unsigned long lookups = count.hits + count.stale + count.first + count.unknown;

	if (getenv("INVLOCK_STATS") && !is_child())
		fprintf(stderr, "invlock: libfabric, process %d: %lu lookups, %lu hits, %lu stale, "
			"%lu first, %lu unknown; %lu registrations, %lu sampled before; %lu "
			"dropped while idle\n", getpid(), lookups, count.hits, count.stale,
			count.first, count.unknown, count.subscribed, count.sampled,
			count.notified);
}

static void stop_reaper(void)
{
	pthread_mutex_lock(&lock);
	reaping = false;
	pthread_cond_signal(&wake);
	pthread_mutex_unlock(&lock);
	pthread_join(reaper, NULL);
}

static void stop(__attribute__((unused)) struct fid_mem_monitor *monitor)
{
	int old_state;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old_state);
	if (is_child())
		pthread_mutex_init(&lock, NULL);
	else
		stop_reaper();
	print_counts();
	records.emptied = NULL;
	for (size_t i = 0; i < RECORDS_BUCKETS; i++)
		while (records.table[i])
			records_remove(&records, records.table[i]);
	quiet_close();
	invlock_mm_close(mm);
	mm = NULL;
	pthread_setcancelstate(old_state, NULL);
}

/* A program that ends without closing anything is counted, too. */
__attribute__((destructor)) static void at_exit(void)
{
	if (mm)
		print_counts();
}

static struct fi_ops_mem_monitor operations = {
	.size = sizeof(operations),
	.start = start,
	.stop = stop,
	.subscribe = subscribe,
	.unsubscribe = unsubscribe,
	.valid = valid,
};

struct fid_mem_monitor ofi_monitor = {
	.fid.fclass = FI_CLASS_MEM_MONITOR,
	.export_ops = &operations,
};
