// SPDX-License-Identifier: MIT
/* Checks memory at the head of each function of UCP that takes memory of the program. */
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucp/api/ucp.h>
#include <unistd.h>
#include <invlock/ucx.h>

static void check(const void *buffer, size_t count, ucp_datatype_t type)
{
	const ucp_dt_iov_t *pieces = buffer;

	switch (type & UCP_DATATYPE_CLASS_MASK) {
	case UCP_DATATYPE_CONTIG:
		invlock_ucx_check(buffer, count * (type >> UCP_DATATYPE_SHIFT));
		break;
	case UCP_DATATYPE_IOV:
		for (size_t i = 0; i < count; i++)
			invlock_ucx_check(pieces[i].buffer, pieces[i].length);
		break;
	default:
		/* others are packed by the program, into memory of UCX */
		break;
	}
}

static void check_param(const void *buffer, size_t count, const ucp_request_param_t *param)
{
	check(buffer, count, param->op_attr_mask & UCP_OP_ATTR_FIELD_DATATYPE ? param->datatype :
	      ucp_dt_make_contig(1));
}

static void check_map(const ucp_mem_map_params_t *params)
{
	bool allocates = params->field_mask & UCP_MEM_MAP_PARAM_FIELD_FLAGS &&
			 params->flags & UCP_MEM_MAP_ALLOCATE;

	if (params->field_mask & UCP_MEM_MAP_PARAM_FIELD_ADDRESS && !allocates)
		invlock_ucx_check(params->address, params->length);
}

static void check_atomic(const void *buffer, size_t count, const ucp_request_param_t *param)
{
	check_param(buffer, count, param);
	if (param->op_attr_mask & UCP_OP_ATTR_FIELD_REPLY_BUFFER)
		check_param(param->reply_buffer, count, param);
}

/* UCX's function in the object that contains @address, or in what it needs; or NULL */
static void *find_from(const void *address, const char *name)
{
	void *object = NULL, *function = NULL;
	Dl_info info;

	if (dladdr(address, &info))
		object = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
	if (object) {
		function = dlsym(object, name);
		dlclose(object);
	}
	return function;
}

/*
 * UCX may have been loaded by a plug-in of the program that keeps its libraries to itself. Then it
 * is not next to us, but what @caller, the plug-in, needs.
 */
static void *find_next(const char *name, const void *own, const void *caller)
{
	void *function = dlsym(RTLD_NEXT, name), *ucp;
	Dl_info info;

	if (!function)
		function = find_from(caller, name);
	/* the caller is another object if the call was the last that a function made */
	if (!function || function == own) {
		ucp = dlopen("libucp.so.0", RTLD_LAZY | RTLD_NOLOAD);
		function = ucp ? dlsym(ucp, name) : NULL;
	}
	if (!function) {
		fprintf(stderr, "invlock: UCX's own %s() is not found\n", name);
		abort();
	}
	/* UCX stays loaded, because the address is kept */
	if (dladdr(function, &info))
		(void)!dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
	return function;
}

/* the function of this name, which checks and then calls UCX's */
#define CHECKED(result, name, parameters, arguments, check_it)		\
result name parameters							\
{									\
	static __typeof__(&name) kept;					\
	__typeof__(&name) next = __atomic_load_n(&kept, __ATOMIC_RELAXED);	\
									\
	if (!next) {							\
		next = (__typeof__(next))find_next(#name, (void *)name,	\
						   __builtin_return_address(0));	\
		__atomic_store_n(&kept, next, __ATOMIC_RELAXED);	\
	}								\
	check_it;							\
	return next arguments;						\
}

CHECKED(ucs_status_ptr_t, ucp_tag_send_nbx,
	(ucp_ep_h ep, const void *b, size_t n, ucp_tag_t tag, const ucp_request_param_t *p),
	(ep, b, n, tag, p), check_param(b, n, p))
