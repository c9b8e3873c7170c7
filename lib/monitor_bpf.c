// SPDX-License-Identifier: MIT
/*
 * The BPF monitor: a program in the kernel marks the feed at the enter and the exit of every
 * system call that can change our map. Exact, but for these holes:
 *
 * TRUNCATE_PRIVATE	not seen: when a file is truncated, copies that a MAP_PRIVATE mapping
 *			made of its pages are dropped without an event, if the page itself is no
 *			longer in the page cache
 * PROTECT		not seen unless asked for: allocators call mprotect all the time, and
 *			no pinned registration goes stale by it
 * MOVE			not seen: UFFDIO_MOVE is an ioctl, on a descriptor like any other; the
 *			kernel refuses to move pinned pages
 * MIGRATE		not seen: the kernel's own doing, with no call to see; it leaves pinned
 *			pages alone
 * SOFT_DIRTY		not seen: written to a file of /proc; changes no page
 *
 * and for these cases within the kinds that are seen:
 *
 * - A file mapped with DAX has no pages in the page cache that could leave it.
 * - io_uring MADVISE requests that were queued before the open and run after it are marked
 *   when they complete, not when they start.
 * - An ioctl of a driver that takes its own mapping away.
 * - The iovec of process_madvise() is read when the call enters: another thread that rewrites
 *   it in that moment hides its range.
 *
 * process_madvise() of another process cannot drop our pages: the kernel allows it only COLD,
 * PAGEOUT, WILLNEED and COLLAPSE, which leave pinned pages alone.
 *
 * Runs that the kernel skips (bpf_prog_info.recursion_misses) do not happen up to 6.18, where
 * these tracepoints run with preemption off and so cannot interrupt themselves. If a kernel
 * does: a call whose enter alone was skipped is marked at its exit; one whose exit alone was
 * skipped stays marked as running until its thread's next call; one that lost both is seen by
 * monitor_bpf_note_missed() alone, which a cache asks whenever it looks for dead entries.
 */
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/invalidate.h"
#include "drain.h"
#include "invlock.skel.h"
#include "keep.h"
#include "monitor.h"
#include "monitor_bpf.h"

struct monitor_bpf_options monitor_bpf_options = {
	.nr_calls = BPF_NR_CALLS,
	.nr_files = BPF_NR_FILES,
};

/* libbpf's first complaint on this thread, while we listen; NULL: we do not */
static __thread char *complaint;
static libbpf_print_fn_t print_before;

#define COMPLAINT_SIZE	160

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

static bool have_capability(unsigned int cap)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = {};

	return !syscall(SYS_capget, &head, data) && data[cap / 32].effective >> cap % 32 & 1;
}

static int check_privilege(struct invlock_why *why)
{
	if (have_capability(CAP_SYS_ADMIN) ||
	    (have_capability(CAP_BPF) && have_capability(CAP_PERFMON)))
		return 0;
	return explain(why, -EPERM,
		       "the BPF monitor needs the capabilities CAP_BPF and CAP_PERFMON; "
		       "as root: setcap cap_bpf,cap_perfmon+ep on the program");
}

/* which of the programs that not every kernel can run are for this one */
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
	}
	btf__free(btf);
	return err;
}

static int load(struct invlock_bpf *skel, u64 cookie, struct invlock_why *why)
{
	int err = choose_programs(skel, why);

	if (err)
		return err;
	skel->rodata->cookie = cookie;
	skel->rodata->nr_slots = monitor_bpf_options.nr_calls;
	skel->rodata->count_protect = monitor_bpf_options.count_protect;
	bpf_map__set_max_entries(skel->maps.files, monitor_bpf_options.nr_files);
	/* links of these are made where they are used */
	bpf_program__set_autoattach(skel->progs.scan_calls, false);
	bpf_program__set_autoattach(skel->progs.scan_files, false);
	bpf_program__set_autoattach(skel->progs.note_missed, false);
	err = invlock_bpf__load(skel);
	if (err)
		return explain(why, err, "the kernel refuses the BPF program: %s (%s)",
			       strerror(-err), complaint);
	return 0;
}

/*
 * The feed is written by the program alone: it is formatted through a mapping that is gone
 * before the map is frozen, and from then on nobody can map it writable or update it. The
 * other maps are frozen for the same reason: a forked child holds their descriptors.
 */
