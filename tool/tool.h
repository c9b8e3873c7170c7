/* SPDX-License-Identifier: MIT */
/* The invlock command: one function for each sub-command, argv[0] is "invlock NAME". */
#ifndef INVLOCK_TOOL_TOOL_H
#define INVLOCK_TOOL_TOOL_H

/* exit codes of all sub-commands; `invlock prove` has some more, see invlock(1) */
enum {
	TOOL_OK		= 0,
	TOOL_FAILED	= 1,	/* it ran, and the answer is no */
	TOOL_USAGE	= 2,	/* it did not run: an option is no good */
};

int cmd_doctor(int argc, char **argv);
int cmd_prove(int argc, char **argv);

#endif /* INVLOCK_TOOL_TOOL_H */
