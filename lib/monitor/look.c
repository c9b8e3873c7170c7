// SPDX-License-Identifier: MIT
#include "look.h"

#include <errno.h>

#include "mapping.h"
#include "monitor.h"

int look_error(enum mapped mapped)
{
	switch (mapped) {
	case MAPPED_GOOD:
		return 0;
	case MAPPED_HOLE:
		return -EFAULT;
	default:
		return -EMEDIUMTYPE;
	}
}

static enum mapped refuse(struct look *look, enum mapped mapped, u64 start, u64 end)
{
	*look = (struct look){ mapped, start, end };
	return mapped;
}

enum mapped look_at_maps(u64 start, u64 end, struct look *ret_look)
{
	int maps = mappings_open(), err = 0;
	enum mapped mapped = MAPPED_GOOD;
	struct mapping m;

	if (maps < 0)
		return refuse(ret_look, MAPPED_UNKNOWN, start, end);
	for (u64 at = start; mapped == MAPPED_GOOD && at < end; at = m.end) {
		err = mapping_find(maps, at, &m);
		if (err == -ENOENT)
			mapped = refuse(ret_look, MAPPED_HOLE, at, end);
		else if (err)
			mapped = refuse(ret_look, MAPPED_UNKNOWN, at, end);
		else if (!mapping_is_anon(&m))
			mapped = refuse(ret_look, m.shared ? MAPPED_SHARED : MAPPED_PRIVATE_FILE,
					m.start, m.end);
	}
	mappings_close(maps);
	return mapped;
}

/* For each kind of refused memory: the change that could happen to it unseen. */
static const char *const reasons[NR_MAPPED] = {
	[MAPPED_SHARED] = "is shared: by a truncation, a hole punched or shmdt() it would get "
			  "other pages",
	[MAPPED_PRIVATE_FILE] = "is a private mapping of a file, as static variables are: when "
				"the file is truncated it loses its pages",
	[MAPPED_DAX] = "is a file mapped without a page cache (DAX): its pages can be taken away "
		       "in its file system",
	[MAPPED_FOREIGN] = "belongs to a driver, a socket or the kernel, which can put other "
			   "pages there",
};

int look_explain(const struct look *look, const char *monitor, struct invlock_why *why)
{
	int err = look_error(look->mapped), maps;
	struct mapping m = {};

	if (look->mapped == MAPPED_HOLE)
		return explain(why, err, "nothing is mapped at %#llx", look->start);
	if (!reasons[look->mapped])
		return explain(why, err, "%#llx-%#llx is not surely anonymous memory, and "
			       "monitor %s cannot find out what it is: its descriptors were "
			       "closed, or there is none left, or /proc is not mounted; use it "
			       "unregistered",
			       look->start, look->end, monitor);
	maps = mappings_open();
	if (maps >= 0) {
		if (mapping_find(maps, look->start, &m))
			m.name[0] = '\0';
		mappings_close(maps);
	}
	return explain(why, err, "%#llx-%#llx (%s) %s, and monitor %s would not surely see it; use "
		       "it unregistered, or copy through memory from malloc()",
		       look->start, look->end, m.name[0] ? m.name : "without a name",
		       reasons[look->mapped], monitor);
}
