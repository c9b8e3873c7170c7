// SPDX-License-Identifier: MIT
/* The monitor "daemon": the BPF monitor for a process without privileges, by way of the daemon. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/monitor/monitor.h"
#include "lib/own_fd.h"
#include "bpf.h"
#include "client.h"
#include "seat.h"

#define OPEN_SECONDS	60	/* the daemon may have to load its programs first */
#define PASS_SECONDS	10

struct daemon {
	struct own_fd conn;
	pthread_mutex_t lock;	/* one request at a time */
	/* guarded by lock: the daemon did not reply in time, so no other request follows */
	bool mute;
};

static int daemon_connect(struct daemon *d, struct invlock_why *why)
{
	const char *path = secure_getenv("INVLOCK_SOCKET") ?: DAEMON_SOCKET;
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct timeval patience = { .tv_sec = OPEN_SECONDS };
	int fd, err;

	if (strlen(path) >= sizeof(addr.sun_path))
		return explain(why, -ENAMETOOLONG, "the path of the daemon's socket is too long");
	strcpy(addr.sun_path, path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return explain(why, -errno, "cannot make a socket: %s", strerror(errno));
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) ||
	    connect(fd, (struct sockaddr *)&addr, sizeof(addr))) {
		err = explain(why, -errno, "no daemon at %s: %s; as root: "
			      "systemctl enable --now invlockd.socket", path, strerror(errno));
		close(fd);
		return err;
	}
	own_fd_set_high(&d->conn, fd);
	return 0;
}

static void close_all(const int *fds, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++)
		close(fds[i]);
}

static int receive(int conn, struct daemon_reply *reply, int *fds, unsigned int *nr_fds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(DAEMON_ROOM * sizeof(int))];
	} control;
	struct iovec iov = { reply, sizeof(*reply) };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *c;
	ssize_t got;

	do {
		got = recvmsg(conn, &msg, MSG_CMSG_CLOEXEC);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	for (c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		*nr_fds = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(fds, CMSG_DATA(c), *nr_fds * sizeof(int));
	}
	if (got == sizeof(*reply) && !(msg.msg_flags & MSG_CTRUNC))
		return 0;
	close_all(fds, *nr_fds);
	*nr_fds = 0;
	return !got ? -ECONNRESET : msg.msg_flags & MSG_CTRUNC ? -EMFILE : -EPROTO;
}

/* Locks: d->lock, or nobody else knows d yet. @from: for LIST. */
static int request_from_locked(struct daemon *d, enum daemon_what what, u32 from,
			       struct daemon_reply *reply, int *fds, unsigned int *nr_fds)
{
	struct daemon_request q = {
		.version = DAEMON_VERSION, .user_bytes = sizeof(struct bpf_user),
		.ask_bytes = sizeof(struct bpf_ask), .what = what, .from = from,
	};
	int err;

	*nr_fds = 0;
	if (d->mute || !own_fd_is(&d->conn))
		return -ENOTCONN;
	if (send(d->conn.fd, &q, sizeof(q), MSG_NOSIGNAL) != sizeof(q))
		return -errno;
	err = receive(d->conn.fd, reply, fds, nr_fds);
	/* A reply that comes too late would be taken for that of the next request. */
	if (err)
		d->mute = true;
	return err ? err : reply->err;
}

static int request_locked(struct daemon *d, enum daemon_what what, struct daemon_reply *reply,
			  int *fds, unsigned int *nr_fds)
{
	return request_from_locked(d, what, 0, reply, fds, nr_fds);
}

int daemon_pass(struct daemon *d, enum daemon_what what)
{
	struct daemon_reply reply = {};
	int fds[DAEMON_ROOM], err;
	unsigned int nr;

	pthread_mutex_lock(&d->lock);
	err = request_locked(d, what, &reply, fds, &nr);
	pthread_mutex_unlock(&d->lock);
	if (err)
		return err;
	if (nr == 1)
		return fds[0];
	close_all(fds, nr);
	return -EPROTO;
}

bool daemon_is_ours(const struct daemon *d)
{
	return own_fd_is(&d->conn);
}

void daemon_close(struct daemon *d)
{
	own_fd_close(&d->conn);
	free(d);
}

