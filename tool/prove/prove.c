// SPDX-License-Identifier: MIT
/* `invlock prove`: parses the options, runs the threads, judges. prove.h explains the whole. */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>

#include "lib/monitor/monitor.h"
#include "lib/page.h"
#include "prove.h"
#include "tool/tool.h"

#define DEFAULT_SECONDS	20
#define MAX_SECONDS	86400
#define DEFAULT_THREADS	4
#define MAX_THREADS	1024
#define MAX_CHANGE_THREADS 16
#define TICK_NS		100000000
#define PATIENCE_S	60	/* how long to wait for the threads to end */

static volatile sig_atomic_t signalled;

static const char usage[] =
	"usage: invlock prove [--file F] [--seconds N] [--threads N] [--monitor M]\n"
	"                     [--device uring|soft] [--json]\n"
	"\n"
	"Does direct I/O while other threads unmap, remap, discard and truncate the memory.\n"
	"The I/O goes three ways side by side: without a cache (plain), through an invlock cache,\n"
	"and through a cache that never learns of changes (naive). Every byte is compared with\n"
	"the file, so a stale registration shows as wrong data.\n"
	"\n"
	"  --file F      read the first 64 MiB of this file; default: a file made for the run\n"
	"  --seconds N   run for N seconds, 1 to 86400; default: 20\n"
	"  --threads N   do I/O on N threads, 1 to 1024; default: 4. The same number of threads,\n"
	"                but at most 16, changes memory\n"
	"  --monitor M   use monitor kmod, bpf, daemon or uffd; default: what a cache would\n"
	"                choose, or, where it finds none, what it would choose if it needed\n"
	"                fewer kinds\n"
	"  --device D    use the device uring, which is io_uring, or soft, which is software and\n"
	"                needs no privilege; default: uring if it works, else soft\n"
	"  --json        write one JSON object instead of text\n"
	"  -h, --help    print this help\n"
	"\n"
	"Exit code:\n"
	"  0    proved: invlock was never stale, the naive cache was, and at least 20% of the\n"
	"       lookups in invlock's cache were hits\n"
	"  1    not proved\n"
	"  2    an option is wrong\n"
	"  3    the run could not start, or it failed\n"
	"  130  a signal ended the run early\n";

void prove_fail(struct prove *p, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	pthread_mutex_lock(&p->failure_lock);
	if (!p->failed)
		vsnprintf(p->failure, sizeof(p->failure), format, args);
	port_store_release(&p->failed, 1u);
	port_store(&p->stop, 1u);
	pthread_mutex_unlock(&p->failure_lock);
	va_end(args);
}

void prove_note(struct prove *p, const char *format, ...)
{
	va_list args;

	if (p->nr_notes == sizeof(p->notes) / sizeof(p->notes[0]))
		return;
	va_start(args, format);
	vsnprintf(p->notes[p->nr_notes++], sizeof(p->notes[0]), format, args);
	va_end(args);
}

__attribute__((format(printf, 2, 3)))
static int complain(int code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fprintf(stderr, "invlock prove: ");
	vfprintf(stderr, format, args);
	fprintf(stderr, "\n");
	va_end(args);
	return code;
}

static int parse_number(const char *name, const char *text, unsigned int most, unsigned int *ret)
{
	char *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno || !value || value > most)
		return complain(PROVE_USAGE, "--%s needs a number from 1 to %u, not '%s'", name,
				most, text);
	*ret = (unsigned int)value;
	return 0;
}

static int parse_device(const char *text, const struct device **ret)
{
	if (!strcmp(text, device_uring.name))
		*ret = &device_uring;
	else if (!strcmp(text, device_soft.name))
		*ret = &device_soft;
	else
		return complain(PROVE_USAGE, "there is no device '%s'; the devices are uring and "
				"soft", text);
	return 0;
}

/* Long options have numbers that are no characters, so that optopt tells them from short ones. */
enum {
	OPTION_FILE = 256, OPTION_SECONDS, OPTION_THREADS, OPTION_MONITOR, OPTION_DEVICE,
	OPTION_JSON, OPTION_HELP,
};

/* @before: what stands before optind, which is the option only if it is a long one */
static int no_such_option(const char *before)
{
	if (optopt && optopt < OPTION_FILE)
		return complain(PROVE_USAGE, "there is no option '-%c'; see `invlock prove --help`",
				optopt);
	return complain(PROVE_USAGE, "there is no option '%s'; see `invlock prove --help`",
			before);
}

