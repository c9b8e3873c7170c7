// SPDX-License-Identifier: MIT
/*
 * invlockd: gives programs without privileges the BPF monitor. It holds one set of programs, and
 * hands out seats in it on a Unix socket: clients.h, and lib/monitor/bpf/client.h for the protocol.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "clients.h"
#include "lib/monitor/bpf/bpf.h"
#include "lib/monitor/bpf/client.h"
#include "say.h"
#include "scrapes.h"

#define ACTIVATED_FD	3	/* the first descriptor that systemd passes */
#define METRICS_NAME	"metrics"	/* FileDescriptorName= of the socket for scrapes */
#define LOOK_AFTER_MS	1000ULL

static volatile sig_atomic_t ended;

static void end(int sig)
{
	(void)sig;
	ended = 1;
}

/* The sockets of the daemon; -1 = none. */
struct listeners {
	int clients, scrapes;
};

/* The sockets that systemd has passed: that for scrapes has its name, and the other one is ours. */
static struct listeners activated_sockets(void)
{
	const char *pid = getenv("LISTEN_PID"), *nr = getenv("LISTEN_FDS");
	const char *names = getenv("LISTEN_FDNAMES") ?: "";
	struct listeners found = { -1, -1 };

	if (!pid || !nr || atol(pid) != getpid())
		return found;
	for (int fd = ACTIVATED_FD; fd < ACTIVATED_FD + atoi(nr); fd++) {
		size_t len = strcspn(names, ":");
		bool scrapes = len == strlen(METRICS_NAME) && !strncmp(names, METRICS_NAME, len);

		fcntl(fd, F_SETFD, FD_CLOEXEC);
		*(scrapes ? &found.scrapes : &found.clients) = fd;
		names += len + (names[len] == ':');
	}
	return found;
}

/* systemd makes the folder of the socket; a daemon that is started by hand makes it itself. */
static void make_folder(const char *path)
{
	char folder[sizeof(((struct sockaddr_un *)0)->sun_path)];
	char *end;

	snprintf(folder, sizeof(folder), "%s", path);
	end = strrchr(folder, '/');
	if (!end || end == folder)
		return;
	*end = '\0';
	/* If this fails, bind() says why. */
	if (mkdir(folder, 0755) && errno != EEXIST)
		say("cannot make %s: %s", folder, strerror(errno));
}

static int listen_at(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), err;

	if (fd < 0)
		return -errno;
	if (strlen(path) >= sizeof(addr.sun_path)) {
		close(fd);
		return -ENAMETOOLONG;
	}
	strcpy(addr.sun_path, path);
	make_folder(path);
	/* What a daemon that was killed has left. */
	unlink(path);
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) || chmod(path, 0666) ||
	    listen(fd, SOMAXCONN)) {
		err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

static void accept_one(struct clients *cs, int listener)
{
	int conn = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (conn >= 0)
		clients_add(cs, conn);
	else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
		say("cannot accept a connection: %s", strerror(errno));
}

static void serve_until_ended(struct clients *cs, int listener, struct scrapes *scrapes)
{
	struct pollfd fds[NR_CLIENTS + 2];
	int of[NR_CLIENTS + 2], nr;
	u64 looked_after = 0;

	while (!ended) {
		bool care = clients_need_care(cs);

		nr = 0;
		fds[nr++] = (struct pollfd){ .fd = listener, .events = POLLIN };
		fds[nr++] = (struct pollfd){ .fd = scrapes->epoll, .events = POLLIN };
		for (int i = 0; i < NR_CLIENTS; i++) {
			if (cs->client[i].conn < 0)
				continue;
			of[nr] = i;
			fds[nr++] = (struct pollfd){ cs->client[i].conn, POLLIN, 0 };
		}
		if (poll(fds, nr, care ? (int)LOOK_AFTER_MS : -1) < 0)
			continue;
		for (int i = 2; i < nr; i++)
			/* Serving one client may have ended another. */
			if (fds[i].revents && cs->client[of[i]].conn == fds[i].fd)
				client_serve(cs, &cs->client[of[i]]);
		if (fds[0].revents)
			accept_one(cs, listener);
		if (fds[1].revents)
			scrapes_serve(scrapes, cs);
		/* The first client after a long sleep must not wait for what can be done later. */
		if (!care)
			looked_after = port_now();
		if (port_now() - looked_after < LOOK_AFTER_MS * 1000000)
			continue;
		clients_look_after(cs);
		looked_after = port_now();
	}
}

/*
 * Each client takes some descriptors. And what is on its way to clients that do not read counts as
 * well, for all of them together.
 */
static void raise_limits(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files))
		return;
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
}

/* @metrics: where programs that scrape connect; NULL = systemd says, or nowhere */
static int run(const char *path, const char *metrics, const struct policy *policy)
{
	struct invlock_why why = { "" };
	static struct clients clients;
	static struct progset set;
	static struct scrapes scrapes;
	struct listeners passed = activated_sockets();
	int listener = passed.clients;
	bool own = listener < 0;

	if (metrics)
		passed.scrapes = scrapes_listen(metrics, &why);
	if ((metrics && passed.scrapes < 0) || scrapes_open(&scrapes, passed.scrapes, &why)) {
		say("%s", why.text);
		return 1;
	}
	if (own)
		listener = listen_at(path);
	if (listener < 0) {
		say("cannot listen at %s: %s", path, strerror(-listener));
		return 1;
	}
	if (progset_load(&set, progset_object_hash() ^ monitor_bpf_options.family, &why)) {
		say("%s", why.text);
		if (own)
			unlink(path);
		return 1;
	}
	set.keeps_maps = true;
	clients_init(&clients, &set, policy);
	clients_look_after(&clients);
	say("ready, with the programs at the %s",
	    set.header.attached == BPF_AT_FUNCTIONS ? "functions" : "tracepoints");
	serve_until_ended(&clients, listener, &scrapes);
	if (own)
		unlink(path);
	if (metrics)
		unlink(metrics);
	progset_release(&set);
	return 0;
}

static int usage(FILE *to, int code)
{
	fprintf(to, "usage: invlockd [--config FILE] [--socket PATH] [--metrics PATH]\n"
		"Gives programs without privileges the BPF monitor; see invlockd(8).\n"
		"--config FILE   the policy; default " POLICY_FILE "\n"
		"--socket PATH   where to listen, unless systemd passes a socket; default "
		DAEMON_SOCKET "\n"
		"--metrics PATH  answer scrapes by HTTP at this Unix socket with OpenMetrics\n");
	return code;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "socket", required_argument, NULL, 's' },
		{ "metrics", required_argument, NULL, 'm' },
		{ "help", no_argument, NULL, 'h' },
		{ },
	};
	const char *config = POLICY_FILE, *path = DAEMON_SOCKET, *metrics = NULL;
	struct sigaction at_end = { .sa_handler = end };
	struct invlock_why why = { "" };
	struct policy policy;
	int o;

	while ((o = getopt_long(argc, argv, "c:s:m:h", options, NULL)) != -1) {
		if (o == 'c')
			config = optarg;
		else if (o == 's')
			path = optarg;
		else if (o == 'm')
			metrics = optarg;
		else
			return o == 'h' ? usage(stdout, 0) : usage(stderr, 2);
	}
	if (optind < argc)
		return usage(stderr, 2);
	if (policy_read(&policy, config, &why)) {
		say("%s", why.text);
		return 1;
	}
	sigaction(SIGTERM, &at_end, NULL);
	sigaction(SIGINT, &at_end, NULL);
	raise_limits();
	return run(path, metrics, &policy);
}
