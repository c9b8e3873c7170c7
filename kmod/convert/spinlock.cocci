// SPDX-License-Identifier: GPL-2.0-only
//
// Converts a driver from mmu_interval_notifier to mmu_invlock.h, whose lock is a spinlock. The driver
// has one notifier of the whole mm and one mutex for each context, as lib/test_hmm.c in the kernel.
// Under the mutex it must do nothing that sleeps. If it does, use any.cocci.
//
//	spatch --sp-file spinlock.cocci --in-place FILE
//
virtual patch

// --- which struct, which fields: without these two, nothing below applies ---

@ctx@
identifier S, N, L;
@@
struct S {
	...
	struct mmu_interval_notifier N;
	struct mutex L;
	...
};

// --- a notifier for the time of one walk, beside the context's own, which is not needed any more.
//     These rules come before those for the context, which would match its callback, too. ---

@temp@
identifier T, N, C, ctx.S;
@@
-struct T {
-	struct mmu_interval_notifier N;
-	struct S *C;
-};

@temp_callback@
typedef bool;
identifier temp.T, fn, mni, range, seq, v;
@@
-static bool fn(struct mmu_interval_notifier *mni, const struct mmu_notifier_range *range,
-	       unsigned long seq)
-{
-	struct T *v = container_of(mni, struct T, ...);
-	...
-}

@temp_ops@
identifier temp_callback.fn, ops;
@@
-static const struct mmu_interval_notifier_ops ops = { .invalidate = fn, };

@temp_use@
identifier temp.T, temp.N, temp.C, v, out;
identifier temp_ops.ops;
expression range, c, ret, mm, from, len;
@@
-	struct T v;
	...
-	v.C = c;
-	range->notifier = &v.N;
-	ret = mmu_interval_notifier_insert(range->notifier, mm, from, len, &ops);
-	if (ret)
-		return ret;
	...
out:
-	mmu_interval_notifier_remove(range->notifier);
	return ret;

// --- the context ---

@@
identifier ctx.S, ctx.N;
@@
struct S {
	...
-	struct mmu_interval_notifier N;
+	struct mmu_invlock N;
	...
};

@@
identifier ctx.S, ctx.L;
@@
struct S {
	...
-	struct mutex L;
+	spinlock_t L;
	...
};

// --- the callback only drops translations; its caller locks ---

@callback@
typedef bool;
identifier ctx.S, ctx.N, ctx.L, fn, mni, range, seq, c;
@@
static
-	bool
+	void
	fn(
-	struct mmu_interval_notifier *mni,
+	struct mmu_invlock *mni,
	const struct mmu_notifier_range *range
-	, unsigned long seq
	)
{
	struct S *c = container_of(mni, struct S, N);
	...
-	if (mmu_notifier_range_blockable(range))
-		mutex_lock(&c->L);
-	else if (!mutex_trylock(&c->L))
-		return false;
-	mmu_interval_set_seq(mni, seq);
	...
-	mutex_unlock(&c->L);
-	return true;
}

// a change that the driver ignores
@@
identifier callback.fn, callback.range;
@@
fn(...)
{
	<...
	if (range->event == MMU_NOTIFY_MIGRATE && ...)
-		return true;
+		return;
	...>
}

@ops@
identifier callback.fn, o;
@@
static const struct
-	mmu_interval_notifier_ops
+	mmu_invlock_ops
	o = { .invalidate = fn, };

@decl@
identifier ops.o;
@@
static const struct
-	mmu_interval_notifier_ops
+	mmu_invlock_ops
	o;

// --- life ---

@@
identifier ctx.S, ctx.N, ctx.L, ops.o;
struct S *c;
expression mm, from, len;
@@
-mmu_interval_notifier_insert(&c->N, mm, from, len, &o)
+mmu_invlock_register(&c->N, mm, &c->L, &o)

@@
identifier ctx.S, ctx.N;
struct S *c;
@@
-mmu_interval_notifier_remove(&c->N)
+mmu_invlock_unregister(&c->N)

// --- the loop ---

@loop@
identifier ctx.S, ctx.N, ctx.L, out, m, timeout, ret;
struct S *c;
struct hmm_range *r;
expression T;
@@
-	struct mm_struct *m = c->N.mm;
+	struct mmu_invlock_fault f;
	...
-	unsigned long timeout = T;
	...
+	mmu_invlock_fault_init_range(&f, &c->N, r, NULL);
	while (
-		true
+		mmu_invlock_attempt(&f)
		) {
-		if (time_after(jiffies, timeout)) {
-			ret = -EBUSY;
-			goto out;
-		}
-		r->notifier_seq = mmu_interval_read_begin(r->notifier);
-		mmap_read_lock(m);
		ret = hmm_range_fault(
-			r
+			&f.range
			);
-		mmap_read_unlock(m);
-		if (ret) {
-			if (ret == -EBUSY)
-				continue;
-			goto out;
-		}
		mutex_lock(&c->L);
		if (
-			mmu_interval_read_retry(r->notifier, r->notifier_seq)
+			!mmu_invlock_commit(&f, ret)
			) {
			mutex_unlock(&c->L);
			continue;
		}
		break;
	}

@@
identifier loop.out, loop.ret;
statement body;
@@
	while (mmu_invlock_attempt(&f))
		body
+	ret = mmu_invlock_fault_error(&f);
+	if (ret)
+		goto out;
	...
out:
+	mmu_invlock_fault_end(&f);
	return ret;

// --- the rest of the lock's and the mm's users ---

@@
identifier ctx.S, ctx.L;
struct S *c;
@@
(
-mutex_init(&c->L)
+spin_lock_init(&c->L)
|
-mutex_lock(&c->L)
+spin_lock(&c->L)
|
-mutex_unlock(&c->L)
+spin_unlock(&c->L)
)

@@
identifier ctx.S, ctx.N;
struct S *c;
@@
 c->N
+.notifier
 .mm

@@
identifier ctx.S, ctx.N, r;
struct S *c;
@@
struct hmm_range r = {
-	.notifier = &c->N,
};

@depends on ctx@
@@
#include <linux/mmu_notifier.h>
+#include "kmod/mmu_invlock.h"

// --- what may sleep must not be under a spinlock ---

@@
expression p, page;
@@
-	p = kmap(page);
+	p = kmap_local_page(page);
	...
-	kunmap(page);
+	kunmap_local(p);
