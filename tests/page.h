/* SPDX-License-Identifier: MIT */
/* The size of a page in the tests: ask for it, as no two machines need have the same. */
#ifndef INVLOCK_TESTS_PAGE_H
#define INVLOCK_TESTS_PAGE_H

#include "lib/page.h"

#define PAGE		page_bytes()
#define LARGEST_PAGE	65536UL		/* of any machine: for arrays */

#endif /* INVLOCK_TESTS_PAGE_H */
