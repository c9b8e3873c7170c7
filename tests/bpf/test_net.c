// SPDX-License-Identifier: MIT
/*
 * The net under the decoder (bpf/net.h): a removal that no call announces is caught, one that is
 * known is marked in its own range, and what removes nothing is ignored. tests/vm runs this in a
 * guest, whose kernel allows programs at functions. Elsewhere there is no net.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <linux/falloc.h>
#include <linux/userfaultfd.h>
#include "lib/monitor/bpf/progset.h"
#include "lib/selftest/map_change.h"
#include "tool/changes/changes.h"
#include "nothing.h"
#include "rig.h"
#include "tests/huge.h"

#ifndef MADV_COLD
#define MADV_COLD	20
#define MADV_PAGEOUT	21
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY	1
#endif

static struct invlock_mm mm;

/* Opens a monitor that has a net, or skips the test. */
static void open_net(void)
{
	struct bpf_set_header head;

	monitor_open(&mm);
	monitor_bpf_set(&mm, &head);
	if (!head.net) {
		monitor_close(&mm);
		TEST_SKIP("the monitor has no net here: %.150s", head.no_net);
	}
}

static u64 nr_caught(void)
{
	return monitor_state(&mm).nr_caught;
}

static void close_net(u64 caught)
{
	assert_int_equal(nr_caught(), caught);
	assert_true(feed_quiet(&mm));
	expect_open(&mm);
	rig_expects_caught = true;
	monitor_close(&mm);
	rig_expects_caught = false;
}

static u64 caught_by(u64 who)
{
	struct bpf_state state = monitor_state(&mm);

	for (int i = 0; i < BPF_NR_CAUGHT; i++)
		if (state.caught[i].who == who)
			return state.caught[i].nr;
	return 0;
}

/* ---- caught: a driver that removes pages of its own mapping ---- */

/* Returns a connected socket on the loopback device, with len bytes ready to be received. */
static int connected_with(size_t len)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(at);
	int listens = socket(AF_INET, SOCK_STREAM, 0), out = socket(AF_INET, SOCK_STREAM, 0), in;
	struct ifreq lo = { .ifr_name = "lo" };
	char bytes[LARGEST_PAGE] = {};

	/* a guest has the device, but it may be down */
	if (!ioctl(listens, SIOCGIFFLAGS, &lo) && !(lo.ifr_flags & IFF_UP)) {
		lo.ifr_flags |= IFF_UP;
		ioctl(listens, SIOCSIFFLAGS, &lo);
	}
	if (bind(listens, (struct sockaddr *)&at, sizeof(at)) || listen(listens, 1) ||
	    getsockname(listens, (struct sockaddr *)&at, &size) ||
	    connect(out, (struct sockaddr *)&at, sizeof(at)))
		TEST_SKIP("no connection over lo: %s", strerror(errno));
	in = accept(listens, NULL, NULL);
	assert_true(in >= 0 && len <= sizeof(bytes));
	assert_int_equal(write(out, bytes, len), len);
	while (recv(in, bytes, len, MSG_PEEK | MSG_WAITALL) != (ssize_t)len)
		;
	close(listens);
	close(out);
	return in;
}

/* Maps the received bytes into our mapping, in place of those that it mapped there before. */
static int receive_into(int in, void *addr, size_t len)
{
	struct tcp_zerocopy_receive zc = { .address = (u64)addr, .length = len };
	socklen_t size = sizeof(zc);

	return getsockopt(in, IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE, &zc, &size);
}

TEST(pages_that_a_driver_removes_itself_are_caught_and_counted_by_call)
{
	char *stripe = stripe_new(), *mapping;
	struct watched w, other;
	int in;

	open_net();
	in = connected_with(4 * PAGE);
	mapping = mmap(NULL, 4 * PAGE, PROT_READ, MAP_SHARED, in, 0);
	if (mapping == MAP_FAILED)
		TEST_SKIP("a socket cannot be mapped: %s", strerror(errno));
	watched_sample(&w, &mm, mapping);
	watched_sample(&other, &mm, stripe);
	assert_int_equal(nr_caught(), 0);
	assert_int_equal(receive_into(in, mapping, 4 * PAGE), 0);
	assert_int_equal(watched_verdict(&w), INVLOCK_STALE);
	/* The net does not know the address, so everything is stale. */
	assert_int_equal(watched_verdict(&other), INVLOCK_STALE);
	assert_true(nr_caught() > 0);
	assert_int_equal(caught_by(BPF_CAUGHT_NATIVE | SYS_getsockopt), nr_caught());
	munmap(mapping, 4 * PAGE);
	close(in);
	stripe_free(stripe);
	close_net(nr_caught());
}

