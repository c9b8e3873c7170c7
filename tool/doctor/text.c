// SPDX-License-Identifier: MIT
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "doctor.h"

#define COLUMNS		100
#define LABEL		16	/* width of the label beside a paragraph */
#define NAME		38
#define KIND		19
#define VERDICT		8

/* escape sequences for a terminal */
#define PLAIN	""
#define BOLD	"\033[1m"
#define GREEN	"\033[32m"
#define YELLOW	"\033[33m"
#define RED	"\033[31m"
#define END	"\033[0m"

static bool colours;

static void print_colour(const char *colour, int width, const char *text)
{
	if (colours && *colour)
		printf("%s%-*s" END, colour, width, text);
	else
		printf("%-*s", width, text);
}

static void heading(const char *text)
{
	putchar('\n');
	print_colour(BOLD, 0, text);
	putchar('\n');
}

/* Print a label, and beside it a text that is wrapped at COLUMNS. */
__attribute__((format(printf, 2, 3)))
static void paragraph(const char *label, const char *format, ...)
{
	char text[4096], *word, *rest = text;
	size_t column = LABEL, len;
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	printf("  %-*s", LABEL - 2, label);
	while ((word = strsep(&rest, " "))) {
		len = strlen(word);
		if (column > LABEL && column + 1 + len > COLUMNS) {
			printf("\n%*s", LABEL, "");
			column = LABEL;
		}
		column += printf("%s%s", column > LABEL ? " " : "", word);
	}
	putchar('\n');
}

static void print_monitor(const struct finding *f)
{
	const struct monitor *m = f->monitor;
	char names[KIND_NAMES];
	const char *advice;

	if (f->err) {
		paragraph(m->name, "not usable: %s", f->why.text);
		return;
	}
	if (m->sees_what_it_is_told) {
		paragraph(m->name, "usable if the program names it: it sees only what the "
			  "program reports. There is no self-test");
		return;
	}
	name_kinds(names, finding_lacks(f));
	advice = monitor_advice(m, finding_lacks(f));
	paragraph(m->name, "usable%s%s%s%s. Self-test %s%s%s",
		  finding_lacks(f) ? " if the program needs fewer kinds: it does not see " : "",
		  names, finding_lacks(f) && advice ? "; " : "",
		  finding_lacks(f) && advice ? advice : "",
		  selftest_names[f->selftest], f->selftest == SELFTEST_FAILED ? ": " : "",
		  f->selftest_why.text);
	if (f->how.text[0])
		paragraph("", "%s", f->how.text);
	if (m->seen & m->exact & ~f->exact)
		return;
	if (m->seen & ~m->exact)
		paragraph("", "Not exact: it learns of some changes only after they were made, "
			  "so a use in between can be stale");
}

static const char *colour_of(const struct map_change *c, enum change_verdict verdict)
{
	if (verdict == CHANGE_SEEN)
		return GREEN;
	if (verdict == CHANGE_MISSED && INVLOCK_KINDS_DEFAULT >> c->kind & 1)
		return RED;
	return YELLOW;
}

static void print_table(const struct report *r)
{
	const struct map_change *c;
	char kind[40];

	heading("Changes of the memory map. doctor has made each of them");
	printf("  %-*s%-*s", NAME, "", KIND, "kind");
	for (unsigned int i = 0; i < r->nr_findings; i++)
		printf("%-*s", i + 1 < r->nr_findings ? VERDICT : 0, r->findings[i].monitor->name);
	putchar('\n');
	for (unsigned int nr = 0; nr < r->nr_changes; nr++) {
		c = map_change_at(nr);
		snprintf(kind, sizeof(kind), "%s%s", invlock_kind_name(c->kind),
			 INVLOCK_KINDS_DEFAULT >> c->kind & 1 ? " *" : "");
		printf("  %-*s%-*s", NAME, c->name, KIND, kind);
		for (unsigned int i = 0; i < r->nr_findings; i++) {
			enum change_verdict v = r->findings[i].results[nr].verdict;

			print_colour(colour_of(c, v), i + 1 < r->nr_findings ? VERDICT : 0,
				     change_verdict_name(v));
		}
		putchar('\n');
	}
	puts("  * caches need this kind by default\n"
	     "  seen: the monitor noticed the change; missed: it did not; refused: it does not\n"
	     "  let this memory be cached; unknown: the change or the monitor was not tried");
}

/* Print the reason of change @first, with all later changes of the same verdict and reason. */
static void print_reason(const struct finding *f, unsigned int first, unsigned int nr_changes,
			 bool *told)
{
	enum change_verdict verdict = f->results[first].verdict;
	char reason[300], other[300], names[3000] = "";
	const struct map_change *c = map_change_at(first);
	size_t len = 0;

	result_reason(f, c, &f->results[first], reason, sizeof(reason));
	if (!*reason)
		return;
	for (unsigned int nr = first; nr < nr_changes && len < sizeof(names); nr++) {
		c = map_change_at(nr);
		result_reason(f, c, &f->results[nr], other, sizeof(other));
		if (told[nr] || f->results[nr].verdict != verdict || strcmp(reason, other))
			continue;
		told[nr] = true;
		len += snprintf(names + len, sizeof(names) - len, "%s%s", len ? ", " : "", c->name);
	}
	paragraph(f->monitor->name, "%s: %s. Reason: %s", change_verdict_name(verdict), names,
		  reason);
}

