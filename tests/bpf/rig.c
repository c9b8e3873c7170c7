// SPDX-License-Identifier: MIT
#include <bpf/bpf.h>
#include <dirent.h>
#include <fcntl.h>
#include "lib/monitor/bpf/progset.h"
#include "rig.h"

#define PREEMPTION	"/sys/kernel/debug/sched/preempt"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY	1
#endif

/* Printed once, because the tests of a program open the monitor many times. */
static void say_where(const struct invlock_mm *mm)
{
	static int said = -1;
	struct bpf_set_header head;

	monitor_bpf_set(mm, &head);
	if (said != (int)head.attached)
		print_message("# at the %s %s, %s net %s\n", head.attached == BPF_AT_FUNCTIONS ?
			      "functions" : "tracepoints:", head.reason,
			      head.net ? "with a" : "no", head.no_net);
	said = head.attached;
}

void monitor_open(struct invlock_mm *mm)
{
	struct invlock_why why = {};
	int err;

	memset(mm, 0, sizeof(*mm));
	mm->monitor = &monitor_bpf;
	err = monitor_bpf.open(mm, &why);
	if (err == -EPERM || err == -EOPNOTSUPP)
		TEST_SKIP("%.190s", why.text);
	if (err)
		fail_msg("open: %d: %s", err, why.text);
	say_where(mm);
}

bool rig_expects_caught;

/* The decoder knows everything that these tests do, so the net must have caught nothing. */
static void expect_silence(const struct invlock_mm *mm)
{
	struct bpf_state state = monitor_state(mm);
	struct bpf_set_header head;
	char text[300];

	if (!state.nr_caught || rig_expects_caught)
		return;
	monitor_bpf_set(mm, &head);
	net_describe(&head, &state, text, sizeof(text));
	fail_msg("%s", text);
}

void monitor_close(struct invlock_mm *mm)
{
	expect_silence(mm);
	mm->monitor->close(mm, true);
}

void monitor_need(void)
{
	struct invlock_mm mm;

	monitor_open(&mm);
	monitor_close(&mm);
}

char *stripe_new(void)
{
	char *mem = mmap(NULL, 2 * STRIPE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | RAW_MAP_LOW, -1, 0);
	char *stripe;

	assert_ptr_not_equal(mem, MAP_FAILED);
	stripe = (char *)(((uintptr_t)mem + STRIPE - 1) & ~(STRIPE - 1));
	if (stripe > mem)
		munmap(mem, stripe - mem);
	munmap(stripe + STRIPE, mem + STRIPE - stripe);
	madvise(stripe, STRIPE, MADV_NOHUGEPAGE);
	memset(stripe, 1, STRIPE);
	return stripe;
}

void stripe_free(char *stripe)
{
	munmap(stripe, STRIPE);
}

/* While a CPU is blind, nothing is known: return when it may see again. */
static void nudge(const struct invlock *il)
{
	if (il->nudge)
		il->nudge(il->nudge_arg);
	nap_ms(1);
}

bool feed_quiet(const struct invlock_mm *mm)
{
	u64 running;

	do {
		while (port_load(&mm->il.feed->blind))
			nudge(&mm->il);
		running = port_load(&mm->il.feed->wide) & INVLOCK_RUNNING_MASK;
		for (u32 i = 0; i <= mm->il.word_mask; i++)
			running |= port_load(&mm->il.words[i]) & INVLOCK_RUNNING_MASK;
		/* a window that was opened meanwhile runs, too */
	} while (running && port_load(&mm->il.feed->blind));
	return !running;
}

int seeing_sample(const struct invlock *il, u64 start, u64 end, struct invlock_snapshot *ret)
{
	int err;

	while ((err = invlock_sample(il, start, end, ret)) == -EAGAIN &&
	       port_load(&il->feed->blind))
		nudge(il);
	return err;
}

enum invlock_verdict seeing_verdict(const struct invlock *il, struct invlock_snapshot *snap,
				    u64 start, u64 end)
{
	enum invlock_verdict v;

	while ((v = invlock_validate(il, snap, start, end)) == INVLOCK_UNSETTLED)
		nudge(il);
	return v;
}

