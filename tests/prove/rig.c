// SPDX-License-Identifier: MIT
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "rig.h"
#include "tests/test.h"

static void become(const struct as *as)
{
	if (as->tmpdir)
		setenv("TMPDIR", as->tmpdir, 1);
	if (as->prepare)
		as->prepare();
	if (as->uid && (setgroups(0, NULL) || setgid(as->uid) || setuid(as->uid))) {
		perror("cannot give up the identity");
		_exit(99);
	}
}

static void run(const struct as *as, const char *const *words, const int out[2], const int err[2])
{
	const char *argv[32] = { getenv("INVLOCK_TOOL"), "prove" };
	static const struct as nobody_in_particular;

	for (unsigned int i = 0; words[i] && i < 28; i++)
		argv[i + 2] = words[i];
	dup2(out[1], STDOUT_FILENO);
	dup2(err[1], STDERR_FILENO);
	become(as ? as : &nobody_in_particular);
	/* A proof of a day must not outlive a test that fails. A change of the user ends this. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	execv(argv[0], (char *const *)argv);
	perror(argv[0]);
	_exit(99);
}

/* Reads all that is there, and drops what does not fit. Return: false = nothing was dropped */
static bool take(int fd, char *text, size_t size)
{
	size_t len = strlen(text);
	char more[4096];
	ssize_t n = read(fd, more, sizeof(more));

	if (n <= 0)
		return false;
	if ((size_t)n > size - 1 - len)
		n = size - 1 - len;
	memcpy(text + len, more, n);
	text[len + n] = '\0';
	return true;
}

/* Has the run begun? From then on the command catches SIGINT. */
static bool has_begun(pid_t pid)
{
	unsigned long long caught = 0;
	char path[64], line[200];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "SigCgt: %llx", &caught);
	if (f)
		fclose(f);
	return caught >> (SIGINT - 1) & 1;
}

static void send_signal(const struct proving *p, const struct as *as)
{
	while (!has_begun(p->pid) && prove_goes_on(p))
		usleep(10000);
	usleep(as->signal_after_ms * 1000);
	kill(p->pid, as->signal);
}

static void listen_to(struct said *ret, int out, int err)
{
	struct pollfd fds[2] = { { out, POLLIN, 0 }, { err, POLLIN, 0 } };

	while (fds[0].fd >= 0 || fds[1].fd >= 0) {
		poll(fds, 2, -1);
		if (fds[0].revents && !take(out, ret->out, sizeof(ret->out)))
			fds[0].fd = -1;
		if (fds[1].revents && !take(err, ret->err, sizeof(ret->err)))
			fds[1].fd = -1;
	}
}

void prove_begin(struct proving *p, const struct as *as, const char *const *words)
{
	int out[2], err[2];

	assert_non_null(getenv("INVLOCK_TOOL"));
	assert_int_equal(pipe2(out, O_CLOEXEC) | pipe2(err, O_CLOEXEC), 0);
	p->pid = fork();
	assert_int_not_equal(p->pid, -1);
	if (!p->pid)
		run(as, words, out, err);
	close(out[1]);
	close(err[1]);
	p->out = out[0];
	p->err = err[0];
}

bool prove_goes_on(const struct proving *p)
{
	siginfo_t info = {};

	assert_int_equal(waitid(P_PID, p->pid, &info, WEXITED | WNOHANG | WNOWAIT), 0);
	return !info.si_pid;
}

void prove_end(struct said *ret, const struct proving *p, const struct as *as)
{
	int status;

	memset(ret, 0, sizeof(*ret));
	if (as && as->signal)
		send_signal(p, as);
	listen_to(ret, p->out, p->err);
	close(p->out);
	close(p->err);
	assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
	ret->code = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

void prove(struct said *ret, const struct as *as, const char *const *words)
{
	struct proving p;

	prove_begin(&p, as, words);
	prove_end(ret, &p, as);
}

void last_line(const struct said *said, unsigned long long *ret_invlock,
	       unsigned long long *ret_naive)
{
	size_t len = strlen(said->out);
	const char *line = said->out + len;
	char again[200];

	assert_true(len > 1);
	assert_int_equal(line[-1], '\n');
	for (line -= 1; line > said->out && line[-1] != '\n'; line--)
		;
	if (sscanf(line, "stale: invlock %llu, naive %llu", ret_invlock, ret_naive) != 2)
		fail_msg("the last line is: %s", line);
	snprintf(again, sizeof(again), "stale: invlock %llu, naive %llu\n", *ret_invlock,
		 *ret_naive);
	assert_string_equal(line, again);
}

const char *const prove_seconds[] = { "2", "20", "100", NULL };

bool has_judged(const struct said *said)
{
	unsigned long long invlock, naive;

	if (said->code != 1)
		return true;
	last_line(said, &invlock, &naive);
	return invlock > 0;
}

void expect(const struct said *said, int code)
{
	if (said->code != code)
		print_message("%s%s\n", said->out, said->err);
	assert_int_equal(said->code, code);
}

void expect_proof(const struct said *said)
{
	unsigned long long invlock, naive;

	expect(said, 0);
	last_line(said, &invlock, &naive);
	assert_int_equal(invlock, 0);
	assert_true(naive > 0);
}

void make_directory(char name[64])
{
	strcpy(name, "/var/tmp/invlock-test-XXXXXX");
	assert_non_null(mkdtemp(name));
	assert_int_equal(chmod(name, 0777), 0);
}

void remove_empty_directory(const char *name)
{
	if (rmdir(name))
		fail_msg("%s: %s", name, strerror(errno));
}
