// SPDX-License-Identifier: MIT
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "doctor.h"

typedef struct json_object json;

static void add_text(json *o, const char *key, const char *text)
{
	json_object_object_add(o, key, json_object_new_string(text));
}

static void add_flag(json *o, const char *key, bool flag)
{
	json_object_object_add(o, key, json_object_new_boolean(flag));
}

/* @none: write null instead, for "unlimited" or "unknown" */
static void add_number(json *o, const char *key, long long number, bool none)
{
	json_object_object_add(o, key, none ? NULL : json_object_new_int64(number));
}

static json *kinds(u64 mask)
{
	json *names = json_object_new_array();

	for (unsigned int kind = 0; kind < INVLOCK_NR_KINDS; kind++)
		if (mask >> kind & 1)
			json_object_array_add(names,
					      json_object_new_string(invlock_kind_name(kind)));
	return names;
}

static json *monitor_json(const struct report *r, const struct finding *f)
{
	json *o = json_object_new_object();
	bool reports = f->monitor->sees_what_it_is_told;

	add_text(o, "name", f->monitor->name);
	add_flag(o, "usable", !f->err);
	add_text(o, "reason", f->why.text);
	add_text(o, "how", f->how.text);
	add_text(o, "selftest", selftest_names[f->selftest]);
	add_text(o, "selftest_reason", reports ? "it sees only what the program reports" :
		 f->selftest_why.text);
	add_flag(o, "chosen", f == r->chosen);
	json_object_object_add(o, "sees", kinds(f->seen));
	json_object_object_add(o, "exact", kinds(f->exact));
	json_object_object_add(o, "refuses", kinds(f->monitor->refused & ~f->seen));
	json_object_object_add(o, "lacks", kinds(reports ? 0 : finding_lacks(f)));
	json_object_object_add(o, "enough", kinds(f->monitor->ready));
	return o;
}

static json *change_json(const struct report *r, unsigned int nr)
{
	const struct map_change *c = map_change_at(nr);
	json *o = json_object_new_object(), *verdicts = json_object_new_object();
	json *reasons = json_object_new_object();
	char reason[300];

	add_text(o, "name", c->name);
	add_text(o, "kind", invlock_kind_name(c->kind));
	add_flag(o, "asked_for", INVLOCK_KINDS_DEFAULT >> c->kind & 1);
	for (unsigned int i = 0; i < r->nr_findings; i++) {
		const struct finding *f = &r->findings[i];

		add_text(verdicts, f->monitor->name, change_verdict_name(f->results[nr].verdict));
		result_reason(f, c, &f->results[nr], reason, sizeof(reason));
		if (*reason)
			add_text(reasons, f->monitor->name, reason);
	}
	json_object_object_add(o, "verdicts", verdicts);
	json_object_object_add(o, "reasons", reasons);
	return o;
}

static json *host_json(const struct host *h)
{
	json *o = json_object_new_object(), *caps = json_object_new_object();
	json *uring = json_object_new_object(), *uffd = json_object_new_object();

	add_text(o, "kernel", h->kernel.release);
	add_text(o, "machine", h->kernel.machine);
	add_flag(o, "btf", h->btf);
	add_number(o, "memlock", h->memlock, h->memlock == RLIM_INFINITY);
	add_number(o, "memlock_most", h->memlock_most, h->memlock_most == RLIM_INFINITY);
	add_number(o, "max_map_count", h->max_map_count, h->max_map_count < 0);
	add_number(o, "mappings", h->mappings, h->mappings < 0);
	add_flag(o, "user_namespace", h->user_namespace);
	add_flag(caps, "bpf", h->cap_bpf);
	add_flag(caps, "perfmon", h->cap_perfmon);
	add_flag(caps, "ipc_lock", h->cap_ipc_lock);
	json_object_object_add(o, "capabilities", caps);
	add_flag(uring, "usable", !h->uring_error);
	add_text(uring, "reason", h->uring_error ? strerror(h->uring_error) : "");
	add_number(uring, "disabled", h->uring_disabled, h->uring_disabled < 0);
	json_object_object_add(o, "io_uring", uring);
	add_flag(uffd, "usable", !h->uffd_error);
	add_text(uffd, "reason", h->uffd_error ? strerror(h->uffd_error) : "");
	add_flag(uffd, "wp_async", h->uffd_async);
	json_object_object_add(o, "userfaultfd", uffd);
	return o;
}

static json *names(const struct name_list *list)
{
	json *o = json_object_new_array();

	for (unsigned int i = 0; i < list->nr; i++)
		json_object_array_add(o, json_object_new_string(list->names[i]));
	return o;
}

/* @ours: what our part is called */
static json *library_json(const struct rdma_library *l, const char *ours,
			  const struct invlock_why *why)
{
	json *o = json_object_new_object();

	add_flag(o, "found", l->found);
	json_object_object_add(o, "version", *l->version ? json_object_new_string(l->version) :
			       NULL);
	add_text(o, "error", l->error);
	json_object_object_add(o, ours, *l->loaded ? json_object_new_string(l->loaded) :
			       *l->installed ? json_object_new_string(l->installed) : NULL);
	add_flag(o, "loaded", *l->loaded);
	add_text(o, "summary", why->text);
	return o;
}

static json *rdma_json(const struct rdma *rdma)
{
	json *o = json_object_new_object(), *libfabric;
	struct invlock_why why;

	json_object_object_add(o, "devices", names(&rdma->devices));
	json_object_object_add(o, "closed", names(&rdma->closed));
	rdma_devices_text(rdma, &why);
	add_text(o, "summary", why.text);
	rdma_libfabric_text(rdma, &why);
	libfabric = library_json(&rdma->libfabric, "plugin", &why);
	json_object_object_add(libfabric, "cached", names(&rdma->libfabric.cached));
	json_object_object_add(libfabric, "uncached", names(&rdma->libfabric.uncached));
	json_object_object_add(o, "libfabric", libfabric);
	rdma_ucx_text(rdma, &why);
	json_object_object_add(o, "ucx", library_json(&rdma->ucx, "preload", &why));
	return o;
}

int print_json(const struct report *r)
{
	json *o = json_object_new_object(), *list = json_object_new_array();
	int err;

	add_text(o, "version", invlock_version());
	for (unsigned int i = 0; i < r->nr_findings; i++)
		json_object_array_add(list, monitor_json(r, &r->findings[i]));
	json_object_object_add(o, "monitors", list);
	list = json_object_new_array();
	for (unsigned int nr = 0; nr < r->nr_changes; nr++)
		json_object_array_add(list, change_json(r, nr));
	json_object_object_add(o, "changes", list);
	json_object_object_add(o, "host", host_json(&r->host));
	json_object_object_add(o, "rdma", rdma_json(&r->rdma));
	json_object_object_add(o, "chosen", r->chosen ?
			       json_object_new_string(r->chosen->monitor->name) : NULL);
	json_object_object_add(o, "with_fewer_kinds", r->with_fewer_kinds ?
			       json_object_new_string(r->with_fewer_kinds->monitor->name) : NULL);
	add_text(o, "recommendation", r->recommendation.text);
	err = puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY |
						  JSON_C_TO_STRING_SPACED |
						  JSON_C_TO_STRING_NOSLASHESCAPE)) < 0;
	json_object_put(o);
	return err ? -EIO : 0;
}
