// SPDX-License-Identifier: MIT
/* The page table, and the definition of a valid translation: see sim.h. */
#include "sim_internal.h"

#define CHANGES_EACH	4	/* changes that one thread may make */

struct sim_change {
	bool begun;
	u32 page;
	u32 version;		/* 0: the change is not made yet */
	__u16 clock;		/* the clock of its thread when inv_start had returned */
};

static struct sim_change changes[SIM_THREADS * CHANGES_EACH];
static u32 *pages;		/* the pages' versions */

void map_reset(void)
{
	memset(changes, 0, sizeof(changes));
}

void map_place(void)
{
	pages = sim_alloc(SIM_PAGES * sizeof(*pages));
	sim_name(pages, SIM_PAGES * sizeof(*pages), "page");
}

u64 map_hash(void)
{
	u64 h = 0;

	for (u32 i = 0; i < SIM_THREADS * CHANGES_EACH; i++)
		if (changes[i].begun)
			h = mix(h, i << 16 | changes[i].clock << 1 | (u64)changes[i].version << 32);
	return h;
}

u32 sim_change_begins(u32 page)
{
	u32 nr = sim_self() * CHANGES_EACH + sim.self->nr_changes++;

	changes[nr] = (struct sim_change){
		.begun = true,
		.page = page,
		.clock = sim.model == SIM_WEAK ? sim.self->view.clocks[sim_self()] : 0,
	};
	return nr;
}

void sim_change_made(u32 nr, enum sim_order order)
{
	changes[nr].version = 1 + (u32)sim_fetch_add(&pages[changes[nr].page], sizeof(u32), 1,
						     order);
}

u32 sim_map_read(u32 page)
{
	u32 version = (u32)sim_load(&pages[page], sizeof(u32), SIM_ACQUIRE);

	for (u32 i = 0; i < SIM_THREADS * CHANGES_EACH; i++)
		if (changes[i].version && changes[i].page == page && changes[i].version <= version)
			sim.self->observed |= 1u << i;
	return version;
}

u32 sim_map_now(u32 page)
{
	return pages[page];
}

u32 sim_known_changes(void)
{
	u32 known = sim.self ? sim.self->observed : 0;

	for (u32 i = 0; i < SIM_THREADS * CHANGES_EACH; i++)
		if (changes[i].begun && (sim.model != SIM_WEAK || !sim.self ||
		    sim.self->view.clocks[i / CHANGES_EACH] >= changes[i].clock))
			known |= 1u << i;
	/* The caller keeps the result, so it is part of what the caller has seen. */
	if (sim.self)
		sim.self->history = mix(sim.self->history, known);
	return known;
}

void sim_must_be_current(u32 known, u32 page, u32 version)
{
	for (u32 i = 0; i < SIM_THREADS * CHANGES_EACH; i++) {
		const struct sim_change *c = &changes[i];

		if (known & 1u << i && c->page == page && (!c->version || c->version > version))
			sim_fail("stale: page %u version %u was called valid after a change of it "
				 "had begun (%s)", page, version,
				 sim.threads[i / CHANGES_EACH].code->name);
	}
}
