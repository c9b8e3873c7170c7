/* SPDX-License-Identifier: MIT */
/* What is asked of the command in the guest, whichever its monitor is. */
#ifndef INVLOCK_TESTS_VM_TOOL_RIG_H
#define INVLOCK_TESTS_VM_TOOL_RIG_H

#include "tests/tool/rig.h"

/* doctor's self-test of this monitor passes */
void check_doctor(const char *monitor);

/* doctor chooses this monitor */
void check_chosen(const char *monitor);

/* on this device, prove finds stale uses without the library and none with it */
void check_prove(const char *monitor, const char *device);

#endif /* INVLOCK_TESTS_VM_TOOL_RIG_H */
