/* SPDX-License-Identifier: MIT */
/* A tracer at a function of the kernel that does nothing, and cannot do it in less. */
#ifndef INVLOCK_TESTS_BPF_NOTHING_H
#define INVLOCK_TESTS_BPF_NOTHING_H

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <unistd.h>

/* Return: the link, which goes when it is closed; -errno */
static inline int attach_nothing(const char *function, enum bpf_attach_type at)
{
	static const struct bpf_insn insns[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = at,
		    .attach_btf_id = libbpf_find_vmlinux_btf_id(function, at));
	int prog = bpf_prog_load(BPF_PROG_TYPE_TRACING, "nothing", "GPL", insns, 2, &opts);
	int link = prog < 0 ? prog : bpf_link_create(prog, 0, at, NULL);

	if (prog >= 0)
		close(prog);
	return link;
}

#endif /* INVLOCK_TESTS_BPF_NOTHING_H */
