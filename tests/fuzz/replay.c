// SPDX-License-Identifier: MIT
/*
 * replay CORPUS NR - run a fuzz target without libFuzzer
 *
 * Runs every input of the corpus, in order of their names; then NR mutations of them, always the
 * same ones; then, for each fault that the target can plant, the corpus again, which must find the
 * fault. Each of these runs in a child, which dies where libFuzzer would report a find.
 */
#include <dirent.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "fuzz.h"
#include "tests/test.h"

#define INPUT_BYTES	4096
#define PATIENCE_S	300	/* for all inputs together: then a loop counts as endless */

static const char *corpus;
static unsigned int nr_mutations;

struct input {
	uint8_t data[INPUT_BYTES];
	size_t size;
	char name[256];
};

static struct input *inputs;
static int nr_inputs;
static char *now;	/* shared with the child: the input that it runs */

static int is_file(const struct dirent *d)
{
	return d->d_name[0] != '.';
}

static int load_corpus(__attribute__((unused)) void **state)
{
	struct dirent **names;
	char path[4096];
	FILE *f;

	nr_inputs = scandir(corpus, &names, is_file, alphasort);
	if (nr_inputs <= 0)
		return -1;
	inputs = calloc(nr_inputs, sizeof(*inputs));
	now = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < nr_inputs; i++) {
		snprintf(path, sizeof(path), "%s/%s", corpus, names[i]->d_name);
		snprintf(inputs[i].name, sizeof(inputs[i].name), "%s", names[i]->d_name);
		f = fopen(path, "re");
		if (!f)
			return -1;
		inputs[i].size = fread(inputs[i].data, 1, INPUT_BYTES, f);
		fclose(f);
		free(names[i]);
	}
	free(names);
	return 0;
}

static int free_corpus(__attribute__((unused)) void **state)
{
	free(inputs);
	munmap(now, PAGE);
	return 0;
}

static void run_corpus(void)
{
	for (int i = 0; i < nr_inputs; i++) {
		strcpy(now, inputs[i].name);
		LLVMFuzzerTestOneInput(inputs[i].data, inputs[i].size);
	}
}

static uint64_t random_state;

static uint64_t random_number(uint64_t below)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state % below;
}

/* Changes, doubles or removes bytes, or appends the end of another input. */
static void mutate(struct input *in)
{
	const struct input *other = &inputs[random_number(nr_inputs)];
	size_t at, len;

	for (unsigned int n = 1 + random_number(4); n; n--) {
		at = random_number(in->size + 1);
		switch (random_number(4)) {
		case 0:
		case 1:
			if (at < in->size)
				in->data[at] = random_number(256);
			break;
		case 2:
			len = other->size - (at < other->size ? at : other->size);
			if (at + len > INPUT_BYTES)
				break;
			memcpy(in->data + at, other->data + other->size - len, len);
			in->size = at + len;
			break;
		case 3:
			if (in->size < INPUT_BYTES && at < in->size) {
				memmove(in->data + at + 1, in->data + at, in->size - at);
				in->size++;
			}
			break;
		}
	}
}

static void run_mutations(void)
{
	struct input in;

	random_state = 0x9e3779b97f4a7c15;
	for (unsigned int nr = 0; nr < nr_mutations; nr++) {
		in = inputs[nr % nr_inputs];
		sprintf(now, "mutation %u", nr);
		mutate(&in);
		LLVMFuzzerTestOneInput(in.data, in.size);
	}
}

/*
 * Return: as from waitpid(). With a fault the child is expected to die, and its output is hidden.
 */
static int in_child(void (*run)(void), const char *fault)
{
	static const int crashes[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE };
	struct rlimit no_core = {};
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		/* cmocka's handlers would continue after a crash */
		for (unsigned int i = 0; i < sizeof(crashes) / sizeof(crashes[0]); i++)
			signal(crashes[i], SIG_DFL);
		if (fault) {
			setrlimit(RLIMIT_CORE, &no_core);
			fuzz_plant(fault);
			freopen("/dev/null", "w", stderr);
		}
		alarm(PATIENCE_S);
		run();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		TEST_SKIP("the monitor does not open here: `invlock doctor` says why");
	return status;
}

static void passes(void (*run)(void))
{
	int status = in_child(run, NULL);

	if (status)
		fail_msg("%s: %s (status %#x)", corpus, now, status);
}

static void finds(const char *fault)
{
	int status = in_child(run_corpus, fault);

	/* a sanitizer may be the one that finds the fault */
	if (!status || (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM))
		fail_msg("the corpus does not find the planted fault %s", fault);
	print_message("# %s: found by %s\n", fault, now);
}

TEST(every_input_of_the_corpus_passes)
{
	passes(run_corpus);
	print_message("# %d inputs\n", nr_inputs);
}

TEST(mutations_of_the_corpus_pass)
{
	passes(run_mutations);
	print_message("# %u mutations\n", nr_mutations);
}

TEST(the_corpus_finds_each_fault_that_the_target_plants)
{
	for (unsigned int i = 0; fuzz_plants[i]; i++)
		finds(fuzz_plants[i]);
}

TEST_PLANTED(no_check, the_corpus_finds_a_library_that_checks_nothing)
{
	finds(PLANTED);
}

TEST_PLANTED(start_only, the_corpus_finds_a_library_that_ignores_running_changes)
{
	finds(PLANTED);
}

TEST_PLANTED(end_only, the_corpus_finds_a_library_that_ignores_changes_until_their_end)
{
	finds(PLANTED);
}

/* A target that plants no fault of its own has the library's. */
static bool can_fail(const char *name)
{
	return fuzz_plants[0] || strcmp(name, "the_corpus_finds_each_fault_that_the_target_plants");
}

int main(int argc, char **argv)
{
	if (argc < 3) {
		fprintf(stderr, "usage: %s CORPUS NR-OF-MUTATIONS\n", argv[0]);
		return 2;
	}
	corpus = argv[1];
	nr_mutations = strtoul(argv[2], NULL, 10);
	/* ThreadSanitizer is slow, and made for more than one thread. */
	if (getenv("INVLOCK_TEST_TIER") && !strcmp(getenv("INVLOCK_TEST_TIER"), "tsan"))
		nr_mutations /= 20;
	return test_run(&(struct test_fixtures){
		.before_all = load_corpus, .after_all = free_corpus, .wanted = can_fail,
	});
}
