/* SPDX-License-Identifier: MIT */
/* Has the library write to the system's log, then opens the monitor of this machine. */
#include <invlock/log.h>
#include <invlock/mm.h>
#include <stdio.h>
#include <syslog.h>

static void log_to_syslog(void *ctx, enum invlock_log_event event, const char *text)
{
	(void)ctx;
	syslog(event == INVLOCK_LOG_OPENED ? LOG_INFO : LOG_WARNING, "invlock: %s", text);
}

int main(void)
{
	struct invlock_mm *mm;
	struct invlock_why why;

	openlog("example", LOG_PERROR, LOG_USER);
	if (invlock_log_set(log_to_syslog, NULL))
		return 1;
	if (invlock_mm_open(NULL, &mm, &why)) {
		fprintf(stderr, "%s\n", why.text);
		return 1;
	}
	printf("opened\n");
	invlock_mm_close(mm);
	return 0;
}