/* Return: -1 to run, or an exit code. */
static int parse(struct prove *p, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "file", required_argument, NULL, OPTION_FILE },
		{ "seconds", required_argument, NULL, OPTION_SECONDS },
		{ "threads", required_argument, NULL, OPTION_THREADS },
		{ "monitor", required_argument, NULL, OPTION_MONITOR },
		{ "device", required_argument, NULL, OPTION_DEVICE },
		{ "json", no_argument, NULL, OPTION_JSON },
		{ "help", no_argument, NULL, OPTION_HELP },
		{}
	};
	struct prove_options *o = &p->options;
	int c, err = 0;

	*o = (struct prove_options){ .seconds = DEFAULT_SECONDS, .threads = DEFAULT_THREADS };
	optind = 0;
	opterr = 0;
	while (!err && (c = getopt_long(argc, argv, ":h", longs, NULL)) != -1) {
		switch (c) {
		case OPTION_FILE:
			o->file = optarg;
			break;
		case OPTION_SECONDS:
			err = parse_number("seconds", optarg, MAX_SECONDS, &o->seconds);
			break;
		case OPTION_THREADS:
			err = parse_number("threads", optarg, MAX_THREADS, &o->threads);
			break;
		case OPTION_MONITOR:
			o->monitor = optarg;
			break;
		case OPTION_DEVICE:
			err = parse_device(optarg, &p->device);
			break;
		case OPTION_JSON:
			o->json = true;
			break;
		case 'h':
		case OPTION_HELP:
			fputs(usage, stdout);
			return PROVE_PROVED;
		case ':':
			return complain(PROVE_USAGE, "%s needs a value; see `invlock prove --help`",
					argv[optind - 1]);
		default:
			return no_such_option(argv[optind - 1]);
		}
	}
	if (!err && optind < argc)
		return complain(PROVE_USAGE, "unexpected argument '%s'; see `invlock prove --help`",
				argv[optind]);
	return err ? err : -1;
}

static void on_signal(int nr)
{
	signalled = nr;
}

static void catch_signals(struct sigaction old[2])
{
	struct sigaction action = { .sa_handler = on_signal };

	signalled = 0;
	sigaction(SIGINT, &action, &old[0]);
	sigaction(SIGTERM, &action, &old[1]);
}

static void release_signals(const struct sigaction old[2])
{
	sigaction(SIGINT, &old[0], NULL);
	sigaction(SIGTERM, &old[1], NULL);
}

static void close_engines(struct prove *p)
{
	for (unsigned int i = 0; i < p->nr_engines; i++) {
		p->device->close(&p->engines[i]);
		free(p->engines[i].back);
		pthread_mutex_destroy(&p->engines[i].lock);
	}
	p->nr_engines = 0;
}

static int open_engines(struct prove *p, struct invlock_why *why)
{
	unsigned int nr = p->nr_engines;
	size_t back_bytes = 0;
	int err = 0;

	for (unsigned int i = 0; i < p->nr_areas; i++)
		if (NR_BUFFERS * p->areas[i].len > back_bytes)
			back_bytes = NR_BUFFERS * p->areas[i].len;
	err = scratch_open(p, nr * back_bytes, why);
	for (p->nr_engines = 0; p->nr_engines < nr && !err; p->nr_engines++) {
		struct engine *e = &p->engines[p->nr_engines];

		*e = (struct engine){ .prove = p, .scratch_offset = p->nr_engines * back_bytes };
		pthread_mutex_init(&e->lock, NULL);
		if (posix_memalign((void **)&e->back, page_bytes(), back_bytes))
			err = explain(why, -ENOMEM, "out of memory for %zu bytes", back_bytes);
		else
			err = p->device->open(p, e, why);
	}
	return err;
}

/* Take the device that the user has named, or the first that works. */
static int choose_device(struct prove *p, struct invlock_why *why)
{
	struct engine trial = { .prove = p };
	int err;

	if (p->device)
		return 0;
	p->device = &device_uring;
	err = p->device->open(p, &trial, why);
	p->device->close(&trial);
	if (err) {
		prove_note(p, "%s; this run uses the soft device instead", why->text);
		p->device = &device_soft;
	}
	return 0;
}

static int set_up(struct prove *p, struct invlock_why *why)
{
	struct rlimit files;
	int err;

	/* each registration of the soft device needs the two descriptors of a pipe */
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	err = data_open(p, why);
	if (!err)
		err = monitor_choose(p, why);
	if (!err)
		err = choose_device(p, why);
	if (err)
		return err;
	p->nr_io = p->options.threads;
	p->nr_changing = p->nr_io < MAX_CHANGE_THREADS ? p->nr_io : MAX_CHANGE_THREADS;
	p->nr_engines = p->nr_io < p->device->max_engines ? p->nr_io : p->device->max_engines;
	err = areas_open(p, why);
	return err ? err : open_engines(p, why);
}

static void tear_down(struct prove *p)
{
	close_engines(p);
	areas_close(p);
	invlock_mm_close(p->mm);
	invlock_mm_close(p->deaf);
	data_close(&p->data);
	free(p->workers);
	pthread_mutex_destroy(&p->failure_lock);
}

