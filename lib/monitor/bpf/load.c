// SPDX-License-Identifier: MIT
/*
 * Loads a new set of programs: chooses those that this kernel can run, has them verified, attaches
 * them, and seals their maps.
 */
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guard.h"
#include "invlock.skel.h"
#include "lib/lockdown.h"
#include "lib/monitor/monitor.h"
#include "bpf.h"
#include "loader.h"
#include "progset.h"

/* The first complaint of libbpf on this thread, while we listen; NULL = we do not listen. */
static __thread char *complaint;
static libbpf_print_fn_t print_before;

unsigned int set_nr_loaded;

#define COMPLAINT_SIZE	400

__attribute__((format(printf, 2, 0)))
static int listen_to_libbpf(enum libbpf_print_level level, const char *format, va_list args)
{
	if (!complaint)
		return print_before ? print_before(level, format, args) : 0;
	if (level == LIBBPF_WARN && !complaint[0]) {
		vsnprintf(complaint, COMPLAINT_SIZE, format, args);
		complaint[strcspn(complaint, "\n")] = '\0';
	}
	return 0;
}

/* Choose among the programs that not every kernel can run. */
static int choose_programs(struct invlock_bpf *skel, struct invlock_why *why)
{
	struct btf *btf = btf__load_vmlinux_btf();
	int err = 0;

	if (!btf)
		return explain(why, -EOPNOTSUPP,
			       "this kernel has no BTF (/sys/kernel/btf/vmlinux: %s); "
			       "the BPF monitor needs a kernel built with CONFIG_DEBUG_INFO_BTF",
			       strerror(errno));
	if (btf__find_by_name_kind(btf, "btf_trace_sys_enter", BTF_KIND_TYPEDEF) < 0 ||
	    btf__find_by_name_kind(btf, "btf_trace_mm_filemap_delete_from_page_cache",
				   BTF_KIND_TYPEDEF) < 0) {
		err = explain(why, -EOPNOTSUPP,
			      "this kernel has no tracepoints for system calls or for "
			      "the page cache (CONFIG_FTRACE_SYSCALLS)");
	} else if (btf__find_by_name_kind(btf, "io_kiocb", BTF_KIND_STRUCT) >= 0) {
		bool now = btf__find_by_name_kind(btf, "btf_trace_io_uring_submit_req",
						  BTF_KIND_TYPEDEF) >= 0;

		bpf_program__set_autoload(now ? skel->progs.request_submitted :
					  skel->progs.request_submitted_old, true);
		bpf_program__set_autoload(skel->progs.request_completed, true);
		bpf_program__set_autoload(skel->progs.completion_overflows, true);
		bpf_program__set_autoload(skel->progs.link_fails, true);
	}
	btf__free(btf);
	return err;
}

u64 progset_object_hash(void)
{
	size_t size;
	const unsigned char *bytes = invlock_bpf__elf_bytes(&size);
	u64 hash = 0xcbf29ce484222325ULL;	/* FNV-1a */

	for (size_t i = 0; i < size; i++)
		hash = (hash ^ bytes[i]) * 0x100000001b3ULL;
	return hash;
}

/*
 * Choose where the programs that see the calls are attached. At functions, this also decides
 * whether a guard is needed.
 */
static int choose_calls(struct invlock_bpf *skel, struct bpf_set_header *header,
			struct invlock_why *why)
{
	bool preemptible;
	int err;

	if (header->attached == BPF_AT_FUNCTIONS) {
		err = attach_to_functions(skel->obj, &preemptible, why);
		if (err)
			return err;
		header->guard = preemptible ? BPF_GUARD_ON : BPF_GUARD_UNNEEDED;
	} else {
		bpf_program__set_autoload(skel->progs.call_enters, true);
		bpf_program__set_autoload(skel->progs.call_exits, true);
	}
	return 0;
}

