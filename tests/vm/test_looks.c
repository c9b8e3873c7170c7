// SPDX-License-Identifier: MIT
/*
 * The last step of the slow path, in which the pages are looked up under the driver's lock. In each
 * round the drill makes an invalidation before its walk, so that the walk always fails, and only
 * this step can succeed. What it finds must be what a walk would have found.
 */
#include "drill_device.h"

#define VALID		(1UL << 63)	/* HMM_PFN_VALID, and what asks for a page */
#define WRITE		(1UL << 62)	/* HMM_PFN_WRITE, and what asks for a writable page */
#define ERROR		(1UL << 61)
/* HMM_PFN_DMA_MAPPED, where there is one; other kernels keep the highest bit of the order there */
#define STICKY		(1UL << 60)
#define MOST_PAGES	512

static struct drill look(void *p, size_t len, uint64_t flags)
{
	return (struct drill){
		.addr = (unsigned long)p,
		.len = len,
		.how = DRILL_WALK,
		.rounds = 1,
		.flags = flags,
	};
}

static int do_look(struct drill *drill)
{
	int fd = drill_open(), err = drill_do(fd, DRILL_FAULT, drill);

	close(fd);
	return err;
}

/* Return: pages of small size that are all there, alone in their stripes. */
static char *present_pages(size_t len)
{
	char *p = map_aligned(len);

	/* a kernel that has no huge pages refuses this */
	madvise(p, len, MADV_NOHUGEPAGE);
	memset(p, 1, len);
	return p;
}

TEST(a_writable_page_is_found_writable_by_a_driver_that_only_reads)
{
	char *p = present_pages(2 * MIB);
	struct drill d = look(p, 2 * PAGE, VALID);

	assert_int_equal(do_look(&d), 0);
	assert_int_equal(d.rounds, 2);
	assert_int_equal(d.pfn & (VALID | WRITE | ERROR), VALID | WRITE);
}

TEST(a_page_that_is_not_writable_is_not_found_writable)
{
	char *p = present_pages(2 * MIB);
	struct drill d = look(p, 2 * PAGE, VALID);

	assert_int_equal(mprotect(p, 2 * PAGE, PROT_READ), 0);
	assert_int_equal(do_look(&d), 0);
	assert_int_equal(d.pfn & (VALID | WRITE | ERROR), VALID);
	d = look(p, 2 * PAGE, VALID | WRITE);
	assert_int_equal(do_look(&d), -EBUSY);
}

TEST(what_an_entry_had_beside_the_page_is_kept)
{
	char *p = present_pages(2 * MIB);
	struct drill d = look(p, 2 * PAGE, VALID);

	d.pfn = STICKY | ERROR;
	assert_int_equal(do_look(&d), 0);
	/* bit 60 belongs to the order of the mapping on older kernels, which is not kept */
	if (!(d.pfn & STICKY))
		TEST_SKIP("this kernel keeps nothing in an entry");
	assert_int_equal(d.pfn & (VALID | WRITE | ERROR), VALID | WRITE);
}

TEST(no_more_pages_are_looked_up_than_the_limit_says)
{
	char *p = present_pages(4 * MIB);
	struct drill d = look(p, MOST_PAGES * PAGE, VALID);

	assert_int_equal(do_look(&d), 0);
	d = look(p, (MOST_PAGES + 1) * PAGE, VALID);
	assert_int_equal(do_look(&d), -EBUSY);
	/* one optimistic round, and all rounds of the slow path */
	assert_int_equal(d.rounds, 1 + 8);
}

TEST(a_page_that_is_absent_is_not_looked_up)
{
	char *p = present_pages(2 * MIB);
	struct drill d = look(p, 2 * PAGE, 0);

	assert_int_equal(madvise(p + PAGE, PAGE, MADV_DONTNEED), 0);
	assert_int_equal(do_look(&d), -EBUSY);
}

TEST(a_page_is_not_looked_up_while_an_invalidation_of_it_runs)
{
	char *p = present_pages(2 * MIB);
	struct drill d = look(p, 2 * PAGE, VALID);

	d.how = DRILL_OVERLAP;
	assert_int_equal(do_look(&d), -EBUSY);
}

TEST(a_page_that_was_looked_up_has_no_reference_left)
{
	int memfd = make_memfd(PAGE, MFD_ALLOW_SEALING);
	char *p = page_alone(memfd);
	struct drill d = look(p, PAGE, VALID);

	assert_int_equal(do_look(&d), 0);
	assert_int_equal(munmap(p, PAGE), 0);
	/* the kernel refuses this while anybody holds a page of the file */
	assert_int_equal(fcntl(memfd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	close(memfd);
}

TEST(a_mapping_that_cannot_be_read_is_not_looked_up)
{
	char *p = present_pages(2 * MIB);
	struct drill d = look(p, 2 * PAGE, VALID);

	/* on this machine its pages can be read nevertheless */
	assert_int_equal(mprotect(p + PAGE, PAGE, PROT_WRITE), 0);
	assert_int_equal(do_look(&d), -EBUSY);
}

TEST(what_each_page_asks_for_by_itself_is_left_to_the_walk)
{
	char *p = present_pages(2 * MIB);
	struct drill d = look(p, 2 * PAGE, 0);

	d.mask = VALID | WRITE;
	d.pfn = VALID;
	assert_int_equal(do_look(&d), -EBUSY);
}

TEST_MAIN()
