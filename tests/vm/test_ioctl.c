// SPDX-License-Identifier: MIT
/*
 * A fuzzer. Several threads make bad requests of all devices, while another thread maps and unmaps
 * the memory that the requests name. Some requests are noise; most are correct except for one or
 * two fields.
 *
 * Three things must hold: every answer is one that the manual names for the request; the header of
 * the feed does not change; in the end no invalidation is running, and the devices still work.
 */
#include "feed.h"

#include <poll.h>
#include <pthread.h>
#include <sys/random.h>

#define SECONDS		4
#define PATIENCE	600	/* seconds until it counts as too few requests */
#define THREADS		3
#define ARENA		(4 * MIB)

#define BIT(err)	(1ULL << (err))

static struct {
	char *arena;		/* requests may write to this memory only */
	struct feed feed;
	int mirror, interval;
	uint64_t seed;
	bool stop;
	unsigned long good, refused, wrong;	/* atomic */
	char first_wrong[200];			/* written once */
} fuzz;

static uint64_t next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state * 0x2545f4914f6cdd1dULL >> 8;
}

static bool one_in(uint64_t *state, unsigned int n)
{
	return next(state) % n == 0;
}

/* Return: an address in the arena or, less often, a wild one. Never memory that the test needs. */
static uint64_t some_address(uint64_t *s)
{
	static const uint64_t wild[] = {
		0, 1, 0xfff, 0x7fffffffefffULL, 0x7ffffffff000ULL, 0x7fffffffffffULL,
		0x800000000000ULL, 0xdeadbeefdeadbeefULL, 0xffff800000000000ULL,
		0xffff888000000000ULL, 0xffffffff81000000ULL, -4096ULL, ~0ULL,
	};

	if (one_in(s, 6))
		return wild[next(s) % (sizeof(wild) / sizeof(wild[0]))];
	if (one_in(s, 3))
		return (unsigned long)fuzz.arena + next(s) % ARENA;
	return (unsigned long)fuzz.arena + next(s) % (ARENA / PAGE) * PAGE;
}

static uint64_t some_length(uint64_t *s)
{
	static const uint64_t odd[] = {
		0, 7, 9, 4095, 4097, INVLOCK_MIRROR_MAX_LEN, INVLOCK_MIRROR_MAX_LEN + 1,
		1ULL << 32, 1ULL << 47, 1ULL << 63, ~0ULL, -4096ULL,
	};

	switch (next(s) % 4) {
	case 0:
		return odd[next(s) % (sizeof(odd) / sizeof(odd[0]))];
	case 1:
		return 8;
	case 2:
		return (1 + next(s) % 16) * PAGE;
	default:
		return 1 + next(s) % (3 * PAGE);
	}
}

/* Return: usually @size. */
static uint32_t some_size(uint64_t *s, uint32_t size)
{
	return one_in(s, 20) ? next(s) : one_in(s, 20) ? size - 8 : size;
}

static uint64_t some_reserved(uint64_t *s)
{
	return one_in(s, 20) ? 1ULL << next(s) % 64 : 0;
}

/*
 * Fill @room with an argument for the request. Return: @room, or now and then a bad pointer. The
 * device can write to the arena only, because no other address is in the argument.
 */
static void *make_argument(uint64_t *s, unsigned long request, void *room)
{
	if (one_in(s, 30))
		return (void *)(one_in(s, 2) ? 0xffff888000000000ULL : next(s) % PAGE);
	switch (request) {
	case INVLOCK_MIRROR_ACCESS:
		*(struct invlock_mirror_access *)room = (struct invlock_mirror_access){
			.size = some_size(s, sizeof(struct invlock_mirror_access)),
			.op = one_in(s, 20) ? next(s) : next(s) % 3,
			.addr = some_address(s),
			.len = some_length(s),
			.buffer = some_address(s),
			.rounds = next(s) % 4,
			.flags = one_in(s, 4) ? next(s) % 4 : 0,
			.time_ns = next(s) % 1000000,
			.reserved = some_reserved(s),
		};
		break;
	case INVLOCK_MIRROR_PIN:
	case INVLOCK_MIRROR_RANGE:
		*(struct invlock_mirror_pin *)room = (struct invlock_mirror_pin){
			.size = some_size(s, sizeof(struct invlock_mirror_pin)),
			.reserved = some_reserved(s),
			.addr = some_address(s) & (one_in(s, 8) ? ~0ULL : ~(PAGE - 1)),
			.len = some_length(s) & (one_in(s, 8) ? ~0ULL : ~(PAGE - 1)),
		};
		break;
	case INVLOCK_FEED_SEE:
		*(struct invlock_feed_see *)room = (struct invlock_feed_see){
			.size = some_size(s, sizeof(struct invlock_feed_see)),
			.reserved = some_reserved(s),
			.kinds = one_in(s, 4) ? next(s) : next(s) % (1ULL << INVLOCK_NR_KINDS),
			.feed_size = some_reserved(s),
		};
		break;
	default:
		memset(room, 0, 256);
		*(uint32_t *)room = some_size(s, sizeof(struct invlock_mirror_stats));
	}
	return room;
}

