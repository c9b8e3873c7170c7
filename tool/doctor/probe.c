// SPDX-License-Identifier: MIT
/*
 * A forked child tries each monitor. If it crashes or hangs, that is a finding, and another child
 * goes on with the next step.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "doctor.h"
#include "lib/selftest/selftest.h"

#define OPEN_TIMEOUT_MS		300000	/* the bpf monitor takes long in an emulated machine */
#ifndef STEP_TIMEOUT_MS		/* a test sets a shorter time */
#define STEP_TIMEOUT_MS		20000
#endif

/* steps: the self-test, then each change */
#define STEP_SELFTEST		0
#define STEP_CHANGE(nr)		((nr) + 1)

enum word { WORD_OPENED, WORD_BEGIN, WORD_DONE, WORD_DESCRIBED };

/* A message is smaller than PIPE_BUF, so it arrives whole or not at all. */
struct probe_message {
	enum word word;
	unsigned int step;
	int err;
	u64 seen, exact;
	struct invlock_why why;
	struct change_result result;
};

static void tell(int fd, const struct probe_message *m)
{
	if (write(fd, m, sizeof(*m)) != sizeof(*m))
		_exit(1);
}

/* Open the monitor and tell the parent how that went. Return: 0 or -errno of the open. */
static int child_open(const struct monitor *monitor, int fd, struct invlock_mm **ret_mm)
{
	struct invlock_mm_options o = {
		.size = sizeof(o),
		.flags = INVLOCK_MM_NO_SELFTEST,
		.monitor = monitor->name,
		/* open it even if it does not see all kinds that caches need */
		.need = monitor->seen,
	};
	struct probe_message m = { .word = WORD_OPENED };

	m.err = invlock_mm_open(&o, ret_mm, &m.why);
	m.seen = m.err ? monitor->seen : (*ret_mm)->seen;
	m.exact = m.err ? monitor->exact : (*ret_mm)->exact;
	if (!m.err && monitor->describe)
		monitor->describe(*ret_mm, &m.why);
	tell(fd, &m);
	return m.err;
}

static void child(const struct monitor *monitor, unsigned int first, unsigned int nr_steps, int fd)
{
	struct invlock_mm *mm;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	if (child_open(monitor, fd, &mm))
		return;
	for (unsigned int step = first; step < nr_steps; step++) {
		struct probe_message m = { .word = WORD_BEGIN, .step = step };

		tell(fd, &m);
		m.word = WORD_DONE;
		if (step == STEP_SELFTEST)
			m.err = monitor->sees_what_it_is_told ? 0 : selftest(mm, &m.why);
		else
			map_change_test(map_change_at(step - STEP_CHANGE(0)), mm, &m.result);
		tell(fd, &m);
	}
	/* describe the monitor once more: now it knows which changes it has caught */
	if (monitor->describe) {
		struct probe_message m = { .word = WORD_DESCRIBED };

		monitor->describe(mm, &m.why);
		tell(fd, &m);
	}
	invlock_mm_close(mm);
}

/* How far the child got. */
struct child_progress {
	bool opened;
	bool running;		/* a step is running */
	unsigned int step;	/* the running step, or else the next one */
};

static void record_message(struct finding *f, struct child_progress *p,
			   const struct probe_message *m)
{
	switch (m->word) {
	case WORD_OPENED:
		p->opened = true;
		f->err = m->err;
		f->seen = m->seen;
		f->exact = m->exact;
		*(m->err ? &f->why : &f->how) = m->why;
		break;
	case WORD_DESCRIBED:
		f->how = m->why;
		break;
	case WORD_BEGIN:
		p->running = true;
		p->step = m->step;
		break;
	case WORD_DONE:
		p->running = false;
		p->step = m->step + 1;
		if (m->step != STEP_SELFTEST) {
			f->results[m->step - STEP_CHANGE(0)] = m->result;
		} else if (!f->monitor->sees_what_it_is_told) {
			f->selftest = m->err ? SELFTEST_FAILED : SELFTEST_PASSED;
			f->selftest_why = m->why;
		}
		break;
	}
}

/* Return: false if no more messages will come. @ret_hung: has the child not ended? */
static bool listen_to(struct finding *f, struct child_progress *p, int fd, bool *ret_hung)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	struct probe_message m;
	int ready;

	ready = poll(&poll_fd, 1, p->opened ? STEP_TIMEOUT_MS : OPEN_TIMEOUT_MS);
	if (ready < 0 && errno == EINTR)
		return true;
	*ret_hung = !ready;
	if (ready <= 0 || read(fd, &m, sizeof(m)) != sizeof(m))
		return false;
	record_message(f, p, &m);
	return true;
}

/* The child ended too early: record where. */
static void record_death(struct finding *f, const struct child_progress *p, const char *how)
{
	if (!p->opened)
		f->err = explain(&f->why, -EIO, "the process that opened it %s, which is a "
				 "defect: please report it", how);
	if (!p->opened || f->err || !p->running)
		return;
	if (p->step == STEP_SELFTEST) {
		f->selftest = SELFTEST_FAILED;
		explain(&f->selftest_why, -EIO, "the process that ran the self-test %s", how);
	} else {
		struct change_result *r = &f->results[p->step - STEP_CHANGE(0)];

		r->verdict = CHANGE_UNKNOWN;
		snprintf(r->reason, sizeof(r->reason), "the process that made the change %s", how);
	}
}

/* Run steps in a child from @first on. Return: the step to continue with, or nr_steps. */
static unsigned int run_child(struct finding *f, unsigned int first, unsigned int nr_steps)
{
	struct child_progress p = { .step = first };
	bool hung = false;
	int fds[2], status;
	char how[60];
	pid_t pid;

	if (pipe(fds)) {
		f->err = explain(&f->why, -errno, "cannot make a pipe to the process that would "
				 "try it: %s", strerror(errno));
		return nr_steps;
	}
	fflush(NULL);
	pid = fork();
	if (!pid) {
		close(fds[0]);
		child(f->monitor, first, nr_steps, fds[1]);
		_exit(0);
	}
	close(fds[1]);
	if (pid < 0) {
		close(fds[0]);
		f->err = explain(&f->why, -errno, "cannot fork a process that would try it: %s",
				 strerror(errno));
		return nr_steps;
	}
	while (listen_to(f, &p, fds[0], &hung))
		;
	if (hung)
		kill(pid, SIGKILL);
	close(fds[0]);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (hung)
		snprintf(how, sizeof(how), "hung");
	else if (WIFSIGNALED(status))
		snprintf(how, sizeof(how), "died of signal %d", WTERMSIG(status));
	else
		snprintf(how, sizeof(how), "ended with code %d", WEXITSTATUS(status));
	record_death(f, &p, how);
	if (!p.opened || f->err)
		return nr_steps;
	return p.step + p.running;
}

void probe_monitor(struct finding *f, unsigned int nr_changes)
{
	unsigned int nr_steps = STEP_CHANGE(nr_changes), next = 0, before;

	/* what the monitor claims in general, until it has opened on this host */
	f->seen = f->monitor->seen;
	f->exact = f->monitor->exact;
	for (unsigned int i = 0; i < nr_changes; i++)
		f->results[i] = (struct change_result){ .verdict = CHANGE_UNKNOWN,
							.reason = "the change was not made" };
	do {
		before = next;
		next = run_child(f, before, nr_steps);
	} while (next > before && next < nr_steps);
}
