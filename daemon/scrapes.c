// SPDX-License-Identifier: MIT
#include "scrapes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/explain.h"
#include "metrics.h"
#include "say.h"

#define LISTENER	NR_SCRAPES	/* its number among the events */

/* ---- begin ---- */

int scrapes_listen(const char *path, struct invlock_why *why)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct stat old;
	mode_t mask;
	int fd, err;

	if (strlen(path) >= sizeof(addr.sun_path))
		return explain(why, -ENAMETOOLONG, "the path of the metrics' socket is longer than "
			       "%zu bytes", sizeof(addr.sun_path) - 1);
	strcpy(addr.sun_path, path);
	if (!lstat(path, &old) && !S_ISSOCK(old.st_mode))
		return explain(why, -EEXIST, "cannot listen for scrapes at %s: there is a file "
			       "that is no socket", path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return explain(why, -errno, "cannot make a socket: %s", strerror(errno));
	/* What a daemon that was killed has left. */
	unlink(path);
	mask = umask(0177);
	err = bind(fd, (struct sockaddr *)&addr, sizeof(addr)) || listen(fd, NR_SCRAPES) ?
	      -errno : 0;
	umask(mask);
	if (!err)
		return fd;
	close(fd);
	return explain(why, err, "cannot listen for scrapes at %s: %s", path, strerror(-err));
}

static int watch(const struct scrapes *s, int fd, u32 nr, u32 events, int op)
{
	struct epoll_event event = { .events = events, .data.u32 = nr };

	return epoll_ctl(s->epoll, op, fd, &event) ? -errno : 0;
}

int scrapes_open(struct scrapes *s, int listener, struct invlock_why *why)
{
	int type = 0, listens = 0, err;
	socklen_t size = sizeof(int);

	s->epoll = s->listener = -1;
	for (int i = 0; i < NR_SCRAPES; i++)
		s->scrape[i] = (struct scrape){ .conn = -1 };
	if (listener < 0)
		return 0;
	getsockopt(listener, SOL_SOCKET, SO_TYPE, &type, &size);
	getsockopt(listener, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size);
	if (type != SOCK_STREAM || !listens)
		return explain(why, -EINVAL, "the socket for metrics is no stream that listens: in "
			       "its unit of systemd it needs ListenStream=, and Accept=no");
	fcntl(listener, F_SETFL, O_NONBLOCK);
	s->listener = listener;
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	err = s->epoll < 0 ? -errno : watch(s, listener, LISTENER, EPOLLIN, EPOLL_CTL_ADD);
	return err ? explain(why, err, "cannot wait for scrapes: %s", strerror(-err)) : 0;
}

/* ---- a scrape ---- */

static void end(struct scrape *c)
{
	close(c->conn);
	free(c->reply);
	*c = (struct scrape){ .conn = -1 };
}

/* Return: an entry that is free by now; NULL = all are in use, and none is too slow. */
static struct scrape *make_room(struct scrapes *s)
{
	struct scrape *oldest = &s->scrape[0];

	for (int i = 0; i < NR_SCRAPES; i++) {
		if (s->scrape[i].conn < 0)
			return &s->scrape[i];
		if (s->scrape[i].since < oldest->since)
			oldest = &s->scrape[i];
	}
	if (port_now() - oldest->since < SCRAPE_NS)
		return NULL;
	end(oldest);
	return oldest;
}

static void accept_one(struct scrapes *s)
{
	int conn = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct scrape *c;

	if (conn < 0)
		return;
	c = make_room(s);
	if (c && !watch(s, conn, (u32)(c - s->scrape), EPOLLIN, EPOLL_CTL_ADD)) {
		c->conn = conn;
		c->since = port_now();
		return;
	}
	say("a scrape of the metrics was refused: %d are under way", NR_SCRAPES);
	close(conn);
}

/* @body: what the caller allocated, or NULL. Return: false = out of memory */
static bool reply_with(struct scrape *c, const char *status, const char *type, char *body,
		       size_t bytes, bool head_only)
{
	char head[256];
	int len = snprintf(head, sizeof(head), "HTTP/1.1 %s\r\nContent-Type: %s\r\n"
			   "Content-Length: %zu\r\nConnection: close\r\n\r\n", status, type, bytes);

	if (head_only)
		bytes = 0;
	c->reply = malloc(len + bytes);
	if (c->reply) {
		memcpy(c->reply, head, len);
		memcpy(c->reply + len, body ? body : "", bytes);
		c->bytes = len + bytes;
	}
	free(body);
	return c->reply;
}

/* The first line of the request says everything. */
static bool make_reply(struct scrape *c, struct clients *cs)
{
	static const char type[] = "application/openmetrics-text; version=1.0.0; charset=utf-8";
	char method[8] = "", path[64] = "", version[16] = "";
	size_t bytes;
	char *page;

	if (sscanf(c->request, "%7s %63s %15s", method, path, version) != 3 ||
	    strncmp(version, "HTTP/1.", 7))
		return reply_with(c, "400 Bad Request", "text/plain", NULL, 0, false);
	if (strcmp(method, "GET") && strcmp(method, "HEAD"))
		return reply_with(c, "405 Method Not Allowed", "text/plain", NULL, 0, false);
	path[strcspn(path, "?")] = '\0';
	if (strcmp(path, "/metrics") && strcmp(path, "/"))
		return reply_with(c, "404 Not Found", "text/plain", NULL, 0, false);
	page = metrics_page(cs, &bytes);
	return page && reply_with(c, "200 OK", type, page, bytes, !strcmp(method, "HEAD"));
}

/* Return: false = this scrape is over */
static bool read_request(struct scrape *c, struct clients *cs)
{
	ssize_t got = recv(c->conn, c->request + c->got, SCRAPE_REQUEST - c->got, MSG_DONTWAIT);

	if (got < 0)
		return errno == EAGAIN || errno == EINTR;
	c->got += got;
	c->request[c->got] = '\0';
	if (!got)
		return false;
	if (!strstr(c->request, "\r\n\r\n") && !strstr(c->request, "\n\n"))
		return c->got < SCRAPE_REQUEST ||
		       reply_with(c, "431 Request Header Fields Too Large", "text/plain", NULL, 0,
				  false);
	return make_reply(c, cs);
}

/* Return: false = this scrape is over */
static bool send_reply(struct scrape *c)
{
	ssize_t sent = send(c->conn, c->reply + c->sent, c->bytes - c->sent,
			    MSG_NOSIGNAL | MSG_DONTWAIT);

	if (sent < 0)
		return errno == EAGAIN || errno == EINTR;
	c->sent += sent;
	return c->sent < c->bytes;
}

static void serve(struct scrapes *s, struct scrape *c, struct clients *cs)
{
	bool goes_on = c->reply || read_request(c, cs);

	if (goes_on && c->reply)
		goes_on = send_reply(c) &&
			  !watch(s, c->conn, (u32)(c - s->scrape), EPOLLOUT, EPOLL_CTL_MOD);
	if (!goes_on)
		end(c);
}

void scrapes_serve(struct scrapes *s, struct clients *cs)
{
	struct epoll_event events[NR_SCRAPES + 1];
	int nr = epoll_wait(s->epoll, events, NR_SCRAPES + 1, 0);
	bool comes = false;

	for (int i = 0; i < nr; i++) {
		u32 which = events[i].data.u32;

		if (which == LISTENER)
			comes = true;
		else if (s->scrape[which].conn >= 0)
			serve(s, &s->scrape[which], cs);
	}
	/* last: the new one may get an entry that one of these events was about */
	if (comes)
		accept_one(s);
}
