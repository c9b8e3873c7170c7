// SPDX-License-Identifier: MIT
#include <bpf/bpf.h>
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include "rig.h"

#define PATIENCE_NS	300000000000ULL	/* to load programs takes long where others load some */

static char folder[64], where[80], config[80], said[80];
static pid_t daemon_pid;
static int passed_socket = -1;

const char *daemon_socket(void)
{
	return where;
}

static void make_folder(const char *policy)
{
	FILE *f;

	if (!folder[0]) {
		strcpy(folder, "/tmp/invlockd-XXXXXX");
		assert_non_null(mkdtemp(folder));
		/* for clients that are other users */
		assert_int_equal(chmod(folder, 0755), 0);
		snprintf(where, sizeof(where), "%s/socket", folder);
		snprintf(config, sizeof(config), "%s/conf", folder);
		snprintf(said, sizeof(said), "%s/said", folder);
	}
	f = fopen(config, "we");
	assert_non_null(f);
	fputs(policy, f);
	fclose(f);
}

static bool has_said(const char *text)
{
	char line[1024];
	bool found = false;
	FILE *f = fopen(said, "re");

	while (f && !found && fgets(line, sizeof(line), f))
		found = strstr(line, text);
	if (f)
		fclose(f);
	return found;
}

bool daemon_said(const char *text)
{
	u64 give_up = port_now() + PATIENCE_NS;

	while (!has_said(text)) {
		if (port_now() > give_up || (daemon_pid && waitpid(daemon_pid, NULL, WNOHANG)))
			return has_said(text);
		nap_ms(5);
	}
	return true;
}

void daemon_be_systemd(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	make_folder("");
	strcpy(addr.sun_path, where);
	passed_socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_true(passed_socket >= 0);
	assert_int_equal(bind(passed_socket, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(chmod(where, 0666), 0);
	assert_int_equal(listen(passed_socket, 16), 0);
	setenv("INVLOCK_SOCKET", where, 1);
	other_monitor = &monitor_daemon;
}

static void pass_socket(void)
{
	char pid[16];

	if (passed_socket < 0)
		return;
	snprintf(pid, sizeof(pid), "%d", getpid());
	setenv("LISTEN_PID", pid, 1);
	setenv("LISTEN_FDS", "1", 1);
	dup2(passed_socket, 3);
	/* if it was 3 already */
	fcntl(3, F_SETFD, 0);
}

void daemon_start(const char *policy)
{
	const char *program = getenv("INVLOCKD");

	assert_non_null(program);
	make_folder(policy);
	unlink(said);
	daemon_pid = fork();
	assert_true(daemon_pid >= 0);
	if (!daemon_pid) {
		int log = open(said, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(log, STDERR_FILENO);
		pass_socket();
		execl(program, program, "--socket", where, "--config", config, NULL);
		_exit(127);
	}
	setenv("INVLOCK_SOCKET", where, 1);
	other_monitor = &monitor_daemon;
	if (daemon_said("ready"))
		return;
	daemon_pid = 0;
	if (has_said("Operation not permitted") || has_said("no BTF"))
		TEST_SKIP("this machine lets no BPF program be loaded");
	fail_msg("the daemon did not start: see %s", said);
}

void daemon_end(int sig)
{
	int status;

	assert_int_equal(kill(daemon_pid, sig ?: SIGTERM), 0);
	assert_int_equal(waitpid(daemon_pid, &status, 0), daemon_pid);
	daemon_pid = 0;
	assert_int_equal(status, sig);
}

int daemon_gone(void **state)
{
	(void)state;
	if (daemon_pid) {
		kill(daemon_pid, SIGKILL);
		waitpid(daemon_pid, NULL, 0);
		daemon_pid = 0;
	}
	if (passed_socket >= 0)
		close(passed_socket);
	passed_socket = -1;
	unlink(where);
	unlink(config);
	unlink(said);
	rmdir(folder);
	folder[0] = '\0';
	return 0;
}

void daemon_programs(struct programs *ret)
{
	ret->nr = 0;
	for (int fd = 0; fd < 1024; fd++) {
		char path[64], line[128];
		FILE *f;

		snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", daemon_pid, fd);
		f = fopen(path, "re");
		if (!f)
			continue;
		while (fgets(line, sizeof(line), f))
			if (ret->nr < 256 && sscanf(line, "prog_id: %u", &ret->id[ret->nr]) == 1)
				ret->nr++;
		fclose(f);
	}
	assert_true(ret->nr > 10);
}

unsigned int daemon_files(void)
{
	unsigned int nr = 0;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", daemon_pid);
	dir = opendir(path);
	assert_non_null(dir);
	while (readdir(dir))
		nr++;
	closedir(dir);
	return nr;
}

static struct maps count_maps(void)
{
	struct maps maps = {};

	for (int fd = 0; fd < 1024; fd++) {
		char path[64], line[128];
		bool is_map = false;
		unsigned long bytes;
		FILE *f;

		snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", daemon_pid, fd);
		f = fopen(path, "re");
		if (!f)
			continue;
		while (fgets(line, sizeof(line), f)) {
			is_map |= !strncmp(line, "map_type:", 9);
			if (!is_map || sscanf(line, "memlock: %lu", &bytes) != 1)
				continue;
			maps.nr++;
			maps.bytes += bytes;
		}
		fclose(f);
	}
	return maps;
}

struct maps daemon_maps(unsigned int nr)
{
	u64 give_up = port_now() + PATIENCE_NS;
	struct maps maps = count_maps();

	while (nr && maps.nr != nr) {
		assert_true(port_now() < give_up);
		nap_ms(10);
		maps = count_maps();
	}
	return maps;
}

static unsigned int count_programs(const struct programs *p)
{
	unsigned int nr = 0;

	for (unsigned int i = 0; i < p->nr; i++) {
		int fd = bpf_prog_get_fd_by_id(p->id[i]);

		nr += fd >= 0;
		if (fd >= 0)
			close(fd);
	}
	return nr;
}

bool programs_run(const struct programs *p)
{
	return count_programs(p) > p->nr / 2;
}

bool programs_go(const struct programs *p)
{
	u64 give_up = port_now() + PATIENCE_NS;

	while (count_programs(p)) {
		if (port_now() > give_up)
			return false;
		nap_ms(10);
	}
	return true;
}

void become(uid_t uid)
{
	if (setgroups(0, NULL) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid) ||
	    prctl(PR_SET_DUMPABLE, 1))
		_exit(99);
}

void become_nobody(void)
{
	become(NOBODY);
}

unsigned int how_many(const char *variable, unsigned int otherwise)
{
	const char *text = getenv(variable);

	return text ? strtoul(text, NULL, 10) : otherwise;
}

int daemon_connection(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	strcpy(addr.sun_path, where);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}
