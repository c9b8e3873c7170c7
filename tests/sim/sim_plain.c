// SPDX-License-Identifier: MIT
/*
 * Plain accesses. core and the cases are compiled with -fsanitize=thread, but linked without its
 * library: the compiler's calls come here. Under WEAK, two accesses are a data race if nothing
 * orders them, one of them is plain, and one is a write.
 */
#include "sim_internal.h"

/* for each byte, each thread's last step with each kind of access */
static __u16 last[SIM_ARENA][NR_ACCESSES][SIM_THREADS];
static u32 dirty[SIM_ARENA];
static bool is_dirty[SIM_ARENA];
static u32 nr_dirty;

void plain_reset(void)
{
	for (u32 i = 0; i < nr_dirty; i++) {
		memset(last[dirty[i]], 0, sizeof(last[0]));
		is_dirty[dirty[i]] = false;
	}
	nr_dirty = 0;
}

static bool conflicts(enum access a, enum access b)
{
	bool plain = a <= PLAIN_WRITE || b <= PLAIN_WRITE;
	bool write = a == PLAIN_WRITE || a == ATOMIC_WRITE || b == PLAIN_WRITE || b == ATOMIC_WRITE;

	return plain && write;
}

void plain_access(struct thread *t, const void *p, u32 size, enum access access)
{
	static const char * const names[] = {
		"plain read", "plain write", "atomic read", "atomic write"
	};
	u32 self = (u32)(t - sim.threads), at = (u32)((u8 *)p - sim.arena);

	if (sim.model != SIM_WEAK)
		return;
	for (u32 i = at; i < at + size; i++) {
		if (!is_dirty[i]) {
			is_dirty[i] = true;
			dirty[nr_dirty++] = i;
		}
		for (u32 other = 0; other < NR_ACCESSES; other++)
			for (u32 who = 0; conflicts(access, other) && who < sim.nr_threads; who++)
				if (who != self && last[i][other][who] > t->view.clocks[who])
					sim_fail("data race at %s: %s by %s, %s by %s",
						 sim_name_of(p), names[other],
						 sim.threads[who].code->name, names[access],
						 t->code->name);
		/*
		 * An atomic access has the clock of its step, a plain one that of the next: a
		 * release comes after it.
		 */
		last[i][access][self] = t->view.clocks[self] + (access <= PLAIN_WRITE);
	}
}

static void access(const void *p, u32 size, bool write)
{
	struct thread *t = sim.self;

	if (!in_arena(p))
		return;
	if (!t) {
		if (write)
			memory_plain_write(NULL, p, size);
		return;
	}
	sim_use(p, size);
	memory_settle(t, p, size);
	plain_access(t, p, size, write ? PLAIN_WRITE : PLAIN_READ);
	if (write) {
		memory_plain_write(t, p, size);
		return;
	}
	for (u32 i = 0; i < size; i++)
		t->history = mix(t->history, ((const volatile u8 *)p)[i]);
}

#define PLAIN(size)							\
void __tsan_read##size(void *p);					\
void __tsan_write##size(void *p);					\
void __tsan_unaligned_read##size(void *p);				\
void __tsan_unaligned_write##size(void *p);				\
void __tsan_read##size(void *p) { access(p, size, false); }		\
void __tsan_write##size(void *p) { access(p, size, true); }		\
void __tsan_unaligned_read##size(void *p) { access(p, size, false); }	\
void __tsan_unaligned_write##size(void *p) { access(p, size, true); }

PLAIN(1)
PLAIN(2)
PLAIN(4)
PLAIN(8)
PLAIN(16)

void __tsan_init(void);
void __tsan_func_entry(void *caller);
void __tsan_func_exit(void);
void __tsan_read_range(void *p, unsigned long size);
void __tsan_write_range(void *p, unsigned long size);

void __tsan_init(void) {}
void __tsan_func_entry(__attribute__((unused)) void *caller) {}
void __tsan_func_exit(void) {}
void __tsan_read_range(void *p, unsigned long size) { access(p, (u32)size, false); }
void __tsan_write_range(void *p, unsigned long size) { access(p, (u32)size, true); }