void watched_sample(struct watched *w, struct invlock_mm *mm, char *at)
{
	w->mm = mm;
	w->at = at;
	assert_int_equal(seeing_sample(&mm->il, (u64)at, (u64)at + GROUP, &w->snap), 0);
}

enum invlock_verdict watched_verdict(struct watched *w)
{
	return seeing_verdict(&w->mm->il, &w->snap, (u64)w->at, (u64)w->at + GROUP);
}

const struct invlock_event *last_event(const struct invlock_mm *mm, u32 kind, const char *at)
{
	u64 seq = port_load_acquire(&mm->il.feed->sequence);

	for (; seq; seq--) {
		const struct invlock_event *ev = &mm->il.events[seq & mm->il.event_mask];

		if (port_load_acquire(&ev->seq) != seq)
			return NULL;
		if (ev->kind == kind && ev->start < (u64)at + GROUP && (u64)at < ev->end)
			return ev;
	}
	return NULL;
}

void expect_open(const struct invlock_mm *mm)
{
	if (mm->il.feed->flags)
		fail_msg("the feed is closed: %s", monitor_bpf_closed(mm) ?: "not by the programs");
}

struct bpf_state monitor_state(const struct invlock_mm *mm)
{
	struct bpf_state state;

	monitor_bpf_state(mm, &state);
	return state;
}

int hold_discards(char *at, size_t len)
{
	int fd = hold_open(UFFD_FEATURE_EVENT_REMOVE, NULL);

	if (fd >= 0)
		assert_int_equal(hold_memory(fd, at, len, UFFDIO_REGISTER_MODE_MISSING), 0);
	return fd;
}

void await_discard(int uffd)
{
	assert_true(hold_await(uffd, -1));
}

void release_discard(int uffd)
{
	assert_int_equal(hold_let_go(uffd), UFFD_EVENT_REMOVE);
}

unsigned int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int nr = 0;

	assert_non_null(dir);
	while (readdir(dir))
		nr++;
	closedir(dir);
	return nr;
}

void write_setting(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, value, strlen(value)) != (ssize_t)strlen(value))
		fail_msg("%s: %s", path, strerror(errno));
	close(fd);
}

bool set_preemption(const char *model)
{
	/* the file lists the models, with parentheses around the one in use */
	static char at_first[16];
	FILE *models = fopen(PREEMPTION, "re");
	char line[80] = "", *present;
	bool choice = models && fgets(line, sizeof(line), models) && strstr(line, "voluntary");

	if (models)
		fclose(models);
	if (!choice)
		return false;
	present = strchr(line, '(');
	if (!at_first[0] && present)
		snprintf(at_first, sizeof(at_first), "%.*s", (int)strcspn(present + 1, ")"),
			 present + 1);
	write_setting(PREEMPTION, model ?: at_first);
	return true;
}

void guard_read(const struct invlock_mm *mm, struct bpf_guard *ret)
{
	struct bpf_set_header head;
	u32 zero = 0;
	int map;

	memset(ret, 0, sizeof(*ret));
	monitor_bpf_set(mm, &head);
	if (head.guard != BPF_GUARD_ON)
		return;
	map = map_of_program(progset_of(mm)->ask, "invlock_guard");
	assert_true(map >= 0);
	assert_int_equal(bpf_map_lookup_elem(map, &zero, ret), 0);
	close(map);
}

int map_of_program(int prog, const char *name)
{
	u32 ids[16] = {}, size;
	struct bpf_prog_info info = { .nr_map_ids = 16, .map_ids = (uintptr_t)ids };

	size = sizeof(info);
	if (bpf_obj_get_info_by_fd(prog, &info, &size))
		return -1;
	for (u32 i = 0; i < info.nr_map_ids && i < 16; i++) {
		int fd = bpf_map_get_fd_by_id(ids[i]);
		struct bpf_map_info map = {};

		size = sizeof(map);
		if (fd >= 0 && !bpf_obj_get_info_by_fd(fd, &map, &size) &&
		    !strcmp(map.name, name) && (strcmp(name, "invlock_set") ||
						map.value_size == sizeof(struct bpf_set)))
			return fd;
		close(fd);
	}
	return -1;
}
