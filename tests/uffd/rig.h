/* SPDX-License-Identifier: MIT */
/* A uffd monitor that is opened directly, and translations of this process's memory. */
#ifndef INVLOCK_TESTS_UFFD_RIG_H
#define INVLOCK_TESTS_UFFD_RIG_H

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/section.h"
#include "lib/monitor/monitor.h"
#include "lib/monitor/uffd/uffd.h"
#include "tests/test.h"


struct rig {
	struct invlock_mm mm;
	struct invlock_why why;
};

struct translation {
	u64 start, end;
	struct invlock_snapshot snap;
};

static inline int rig_open(struct rig *rig)
{
	*rig = (struct rig){};
	return monitor_uffd.open(&rig->mm, &rig->why);
}

static inline void rig_close(struct rig *rig)
{
	monitor_uffd.close(&rig->mm, true);
}

/* A kernel that is too old, or a seccomp profile, is a reason to skip and not to fail. */
#define RIG_OPEN(rig)							\
do {									\
	int rig_err = rig_open(rig);					\
									\
	if (rig_err == -ENOSYS || rig_err == -EPERM || rig_err == -EOPNOTSUPP) \
		TEST_SKIP("%.190s", (rig)->why.text);			\
	if (rig_err)							\
		fail_msg("open: %d, %s", rig_err, (rig)->why.text);	\
} while (0)

static inline struct uffd *rig_uffd(struct rig *rig)
{
	return rig->mm.data;
}

static inline void *map_at(void *addr, size_t bytes, int flags)
{
	return mmap(addr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1,
		    0);
}

/*
 * A mapping that merges with no other, because there is nothing on either side of it. What a
 * sanitizer or another thread maps meanwhile goes to the highest gap: so a large one is left above,
 * behind a page that stays.
 */
static inline char *map_alone(size_t bytes)
{
	const size_t room = bytes + 2 * PAGE, above = 64UL << 20;
	char *p = mmap(NULL, room + PAGE + above, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	munmap(p + room + PAGE, above);
	munmap(p, room);
	p = map_at(p + PAGE, bytes, MAP_FIXED_NOREPLACE);
	assert_ptr_not_equal(p, MAP_FAILED);
	return p;
}

/* Spins, and yields when it takes long: there may be more threads than CPUs. */
static inline void wait_a_little(u32 *nr)
{
	if (++*nr % 5000)
		port_relax();
	else
		sched_yield();
}

/* At most one round for each collision. make() does the work of the translation; it may be NULL. */
static inline int translate_with(struct rig *rig, void *addr, size_t bytes, struct translation *t,
				 void (*make)(void *arg), void *arg)
{
	const struct invlock_budget patient = { .rounds = 1000000, .time_ns = ~0ULL };
	u64 start = (unsigned long)addr;
	struct invlock_section s;
	int err = 0;

	*t = (struct translation){};
	invlock_section_init(&s, &rig->mm.il, start, start + bytes, &patient, 0);
	while (invlock_attempt(&s)) {
		/*
		 * Watch after the sample: if the mapping is replaced after that, the commit sees a
		 * collision.
		 */
		err = monitor_uffd.watch(&rig->mm, start, start + bytes);
		if (err)
			return err;
		if (make)
			make(arg);
		if (invlock_commit(&s))
			break;
		monitor_uffd.unwatch(&rig->mm, start, start + bytes);
	}
	*t = (struct translation){ start, start + bytes, s.snap };
	return invlock_section_error(&s);
}

static inline int translate(struct rig *rig, void *addr, size_t bytes, struct translation *t)
{
	return translate_with(rig, addr, bytes, t, NULL, NULL);
}

static inline void drop(struct rig *rig, const struct translation *t)
{
	monitor_uffd.unwatch(&rig->mm, t->start, t->end);
}

static inline bool is_valid(struct rig *rig, struct translation *t)
{
	for (u32 waits = 0; ; waits++) {
		enum invlock_verdict v = invlock_validate(&rig->mm.il, &t->snap, t->start, t->end);

		if (v != INVLOCK_UNSETTLED)
			return v == INVLOCK_VALID;
		port_wait(waits, false);
	}
}

/*
 * Whether the kernel says in smaps that the mapping at addr is watched; the monitor is not asked.
 */
static inline bool kernel_watches(const void *addr)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long start, end;
	bool here = false, watched = false;
	char line[512];

	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2 &&
		    strchr(line, '-') < strchr(line, ' '))
			here = start <= (unsigned long)addr && (unsigned long)addr < end;
		else if (here && !strncmp(line, "VmFlags:", 8))
			watched = strstr(line, " uw") != NULL;
	}
	fclose(f);
	return watched;
}

static inline unsigned int count_lines(const char *path)
{
	FILE *f = fopen(path, "re");
	unsigned int nr = 0;
	int c;

	assert_non_null(f);
	while ((c = fgetc(f)) != EOF)
		nr += c == '\n';
	fclose(f);
	return nr;
}

#endif /* INVLOCK_TESTS_UFFD_RIG_H */
