/* SPDX-License-Identifier: MIT */
/*
 * The connections of programs that scrape the metrics: each sends a request in HTTP, gets the page
 * (metrics.h), and is disconnected. None of them can make the daemon wait, and there is room for a
 * few at once: a slow one gives way to a new one after a while.
 */
#ifndef INVLOCK_DAEMON_SCRAPES_H
#define INVLOCK_DAEMON_SCRAPES_H

#include <invlock/mm.h>

#include "core/port.h"

#define NR_SCRAPES	8
#define SCRAPE_NS	5000000000ULL	/* after this a scrape may be ended */
#define SCRAPE_REQUEST	4000		/* bytes that a request may have */

struct clients;

struct scrape {
	int conn;		/* -1 = this entry is free */
	u64 since;
	size_t got;		/* bytes of the request */
	char request[SCRAPE_REQUEST + 1];
	char *reply;		/* NULL = the request is not complete */
	size_t bytes, sent;	/* of the reply */
};

struct scrapes {
	int epoll;		/* -1 = nobody can scrape; readable when there is work */
	int listener;
	struct scrape scrape[NR_SCRAPES];
};

/* Listens at a Unix socket, which the daemon's user alone may use. Return: a descriptor; -errno */
int scrapes_listen(const char *path, struct invlock_why *why);

/* @listener: a stream socket that listens; -1 = none. Return: 0; -errno and a sentence */
int scrapes_open(struct scrapes *scrapes, int listener, struct invlock_why *why);

/* Does what there is to do when scrapes->epoll is readable. */
void scrapes_serve(struct scrapes *scrapes, struct clients *clients);

#endif /* INVLOCK_DAEMON_SCRAPES_H */
