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
#include "lib/monitor/bpf/progset.h"
#include "policy.h"

/* Connections at once. Those that hold no seat make no more than half of them. */
#define NR_CLIENTS	(2 * BPF_NR_USERS)

struct client {
	int conn;		/* -1 = this entry is free */
	uid_t uid;
	gid_t gid;
	pid_t pid;
	int seat;		/* -1 = none */
	u32 user_id;		/* id of maps.user */
	struct seat_maps maps;	/* held until the seat is cleared */
	u64 missed;		/* runs of the set that were skipped before it came */
};

struct clients {
	struct progset *set;
	const struct policy *policy;
	struct client client[NR_CLIENTS];
};

void clients_init(struct clients *clients, struct progset *set, const struct policy *policy);

/* Takes over a new connection, or closes it and says why. */
void clients_add(struct clients *clients, int conn);

/* Reads what a client sent, and replies. A client that does anything wrong loses its connection. */
void client_serve(struct clients *clients, struct client *client);

/* Clear the seats that were left, and count what the kernel skipped: now and then. */
void clients_look_after(struct clients *clients);

/* Does any client hold a seat? */
bool clients_have_seats(const struct clients *clients);

#endif /* INVLOCK_DAEMON_CLIENTS_H */
