/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The net under the decoder: it catches a removal of pages that no call announced, before the
 * removal happens.
 *
 * The kernel code that removes pages of an mm gathers them first: it calls tlb_gather_mmu(), clears
 * the page tables, and calls tlb_finish_mmu(). Both functions are in a file of their own in the
 * kernel, so no caller has them inlined. A gather is unknown to the decoder if it is in a watched
 * mm and its thread has no change of that mm marked as running. Everything is then marked as
 * running until the gather finishes, and the call is counted, so that the decoder can be taught it.
 * A move of page tables is no gather: move_page_tables() is watched in the same way.
 *
 * Two sorts of removals are not caught:
 *
 * - Removals that are known by their function, and are marked precisely where that function begins:
 *   pages of a file that are unmapped wherever the file is mapped, which includes copies that a
 *   MAP_PRIVATE mapping made of them; the same for hugetlbfs; and UFFDIO_MOVE, which does not
 *   gather at all.
 * - Gathers that remove nothing, or nothing that counts here. Write protection by userfaultfd and
 *   NUMA balancing are recognized by their functions; mprotect() and a few others, by the call that
 *   the thread is in. An io_uring MADVISE was marked when it was submitted. A folio that is
 *   unmapped by itself is marked when it leaves the page cache.
 *
 * The net does not see exit and exec, which gather with tlb_gather_mmu_fullmm(), nor the splitting
 * of shared hugetlb page tables, which gathers with tlb_gather_mmu_vma(): these gathers remove
 * nothing from an mm that is still in use.
 *
 * Where the kernel preempts programs, it can skip a run of the net, too. When the window closes,
 * the guard makes up for that: stretch.h. It cannot make up for two cases, in each of which a run
 * must be skipped as well: a UFFDIO_MOVE whose start was skipped, and a move of page tables that no
 * call announced.
 */
#ifndef INVLOCK_BPF_NET_H
#define INVLOCK_BPF_NET_H

#include "uring.h"

#define UFFDIO_MOVE	0xc028aa05

/* ---- harmless ---- */

/* If the table is full, the harmless gather is caught, which costs only a false event. */
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
		/*
		 * This fails if the stretch was settled meanwhile: then the harmless gather is
		 * caught as well.
		 */
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
 * Does the current call of this thread gather, but remove nothing? The decoder has looked at the
 * call and marked nothing. Advice that is unknown here does not count as harmless.
 */
static __noinline bool call_is_harmless(struct task_struct *task)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
	bool compat = is_compat(task);
	u64 nr = saved_number(regs), advice;

	if ((task->flags & (PF_IO_WORKER | PF_KTHREAD)) || !is_call(nr))
		return false;
	switch (class_of(nr, task)) {
	case CALL_MPROTECT:
		return true;
	case CALL_MMAP:
	case CALL_OLD_MMAP:
	case CALL_SHMAT:
		/*
		 * The decoder would have marked a mapping that replaces another one. So this is a
		 * new mapping that failed and is taken back.
		 */
		return true;
	case CALL_MREMAP:
		/* An old length of 0 makes a second mapping of the same pages. */
		return !page_up(saved_argument(regs, 1, compat));
	case CALL_MADVISE:
		advice = saved_argument(regs, 2, compat);
		break;
	case CALL_PROCESS_MADVISE:
		advice = saved_argument(regs, 3, compat);
		break;
	default:
		return false;
	}
	return (u32)advice == MADV_COLD || (u32)advice == MADV_PAGEOUT;
}

/* ---- marked ---- */

/*
 * The table is full, because runs that end stretches are being skipped. The kernel counts a gather
 * until it is over, so that the user can be doubtful for as long. A file's pages are gathered when
 * they are unmapped, and that is caught. The end of anything else would go unseen.
 */
static __noinline void no_stretch(struct bpf_user *u, u64 in)
{
	if (in & NET_GATHER)
		doubt(u);
	else if (!(in & (NET_UNMAP_RANGE | NET_UNMAP_PAGES)))
		feed_close(u, BPF_CLOSED_NET);
}

/*
 * @owner, a thread or a gather, begins a stretch of a user. A stretch inside of another one of the
 * same thread marks nothing: both have the same range. @what: enum net_in | kind << NET_IN_BITS
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
		/* The stretch was settled meanwhile. */
	} else if (s) {
		/* The old stretch is over, but its end was not seen: see attach.h. */
		stretch_ends(u, s, w);
		port_fetch_add(&u->state.nr_healed, 1);
	}
	s = stretch_claim(net, owner);
	if (!s) {
		no_stretch(u, in);
		return 0;
	}
	port_store(&s->seat, u->state.index);
	port_store(&s->serial, u->state.serial);
	port_store(&s->start, start);
	port_store(&s->end, end);
	count_gather(u, in, 1);
	feed_start_slow(u, start, end, what >> NET_IN_BITS, this_thread());
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
 * Pages of a file are unmapped wherever the file is mapped: mark that for one user. @nr: 0 = all
 * pages to the end of the file. @what: see net_enter().
 *
 * If the user's table of files is incomplete, only a file that is mapped somewhere is marked. A
 * file may look unmapped because its mapping was taken out of the tree for a moment (files.h): the
 * removal is then caught when it gathers.
 */
