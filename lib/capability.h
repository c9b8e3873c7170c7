/* SPDX-License-Identifier: MIT */
#ifndef INVLOCK_LIB_CAPABILITY_H
#define INVLOCK_LIB_CAPABILITY_H

#include <stdbool.h>

/* may this thread use the capability @cap (CAP_*) now? */
bool has_capability(unsigned int cap);

#endif /* INVLOCK_LIB_CAPABILITY_H */
