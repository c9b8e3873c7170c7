// SPDX-License-Identifier: MIT
/*
 * Faults of the mirror whose lock sleeps, held at the moments at which a change or another request
 * has to wait for them, and a change for which they have to wait.
 */
#include "drill_device.h"
#include "queued.h"

static void watch_the_page(struct queued_work *w)
{
	w->result = mirror_range(w->fd, w->page, PAGE);
}

/* A page of a file, a mirror that sees only this page, and a thread to read it by the mirror. */
static struct queued_work start_reader(int memfd)
{
	struct queued_work reader = { .run = read_by_device, .page = page_alone(memfd) };

	*reader.page = 'a';
	reader.fd = mirror_open();
	mirror_watch(reader.fd, reader.page, PAGE);
	return reader;
}

static void wait_until_walked(const struct queued_work *reader)
{
	while (!mirror_stats(reader->fd).walks &&
	       !__atomic_load_n(&reader->done, __ATOMIC_ACQUIRE))
		sleep_ms(1);
	assert_true(mirror_stats(reader->fd).walks);
}

/* A commit is made under the driver's lock, and drops the mmap lock. */
static void wait_until_committed(const struct queued_work *reader, char *other_page)
{
	wait_until_walked(reader);
	assert_int_equal(mprotect(other_page, PAGE, PROT_READ), 0);
}

static int let_go(void **state)
{
	set_delay_ms(0);
	set_mirror_us("publish_us", 0);
	return let_go_of_everything(state);
}

TEST(a_fault_waits_for_a_change_that_has_begun)
{
	int change = drill_open(), memfd = make_memfd(PAGE, 0);
	static struct queued_work puncher, reader;
	char byte;

	puncher = (struct queued_work){ .run = punch_hole, .fd = memfd };
	reader = start_reader(memfd);
	drill_hold(change, reader.page, PAGE, HOLD_US);
	begin(&puncher);
	begin(&reader);
	tell(&puncher);
	wait_until_held(change);
	tell(&reader);
	assert_true(blocks(&reader));
	assert_int_equal(mirror_stats(reader.fd).walks, 0);
	drill_let_go(change);
	finish(&puncher);
	finish(&reader);
	/* that read may have found the page before it left the file; a later one must not */
	assert_int_equal(mirror_read(reader.fd, reader.page, &byte, 1), 0);
	assert_int_equal(byte, 0);
	close(reader.fd);
	close(memfd);
	close(change);
}

TEST(a_change_waits_until_what_was_committed_is_published)
{
	int memfd = make_memfd(PAGE, 0);
	static struct queued_work puncher, reader;
	char *other_page = map_aligned(2 * MIB), byte;

	puncher = (struct queued_work){ .run = punch_hole, .fd = memfd };
	reader = start_reader(memfd);
	set_mirror_us("publish_us", HOLD_US);
	begin(&puncher);
	begin(&reader);
	tell(&reader);
	wait_until_committed(&reader, other_page);
	tell(&puncher);
	assert_true(blocks(&puncher));
	set_mirror_us("publish_us", 0);
	finish(&reader);
	finish(&puncher);
	/* what was published after the change had begun would still be there */
	assert_int_equal(mirror_read(reader.fd, reader.page, &byte, 1), 0);
	assert_int_equal(byte, 0);
	close(reader.fd);
	close(memfd);
}

TEST(another_range_is_watched_only_when_no_fault_is_in_flight)
{
	int memfd = make_memfd(PAGE, 0);
	static struct queued_work reader, watcher;

	reader = start_reader(memfd);
	watcher = (struct queued_work){
		.run = watch_the_page, .fd = reader.fd, .page = map_aligned(2 * MIB),
	};
	set_delay_ms(HOLD_US / 1000);
	begin(&watcher);
	begin(&reader);
	tell(&reader);
	wait_until_walked(&reader);
	tell(&watcher);
	assert_true(blocks(&watcher));
	set_delay_ms(0);
	finish(&reader);
	finish(&watcher);
	assert_int_equal(reader.byte, 'a');
	close(reader.fd);
	close(memfd);
}

TEST_MAIN(.teardown = let_go)
