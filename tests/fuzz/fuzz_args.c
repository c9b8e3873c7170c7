// SPDX-License-Identifier: MIT
/*
 * Arguments of the command. Whatever they are, the exit code is one of the manual's, bad usage
 * prints one line on stderr and nothing on stdout, and nothing crashes. The work after that is left
 * out: the linker replaces functions of the command by ours (__wrap_...).
 */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <string.h>

#include "fuzz.h"
#include "lib/monitor/monitor.h"
#include "tool/prove/prove.h"
#include "tool/tool.h"

#define MAX_ARGS	24

int tool_main(int argc, char **argv);	/* tool/main.c, renamed by meson.build */

static bool number_check_gone;
static unsigned int nr_runs;	/* runs of the part after the arguments */

const char *const fuzz_plants[] = { "number", NULL };

void fuzz_plant(const char *name)
{
	number_check_gone = !strcmp(name, "number");
}

int __wrap_data_open(struct prove *p, struct invlock_why *why);
int __wrap_data_open(struct prove *p, struct invlock_why *why)
{
	const struct prove_options *o = &p->options;
	/* planted: the limits of numbers are not checked */
	unsigned int seconds = number_check_gone ? o->seconds * 86400 : o->seconds;

	nr_runs++;
	FUZZ_CHECK(seconds >= 1 && seconds <= 86400, "%u seconds", seconds);
	FUZZ_CHECK(o->threads >= 1 && o->threads <= 1024, "%u threads", o->threads);
	return explain(why, -EIO, "the fuzz target does not go further");
}

/*
 * The types of doctor.h, which cannot be included beside prove.h; a field that is not set is zero.
 */
struct host;
struct finding;

void __wrap_probe_host(struct host *host);
void __wrap_probe_host(struct host *host)
{
	(void)host;
	nr_runs++;
}

void __wrap_probe_monitor(struct finding *f, unsigned int nr_changes);
void __wrap_probe_monitor(struct finding *f, unsigned int nr_changes)
{
	(void)f;
	(void)nr_changes;
}

struct rdma;
struct rdma_places;

void __wrap_probe_rdma(struct rdma *rdma, const struct rdma_places *places);
void __wrap_probe_rdma(struct rdma *rdma, const struct rdma_places *places)
{
	(void)rdma;
	(void)places;
}

static void check(int code, const char *out, const char *err)
{
	const char *line = strchr(err, '\n');

	FUZZ_CHECK(code >= 0 && code <= 3, "exit code %d", code);
	if (code == 2)
		FUZZ_CHECK(!out[0] && line && !line[1] && !nr_runs, "stdout %.80s stderr %.80s",
			   out, err);
	else if (!nr_runs)
		FUZZ_CHECK(code == 0 && out[0] && !err[0], "%d: neither help nor a run", code);
}

static void run(int argc, char **argv)
{
	FILE *real_out = stdout, *real_err = stderr;
	char *out, *err;
	size_t out_len, err_len;
	int code;

	nr_runs = 0;
	/* the state of getopt at the start of a program */
	optind = 0;
	opterr = 1;
	stdout = open_memstream(&out, &out_len);
	stderr = open_memstream(&err, &err_len);
	code = tool_main(argc, argv);
	fclose(stdout);
	fclose(stderr);
	stdout = real_out;
	stderr = real_err;
	check(code, out, err);
	free(out);
	free(err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *argv[MAX_ARGS + 1] = { "invlock" }, *text = malloc(size + 1);
	int argc = 1;

	if (getenv("INVLOCK_FUZZ_PLANT"))
		fuzz_plant(getenv("INVLOCK_FUZZ_PLANT"));
	memcpy(text, data, size);
	text[size] = '\0';
	/* arguments are lines, so that the corpus can be read */
	for (char *at = text; argc < MAX_ARGS && at; argc++) {
		argv[argc] = at;
		at = strchr(at, '\n');
		if (at)
			*at++ = '\0';
	}
	run(argc, argv);
	free(text);
	return 0;
}
