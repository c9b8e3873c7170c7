/* SPDX-License-Identifier: MIT */
/*
 * The clients of the daemon: connections, and the seats that they hold.
 *
 * A connection holds at most one seat. When it ends, the feed is closed and the seat is given back.
 * When the process of the seat ends first, the programs leave the seat, and clients_look_after()
 * finds that out: another process may have inherited the connection.
 */
#ifndef INVLOCK_DAEMON_CLIENTS_H
#define INVLOCK_DAEMON_CLIENTS_H

#include <poll.h>
#include "counts.h"
#include "lib/monitor/bpf/progset.h"
#include "policy.h"

/*
 * Connections at once. Those that hold no seat make no more than half of them, so that there is one
 * for each seat, and end after a while.
 */
#define NR_CLIENTS	(2 * BPF_NR_USERS)
#define IDLE_NS		10000000000ULL

struct client {
	int conn;		/* -1 = this entry is free */
	uid_t uid;
	gid_t gid;
	pid_t pid;
	u64 since;		/* when it came, or sent its last request; see port_now() */
	int seat;		/* -1 = none */
	u32 user_id;		/* id of maps.user */
	struct seat_maps maps;	/* held until the seat is cleared */
	u64 missed;		/* runs of the set that were skipped before it came */
	bool closed;		/* that its feed is closed was counted */
};

/*
 * A seat that is reserved for the next client. To put maps there waits twice for the kernel's RCU,
 * some 10 ms each time, and nobody should have to wait for that.
 */
struct spare {
	int seat;		/* -1 = none: the next client waits */
	u32 user_id;
	struct seat_maps maps;
};

struct clients {
	struct progset *set;
	const struct policy *policy;
	struct daemon_counts counts;
	struct spare spare;
	struct client client[NR_CLIENTS];
};

void clients_init(struct clients *clients, struct progset *set, const struct policy *policy);

/* Takes over a new connection, or closes it and says why. */
void clients_add(struct clients *clients, int conn);

/* Reads what a client sent, and replies. A client that does anything wrong loses its connection. */
void client_serve(struct clients *clients, struct client *client);

/*
 * Clear the seats that were left, end connections that want none, count what the kernel skipped,
 * and make a seat ready for the next client: now and then, and first before any client comes.
 */
void clients_look_after(struct clients *clients);

/* Counts once that the feed of a client is closed, if it is. */
struct feed_view;
void client_count_closed(struct daemon_counts *counts, struct client *client,
			 const struct feed_view *view);

/* Return: the seats of all users; those of one go to ret_own. */
unsigned int clients_count_seats(const struct clients *clients, uid_t uid, unsigned int *ret_own);

/* Is there any client to look after, or a seat to be made ready for one? */
bool clients_need_care(const struct clients *clients);

#endif /* INVLOCK_DAEMON_CLIENTS_H */
