// SPDX-License-Identifier: MIT
/* The changes of `invlock doctor` are real, do no harm, and are judged by the translation alone. */
#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>

#include <invlock/manual.h>

#include "tests/test.h"
#include "lib/selftest/trial.h"
#include "tool/changes/changes.h"
#include "lib/monitor/monitor.h"

static struct invlock_mm *open_or_skip(const char *name)
{
	struct invlock_mm_options o = { .size = sizeof(o), .monitor = name };
	struct invlock_mm *mm;
	struct invlock_why why;

	for (unsigned int i = 0; monitors[i]; i++)
		if (!strcmp(monitors[i]->name, name))
			o.need = monitors[i]->seen;
	if (invlock_mm_open(&o, &mm, &why))
		TEST_SKIP("%.150s", why.text);
	return mm;
}

static unsigned int count_mappings(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	unsigned int nr = 0;
	int c;

	assert_non_null(f);
	while ((c = getc(f)) != EOF)
		nr += c == '\n';
	fclose(f);
	return nr;
}

TEST(every_change_has_a_name_of_its_own_and_a_kind)
{
	const struct map_change *c;
	unsigned int nr = 0;

	for (; (c = map_change_at(nr)); nr++) {
		assert_in_range(c->kind, INVLOCK_KIND_UNMAP, INVLOCK_NR_KINDS - 1);
		for (unsigned int i = 0; i < nr; i++)
			assert_string_not_equal(c->name, map_change_at(i)->name);
	}
	assert_true(nr >= 35);
}

TEST(without_a_monitor_that_reports_no_change_is_seen)
{
	struct invlock_mm *mm = open_or_skip("manual");
	const struct map_change *c;
	struct change_result r;
	unsigned int nr_missed = 0;

	for (unsigned int nr = 0; (c = map_change_at(nr)); nr++) {
		map_change_test(c, mm, &r);
		if (r.verdict == CHANGE_MISSED)
			nr_missed++;
		else if (r.verdict != CHANGE_UNKNOWN || !r.reason[0])
			fail_msg("%s: %s: %s", c->name, change_verdict_name(r.verdict), r.reason);
		else
			print_message("# %s: %s\n", c->name, r.reason);
	}
	/* A container may forbid some changes, but not most of them. */
	assert_true(nr_missed >= 15);
	invlock_mm_close(mm);
}

/* ThreadSanitizer maps shadow memory for each thread's stack, and keeps it. */
static bool maps_by_itself(const struct map_change *c)
{
#ifdef __SANITIZE_THREAD__
	for (const struct map_change *s = stack_changes; s->name; s++)
		if (s == c)
			return true;
#endif
	(void)c;
	return false;
}

TEST(changes_leave_the_number_of_mappings_as_it_was)
{
	struct invlock_mm *mm = open_or_skip("manual");
	const struct map_change *c;
	struct change_result r;
	unsigned int before;

	for (unsigned int nr = 0; (c = map_change_at(nr)); nr++) {
		if (maps_by_itself(c)) {
			print_message("# %s: not counted under ThreadSanitizer\n", c->name);
			continue;
		}
		/* The first run: libc keeps mappings that it needs from then on. */
		map_change_test(c, mm, &r);
		before = count_mappings();
		map_change_test(c, mm, &r);
		if (count_mappings() != before)
			fail_msg("%s: %u mappings, then %u", c->name, before, count_mappings());
	}
	invlock_mm_close(mm);
}

struct disturbance {
	pthread_t thread;
	struct invlock_mm *mm;
	void (*step)(struct disturbance *s);
	bool stop;
};

static void *blow(void *arg)
{
	struct disturbance *s = arg;

	while (!port_load(&s->stop))
		s->step(s);
	return NULL;
}

static void start(struct disturbance *s)
{
	assert_int_equal(pthread_create(&s->thread, NULL, blow, s), 0);
}

static void stop(struct disturbance *s)
{
	port_store(&s->stop, true);
	pthread_join(s->thread, NULL);
}

/* Changes that a busy program makes all day: heap, mappings, pages. */
static void change_other_memory(struct disturbance *s)
{
	char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *block = malloc(200000);

	(void)s;
	if (block)
		memset(block, 1, 200000);
	free(block);
	if (p != MAP_FAILED) {
		p[0] = 1;
		madvise(p, 8192, MADV_DONTNEED);
		munmap(p, 8192);
	}
}

static void sees_what_it_claims_beside_other_threads(const char *name)
{
	struct invlock_mm *mm = open_or_skip(name);
	struct disturbance storm = { .mm = mm, .step = change_other_memory };
	const struct map_change *c;
	struct change_result r;
	unsigned int nr_seen = 0;

	start(&storm);
	for (unsigned int nr = 0; (c = map_change_at(nr)); nr++) {
		map_change_test(c, mm, &r);
		if (!(mm->seen >> c->kind & 1))
			continue;
		if (r.verdict == CHANGE_SEEN) {
			nr_seen++;
			continue;
		}
		/*
		 * The storm allocates, so it may move the heap's end; and the monitor may refuse
		 * some memory. Every other change must be seen.
		 */
		print_message("# %s: %s: %s\n", c->name, change_verdict_name(r.verdict), r.reason);
		if (r.verdict == CHANGE_REFUSED && strstr(r.reason, "refuses such memory"))
			continue;
		if (r.verdict != CHANGE_UNKNOWN || strstr(r.reason, "disturbed")) {
			stop(&storm);
			fail_msg("%s: %s: %s", c->name, change_verdict_name(r.verdict), r.reason);
		}
	}
	stop(&storm);
	assert_true(nr_seen >= 10);
	invlock_mm_close(mm);
}

