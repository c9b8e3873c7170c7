// SPDX-License-Identifier: MIT
#include "metrics.h"

#include <invlock/version.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients.h"
#include "lib/monitor/bpf/view.h"

static const char *const refusals[NR_REFUSALS] = {
	[REFUSED_POLICY] = "policy", [REFUSED_QUOTA] = "quota", [REFUSED_SEATS] = "seats",
	[REFUSED_CONNECTIONS] = "connections", [REFUSED_VERSION] = "version",
	[REFUSED_PROTOCOL] = "protocol", [REFUSED_OTHER] = "other",
};

static void begin(FILE *page, const char *name, const char *type, const char *help)
{
	fprintf(page, "# TYPE %s %s\n# HELP %s %s\n", name, type, name, help);
}

static void put(FILE *page, const char *name, u64 value)
{
	fprintf(page, "%s %llu\n", name, (unsigned long long)value);
}

/* A value with a label, which is a plain word. */
static void put_by(FILE *page, const char *name, const char *label, const char *word, u64 value)
{
	fprintf(page, "%s{%s=\"%s\"} %llu\n", name, label, word, (unsigned long long)value);
}

/* Text of any kind as the value of a label. */
static void put_escaped(FILE *page, const char *text)
{
	for (; *text; text++) {
		if (*text == '\\' || *text == '"')
			fputc('\\', page);
		if (*text == '\n')
			fputs("\\n", page);
		else
			fputc(*text, page);
	}
}

/* ---- feeds ---- */

/* What all feeds that are open now have in common. */
struct feeds_now {
	unsigned int nr, open, blind, doubtful, closed, unknown;
	u64 events, lost, missed;
};

static void add_feed(struct feeds_now *now, struct daemon_counts *counts, struct client *c)
{
	struct feed_view v;

	now->nr++;
	if (feed_look(c->maps.user, &v)) {
		now->unknown++;
		return;
	}
	client_count_closed(counts, c, &v);
	now->events += v.sequence;
	now->lost += v.lost;
	now->missed += v.missed;
	if (v.closed)
		now->closed++;
	else if (v.blind)
		now->blind++;
	else if (v.doubtful)
		now->doubtful++;
	else
		now->open++;
}

/* Has a client before this one a feed for the same user? */
static bool user_came_before(const struct clients *cs, int client)
{
	for (int i = 0; i < client; i++)
		if (cs->client[i].seat >= 0 && cs->client[i].uid == cs->client[client].uid)
			return true;
	return false;
}

/* The number of feeds of each user, in the order of the clients. */
static void put_users(FILE *page, const struct clients *cs)
{
	begin(page, "invlock_user_feeds", "gauge", "Feeds that each user has.");
	for (int i = 0; i < NR_CLIENTS; i++) {
		uid_t uid = cs->client[i].uid;
		unsigned int nr;
		char word[16];

		if (cs->client[i].seat < 0 || user_came_before(cs, i))
			continue;
		clients_count_seats(cs, uid, &nr);
		snprintf(word, sizeof(word), "%u", uid);
		put_by(page, "invlock_user_feeds", "uid", word, nr);
	}
}

