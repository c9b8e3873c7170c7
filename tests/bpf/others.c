// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include "others.h"

struct invlock_mm other_mm;
const struct monitor *other_monitor = &monitor_bpf;

static int answer_open(void)
{
	memset(&other_mm, 0, sizeof(other_mm));
	other_mm.monitor = other_monitor;
	return -other_monitor->open(&other_mm, NULL);
}

int answer_change(void)
{
	struct watched victim, bystander;
	char *stripe = stripe_new();
	int wrong = 0;

	watched_sample(&victim, &other_mm, stripe + VICTIM);
	watched_sample(&bystander, &other_mm, stripe + BYSTANDER);
	if (watched_verdict(&victim) != INVLOCK_VALID)
		wrong |= 1;
	munmap(stripe + VICTIM, PAGE);
	if (watched_verdict(&victim) != INVLOCK_STALE)
		wrong |= 2;
	if (watched_verdict(&bystander) != INVLOCK_VALID)
		wrong |= 4;
	if (other_mm.il.feed->flags || other_mm.il.feed->lost || !feed_quiet(&other_mm))
		wrong |= 8;
	stripe_free(stripe);
	return wrong;
}

static int answer(char order)
{
	switch (order) {
	case OPEN:
		return answer_open();
	case CHANGE:
		return answer_change();
	case COUNT:
		return (unsigned char)other_mm.il.feed->sequence;
	case CLOSE:
		monitor_close(&other_mm);
		return 0;
	}
	return 255;
}

static void obey(int in, int out)
{
	char order;
	unsigned char result;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (read(in, &order, 1) == 1 && order != EXIT) {
		result = answer(order);
		if (write(out, &result, 1) != 1)
			break;
	}
	_exit(0);
}

void other_start(struct other *o, void (*first)(void))
{
	int in[2], out[2];

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	o->pid = fork();
	assert_true(o->pid >= 0);
	if (!o->pid) {
		if (first)
			first();
		close(in[1]);
		obey(in[0], out[1]);
	}
	o->to = in[1];
	o->from = out[0];
	close(in[0]);
	close(out[1]);
}

void tell(const struct other *o, enum order order)
{
	char c = order;

	assert_int_equal(write(o->to, &c, 1), 1);
}

int hear(const struct other *o)
{
	unsigned char c;

	assert_int_equal(read(o->from, &c, 1), 1);
	return c;
}

int other_do(const struct other *o, enum order order)
{
	tell(o, order);
	return hear(o);
}

/* Ends the process by this signal; 0: by a plain exit. */
void other_end(struct other *o, int sig)
{
	int status;

	if (sig)
		kill(o->pid, sig);
	else
		tell(o, EXIT);
	close(o->to);
	close(o->from);
	assert_int_equal(waitpid(o->pid, &status, 0), o->pid);
	assert_int_equal(status, sig);
}

void others_open(struct other *o, int nr)
{
	for (int i = 0; i < nr; i++) {
		other_start(&o[i], NULL);
		assert_int_equal(other_do(&o[i], OPEN), 0);
	}
}

void others_end(struct other *o, int nr)
{
	for (int i = 0; i < nr; i++)
		other_end(&o[i], 0);
}