TEST(bpf_sees_what_it_claims_while_other_threads_change_memory)
{
	sees_what_it_claims_beside_other_threads("bpf");
}

TEST(uffd_sees_what_it_claims_while_other_threads_change_memory)
{
	sees_what_it_claims_beside_other_threads("uffd");
}

/* Changes of the feed alone, which show what the verdict depends on. */
static struct invlock_mm *played;

static void report(const void *addr, size_t len)
{
	invlock_manual_start(played, addr, len);
	invlock_manual_end(played, addr, len);
}

static int report_it(void *addr, size_t len)
{
	report(addr, len);
	return 0;
}

static int report_everything(void *addr, size_t len)
{
	(void)addr;
	(void)len;
	report(NULL, 0);
	return 0;
}

static int fail_to(void *addr, size_t len)
{
	report(addr, len);
	errno = ENOSYS;
	return -1;
}

static struct change_result play(int (*make)(void *addr, size_t len))
{
	struct map_change c = { "played", INVLOCK_KIND_UNMAP, trial_private, make };
	struct change_result r;

	map_change_test(&c, played, &r);
	return r;
}

TEST(a_verdict_distinguishes_seen_seen_by_accident_and_not_made)
{
	struct change_result r;

	played = open_or_skip("manual");
	r = play(report_it);
	assert_int_equal(r.verdict, CHANGE_SEEN);
	assert_string_equal(r.reason, "");
	r = play(report_everything);
	assert_int_equal(r.verdict, CHANGE_SEEN);
	assert_string_equal(r.reason, "also hits unrelated memory");
	r = play(fail_to);
	assert_int_equal(r.verdict, CHANGE_UNKNOWN);
	assert_non_null(strstr(r.reason, strerror(ENOSYS)));
	invlock_mm_close(played);
}

static unsigned int nr_watched;

/* In each trial the second watch comes when the first translation exists. */
static int disturb(struct invlock_mm *mm, u64 from, u64 to)
{
	(void)mm;
	(void)from;
	(void)to;
	if (++nr_watched % 2 == 0)
		report(NULL, 0);
	return 0;
}

TEST(a_translation_that_was_stale_before_the_change_is_no_proof)
{
	struct monitor disturbing;
	struct invlock_mm other;
	struct change_result r;

	played = open_or_skip("manual");
	disturbing = *played->monitor;
	disturbing.watch = disturb;
	other = *played;
	other.monitor = &disturbing;
	map_change_test(&map_changes[0], &other, &r);
	assert_int_equal(r.verdict, CHANGE_UNKNOWN);
	assert_non_null(strstr(r.reason, "disturbed"));
	/* the trial was repeated more than once */
	assert_true(nr_watched > 4);
	invlock_mm_close(played);
}

static unsigned int nr_asked;

/* A change of neighbouring memory. The first reader finds its event half written. */
static int report_a_neighbour(void *addr, size_t len)
{
	char *next = (char *)addr + len;

	/* In the same stripe as the memory, so that only the event shows the difference. */
	report((unsigned long)next % (1 << INVLOCK_STRIPE_SHIFT) ? next : (char *)addr - 1, 1);
	nr_asked = 0;
	return 0;
}

static bool write_the_event_slowly(void *arg)
{
	const struct invlock *il = arg;
	u64 nr = port_load(&il->feed->sequence);

	if (nr)
		port_store(&il->events[nr & il->event_mask].seq,
			   nr_asked++ ? nr : nr | INVLOCK_EVENT_BUSY);
	return true;
}

TEST(an_event_that_is_being_written_is_not_mistaken_for_the_change)
{
	struct map_change c = { "played", INVLOCK_KIND_UNMAP, trial_private, report_a_neighbour };
	struct invlock_mm other;
	struct change_result r;

	played = open_or_skip("manual");
	other = *played;
	other.il.settle = write_the_event_slowly;
	other.il.settle_arg = &played->il;
	map_change_test(&c, &other, &r);
	assert_true(nr_asked > 1);
	assert_int_equal(r.verdict, CHANGE_MISSED);
	invlock_mm_close(played);
}

static int refuse(struct invlock_mm *mm, u64 from, u64 to)
{
	(void)mm;
	(void)from;
	(void)to;
	return -EFAULT;
}

TEST(memory_that_a_monitor_does_not_watch_is_refused_and_not_missed)
{
	struct invlock_mm *mm = open_or_skip("manual");
	struct monitor refusing = *mm->monitor;
	struct invlock_mm other = *mm;
	struct change_result r;

	refusing.watch = refuse;
	other.monitor = &refusing;
	map_change_test(&map_changes[0], &other, &r);
	assert_int_equal(r.verdict, CHANGE_REFUSED);
	assert_non_null(strstr(r.reason, strerror(EFAULT)));
	invlock_mm_close(mm);
}

TEST_MAIN()
