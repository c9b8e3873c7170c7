/* SPDX-License-Identifier: MIT */
/* The invlock command has one function for each subcommand. Its argv[0] is "invlock NAME". */
#ifndef INVLOCK_TOOL_TOOL_H
#define INVLOCK_TOOL_TOOL_H

/* exit codes of all subcommands; invlock(1) explains the others of `invlock prove` */
enum {
	TOOL_OK		= 0,
	TOOL_FAILED	= 1,	/* the subcommand ran, and the answer is no */
	TOOL_USAGE	= 2,	/* the subcommand did not run, because an option is wrong */
};

int cmd_doctor(int argc, char **argv);
int cmd_prove(int argc, char **argv);
int cmd_ps(int argc, char **argv);

#endif /* INVLOCK_TOOL_TOOL_H */
