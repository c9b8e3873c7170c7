// SPDX-License-Identifier: MIT
/* invlock ps in a build with -Dbpf=disabled: it asks the kernel about BPF programs, by libbpf. */
#include <stdio.h>

#include "tool/tool.h"

int cmd_ps(int argc, char **argv)
{
	(void)argc;
	fprintf(stderr, "%s: this build of invlock has no bpf monitor, and cannot ask the kernel "
		"about BPF programs: install a build that was configured with -Dbpf=enabled\n",
		argv[0]);
	return TOOL_FAILED;
}
