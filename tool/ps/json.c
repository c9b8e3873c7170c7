// SPDX-License-Identifier: MIT
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <time.h>

#include "ps.h"

typedef struct json_object json;

static void add_text(json *o, const char *key, const char *text)
{
	json_object_object_add(o, key, text ? json_object_new_string(text) : NULL);
}

/* @known: else null */
static void add_number(json *o, const char *key, bool known, long long number)
{
	json_object_object_add(o, key, known ? json_object_new_int64(number) : NULL);
}

static void add_real(json *o, const char *key, bool known, double number)
{
	json_object_object_add(o, key, known ? json_object_new_double(number) : NULL);
}

static void add_flag(json *o, const char *key, bool known, bool flag)
{
	json_object_object_add(o, key, known ? json_object_new_boolean(flag) : NULL);
}

/* When something began, as "2026-11-29T08:00:00Z". */
static void add_since(json *o, u64 age)
{
	time_t began = time(NULL) - (time_t)(age / 1000000000);
	struct tm utc;
	char text[40];

	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&began, &utc));
	add_text(o, "since", age ? text : NULL);
	add_real(o, "age_seconds", age, age / 1e9);
}

static json *feed_json(const struct ps_feed *f)
{
	const struct feed_view *v = &f->view;
	json *o = json_object_new_object();
	const char *reason;

	add_text(o, "monitor", f->monitor);
	add_number(o, "pid", f->process.pid > 0, f->process.pid);
	add_number(o, "uid", f->process.uid >= 0, f->process.uid);
	add_text(o, "command", f->process.command[0] ? f->process.command : NULL);
	add_since(o, f->age);
	add_text(o, "state", ps_state(f, &reason));
	add_text(o, "reason", reason);
	add_text(o, "closed", f->looked && v->closed ? feed_closed_word(v->closed) : NULL);
	add_number(o, "set", f->set, f->set);
	add_number(o, "events", f->looked, v->sequence);
	add_number(o, "lost", f->looked, v->lost);
	add_number(o, "dropped", f->looked, v->dropped);
	add_number(o, "missed", f->looked, v->missed);
	add_number(o, "blind_cpus", f->looked, v->blind);
	add_flag(o, "doubtful", f->looked, v->doubtful);
	return o;
}

static json *loader_json(const struct set_view *set)
{
	bool knowable = set->loader && ps_pids_are_the_kernels();
	json *o = json_object_new_object();
	struct ps_process p;
	bool lives;

	ps_look_at_process(&p, knowable ? (pid_t)set->loader : 0);
	/* A process that was started later has only the same number. */
	lives = p.started && p.started <= set->loaded_at;
	add_number(o, "pid", set->loader, set->loader);
	add_number(o, "uid", true, set->uid);
	add_flag(o, "lives", knowable, lives);
	add_text(o, "command", lives ? p.command : NULL);
	return o;
}

static json *set_json(const struct set_view *set)
{
	const struct bpf_set_header *h = &set->header;
	json *o = json_object_new_object();
	u64 now = ps_boot_time();

	add_number(o, "id", true, set->id);
	add_flag(o, "this_build", true, set->known);
	add_number(o, "programs", true, set->nr_programs);
	add_since(o, now > set->loaded_at ? now - set->loaded_at : 0);
	json_object_object_add(o, "loader", loader_json(set));
	add_number(o, "seats", set->known, BPF_NR_USERS);
	add_number(o, "seats_taken", set->known, set->nr_seats);
	add_text(o, "attached", !set->known ? NULL :
		 h->attached == BPF_AT_FUNCTIONS ? "functions" : "tracepoints");
	add_text(o, "guard", !set->known ? NULL : h->guard == BPF_GUARD_ON ? "on" :
		 h->guard == BPF_GUARD_UNNEEDED ? "unneeded" : "missing");
	add_flag(o, "net", set->known, h->net);
	add_flag(o, "closed", set->known, set->closed);
	return o;
}

static json *cost_json(const struct ps_cost *c)
{
	json *o = json_object_new_object();

	add_flag(o, "measured", true, c->measured);
	add_text(o, "reason", c->why_not.text[0] ? c->why_not.text : NULL);
	add_real(o, "unwatched_ns", c->measured, c->unwatched);
	add_real(o, "unwatched_change_ns", c->measured, c->unwatched_change);
	add_real(o, "watched_ns", c->watched_measured, c->watched);
	add_real(o, "watched_change_ns", c->watched_measured, c->watched_change);
	add_text(o, "watched_reason", c->watched_why_not.text[0] ? c->watched_why_not.text : NULL);
	add_real(o, "runs_per_second", c->measured, c->runs_per_second);
	add_real(o, "cpu_share", c->measured, c->cpu_share);
	return o;
}

int ps_print_json(const struct ps_report *r)
{
	json *o = json_object_new_object(), *list = json_object_new_array();
	const char *text;
	int err;

	add_text(o, "version", invlock_version());
	for (unsigned int i = 0; i < r->nr_feeds; i++)
		json_object_array_add(list, feed_json(&r->feeds[i]));
	json_object_object_add(o, "feeds", list);
	list = r->sets_known ? json_object_new_array() : NULL;
	for (unsigned int i = 0; i < r->sets.nr; i++)
		json_object_array_add(list, set_json(&r->sets.sets[i]));
	json_object_object_add(o, "sets", list);
	json_object_object_add(o, "cost", cost_json(&r->cost));
	list = json_object_new_array();
	for (unsigned int i = 0; i < r->nr_notes; i++)
		json_object_array_add(list, json_object_new_string(r->notes[i].text));
	json_object_object_add(o, "notes", list);
	text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY);
	err = !text || puts(text) < 0 ? -EIO : 0;
	json_object_put(o);
	return err;
}
