/* SPDX-License-Identifier: MIT */
/*
 * The daemon, as a client sees it, and what they say to each other.
 *
 * The daemon (daemon/) loads a set of programs, and gives a seat in it to each process that asks on
 * its socket. The client gets descriptors: of its user map, which it can map and nobody can write;
 * of an iterator, by reading which it takes the seat; of the program ask(); and of all links of the
 * set. It holds the links, so the set goes on without the daemon. The connection holds the seat:
 * when it ends, the daemon closes the feed.
 *
 * One request and one reply at a time, each a packet. This is no ABI: a client and a daemon that
 * were built from different sources refuse each other.
 */
#ifndef INVLOCK_LIB_MONITOR_BPF_CLIENT_H
#define INVLOCK_LIB_MONITOR_BPF_CLIENT_H

#include <invlock/mm.h>
#include "bpf/shared.h"
#include "core/port.h"
#include "view.h"

#define DAEMON_SOCKET	"/run/invlock/invlock.sock"
#define DAEMON_VERSION	2	/* of these requests and replies, and of what bpf/shared.h says */
#define DAEMON_ROOM	250	/* descriptors in one packet; the kernel allows 253 */

enum daemon_what {
	DAEMON_OPEN,	/* reply: enum daemon_fd, then the links */
	DAEMON_ARMED,	/* I have taken my seat: reply when no CPU is blind without my feed's */
			/* saying so */
	DAEMON_CALLS,	/* reply: an iterator of scan_calls */
	DAEMON_FILES,	/* reply: an iterator of scan_files, for my process */
	DAEMON_LIST,	/* reply: the first feed of my user, or root: of any, from @from on */
};

enum daemon_fd {
	DAEMON_FD_USER,
	DAEMON_FD_SIT,
	DAEMON_FD_ASK,
	DAEMON_NR_FDS,
};

struct daemon_request {
	u32 version;
	u32 user_bytes;	/* sizeof(struct bpf_user) */
	u32 ask_bytes;	/* sizeof(struct bpf_ask) */
	u32 what;	/* enum daemon_what */
	u32 from;	/* LIST: the number of a feed; else 0 */
};

/* A feed as the daemon lists it. */
struct daemon_feed {
	u32 found;	/* 0: no feed is left */
	u32 nr;		/* the list goes on after this number */
	u32 uid;
	int pid;	/* of the process that asked for it; 0 = the daemon does not see it */
	int err;	/* why the feed cannot be looked at; 0 = view is filled */
	struct feed_view view;
};

struct daemon_reply {
	int err;	/* 0 or -errno */
	struct bpf_set_header header;	/* OPEN */
	struct daemon_feed feed;	/* LIST */
	struct invlock_why why;
};

struct daemon;

/* Return: the descriptor of an iterator, or -errno. */
int daemon_pass(struct daemon *daemon, enum daemon_what what);

/* Is the connection still ours, or has the program closed it? */
bool daemon_is_ours(const struct daemon *daemon);

void daemon_close(struct daemon *daemon);

/**
 * daemon_list() - call a function for each feed of the daemon that this user may see
 * @each: called for each feed; not 0 ends the list
 * @why: filled on error
 *
 * Context: a connection, and a round trip for each feed. Return: 0 or -errno.
 */
int daemon_list(int (*each)(const struct daemon_feed *feed, void *arg), void *arg,
		struct invlock_why *why);

#endif /* INVLOCK_LIB_MONITOR_BPF_CLIENT_H */
