// SPDX-License-Identifier: MIT
#include "counts.h"

#include <errno.h>

void counts_refuse(struct daemon_counts *counts, int err)
{
	static const struct {
		int err;
		enum refusal why;
	} meanings[] = {
		{ -EACCES, REFUSED_POLICY }, { -EDQUOT, REFUSED_QUOTA },
		{ -ENOSPC, REFUSED_SEATS }, { -EUSERS, REFUSED_CONNECTIONS },
		{ -EPROTONOSUPPORT, REFUSED_VERSION }, { -EPROTO, REFUSED_PROTOCOL },
		{ -EINVAL, REFUSED_PROTOCOL }, { -ENOTCONN, REFUSED_PROTOCOL },
		{ -EBUSY, REFUSED_PROTOCOL },
	};
	enum refusal why = REFUSED_OTHER;

	for (unsigned int i = 0; i < sizeof(meanings) / sizeof(*meanings); i++)
		if (meanings[i].err == err)
			why = meanings[i].why;
	counts->refused[why]++;
}
