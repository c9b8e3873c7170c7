/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The net under the decoder: a removal of pages that no call announced is caught before it happens.
 *
 * Whoever removes pages of an mm gathers them first: tlb_gather_mmu(), then the page tables are
 * cleared, then tlb_finish_mmu(). Both are in a file of their own in the kernel, so every caller
 * really calls them. A gather in an mm that is watched, by a thread that has no change of that mm
 * marked as running, is one that the decoder did not know: everything is marked as running until
 * it finishes, and the call is counted, so that the decoder can learn it. A move of page tables is
 * no gather: move_page_tables() is watched in the same way.
 *
 * Not every such gather is news:
 *
 * - What is known by its function, and marked precisely where that begins: pages of a file that are
 *   unmapped everywhere it is mapped, copies that a MAP_PRIVATE mapping made of them included; the
 *   same for hugetlbfs; UFFDIO_MOVE, which does not gather at all.
 * - What gathers and removes nothing, or nothing that counts here: write protection by userfaultfd
 *   and NUMA balancing, by their functions; mprotect() and a few others, by the call that the
 *   thread is in. An io_uring MADVISE was marked when it was submitted. A folio that is unmapped
 *   by itself is marked when it leaves the page cache.
 *
 * Not seen: exit and exec, which gather with tlb_gather_mmu_fullmm(), and the splitting of shared
 * hugetlb page tables, with tlb_gather_mmu_vma(): these remove nothing.
 *
 * A program of the net that the kernel skips, as it can where it preempts programs, is made up for
 * when the guard closes the window: stretch.h. That does not help against two things, which each
 * need a skipped run as well: a UFFDIO_MOVE whose start was skipped, and a move of page tables
 * that no call announced.
 */
#ifndef INVLOCK_BPF_NET_H
#define INVLOCK_BPF_NET_H

#include "uring.h"

#define UFFDIO_MOVE	0xc028aa05

/* ---- harmless ---- */

/* when there is no room for it, what it gathers is caught, which does no harm */
static inline int harmless_begins(u32 in)
{
	struct bpf_net *net = get_net();
	struct bpf_stretch *s;
	u64 w;

	if (!net)
		return 0;
	s = stretch_find(net, this_thread(), EVERY_SEAT);
	w = s ? port_load(&s->word) : 0;
	if (w) {
		/* fails when it was settled meanwhile: then it is caught as well */
		port_cmpxchg(&s->word, w, w | in);
		return 0;
	}
	s = stretch_claim(net, this_thread());
	if (!s)
		return 0;
	port_store(&s->seat, EVERY_SEAT);
	stretch_begin(net, s, in);
	return 0;
}

static inline int harmless_ends(u32 in)
{
	struct bpf_net *net = get_net();
	struct bpf_stretch *s = net ? stretch_find(net, this_thread(), EVERY_SEAT) : NULL;
	u64 w = s ? port_load(&s->word) : 0;

	if (!(w & in))
		return 0;
	if ((w & NET_IN_MASK) == in)
		stretch_take(s, w);
	else
		port_cmpxchg(&s->word, w, w & ~(u64)in);
	return 0;
}

/*
 * Does the call that this thread is in remove nothing, though it gathers? The decoder has looked
 * at it, and marked nothing; of advice that it does not know it cannot say that.
 */
static __noinline bool call_is_harmless(struct task_struct *task)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
	bool compat = is_compat(task);
	u64 nr = BPF_CORE_READ(regs, orig_ax), advice;

	if ((task->flags & (PF_IO_WORKER | PF_KTHREAD)) || (nr & ~(u64)(NR_MASK | X32_BIT)))
		return false;
	switch (class_of(nr, task)) {
	case CALL_MPROTECT:
		return true;
	case CALL_MMAP:
	case CALL_OLD_MMAP:
	case CALL_SHMAT:
		/* not over anything: a new mapping that failed is taken back */
		return true;
	case CALL_MREMAP:
		/* a second mapping of the same pages */
		return !page_up(compat ? (u32)BPF_CORE_READ(regs, cx) : BPF_CORE_READ(regs, si));
	case CALL_MADVISE:
		advice = BPF_CORE_READ(regs, dx);
		break;
	case CALL_PROCESS_MADVISE:
		advice = compat ? BPF_CORE_READ(regs, si) : BPF_CORE_READ(regs, r10);
		break;
	default:
		return false;
	}
	return (u32)advice == MADV_COLD || (u32)advice == MADV_PAGEOUT;
}

