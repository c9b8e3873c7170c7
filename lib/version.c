// SPDX-License-Identifier: MIT
#include <invlock/version.h>

const char *invlock_version(void)
{
	return INVLOCK_VERSION;
}

unsigned int invlock_version_number(void)
{
	return INVLOCK_VERSION_NUMBER;
}
