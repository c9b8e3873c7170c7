// SPDX-License-Identifier: MIT
/*
 * Options and results as structs that may grow: they have any content and the length that they
 * claim, and end at a guard page. Whatever they contain, the library reads and writes nothing
 * behind their end, and returns an error with a sentence, or an object that works.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <invlock/cache.h>
#include <invlock/section.h>

#include "fuzz.h"
#include "lib/options.h"

#define MAX_BYTES	4096u

static unsigned char *guard;	/* the page behind the struct */
static struct invlock_mm *mm;
static int overread;		/* planted: the struct is shorter than it claims */

const char *const fuzz_plants[] = { "size", NULL };

void fuzz_plant(const char *name)
{
	overread = !strcmp(name, "size");
}

/* The rest of the input as a struct that begins with its size; NULL = too short for a size. */
static void *struct_of(struct bytes *b)
{
	size_t size = (b->end - b->at) & -sizeof(size_t), said;
	unsigned char *at;

	if (size < sizeof(size) || size > MAX_BYTES)
		return NULL;
	at = guard - size;
	memcpy(at, b->at, size);
	/*
	 * A struct that is shorter than it claims would be the caller's fault: claim no more than
	 * there is.
	 */
	memcpy(&said, at, sizeof(said));
	if (said > size)
		said = size;
	memcpy(at, &said, sizeof(said));
	return overread ? at + sizeof(said) : at;
}

static int reg(void *ctx, void *addr, size_t len, uint64_t *ret_handle)
{
	(void)ctx;
	(void)addr;
	*ret_handle = len;
	return 0;
}

static void dereg(void *ctx, void *addr, size_t len, uint64_t handle)
{
	(void)ctx;
	(void)addr;
	FUZZ_CHECK(handle == len, "another length");
}

/* Sets a field if it lies inside the caller's struct. */
#define SET(options, size, field, value)				\
do {									\
	if (size >= offsetof(__typeof__(*(options)), field) + sizeof((options)->field)) \
		(options)->field = value;				\
} while (0)

static void check_error(int err, const struct invlock_why *why)
{
	FUZZ_CHECK((err == -EINVAL || err == -E2BIG || err == -ENOMEM || err == -EOPNOTSUPP) &&
		   why->text[0] && memchr(why->text, 0, sizeof(why->text)), "%d %.100s", err,
		   why->text);
}

static void open_mm(struct bytes *b)
{
	static const char *const names[] = {
		"manual", "", "manual ", "Manual", "kmod,manual",
		"a name that is much longer than a sentence would like to have in it, and goes on",
	};
	const char *name = names[byte(b) % 6];
	struct invlock_mm_options *o = struct_of(b);
	struct invlock_mm *got = NULL;
	struct invlock_why why;
	int err;

	if (!o)
		return;
	/* A pointer must be valid. NULL would try every monitor, some of which are slow. */
	SET(o, o->size, monitor, name);
	err = invlock_mm_open(o, &got, &why);
	if (err) {
		FUZZ_CHECK(!got, "an error, and an mm all the same");
		check_error(err, &why);
		return;
	}
	FUZZ_CHECK(got == mm && !why.text[0] && !strcmp(name, "manual"), "%s opens", name);
	invlock_mm_close(got);
}

static void open_cache(struct bytes *b)
{
	uint8_t which = byte(b);
	struct invlock_cache_options *o = struct_of(b);
	struct invlock_cache *cache = NULL;
	struct invlock_pin pin;
	struct invlock_why why;
	int err;

	if (!o)
		return;
	SET(o, o->size, ops.reg, which & 1 ? NULL : reg);
	SET(o, o->size, ops.dereg, which & 2 ? NULL : dereg);
	err = invlock_cache_open(mm, o, &cache, &why);
	if (err) {
		FUZZ_CHECK(!cache, "an error, and a cache all the same");
		check_error(err, &why);
		return;
	}
	FUZZ_CHECK(!(which & 3) && !why.text[0], "it opens");
	err = invlock_cache_get(cache, (void *)(1UL << 32), 1, 0, &pin);
	if (err)
		FUZZ_CHECK(err == -ENOSPC && o->max_bytes, "get: %d", err);
	else
		FUZZ_CHECK(!invlock_cache_put(&pin), "put");
	FUZZ_CHECK(!invlock_cache_close(cache), "close");
}

static void ask(struct bytes *b)
{
	uint8_t which = byte(b);
	size_t *out = struct_of(b), size;
	int err;

	if (!out)
		return;
	size = *out;
	err = which & 1 ? invlock_mm_info(mm, (struct invlock_mm_info *)out) :
	      options_out(out, 24, guard - MAX_BYTES, 64);
	FUZZ_CHECK(err == 0 || err == -EINVAL, "%d", err);
	FUZZ_CHECK(*out == size, "the call has overwritten the size");
}

static void set_up(void)
{
	struct invlock_mm_options o = { .size = sizeof(o), .monitor = "manual" };

	if (getenv("INVLOCK_FUZZ_PLANT"))
		fuzz_plant(getenv("INVLOCK_FUZZ_PLANT"));
	guard = mmap(NULL, 2 * MAX_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		     0);
	if (guard == MAP_FAILED || mprotect(guard + MAX_BYTES, MAX_BYTES, PROT_NONE) ||
	    invlock_mm_open(&o, &mm, NULL))
		abort();
	guard += MAX_BYTES;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const calls[])(struct bytes *) = { open_mm, open_cache, open_cache, ask };
	struct bytes b = { data, data + size };

	if (!mm)
		set_up();
	calls[byte(&b) % 4](&b);
	return 0;
}