CHECKED(ucs_status_ptr_t, ucp_tag_send_sync_nbx,
	(ucp_ep_h ep, const void *b, size_t n, ucp_tag_t tag, const ucp_request_param_t *p),
	(ep, b, n, tag, p), check_param(b, n, p))
CHECKED(ucs_status_ptr_t, ucp_tag_recv_nbx,
	(ucp_worker_h w, void *b, size_t n, ucp_tag_t tag, ucp_tag_t mask,
	 const ucp_request_param_t *p),
	(w, b, n, tag, mask, p), check_param(b, n, p))
CHECKED(ucs_status_ptr_t, ucp_tag_msg_recv_nbx,
	(ucp_worker_h w, void *b, size_t n, ucp_tag_message_h m, const ucp_request_param_t *p),
	(w, b, n, m, p), check_param(b, n, p))
CHECKED(ucs_status_ptr_t, ucp_am_send_nbx,
	(ucp_ep_h ep, unsigned int id, const void *h, size_t hl, const void *b, size_t n,
	 const ucp_request_param_t *p),
	(ep, id, h, hl, b, n, p), check_param(b, n, p))
CHECKED(ucs_status_ptr_t, ucp_am_recv_data_nbx,
	(ucp_worker_h w, void *d, void *b, size_t n, const ucp_request_param_t *p),
	(w, d, b, n, p), check_param(b, n, p))
CHECKED(ucs_status_ptr_t, ucp_stream_send_nbx,
	(ucp_ep_h ep, const void *b, size_t n, const ucp_request_param_t *p),
	(ep, b, n, p), check_param(b, n, p))
CHECKED(ucs_status_ptr_t, ucp_stream_recv_nbx,
	(ucp_ep_h ep, void *b, size_t n, size_t *len, const ucp_request_param_t *p),
	(ep, b, n, len, p), check_param(b, n, p))
CHECKED(ucs_status_ptr_t, ucp_put_nbx,
	(ucp_ep_h ep, const void *b, size_t n, uint64_t at, ucp_rkey_h key,
	 const ucp_request_param_t *p),
	(ep, b, n, at, key, p), check_param(b, n, p))
CHECKED(ucs_status_ptr_t, ucp_get_nbx,
	(ucp_ep_h ep, void *b, size_t n, uint64_t at, ucp_rkey_h key,
	 const ucp_request_param_t *p),
	(ep, b, n, at, key, p), check_param(b, n, p))
CHECKED(ucs_status_ptr_t, ucp_atomic_op_nbx,
	(ucp_ep_h ep, ucp_atomic_op_t op, const void *b, size_t n, uint64_t at, ucp_rkey_h key,
	 const ucp_request_param_t *p),
	(ep, op, b, n, at, key, p), check_atomic(b, n, p))

CHECKED(ucs_status_ptr_t, ucp_tag_send_nb,
	(ucp_ep_h ep, const void *b, size_t n, ucp_datatype_t type, ucp_tag_t tag,
	 ucp_send_callback_t done),
	(ep, b, n, type, tag, done), check(b, n, type))
CHECKED(ucs_status_t, ucp_tag_send_nbr,
	(ucp_ep_h ep, const void *b, size_t n, ucp_datatype_t type, ucp_tag_t tag, void *request),
	(ep, b, n, type, tag, request), check(b, n, type))
CHECKED(ucs_status_ptr_t, ucp_tag_send_sync_nb,
	(ucp_ep_h ep, const void *b, size_t n, ucp_datatype_t type, ucp_tag_t tag,
	 ucp_send_callback_t done),
	(ep, b, n, type, tag, done), check(b, n, type))
CHECKED(ucs_status_ptr_t, ucp_tag_recv_nb,
	(ucp_worker_h w, void *b, size_t n, ucp_datatype_t type, ucp_tag_t tag, ucp_tag_t mask,
	 ucp_tag_recv_callback_t done),
	(w, b, n, type, tag, mask, done), check(b, n, type))