static void put_feeds(FILE *page, struct clients *cs)
{
	struct daemon_counts *counts = &cs->counts;
	struct feeds_now now = {};

	for (int i = 0; i < NR_CLIENTS; i++)
		if (cs->client[i].seat >= 0)
			add_feed(&now, counts, &cs->client[i]);
	begin(page, "invlock_feeds", "gauge", "Feeds that clients have now, by their state.");
	put_by(page, "invlock_feeds", "state", "open", now.open);
	put_by(page, "invlock_feeds", "state", "blind", now.blind);
	put_by(page, "invlock_feeds", "state", "doubtful", now.doubtful);
	put_by(page, "invlock_feeds", "state", "closed", now.closed);
	put_by(page, "invlock_feeds", "state", "unknown", now.unknown);
	put_users(page, cs);
	begin(page, "invlock_feeds_most", "gauge", "Feeds that there can be at once.");
	put(page, "invlock_feeds_most", cs->policy->feeds);
	begin(page, "invlock_user_feeds_most", "gauge", "Feeds that one user can have at once.");
	put(page, "invlock_user_feeds_most", cs->policy->feeds_per_user);
	begin(page, "invlock_feeds_given", "counter", "Feeds that were given to clients.");
	put(page, "invlock_feeds_given_total", counts->given);
	begin(page, "invlock_events", "counter", "Invalidations that the feeds have recorded.");
	put(page, "invlock_events_total", counts->events + now.events);
	begin(page, "invlock_changes_lost", "gauge", "Changes that could not be recorded in the "
	      "feeds that clients have now; each made everything stale.");
	put(page, "invlock_changes_lost", now.lost);
	begin(page, "invlock_feeds_closed", "counter", "Feeds that were closed, by the reason; "
	      "gone is the end of a client, evicted that of its connection, and all others are "
	      "worth a look.");
	for (unsigned int why = BPF_CLOSED_GONE; why < NR_CLOSED; why++)
		put_by(page, "invlock_feeds_closed_total", "reason", feed_closed_word(why),
		       counts->closed[why]);
}

/* ---- the daemon and its programs ---- */

static void put_info(FILE *page, const struct bpf_set_header *h)
{
	begin(page, "invlock_daemon", "info", "The daemon: its version, where its programs are "
	      "attached, and why not at the functions of single calls.");
	fprintf(page, "invlock_daemon_info{version=\"" INVLOCK_VERSION "\",attached=\"%s\","
		"guard=\"%s\",net=\"%s\",reason=\"",
		h->attached == BPF_AT_FUNCTIONS ? "functions" : "tracepoints",
		h->guard == BPF_GUARD_ON ? "on" : h->guard == BPF_GUARD_MISSING ? "missing" :
		"unneeded", h->net ? "yes" : "no");
	put_escaped(page, h->reason);
	fputs("\"} 1\n", page);
}

static void put_refusals(FILE *page, const struct daemon_counts *counts)
{
	begin(page, "invlock_refusals", "counter", "Requests and connections that were refused, by "
	      "the reason.");
	for (unsigned int why = 0; why < NR_REFUSALS; why++)
		put_by(page, "invlock_refusals_total", "reason", refusals[why],
		       counts->refused[why]);
}

static void put_runs(FILE *page, const struct progset *set)
{
	struct run_count count;

	begin(page, "invlock_programs", "gauge", "BPF programs of the daemon's set.");
	put(page, "invlock_programs", set->nr_programs);
	if (progset_count_runs(set, &count))
		return;
	begin(page, "invlock_program_runs_skipped", "counter", "Runs of these programs that the "
	      "kernel skipped.");
	put(page, "invlock_program_runs_skipped_total", count.skipped);
	begin(page, "invlock_program_runs", "counter", "Runs of these programs; the kernel counts "
	      "them while kernel.bpf_stats_enabled is 1.");
	put(page, "invlock_program_runs_total", count.runs);
	fputs("# TYPE invlock_program_run_seconds counter\n"
	      "# UNIT invlock_program_run_seconds seconds\n"
	      "# HELP invlock_program_run_seconds Time that these runs took.\n", page);
	fprintf(page, "invlock_program_run_seconds_total %llu.%09llu\n",
		(unsigned long long)(count.ns / 1000000000),
		(unsigned long long)(count.ns % 1000000000));
}

char *metrics_page(struct clients *cs, size_t *ret_len)
{
	char *text = NULL;
	FILE *page = open_memstream(&text, ret_len);
	bool failed;

	if (!page)
		return NULL;
	put_info(page, &cs->set->header);
	put_feeds(page, cs);
	put_refusals(page, &cs->counts);
	put_runs(page, cs->set);
	fputs("# EOF\n", page);
	failed = ferror(page);
	if (fclose(page) || failed) {
		free(text);
		return NULL;
	}
	return text;
}