/*
 * Every request, and for each device the errors that the manual allows. Success is always allowed.
 * The last entry stands for any unknown request.
 */
static const struct {
	unsigned long request;
	uint64_t feed, mirror, interval;
} requests[] = {
	{ INVLOCK_MIRROR_ACCESS, BIT(ENOTTY),
	  BIT(EINVAL) | BIT(EFAULT) | BIT(EPERM) | BIT(EBUSY) | BIT(ENOMEM),
	  BIT(EINVAL) | BIT(EFAULT) | BIT(EPERM) | BIT(EBUSY) | BIT(ENOMEM) },
	{ INVLOCK_MIRROR_PIN, BIT(ENOTTY), BIT(EINVAL) | BIT(EFAULT) | BIT(ENOMEM), BIT(ENOTTY) },
	{ INVLOCK_MIRROR_RANGE, BIT(ENOTTY), BIT(ENOTTY),
	  BIT(EINVAL) | BIT(EFAULT) | BIT(ENOMEM) },
	{ INVLOCK_MIRROR_STATS, BIT(ENOTTY), BIT(EINVAL) | BIT(EFAULT),
	  BIT(EINVAL) | BIT(EFAULT) },
	{ INVLOCK_FEED_SEE, BIT(EINVAL) | BIT(EFAULT), BIT(ENOTTY), BIT(ENOTTY) },
	{ 0, BIT(ENOTTY), BIT(ENOTTY), BIT(ENOTTY) },
};

#define NR_REQUESTS	(sizeof(requests) / sizeof(requests[0]))

static void judge(const char *device, unsigned long request, long ret, uint64_t allowed)
{
	int err = ret < 0 ? errno : 0;

	if (!err)
		__atomic_fetch_add(&fuzz.good, 1, __ATOMIC_RELAXED);
	else if (err < 64 && allowed >> err & 1)
		__atomic_fetch_add(&fuzz.refused, 1, __ATOMIC_RELAXED);
	else if (!__atomic_fetch_add(&fuzz.wrong, 1, __ATOMIC_RELAXED))
		snprintf(fuzz.first_wrong, sizeof(fuzz.first_wrong),
			 "%s: request %#lx is answered with errno %d", device, request, err);
}

static void one_ioctl(uint64_t *s, void *room)
{
	unsigned int nr = next(s) % NR_REQUESTS;
	/* 0 stands for an unknown request */
	unsigned long request = requests[nr].request ?: one_in(s, 2) ? _IO('v', 0x44) :
							_IOWR('v', 0x42, char[16]);
	void *arg = make_argument(s, request, room);

	switch (next(s) % 5) {
	case 0:
		judge("feed", request, ioctl(fuzz.feed.fd, request, arg), requests[nr].feed);
		break;
	case 1:
	case 2:
		judge("interval", request, ioctl(fuzz.interval, request, arg),
		      requests[nr].interval);
		break;
	default:
		judge("mirror", request, ioctl(fuzz.mirror, request, arg), requests[nr].mirror);
	}
}

static void one_call_on_the_feed(uint64_t *s)
{
	struct pollfd pfd = { .fd = fuzz.feed.fd, .events = next(s) };
	uint64_t address = some_address(s);
	size_t len = (1 + next(s) % 1024) * PAGE;
	void *p;

	switch (next(s) % 3) {
	case 0:
		len = one_in(s, 2) ? 8 : next(s) % 32;
		judge("feed", 1, read(fuzz.feed.fd, (void *)address, len),
		      BIT(EINVAL) | BIT(EFAULT));
		break;
	case 1:
		judge("feed", 2, poll(&pfd, 1, 0), 0);
		break;
	default:
		p = mmap(NULL, len, next(s) % 8, one_in(s, 2) ? MAP_SHARED : MAP_PRIVATE,
			 fuzz.feed.fd, one_in(s, 2) ? 0 : next(s) % 2048 * PAGE);
		judge("feed", 3, p == MAP_FAILED ? -1 : 0, BIT(EINVAL) | BIT(EACCES));
		if (p != MAP_FAILED)
			munmap(p, len);
	}
}

