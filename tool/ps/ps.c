// SPDX-License-Identifier: MIT
#include "ps.h"

#include <getopt.h>
#include <stdio.h>

#include "lib/explain.h"
#include "tool/tool.h"

static int help(void)
{
	puts("usage: invlock ps [--json] [--no-cost]\n\n"
	     "Lists the processes of this machine that have a feed: through which monitor, since\n"
	     "when, and in which state it is. Root sees all of them, and a user sees its own.\n"
	     "Then it measures what a call costs here now, which takes about a second, and for\n"
	     "a moment a seat among the feeds.\n\n"
	     "  -j, --json          write one JSON object instead of text\n"
	     "  -n, --no-cost       measure nothing\n"
	     "  -h, --help          print this help\n\n"
	     "Exit code: 0 if the list was made, 1 if not, 2 if an option is wrong.");
	return TOOL_OK;
}

static int report(bool json, bool measure)
{
	struct ps_report r = {};
	int err = ps_find(&r);

	if (err) {
		fputs("invlock ps: out of memory\n", stderr);
		return TOOL_FAILED;
	}
	if (measure)
		ps_measure(&r.cost);
	else
		explain(&r.cost.why_not, 0, "it was not asked for");
	if (json)
		err = ps_print_json(&r);
	else
		ps_print_text(&r);
	if (err || fflush(stdout)) {
		fputs("invlock ps: cannot write the report to standard output\n", stderr);
		err = -1;
	}
	ps_free(&r);
	return err ? TOOL_FAILED : TOOL_OK;
}

int cmd_ps(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "no-cost", no_argument, NULL, 'n' },
		{ "help", no_argument, NULL, 'h' },
		{}
	};
	bool json = false, measure = true;
	int c;

	while ((c = getopt_long(argc, argv, "jnh", options, NULL)) != -1) {
		switch (c) {
		case 'j':
			json = true;
			break;
		case 'n':
			measure = false;
			break;
		case 'h':
			return help();
		default:
			/* getopt_long() has printed what is wrong */
			return TOOL_USAGE;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "invlock ps: unexpected argument \"%s\"\n", argv[optind]);
		return TOOL_USAGE;
	}
	return report(json, measure);
}
