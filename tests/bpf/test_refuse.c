// SPDX-License-Identifier: MIT
/* Memory that the BPF monitor cannot watch is refused, with a sentence that names it. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <invlock/cache.h>
#include <invlock/section.h>
#include "lib/monitor/monitor.h"
#include "sorts.h"
#include "tests/test.h"

static char initialised[4 * LARGEST_PAGE] = { 1 };

static struct invlock_mm *mm;
static struct invlock_cache *cache;

static int reg(void *ctx, void *addr, size_t len, uint64_t *ret_handle)
{
	(void)ctx;
	(void)addr;
	(void)len;
	*ret_handle = 1;
	return 0;
}

static void dereg(void *ctx, void *addr, size_t len, uint64_t handle)
{
	(void)ctx;
	(void)addr;
	(void)len;
	(void)handle;
}

/* Return: 0, or 1 = the monitor cannot be opened on this machine */
static int rig_open(void)
{
	struct invlock_mm_options m = { .size = sizeof(m), .monitor = "bpf" };
	struct invlock_cache_options c = { .size = sizeof(c), .ops = { reg, dereg } };
	struct invlock_why why;
	int err = invlock_mm_open(&m, &mm, &why);

	if (err == -EPERM || err == -EOPNOTSUPP) {
		snprintf(test_skip_reason, sizeof(test_skip_reason), "%.190s", why.text);
		return 1;
	}
	if (err)
		return err;
	/*
	 * Where a net is under the decoder, the truncation of a private file is seen, and such a
	 * mapping is cached. These tests are about kernels without it, but for one that says so.
	 */
	mm->seen &= ~INVLOCK_BIT(TRUNCATE_PRIVATE);
	return invlock_cache_open(mm, &c, &cache, NULL);
}

#define RIG_OPEN()							\
do {									\
	int __err = rig_open();						\
									\
	if (__err > 0)							\
		skip();							\
	assert_int_equal(__err, 0);					\
} while (0)

static void rig_close(void)
{
	assert_int_equal(invlock_cache_close(cache), 0);
	invlock_mm_close(mm);
}

static int get(const void *addr, size_t len, unsigned int flags)
{
	struct invlock_pin pin;
	int err = invlock_cache_get(cache, addr, len, flags, &pin);

	return err ? err : invlock_cache_put(&pin);
}

static struct invlock_cache_stats stats(void)
{
	struct invlock_cache_stats s = { .size = sizeof(s) };

	assert_int_equal(invlock_cache_stats(cache, &s), 0);
	return s;
}

static const struct sort {
	const char *what;
	void *(*map)(void *at);
	const char *name;	/* what the sentence calls it; NULL = it is not refused */
	size_t counter;		/* the statistic that counts it */
} sorts[] = {
	{ "anonymous memory", anon },
	{ "shared anonymous memory", shared_anon },
	{ "a private mapping of /dev/zero", dev_zero },
	{ "a memfd", shared_memfd },
	{ "a file", shared_file },
	{ "System V's shared memory", sysv },
	{ "a private mapping of a memfd", private_memfd, "/memfd:refuse",
	  offsetof(struct invlock_cache_stats, refused_private) },
	{ "a private mapping of a file", private_file, "/var/tmp/invlock-",
	  offsetof(struct invlock_cache_stats, refused_private) },
	{ "the program's file", program_text, "refuse",
	  offsetof(struct invlock_cache_stats, refused_private) },
	{ "a TCP socket", tcp_socket, "socket:[",
	  offsetof(struct invlock_cache_stats, refused_foreign) },
	{ "a packet ring", packet_ring, "socket:[",
	  offsetof(struct invlock_cache_stats, refused_foreign) },
	{ "a buffer of perf", perf_buffer, "[perf_event]",
	  offsetof(struct invlock_cache_stats, refused_foreign) },
};

#define NR_SORTS	(sizeof(sorts) / sizeof(sorts[0]))

static uint64_t counter(const struct sort *s)
{
	struct invlock_cache_stats st = stats();

	return *(uint64_t *)((char *)&st + s->counter);
}

