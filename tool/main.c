// SPDX-License-Identifier: MIT
#include <stdio.h>
#include <string.h>

#include <invlock/mm.h>

#include "tool.h"

struct command {
	const char *name;	/* argv[0] of the subcommand */
	const char *summary;
	int (*run)(int argc, char **argv);
};

static const struct command commands[] = {
	{ "invlock doctor", "find out which monitors work on this host, and what they see",
	  cmd_doctor },
	{ "invlock prove", "do direct I/O while the memory map changes, and count stale data",
	  cmd_prove },
	{ "invlock ps", "list who has a feed on this machine, and measure what a call costs",
	  cmd_ps },
};

#define NR_COMMANDS	(sizeof(commands) / sizeof(commands[0]))

static const char *word_of(const struct command *c)
{
	return strchr(c->name, ' ') + 1;
}

static int help(void)
{
	puts("usage: invlock COMMAND [OPTION]...\n"
	     "       invlock --version | --help\n\n"
	     "Hold translations of a live address space, and never act on a stale one.\n");
	for (size_t i = 0; i < NR_COMMANDS; i++)
		printf("  %-8s  %s\n", word_of(&commands[i]), commands[i].summary);
	puts("\n`invlock COMMAND --help` lists the options; `man invlock` explains everything.");
	return TOOL_OK;
}

int main(int argc, char **argv)
{
	const char *word = argc > 1 ? argv[1] : NULL;

	if (!word) {
		fputs("invlock: no command given; `invlock --help` lists the commands\n", stderr);
		return TOOL_USAGE;
	}
	if (!strcmp(word, "--help") || !strcmp(word, "-h"))
		return help();
	if (!strcmp(word, "--version") || !strcmp(word, "-V")) {
		printf("invlock %s\n", invlock_version());
		return TOOL_OK;
	}
	for (size_t i = 0; i < NR_COMMANDS; i++) {
		if (!strcmp(word, word_of(&commands[i]))) {
			argv[1] = (char *)commands[i].name;
			return commands[i].run(argc - 1, argv + 1);
		}
	}
	fprintf(stderr, "invlock: there is no %s \"%s\"; see `invlock --help`\n",
		word[0] == '-' ? "option" : "command", word);
	return TOOL_USAGE;
}
