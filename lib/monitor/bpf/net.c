// SPDX-License-Identifier: MIT
/* The net under the decoder: can this kernel have it, and what has it caught? See bpf/net.h. */
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bpf.h"
#include "lib/monitor/monitor.h"
#include "progset.h"

/*
 * If one of these functions is missing, a removal would go unseen. If another function is missing,
 * a removal is caught as unknown.
 */
static const char *const needed[] = {
	"tlb_gather_mmu", "tlb_finish_mmu", "move_page_tables",
	"unmap_mapping_range", "unmap_mapping_pages", "unmap_mapping_folio",
};

bool net_has_program(const struct bpf_program *prog)
{
	return !strncmp(bpf_program__name(prog), "net_", 4);
}

/* A function that the compiler inlined into all its callers is not in the BTF, either. */
static bool is_function(const struct btf *btf, const char *name)
{
	return btf__find_by_name_kind(btf, name, BTF_KIND_FUNC) >= 0;
}

int net_choose(struct bpf_object *obj, struct invlock_why *why)
{
	struct btf *btf = btf__load_vmlinux_btf();
	struct bpf_program *prog;
	int err = 0;

	if (!btf)
		return explain(why, -errno, "this kernel's BTF: %s", strerror(errno));
	for (size_t i = 0; i < sizeof(needed) / sizeof(*needed) && !err; i++)
		if (!is_function(btf, needed[i]))
			err = explain(why, -EOPNOTSUPP, "this kernel has no function %s",
				      needed[i]);
	bpf_object__for_each_program(prog, obj)
		if (!err && net_has_program(prog) &&
		    is_function(btf, strchr(bpf_program__section_name(prog), '/') + 1))
			bpf_program__set_autoload(prog, true);
	btf__free(btf);
	return err;
}

void net_describe(const struct bpf_set_header *head, const struct bpf_state *state,
		  char *text, size_t size)
{
	const char *kind;
	size_t len;

	if (!head->net) {
		snprintf(text, size, "a change that it does not know goes unseen: there is no net "
			 "under it, since %s", head->no_net);
		return;
	}
	len = snprintf(text, size, "a net catches what it does not know: %llu so far",
		       (unsigned long long)state->nr_caught);
	for (int i = 0; i < BPF_NR_CAUGHT && state->caught[i].who && len < size; i++) {
		u64 who = state->caught[i].who;
		u32 nr = who;

		if (!state->caught[i].nr)
			continue;
		if (who >= BPF_CAUGHT_NO_CALL) {
			kind = who == BPF_CAUGHT_KERNEL ? "a thread of the kernel" : "no call";
			len += snprintf(text + len, size - len, ", %llu by %s",
					(unsigned long long)state->caught[i].nr, kind);
		} else {
			kind = who & BPF_CAUGHT_COMPAT ? "i386 call" : "call";
			len += snprintf(text + len, size - len, ", %llu by %s %u",
					(unsigned long long)state->caught[i].nr, kind, nr);
		}
	}
}