/* ---- marked ---- */

static inline void stretch_ends(struct bpf_user *u, struct bpf_stretch *s, u64 w)
{
	u64 start = port_load(&s->start), end = port_load(&s->end);

	if (!stretch_take(s, w))
		return;
	feed_end_long(u, start, end);
	count_gather(u, w, -1ULL);
}

/* this thread's, or this gather's, stretch of this user; its word is in ret_word; NULL: none */
static inline struct bpf_stretch *find_stretch(struct bpf_user *u, struct bpf_net *net, u64 owner,
					       u64 *ret_word)
{
	struct bpf_stretch *s = stretch_find(net, owner, u->state.index);

	*ret_word = s ? port_load_acquire(&s->word) : 0;
	return *ret_word && port_load(&s->serial) == u->state.serial ? s : NULL;
}

/*
 * This thread, or this gather, begins a stretch of a user. Nothing for one inside of another of
 * the same thread: both are of the same range. @what: enum net_in | kind << NET_IN_BITS
 */
__noinline int net_enter(struct bpf_user *u, u64 owner, u64 start, u64 end, u32 what)
{
	struct bpf_net *net = get_net();
	u64 in = what & NET_IN_MASK, w;
	struct bpf_stretch *s;

	if (!u || !net)
		return 0;
	s = find_stretch(u, net, owner, &w);
	if (s && !(w & in)) {
		if (port_cmpxchg(&s->word, w, w | in) == w)
			return 0;
		/* settled meanwhile */
	} else if (s) {
		/* its end was not seen, but it is over: see attach.h */
		stretch_ends(u, s, w);
		port_fetch_add(&u->state.nr_healed, 1);
	}
	s = stretch_claim(net, owner);
	if (!s) {
		feed_close(u, INVLOCK_FEED_DEGRADED);
		return 0;
	}
	port_store(&s->seat, u->state.index);
	port_store(&s->serial, u->state.serial);
	port_store(&s->start, start);
	port_store(&s->end, end);
	count_gather(u, in, 1);
	feed_start_long(u, start, end, what >> NET_IN_BITS, this_thread());
	stretch_begin(net, s, in);
	return 0;
}

__noinline int net_leave(struct bpf_user *u, u64 owner, u32 in)
{
	struct bpf_net *net = get_net();
	struct bpf_stretch *s;
	u64 w;

	if (!u || !net)
		return 0;
	s = find_stretch(u, net, owner, &w);
	if (!s || !(w & in))
		return 0;
	if ((w & NET_IN_MASK) == in)
		stretch_ends(u, s, w);
	else
		port_cmpxchg(&s->word, w, w & ~(u64)in);
	return 0;
}

/*
 * One user, of a file of which pages are unmapped; @nr: 0 = to its end. @what: see net_enter()
 *
 * Where the user's files are not known, only a file that somebody maps: one whose mapping was
 * taken out for that moment (files.h) is caught when it gathers.
 */
__noinline int user_unmaps(struct bpf_user *u, u64 mapping, u64 first, u64 nr, u32 what)
{
	struct address_space *file = (struct address_space *)mapping;
	struct file_part part;

	if (!u || !port_load(&u->state.mm) ||
	    (!files_known(u) && !BPF_CORE_READ(file, i_mmap.rb_root.rb_node)))
		return 0;
	if (part_of_file(u, mapping, first, nr, &part))
		net_enter(u, this_thread(), part.start, part.end, what);
	return 0;
}

static inline int unmap_begins(struct address_space *mapping, u64 first, u64 nr, u32 what)
{
	struct bpf_set *set = get_set();

	if (!set)
		return 0;
	for (u32 i = 0; i < BPF_NR_USERS; i++)
		if (port_load(&set->mm[i]))
			user_unmaps(user_at(i), number_of(mapping), first, nr, what);
	return 0;
}

static inline int unmap_ends(u32 in)
{
	struct bpf_set *set = get_set();

	if (!set)
		return 0;
	for (u32 i = 0; i < BPF_NR_USERS; i++)
		if (port_load(&set->mm[i]))
			net_leave(user_at(i), this_thread(), in);
	return 0;
}

/* ---- caught ---- */