static int make_feed(struct invlock_mm *mm, struct invlock_bpf *skel, struct invlock_why *why)
{
	struct bpf_map *map, *feed = skel->maps.feed;
	u64 bytes = invlock_feed_bytes(INVLOCK_NR_WORDS, INVLOCK_NR_EVENTS);
	void *mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(feed), 0);
	int err;

	if (mem == MAP_FAILED)
		return explain(why, -errno, "cannot map the feed: %s", strerror(errno));
	err = invlock_feed_format(mem, bytes, INVLOCK_NR_WORDS, INVLOCK_NR_EVENTS,
				  INVLOCK_STRIPE_SHIFT);
	munmap(mem, bytes);
	if (err)
		return explain(why, err, "the feed's size is wrong");

	bpf_object__for_each_map(map, skel->obj) {
		if (map == skel->maps.rodata)
			continue;
		err = bpf_map_freeze(bpf_map__fd(map));
		if (err)
			return explain(why, err, "cannot freeze the map %s: %s", bpf_map__name(map),
				       strerror(-err));
	}

	mem = mmap(NULL, bytes, PROT_READ, MAP_SHARED, bpf_map__fd(feed), 0);
	if (mem == MAP_FAILED)
		return explain(why, -errno, "cannot map the feed: %s", strerror(errno));
	err = invlock_attach(&mm->il, mem, bytes);
	if (err) {
		munmap(mem, bytes);
		return explain(why, err, "the feed's header is wrong");
	}
	mm->feed_bytes = bytes;
	return 0;
}

/* from here on, the mm of this process is watched */
static int arm(const struct invlock_mm *mm, u64 cookie, struct invlock_why *why)
{
	struct bpf_state state;
	int err;

	prctl(BPF_ARM_OPTION, cookie, 0, 0, 0);
	err = monitor_bpf_state(mm, &state);
	if (err)
		return explain(why, err, "cannot read the BPF program's state: %s", strerror(-err));
	if (!state.mm)
		return explain(why, -ENODEV,
			       "the BPF program did not see this process call prctl(); "
			       "does a seccomp filter forbid it?");
	return 0;
}

/* record the files that are mapped already */
static int scan_files(struct invlock_bpf *skel, struct invlock_why *why)
{
	union bpf_iter_link_info info = { .task.tid = syscall(SYS_gettid) };
	LIBBPF_OPTS(bpf_iter_attach_opts, opts, .link_info = &info, .link_info_len = sizeof(info));
	struct bpf_link *link = bpf_program__attach_iter(skel->progs.scan_files, &opts);
	char unused[64];
	int err = 0, iter;
	ssize_t got;

	if (!link)
		return explain(why, -errno, "cannot list the mapped files: %s (%s)",
			       strerror(errno), complaint);
	iter = bpf_iter_create(bpf_link__fd(link));
	if (iter < 0) {
		err = iter;
	} else {
		/* one read walks through all; it fails when it was cut short */
		do {
			got = read(iter, unused, sizeof(unused));
		} while (got > 0 || (got < 0 && (errno == EINTR || errno == EAGAIN)));
		if (got < 0)
			err = -errno;
		close(iter);
	}
	bpf_link__destroy(link);
	if (err)
		return explain(why, err, "cannot list the mapped files: %s", strerror(-err));
	return 0;
}

static int finish_old_calls(struct invlock_bpf *skel, struct invlock_why *why)
{
	struct bpf_link *link = bpf_program__attach_iter(skel->progs.scan_calls, NULL);
	int err;

	if (!link)
		return explain(why, -errno, "cannot list the threads of this process: %s (%s)",
			       strerror(errno), complaint);
	err = drain(bpf_link__fd(link), why);
	bpf_link__destroy(link);
	return err;
}

/*
 * Nobody who closes descriptors detaches the program then. Where there is no io_uring somebody
 * can, which monitor_bpf_note_missed() finds out afterwards.
 */
static void keep_attached(struct invlock_mm *mm, const struct invlock_bpf *skel)
{
	const struct bpf_object_skeleton *s = skel->skeleton;
	int fds[32];
	unsigned int nr = 0;

	for (int i = 0; i < s->prog_cnt && nr < sizeof(fds) / sizeof(fds[0]); i++)
		if (*s->progs[i].link)
			fds[nr++] = bpf_link__fd(*s->progs[i].link);
	mm->kept = keep_open(fds, nr);
}

