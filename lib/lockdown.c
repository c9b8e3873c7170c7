// SPDX-License-Identifier: MIT
#include "lockdown.h"

#include <stdio.h>
#include <string.h>

const char *lockdown_file = "/sys/kernel/security/lockdown";

const char *lockdown_mode(void)
{
	FILE *f = fopen(lockdown_file, "re");
	char text[80] = "";

	if (!f)
		return NULL;
	/* none [integrity] confidentiality */
	if (!fgets(text, sizeof(text), f))
		text[0] = '\0';
	fclose(f);
	if (strstr(text, "[integrity]"))
		return "integrity";
	return strstr(text, "[confidentiality]") ? "confidentiality" : NULL;
}