/* the call that this thread is in, as struct bpf_caught has it */
static inline u64 who_is_caught(struct task_struct *task)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
	u64 nr = BPF_CORE_READ(regs, orig_ax);

	if (task->flags & (PF_IO_WORKER | PF_KTHREAD))
		return BPF_CAUGHT_KERNEL;
	if (nr & ~(u64)(NR_MASK | X32_BIT))
		return BPF_CAUGHT_NO_CALL;
	return nr | (is_compat(task) ? BPF_CAUGHT_COMPAT : BPF_CAUGHT_NATIVE);
}

static inline void count_caught(struct bpf_user *u, u64 who)
{
	port_fetch_add(&u->state.nr_caught, 1);
	for (u32 i = 0; i < BPF_NR_CAUGHT; i++) {
		struct bpf_caught *c = &u->state.caught[i];
		u64 seen = port_load(&c->who);

		if (!seen)
			seen = port_cmpxchg(&c->who, 0, who) ?: who;
		if (seen == who) {
			port_fetch_add(&c->nr, 1);
			return;
		}
	}
}

static inline bool in_stretch(struct bpf_user *u, u32 tid)
{
	struct bpf_net *net = get_net();
	u64 w;

	return net && (stretch_find(net, tid, EVERY_SEAT) || find_stretch(u, net, tid, &w));
}

/* does the call that this thread is in have a range that is marked? */
static inline bool is_marked(struct bpf_user *u)
{
	struct bpf_call *s = find_call(u, this_thread());

	return s && s->nr;
}

/* is it news? Then everything is marked until the end of @owner */
static __noinline int catch_unknown(struct bpf_user *u, u64 owner, u32 in)
{
	struct task_struct *task = bpf_get_current_task_btf();

	run_begins();
	if (!call_is_harmless(task) && !in_stretch(u, task->pid)) {
		net_enter(u, owner, 0, INVLOCK_ADDRESS_END,
			  in | INVLOCK_KIND_UNKNOWN << NET_IN_BITS);
		count_caught(u, who_is_caught(task));
	}
	run_ends(u);
	return 0;
}

static __noinline int finish_caught(struct bpf_user *u, u64 tlb)
{
	run_begins();
	net_leave(u, tlb, NET_GATHER);
	doubt_ends(u);
	run_ends(u);
	return 0;
}

/* no page table has been changed yet, and the kernel has counted this gather: see stretch.h */
SEC("?fexit/tlb_gather_mmu")
int BPF_PROG(net_gather, struct mmu_gather *tlb, struct mm_struct *mm)
{
	struct bpf_user *u = user_of(number_of(mm));

	if (likely(!u || is_marked(u)))
		return 0;
	return catch_unknown(u, number_of(tlb), NET_GATHER);
}

SEC("?fexit/tlb_finish_mmu")
int BPF_PROG(net_finish, struct mmu_gather *tlb)
{
	struct bpf_user *u = user_of(number_of(tlb->mm));

	if (likely(!u || (!port_load(&u->state.nr_gathers) && !port_load(&u->state.doubtful))))
		return 0;
	return finish_caught(u, number_of(tlb));
}

SEC("?fentry/move_page_tables")
int BPF_PROG(net_move)
{
	struct bpf_user *u = user_of(mm_of(bpf_get_current_task_btf()));

	if (u && !is_marked(u))
		catch_unknown(u, this_thread(), NET_MOVE);
	return 0;
}

SEC("?fexit/move_page_tables")
int BPF_PROG(net_moved)
{
	struct bpf_user *u = user_of(mm_of(bpf_get_current_task_btf()));

	if (u)
		net_leave(u, this_thread(), NET_MOVE);
	return 0;
}

/* ---- known by their functions ---- */

static inline u32 unmap_kind(bool even_copies)
{
	return even_copies ? INVLOCK_KIND_TRUNCATE_PRIVATE : INVLOCK_KIND_TRUNCATE;
}

SEC("?fentry/unmap_mapping_range")
int BPF_PROG(net_unmap_range, struct address_space *mapping, long long from, long long len,
	     int even_copies)
{
	u64 first = (u64)from >> VM_PAGE_SHIFT;
	u64 nr = len > 0 ? page_up(len) >> VM_PAGE_SHIFT : 0;

	return unmap_begins(mapping, first, nr,
			    NET_UNMAP_RANGE | unmap_kind(even_copies) << NET_IN_BITS);
}

