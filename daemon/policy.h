/* SPDX-License-Identifier: MIT */
/*
 * Which users may have a feed, and how many: the file POLICY_FILE. The build chooses its folder.
 */
#ifndef INVLOCK_DAEMON_POLICY_H
#define INVLOCK_DAEMON_POLICY_H

#include <invlock/mm.h>
#include <stdbool.h>
#include <sys/types.h>

#define POLICY_ROOM	64

/*
 * The memory of a feed, in MiB, rounded up. Its maps have this size from the start, and nothing
 * that its process does adds to it. So the number of feeds bounds the memory of a user.
 */
#define FEED_MIB	4

struct policy {
	uid_t users[POLICY_ROOM];
	gid_t groups[POLICY_ROOM];
	unsigned int nr_users, nr_groups;	/* both 0: everybody may */
	unsigned int feeds_per_user;
	unsigned int feeds;			/* of all users together */
};

/**
 * policy_read() - read the policy
 * @policy: filled
 * @path: the file; if it does not exist, everybody may have feeds
 * @why: names the line that is wrong
 *
 * Return: 0; -EINVAL = a line is wrong; or the error of reading.
 */
int policy_read(struct policy *policy, const char *path, struct invlock_why *why);

/* May this user have feeds at all? Root always may. */
bool policy_allows(const struct policy *policy, uid_t uid, const gid_t *groups,
		   unsigned int nr_groups);

#endif /* INVLOCK_DAEMON_POLICY_H */
