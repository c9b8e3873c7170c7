// SPDX-License-Identifier: MIT
/*
 * How often does a cache in a real program drop a registration although nothing happened to it?
 *
 * bench/false_watch.c is loaded into each program and counts.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "bench/false_watch.h"

#define SECONDS	"1.5"

static const char python[] =
	"import time, json\n"
	"end = time.time() + float('" SECONDS "')\n"
	"while time.time() < end:\n"
	"    data = [{'n': i, 's': 'x' * (i % 5000)} for i in range(3000)]\n"
	"    text = json.dumps(data)\n"
	"    data = json.loads(text)\n"
	"    blobs = [bytes(n * 4096) for n in range(200)]\n";

static const char node[] =
	"const end = Date.now() + 1000 * " SECONDS ";\n"
	"while (Date.now() < end) {\n"
	"  let data = [];\n"
	"  for (let i = 0; i < 20000; i++) data.push({ n: i, s: 'x'.repeat(i % 500) });\n"
	"  data = JSON.parse(JSON.stringify(data));\n"
	"  const blobs = [];\n"
	"  for (let i = 0; i < 100; i++) blobs.push(Buffer.alloc(4096 * i));\n"
	"}\n";

static const char *const python_argv[] = { "/usr/bin/python3", "-c", python, NULL };
static const char *const node_argv[] = { "node", "-e", node, NULL };
static const char *const storm_argv[] = { "/proc/self/exe", "storm", NULL };

static const struct {
	const char *name;
	const char *const *argv;
} programs[] = {
	{ "python3", python_argv },
	{ "node", node_argv },
	{ "a malloc storm", storm_argv },
};

static void *storm(void *arg)
{
	double end = bench_now() + atof(SECONDS) * 1e9;
	uint32_t seed = arg ? 2 : 1;
	void *held[64] = {};

	while (bench_now() < end) {
		unsigned int at = bench_random(&seed) % 64;
		size_t len = 1 + bench_random(&seed) % (bench_random(&seed) % 4 ? 20000 : 1000000);

		free(held[at]);
		held[at] = malloc(len);
		if (held[at])
			memset(held[at], 1, len);
	}
	for (int i = 0; i < 64; i++)
		free(held[i]);
	return NULL;
}

static int be_storm(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, storm, (void *)python))
		return 1;
	storm(NULL);
	pthread_join(thread, NULL);
	return 0;
}

__attribute__((noreturn)) static void be_program(const char *const *argv, const char *library,
						 int fd)
{
	char number[12];

	snprintf(number, sizeof(number), "%d", fd);
	setenv("LD_PRELOAD", library, 1);
	setenv(FALSE_FD, number, 1);
	/* with one arena, our blocks lie between those of the program's other threads */
	setenv("MALLOC_ARENA_MAX", "1", 1);
	/* give memory back to the kernel as often as possible */
	setenv("MALLOC_TRIM_THRESHOLD_", "0", 1);
	execvp(argv[0], (char *const *)argv);
	_exit(127);
}

static bool run(const char *const *argv, const char *library, struct false_counts *ret_counts)
{
	int fds[2], status;
	bool got;
	pid_t pid;

	if (pipe(fds))
		abort();
	pid = fork();
	if (!pid)
		be_program(argv, library, fds[1]);
	close(fds[1]);
	got = read(fds[0], ret_counts, sizeof(*ret_counts)) == sizeof(*ret_counts);
	close(fds[0]);
	waitpid(pid, &status, 0);
	return got && ret_counts->hits[0];
}

int main(int argc, char **argv)
{
	struct false_counts counts;
	char library[4096];
	ssize_t len;

	if (argc == 2 && !strcmp(argv[1], "storm"))
		return be_storm();
	bench_begin("false", "per 1,000 hits", argc, argv);
	len = readlink("/proc/self/exe", library, sizeof(library) - 32);
	if (len < 0)
		abort();
	library[len] = '\0';
	strcpy(strrchr(library, '/'), "/libfalse_watch.so");
	/* a round takes long, and the rounds differ little */
	if (!bench_quick)
		bench_rounds = 5;
	for (int round = 0; round < bench_rounds; round++) {
		for (size_t i = 0; i < sizeof(programs) / sizeof(*programs); i++) {
			const char *name = programs[i].name;

			/* with --quick, run only the storm, which exists on every machine */
			if (bench_quick && programs[i].argv != storm_argv)
				continue;
			if (!run(programs[i].argv, library, &counts)) {
				if (!round)
					bench_note("%s is missing, or cannot be watched", name);
				continue;
			}
			if (!round)
				bench_note("%s had %llu events during %llu hits", name,
					   (unsigned long long)counts.events,
					   (unsigned long long)counts.hits[0]);
			bench_add(name, "invlock",
				  1000.0 * (double)counts.stale[0] / (double)counts.hits[0]);
			bench_add(name, "without the ring",
				  1000.0 * (double)counts.stale[1] / (double)counts.hits[1]);
		}
	}
	for (size_t i = 0; i < sizeof(programs) / sizeof(*programs); i++)
		bench_limit(programs[i].name, "invlock", 1);
	return bench_end();
}
