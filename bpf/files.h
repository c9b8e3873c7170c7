/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Files: a page leaves a file that this mm maps, whichever process causes that.
 *
 * The tracepoint fires when the page is locked and no process maps it any more, but before it
 * leaves the page cache. Until the page has left, no thread can fault in its successor. So one
 * start and one end at that moment are exact.
 *
 * The table of files records which files are mapped, and where. A superfluous entry costs a false
 * event, but a missing entry could leave a translation stale without an event. Entries may be
 * missing
 * - while a call runs that may map a file: see mapping.h, and
 * - after such a call, if its result was not what it asked for, until all mappings have been
 *   scanned.
 * Until the table is complete again, a page that leaves any file is an event of all addresses.
 *
 * The file's own tree of mappings (i_mmap) cannot answer whether the file is mapped: the kernel
 * takes a mapping out of the tree for a moment when it moves, merges or splits that mapping. But a
 * file that is being freed is mapped nowhere, because every mapping holds a reference to its file.
 */
#ifndef INVLOCK_BPF_FILES_H
#define INVLOCK_BPF_FILES_H

#include "users.h"

/* bpf_file.base: 0 = not known yet */
#define BASE_KNOWN	1ULL	/* the other bits are the base */
#define BASE_NONE	2ULL	/* its mappings do not share one base */

#define FILE_PROBES	32

static inline u32 file_hash(u64 mapping)
{
	return (u32)(mapping * 0x9e3779b97f4a7c15ULL >> 32);
}

/* Return: the word of the set's filter that holds the bit of this file; the bit is in ret_bit. */
static inline u64 *filter_of(struct bpf_set *set, u64 mapping, u64 *ret_bit)
{
	u32 hash = file_hash(mapping) >> 13;

	*ret_bit = 1ULL << (hash & 63);
	return &set->filter[hash >> 6 & (BPF_FILTER_WORDS - 1)];
}

/* Return: the entry of a file. If there is none and @claim is set, a free entry is taken for it. */
static inline struct bpf_file *file_of(struct bpf_user *u, u64 mapping, bool claim)
{
	struct bpf_tables *t = tables_of(u);
	u32 home = file_hash(mapping);

	if (!t)
		return NULL;
	for (u32 i = 0; i < FILE_PROBES; i++) {
		struct bpf_file *f = &t->files[(home + i) & (u->state.nr_files - 1) &
					       (BPF_NR_FILES - 1)];
		u64 seen = port_load(&f->mapping);

		if (!seen && claim)
			seen = port_cmpxchg(&f->mapping, 0, mapping) ?: mapping;
		if (seen == mapping)
			return f;
		/* Entries are never freed, so the file would have been put into this free entry. */
		if (!seen)
			return NULL;
	}
	return NULL;
}

/*
 * [start, end) maps the file from byte offset on. Between the claim of the entry and the end of
 * this function, an event of the file may go unseen: the caller keeps the table marked as
 * incomplete until then.
 */
__noinline int file_mapped(struct bpf_user *u, u64 mapping, u64 start, u64 end, u64 offset)
{
	u64 base = (start - offset) | BASE_KNOWN, bit, *word;
	struct bpf_set *set = get_set();
	struct bpf_file *f;

	if (!u || !mapping || !set)
		return 0;
	word = filter_of(set, mapping, &bit);
	if (!(port_load(word) & bit))
		port_fetch_or(word, bit);
	f = file_of(u, mapping, true);
	if (!f) {
		/* The table is full: from now on, events of all files count. */
		port_store(&u->state.files_full, 1);
		return 0;
	}
	if (port_load(&f->base) != base && port_cmpxchg(&f->base, 0, base))
		port_store(&f->base, BASE_NONE);
	grow(&f->hi, end, INVLOCK_ADDRESS_END);
	grow(&f->not_lo, ~start, ~0ULL);
	return 0;
}

struct vma_look {
	u64 start;
	u64 end;
	u64 offset;
	u64 mapping;	/* 0: no file */
	u64 file_size;
};

static long look_at_vma(struct task_struct *task, struct vm_area_struct *vma,
			struct vma_look *look)
{
	struct file *file = vma->vm_file;

