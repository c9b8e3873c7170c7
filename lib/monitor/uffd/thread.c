// SPDX-License-Identifier: MIT
/*
 * The thread that reads the kernel's events and writes the feed.
 *
 * A thread that changes watched memory sleeps until its event is read, whatever locks it holds. So
 * this thread allocates nothing, takes no lock, and waits for nothing but events. Every function it
 * calls was called once before it started, so that the dynamic linker has no work left to do here.
 *
 * What the kernel does			what we do
 *	counts the change as begun
 *	makes it			(UNMAP, REMAP; a REMOVE is made at the very end)
 *	queues the event		wake up
 *					reading = 1
 *	lets the caller go	   <-	read()
 *	counts the change as done	words, sequence, ring
 *	returns				reading = 0
 *
 * A reader trusts the words when the kernel counts no change and then reading is 0, in this
 * order (settle() in uffd.c). The caller's own lookup after its call returned finds
 * reading or the words moved; another thread that learns of the change before that finds it
 * counted. So every kind whose event comes after the change was made is exact.
 *
 * A REMOVE (MADV_DONTNEED, _FREE, _REMOVE) is counted as done before it is made. Its range is
 * kept in quarantine, an invalidation that goes on: until no change is counted, so that the
 * caller has left its sleep; a moment more, for the few instructions to the kernel's map lock;
 * and until that lock could be taken for writing. A caller that is preempted in that moment
 * escapes. That is why these are not exact.
 */
#include <errno.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/invalidate.h"
#include "uffd.h"

#define GRACE_NS	50000
#define LOOK_UP_S	1
#define NR_MESSAGES	16

enum uffd_probe uffd_probe(const struct uffd *u)
{
	/* The range is empty: the kernel says EAGAIN if it counts a change, and EINVAL if not. */
	struct uffdio_writeprotect nothing = {};

	/* twice: "gone" has consequences that cannot be undone, and a call may fail by accident */
	for (int tries = 0; tries < 2; tries++) {
		enum uffd_probe probe = UFFD_CALM;

		if (ioctl(u->uffd.fd, UFFDIO_WRITEPROTECT, &nothing) && errno != EINVAL) {
			if (errno != EAGAIN)
				continue;
			probe = UFFD_CHANGING;
		}
		/* it is ours now, so it was ours when it answered */
		if (u->uffd.fd >= OWN_FD_HIGH || own_fd_is(&u->uffd))
			return probe;
		break;
	}
	return UFFD_GONE;
}

static void mark(const struct uffd *u, u64 start, u64 end, u32 kind)
{
	invlock_inv_start(&u->il, start, end, kind, 0, port_now());
	invlock_inv_end(&u->il, start, end);
}

static void quarantine(struct uffd *u, u64 start, u64 end)
{
	struct uffd_thread *t = u->thread;
	struct quarantined *q = &t->quarantine[0], old = *q;

	if (t->nr_quarantined < UFFD_QUARANTINE) {
		q = &t->quarantine[t->nr_quarantined];
		port_store(&t->nr_quarantined, t->nr_quarantined + 1);
		*q = (struct quarantined){ start, end, 0 };
		invlock_inv_start(&u->il, start, end, INVLOCK_KIND_DISCARD, 0, port_now());
		return;
	}
	/* Full: let one entry cover two. Room comes only from reading on, so do not wait for it. */
	*q = (struct quarantined){
		.start = start < old.start ? start : old.start,
		.end = end > old.end ? end : old.end,
	};
	invlock_inv_start(&u->il, q->start, q->end, INVLOCK_KIND_DISCARD, 0, port_now());
	invlock_inv_end(&u->il, old.start, old.end);
}

/* Release those whose callers have, as far as we can tell, made their change. */
static void release_quarantined(struct uffd *u)
{
	struct uffd_thread *t = u->thread;
	bool calm, locked = false;
	u64 now;

	if (!t->nr_quarantined)
		return;
	calm = uffd_probe(u) != UFFD_CHANGING;
	now = port_now();
	for (u32 i = t->nr_quarantined; i-- > 0; ) {
		struct quarantined *q = &t->quarantine[i];

		if (!q->calm) {
			q->calm = calm ? now : 0;
			continue;
		}
		if (now - q->calm < GRACE_NS)
			continue;
		/* waits until the change, which holds the map's lock for reading, is made */
		if (!locked)
			mprotect(u->stack, u->page, PROT_READ | PROT_WRITE);
		locked = true;
		invlock_inv_end(&u->il, q->start, q->end);
		*q = t->quarantine[t->nr_quarantined - 1];
		port_store(&t->nr_quarantined, t->nr_quarantined - 1);
	}
}

static void feed_message(struct uffd *u, const struct uffd_msg *m)
{
	switch (m->event) {
	case UFFD_EVENT_UNMAP:
		mark(u, m->arg.remove.start, m->arg.remove.end, INVLOCK_KIND_UNMAP);
		break;
	case UFFD_EVENT_REMOVE:
		quarantine(u, m->arg.remove.start, m->arg.remove.end);
		break;
	case UFFD_EVENT_REMAP:
		mark(u, m->arg.remap.from, m->arg.remap.from + m->arg.remap.len,
		     INVLOCK_KIND_REMAP_FROM);
		mark(u, m->arg.remap.to, m->arg.remap.to + m->arg.remap.len,
		     INVLOCK_KIND_REMAP_TO);
		break;
	default:
		/* We did not ask for this event: it may announce a change that is yet to come. */
		invlock_close_feed(&u->il, INVLOCK_FEED_DEGRADED);
	}
}

static void take_events(struct uffd *u)
{
	struct uffd_msg messages[NR_MESSAGES];
	ssize_t nr;

	/* This is a full barrier. It pairs with the load in settle() through the kernel's locks. */
	port_fetch_add(&u->thread->reading, 1);
	nr = read(u->uffd.fd, messages, sizeof(messages)) / (ssize_t)sizeof(messages[0]);
	for (ssize_t i = 0; i < nr; i++)
		feed_message(u, &messages[i]);
	port_fetch_add(&u->thread->reading, -1u);
}

/*
 * While we sleep in poll, the kernel keeps the userfaultfd alive even if the program has closed its
 * descriptor, and threads that change watched memory wait for us. The file that has the number now
 * may never wake us, so we wake up by ourselves from time to time. Then we find that the descriptor
 * is gone, close the feed, and end, which lets those threads go.
 */
bool uffd_turn(struct uffd *u, bool wait)
{
	struct pollfd fds[2] = {
		{ .fd = u->uffd.fd, .events = POLLIN },
		/* If another file has the ear's number now, that file might never let us sleep. */
		{ .fd = own_fd_is(&u->ear) ? u->ear.fd : -1, .events = POLLIN },
	};
	enum uffd_probe probe = UFFD_GONE;
	struct timespec nap = {};

	if (wait && u->thread->nr_quarantined)
		nap.tv_nsec = GRACE_NS;
	else if (wait)
		nap.tv_sec = LOOK_UP_S;
	if (ppoll(fds, 2, &nap, NULL) < 0)
		return true;
	if (own_fd_is(&u->uffd))
		probe = uffd_probe(u);
	/* if a change is counted, there is an event to read, unless its caller was killed */
	switch (probe) {
	case UFFD_CHANGING:
		take_events(u);
		break;
	case UFFD_GONE:
		/* read nothing: it may be another file now */
		invlock_close_feed(&u->il, INVLOCK_FEED_DEGRADED);
		return false;
	case UFFD_CALM:
		break;
	}
	release_quarantined(u);
	return !port_load_acquire(&u->stop);
}
