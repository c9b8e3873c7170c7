// SPDX-License-Identifier: MIT
/* One change, tried until nothing but the change itself can explain the answer. */
#include "map_change.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/page.h"
#include "trial.h"

#define NR_TRIES	6
#define FIRST_PAUSE_US	1000
#define NR_PAGES	16

static const char *const verdict_names[NR_CHANGE_VERDICTS] = {
	[CHANGE_MISSED]		= "missed",
	[CHANGE_SEEN]		= "seen",
	[CHANGE_REFUSED]	= "refused",
	[CHANGE_UNKNOWN]	= "unknown",
};

const char *change_verdict_name(enum change_verdict verdict)
{
	return verdict_names[verdict];
}

void map_change_test(const struct map_change *c, struct invlock_mm *mm, struct change_result *ret)
{
	size_t page = page_bytes();
	void *control = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			     -1, 0);
	struct trial t;

	ret->verdict = CHANGE_UNKNOWN;
	if (control == MAP_FAILED) {
		snprintf(ret->reason, sizeof(ret->reason), "no memory to try it on: %s",
			 strerror(errno));
		return;
	}
	memset(control, 1, page);
	for (unsigned int i = 0; i < NR_TRIES; i++) {
		t = (struct trial){
			.change = c,
			.mm = mm,
			.ret = ret,
			.page = page,
			.len = NR_PAGES * page,
			.control_page = control,
		};
		*ret = (struct change_result){ CHANGE_UNKNOWN, "was not made" };
		c->run(&t);
		/* Other threads may disturb one try. Only an undisturbed answer counts. */
		if (!t.disturbed && !t.control_hit)
			break;
		/* Another thread may have lost its CPU in the middle of writing an event. */
		if (t.disturbed)
			usleep(FIRST_PAUSE_US << i);
	}
	munmap(control, page);
}