	look->start = vma->vm_start;
	look->end = vma->vm_end;
	look->offset = (u64)vma->vm_pgoff << VM_PAGE_SHIFT;
	if (file) {
		look->mapping = (u64)BPF_CORE_READ(file, f_mapping);
		look->file_size = BPF_CORE_READ(file, f_inode, i_size);
	}
	return 0;
}

/* Return: 0; -ENOENT = nothing is mapped there; -EBUSY = the mmap lock is taken. */
static inline long find_vma(struct task_struct *task, u64 addr, struct vma_look *ret)
{
	__builtin_memset(ret, 0, sizeof(*ret));
	return bpf_find_vma(task, addr, look_at_vma, ret, 0);
}

/* Return: the number of pages in a folio; 0 = this kernel does not tell. */
static inline u64 folio_pages(struct folio *folio)
{
	struct folio___byte_order *old = (void *)folio;
	u64 flags = 0;

	/* The first word of a page holds its flags, whatever type the kernel gives it. */
	bpf_probe_read_kernel(&flags, sizeof(flags), folio);
	if (!(flags >> bpf_core_enum_value(enum pageflags, PG_head) & 1))
		return 1;
	if (bpf_core_field_exists(old->_folio_order))
		return 1ULL << (BPF_CORE_READ(old, _folio_order) & 31);
	if (bpf_core_field_exists(folio->_flags_1))
		return 1ULL << (BPF_CORE_READ(folio, _flags_1) & 31);
	return 0;
}

/*
 * Is each file that this mm maps in the table? Ask this before reading the table: a call that maps
 * a file first adds to the table, then to nr_unknown, and leaves nr_mapping last. Each load is an
 * acquire, so that they and the reading of the table happen in the opposite order.
 */
static inline bool files_known(const struct bpf_user *u)
{
	u64 found;

	if (port_load_acquire(&u->state.nr_mapping))
		return false;
	found = port_load_acquire(&u->state.nr_found);
	return port_load_acquire(&u->state.nr_unknown) == found;
}

/*
 * The library looked at memory before caching it, and found that this file is mapped there. If the
 * table was complete and lacks this mapping, the file was mapped in a way that the programs do not
 * see. No cached translation is stale by that, because cached memory was looked at as well. A
 * reader that holds a translation made without a look is told, by the loss, that its memory was not
 * watched.
 */
__noinline int file_found(struct bpf_user *u, u64 mapping, u64 start, u64 end, u64 offset)
{
	u64 base = (start - offset) | BASE_KNOWN, known_base;
	struct bpf_file *f;
	bool known;

	if (!u || !mapping)
		return 0;
	known = files_known(u);
	f = file_of(u, mapping, false);
	if (f) {
		known_base = port_load(&f->base);
		if (~port_load(&f->not_lo) <= start && end <= port_load(&f->hi) &&
		    (known_base == base || known_base == BASE_NONE))
			return 0;
	}
	file_mapped(u, mapping, start, end, offset);
	if (!known || u->state.files_full)
		return 0;
	port_fetch_add(&u->state.nr_found_late, 1);
	feed_lose(u);
	return 0;
}

struct file_part {
	u64 start;
	u64 end;
};

/*
 * Where may these pages of a file be mapped? @nr: 0 = all pages to the end of the file. Return:
 * false = nowhere.
 */
static inline bool part_of_file(struct bpf_user *u, u64 mapping, u64 first, u64 nr,
				struct file_part *ret)
{
	bool known = files_known(u);
	struct bpf_file *f = file_of(u, mapping, false);
	u64 base, lo, hi, start, end;

