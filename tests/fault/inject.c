// SPDX-License-Identifier: MIT
#include "inject.h"
#include "tests/arch.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_S	120	/* a job takes a second; after this time it counts as hanging */
#define MARK		0x7e57L	/* no system call: marks the window's begin or end */

static const struct fault *current;
static struct outcome *outcome;

void inject_window(bool open)
{
	syscall(MARK, open);
	allocations_window(open);
}

void complain(struct outcome *out, const char *format, ...)
{
	va_list args;

	if (out->wrong[0])
		return;
	va_start(args, format);
	vsnprintf(out->wrong, sizeof(out->wrong), format, args);
	va_end(args);
}

static long count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	long nr = 0;

	while (dir && readdir(dir))
		nr++;
	if (dir)
		closedir(dir);
	return nr;
}

static void run_job(job_fn *job)
{
	alarm(PATIENCE_S);
	if (current->kind == FAULT_ALLOCATION)
		allocations_fail(current->nth, current->and_all_later);
	job(current, outcome);
	outcome->nr_allocations = allocations_made(&outcome->met_allocation);
	outcome->holdings.fds = count_fds();
	allocations_held(&outcome->holdings);
	outcome->ended = true;
	/* Not exit(): LeakSanitizer runs there, and does not work under a debugger. */
	_exit(0);
}

/* Calls that cannot fail; and futex, since libc does not repeat a wake-up that fails. */
static bool spared(unsigned long long nr)
{
	switch (nr) {
	case SYS_exit:
	case SYS_exit_group:
	case SYS_rt_sigreturn:
	case SYS_rt_sigprocmask:
	case SYS_sched_yield:
	case SYS_gettid:
	case SYS_set_robust_list:
	case SYS_rseq:
	case SYS_futex:
		return true;
	default:
		return false;
	}
}

/* in the tracer: is the window of the running child open? */
static bool window;
static pid_t failing;

/* Called before and after each system call of a thread. */
static void at_syscall(pid_t tid)
{
	struct __ptrace_syscall_info info;

	if (ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof(info), &info) <= 0)
		return;
	if (info.op == PTRACE_SYSCALL_INFO_EXIT && tid == failing) {
		/* brk returns the heap's end, and libc finds that it did not move */
		change_result(tid, outcome->met == SYS_brk ? 0 : -current->err);
		failing = 0;
	}
	if (info.op != PTRACE_SYSCALL_INFO_ENTRY)
		return;
	if (info.entry.nr == MARK) {
		window = info.entry.args[0];
		return;
	}
	if (!window || spared(info.entry.nr))
		return;
	if (++outcome->nr_syscalls == current->nth) {
		outcome->met = info.entry.nr;
		failing = tid;
		/*
		 * The call is not made. Only close is, because a close that fails has closed all
		 * the same.
		 */
		if (info.entry.nr != SYS_close)
			change_call(tid, -1);
	}
}

/* Return: how the child ended, as from waitpid() */
static int trace(pid_t pid)
{
	pid_t tid;
	int status;

	window = false;
	failing = 0;
	/* the child stops itself once */
	waitpid(pid, &status, 0);
	ptrace(PTRACE_SETOPTIONS, pid, NULL,
	       PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL);
	ptrace(PTRACE_SYSCALL, pid, NULL, 0L);
	for (;;) {
		long sig = 0;

		tid = waitpid(-1, &status, __WALL);
		if (tid == pid && !WIFSTOPPED(status))
			return status;
		if (tid < 0 || !WIFSTOPPED(status))
			continue;
		if (WSTOPSIG(status) == (SIGTRAP | 0x80))
			at_syscall(tid);
		else if (!(status >> 16) && WSTOPSIG(status) != SIGSTOP)
			sig = WSTOPSIG(status);
		ptrace(PTRACE_SYSCALL, tid, NULL, sig);
	}
}

static int may_trace(void)
{
	int status;
	pid_t pid;

	if (!CAN_CHANGE_CALLS)
		return -ENOSYS;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (!pid)
		_exit(ptrace(PTRACE_TRACEME, 0, NULL, NULL) ? errno : 0);
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EPERM;
}

int inject(const struct fault *f, job_fn *job, struct outcome *out)
{
	bool traced = f->kind == FAULT_SYSCALL;
	int status, err;
	pid_t pid;

	err = traced ? may_trace() : 0;
	if (err)
		return err;
	outcome = mmap(NULL, sizeof(*outcome), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		       -1, 0);
	if (outcome == MAP_FAILED)
		return -errno;
	outcome->met = -1;
	current = f;
	pid = fork();
	if (!pid) {
		if (traced) {
			ptrace(PTRACE_TRACEME, 0, NULL, NULL);
			raise(SIGSTOP);
		}
		run_job(job);
	}
	if (pid < 0)
		return -errno;
	if (traced)
		status = trace(pid);
	else
		waitpid(pid, &status, 0);
	if (WIFSIGNALED(status))
		complain(outcome, "%s signal %d", WTERMSIG(status) == SIGALRM ? "it hangs:" :
			 "killed by", WTERMSIG(status));
	else if (!outcome->ended)
		complain(outcome, "ended with status %#x", status);
	*out = *outcome;
	munmap(outcome, sizeof(*outcome));
	return 0;
}