static void choose_links(struct invlock_bpf *skel)
{
	/* The links of these programs are made where they are used. */
	bpf_program__set_autoattach(skel->progs.scan_calls, false);
	bpf_program__set_autoattach(skel->progs.scan_files, false);
	bpf_program__set_autoattach(skel->progs.ask, false);
	bpf_program__set_autoattach(skel->progs.sit_by_reading, false);
	bpf_program__set_autoattach(skel->progs.loaded_by, false);
	bpf_program__set_autoattach(skel->progs.look, false);
	bpf_program__set_autoattach(skel->progs.find_programs, false);
}

/*
 * Another process finds the programs of a set by the map that they have in common (progset.c). A
 * program that never looks into this map would not be found, and no set would be complete.
 */
static int bind_programs(struct invlock_bpf *skel, struct invlock_why *why)
{
	int map = bpf_map__fd(skel->maps.invlock_set);
	struct bpf_program *prog;
	int err;

	bpf_object__for_each_program(prog, skel->obj) {
		if (!bpf_program__autoload(prog) || guard_is_temporary(prog))
			continue;
		err = bpf_prog_bind_map(bpf_program__fd(prog), map, NULL);
		if (err)
			return explain(why, err, "cannot bind the program %s to its set: %s",
				       bpf_program__name(prog), strerror(-err));
	}
	return 0;
}

/*
 * From here on, no process can write these maps from user space, even if it inherits a descriptor.
 */
static int seal(struct invlock_bpf *skel, struct bpf_set_header *header, struct invlock_why *why)
{
	const struct bpf_map *sealed[] = {
		skel->maps.invlock_set, skel->maps.invlock_guard, skel->maps.invlock_here,
		skel->maps.invlock_net,
	};
	struct bpf_set *head = aligned_alloc(64, sizeof(*head));
	struct bpf_program *prog;
	u32 zero = 0;
	int err;

	if (!head)
		return explain(why, -ENOMEM, "out of memory");
	bpf_object__for_each_program(prog, skel->obj) {
		header->nr_programs += bpf_program__autoload(prog) && !guard_is_temporary(prog);
		header->nr_links += bpf_program__autoload(prog) && bpf_program__autoattach(prog);
	}
	memset(head, 0, sizeof(*head));
	head->header = *header;
	err = bpf_map_update_elem(bpf_map__fd(skel->maps.invlock_set), &zero, head, BPF_ANY);
	free(head);
	if (err)
		return explain(why, err, "cannot write the header of the set: %s", strerror(-err));
	for (unsigned int i = 0; i < sizeof(sealed) / sizeof(*sealed); i++) {
		err = bpf_map_freeze(bpf_map__fd(sealed[i]));
		if (err)
			return explain(why, err, "cannot freeze the map %s: %s",
				       bpf_map__name(sealed[i]), strerror(-err));
	}
	return 0;
}

/* Return: a copy of a descriptor that outlives the skeleton; or -1. */
static int copy_fd(int *fds, unsigned int *nr, int fd)
{
	int copy = *nr < PROGSET_ROOM ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;

	if (copy >= 0)
		fds[(*nr)++] = copy;
	return copy;
}

static int copy_program(struct progset *set, const struct bpf_program *prog)
{
	return copy_fd(set->programs, &set->nr_programs, bpf_program__fd(prog));
}

static int copy_map(struct progset_map *ret, const struct bpf_map *map)
{
	struct bpf_map_info info = {};
	u32 size = sizeof(info);
	int err;

	ret->fd = fcntl(bpf_map__fd(map), F_DUPFD_CLOEXEC, 0);
	if (ret->fd < 0)
		return -errno;
	err = bpf_obj_get_info_by_fd(ret->fd, &info, &size);
	ret->id = info.id;
	return err;
}

