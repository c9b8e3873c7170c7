// SPDX-License-Identifier: GPL-2.0-only
/* What the feed needs of the portable core: the kernel only writes feeds, and reads none. */
#include "core/invlock.c"