__noinline int seat_unmaps(u32 seat, u64 mapping, u64 first, u64 nr, u32 what)
{
	struct bpf_user *u = armed_at(seat);
	struct address_space *file = (struct address_space *)mapping;
	struct file_part part;

	if (!u || !port_load(&u->state.watching) ||
	    (!files_known(u) && !BPF_CORE_READ(file, i_mmap.rb_root.rb_node)))
		return 0;
	if (part_of_file(u, mapping, first, nr, &part))
		net_enter(u, this_thread(), part.start, part.end, what);
	return 0;
}

__noinline int seat_unmapped(u32 seat, u64 owner, u32 in)
{
	return net_leave(armed_at(seat), owner, in);
}

VISITOR(unmap_group, seat_unmaps(seat, v->a, v->b, v->c, v->d))
VISITOR(unmapped_group, seat_unmapped(seat, v->a, v->b))

static inline int unmap_begins(struct address_space *mapping, u64 first, u64 nr, u32 what)
{
	struct visit v = { .a = number_of(mapping), .b = first, .c = nr, .d = what };

	visit(unmap_group, &v);
	return 0;
}

static inline int unmap_ends(u32 in)
{
	struct visit v = { .a = this_thread(), .b = in };

	visit(unmapped_group, &v);
	return 0;
}

/* ---- caught ---- */

/* Return: the call that this thread is in, in the form of bpf_caught.who. */
static inline u64 caught_call(struct task_struct *task)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
	u64 nr = saved_number(regs);

	if (task->flags & (PF_IO_WORKER | PF_KTHREAD))
		return BPF_CAUGHT_KERNEL;
	if (!is_call(nr))
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

/* Has the call that this thread is in a range that is marked? */
static inline bool is_marked(struct bpf_user *u)
{
	struct bpf_call *s = find_call(u, this_thread());

	return s && s->nr;
}

/*
 * Perhaps the call of this thread was announced, and the kernel skipped the run that would have
 * marked it: until the thread leaves the CPU, the window in which that happened is open (guard.h).
 */
static inline bool start_may_be_skipped(void)
{
	struct bpf_guard *g = get_guard();

	return guarded && g && port_load(&g->cpu[this_cpu()].window);
}

/* Unless the gather or move of @owner is known, mark everything until it is over. */
static __noinline int catch_unknown(struct bpf_user *u, u64 owner, u32 in)
{
	struct task_struct *task = bpf_get_current_task_btf();

	if (!call_is_harmless(task) && !in_stretch(u, task->pid)) {
		net_enter(u, owner, 0, INVLOCK_ADDRESS_END,
			  in | INVLOCK_KIND_UNKNOWN << NET_IN_BITS);
		/* What the guard accounts for, or a closed feed, shows no gap in the decoder. */
		if (!start_may_be_skipped() && !port_load(&u->feed.flags))
			count_caught(u, caught_call(task));
	}
	see_again(u);
	return 0;
}

static __noinline int finish_caught(struct bpf_user *u, u64 tlb)
{
	net_leave(u, tlb, NET_GATHER);
	doubt_ends(u);
	see_again(u);
	return 0;
}

/*
 * At this point no page table has been changed, and the kernel has counted this gather: see
 * stretch.h.
 */
SEC("?fexit/tlb_gather_mmu")
int BPF_PROG(net_gather, struct mmu_gather *tlb, struct mm_struct *mm)
{
	struct bpf_user *u;

	/* Between the kernel's count and our look for a user: pairs with arm(). */
	port_full_barrier();
	u = user_of(number_of(mm));
	if (likely(!u || is_marked(u)))
		return 0;
	return catch_unknown(u, number_of(tlb), NET_GATHER);
}

SEC("?fexit/tlb_finish_mmu")
int BPF_PROG(net_finish, struct mmu_gather *tlb)
{
	struct bpf_user *u = user_of(number_of(tlb->mm));

	/* Between the kernel's count and our look at doubtful: pairs with doubt(). */
	port_full_barrier();
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

/*
 * Return: the user of a UFFDIO_MOVE; NULL = another ioctl. The kernel moves nothing between two
 * mms.
 */
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
	/* As in decode.h, arguments in memory are used only if no other thread can change them. */
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

	/* A request that was submitted before the user was armed is not marked. */
	return u && user_has_request(u, number_of(req)) ? harmless_begins(NET_URING) : 0;
}

SEC("?fexit/io_madvise")
int BPF_PROG(net_uring_ends)
{
	return harmless_ends(NET_URING);
}

#endif /* INVLOCK_BPF_NET_H */
