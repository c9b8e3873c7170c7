/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The look: what is mapped in a range? The library asks this before it caches memory, since some
 * memory can get other pages without any call or removal that these programs see.
 *
 * Memory that is not known to be good counts as MAPPED_FOREIGN. A file is known to keep its pages
 * in the page cache alone in two cases. Its mappings have map_pages(), which maps pages of the page
 * cache and is useless to a driver. Or the file lies in tmpfs or hugetlbfs: mappings of System V
 * shared memory and of huge pages have no map_pages().
 */
#ifndef INVLOCK_BPF_LOOK_H
#define INVLOCK_BPF_LOOK_H

#include "core/mapped.h"
#include "files.h"

#define LOOK_MAPPINGS	32	/* in one run; the library asks again for the rest */

/* constants that BTF does not hold */
#define VM_MAYSHARE_BIT		0x00000080
#define VM_PFNMAP_BIT		0x00000400
#define VM_IO_BIT		0x00004000
#define VM_MIXEDMAP_BIT		0x10000000
#define S_DAX_BIT		(1U << 13)
#define SB_KERNMOUNT_BIT	(1UL << 22)
#define TMPFS_MAGIC		0x01021994
#define LOOK_ENOENT		2

/*
 * Huge pages that are mapped with MAP_ANONYMOUS have a file which no program can open. A memfd of
 * huge pages is not such a file.
 */
static inline bool is_anon_hugepage(struct file *file, struct super_block *sb)
{
	static const char anon[] = "anon_hugepage";
	const unsigned char *at = BPF_CORE_READ(file, f_path.dentry, d_name.name);
	char name[sizeof(anon)] = {};

	if (!(BPF_CORE_READ(sb, s_flags) & SB_KERNMOUNT_BIT))
		return false;
	bpf_probe_read_kernel_str(name, sizeof(name), at);
	return !bpf_strncmp(name, sizeof(name), anon);
}

static inline enum mapped file_memory(struct vm_area_struct *vma, struct file *file, bool shared)
{
	struct inode *host = BPF_CORE_READ(file, f_mapping, host);
	struct super_block *sb = BPF_CORE_READ(host, i_sb);
	u64 magic = BPF_CORE_READ(sb, s_magic);

	if (BPF_CORE_READ(host, i_flags) & S_DAX_BIT)
		return MAPPED_DAX;
	if (vma->vm_flags & (VM_PFNMAP_BIT | VM_IO_BIT | VM_MIXEDMAP_BIT))
		return MAPPED_FOREIGN;
	if (magic == HUGETLBFS_MAGIC && !shared && is_anon_hugepage(file, sb))
		return MAPPED_ANON;
	if (magic != HUGETLBFS_MAGIC && magic != TMPFS_MAGIC &&
	    !BPF_CORE_READ(vma, vm_ops, map_pages))
		return MAPPED_FOREIGN;
	return shared ? MAPPED_SHARED : MAPPED_PRIVATE_FILE;
}

struct memory_look {
	u64 start;
	u64 end;
	u64 mapped;	/* enum mapped */
	u64 file;	/* struct address_space *; 0: none */
	u64 offset;
};

static long look_at_memory(struct task_struct *task, struct vm_area_struct *vma,
			   struct memory_look *look)
{
	struct file *file = vma->vm_file;

	look->start = vma->vm_start;
	look->end = vma->vm_end;
	/*
	 * That a mapping has a file decides nothing: a private mapping of /dev/zero is anonymous.
	 */
	if (file && vma->vm_ops) {
		look->mapped = file_memory(vma, file, vma->vm_flags & VM_MAYSHARE_BIT);
		look->file = (u64)BPF_CORE_READ(file, f_mapping);
		look->offset = (u64)vma->vm_pgoff << VM_PAGE_SHIFT;
	} else if (vma->vm_ops ||
		 vma->vm_flags & (VM_PFNMAP_BIT | VM_IO_BIT | VM_MIXEDMAP_BIT))
		look->mapped = MAPPED_FOREIGN;
	else
		look->mapped = MAPPED_ANON;
	return 0;
}

/*
 * What is mapped at an address? A global function: the verifier looks at it once, and not in each
 * turn of the loop below, which some kernels would not finish. Return: 0; -errno
 */
__noinline int look_at_address(u64 at, struct memory_look *ret)
{
	struct memory_look look = {};
	long err;

	if (!ret)
		return -LOOK_ENOENT;
	err = bpf_find_vma(bpf_get_current_task_btf(), at, look_at_memory, &look, 0);
	*ret = look;
	return err;
}

/*
 * Is all memory in [q->start, q->end) of a kind in the mask q->nr? Return: MAPPED_GOOD = all of it
 * up to q->start, which has moved; another enum mapped = the kind of the first mapping that is not,
 * whose ends are then in q; -EBUSY = the mmap lock is taken.
 */
static inline int look_at_range(struct bpf_user *u, struct bpf_ask *q)
{
	u64 at = q->start, end = q->end, good = q->nr;
	int err = 0;

	for (u32 i = 0; i < LOOK_MAPPINGS && at < end; i++) {
		struct memory_look look = {};

		err = look_at_address(at, &look);
		if (err == -LOOK_ENOENT) {
			q->start = at;
			q->end = at + VM_PAGE_SIZE;
			return MAPPED_HOLE;
		}
		if (err)
			break;
		if (!(good >> (look.mapped & 31) & 1)) {
			q->start = look.start;
			q->end = look.end;
			return look.mapped;
		}
		file_found(u, look.file, look.start, look.end, look.offset);
		at = look.end;
	}
	q->start = at;
	return err ? err : MAPPED_GOOD;
}

#endif /* INVLOCK_BPF_LOOK_H */
