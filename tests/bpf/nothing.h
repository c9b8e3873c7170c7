/* SPDX-License-Identifier: MIT */
/*
 * BPF programs that return at once, in place of another tracer. They go when their link is closed.
 */
#ifndef INVLOCK_TESTS_BPF_NOTHING_H
#define INVLOCK_TESTS_BPF_NOTHING_H

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <unistd.h>

static inline int load_nothing(enum bpf_prog_type type, struct bpf_prog_load_opts *opts)
{
	static const struct bpf_insn insns[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};

	return bpf_prog_load(type, "nothing", "GPL", insns, 2, opts);
}

/* Return: the link's descriptor, or -errno */
static inline int attach_nothing_to_function(const char *function, enum bpf_attach_type at)
{
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = at,
		    .attach_btf_id = libbpf_find_vmlinux_btf_id(function, at));
	int prog = load_nothing(BPF_PROG_TYPE_TRACING, &opts);
	int link = prog < 0 ? prog : bpf_link_create(prog, 0, at, NULL);

	if (prog >= 0)
		close(prog);
	return link;
}

/* Return: the link's descriptor, or -errno */
static inline int attach_nothing_to_tracepoint(const char *tracepoint)
{
	int prog = load_nothing(BPF_PROG_TYPE_RAW_TRACEPOINT, NULL);
	int link = prog < 0 ? prog : bpf_raw_tracepoint_open(tracepoint, prog);

	if (prog >= 0)
		close(prog);
	return link;
}

#endif /* INVLOCK_TESTS_BPF_NOTHING_H */