/* ---- known: private copies of a file's pages ---- */

/*
 * A private mapping of a file whose pages were all copied; the file's own pages have left the page
 * cache.
 */
static char *copied(int *ret_fd)
{
	char *p;
	int fd = memfd_create("net", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, GROUP), 0);
	p = mmap(NULL, GROUP, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	assert_ptr_not_equal(p, MAP_FAILED);
	memset(p, 1, GROUP);
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, GROUP), 0);
	assert_int_equal(p[0], 1);
	*ret_fd = fd;
	return p;
}

static void truncates(void (*truncate_it)(int fd))
{
	struct watched w, other;
	char *p, *q;
	int fd, beside;

	open_net();
	p = copied(&fd);
	q = copied(&beside);
	watched_sample(&w, &mm, p);
	watched_sample(&other, &mm, q);
	truncate_it(fd);
	assert_int_equal(watched_verdict(&w), INVLOCK_STALE);
	assert_int_equal(watched_verdict(&other), INVLOCK_VALID);
	assert_non_null(last_event(&mm, INVLOCK_KIND_TRUNCATE_PRIVATE, p));
	munmap(p, GROUP);
	munmap(q, GROUP);
	close(fd);
	close(beside);
	close_net(0);
}

static void truncate_here(int fd)
{
	assert_int_equal(ftruncate(fd, 0), 0);
}

static void truncate_elsewhere(int fd)
{
	int status;
	pid_t child = fork();

	if (!child)
		_exit(ftruncate(fd, 0) != 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

TEST(private_copies_that_a_truncation_drops_go_stale_and_nothing_else)
{
	truncates(truncate_here);
}

TEST(private_copies_go_stale_when_another_process_truncates_their_file)
{
	truncates(truncate_elsewhere);
}

/* A truncation removes only the copies behind the new end. */
TEST(a_copy_in_front_of_the_new_end_stays_valid)
{
	struct watched front, back;
	char *p;
	int fd = memfd_create("net", MFD_CLOEXEC);

	open_net();
	assert_int_equal(ftruncate(fd, 3 * GROUP), 0);
	/* the mapping begins in the middle of the file */
	p = mmap(NULL, 2 * GROUP, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, GROUP);
	memset(p, 1, 2 * GROUP);
	watched_sample(&front, &mm, p);
	watched_sample(&back, &mm, p + GROUP);
	assert_int_equal(ftruncate(fd, 2 * GROUP), 0);
	assert_int_equal(watched_verdict(&front), INVLOCK_VALID);
	assert_int_equal(watched_verdict(&back), INVLOCK_STALE);
	watched_sample(&back, &mm, p + GROUP);
	/* A truncation far behind the end removes nothing. */
	assert_int_equal(ftruncate(fd, 1ULL << 60), 0);
	assert_int_equal(ftruncate(fd, 1ULL << 59), 0);
	assert_int_equal(watched_verdict(&back), INVLOCK_VALID);
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(watched_verdict(&front), INVLOCK_STALE);
	munmap(p, 2 * GROUP);
	close(fd);
	close_net(0);
}

#define HUGE_PAGE	huge_page_bytes()

TEST(copies_of_huge_pages_that_a_truncation_drops_go_stale)
{
	struct watched w;
	char *p = MAP_FAILED;
	int fd, pages;

	pages = open("/proc/sys/vm/nr_hugepages", O_WRONLY | O_CLOEXEC);
	if (pages < 0 || write(pages, "4", 1) != 1)
		TEST_SKIP("no huge pages: %s", strerror(errno));
	open_net();
	fd = memfd_create("net", MFD_CLOEXEC | MFD_HUGETLB);
	if (fd >= 0 && !ftruncate(fd, HUGE_PAGE))
		p = mmap(NULL, HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	if (p != MAP_FAILED) {
		memset(p, 1, PAGE);
		watched_sample(&w, &mm, p);
		assert_int_equal(ftruncate(fd, 0), 0);
		assert_int_equal(watched_verdict(&w), INVLOCK_STALE);
		munmap(p, HUGE_PAGE);
	}
	close(fd);
	close_net(0);
	assert_int_equal(write(pages, "0", 1), 1);
	close(pages);
	if (p == MAP_FAILED)
		TEST_SKIP("no huge page can be mapped");
}

/* ---- known: userfaultfd ---- */

static int uffd_for(char *at, size_t len, u64 mode)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .range = { (u64)at, len }, .mode = mode };
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &reg))
		TEST_SKIP("no userfaultfd: %s", strerror(errno));
	return fd;
}