static int copy_descriptors(struct progset *set, struct invlock_bpf *skel)
{
	const struct bpf_program *scans[] = {
		skel->progs.ask, skel->progs.scan_calls, skel->progs.scan_files, skel->progs.look,
		skel->progs.sit_by_reading,
	};
	const struct bpf_object_skeleton *s = skel->skeleton;
	struct bpf_program *prog;
	int err;

	*set = PROGSET_NONE;
	err = copy_map(&set->users, skel->maps.invlock_users);
	if (!err)
		err = copy_map(&set->tables, skel->maps.invlock_tables);
	if (err)
		return err;
	set->ask = copy_program(set, scans[0]);
	set->scan_calls = copy_program(set, scans[1]);
	set->scan_files = copy_program(set, scans[2]);
	set->look = bpf_program__fd(scans[3]) < 0 ? -1 : copy_program(set, scans[3]);
	set->sit_by_reading = copy_program(set, scans[4]);
	if (set->ask < 0 || set->sit_by_reading < 0 || set->scan_calls < 0 || set->scan_files < 0 ||
	    (set->look < 0 && bpf_program__fd(scans[3]) >= 0))
		return -EMFILE;
	bpf_object__for_each_program(prog, skel->obj) {
		bool copied = guard_is_temporary(prog);

		for (unsigned int i = 0; i < sizeof(scans) / sizeof(*scans); i++)
			copied |= prog == scans[i];
		if (!copied && bpf_program__fd(prog) >= 0 && copy_program(set, prog) < 0)
			return -EMFILE;
	}
	for (int i = 0; i < s->prog_cnt; i++)
		if (*s->progs[i].link && copy_fd(set->links, &set->nr_links,
					      bpf_link__fd(*s->progs[i].link)) < 0)
			return -EMFILE;
	return 0;
}

/*
 * Attach the guard before the programs that it watches. @event: the set keeps it, to tell who has
 * loaded it; negative: none.
 */
static int attach(struct invlock_bpf *skel, const struct bpf_set_header *header, int event)
{
	int err = 0;

	if (event >= 0) {
		skel->links.loaded_by = loader_attach(skel->progs.loaded_by, event);
		if (!skel->links.loaded_by)
			return -errno;
	}
	if (header->guard == BPF_GUARD_ON)
		err = guard_attach(skel->obj, &skel->links.task_leaves);
	return err ? err : invlock_bpf__attach(skel);
}

/* Nobody finds the set before it is attached. If this fails, nobody learns who has loaded it. */
static void note_loader(struct invlock_bpf *skel)
{
	const struct progset set = { .ask = bpf_program__fd(skel->progs.ask) };

	progset_ask_of(&set, BPF_ASK_LOADED, 0, 0);
}

/* Bind the programs, seal the maps, and attach the programs. */
static int bring_up(struct invlock_bpf *skel, struct bpf_set_header *header,
		    struct invlock_why *why)
{
	int err = 0, event = loader_open_event();

	header->nr_links = event >= 0;
	if (header->guard == BPF_GUARD_ON)
		err = guard_prepare(skel->obj, why);
	if (!err)
		err = bind_programs(skel, why);
	if (!err)
		err = seal(skel, header, why);
	if (err) {
		if (event >= 0)
			close(event);
		return err;
	}
	note_loader(skel);
	err = attach(skel, header, event);
	if (err)
		return explain(why, err, "the kernel does not attach the BPF program: %s (%s)",
			       strerror(-err), complaint);
	return header->attached == BPF_AT_FUNCTIONS ? attach_ask_kernel(why) : 0;
}

static int load_at(struct progset *set, struct bpf_set_header *header, struct invlock_why *why)
{
	struct invlock_bpf *skel = invlock_bpf__open();
	int err;

	complaint[0] = '\0';
	header->nr_programs = 0;
	if (!skel)
		return explain(why, -errno, "libbpf cannot read the BPF program: %s (%s)",
			       strerror(errno), complaint);
	err = choose_programs(skel, why);
	if (!err)
		err = choose_calls(skel, header, why);
	if (!err && header->net)
		err = net_choose(skel->obj, why);
	if (err)
		goto destroy;
	if (header->guard == BPF_GUARD_ON)
		err = guard_choose(skel, why);
	if (err)
		goto destroy;
	skel->rodata->page_shift = (u32)__builtin_ctzl((unsigned long)sysconf(_SC_PAGESIZE));
	choose_links(skel);
	err = invlock_bpf__load(skel);
	if (err) {
		explain(why, err, "the kernel refuses the BPF program: %s (%s)", strerror(-err),
			complaint);
		goto destroy;
	}
	err = bring_up(skel, header, why);
	if (err)
		goto destroy;
	err = copy_descriptors(set, skel);
	if (err) {
		progset_release(set);
		explain(why, err, "no descriptor is left for the BPF program: %s", strerror(-err));
	}
	set->header = *header;
destroy:
	invlock_bpf__destroy(skel);
	return err;
}