CHECKED(ucs_status_t, ucp_tag_recv_nbr,
	(ucp_worker_h w, void *b, size_t n, ucp_datatype_t type, ucp_tag_t tag, ucp_tag_t mask,
	 void *request),
	(w, b, n, type, tag, mask, request), check(b, n, type))
CHECKED(ucs_status_ptr_t, ucp_tag_msg_recv_nb,
	(ucp_worker_h w, void *b, size_t n, ucp_datatype_t type, ucp_tag_message_h m,
	 ucp_tag_recv_callback_t done),
	(w, b, n, type, m, done), check(b, n, type))
CHECKED(ucs_status_ptr_t, ucp_stream_send_nb,
	(ucp_ep_h ep, const void *b, size_t n, ucp_datatype_t type, ucp_send_callback_t done,
	 unsigned int flags),
	(ep, b, n, type, done, flags), check(b, n, type))
CHECKED(ucs_status_ptr_t, ucp_stream_recv_nb,
	(ucp_ep_h ep, void *b, size_t n, ucp_datatype_t type, ucp_stream_recv_callback_t done,
	 size_t *len, unsigned int flags),
	(ep, b, n, type, done, len, flags), check(b, n, type))
CHECKED(ucs_status_ptr_t, ucp_am_send_nb,
	(ucp_ep_h ep, uint16_t id, const void *b, size_t n, ucp_datatype_t type,
	 ucp_send_callback_t done, unsigned int flags),
	(ep, id, b, n, type, done, flags), check(b, n, type))
CHECKED(ucs_status_t, ucp_put_nbi,
	(ucp_ep_h ep, const void *b, size_t n, uint64_t at, ucp_rkey_h key),
	(ep, b, n, at, key), invlock_ucx_check(b, n))
CHECKED(ucs_status_t, ucp_get_nbi,
	(ucp_ep_h ep, void *b, size_t n, uint64_t at, ucp_rkey_h key),
	(ep, b, n, at, key), invlock_ucx_check(b, n))
CHECKED(ucs_status_ptr_t, ucp_put_nb,
	(ucp_ep_h ep, const void *b, size_t n, uint64_t at, ucp_rkey_h key,
	 ucp_send_callback_t done),
	(ep, b, n, at, key, done), invlock_ucx_check(b, n))
CHECKED(ucs_status_ptr_t, ucp_get_nb,
	(ucp_ep_h ep, void *b, size_t n, uint64_t at, ucp_rkey_h key, ucp_send_callback_t done),
	(ep, b, n, at, key, done), invlock_ucx_check(b, n))
CHECKED(ucs_status_ptr_t, ucp_atomic_fetch_nb,
	(ucp_ep_h ep, ucp_atomic_fetch_op_t op, uint64_t value, void *result, size_t n,
	 uint64_t at, ucp_rkey_h key, ucp_send_callback_t done),
	(ep, op, value, result, n, at, key, done), invlock_ucx_check(result, n))
CHECKED(ucs_status_t, ucp_put,
	(ucp_ep_h ep, const void *b, size_t n, uint64_t at, ucp_rkey_h key),
	(ep, b, n, at, key), invlock_ucx_check(b, n))
CHECKED(ucs_status_t, ucp_get, (ucp_ep_h ep, void *b, size_t n, uint64_t at, ucp_rkey_h key),
	(ep, b, n, at, key), invlock_ucx_check(b, n))
CHECKED(ucs_status_t, ucp_mem_map,
	(ucp_context_h context, const ucp_mem_map_params_t *params, ucp_mem_h *ret),
	(context, params, ret), check_map(params))

__attribute__((destructor)) static void at_exit(void)
{
	struct invlock_ucx_stats s = { .size = sizeof(s) };

	invlock_ucx_stats(&s);
	if (s.checks && getenv("INVLOCK_STATS"))
		fprintf(stderr, "invlock: UCX, process %d: %llu checks, %llu forgotten, of which "
			"%llu unknown\n", getpid(), (unsigned long long)s.checks,
			(unsigned long long)s.forgotten, (unsigned long long)s.unknown);
}
