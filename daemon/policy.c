// SPDX-License-Identifier: MIT
#include "policy.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bpf/shared.h"
#include "lib/explain.h"

#define FEEDS_PER_USER	16
#define FEEDS		256

/* Return: the whole word as a number; -1 = it is none. */
static long number(const char *word)
{
	char *end;
	long n = strtol(word, &end, 10);

	return *word && !*end && n >= 0 && n < 0xffffffffL ? n : -1;
}

static int add_user(struct policy *p, const char *word, struct invlock_why *why)
{
	const struct passwd *user = getpwnam(word);
	long uid = user ? (long)user->pw_uid : number(word);

	if (uid < 0)
		return explain(why, -EINVAL, "there is no user \"%.60s\"", word);
	if (p->nr_users == POLICY_ROOM)
		return explain(why, -EINVAL, "more than %d users: use a group", POLICY_ROOM);
	p->users[p->nr_users++] = uid;
	return 0;
}

static int add_group(struct policy *p, const char *word, struct invlock_why *why)
{
	const struct group *group = getgrnam(word);
	long gid = group ? (long)group->gr_gid : number(word);

	if (gid < 0)
		return explain(why, -EINVAL, "there is no group \"%.60s\"", word);
	if (p->nr_groups == POLICY_ROOM)
		return explain(why, -EINVAL, "more than %d groups", POLICY_ROOM);
	p->groups[p->nr_groups++] = gid;
	return 0;
}

static int read_feeds(unsigned int *ret_nr, const char *word, struct invlock_why *why)
{
	long n = number(word);

	if (n < 1 || n > BPF_NR_USERS)
		return explain(why, -EINVAL, "\"%.60s\" is no number from 1 to %d", word,
			       BPF_NR_USERS);
	*ret_nr = n;
	return 0;
}

static int set_feeds_per_user(struct policy *p, const char *word, struct invlock_why *why)
{
	return read_feeds(&p->feeds_per_user, word, why);
}

static int set_feeds(struct policy *p, const char *word, struct invlock_why *why)
{
	return read_feeds(&p->feeds, word, why);
}

/* key = word word ... */
static int read_line(struct policy *p, char *line, struct invlock_why *why)
{
	static const struct {
		const char *key;
		int (*add)(struct policy *p, const char *word, struct invlock_why *why);
	} keys[] = {
		{ "users", add_user }, { "groups", add_group },
		{ "feeds_per_user", set_feeds_per_user }, { "feeds", set_feeds },
	};
	char *rest, *key, *word;
	int err = 0;

	line[strcspn(line, "#\n")] = '\0';
	key = strtok_r(line, " \t=", &rest);
	if (!key)
		return 0;
	for (unsigned int i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		if (strcmp(keys[i].key, key))
			continue;
		word = strtok_r(NULL, " \t=", &rest);
		if (!word)
			return explain(why, -EINVAL, "%s has no value", key);
		for (; word && !err; word = strtok_r(NULL, " \t=", &rest))
			err = keys[i].add(p, word, why);
		return err;
	}
	return explain(why, -EINVAL, "there is no setting \"%.60s\"; there are users, groups, "
		       "feeds_per_user and feeds", key);
}

int policy_read(struct policy *p, const char *path, struct invlock_why *why)
{
	FILE *f = fopen(path, "re");
	unsigned int nr = 0;
	char line[1024];
	int err = 0;

	*p = (struct policy){ .feeds_per_user = FEEDS_PER_USER, .feeds = FEEDS };
	if (!f)
		return errno == ENOENT ? 0 : explain(why, -errno, "%s: %s", path, strerror(errno));
	while (!err && fgets(line, sizeof(line), f)) {
		struct invlock_why what = { "" };

		nr++;
		err = read_line(p, line, &what);
		if (err)
			explain(why, err, "%s, line %u: %s", path, nr, what.text);
	}
	fclose(f);
	return err;
}

bool policy_allows(const struct policy *p, uid_t uid, const gid_t *groups, unsigned int nr_groups)
{
	if (!uid || (!p->nr_users && !p->nr_groups))
		return true;
	for (unsigned int i = 0; i < p->nr_users; i++)
		if (p->users[i] == uid)
			return true;
	for (unsigned int i = 0; i < p->nr_groups; i++)
		for (unsigned int j = 0; j < nr_groups; j++)
			if (p->groups[i] == groups[j])
				return true;
	return false;
}