struct page_move {
	u64 to, from, len, mode;
	long long moved;
};

#define UFFDIO_MOVE_NR	_IOWR(UFFDIO, 0x05, struct page_move)

TEST(pages_that_UFFDIO_MOVE_takes_away_go_stale_and_nothing_else)
{
	char *stripe = stripe_new(), *to;
	struct watched w, other;
	struct page_move move;
	int uffd, err;

	open_net();
	to = mmap(NULL, GROUP, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uffd = uffd_for(to, GROUP, UFFDIO_REGISTER_MODE_MISSING);
	watched_sample(&w, &mm, stripe + VICTIM);
	watched_sample(&other, &mm, stripe + BYSTANDER);
	move = (struct page_move){ (u64)to, (u64)stripe + VICTIM, GROUP };
	err = ioctl(uffd, UFFDIO_MOVE_NR, &move) ? errno : 0;
	if (!err) {
		assert_int_equal(watched_verdict(&w), INVLOCK_STALE);
		assert_int_equal(watched_verdict(&other), INVLOCK_VALID);
		assert_non_null(last_event(&mm, INVLOCK_KIND_MOVE, stripe + VICTIM));
	}
	close(uffd);
	munmap(to, GROUP);
	stripe_free(stripe);
	close_net(0);
	if (err)
		TEST_SKIP("this kernel moves no pages: %s", strerror(err));
}

/* ---- ignored: what starts a TLB gather and removes nothing ---- */

TEST(write_protection_by_userfaultfd_is_ignored)
{
	char *stripe = stripe_new();
	struct uffdio_writeprotect wp;
	struct watched w;
	int uffd;

	open_net();
	uffd = uffd_for(stripe + VICTIM, GROUP, UFFDIO_REGISTER_MODE_WP);
	watched_sample(&w, &mm, stripe + VICTIM);
	wp = (struct uffdio_writeprotect){ { (u64)stripe + VICTIM, GROUP },
					   UFFDIO_WRITEPROTECT_MODE_WP };
	assert_int_equal(ioctl(uffd, UFFDIO_WRITEPROTECT, &wp), 0);
	wp.mode = 0;
	assert_int_equal(ioctl(uffd, UFFDIO_WRITEPROTECT, &wp), 0);
	wp.mode = UFFDIO_WRITEPROTECT_MODE_WP;
	assert_int_equal(ioctl(uffd, UFFDIO_WRITEPROTECT, &wp), 0);
	/* closing it ends all write protection */
	close(uffd);
	assert_int_equal(watched_verdict(&w), INVLOCK_VALID);
	stripe_free(stripe);
	close_net(0);
}

TEST(mprotect_and_advice_that_drops_nothing_are_ignored)
{
	char *stripe = stripe_new(), *p = stripe + VICTIM;
	struct watched w;

	open_net();
	watched_sample(&w, &mm, p);
	assert_int_equal(mprotect(p, GROUP, PROT_READ), 0);
	assert_int_equal(mprotect(p, GROUP, PROT_READ | PROT_WRITE), 0);
	assert_int_equal(madvise(p, GROUP, MADV_COLD), 0);
	assert_int_equal(madvise(p, GROUP, MADV_PAGEOUT), 0);
	assert_int_equal(watched_verdict(&w), INVLOCK_VALID);
	stripe_free(stripe);
	close_net(0);
}

/* The kernel maps it before it finds that it must fail. */
TEST(a_new_mapping_that_fails_is_ignored)
{
	struct watched w;
	char *stripe = stripe_new(), *p, *q;
	int fd = memfd_create("net", MFD_CLOEXEC), null = open("/proc/self/mem", O_RDWR);

	open_net();
	watched_sample(&w, &mm, stripe);
	assert_int_equal(ftruncate(fd, PAGE), 0);
	p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, null, 0);
	assert_ptr_equal(p, MAP_FAILED);
	/* a second mapping of the same page */
	p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	*p = 1;
	q = mremap(p, 0, PAGE, MREMAP_MAYMOVE);
	assert_ptr_not_equal(q, MAP_FAILED);
	assert_int_equal(watched_verdict(&w), INVLOCK_VALID);
	munmap(p, PAGE);
	munmap(q, PAGE);
	close(fd);
	close(null);
	stripe_free(stripe);
	close_net(0);
}

