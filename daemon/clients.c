// SPDX-License-Identifier: MIT
#include "clients.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/explain.h"
#include "lib/monitor/bpf/client.h"
#include "lib/monitor/bpf/guard.h"
#include "lib/monitor/bpf/iter.h"
#include "lib/monitor/bpf/seat.h"
#include "say.h"

#define NR_GROUPS	256
#define NO_SPARE	((struct spare){ .seat = -1, .maps = { -1, -1 } })

void clients_init(struct clients *cs, struct progset *set, const struct policy *policy)
{
	cs->set = set;
	cs->policy = policy;
	cs->spare = NO_SPARE;
	for (int i = 0; i < NR_CLIENTS; i++)
		cs->client[i] = (struct client){ .conn = -1, .seat = -1, .maps = { -1, -1 } };
}

/* ---- seats ---- */

unsigned int clients_count_seats(const struct clients *cs, uid_t uid, unsigned int *ret_own)
{
	unsigned int nr = 0;

	*ret_own = 0;
	for (int i = 0; i < NR_CLIENTS; i++) {
		nr += cs->client[i].seat >= 0;
		*ret_own += cs->client[i].seat >= 0 && cs->client[i].uid == uid;
	}
	return nr;
}

bool clients_need_care(const struct clients *cs)
{
	if (cs->spare.seat < 0)
		return true;
	for (int i = 0; i < NR_CLIENTS; i++)
		if (cs->client[i].conn >= 0)
			return true;
	return false;
}

/* Put the maps of the spare into its seat, which is reserved for it. Return: 0 or -errno. */
static int fill_spare(struct clients *cs, struct spare *s, struct invlock_why *why)
{
	struct bpf_map_info info = {};
	u32 size = sizeof(info);
	int err = seat_make_maps(&s->maps, s->seat, why);

	if (err)
		return err;
	err = bpf_obj_get_info_by_fd(s->maps.user, &info, &size);
	s->user_id = info.id;
	if (!err)
		err = progset_put_maps(cs->set, s->seat, &s->maps);
	if (err)
		return explain(why, err, "cannot put a feed into its seat: %s", strerror(-err));
	return 0;
}

/* Return: 0 or -errno. */
static int make_spare(struct clients *cs, struct invlock_why *why)
{
	struct spare *s = &cs->spare;
	int err;

	if (s->seat >= 0)
		return 0;
	s->seat = progset_ask_of(cs->set, BPF_ASK_RESERVE, 0, 0);
	if (s->seat < 0)
		return explain(why, s->seat, "all %d seats are taken", BPF_NR_USERS);
	err = fill_spare(cs, s, why);
	if (!err)
		return 0;
	/* It is reserved, although its maps may not be there yet. */
	progset_ask_of(cs->set, BPF_ASK_EVICT, s->seat, 0);
	progset_clear_left(cs->set);
	seat_close_maps(&s->maps);
	*s = NO_SPARE;
	return err;
}

/* Are the maps of this client still in its seat? */
static bool has_seat(const struct clients *cs, const struct client *c)
{
	u32 seat = c->seat, id;

	return c->seat >= 0 && !bpf_map_lookup_elem(cs->set->users.fd, &seat, &id) &&
	       id == c->user_id;
}

void client_count_closed(struct daemon_counts *counts, struct client *c, const struct feed_view *v)
{
	if (c->closed || !v->closed)
		return;
	c->closed = true;
	counts->closed[v->closed < NR_CLOSED ? v->closed : BPF_OPEN]++;
}

/* The last chance to see what was in this feed. */
static void count_end(struct clients *cs, struct client *c)
{
	struct feed_view v;

	if (feed_look(c->maps.user, &v))
		return;
	client_count_closed(&cs->counts, c, &v);
	cs->counts.events += v.sequence;
	c->closed = false;
}

/* Close the feed, and give the seat back. @evict: nobody else can have the seat by now. */
static void end_seat(struct clients *cs, struct client *c, bool evict)
{
	if (evict)
		progset_ask_of(cs->set, BPF_ASK_EVICT, c->seat, 0);
	count_end(cs, c);
	progset_clear_left(cs->set);
	seat_close_maps(&c->maps);
	c->maps = (struct seat_maps){ -1, -1 };
	c->seat = -1;
}

static void client_end(struct clients *cs, struct client *c)
{
	if (c->seat >= 0)
		end_seat(cs, c, has_seat(cs, c));
	close(c->conn);
	c->conn = -1;
}

static void note_missed(struct clients *cs)
{
	u64 total;

	if (progset_missed(cs->set, &total))
		return;
	for (int i = 0; i < NR_CLIENTS; i++) {
		struct client *c = &cs->client[i];
		struct bpf_ask q = {
			.what = BPF_ASK_SEAT_MISSED, .index = c->seat, .nr = total - c->missed,
			.total = total,
		};

		/* It may be too early to tell; then the next time will do. */
		if (c->seat >= 0 && q.nr && has_seat(cs, c))
			progset_run(cs->set, &q);
	}
}