/* Both neighbours, [arena, + LEN) and [arena + 2 LEN, + LEN), are anonymous memory. */
static void check_refused(const struct sort *s, char *arena)
{
	char *at = arena + LEN;
	uint64_t before = counter(s), all = stats().refused_memory;
	struct invlock_why why;

	assert_int_equal(get(at, LEN, 0), -EMEDIUMTYPE);
	assert_int_equal(get(at + PAGE, 1, INVLOCK_GET_BYPASS), -EMEDIUMTYPE);
	assert_int_equal(invlock_mm_explain(mm, at, LEN, &why), -EMEDIUMTYPE);
	if (!strstr(why.text, s->name))
		fail_msg("%s: the error does not name it: %s", s->what, why.text);
	/* The neighbours alone are accepted; a range that includes the refused memory is not. */
	assert_int_equal(get(arena, LEN, 0), 0);
	assert_int_equal(get(at + LEN, LEN, 0), 0);
	assert_int_equal(get(arena, 3 * LEN, 0), -EMEDIUMTYPE);
	assert_int_equal(get(at - 1, 2, 0), -EMEDIUMTYPE);
	assert_int_equal(get(at + LEN - 1, 2, 0), -EMEDIUMTYPE);
	assert_int_equal(counter(s), before + 5);
	assert_int_equal(stats().refused_memory, all + 5);
	/* After the refused memory is replaced, the whole range is accepted. */
	assert_ptr_equal(anon(at), at);
	assert_int_equal(get(arena, 3 * LEN, 0), 0);
}

static void check_cached(char *arena)
{
	struct invlock_why why;

	assert_int_equal(invlock_mm_explain(mm, arena + LEN, LEN, &why), 0);
	assert_string_equal(why.text, "");
	assert_int_equal(get(arena + LEN, LEN, 0), 0);
	assert_int_equal(get(arena + LEN, LEN, INVLOCK_GET_CACHED), 0);
	assert_int_equal(get(arena, 3 * LEN, 0), 0);
}

