// SPDX-License-Identifier: MIT
/* host PLUG-IN: loads it twice, each time for itself alone, and lets it map memory. */
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	int err = 0;

	for (int i = 0; i < 2 && !err; i++) {
		void *plug_in = argc == 2 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
		int (*map_memory)(void);

		*(void **)&map_memory = plug_in ? dlsym(plug_in, "map_memory") : NULL;
		if (!map_memory) {
			fprintf(stderr, "%s\n", dlerror());
			return 1;
		}
		err = map_memory();
		dlclose(plug_in);
	}
	return err;
}
