// SPDX-License-Identifier: MIT
/* A plug-in of a program that knows nothing of UCX. */
#include <stdlib.h>
#include <ucp/api/ucp.h>

int map_memory(void);

/* Return: 0 if UCX has mapped memory; 77 if UCX does not work here */
int map_memory(void)
{
	ucp_params_t params = {
		.field_mask = UCP_PARAM_FIELD_FEATURES, .features = UCP_FEATURE_RMA,
	};
	ucp_mem_map_params_t map = {
		.field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH,
		.length = 1 << 20,
	};
	ucp_context_h context;
	ucp_mem_h handle;
	int err;

	if (ucp_init(&params, NULL, &context))
		return 77;
	map.address = malloc(map.length);
	err = !map.address || ucp_mem_map(context, &map, &handle) ||
	      ucp_mem_unmap(context, handle);
	free(map.address);
	ucp_cleanup(context);
	return err;
}
