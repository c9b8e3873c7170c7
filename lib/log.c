// SPDX-License-Identifier: MIT
#include "log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/port.h"

/* room for the sentences of all monitors, and one more */
#define TEXT_SIZE	5000

/* A function and its context, which change together. Others may read an old one, so it stays. */
struct log {
	void (*log)(void *ctx, enum invlock_log_event event, const char *text);
	void *ctx;
	const struct log *older;
};

static const struct log *now;
static __thread bool is_logging;

int invlock_log_set(void (*log)(void *ctx, enum invlock_log_event event, const char *text),
		    void *ctx)
{
	struct log *l = malloc(sizeof(*l));
	const struct log *seen;

	if (!l)
		return -ENOMEM;
	*l = (struct log){ log, ctx, port_load(&now) };
	/* release: pairs with the acquire in log_event() */
	while ((seen = port_cmpxchg(&now, l->older, (const struct log *)l)) != l->older)
		l->older = seen;
	return 0;
}

bool log_is_set(void)
{
	const struct log *l = port_load_acquire(&now);

	return l && l->log && !is_logging;
}

void log_event(enum invlock_log_event event, const char *format, ...)
{
	const struct log *l = port_load_acquire(&now);
	char text[TEXT_SIZE];
	va_list args;
	int old_state;

	/* The function itself has made the library log something: that may go on for ever. */
	if (!l || !l->log || is_logging)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old_state);
	is_logging = true;
	l->log(l->ctx, event, text);
	is_logging = false;
	pthread_setcancelstate(old_state, NULL);
}
