/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The kernel's own types, as far as the programs read them: names and fields only. The position of
 * each field is looked up in the running kernel's BTF when the programs are loaded.
 */
#ifndef INVLOCK_BPF_KERNEL_H
#define INVLOCK_BPF_KERNEL_H

#include "call_class.h"
#include "core/port.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	int counter;
} atomic_t;

struct thread_info {
	unsigned long flags;
	u32 status;	/* x86 */
};

struct mm_struct {
	atomic_t tlb_flush_pending;	/* gathers of this mm that are under way */
	atomic_t mm_users;
	unsigned long end_data;
	unsigned long start_brk;
	unsigned long brk;
};

struct upid {
	int nr;
};

struct pid {
	unsigned int level;
	struct upid numbers[];
};

struct signal_struct {
	atomic_t live;
};

struct super_block {
	unsigned long s_flags;
	unsigned long s_magic;
};

struct inode {
	unsigned int i_flags;
	struct super_block *i_sb;
	long long i_size;
};

enum mapping_flags {
	AS_EXITING,
};

struct rb_node;

struct rb_root {
	struct rb_node *rb_node;
};

struct rb_root_cached {
	struct rb_root rb_root;
};

struct address_space {
	struct inode *host;
	struct rb_root_cached i_mmap;
	unsigned long flags;
};

struct qstr {
	const unsigned char *name;
};

struct dentry {
	struct qstr d_name;
};

struct path {
	struct dentry *dentry;
};

struct user_namespace {
	int level;		/* 0: the initial one */
};

struct caps {
	u64 all;		/* two numbers of 32 bits on older kernels */
};

struct cred {
	struct caps cap_effective;
	struct user_namespace *user_ns;
};

struct file {
	const struct cred *f_cred;	/* of the task that opened it */
	struct address_space *f_mapping;
	struct inode *f_inode;
	struct path f_path;
	void *private_data;
};

struct ipc_namespace;

struct nsproxy {
	struct ipc_namespace *ipc_ns;
};

struct shm_file_data {
	struct ipc_namespace *ns;
	struct file *file;
};

struct task_struct {
	struct thread_info thread_info;
	unsigned int __state;
	struct mm_struct *mm;
	unsigned int flags;
	int pid;
	int tgid;
	const struct cred *cred;
	struct nsproxy *nsproxy;
	struct signal_struct *signal;
	struct pid *thread_pid;
	void *worker_private;
	void *io_uring;
	unsigned short migration_disabled;
};

struct vm_operations_struct {
	void *map_pages;
};

struct mmu_gather {
	struct mm_struct *mm;
};

struct vm_area_struct {
	struct mm_struct *vm_mm;
	unsigned long vm_start;
	unsigned long vm_end;
	unsigned long vm_flags;
	const struct vm_operations_struct *vm_ops;	/* NULL: anonymous */
	unsigned long vm_pgoff;
	struct file *vm_file;
};

struct folio {
	struct address_space *mapping;
	unsigned long index;
	atomic_t _refcount;
	unsigned long _flags_1;
};

/* up to 6.5 */
struct folio___byte_order {
	unsigned char _folio_order;
};

enum pageflags {
	PG_head,
};

struct io_ring_ctx;

struct io_cqe {
	u64 user_data;
};

struct io_wq_work;

struct io_kiocb {
	u8 opcode;
	u64 flags;
	struct io_cqe cqe;
	struct io_ring_ctx *ctx;
};

struct io_madvise {
	u64 addr;
	u64 len;
	u32 advice;
};

struct ctl_table {
	const char *procname;
};

typedef struct {
	u64 v;
} u64_stats_t;

struct bpf_prog_stats {
	u64_stats_t misses;
};

struct bpf_prog_aux {
	u32 id;
};

struct bpf_prog {
	void *active;
	struct bpf_prog_stats *stats;
	struct bpf_prog_aux *aux;
};

struct bpf_link {
	enum bpf_link_type type;
	struct bpf_prog *prog;
};

struct bpf_perf_link {
	struct bpf_link link;
	struct file *perf_file;
};

struct bpf_array {
	void *pptrs[1];
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__bpf_prog {
	struct bpf_iter_meta *meta;
	struct bpf_prog *prog;
};

struct bpf_iter__bpf_link {
	struct bpf_iter_meta *meta;
	struct bpf_link *link;
};

struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	void *value;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

struct bpf_iter__task_vma {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	struct vm_area_struct *vma;
};

#pragma clang attribute pop

/* constants that BTF does not hold */
#define TASK_INTERRUPTIBLE	0x0001
#define PF_IO_WORKER		0x00000010
#define PF_KTHREAD		0x00200000
#define HUGETLBFS_MAGIC		0x958458f6

extern const volatile u32 page_shift;

#include BPF_ARCH_H

#define VM_PAGE_SIZE		(1ULL << VM_PAGE_SHIFT)
#define VM_PAGE_MASK		(~(VM_PAGE_SIZE - 1))

/* <linux/capability.h> does not suit BPF programs. */
#define CAP_SYS_ADMIN		21
#define CAP_PERFMON		38
#define CAP_BPF			39

/* Return: the capabilities on this machine; 0 = they count inside a user namespace alone. */
static inline u64 caps_of(const struct cred *cred)
{
	u64 caps = 0;

	if (!BPF_CORE_READ(cred, user_ns, level))
		bpf_core_read(&caps, sizeof(caps), &cred->cap_effective);
	return caps;
}

static inline u64 page_up(u64 n)
{
	return (n + VM_PAGE_SIZE - 1) & VM_PAGE_MASK;
}

#endif /* INVLOCK_BPF_KERNEL_H */