TEST(each_sort_of_memory_is_cached_or_refused)
{
	unsigned int nr_refused = 0;

	RIG_OPEN();
	for (unsigned int i = 0; i < NR_SORTS; i++) {
		char *arena = mmap(NULL, 3 * LEN, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (sorts[i].map(arena + LEN) != arena + LEN) {
			print_message("# %s: not here: %s\n", sorts[i].what, strerror(errno));
		} else if (sorts[i].name) {
			print_message("# %s: to be refused\n", sorts[i].what);
			check_refused(&sorts[i], arena);
			nr_refused++;
		} else {
			print_message("# %s: to be cached\n", sorts[i].what);
			check_cached(arena);
		}
		munmap(arena, 3 * LEN);
	}
	/* Private file mappings and sockets exist on every machine. */
	assert_true(nr_refused >= 4);
	rig_close();
}

TEST(a_private_file_is_cached_where_its_truncation_is_seen)
{
	char *arena;
	u64 seen;

	RIG_OPEN();
	arena = mmap(NULL, 3 * LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_equal(private_memfd(arena + LEN), arena + LEN);
	seen = mm->seen;
	mm->seen |= INVLOCK_BIT(TRUNCATE_PRIVATE);
	check_cached(arena);
	mm->seen = seen;
	munmap(arena, 3 * LEN);
	rig_close();
}

/* The start of a mapping with this name; NULL = there is none. */
static void *find(const char *name)
{
	FILE *f = fopen("/proc/self/maps", "re");
	unsigned long long start = 0;
	bool found = false;
	char line[300];

	assert_non_null(f);
	while (!found && fgets(line, sizeof(line), f))
		found = strstr(line, name) && sscanf(line, "%llx", &start) == 1;
	fclose(f);
	return found ? (void *)start : NULL;
}

/* An io_uring's ring, which the kernel places where it wants. */
static void *uring_ring(void)
{
	struct io_uring_params params = {};
	int fd = syscall(SYS_io_uring_setup, 4, &params);
	void *p = fd < 0 ? MAP_FAILED : mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
					     IORING_OFF_SQES);

	if (fd >= 0)
		close(fd);
	return p;
}

static void check_kernels(void *p, const char *name)
{
	struct invlock_why why;

	if (!p || p == MAP_FAILED) {
		print_message("# this process has no mapping %s\n", name);
		return;
	}
	assert_int_equal(get(p, PAGE, 0), -EMEDIUMTYPE);
	assert_int_equal(invlock_mm_explain(mm, p, PAGE, &why), -EMEDIUMTYPE);
	if (!strstr(why.text, name))
		fail_msg("the error does not name %s: %s", name, why.text);
}

TEST(mappings_that_the_kernel_places_itself_are_refused)
{
	struct invlock_mm_info info = { .size = sizeof(info) };
	void *ring = uring_ring();

	RIG_OPEN();
	check_kernels(find("[vvar]"), "[vvar]");
	check_kernels(find("[vdso]"), "[vdso]");
	check_kernels(ring, "[io_uring]");
	/* the feed is itself a mapping of a BPF map */
	assert_int_equal(invlock_mm_info(mm, &info), 0);
	check_kernels((void *)info.feed, "bpf-map");
	if (ring != MAP_FAILED)
		munmap(ring, PAGE);
	rig_close();
}

TEST(static_variables_stack_and_heap_are_told_apart)
{
	char on_stack[16];
	void *heap = malloc(10 * PAGE);

	RIG_OPEN();
	assert_int_equal(get(on_stack, sizeof(on_stack), 0), 0);
	assert_int_equal(get(heap, 10 * PAGE, 0), 0);
	/* A static variable lies in a private mapping of the program's file. */
	assert_int_equal(get(initialised + PAGE, PAGE, 0), -EMEDIUMTYPE);
	free(heap);
	rig_close();
}

TEST(huge_pages_are_anonymous_memory_and_a_memfd_of_them_is_a_file)
{
	const size_t huge = 2ul << 20;
	struct invlock_why why;
	char *p, *q;
	int fd;

	RIG_OPEN();
	p = mmap(NULL, huge, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE, -1, 0);
	fd = memfd_create("anon_hugepage", MFD_HUGETLB);
	q = fd < 0 || ftruncate(fd, huge) ? MAP_FAILED :
	    mmap(NULL, huge, PROT_READ, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
	if (p == MAP_FAILED || q == MAP_FAILED) {
		rig_close();
		TEST_SKIP("no mapping of huge pages: %s", strerror(errno));
	}
	assert_int_equal(get(p + PAGE, PAGE, 0), 0);
	assert_int_equal(get(q + PAGE, PAGE, 0), -EMEDIUMTYPE);
	assert_int_equal(invlock_mm_explain(mm, q, 1, &why), -EMEDIUMTYPE);
	assert_non_null(strstr(why.text, "memfd:anon_hugepage"));
	munmap(q, huge);
	q = mmap(NULL, huge, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, 0);
	assert_ptr_not_equal(q, MAP_FAILED);
	assert_int_equal(get(q + PAGE, PAGE, 0), 0);
	munmap(p, huge);
	munmap(q, huge);
	close(fd);
	rig_close();
}

/* A file on the file system that the guest of tests/vm mounts at /dax; -1 = there is none. */
static int dax_file(void)
{
	int fd = open("/dax/refuse", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct statx st = {};

	if (fd >= 0 && !ftruncate(fd, LEN) && !statx(fd, "", AT_EMPTY_PATH, 0, &st) &&
	    st.stx_attributes & STATX_ATTR_DAX)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

TEST(a_file_that_is_mapped_with_dax_is_refused)
{
	struct invlock_why why;
	void *shared, *private;
	int fd = dax_file();

	if (fd < 0)
		TEST_SKIP("no file system with DAX is mounted at /dax");
	RIG_OPEN();
	shared = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	private = mmap(NULL, LEN, PROT_READ, MAP_PRIVATE, fd, 0);
	assert_ptr_not_equal(shared, MAP_FAILED);
	assert_ptr_not_equal(private, MAP_FAILED);
	assert_int_equal(get(shared, LEN, 0), -EMEDIUMTYPE);
	assert_int_equal(get(private, LEN, 0), -EMEDIUMTYPE);
	assert_int_equal(stats().refused_dax, 2);
	assert_int_equal(invlock_mm_explain(mm, shared, LEN, &why), -EMEDIUMTYPE);
	assert_non_null(strstr(why.text, "/dax/refuse"));
	munmap(shared, LEN);
	munmap(private, LEN);
	close(fd);
	rig_close();
}

TEST(a_hole_and_the_null_address_are_refused)
{
	struct invlock_read rd;
	struct invlock_why why;
	char *p = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	RIG_OPEN();
	munmap(p + PAGE, PAGE);
	assert_int_equal(get(p, 2 * PAGE, 0), -EFAULT);
	assert_int_equal(get(p, 3 * PAGE, 0), -EFAULT);
	assert_int_equal(get(p + PAGE, 1, 0), -EFAULT);
	assert_int_equal(get(p, PAGE, 0), 0);
	assert_int_equal(invlock_mm_explain(mm, p, 2 * PAGE, &why), -EFAULT);
	assert_non_null(strstr(why.text, "nothing is mapped"));
	assert_int_equal(get(NULL, PAGE, 0), -EINVAL);
	assert_int_equal(get(NULL, 10 * PAGE, 0), -EINVAL);
	assert_int_equal(get((void *)(PAGE - 1), 2, 0), -EINVAL);
	assert_int_equal(invlock_mm_explain(mm, NULL, PAGE, NULL), -EINVAL);
	assert_int_equal(invlock_mm_explain(mm, p, 0, &why), -EINVAL);
	assert_int_equal(invlock_mm_explain(NULL, p, 1, &why), -EINVAL);
	invlock_read_init(&rd, mm, NULL, PAGE, NULL, 0);
	assert_false(invlock_read_attempt(&rd));
	assert_int_equal(invlock_read_error(&rd), -EINVAL);
	munmap(p, PAGE);
	munmap(p + 2 * PAGE, PAGE);
	rig_close();
}

TEST(a_section_is_refused_as_a_get_is)
{
	char *p = mmap(NULL, LEN, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct invlock_read rd;

	RIG_OPEN();
	assert_ptr_equal(private_memfd(p), p);
	invlock_read_init(&rd, mm, p, LEN, NULL, 0);
	assert_false(invlock_read_attempt(&rd));
	assert_int_equal(invlock_read_error(&rd), -EMEDIUMTYPE);
	invlock_read_end(&rd);
	/* A section that asks not to be watched is allowed; it ends when the map changes. */
	invlock_read_init(&rd, mm, p, LEN, NULL, INVLOCK_READ_UNWATCHED);
	assert_true(invlock_read_attempt(&rd));
	assert_true(invlock_read_commit(&rd));
	assert_true(invlock_read_valid(&rd));
	anon(p);
	assert_false(invlock_read_valid(&rd));
	invlock_read_end(&rd);
	munmap(p, LEN);
	rig_close();
}

TEST(a_range_of_many_mappings_is_checked_to_its_end)
{
	const unsigned int nr = 100;
	char *p = mmap(NULL, nr * LEN, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	RIG_OPEN();
	/* Neighbours differ in protection, so that the kernel does not merge them. */
	for (unsigned int i = 0; i < nr; i += 2)
		assert_int_equal(mprotect(p + i * LEN, LEN, PROT_READ | PROT_WRITE), 0);
	assert_int_equal(get(p, nr * LEN, 0), 0);
	assert_ptr_equal(private_memfd(p + (nr - 1) * LEN), p + (nr - 1) * LEN);
	assert_int_equal(get(p, nr * LEN, 0), -EMEDIUMTYPE);
	assert_int_equal(get(p, (nr - 1) * LEN, 0), 0);
	munmap(p, nr * LEN);
	rig_close();
}

static bool stop;

static void *map_and_unmap(void *unused)
{
	while (!port_load(&stop))
		munmap(mmap(NULL, LEN, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1,
			    0), LEN);
	return unused;
}

TEST(a_check_waits_for_threads_that_map)
{
	char *p = mmap(NULL, LEN, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned int nr_failed = 0, nr_busy = 0;
	pthread_t threads[3];
	int err;

	RIG_OPEN();
	stop = false;
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, map_and_unmap, NULL), 0);
	for (unsigned int i = 0; i < 2000; i++) {
		err = get(p, LEN, INVLOCK_GET_BYPASS);
		nr_busy += err == -EBUSY;
		nr_failed += err && err != -EBUSY;
	}
	port_store(&stop, true);
	for (unsigned int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(nr_failed, 0);
	/* It waits for a fifth of a second, which a busy machine may take away. */
	assert_in_range(nr_busy, 0, 20);
	munmap(p, LEN);
	rig_close();
}

/* In a child. Return: 0, 77 if the monitor cannot be opened, or the line that failed. */
static int without_descriptors(void)
{
	char *p = mmap(NULL, 3 * LEN, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct invlock_why why;

	if (shared_memfd(p + LEN) != p + LEN || private_memfd(p + 2 * LEN) != p + 2 * LEN)
		return __LINE__;
	if (rig_open())
		return 77;
	syscall(SYS_close_range, 3, ~0U, 0);
	if (get(p, LEN, 0) || get(p, LEN, INVLOCK_GET_CACHED))
		return __LINE__;
	/* without descriptors the library cannot find out which file mappings may be cached */
	if (get(p + LEN, LEN, 0) != -EMEDIUMTYPE || get(p + 2 * LEN, LEN, 0) != -EMEDIUMTYPE)
		return __LINE__;
	if (invlock_mm_explain(mm, p + LEN, LEN, &why) != -EMEDIUMTYPE ||
	    !strstr(why.text, "descriptors"))
		return __LINE__;
	munmap(p + LEN, LEN);
	return get(p + LEN, LEN, 0) == -EFAULT ? 0 : __LINE__;
}

TEST(after_closing_all_descriptors_a_program_still_caches_anonymous_memory)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid) {
		int line = without_descriptors();

		if (line && line != 77)
			dprintf(2, "# line %d\n", line);
		_exit(line && line != 77 ? 1 : line);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		TEST_SKIP("the BPF monitor cannot be opened here");
	assert_int_equal(status, 0);
}

/*
 * ---- TCP_ZEROCOPY_RECEIVE puts other pages into a mapping without a call that changes maps ----
 */

struct stream {
	int from, to, pipe[2];
};

static void stream_open(struct stream *s)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	socklen_t len = sizeof(a);

	s->from = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(listener, (void *)&a, len), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (void *)&a, &len), 0);
	assert_int_equal(connect(s->from, (void *)&a, len), 0);
	s->to = accept(listener, NULL, NULL);
	assert_true(s->to >= 0);
	close(listener);
	assert_int_equal(pipe(s->pipe), 0);
}

static void stream_close(struct stream *s)
{
	close(s->from);
	close(s->to);
	close(s->pipe[0]);
	close(s->pipe[1]);
}

/* Sends whole pages filled with the byte, which the receiver may map. */
static void stream_send(struct stream *s, char byte)
{
	static char pages[2 * LARGEST_PAGE];
	size_t sent = 0;

	memset(pages, byte, LEN);
	for (unsigned int i = 0; i < LEN / PAGE; i++)
		assert_int_equal(write(s->pipe[1], pages, PAGE), PAGE);
	while (sent < LEN) {
		ssize_t n = splice(s->pipe[0], NULL, s->from, NULL, LEN - sent, 0);

		assert_true(n > 0);
		sent += n;
	}
}

/* Return: how many of the sent bytes are now mapped at p */
static size_t stream_map(struct stream *s, char *p)
{
	struct {
		uint64_t address;
		uint32_t length, skip, queued;
		int32_t err;
		uint64_t more[3];
	} z = { .address = (uintptr_t)p, .length = LEN };
	socklen_t len = sizeof(z);
	static char rest[2 * LARGEST_PAGE];
	char c;

	/* wait until all of it has arrived */
	while (recv(s->to, rest, LEN, MSG_PEEK | MSG_WAITALL) != LEN)
		;
	if (getsockopt(s->to, IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE, &z, &len))
		return 0;
	for (size_t n = LEN - z.length; n; n--)
		assert_int_equal(recv(s->to, &c, 1, 0), 1);
	return z.length;
}

TEST(tcp_zerocopy_receive_leaves_no_stale_registration)
{
	struct stream s;
	size_t first, second;
	bool cached;
	char *p;

	RIG_OPEN();
	stream_open(&s);
	p = mmap(NULL, LEN, PROT_READ, MAP_SHARED, s.to, 0);
	assert_ptr_not_equal(p, MAP_FAILED);
	stream_send(&s, 'A');
	first = stream_map(&s, p);
	cached = !get(p, LEN, 0);
	stream_send(&s, 'B');
	second = stream_map(&s, p);
	/* Either the second get was refused, or the change was seen. */
	assert_false(cached && second && !get(p, LEN, INVLOCK_GET_CACHED));
	munmap(p, LEN);
	stream_close(&s);
	rig_close();
	if (!first || !second)
		TEST_SKIP("the kernel copied the bytes instead of mapping them");
}

TEST_MAIN()