/* Locks: the lock in mm.c, which keeps two opens from swapping libbpf's print function */
static int open_quietly(struct invlock_mm *mm, struct invlock_why *why)
{
	struct invlock_bpf *skel;
	u64 cookie;
	int err;

	err = check_privilege(why);
	if (err)
		return err;
	/* nobody else may arm our program in the moment before we do */
	if (getrandom(&cookie, sizeof(cookie), 0) != sizeof(cookie))
		return explain(why, -EIO, "getrandom() failed: %s", strerror(errno));
	skel = invlock_bpf__open();
	if (!skel)
		return explain(why, -errno, "libbpf cannot read the BPF program: %s (%s)",
			       strerror(errno), complaint);
	mm->data = skel;
	err = load(skel, cookie, why);
	if (err)
		goto destroy;
	err = make_feed(mm, skel, why);
	if (err)
		goto destroy;
	err = invlock_bpf__attach(skel);
	if (err) {
		explain(why, err, "the kernel does not attach the BPF program: %s (%s)",
			strerror(-err), complaint);
		goto unmap;
	}
	err = arm(mm, cookie, why);
	if (err)
		goto unmap;
	err = scan_files(skel, why);
	if (err)
		goto unmap;
	err = finish_old_calls(skel, why);
	if (err)
		goto unmap;
	keep_attached(mm, skel);
	return 0;

unmap:
	munmap(mm->il.feed, mm->feed_bytes);
destroy:
	invlock_bpf__destroy(skel);
	mm->data = NULL;
	return err;
}

static int bpf_open(struct invlock_mm *mm, struct invlock_why *why)
{
	char text[COMPLAINT_SIZE] = "";
	int err;

	complaint = text;
	print_before = libbpf_set_print(listen_to_libbpf);
	err = open_quietly(mm, why);
	libbpf_set_print(print_before);
	complaint = NULL;
	return err;
}

/*
 * In a forked child this closes the child's descriptors and unmaps the child's mapping: the
 * kernel's objects live on as long as the parent holds its own.
 */
static void bpf_close(struct invlock_mm *mm, bool mine)
{
	/* the child has no copy of it: something else may lie there */
	if (mine)
		keep_end(mm->kept);
	munmap(mm->il.feed, mm->feed_bytes);
	invlock_bpf__destroy(mm->data);
	mm->data = NULL;
}

int monitor_bpf_state(const struct invlock_mm *mm, struct bpf_state *ret_state)
{
	const struct invlock_bpf *skel = mm->data;
	u32 zero = 0;

	return bpf_map_lookup_elem(bpf_map__fd(skel->maps.state), &zero, ret_state);
}

/*
 * The program is not ours any more, and may be detached. Nobody can write to its feed, so a page
 * that says so takes the place of the header, for all readers at once.
 */
static int distrust(const struct invlock_mm *mm)
{
	struct invlock il = mm->il;
	void *header;

	if (port_load(&il.feed->flags) & INVLOCK_FEED_DEGRADED)
		return -ENODEV;
	header = mmap(NULL, INVLOCK_FEED_HEADER_SIZE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (header == MAP_FAILED)
		return -ENOMEM;
	memcpy(header, il.feed, INVLOCK_FEED_HEADER_SIZE);
	il.feed = header;
	invlock_close_feed(&il, INVLOCK_FEED_DEGRADED);
	if (mremap(header, INVLOCK_FEED_HEADER_SIZE, INVLOCK_FEED_HEADER_SIZE,
		   MREMAP_MAYMOVE | MREMAP_FIXED, mm->il.feed) != MAP_FAILED)
		return -ENODEV;
	munmap(header, INVLOCK_FEED_HEADER_SIZE);
	return -ENOMEM;
}

int monitor_bpf_note_missed(const struct invlock_mm *mm)
{
	const struct invlock_bpf *skel = mm->data;
	struct bpf_note note = {};
	LIBBPF_OPTS(bpf_test_run_opts, run, .ctx_in = &note, .ctx_size_in = sizeof(note));
	struct bpf_program *prog;
	int err;

	bpf_object__for_each_program(prog, skel->obj) {
		struct bpf_prog_info info = {};
		u32 size = sizeof(info);

		if (bpf_program__fd(prog) < 0)
			continue;
		err = bpf_obj_get_info_by_fd(bpf_program__fd(prog), &info, &size);
		if (err)
			return mm->kept ? err : distrust(mm);
		note.missed += info.recursion_misses;
	}
	if (note.missed <= port_load(&mm->il.feed->missed))
		return 0;
	return bpf_prog_test_run_opts(bpf_program__fd(skel->progs.note_missed), &run);
}

#define SEEN	(INVLOCK_KINDS_SHARED | INVLOCK_BIT(RELEASE))

const struct monitor monitor_bpf = {
	.name = "bpf",
	.seen = SEEN,
	.exact = SEEN,
	.open = bpf_open,
	.close = bpf_close,
	.note_missed = monitor_bpf_note_missed,
};
