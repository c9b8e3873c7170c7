/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Files: pages that leave a file which this mm maps, whoever makes them leave.
 *
 * The tracepoint fires when the page is locked and no longer mapped by anyone, and before it
 * leaves the page cache: until it has left, nobody can fault in what comes after. So one
 * start and end at that moment are exact.
 *
 * A file is recorded when it is mapped, and never forgotten: an entry too many costs a
 * false event, one too few a stale translation.
 */
#ifndef INVLOCK_BPF_FILES_H
#define INVLOCK_BPF_FILES_H

#include "feed.h"

/* the file is mapped at places that do not follow one formula */
#define NO_BASE	1ULL

/* where a file is mapped: within [lo, hi); its byte n is at base + n, unless NO_BASE */
struct file_place {
	u64 lo;
	u64 hi;
	u64 base;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, BPF_NR_FILES);
	__type(key, u64);		/* struct address_space * */
	__type(value, struct file_place);
} files SEC(".maps");

/* lo only falls and hi only rises; who loses too many races says "everywhere" */
static inline void place_widen(struct file_place *place, u64 lo, u64 hi)
{
	u64 old, seen;
	u32 i;

	old = port_load(&place->lo);
	for (i = 0; i < 8 && lo < old; i++) {
		seen = port_cmpxchg(&place->lo, old, lo);
		if (seen == old)
			break;
		old = seen;
	}
	if (i == 8)
		port_store(&place->lo, 0);

	old = port_load(&place->hi);
	for (i = 0; i < 8 && hi > old; i++) {
		seen = port_cmpxchg(&place->hi, old, hi);
		if (seen == old)
			break;
		old = seen;
	}
	if (i == 8)
		port_store(&place->hi, INVLOCK_ADDRESS_END);
}

/* [start, end) maps the file from byte offset on */
static inline void file_mapped(struct bpf_state *st, u64 mapping, u64 start, u64 end, u64 offset)
{
	struct file_place fresh = { start, end, start - offset };
	struct file_place *place;

	if (!mapping)
		return;
	place = bpf_map_lookup_elem(&files, &mapping);
	if (!place) {
		if (!bpf_map_update_elem(&files, &mapping, &fresh, BPF_NOEXIST))
			return;
		place = bpf_map_lookup_elem(&files, &mapping);
	}
	if (!place) {
		/* the table is full, or its bucket busy: from now on all files count */
		port_store(&st->any_file, st->any_file | BPF_FILES_OVERFLOW);
		return;
	}
	if (port_load(&place->base) != fresh.base)
		port_store(&place->base, NO_BASE);
	place_widen(place, start, end);
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

/* Return: 0; -ENOENT when nothing is mapped there; -EBUSY when the mmap lock is taken */
static inline long find_vma(struct task_struct *task, u64 addr, struct vma_look *ret)
{
	__builtin_memset(ret, 0, sizeof(*ret));
	return bpf_find_vma(task, addr, look_at_vma, ret, 0);
}

/* the address_space behind a file descriptor of this task; 0 = none */
static inline u64 mapping_of_fd(struct task_struct *task, u32 fd)
{
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **slots = BPF_CORE_READ(table, fd);
	struct file *file = NULL;

	if (fd >= BPF_CORE_READ(table, max_fds))
		return 0;
	bpf_probe_read_kernel(&file, sizeof(file), slots + fd);
	return file ? (u64)BPF_CORE_READ(file, f_mapping) : 0;
}

/* pages in a folio; 0 = cannot be told on this kernel */
static inline u64 folio_pages(struct folio *folio)
{
	struct folio___byte_order *old = (void *)folio;
	u64 flags = 0;

	/* the first word of a page is its flags, however the kernel calls their type */
	bpf_probe_read_kernel(&flags, sizeof(flags), folio);
	if (!(flags >> bpf_core_enum_value(enum pageflags, PG_head) & 1))
		return 1;
	if (bpf_core_field_exists(old->_folio_order))
		return 1ULL << (BPF_CORE_READ(old, _folio_order) & 31);
	if (bpf_core_field_exists(folio->_flags_1))
		return 1ULL << (BPF_CORE_READ(folio, _flags_1) & 31);
	return 0;
}

SEC("tp_btf/mm_filemap_delete_from_page_cache")
int BPF_PROG(page_leaves, struct folio *folio)
{
	struct address_space *mapping = BPF_CORE_READ(folio, mapping);
	u64 key = (u64)mapping;
	struct file_place *place;
	struct bpf_state *st;
	u64 lo, hi, base, first, last, pages;

	/* mapped by anybody? */
	if (!mapping || !BPF_CORE_READ(mapping, i_mmap.rb_root.rb_node))
		return 0;
	st = get_state();
	if (!st || !st->mm)
		return 0;
	place = bpf_map_lookup_elem(&files, &key);
	if (!place || st->any_place) {
		if (place || st->any_file)
			feed_bump(0, INVLOCK_ADDRESS_END, INVLOCK_KIND_TRUNCATE);
		return 0;
	}
	lo = port_load(&place->lo);
	hi = port_load(&place->hi);
	base = port_load(&place->base);
	pages = folio_pages(folio);
	/* a hugetlb folio's index counts huge pages on some kernels */
	if (base != NO_BASE && pages &&
	    BPF_CORE_READ(mapping, host, i_sb, s_magic) != HUGETLBFS_MAGIC) {
		first = base + ((u64)BPF_CORE_READ(folio, index) << VM_PAGE_SHIFT);
		last = first + (pages << VM_PAGE_SHIFT);
		/* a folio that begins in front of address 0 */
		if (last < first)
			first = 0;
		if (last < hi)
			hi = last;
		if (first > lo)
			lo = first;
		/* a part of the file that is not mapped */
		if (lo >= hi)
			return 0;
	}
	feed_bump(lo, hi, INVLOCK_KIND_TRUNCATE);
	return 0;
}

/* run once when the monitor is opened, for what was mapped before */
SEC("iter/task_vma")
int scan_files(struct bpf_iter__task_vma *ctx)
{
	struct task_struct *task = ctx->task;
	struct vm_area_struct *vma = ctx->vma;
	struct bpf_state *st = get_state();
	struct vma_look look = {};

	if (!task || !vma || !st || !st->mm || (u64)task->mm != st->mm)
		return 0;
	look_at_vma(task, vma, &look);
	file_mapped(st, look.mapping, look.start, look.end, look.offset);
	return 0;
}

#endif /* INVLOCK_BPF_FILES_H */