static u64 numa_updates(void)
{
	FILE *f = fopen("/proc/vmstat", "re");
	char line[100];
	unsigned long long nr = 0;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "numa_pte_updates %llu", &nr) == 1)
			break;
	if (f)
		fclose(f);
	return nr;
}

/* Return: whether the value could be written */
static bool set_to(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool good = fd >= 0 && write(fd, value, strlen(value)) == (ssize_t)strlen(value);

	close(fd);
	return good;
}

#define NUMA	"/proc/sys/kernel/numa_balancing"

static void *wait_for_end(void *end)
{
	sem_wait(end);
	return NULL;
}

/*
 * NUMA balancing looks at a part of a task's memory each time the task has run for a while. It
 * skips memory of a single-threaded process on the node it runs on, so there is a second thread.
 */
TEST(numa_balancing_is_ignored)
{
	const struct sched_param normal = { .sched_priority = 0 };
	struct sched_param param;
	struct timespec from, now;
	pthread_t other;
	int policy;
	sem_t end;
	char *stripe = stripe_new();
	struct watched w;
	u64 before;

	open_net();
	watched_sample(&w, &mm, stripe);
	if (!set_to("/sys/kernel/debug/sched/numa_balancing/scan_delay_ms", "1") ||
	    !set_to("/sys/kernel/debug/sched/numa_balancing/scan_period_min_ms", "10") ||
	    !set_to(NUMA, "1")) {
		close_net(0);
		TEST_SKIP("NUMA balancing cannot be enabled");
	}
	sem_init(&end, 0, 0);
	assert_int_equal(pthread_create(&other, NULL, wait_for_end, &end), 0);
	/* It leaves tasks of a real-time policy alone, which the guests give to this test. */
	policy = sched_getscheduler(0);
	sched_getparam(0, &param);
	sched_setscheduler(0, SCHED_OTHER, &normal);
	before = numa_updates();
	clock_gettime(CLOCK_MONOTONIC, &from);
	do {
		memset(stripe, 2, STRIPE);
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (numa_updates() == before && now.tv_sec < from.tv_sec + 600);
	set_to(NUMA, "0");
	sched_setscheduler(0, policy, &param);
	sem_post(&end);
	pthread_join(other, NULL);
	assert_true(numa_updates() > before);
	assert_int_equal(watched_verdict(&w), INVLOCK_VALID);
	stripe_free(stripe);
	close_net(0);
}

/* ---- known: every change that the decoder knows ---- */

TEST(no_change_that_the_decoder_knows_is_caught)
{
	struct invlock_mm_options o = { .size = sizeof(o), .monitor = "bpf" };
	struct change_result result;
	struct invlock_mm *opened;
	struct invlock_why why;
	const struct map_change *c;
	unsigned int seen = 0;
	struct bpf_state net;
	struct bpf_set_header head;
	char text[300];

	if (invlock_mm_open(&o, &opened, &why))
		TEST_SKIP("%.190s", why.text);
	monitor_bpf_set(opened, &head);
	for (unsigned int i = 0; head.net && (c = map_change_at(i)); i++) {
		monitor_bpf_state(opened, &net);
		map_change_test(c, opened, &result);
		seen += result.verdict == CHANGE_SEEN;
		if (monitor_state(opened).nr_caught != net.nr_caught)
			print_message("# caught: %s\n", c->name);
	}
	monitor_bpf_state(opened, &net);
	net_describe(&head, &net, text, sizeof(text));
	invlock_mm_close(opened);
	if (!head.net)
		TEST_SKIP("the monitor has no net here: %.150s", head.no_net);
	print_message("# %u changes were seen; %s\n", seen, text);
	assert_true(seen > 20);
	assert_int_equal(net.nr_caught, 0);
}

TEST_MAIN()
