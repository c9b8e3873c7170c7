// SPDX-License-Identifier: MIT
/* The page of metrics of a daemon that has no client and no programs: what is text on it. */
#include <errno.h>
#include "daemon/clients.h"
#include "daemon/metrics.h"
#include "tests/test.h"

static struct clients clients;
static struct policy policy = { .feeds_per_user = 16 };
static char *page;

static void make_page(const char *reason)
{
	struct progset set = PROGSET_NONE;
	size_t len;

	strcpy(set.header.reason, reason);
	clients_init(&clients, &set, &policy);
	page = metrics_page(&clients, &len);
	assert_non_null(page);
	assert_int_equal(strlen(page), len);
}

static int drop_page(void **state)
{
	(void)state;
	free(page);
	page = NULL;
	return 0;
}

static void expect(const char *line)
{
	if (!strstr(page, line))
		fail_msg("\"%s\" is not on the page:\n%s", line, page);
}

TEST(text_in_a_label_is_escaped)
{
	make_page("a \"word\", a \\ and\nanother line");
	expect(",reason=\"a \\\"word\\\", a \\\\ and\\nanother line\"} 1\n");
}

TEST(the_page_ends_with_its_mark_and_each_line_with_a_newline)
{
	make_page("");
	assert_string_equal(page + strlen(page) - 7, "\n# EOF\n");
	assert_null(strstr(page, "\n\n"));
}

TEST(each_refusal_is_counted_under_one_reason)
{
	static const struct {
		int err;
		const char *line;
	} refusals[] = {
		{ -EACCES, "{reason=\"policy\"} 1\n" },
		{ -EDQUOT, "{reason=\"quota\"} 1\n" },
		{ -ENOSPC, "{reason=\"seats\"} 1\n" },
		{ -EUSERS, "{reason=\"connections\"} 1\n" },
		{ -EPROTONOSUPPORT, "{reason=\"version\"} 1\n" },
		{ -EPROTO, "{reason=\"protocol\"} 1\n" },
		{ -ENOMEM, "{reason=\"other\"} 1\n" },
	};

	for (unsigned int i = 0; i < sizeof(refusals) / sizeof(*refusals); i++) {
		memset(&clients.counts, 0, sizeof(clients.counts));
		counts_refuse(&clients.counts, refusals[i].err);
		make_page("");
		expect(refusals[i].line);
		assert_non_null(strstr(page, "invlock_refusals_total{reason=\"policy\"} "));
		drop_page(NULL);
	}
}

TEST_MAIN(.teardown = drop_page)