/* Ask for a seat. What the daemon gives goes to @data, and the iterator to take it to @ret_sit. */
static int ask_for_seat(struct monitor_bpf_data *data, int *ret_sit, struct invlock_why *why)
{
	struct progset *set = &data->set;
	struct timeval patience = { .tv_sec = PASS_SECONDS };
	struct daemon_reply reply = {};
	int fds[DAEMON_ROOM];
	unsigned int nr;
	int err = request_locked(data->daemon, DAEMON_OPEN, &reply, fds, &nr);

	if (err && !data->daemon->mute && reply.err) {
		reply.why.text[sizeof(reply.why.text) - 1] = '\0';
		return explain(why, err, "the daemon refuses: %s", reply.why.text);
	}
	if (!err && (nr <= DAEMON_NR_FDS || nr - DAEMON_NR_FDS > PROGSET_ROOM)) {
		close_all(fds, nr);
		err = -EPROTO;
	}
	if (err)
		return explain(why, err, "the daemon does not reply as expected: %s",
			       strerror(-err));
	setsockopt(data->daemon->conn.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	set->header = reply.header;
	data->maps.user = fds[DAEMON_FD_USER];
	*ret_sit = fds[DAEMON_FD_SIT];
	set->ask = set->programs[set->nr_programs++] = fds[DAEMON_FD_ASK];
	for (unsigned int i = DAEMON_NR_FDS; i < nr; i++)
		set->links[set->nr_links++] = fds[i];
	return 0;
}

/* From here on, the mm of this process is watched. */
static int take_seat(struct monitor_bpf_data *data, int sit, struct invlock_why *why)
{
	int fds[DAEMON_ROOM], err = 0, result;
	struct daemon_reply reply = {};
	unsigned int nr;

	if (read(sit, &result, sizeof(result)) != sizeof(result))
		result = errno ? -errno : -EIO;
	close(sit);
	if (result)
		return explain(why, result, "the seat that the daemon gave cannot be taken: %s%s",
			       strerror(-result), result == -EEXIST ?
			       "; this process has one in the same set" : "");
	err = request_locked(data->daemon, DAEMON_ARMED, &reply, fds, &nr);
	if (err)
		return explain(why, err, "the daemon does not see all CPUs: %s", strerror(-err));
	return 0;
}

static void daemon_init(struct daemon *d)
{
	own_fd_set(&d->conn, -1);
	pthread_mutex_init(&d->lock, NULL);
}

static int list(struct daemon *d, int (*each)(const struct daemon_feed *, void *), void *arg,
		struct invlock_why *why)
{
	struct daemon_reply reply = {};
	int fds[DAEMON_ROOM], err;
	unsigned int nr;

	for (u32 from = 0;; from = reply.feed.nr + 1) {
		err = request_from_locked(d, DAEMON_LIST, from, &reply, fds, &nr);
		close_all(fds, nr);
		if (!err && reply.feed.found && reply.feed.nr < from)
			err = -EPROTO;
		if (err)
			break;
		if (!reply.feed.found || each(&reply.feed, arg))
			return 0;
	}
	reply.why.text[sizeof(reply.why.text) - 1] = '\0';
	return explain(why, err, "the daemon does not list its feeds: %s",
		       !d->mute && reply.err ? reply.why.text : strerror(-err));
}

int daemon_list(int (*each)(const struct daemon_feed *, void *), void *arg,
		struct invlock_why *why)
{
	struct daemon d = {};
	int err;

	daemon_init(&d);
	err = daemon_connect(&d, why);
	if (!err)
		err = list(&d, each, arg, why);
	own_fd_close(&d.conn);
	return err;
}

static struct monitor_bpf_data *new_data(void)
{
	struct monitor_bpf_data *data = calloc(1, sizeof(*data));
	struct daemon *d = calloc(1, sizeof(*d));

	if (!data || !d) {
		free(data);
		free(d);
		return NULL;
	}
	daemon_init(d);
	data->daemon = d;
	data->maps = (struct seat_maps){ -1, -1 };
	data->set = PROGSET_NONE;
	return data;
}

static int client_open(struct invlock_mm *mm, struct invlock_why *why)
{
	struct monitor_bpf_data *data = new_data();
	int err, sit = -1;

	if (!data)
		return explain(why, -ENOMEM, "out of memory");
	err = daemon_connect(data->daemon, why);
	if (!err)
		err = ask_for_seat(data, &sit, why);
	if (err)
		goto close_daemon;
	err = seat_map_user(mm, data->maps.user, why);
	if (err) {
		close(sit);
		goto release;
	}
	err = take_seat(data, sit, why);
	if (!err)
		err = seat_begin(mm, data, why);
	if (!err)
		return 0;
	seat_unmap_user(mm);
release:
	progset_release(&data->set);
	seat_close_maps(&data->maps);
close_daemon:
	daemon_close(data->daemon);
	free(data);
	mm->data = NULL;
	return err;
}

const struct monitor monitor_daemon = {
	.name = "daemon",
	.seen = SEEN,
	.exact = SEEN,
	.refused = REFUSED,
	.perhaps = NET_SEEN,
	.open = client_open,
	.close = seat_close,
	.look = seat_look,
	.watch = seat_watch,
	.note_missed = monitor_bpf_note_missed,
	.nr_caught = seat_nr_caught,
	.describe = seat_describe,
};
