/* SPDX-License-Identifier: MIT */
#ifndef INVLOCK_LIB_CAPABILITY_H
#define INVLOCK_LIB_CAPABILITY_H

#include <stdbool.h>

/* Is this process in a user namespace of its own? What it may do there it may not do elsewhere. */
bool in_user_namespace(void);

/*
 * May this thread use the capability @cap (CAP_*) now, for what belongs to the whole machine?
 * Inside a user namespace it may not, whatever capget() says.
 */
bool has_capability(unsigned int cap);

#endif /* INVLOCK_LIB_CAPABILITY_H */
