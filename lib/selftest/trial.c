// SPDX-License-Identifier: MIT
/* What the run functions of changes are written with: see trial.h. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/page.h"
#include "trial.h"

__attribute__((format(printf, 3, 4)))
static void decide(struct trial *t, enum change_verdict verdict, const char *format, ...)
{
	va_list args;

	t->ret->verdict = verdict;
	va_start(args, format);
	vsnprintf(t->ret->reason, sizeof(t->ret->reason), format, args);
	va_end(args);
}

void trial_unknown(struct trial *t, const char *format, ...)
{
	va_list args;

	invlock_read_end(&t->target);
	invlock_read_end(&t->control);
	t->ret->verdict = CHANGE_UNKNOWN;
	va_start(args, format);
	vsnprintf(t->ret->reason, sizeof(t->ret->reason), format, args);
	va_end(args);
}

u8 *trial_map(struct trial *t, int flags, int fd)
{
	u8 *p = mmap(NULL, t->len, PROT_READ | PROT_WRITE, flags, fd, 0);

	if (p == MAP_FAILED) {
		trial_unknown(t, "no memory to try it on: %s", strerror(errno));
		return NULL;
	}
	memset(p, 1, t->len);
	return p;
}

/* Runs a section that translates nothing, since only its validity counts. 0 or -errno */
static int translate(struct invlock_read *rd, struct invlock_mm *mm, const void *addr, size_t len)
{
	invlock_read_init(rd, mm, addr, len, NULL, 0);
	while (invlock_read_attempt(rd))
		if (invlock_read_commit(rd))
			break;
	return invlock_read_error(rd);
}

bool trial_begin(struct trial *t, const void *addr, size_t len)
{
	int err = translate(&t->target, t->mm, addr, len);

	if (err == -EBUSY) {
		t->disturbed = true;
		trial_unknown(t, "disturbed: the memory never became quiet");
	} else if (err == -EOWNERDEAD || err == -ENOTRECOVERABLE) {
		trial_unknown(t, "the monitor has stopped: %s", strerror(-err));
	} else if (err == -EMEDIUMTYPE) {
		trial_unknown(t, "the monitor refuses such memory, so nothing of it can be stale");
		t->ret->verdict = CHANGE_REFUSED;
	} else if (err) {
		trial_unknown(t, "the monitor does not watch such memory: %s", strerror(-err));
		t->ret->verdict = CHANGE_REFUSED;
	}
	if (err)
		return false;
	err = translate(&t->control, t->mm, t->control_page, t->page);
	if (err) {
		t->disturbed = true;
		trial_unknown(t, "disturbed: no translation of other memory: %s", strerror(-err));
		return false;
	}
	if (!invlock_read_valid(&t->target) || !invlock_read_valid(&t->control)) {
		t->disturbed = true;
		trial_unknown(t, "disturbed: stale before the change was made");
		return false;
	}
	return true;
}

/*
 * A reader that meets a half-written event must answer "stale", although nothing may overlap. The
 * answer to a real overlap does not go away. So we ask again after the control was asked, and only
 * the second answer counts.
 */
static bool is_stale(struct trial *t)
{
	if (invlock_read_valid(&t->target))
		return false;
	t->control_hit = !invlock_read_valid(&t->control);
	return !invlock_read_valid(&t->target);
}

void trial_end(struct trial *t, int made)
{
	int err = errno;

	if (made) {
		trial_unknown(t, "cannot be made here: %s", strerror(err));
		return;
	}
	if (is_stale(t))
		decide(t, CHANGE_SEEN, "%s", t->control_hit ? "also hits unrelated memory" : "");
	else
		decide(t, CHANGE_MISSED, "%s", "");
	invlock_read_end(&t->target);
	invlock_read_end(&t->control);
}

void trial_private(struct trial *t)
{
	u8 *p = trial_map(t, MAP_PRIVATE | MAP_ANONYMOUS, -1);

	if (!p)
		return;
	if (trial_begin(t, p, t->len))
		trial_end(t, t->change->make(p, t->len));
	munmap(p, t->len);
}

void trial_shared(struct trial *t)
{
	u8 *p = trial_map(t, MAP_SHARED | MAP_ANONYMOUS, -1);

	if (!p)
		return;
	if (trial_begin(t, p, t->len))
		trial_end(t, t->change->make(p, t->len));
	munmap(p, t->len);
}

void trial_unmapped(struct trial *t)
{
	u8 *p = trial_map(t, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	int made = -1;

	if (!p)
		return;
	if (trial_begin(t, p, t->len)) {
		made = t->change->make(p, t->len);
		trial_end(t, made);
	}
	if (made)
		munmap(p, t->len);
}

bool page_is_present(const void *addr)
{
	size_t page = page_bytes();
	unsigned char present = 0;

	return !mincore((void *)((unsigned long)addr & ~(page - 1)), page, &present) &&
	       (present & 1);
}