static unsigned int start_threads(struct prove *p)
{
	unsigned int nr = p->nr_io + p->nr_changing, i;
	int err;

	for (i = 0; i < nr; i++) {
		struct worker *w = &p->workers[i];
		bool io = i < p->nr_io;

		w->prove = p;
		w->nr = i;
		w->engine = io ? &p->engines[i % p->nr_engines] : NULL;
		if (getrandom(&w->random, sizeof(w->random), 0) != sizeof(w->random) ||
		    !w->random)
			w->random = i + 1;
		err = pthread_create(&w->thread, NULL, io ? io_thread : change_thread, w);
		if (err) {
			prove_fail(p, "cannot start thread %u of %u: %s", i + 1, nr, strerror(err));
			break;
		}
	}
	return i;
}

/* Return: false if a thread does not end. Nothing that it may use can be freed then. */
static bool join_threads(struct prove *p, unsigned int nr)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += PATIENCE_S;
	for (unsigned int i = 0; i < nr; i++)
		if (pthread_clockjoin_np(p->workers[i].thread, NULL, CLOCK_MONOTONIC, &until))
			return false;
	return true;
}

static bool run(struct prove *p)
{
	const struct timespec tick = { .tv_nsec = TICK_NS };
	u64 length = p->options.seconds * 1000000000ULL;
	unsigned int nr;
	bool joined;

	p->started_ns = now_ns(CLOCK_MONOTONIC);
	nr = start_threads(p);
	while (!prove_stopped(p) && !signalled &&
	       now_ns(CLOCK_MONOTONIC) - p->started_ns < length) {
		nanosleep(&tick, NULL);
		print_progress(p, false);
	}
	port_store(&p->stop, 1u);
	joined = join_threads(p, nr);
	p->ended_ns = now_ns(CLOCK_MONOTONIC);
	print_progress(p, true);
	return joined;
}

/* Return: the exit code; @sentence explains it. */
static int judge(const struct prove *p, char *sentence, size_t size)
{
	struct counts plain = counts_of(p, COLUMN_PLAIN);
	struct counts invlock = counts_of(p, COLUMN_INVLOCK);
	struct counts naive = counts_of(p, COLUMN_NAIVE);
	unsigned int percent = hit_percent(&invlock);
	bool exact = !(p->need & ~p->info.exact);

	if (plain.stale) {
		snprintf(sentence, size, "The run is void: plain I/O got wrong data, too: "
			 "%llu times. The test or the host is at fault.", plain.stale);
		return PROVE_CANNOT;
	}
	if (invlock.stale) {
		snprintf(sentence, size, "NOT PROVED: invlock used a stale registration.%s",
			 exact ? "" : " This monitor is not exact, so that can happen. If it must "
				 "not, use an exact monitor.");
		return PROVE_NOT;
	}
	if (signalled) {
		snprintf(sentence, size, "Nothing is proved: a signal ended the run early.");
		return PROVE_CUT;
	}
	if (!naive.stale) {
		snprintf(sentence, size, "Nothing is proved: the naive cache was never stale "
			 "either. Try again with more --seconds.");
		return PROVE_NOT;
	}
	if (percent < MIN_HIT_PERCENT) {
		snprintf(sentence, size, "Nothing is proved: only %u%% of the lookups in invlock's "
			 "cache were hits; at least %d%% must be.", percent, MIN_HIT_PERCENT);
		return PROVE_NOT;
	}
	snprintf(sentence, size, "Proved: every byte that went through invlock was right, and %u%% "
		 "of the lookups were hits.", percent);
	return PROVE_PROVED;
}

int cmd_prove(int argc, char **argv)
{
	/* static, because it is large, and a thread that does not end may still use it */
	static struct prove prove;
	struct prove *p = &prove;
	struct sigaction old[2];
	struct invlock_why why = {};
	char sentence[300];
	int code;

	*p = (struct prove){ .failure_lock = PTHREAD_MUTEX_INITIALIZER };
	p->data = (struct data){ .fd = -1, .plain = -1, .scratch = -1 };
	code = parse(p, argc, argv);
	if (code >= 0)
		return code;
	code = set_up(p, &why);
	if (code) {
		tear_down(p);
		/* -EINVAL means that an option names a file or a monitor that cannot be used */
		return complain(code == -EINVAL ? PROVE_USAGE : PROVE_CANNOT, "%s", why.text);
	}
	p->workers = calloc(p->nr_io + p->nr_changing, sizeof(*p->workers));
	if (!p->workers) {
		tear_down(p);
		return complain(PROVE_CANNOT, "out of memory");
	}
	catch_signals(old);
	if (!run(p)) {
		complain(PROVE_CANNOT, "a thread did not end within %u seconds%s%s", PATIENCE_S,
			 p->failed ? "; before that: " : "", p->failure);
		fflush(stdout);
		_exit(PROVE_CANNOT);
	}
	release_signals(old);
	if (p->failed) {
		code = complain(PROVE_CANNOT, "%s", p->failure);
	} else {
		code = judge(p, sentence, sizeof(sentence));
		print_report(p, code, sentence);
	}
	tear_down(p);
	return code;
}
