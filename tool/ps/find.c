// SPDX-License-Identifier: MIT
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <invlock/feed.h>

#include "lib/explain.h"
#include "lib/monitor/bpf/client.h"
#include "ps.h"

void ps_note(struct ps_report *r, const char *format, ...)
{
	va_list args;

	if (r->nr_notes == MAX_NOTES)
		return;
	va_start(args, format);
	vsnprintf(r->notes[r->nr_notes].text, sizeof(r->notes[0].text), format, args);
	va_end(args);
	r->nr_notes++;
}

struct ps_feed *ps_add(struct ps_report *r, const char *monitor)
{
	struct ps_feed *more;

	if (r->nr_feeds == r->room) {
		more = realloc(r->feeds, (2 * r->room + 16) * sizeof(*more));
		if (!more)
			return NULL;
		r->feeds = more;
		r->room = 2 * r->room + 16;
	}
	r->feeds[r->nr_feeds] = (struct ps_feed){ .monitor = monitor, .process.uid = -1 };
	return &r->feeds[r->nr_feeds++];
}

const char *ps_state(const struct ps_feed *f, const char **ret_reason)
{
	const struct feed_view *v = &f->view;

	*ret_reason = NULL;
	if (f->reserved)
		return "reserved";
	if (!f->looked) {
		*ret_reason = !strcmp(f->monitor, "uffd") ? "its process alone has its feed" :
			      !strcmp(f->monitor, "kmod") ? "the module shows the feed to its "
							    "process alone" : NULL;
		return "unknown";
	}
	if (v->closed || v->flags & (INVLOCK_FEED_DEAD | INVLOCK_FEED_DEGRADED)) {
		*ret_reason = feed_closed_reason(v->closed);
		return "closed";
	}
	if (!v->since)
		return "opening";
	if (v->blind) {
		*ret_reason = "on some CPU changes may go unseen at this moment, so readers wait";
		return "blind";
	}
	if (v->doubtful) {
		*ret_reason = "something is being removed that nothing marks, so everything is "
			      "stale until it is over";
		return "doubtful";
	}
	return "open";
}

static void set_view(struct ps_feed *f, const struct feed_view *v)
{
	struct ps_process *p = &f->process;

	f->looked = true;
	f->view = *v;
	f->age = v->since ? port_now() - v->since : 0;
	/* A process that was started after its feed was opened has only the same number. */
	if (f->age && p->started && p->started > ps_boot_time() - f->age)
		*p = (struct ps_process){ .pid = p->pid, .uid = -1 };
}

static int add_seat(struct ps_report *r, const struct set_view *set, const struct seat_view *seat)
{
	bool reserved = seat->state == BPF_SEAT_RESERVED;
	bool by_daemon = reserved || seat->feed.by_daemon;
	struct ps_feed *f = ps_add(r, seat->err && !reserved ? "bpf or daemon" :
				      by_daemon ? "daemon" : "bpf");

	if (!f)
		return -ENOMEM;
	f->set = set->id;
	f->reserved = reserved;
	f->process.pid = (pid_t)seat->tgid;
	/* Until the client takes its seat, it is the daemon's. */
	if (ps_pids_are_the_kernels())
		ps_look_at_process(&f->process, (pid_t)seat->tgid);
	if (!seat->err && !reserved)
		set_view(f, &seat->feed);
	return 0;
}

static int add_sets(struct ps_report *r)
{
	unsigned int nr_unknown = 0;
	int err = 0;

	for (unsigned int i = 0; i < r->sets.nr; i++) {
		const struct set_view *set = &r->sets.sets[i];

		nr_unknown += !set->known;
		for (unsigned int j = 0; !err && j < set->nr_seats; j++)
			err = add_seat(r, set, &set->seats[j]);
	}
	if (nr_unknown)
		ps_note(r, "%u of the sets of BPF programs belong to another build of invlock: it "
			"is unknown which processes have a feed there. The command of that build "
			"tells", nr_unknown);
	if (r->sets.nr && !ps_pids_are_the_kernels())
		ps_note(r, "this is a pid namespace, and the numbers of processes are those of the "
			"host: their commands are unknown");
	return err;
}

static int add_client(const struct daemon_feed *feed, void *arg)
{
	struct ps_report *r = arg;
	struct ps_feed *f = ps_add(r, "daemon");

	if (!f)
		return -ENOMEM;
	if (ps_pids_are_the_kernels())
		ps_look_at_process(&f->process, feed->pid);
	f->process.pid = feed->pid;
	if (!feed->err)
		set_view(f, &feed->view);
	f->process.uid = feed->uid;
	return 0;
}

/* This user may not see the sets. The daemon tells it of its own feeds. */
static void ask_daemon(struct ps_report *r, int err)
{
	struct invlock_why why;

	if (err == -EPERM)
		ps_note(r, "feeds of programs that use the bpf monitor by themselves are seen only "
			"with CAP_SYS_ADMIN, as by root");
	else
		ps_note(r, "the sets of BPF programs cannot be listed: %s", strerror(-err));
	if (daemon_list(add_client, r, &why))
		ps_note(r, "the feeds of the daemon are unknown: %.1000s", why.text);
	else
		ps_note(r, "of the daemon's feeds, a user sees its own");
}

int ps_find(struct ps_report *r)
{
	int err = sets_look(&r->sets);

	r->sets_known = !err;
	if (!err)
		err = add_sets(r);
	else if (err != -ENOMEM)
		ask_daemon(r, err), err = 0;
	if (!err)
		err = ps_find_in_proc(r);
	return err;
}

void ps_free(struct ps_report *r)
{
	sets_view_free(&r->sets);
	free(r->feeds);
}