SEC("?fexit/unmap_mapping_range")
int BPF_PROG(net_unmapped_range)
{
	return unmap_ends(NET_UNMAP_RANGE);
}

SEC("?fentry/unmap_mapping_pages")
int BPF_PROG(net_unmap_pages, struct address_space *mapping, unsigned long first,
	     unsigned long nr, bool even_copies)
{
	return unmap_begins(mapping, first, nr,
			    NET_UNMAP_PAGES | unmap_kind(even_copies) << NET_IN_BITS);
}

SEC("?fexit/unmap_mapping_pages")
int BPF_PROG(net_unmapped_pages)
{
	return unmap_ends(NET_UNMAP_PAGES);
}

SEC("?fentry/unmap_hugepage_range")
int BPF_PROG(net_unmap_huge, struct vm_area_struct *vma, unsigned long start, unsigned long end)
{
	struct bpf_user *u = user_of(number_of(vma->vm_mm));

	net_enter(u, this_thread(), start, end,
		  NET_UNMAP_HUGE | INVLOCK_KIND_TRUNCATE_PRIVATE << NET_IN_BITS);
	return 0;
}

SEC("?fexit/unmap_hugepage_range")
int BPF_PROG(net_unmapped_huge, struct vm_area_struct *vma)
{
	struct bpf_user *u = user_of(number_of(vma->vm_mm));

	net_leave(u, this_thread(), NET_UNMAP_HUGE);
	return 0;
}

/* NULL: not a move. The kernel moves nothing between two mms */
static inline struct bpf_user *user_of_move(u32 cmd)
{
	return cmd == UFFDIO_MOVE ? user_of(mm_of(bpf_get_current_task_btf())) : NULL;
}

SEC("?fentry/userfaultfd_ioctl")
int BPF_PROG(net_uffd, struct file *file, unsigned int cmd, unsigned long arg)
{
	struct task_struct *task = bpf_get_current_task_btf();
	u64 start = 0, end = INVLOCK_ADDRESS_END;
	struct bpf_user *u = user_of_move(cmd);
	struct {
		u64 to, from, len;
	} move;

	if (!u)
		return 0;
	/* see decode.h: what lies in memory is believed of a thread that is alone */
	if (is_alone(task) && !bpf_probe_read_user(&move, sizeof(move), (void *)arg)) {
		start = move.from & VM_PAGE_MASK;
		end = page_up(move.from + move.len);
	}
	net_enter(u, this_thread(), start, end,
		  NET_UFFD_MOVE | INVLOCK_KIND_MOVE << NET_IN_BITS);
	return 0;
}

SEC("?fexit/userfaultfd_ioctl")
int BPF_PROG(net_uffd_ends, struct file *file, unsigned int cmd)
{
	struct bpf_user *u = user_of_move(cmd);

	if (u)
		net_leave(u, this_thread(), NET_UFFD_MOVE);
	return 0;
}

SEC("?fentry/uffd_wp_range")
int BPF_PROG(net_protect)
{
	return harmless_begins(NET_PROTECT);
}

SEC("?fexit/uffd_wp_range")
int BPF_PROG(net_protected)
{
	return harmless_ends(NET_PROTECT);
}

SEC("?fentry/change_prot_numa")
int BPF_PROG(net_numa)
{
	return user_of(mm_of(bpf_get_current_task_btf())) ? harmless_begins(NET_NUMA) : 0;
}

SEC("?fexit/change_prot_numa")
int BPF_PROG(net_numa_ends)
{
	return harmless_ends(NET_NUMA);
}

SEC("?fentry/unmap_mapping_folio")
int BPF_PROG(net_folio)
{
	return harmless_begins(NET_FOLIO);
}

SEC("?fexit/unmap_mapping_folio")
int BPF_PROG(net_folio_ends)
{
	return harmless_ends(NET_FOLIO);
}

SEC("?fentry/io_madvise")
int BPF_PROG(net_uring, struct io_kiocb *req)
{
	struct bpf_user *u = user_of(mm_of(bpf_get_current_task_btf()));

	/* one that was submitted before the user came is not marked */
	return u && user_has_request(u, number_of(req)) ? harmless_begins(NET_URING) : 0;
}

SEC("?fexit/io_madvise")
int BPF_PROG(net_uring_ends)
{
	return harmless_ends(NET_URING);
}

#endif /* INVLOCK_BPF_NET_H */
