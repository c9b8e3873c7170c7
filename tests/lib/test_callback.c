// SPDX-License-Identifier: MIT
/* Callbacks that do not return, and options that this version does not know. */
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "tests/test.h"
#include "tests/lib/rig.h"


static struct fake_device fake;
/* nobody accesses these addresses: the fake device registers without looking */
static char *const mem = (char *)0x100000000;

/* Ends its thread, which unwinds the stack as an exception does. */
static void leave(struct fake_device *t, void *addr, size_t len)
{
	(void)t, (void)addr, (void)len;
	pthread_exit(NULL);
}

static void *register_and_drop(void *arg)
{
	struct invlock_pin pin;

	(void)arg;
	if (!invlock_cache_get(fake.cache, mem, PAGE, 0, &pin)) {
		invlock_cache_put(&pin);
		invlock_cache_drop(fake.cache, mem, PAGE);
	}
	return NULL;
}

/* Runs in a child. Return: the signal that ended it; ret_said has its output */
static int run_in_child(bool in_reg, char *ret_said, size_t size)
{
	int said[2], status;
	pthread_t thread;
	ssize_t len;
	pid_t pid;

	assert_int_equal(pipe(said), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		signal(SIGABRT, SIG_DFL);
		dup2(said[1], STDERR_FILENO);
		fake_open(&fake, NULL);
		fake.during_reg = in_reg ? leave : NULL;
		fake.during_dereg = in_reg ? NULL : leave;
		pthread_create(&thread, NULL, register_and_drop, NULL);
		pthread_join(thread, NULL);
		_exit(0);
	}
	close(said[1]);
	len = read(said[0], ret_said, size - 1);
	ret_said[len < 0 ? 0 : len] = '\0';
	close(said[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

TEST(a_callback_that_ends_its_thread_ends_the_process_with_a_sentence)
{
	char said[200];

	if (IS_SANITIZED)
		TEST_SKIP("a sanitizer has its own handler of SIGABRT");
	assert_int_equal(run_in_child(true, said, sizeof(said)), SIGABRT);
	assert_non_null(strstr(said, "reg() did not return"));
	assert_int_equal(run_in_child(false, said, sizeof(said)), SIGABRT);
	assert_non_null(strstr(said, "dereg() did not return"));
}

static int closed;

static void close_it(struct fake_device *t, void *addr, size_t len)
{
	(void)addr, (void)len;
	closed = invlock_cache_close(t->cache);
}

TEST(a_cache_that_one_of_its_callbacks_closes_goes_on)
{
	struct invlock_pin pin;

	fake_open(&fake, NULL);
	fake.during_reg = close_it;
	assert_int_equal(invlock_cache_get(fake.cache, mem, PAGE, 0, &pin), 0);
	assert_int_equal(closed, -EDEADLK);
	invlock_cache_put(&pin);
	fake.during_dereg = close_it;
	closed = 0;
	assert_int_equal(invlock_cache_drop(fake.cache, mem, PAGE), 1);
	assert_int_equal(closed, -EDEADLK);
	fake.during_reg = fake.during_dereg = NULL;
	fake_close(&fake);
}

TEST(an_unknown_option_of_a_later_version_is_an_error_that_gives_its_place)
{
	struct {
		struct invlock_cache_options known;
		uint64_t later[2];
	} o = { .known = { .size = sizeof(o), .ops = { fake_reg, fake_dereg }, .ctx = &fake } };
	struct invlock_cache *cache;
	char place[40], text[300];
	struct invlock_why why;

	fake_open(&fake, NULL);
	o.known.flags = INVLOCK_CACHE_NO_REAPER;
	assert_int_equal(invlock_cache_open(fake.mm, &o.known, &cache, &why), 0);
	assert_int_equal(invlock_cache_close(cache), 0);
	o.later[1] = ~0ULL;	/* wherever its first byte is */
	assert_int_equal(invlock_cache_open(fake.mm, &o.known, &cache, &why), -E2BIG);
	snprintf(place, sizeof(place), "byte %zu", offsetof(__typeof__(o), later[1]));
	snprintf(text, sizeof(text), "%.299s", why.text);
	assert_non_null(strstr(text, place));
	assert_non_null(strstr(text, "struct invlock_cache_options"));
	o.known.size = 8;
	assert_int_equal(invlock_cache_open(fake.mm, &o.known, &cache, &why), -EINVAL);
	assert_non_null(strstr(why.text, "sizeof(struct invlock_cache_options)"));
	fake_close(&fake);
}

TEST_MAIN()
