// SPDX-License-Identifier: MIT
/* Finding out what is mapped: asking the kernel and reading /proc must give the same answer. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "lib/monitor/mapping.h"
#include "tests/test.h"


static int maps;

static int open_maps(void **state)
{
	(void)state;
	maps = mappings_open();
	return maps < 0;
}

static int close_maps(void **state)
{
	(void)state;
	return close(maps);
}

/* The next mapping's start address in the text; false at its end. */
static bool next_start(FILE *f, unsigned long long *ret_start)
{
	char line[5000];

	return fgets(line, sizeof(line), f) && sscanf(line, "%llx-", ret_start) == 1;
}

TEST(the_kernels_answer_and_the_text_agree_on_every_mapping)
{
	FILE *f = fopen("/proc/self/maps", "re");
	unsigned long long start;
	unsigned int nr = 0;

	assert_non_null(f);
	while (next_start(f, &start)) {
		struct mapping asked, read;
		int err;

		/* the kernel's own mappings, such as vsyscall, cannot be asked for */
		if (start >> 47)
			continue;
		err = mapping_find(maps, start + 1, &asked);
		assert_int_equal(err, mapping_find_in_text(maps, start + 1, &read));
		/* The mapping grew or went between the two looks. */
		if (err || asked.start != read.start || asked.end != read.end)
			continue;
		assert_int_equal(asked.start, start);
		assert_int_equal(asked.inode, read.inode);
		assert_int_equal(asked.shared, read.shared);
		assert_string_equal(asked.name, read.name);
		assert_int_equal(mapping_is_anon(&asked), mapping_is_anon(&read));
		nr++;
	}
	fclose(f);
	assert_true(nr >= 10);
}

TEST(neither_way_finds_a_hole)
{
	char *p = mmap(NULL, 3 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct mapping m;

	munmap(p + PAGE, PAGE);
	assert_int_equal(mapping_find(maps, (u64)p + PAGE, &m), -ENOENT);
	assert_int_equal(mapping_find_in_text(maps, (u64)p + PAGE, &m), -ENOENT);
	assert_int_equal(mapping_find(maps, PAGE, &m), -ENOENT);
	assert_int_equal(mapping_find_in_text(maps, PAGE, &m), -ENOENT);
	assert_int_equal(mapping_find_in_text(maps, (u64)p, &m), 0);
	assert_true(mapping_is_anon(&m));
	munmap(p, PAGE);
	munmap(p + 2 * PAGE, PAGE);
}

TEST(a_name_that_is_too_long_is_cut)
{
	char name[240], path[300];
	struct mapping m;
	int fd;
	void *p;

	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	snprintf(path, sizeof(path), "/var/tmp/%s", name);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	unlink(path);
	assert_int_equal(ftruncate(fd, PAGE), 0);
	p = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
	assert_ptr_not_equal(p, MAP_FAILED);
	assert_int_equal(mapping_find(maps, (u64)p, &m), 0);
	assert_true(*m.name);
	assert_false(mapping_is_anon(&m));
	assert_int_equal(mapping_find_in_text(maps, (u64)p, &m), 0);
	assert_non_null(strstr(m.name, "/var/tmp/nnn"));
	assert_false(mapping_is_anon(&m));
	munmap(p, PAGE);
	close(fd);
}

TEST(only_memory_that_is_surely_private_and_anonymous_is_called_so)
{
	static const struct {
		struct mapping m;
		bool anon;
	} all[] = {
		{ { .name = "" }, true },
		{ { .name = "[heap]" }, true },
		{ { .name = "[stack]" }, true },
		{ { .name = "[anon:mine]" }, true },
		{ { .name = "/anon_hugepage (deleted)", .inode = 7 }, true },
		{ { .name = "/anon_hugepage (deleted)", .inode = 7, .shared = true }, false },
		{ { .name = "/dev/zero", .inode = 7 }, false },
		{ { .name = "/memfd:x (deleted)", .inode = 7 }, false },
		{ { .name = "", .shared = true }, false },
		{ { .name = "[vdso]" }, false },
		{ { .name = "[vvar]" }, false },
		{ { .name = "[vvar_vclock]" }, false },
		{ { .name = "[uprobes]" }, false },
		{ { .name = "[anon_shmem:mine]", .inode = 7, .shared = true }, false },
		{ { .name = "socket:[1]", .inode = 7, .shared = true }, false },
	};

	for (unsigned int i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (mapping_is_anon(&all[i].m) != all[i].anon)
			fail_msg("\"%s\"", all[i].m.name);
}

TEST_MAIN(.setup = open_maps, .teardown = close_maps)
