// SPDX-License-Identifier: MIT
#include "rdma.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef WITH_LIBFABRIC
#include <rdma/fabric.h>
#endif

#define PLUGIN		"libinvlock-fi.so"
#define PRELOAD		"libinvlock-ucx-preload.so"
#define SECONDS		20	/* that a library may take to load and to answer */

static const struct rdma_places this_machine = {
	.devices = "/sys/class/infiniband_verbs",
	.nodes = "/dev/infiniband",
	.libfabric = "libfabric.so.1",
	.ucx = "libucp.so.0",
	.plugin = INVLOCK_LIBDIR "/invlock/libfabric/" PLUGIN,
	.preload = INVLOCK_LIBDIR "/invlock/" PRELOAD,
};

static void add_name(struct name_list *list, const char *name, size_t len)
{
	char *to;

	if (list->nr == MAX_NAMES)
		return;
	to = list->names[list->nr];
	if (len >= sizeof(list->names[0]))
		len = sizeof(list->names[0]) - 1;
	memcpy(to, name, len);
	to[len] = '\0';
	for (unsigned int i = 0; i < list->nr; i++)
		if (!strcmp(list->names[i], to))
			return;
	list->nr++;
}

/* The name of the device behind @node, which is an entry like uverbs0. */
static void add_device(struct rdma *rdma, const struct rdma_places *places, const char *node)
{
	char path[PATH_MAX], name[32] = "";
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s/ibdev", places->devices, node);
	f = fopen(path, "re");
	if (!f)
		return;
	if (fscanf(f, "%31s", name) == 1) {
		add_name(&rdma->devices, name, sizeof(name));
		snprintf(path, sizeof(path), "%s/%s", places->nodes, node);
		if (access(path, R_OK | W_OK))
			add_name(&rdma->closed, name, sizeof(name));
	}
	fclose(f);
}

static void find_devices(struct rdma *rdma, const struct rdma_places *places)
{
	DIR *folder = opendir(places->devices);
	struct dirent *entry;

	if (!folder)
		return;
	while ((entry = readdir(folder)))
		if (entry->d_name[0] != '.')
			add_device(rdma, places, entry->d_name);
	closedir(folder);
}

/* a library that may be loaded, and where */
struct loaded {
	const char *name;
	char *ret_path;		/* PATH_MAX bytes */
};

static int is_it(struct dl_phdr_info *info, __attribute__((unused)) size_t size, void *arg)
{
	struct loaded *loaded = arg;
	const char *slash = strrchr(info->dlpi_name, '/');

	if (strcmp(slash ? slash + 1 : info->dlpi_name, loaded->name))
		return 0;
	snprintf(loaded->ret_path, PATH_MAX, "%s", info->dlpi_name);
	return 1;
}

/* Return: the library, or NULL. */
static void *load(struct rdma_library *l, const char *name)
{
	void *library = dlopen(name, RTLD_NOW | RTLD_GLOBAL);
	const char *error = library ? "" : dlerror();
	size_t len = strlen(name);

	/* what the linker says begins with the name of the file that is missing */
	l->found = library || strncmp(error, name, len) || !strstr(error, "No such file");
	if (l->found)
		snprintf(l->error, sizeof(l->error), "%s", error);
	return library;
}

#ifdef WITH_LIBFABRIC
/* Those that use libfabric's cache of registrations. A layer, after the semicolon, has none. */
static bool provider_has_cache(const char *name, size_t len)
{
	static const char *const names[] = { "verbs", "efa", "cxi", "lpp" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strlen(names[i]) == len && !strncmp(names[i], name, len))
			return true;
	return false;
}

static void ask_libfabric(struct rdma_library *l, void *library)
{
	__typeof__(&fi_getinfo) getinfo = (__typeof__(getinfo))dlsym(library, "fi_getinfo");
	__typeof__(&fi_version) version = (__typeof__(version))dlsym(library, "fi_version");
	struct fi_info *info = NULL;
	int err;

	if (!getinfo || !version) {
		snprintf(l->error, sizeof(l->error), "it lacks fi_getinfo()");
		return;
	}
	snprintf(l->version, sizeof(l->version), "%d.%d", FI_MAJOR(version()),
		 FI_MINOR(version()));
	l->too_old = FI_VERSION_LT(version(), FI_VERSION(1, 13));
	err = l->too_old ? 0 : getinfo(FI_VERSION(1, 13), NULL, NULL, 0, NULL, &info);
	if (err)
		snprintf(l->error, sizeof(l->error), "no provider works here");
	/* not freed: the process ends */
	for (; info; info = info->next) {
		const char *name = info->fabric_attr->prov_name;
		size_t len = strcspn(name, ";");

		add_name(provider_has_cache(name, len) ? &l->cached : &l->uncached, name, len);
	}
}
#else
static void ask_libfabric(struct rdma_library *l, void *library)
{
	(void)library;
	snprintf(l->error, sizeof(l->error), "this build of invlock was made without the headers "
		 "of libfabric, so it has no plug-in");
}
#endif

static void try_libfabric(struct rdma_library *l, const struct rdma_places *places)
{
	const char *monitor = getenv("FI_MR_CACHE_MONITOR");
	struct loaded plugin = { PLUGIN, l->loaded };
	void *library = load(l, places->libfabric);

	l->disabled = monitor && !strcmp(monitor, "disabled");
	if (library)
		ask_libfabric(l, library);
	dl_iterate_phdr(is_it, &plugin);
}

static void try_ucx(struct rdma_library *l, const struct rdma_places *places)
{
	struct loaded preload = { PRELOAD, l->loaded };
	void *library = load(l, places->ucx);
	const char *(*version)(void);

	if (library) {
		version = (__typeof__(version))dlsym(library, "ucp_get_version_string");
		if (version)
			snprintf(l->version, sizeof(l->version), "%s", version());
	}
	dl_iterate_phdr(is_it, &preload);
}

/*
 * Fills @ret in a child: these libraries patch libc, start threads and open devices. They also say
 * things on stderr, which a report is no place for.
 */
static void in_a_child(void (*try)(struct rdma_library *, const struct rdma_places *),
		       const struct rdma_places *places, struct rdma_library *ret)
{
	struct rdma_library *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
					   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status = 0, null;
	pid_t pid = -1;

	if (shared != MAP_FAILED) {
		fflush(NULL);
		pid = fork();
	}
	if (!pid) {
		alarm(SECONDS);
		null = open("/dev/null", O_WRONLY);
		dup2(null, STDERR_FILENO);
		dup2(null, STDOUT_FILENO);
		try(shared, places);
		_exit(0);
	}
	if (pid > 0)
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	if (shared != MAP_FAILED) {
		*ret = *shared;
		munmap(shared, sizeof(*shared));
	}
	if (pid < 0 || status) {
		ret->found = true;
		snprintf(ret->error, sizeof(ret->error), pid < 0 ? "no process to try it in" :
			 WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ?
			 "it did not answer in time" : "the process that tried it died");
	}
}

static void find_installed(struct rdma_library *l, const char *path)
{
	if (!access(path, R_OK))
		snprintf(l->installed, sizeof(l->installed), "%s", path);
}

void probe_rdma(struct rdma *rdma, const struct rdma_places *places)
{
	if (!places)
		places = &this_machine;
	find_devices(rdma, places);
	in_a_child(try_libfabric, places, &rdma->libfabric);
	in_a_child(try_ucx, places, &rdma->ucx);
	find_installed(&rdma->libfabric, places->plugin);
	find_installed(&rdma->ucx, places->preload);
}