static void *make_requests(void *arg)
{
	uint64_t state = fuzz.seed + (uintptr_t)arg * 0x9e3779b97f4a7c15ULL;
	/* not in the arena, where other threads would change the argument */
	char room[256];

	while (!port_load(&fuzz.stop)) {
		if (one_in(&state, 8))
			one_call_on_the_feed(&state);
		else
			one_ioctl(&state, room);
	}
	return NULL;
}

/* Map and unmap pages of the arena, and change their permissions. */
static void *change_memory(void *arg)
{
	uint64_t s = fuzz.seed ^ 0x5555;

	while (!port_load(&fuzz.stop)) {
		char *p = fuzz.arena + next(&s) % (ARENA / PAGE) * PAGE;
		size_t len = (1 + next(&s) % 8) * PAGE;

		if (p + len > fuzz.arena + ARENA)
			continue;
		switch (next(&s) % 4) {
		case 0:
			/* leave no hole: the kernel could map what the test needs there */
			mmap(p, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
			break;
		case 1:
			mprotect(p, len, one_in(&s, 2) ? PROT_READ : PROT_NONE);
			break;
		case 2:
			madvise(p, len, MADV_DONTNEED);
			break;
		default:
			/* map more than the other cases take away: most pages stay mapped */
			if (p + 16 * PAGE <= fuzz.arena + ARENA)
				len = 16 * PAGE;
			mmap(p, len, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		}
	}
	return arg;
}

static void check_that_all_still_work(const struct invlock_feed *as_it_was)
{
	struct invlock_feed *feed = fuzz.feed.il.feed;
	struct invlock_mirror_stats stats = mirror_stats(fuzz.mirror);
	char *p = map_anon(PAGE), byte = 0;
	uint64_t before;

	/* the fields before sequence are constant */
	assert_memory_equal(feed, as_it_was, offsetof(struct invlock_feed, sequence));
	assert_int_equal(feed->flags, 0);
	assert_int_equal(feed->lost, 0);
	assert_int_equal(stats.running, 0);
	assert_true(feed_is_quiet(&fuzz.feed));

	p[0] = 7;
	assert_int_equal(mirror_read(fuzz.mirror, p, &byte, 1), 0);
	assert_int_equal(byte, 7);
	before = feed_sequence(&fuzz.feed);
	munmap(p, PAGE);
	assert_non_null(feed_find(&fuzz.feed, before, p, PAGE, INVLOCK_KIND_UNMAP));
}

/* Were there enough requests that succeeded, and enough that were refused? */
static bool has_enough(void)
{
	return port_load(&fuzz.good) > 100 && port_load(&fuzz.refused) > 100;
}

TEST(every_request_gets_an_answer_that_the_manual_names)
{
	struct invlock_feed as_it_was;
	pthread_t threads[THREADS + 1];

	/* behind the arena lies a page without access, which stops requests that are too long */
	fuzz.arena = map_aligned(ARENA + PAGE);
	assert_int_equal(mprotect(fuzz.arena + ARENA, PAGE, PROT_NONE), 0);
	fuzz.mirror = mirror_open();
	fuzz.interval = open("/dev/invlock_interval", O_RDWR | O_CLOEXEC);
	assert_true(fuzz.interval >= 0);
	feed_open(&fuzz.feed, 0);
	as_it_was = *fuzz.feed.il.feed;
	assert_int_equal(getrandom(&fuzz.seed, sizeof(fuzz.seed), 0), sizeof(fuzz.seed));
	fuzz.seed |= 1;

	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, make_requests, (void *)i), 0);
	assert_int_equal(pthread_create(&threads[THREADS], NULL, change_memory, NULL), 0);
	/* a slow machine needs longer for enough of both */
	for (unsigned int n = 0; n < SECONDS || (n < PATIENCE && !has_enough()); n++)
		sleep_ms(1000);
	port_store(&fuzz.stop, true);
	for (unsigned int i = 0; i <= THREADS; i++)
		pthread_join(threads[i], NULL);

	print_message("# seed %#llx: %lu requests succeeded, %lu were refused, %lu got a wrong "
		      "answer %s\n",
		      (unsigned long long)fuzz.seed, fuzz.good, fuzz.refused, fuzz.wrong,
		      fuzz.first_wrong);
	assert_int_equal(fuzz.wrong, 0);
	assert_true(has_enough());
	check_that_all_still_work(&as_it_was);
	close(fuzz.mirror);
	close(fuzz.interval);
	feed_close(&fuzz.feed);
}

TEST_MAIN()
