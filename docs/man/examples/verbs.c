/* SPDX-License-Identifier: MIT */
/* Registers memory with the first RDMA device, and once more after the memory was replaced. */
#include <invlock/verbs.h>
#include <stdio.h>
#include <sys/mman.h>

static void use_device(struct invlock_verbs *verbs, struct ibv_context *context)
{
	struct invlock_verbs_stats stats = { .size = sizeof(stats) };
	struct invlock_cache_stats counts = { .size = sizeof(counts) };
	struct ibv_pd *pd = ibv_alloc_pd(context);
	struct invlock_verbs_pin pin;
	struct invlock_why why;
	char *buf = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int err;

	for (int i = 0; i < 4; i++) {
		if (i == 2)
			madvise(buf, 65536, MADV_DONTNEED);
		err = invlock_verbs_get(verbs, pd, buf, 65536, 0, &pin);
		if (err) {
			invlock_verbs_explain(verbs, buf, 65536, 0, err, &why);
			fprintf(stderr, "%s\n", why.text);
			break;
		}
		printf("lkey %#x\n", pin.lkey);
		invlock_verbs_put(&pin);	/* when the device and all peers are done */
	}
	invlock_verbs_stats(verbs, &stats);
	invlock_cache_stats(invlock_verbs_cache(verbs), &counts);
	printf("%llu regions, %llu hits\n", (unsigned long long)stats.regions,
	       (unsigned long long)counts.hits);
	invlock_verbs_remove_pd(verbs, pd);	/* before the domain is freed */
	ibv_dealloc_pd(pd);
}

int main(void)
{
	struct invlock_mm_options watch = { .size = sizeof(watch), .need = INVLOCK_KINDS_DEFAULT };
	struct ibv_device **list = ibv_get_device_list(NULL);
	struct ibv_context *context = list && list[0] ? ibv_open_device(list[0]) : NULL;
	struct invlock_verbs *verbs;
	struct invlock_mm *mm;
	struct invlock_why why;

	if (!context) {
		printf("there is no RDMA device here\n");
		return 0;
	}
	if (invlock_mm_open(&watch, &mm, &why) || invlock_verbs_open(mm, NULL, &verbs, &why)) {
		fprintf(stderr, "%s\n", why.text);
		return 1;
	}
	use_device(verbs, context);
	invlock_verbs_close(verbs);
	invlock_mm_close(mm);
	return 0;
}