static void print_reasons(const struct report *r)
{
	heading("Reasons");
	for (unsigned int i = 0; i < r->nr_findings; i++) {
		const struct finding *f = &r->findings[i];
		bool told[MAX_CHANGES] = {};

		if (f->err) {
			paragraph(f->monitor->name, "unknown: the monitor cannot be used (see "
				  "above)");
			continue;
		}
		if (f->monitor->sees_what_it_is_told) {
			paragraph(f->monitor->name, "missed: it sees only what the program "
				  "reports, and doctor reports nothing");
			continue;
		}
		for (unsigned int nr = 0; nr < r->nr_changes; nr++)
			if (!told[nr])
				print_reason(f, nr, r->nr_changes, told);
	}
}

static void print_capabilities(const struct host *h)
{
	paragraph("capabilities", "CAP_BPF %s, CAP_PERFMON %s, CAP_IPC_LOCK %s%s",
		  h->cap_bpf ? "yes" : "no", h->cap_perfmon ? "yes" : "no",
		  h->cap_ipc_lock ? "yes" : "no", h->user_namespace ?
		  ". This process is in a user namespace, and what it has there does not count" :
		  "");
}

static void print_memlock(const struct host *h)
{
	unsigned long long now = h->memlock / 1024, most = h->memlock_most / 1024;

	if (h->memlock == RLIM_INFINITY)
		paragraph("memlock", "unlimited");
	else if (h->cap_ipc_lock)
		paragraph("memlock", "%llu KiB, and CAP_IPC_LOCK lifts this limit", now);
	else if (h->memlock_most == RLIM_INFINITY)
		paragraph("memlock", "a program may register %llu KiB, or as much as it likes "
			  "after `ulimit -l unlimited`", now);
	else if (most > now)
		paragraph("memlock", "a program may register %llu KiB, or %llu KiB after "
			  "`ulimit -l %llu`", now, most, most);
	else
		paragraph("memlock", "a program may register %llu KiB. Only root can raise this "
			  "limit", now);
}

static void print_mappings(const struct host *h)
{
	char now[40] = "an unknown number", most[60] = "how many there may be is unknown";

	if (h->mappings >= 0)
		snprintf(now, sizeof(now), "%ld", h->mappings);
	if (h->max_map_count >= 0)
		snprintf(most, sizeof(most), "vm.max_map_count allows %ld", h->max_map_count);
	paragraph("mappings", "%s in this process; %s", now, most);
}

static void print_uring(const struct host *h)
{
	char setting[60] = "";

	if (h->uring_disabled >= 0)
		snprintf(setting, sizeof(setting), "; kernel.io_uring_disabled = %ld",
			 h->uring_disabled);
	paragraph("io_uring", "%s%s%s", h->uring_error ? "not usable: " : "usable",
		  h->uring_error ? strerror(h->uring_error) : "", setting);
}

static void print_host(const struct host *h)
{
	heading("This host");
	paragraph("kernel", "%s %s, %s", h->kernel.sysname, h->kernel.release, h->kernel.machine);
	paragraph("BTF", "%s", h->btf ? "present" : "absent, but the bpf monitor needs it");
	print_capabilities(h);
	print_memlock(h);
	print_mappings(h);
	print_uring(h);
	paragraph("userfaultfd", "%s%s%s", h->uffd_error ? "not usable: " : "usable",
		  h->uffd_error ? strerror(h->uffd_error) : "",
		  h->uffd_error ? "" : h->uffd_async ? ", with asynchronous write protection" :
		  ", but without asynchronous write protection, which the uffd monitor needs");
}

static void print_rdma(const struct rdma *rdma)
{
	static const struct {
		const char *label;
		void (*text)(const struct rdma *rdma, struct invlock_why *ret_text);
	} rows[] = {
		{ "devices", rdma_devices_text },
		{ "libfabric", rdma_libfabric_text },
		{ "UCX", rdma_ucx_text },
	};
	struct invlock_why why;

	if (!rdma_is_here(rdma)) {
		paragraph("RDMA", "no device, and neither libfabric nor UCX");
		return;
	}
	heading("RDMA");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		rows[i].text(rdma, &why);
		paragraph(rows[i].label, "%s", why.text);
	}
}

void print_text(const struct report *r)
{
	const char *no_colour = getenv("NO_COLOR");

	colours = isatty(STDOUT_FILENO) && !(no_colour && *no_colour);
	printf("invlock %s\n", invlock_version());
	heading("Recommendation");
	paragraph(r->chosen ? r->chosen->monitor->name : "none", "%s", r->recommendation.text);
	heading("Monitors, the preferred one first");
	for (unsigned int i = 0; i < r->nr_findings; i++)
		print_monitor(&r->findings[i]);
	print_table(r);
	print_reasons(r);
	print_host(&r->host);
	print_rdma(&r->rdma);
}