void clients_look_after(struct clients *cs)
{
	struct invlock_why why;

	progset_clear_left(cs->set);
	for (int i = 0; i < NR_CLIENTS; i++) {
		struct client *c = &cs->client[i];

		/* Its process is gone, but a child has inherited the connection. */
		if (c->seat >= 0 && !has_seat(cs, c))
			client_end(cs, c);
		if (c->conn >= 0 && c->seat < 0 && port_now() - c->since > IDLE_NS) {
			say("uid %u pid %d: connected, and asked for nothing", c->uid, c->pid);
			client_end(cs, c);
		}
	}
	note_missed(cs);
	make_spare(cs, &why);
}

/* ---- connections ---- */

static bool may_have_feeds(const struct clients *cs, const struct client *c)
{
	gid_t groups[NR_GROUPS + 1];
	socklen_t size = NR_GROUPS * sizeof(*groups);

	/* With more groups than this the own one alone counts. */
	if (getsockopt(c->conn, SOL_SOCKET, SO_PEERGROUPS, groups, &size))
		size = 0;
	groups[size / sizeof(*groups)] = c->gid;
	return policy_allows(cs->policy, c->uid, groups, size / sizeof(*groups) + 1);
}

static void reply(const struct client *c, const struct daemon_reply *r, const int *fds,
		  unsigned int nr_fds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(DAEMON_ROOM * sizeof(int))];
	} control = {};
	struct iovec iov = { (void *)r, sizeof(*r) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (nr_fds) {
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(nr_fds * sizeof(int));
		control.align = (struct cmsghdr){
			.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
			.cmsg_len = CMSG_LEN(nr_fds * sizeof(int)),
		};
		memcpy(CMSG_DATA(&control.align), fds, nr_fds * sizeof(int));
	}
	/* A client that does not read has only itself to blame. */
	if (sendmsg(c->conn, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		say("uid %u pid %d: cannot reply: %s", c->uid, c->pid, strerror(errno));
}

static void refuse(const struct client *c, int err, const struct invlock_why *why)
{
	struct daemon_reply r = { .err = err, .why = *why };

	say("uid %u pid %d: refused: %s", c->uid, c->pid, why->text);
	reply(c, &r, NULL, 0);
}

void clients_add(struct clients *cs, int conn)
{
	struct client new = { .conn = conn, .seat = -1, .maps = { -1, -1 }, .since = port_now() };
	struct ucred peer;
	socklen_t size = sizeof(peer);
	unsigned int idle = 0, all_idle = 0;
	struct client *free_one = NULL;

	if (getsockopt(conn, SOL_SOCKET, SO_PEERCRED, &peer, &size)) {
		close(conn);
		return;
	}
	new.uid = peer.uid;
	new.gid = peer.gid;
	new.pid = peer.pid;
	for (int i = 0; i < NR_CLIENTS; i++) {
		struct client *c = &cs->client[i];

		if (c->conn < 0) {
			free_one = c;
			continue;
		}
		all_idle += c->seat < 0;
		idle += c->seat < 0 && c->uid == new.uid;
	}
	/* A user may have one more connection without a seat than feeds. */
	if (free_one && all_idle < NR_CLIENTS / 2 && idle <= cs->policy->feeds_per_user) {
		*free_one = new;
		return;
	}
	counts_refuse(&cs->counts, -EUSERS);
	say("uid %u pid %d: refused: too many connections", new.uid, new.pid);
	close(conn);
}

/* ---- requests ---- */

static int check_open(struct clients *cs, const struct client *c, struct invlock_why *why)
{
	unsigned int seats, own;

	if (c->seat >= 0)
		return explain(why, -EBUSY, "this connection has a seat already");
	if (!may_have_feeds(cs, c))
		return explain(why, -EACCES, "the policy of this machine gives uid %u no feed: "
			       POLICY_FILE, c->uid);
	/* Seats that were left count no more. */
	clients_look_after(cs);
	seats = clients_count_seats(cs, c->uid, &own);
	if (own >= cs->policy->feeds_per_user)
		return explain(why, -EDQUOT, "uid %u has %u feeds (%u MiB), which is all that the "
			       "policy gives a user (feeds_per_user in " POLICY_FILE ")", c->uid,
			       own, own * FEED_MIB);
	if (seats >= cs->policy->feeds)
		return explain(why, -EDQUOT, "the users have %u feeds (%u MiB), which is all that "
			       "the policy gives this machine (feeds in " POLICY_FILE ")", seats,
			       seats * FEED_MIB);
	return 0;
}

/* Give the spare to this client. */
static int take_spare(struct clients *cs, struct client *c, struct invlock_why *why)
{
	int err = make_spare(cs, why);

	if (err)
		return err;
	err = progset_missed(cs->set, &c->missed);
	if (err)
		return explain(why, err, "cannot count what was missed: %s", strerror(-err));
	c->seat = cs->spare.seat;
	c->user_id = cs->spare.user_id;
	c->maps = cs->spare.maps;
	cs->spare = NO_SPARE;
	return 0;
}

static int serve_open(struct clients *cs, struct client *c, struct invlock_why *why)
{
	struct daemon_reply r = { .header = cs->set->header };
	union bpf_iter_link_info info = {};
	int fds[DAEMON_ROOM], err = check_open(cs, c, why);

	if (err)
		return err;
	err = take_spare(cs, c, why);
	if (err)
		return err;
	info.map.map_fd = c->maps.user;
	fds[DAEMON_FD_SIT] = iter_open(cs->set->sit_by_reading, &info);
	if (fds[DAEMON_FD_SIT] < 0) {
		err = explain(why, fds[DAEMON_FD_SIT], "cannot make an iterator: %s",
			      strerror(-fds[DAEMON_FD_SIT]));
		end_seat(cs, c, true);
		return err;
	}
	fds[DAEMON_FD_USER] = c->maps.user;
	fds[DAEMON_FD_ASK] = cs->set->ask;
	memcpy(&fds[DAEMON_NR_FDS], cs->set->links, cs->set->nr_links * sizeof(int));
	reply(c, &r, fds, DAEMON_NR_FDS + cs->set->nr_links);
	cs->counts.given++;
	close(fds[DAEMON_FD_SIT]);
	return 0;
}

static int serve_armed(struct clients *cs, struct client *c, struct invlock_why *why)
{
	struct daemon_reply r = {};
	int err = 0;

	if (cs->set->header.guard == BPF_GUARD_ON)
		err = guard_await(cs->set, BPF_ASK_SEAT_UNMARKED, c->seat);
	if (err)
		return explain(why, err, "a task that was preempted inside a BPF program does not "
			       "go on: %s", strerror(-err));
	reply(c, &r, NULL, 0);
	return 0;
}

static int serve_pass(struct clients *cs, struct client *c, enum daemon_what what,
		      struct invlock_why *why)
{
	/* The program sees only the mm of the process that reads, whatever this number means. */
	union bpf_iter_link_info info = { .task.tid = c->pid };
	struct daemon_reply r = {};
	int iter = what == DAEMON_CALLS ? iter_open(cs->set->scan_calls, NULL) :
		   iter_open(cs->set->scan_files, &info);

	if (iter < 0)
		return explain(why, iter, "cannot make an iterator: %s", strerror(-iter));
	reply(c, &r, &iter, 1);
	close(iter);
	return 0;
}

/* Root may see each feed, and a user its own. */
static int serve_list(const struct clients *cs, const struct client *c, u32 from)
{
	struct daemon_reply r = {};

	for (u32 i = from; i < NR_CLIENTS && !r.feed.found; i++) {
		const struct client *other = &cs->client[i];

		if (other->seat < 0 || (c->uid && c->uid != other->uid))
			continue;
		r.feed.found = 1;
		r.feed.nr = i;
		r.feed.uid = other->uid;
		r.feed.pid = other->pid;
		r.feed.err = feed_look(other->maps.user, &r.feed.view);
	}
	reply(c, &r, NULL, 0);
	return 0;
}

static int serve(struct clients *cs, struct client *c, const struct daemon_request *q,
		 struct invlock_why *why)
{
	if (q->version != DAEMON_VERSION || q->user_bytes != sizeof(struct bpf_user) ||
	    q->ask_bytes != sizeof(struct bpf_ask))
		return explain(why, -EPROTONOSUPPORT, "client and daemon are of different versions "
			       "of invlock: install the same on both sides");
	if (q->what == DAEMON_OPEN)
		return serve_open(cs, c, why);
	if (q->what == DAEMON_LIST)
		return serve_list(cs, c, q->from);
	if (c->seat < 0)
		return explain(why, -ENOTCONN, "this connection has no seat");
	switch (q->what) {
	case DAEMON_ARMED:
		return serve_armed(cs, c, why);
	case DAEMON_CALLS:
	case DAEMON_FILES:
		return serve_pass(cs, c, q->what, why);
	}
	return explain(why, -EINVAL, "there is no request %u", q->what);
}

void client_serve(struct clients *cs, struct client *c)
{
	struct daemon_request q;
	struct invlock_why why = { "" };
	ssize_t got = recv(c->conn, &q, sizeof(q), MSG_DONTWAIT | MSG_TRUNC);
	int err;

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		client_end(cs, c);
		return;
	}
	c->since = port_now();
	if (got != sizeof(q))
		err = explain(&why, -EPROTO, "a request has %zu bytes, not %zd", sizeof(q), got);
	else
		err = serve(cs, c, &q, &why);
	if (!err)
		return;
	counts_refuse(&cs->counts, err);
	refuse(c, err, &why);
	client_end(cs, c);
}
