// SPDX-License-Identifier: MIT
#include "rdma.h"

#include <string.h>

bool rdma_is_here(const struct rdma *rdma)
{
	return rdma->devices.nr || rdma->libfabric.found || rdma->ucx.found;
}

static void add_names(struct invlock_why *to, const struct name_list *list)
{
	for (unsigned int i = 0; i < list->nr; i++)
		explain_more(to, "%s%s", !i ? "" : i + 1 < list->nr ? ", " : " and ",
			     list->names[i]);
}

void rdma_devices_text(const struct rdma *rdma, struct invlock_why *ret_text)
{
	if (!rdma->devices.nr) {
		explain(ret_text, 0, "none. If the machine has one, load its driver and ib_uverbs");
		return;
	}
	ret_text->text[0] = '\0';
	add_names(ret_text, &rdma->devices);
	if (!rdma->closed.nr)
		return;
	explain_more(ret_text, ". This user may not open ");
	add_names(ret_text, &rdma->closed);
	explain_more(ret_text, ": ask for the right to read and write the files in "
		     "/dev/infiniband");
}

/* Return: false if there is no more to say of the library, because it cannot be used. */
static bool begin(const struct rdma_library *l, struct invlock_why *to)
{
	if (!l->found) {
		explain(to, 0, "not found by the dynamic linker");
		return false;
	}
	explain(to, 0, "%s", *l->version ? l->version : "of unknown version");
	if (*l->error)
		explain_more(to, ", cannot be used: %s", l->error);
	return !*l->error;
}

static void add_providers(struct invlock_why *to, const struct rdma_library *l)
{
	if (!l->cached.nr) {
		explain_more(to, ". No provider that works here uses its cache of registrations: ");
		add_names(to, &l->uncached);
		return;
	}
	explain_more(to, ". Providers that use its cache of registrations: ");
	add_names(to, &l->cached);
	if (!l->uncached.nr)
		return;
	explain_more(to, "; that do not: ");
	add_names(to, &l->uncached);
}

void rdma_libfabric_text(const struct rdma *rdma, struct invlock_why *ret_text)
{
	const struct rdma_library *l = &rdma->libfabric;
	const char *slash = strrchr(l->installed, '/');

	if (!begin(l, ret_text))
		return;
	if (l->too_old) {
		explain_more(ret_text, ", which is too old to take the plug-in: 1.13 is needed");
		return;
	}
	if (l->disabled)
		explain_more(ret_text, ". FI_MR_CACHE_MONITOR=disabled switches its cache off");
	else if (*l->loaded)
		explain_more(ret_text, ", with the plug-in %s", l->loaded);
	else if (slash)
		explain_more(ret_text, ", without the plug-in%s. Start programs with "
			     "FI_PROVIDER_PATH=%.*s, and doctor, too, to see that libfabric loads "
			     "it", l->cached.nr ? ", so cached registrations can go stale" : "",
			     (int)(slash - l->installed), l->installed);
	else
		explain_more(ret_text, ", without the plug-in, which is not installed: it is in "
			     "the package invlock-libfabric");
	add_providers(ret_text, l);
}

void rdma_ucx_text(const struct rdma *rdma, struct invlock_why *ret_text)
{
	const struct rdma_library *l = &rdma->ucx;

	if (!begin(l, ret_text))
		return;
	if (*l->loaded)
		explain_more(ret_text, ", with the preload %s", l->loaded);
	else if (*l->installed)
		explain_more(ret_text, ", without the preload, so cached registrations can go "
			     "stale. Start programs with LD_PRELOAD=%s", l->installed);
	else
		explain_more(ret_text, ", without the preload, which is not installed: it is in "
			     "the package libinvlock-ucx0");
}