/* Load the programs at functions, with the net under them if this kernel allows it. */
static int load_at_functions(struct progset *set, struct bpf_set_header *header,
			     struct invlock_why *why)
{
	int err;

	header->net = true;
	err = load_at(set, header, why);
	if (!err)
		return 0;
	snprintf(header->no_net, sizeof(header->no_net), "%.*s", BPF_REASON_SIZE - 1, why->text);
	header->net = false;
	return load_at(set, header, why);
}

/*
 * Does the kernel allow programs at functions at all? This is asked first, with a program that does
 * nothing: to have all of our programs verified in vain takes seconds.
 */
static int functions_allowed(struct invlock_why *why)
{
	const struct bpf_insn nothing[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = BPF_TRACE_FENTRY);
	int fd = libbpf_find_vmlinux_btf_id("proc_dointvec", BPF_TRACE_FENTRY);

	if (fd > 0) {
		opts.attach_btf_id = fd;
		fd = bpf_prog_load(BPF_PROG_TYPE_TRACING, "nothing", "GPL", nothing, 2, &opts);
	}
	if (fd < 0)
		return explain(why, fd, "the kernel refuses programs at functions: %s",
			       strerror(-fd));
	close(fd);
	return 0;
}

/* With Secure Boot the kernel says EINVAL or EPERM, and never that lockdown is why. */
void explain_lockdown(struct invlock_why *why)
{
	const char *locked = lockdown_mode();

	if (!locked)
		return;
	if (!strcmp(locked, "confidentiality"))
		explain_more(why, "; the reason is most likely that this kernel is locked down for "
			     "confidentiality, so that BPF programs may not read its memory: boot "
			     "it with lockdown=integrity or none, or use another monitor");
	else
		explain_more(why, "; this kernel is locked down (%s), which may be the reason",
			     locked);
}

/* Load the programs at the functions if the kernel lets us, at the tracepoints otherwise. */
static int load_quietly(struct progset *set, u64 object, struct invlock_why *why)
{
	struct bpf_set_header header = { .object = object, .attached = BPF_AT_FUNCTIONS };
	struct invlock_why why_not;
	int err;

	if (monitor_bpf_options.tracepoints || monitor_bpf_options.count_protect)
		explain(&why_not, 0, "it was asked for");
	else if (!functions_allowed(&why_not) && !load_at_functions(set, &header, &why_not))
		return 0;
	header.attached = BPF_AT_TRACEPOINTS;
	snprintf(header.no_net, sizeof(header.no_net), "no program is at functions");
	snprintf(header.reason, sizeof(header.reason), "%s%.*s",
		 lockdown_mode() ? "the kernel is locked down: " : "", BPF_REASON_SIZE - 40,
		 why_not.text);
	header.guard = monitor_bpf_options.guard || guard_tracepoints_preemptible() ?
		       BPF_GUARD_ON : BPF_GUARD_UNNEEDED;
	err = load_at(set, &header, why);
	if (!err || header.guard != BPF_GUARD_ON)
		return err;
	header.guard = BPF_GUARD_MISSING;
	snprintf(header.no_guard, sizeof(header.no_guard), "%.*s", BPF_REASON_SIZE - 1, why->text);
	return load_at(set, &header, why);
}

/* Locks: the lock in mm.c, so that two opens do not swap libbpf's print function at once. */
int progset_load(struct progset *set, u64 object, struct invlock_why *why)
{
	char text[COMPLAINT_SIZE] = "";
	int err;

	set_nr_loaded++;
	complaint = text;
	print_before = libbpf_set_print(listen_to_libbpf);
	err = load_quietly(set, object, why);
	libbpf_set_print(print_before);
	if (err == -EPERM || err == -EACCES || err == -EINVAL)
		explain_lockdown(why);
	complaint = NULL;
	return err;
}
