/* SPDX-License-Identifier: MIT */
/* The check that stands before an operation of UCX, with which a program would go on. */
#include <invlock/ucx.h>
#include <stdio.h>
#include <stdlib.h>

int main(void)
{
	struct invlock_ucx_stats stats = { .size = sizeof(stats) };
	char *buf = malloc(1 << 20);

	for (int i = 0; i < 3; i++) {
		invlock_ucx_check(buf, 1 << 20);
		/* ucp_tag_send_nbx(ep, buf, 1 << 20, tag, &param) follows here */
	}
	invlock_ucx_stats(&stats);
	printf("%llu checks, UCX was told to forget %llu times\n",
	       (unsigned long long)stats.checks, (unsigned long long)stats.forgotten);
	free(buf);
	return 0;
}
