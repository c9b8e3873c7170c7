// SPDX-License-Identifier: MIT
#include <pwd.h>
#include <stdio.h>
#include <string.h>

#include "ps.h"

#define SIZE	64

/* The two largest units of a time: "3h 12m". */
static const char *age_text(u64 ns, char *text)
{
	static const struct {
		u64 seconds;
		char name;
	} units[] = { { 86400, 'd' }, { 3600, 'h' }, { 60, 'm' }, { 1, 's' } };
	u64 s = ns / 1000000000;
	int i = 0;

	if (!ns)
		return strcpy(text, "?");
	while (i < 3 && s < units[i].seconds)
		i++;
	if (i == 3)
		snprintf(text, SIZE, "%llus", (unsigned long long)s);
	else
		snprintf(text, SIZE, "%llu%c %llu%c", (unsigned long long)(s / units[i].seconds),
			 units[i].name,
			 (unsigned long long)(s % units[i].seconds / units[i + 1].seconds),
			 units[i + 1].name);
	return text;
}

static const char *user_text(long uid, char *text)
{
	const struct passwd *user = uid < 0 ? NULL : getpwuid((uid_t)uid);

	if (user)
		snprintf(text, SIZE, "%.32s", user->pw_name);
	else if (uid >= 0)
		snprintf(text, SIZE, "%ld", uid);
	else
		strcpy(text, "?");
	return text;
}

static const char *count_text(bool known, u64 nr, char *text)
{
	if (known)
		snprintf(text, SIZE, "%llu", (unsigned long long)nr);
	else
		strcpy(text, "?");
	return text;
}

static void print_feed(const struct ps_feed *f)
{
	char pid[SIZE], user[SIZE], age[SIZE], events[SIZE];
	const char *reason, *state = ps_state(f, &reason);

	printf("%-8s %8s  %-12s %-16s %9s %12s  %s%s%s\n", f->monitor,
	       count_text(f->process.pid > 0, f->process.pid, pid),
	       user_text(f->process.uid, user), f->process.command[0] ? f->process.command : "?",
	       age_text(f->age, age), count_text(f->looked, f->view.sequence, events), state,
	       reason ? ": " : "", reason ? reason : "");
	if (f->view.lost || f->view.missed)
		printf("%-8s %8s  %llu changes could not be recorded, and the kernel skipped %llu "
		       "runs: each made everything stale\n", "", "",
		       (unsigned long long)f->view.lost, (unsigned long long)f->view.missed);
}

static void print_loader(const struct set_view *set)
{
	struct ps_process p;
	char user[SIZE];

	ps_look_at_process(&p, set->loader && ps_pids_are_the_kernels() ? (pid_t)set->loader : 0);
	printf("user %s", user_text(set->uid, user));
	if (!set->loader)
		return;
	printf(", pid %llu", (unsigned long long)set->loader);
	if (!ps_pids_are_the_kernels())
		return;
	/* A process that was started later has only the same number. */
	if (!p.started || p.started > set->loaded_at)
		printf(", which has ended");
	else
		printf(" (%s)", p.command);
}

static void print_set(const struct set_view *set)
{
	u64 now = ps_boot_time();
	char age[SIZE];

	printf("set %u: %u programs, loaded %s ago by ", set->id, set->nr_programs,
	       age_text(now > set->loaded_at ? now - set->loaded_at : 1, age));
	print_loader(set);
	if (!set->known) {
		puts("; of another build of invlock");
		return;
	}
	printf("; %u of %d seats are taken\n", set->nr_seats, BPF_NR_USERS);
	printf("  %s", set->header.attached == BPF_AT_FUNCTIONS ? "at the functions of the calls "
	       "that change a map" : "at the tracepoints, where every call of every process pays");
	printf("; %s", set->header.guard == BPF_GUARD_ON ? "with a guard" :
	       set->header.guard == BPF_GUARD_UNNEEDED ? "no guard is needed" :
	       "NOT exact: the guard that is needed is missing");
	puts(set->header.net ? "; with a net" : "; without a net");
	if (set->closed)
		puts("  closed: calls may go unseen, so it closes every feed");
}

static void print_cost(const struct ps_cost *c)
{
	if (!c->measured) {
		printf("What a call costs now is unknown: %s.\n", c->why_not.text);
		return;
	}
	printf("In a call, invlock's programs take now, in nanoseconds:\n"
	       "%-34s %10s %10s\n", "", "unwatched", "watched");
	if (c->watched_measured) {
		printf("%-34s %10.0f %10.0f\n", "  a call that changes no map", c->unwatched,
		       c->watched);
		printf("%-34s %10.0f %10.0f\n", "  madvise() that discards a page",
		       c->unwatched_change, c->watched_change);
	} else {
		printf("%-34s %10.0f %10s\n", "  a call that changes no map", c->unwatched, "?");
		printf("%-34s %10.0f %10s\n", "  madvise() that discards a page",
		       c->unwatched_change, "?");
		printf("No process could be watched to measure it: %s.\n",
		       c->watched_why_not.text);
	}
	printf("All processes together: %.0f runs a second, %.2f%% of a CPU.\n",
	       c->runs_per_second, c->cpu_share * 100);
}

void ps_print_text(const struct ps_report *r)
{
	if (r->nr_feeds)
		printf("%-8s %8s  %-12s %-16s %9s %12s  %s\n", "MONITOR", "PID", "USER", "COMMAND",
		       "SINCE", "EVENTS", "STATE");
	else
		puts("No feed is open, as far as this user may see.");
	for (unsigned int i = 0; i < r->nr_feeds; i++)
		print_feed(&r->feeds[i]);
	if (r->sets.nr)
		puts("\nSets of BPF programs:");
	for (unsigned int i = 0; i < r->sets.nr; i++)
		print_set(&r->sets.sets[i]);
	putchar('\n');
	if (r->sets_known && !r->sets.nr)
		puts("No BPF programs of invlock run: they cost no call anything.");
	else
		print_cost(&r->cost);
	for (unsigned int i = 0; i < r->nr_notes; i++)
		printf("Note: %s.\n", r->notes[i].text);
}
