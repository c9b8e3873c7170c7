/* SPDX-License-Identifier: MIT */
/* Tests of the command in the guest, which several programs run with different monitors. */
#ifndef INVLOCK_TESTS_VM_TOOL_RIG_H
#define INVLOCK_TESTS_VM_TOOL_RIG_H

#include <stdbool.h>
#include <sys/types.h>

#include "tests/tool/rig.h"

/* `invlock doctor` must find that this monitor passes its self-test. */
void check_doctor(const char *monitor);

/* Skip the test, with doctor's reason, if this monitor cannot be used on this kernel. */
void need_monitor(const char *monitor);

/* `invlock doctor` must choose this monitor. */
void check_chosen(const char *monitor);

/* `invlock prove` must find stale uses of the naive cache, and none of invlock. */
void check_prove(const char *monitor, const char *device);

/*
 * Does `invlock ps` list a feed of this process? If it does, the feed must be that of this monitor,
 * and the process this user's.
 */
bool is_listed(pid_t pid, const char *monitor, uid_t uid, enum surroundings who_asks);

#endif /* INVLOCK_TESTS_VM_TOOL_RIG_H */
