// SPDX-License-Identifier: MIT
/* The primitives of core/port_sim.h, and the other steps of cases: see sim.h. */
#include "sim_internal.h"

static bool is_step(const void *p)
{
	return sim.self && in_arena(p);
}

u64 sim_load(const void *p, u32 size, enum sim_order order)
{
	if (!p) {
		sim_fail("a load through NULL");
		return 0;
	}
	if (!is_step(p))
		return value_at(p, size);
	return sim_step(&(struct op){ OP_LOAD, order, size, (void *)p, 0, 0 });
}

void sim_store(void *p, u32 size, u64 value, enum sim_order order)
{
	if (!is_step(p))
		memory_set(p, size, value);
	else
		sim_step(&(struct op){ OP_STORE, order, size, p, value, 0 });
}

u64 sim_fetch_add(void *p, u32 size, u64 value, enum sim_order order)
{
	u64 before = value_at(p, size);

	if (is_step(p))
		return sim_step(&(struct op){ OP_ADD, order, size, p, value, 0 });
	memory_set(p, size, before + value);
	return before;
}

u64 sim_cmpxchg(void *p, u32 size, u64 old, u64 value, enum sim_order order)
{
	u64 before = value_at(p, size);

	if (is_step(p))
		return sim_step(&(struct op){ OP_CMPXCHG, order, size, p, old, value });
	if (before == old)
		memory_set(p, size, value);
	return before;
}

void sim_light_barrier(void)
{
	if (sim.self)
		sim.self->nr_fenced = sim.self->nr_buffered;
}

bool sim_heavy_barrier(void)
{
	return !sim.self || sim_step(&(struct op){ .kind = OP_HEAVY });
}

/* A clock that each wait moves by a millisecond. */
u64 sim_now(void)
{
	return sim.self ? 1 + sim.self->waits * 1000000ULL : 1;
}

int sim_wait(__attribute__((unused)) bool interruptible)
{
	sim.self->stirred = false;
	sim_step(&(struct op){ .kind = OP_WAIT });
	return 0;
}

void sim_relax(void)
{
	if (sim.self)
		sim.self->relaxed++;
}

u32 sim_relaxed(void)
{
	return sim.self->relaxed;
}

void sim_lock(u32 *lock)
{
	sim_step(&(struct op){ OP_LOCK, SIM_ACQUIRE, sizeof(*lock), lock, 0, 0 });
}

void sim_lock_again(u32 *lock)
{
	sim_step(&(struct op){ OP_LOCK, SIM_ACQUIRE, sizeof(*lock), lock, 0, true });
}

void sim_unlock(u32 *lock)
{
	sim_step(&(struct op){ OP_UNLOCK, SIM_RELEASE, sizeof(*lock), lock, 0, 0 });
}

void sim_await(u32 *p)
{
	sim_step(&(struct op){ OP_AWAIT, SIM_ACQUIRE, sizeof(*p), p, 0, 0 });
}

u32 sim_choose(u32 n)
{
	return (u32)sim_step(&(struct op){ .kind = OP_CHOOSE, .a = n });
}

void sim_interrupt(void)
{
	struct thread *t = sim.self;
	void (*interrupt)(void) = t->interrupt;

	if (!interrupt || sim.failed)
		return;
	t->interrupt = NULL;
	interrupt();
	t->interrupt = interrupt;
}

void sim_interrupts(void (*hook)(void))
{
	sim.self->interrupt = hook;
}
