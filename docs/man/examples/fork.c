/* SPDX-License-Identifier: MIT */
/* Forks. What the parent has opened is dead in the child, and the child can say so. */
#include <invlock/mm.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
	struct invlock_mm_options options = { .size = sizeof(options), .monitor = "manual" };
	struct invlock_mm *mm;
	struct invlock_why why;
	pid_t pid;

	if (invlock_mm_open(&options, &mm, &why)) {
		fprintf(stderr, "%s\n", why.text);
		return 1;
	}
	pid = fork();
	if (pid)
		waitpid(pid, NULL, 0);
	printf("%s: %s\n", pid ? "parent" : "child", invlock_mm_alive(mm) ? "alive" : "dead");
	invlock_mm_close(mm);
	return 0;
}