	ret->start = 0;
	ret->end = INVLOCK_ADDRESS_END;
	if (!known || !f)
		return !known || u->state.files_full;
	ret->start = lo = ~port_load(&f->not_lo);
	ret->end = hi = port_load(&f->hi);
	base = port_load(&f->base);
	/* The index of a hugetlb folio counts huge pages on some kernels. */
	if ((base & BASE_KNOWN) && lo < hi &&
	    BPF_CORE_READ((struct address_space *)mapping, host, i_sb, s_magic) !=
	    HUGETLBFS_MAGIC) {
		/* Compute with offsets in the file, which are never negative. */
		base &= ~BASE_KNOWN;
		start = first >> (64 - VM_PAGE_SHIFT) ? ~0ULL : first << VM_PAGE_SHIFT;
		end = start + (nr << VM_PAGE_SHIFT);
		if (end <= start)
			end = ~0ULL;
		ret->start = (start > lo - base ? start : lo - base) + base;
		ret->end = (end < hi - base ? end : hi - base) + base;
	}
	/* An empty range is a part of the file that is not mapped. */
	return ret->start < ret->end;
}

/*
 * A page leaves a file, for one seat. A global function takes no pointer to a folio, only a number.
 */
__noinline int seat_loses_page(u32 seat, u64 mapping, u64 folio_at)
{
	struct bpf_user *u = armed_at(seat);
	struct folio *folio = (void *)folio_at;
	u64 nr = folio_pages(folio);
	struct file_part part;

	if (!u || !port_load(&u->state.watching))
		return 0;
	/* If the size of the folio is unknown, assume all of the file. */
	if (part_of_file(u, mapping, nr ? BPF_CORE_READ(folio, index) : 0, nr, &part))
		feed_bump(u, part.start, part.end, INVLOCK_KIND_TRUNCATE);
	return 0;
}

/*
 * A file is freed. Its entry stays for the next file that gets the same address, and says that the
 * next file is mapped nowhere yet.
 */
__noinline int seat_loses_file(u32 seat, u64 mapping)
{
	struct bpf_user *u = armed_at(seat);
	struct bpf_file *f;

	if (!u || !port_load(&u->state.watching))
		return 0;
	f = file_of(u, mapping, false);
	if (!f)
		return 0;
	port_store(&f->not_lo, 0);
	port_store(&f->hi, 0);
	port_store(&f->base, 0);
	return 0;
}

VISITOR(lose_page, seat_loses_page(seat, v->a, v->b))
VISITOR(lose_file, seat_loses_file(seat, v->a))

/* A page leaves a file that is being freed, as is the case for most pages that leave a file. */
static __noinline int file_goes(struct bpf_set *set, u64 mapping)
{
	u64 bit, *word = filter_of(set, mapping, &bit);
	struct visit v = { .a = mapping };

	/* No watched process has ever mapped this file. */
	if (!(port_load(word) & bit))
		return 0;
	visit(lose_file, &v);
	return 0;
}

SEC("tp_btf/mm_filemap_delete_from_page_cache")
int BPF_PROG(page_leaves, struct folio *folio)
{
	struct address_space *mapping = folio->mapping;
	u64 at = number_of(mapping);
	struct visit v = {};
	struct bpf_set *set;

	/*
	 * Reclaim freezes the reference count at 0 first, so it takes no page that is held or
	 * pinned.
	 */
	if (!at || !folio->_refcount.counter)
		return 0;
	set = get_set();
	if (!set)
		return 0;
	if (mapping->flags >> bpf_core_enum_value(enum mapping_flags, AS_EXITING) & 1)
		return file_goes(set, at);
	v.a = at;
	v.b = number_of(folio);
	visit(lose_page, &v);
	return 0;
}

/*
 * The library runs this program in its own process when it opens the monitor, to find the files
 * that are mapped already, and again whenever nr_unknown has grown. A mapping that was counted in
 * nr_unknown before the scan is found by the scan, or is gone.
 */
SEC("iter/task_vma")
int scan_files(struct bpf_iter__task_vma *ctx)
{
	struct task_struct *task = ctx->task;
	struct vm_area_struct *vma = ctx->vma;
	struct vma_look look = {};
	struct bpf_user *u;

	if (!task || !vma || task->mm != bpf_get_current_task_btf()->mm)
		return 0;
	u = user_of(mm_of(bpf_get_current_task_btf()));
	if (!u)
		return 0;
	look_at_vma(task, vma, &look);
	port_fetch_add(&u->state.nr_scanned, 1);
	file_mapped(u, look.mapping, look.start, look.end, look.offset);
	return 0;
}

#endif /* INVLOCK_BPF_FILES_H */
