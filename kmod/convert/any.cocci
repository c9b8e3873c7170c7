// SPDX-License-Identifier: GPL-2.0-only
//
// Converts the fault loop of a driver to mmu_invlock_any.h, whose lock may be of any kind. The driver
// keeps its notifiers, its callbacks and its lock. The patch removes the deadline, and the label and
// the jumps by which the driver retries.
//
//	spatch --sp-file any.cocci --in-place FILE

@loop@
typedef u64;
identifier out, m, timeout, ret;
struct hmm_range *r;
expression T, L, M;
@@
	struct mm_struct *m = M;
+	struct mmu_invlock_any_fault f;
	...
-	unsigned long timeout = T;
	...
+	mmu_invlock_any_init(&f, r, NULL);
	while (
-		true
+		mmu_invlock_any_attempt(&f)
		) {
-		if (time_after(jiffies, timeout)) {
-			ret = -EBUSY;
-			goto out;
-		}
-		r->notifier_seq = mmu_interval_read_begin(r->notifier);
-		mmap_read_lock(m);
		ret = hmm_range_fault(r);
-		mmap_read_unlock(m);
-		if (ret) {
-			if (ret == -EBUSY)
-				continue;
-			goto out;
-		}
		mutex_lock(L);
		if (
-			mmu_interval_read_retry(r->notifier, r->notifier_seq)
+			!mmu_invlock_any_commit(&f, ret)
			) {
			mutex_unlock(L);
			continue;
		}
		break;
	}

@@
identifier loop.out, loop.ret;
statement body;
@@
	while (mmu_invlock_any_attempt(&f))
		body
+	ret = mmu_invlock_any_error(&f);
+	if (ret)
+		goto out;
	...
out:
+	mmu_invlock_any_end(&f);
	...
	return ret;

@@
identifier loop.m, fn;
expression M;
@@
fn(...)
{
-	struct mm_struct *m = M;
	... when != m
}

// --- a loop by a label, whose caller gets the lock, as in umem_odp.c ---

@label@
identifier again, out, seq, timeout, ret, r;
expression N, M, L, T;
@@
+	struct mmu_invlock_any_fault f;
	struct hmm_range r = {};
	...
-	unsigned long timeout;
	...
-	timeout = T;
-again:
-	seq = r.notifier_seq = mmu_interval_read_begin(N);
-	mmap_read_lock(M);
-	ret = hmm_range_fault(&r);
-	mmap_read_unlock(M);
-	if (unlikely(ret)) {
-		if (ret == -EBUSY && !time_after(jiffies, timeout))
-			goto again;
-		goto out;
-	}
+	mmu_invlock_any_init(&f, &r, NULL);
+	while (mmu_invlock_any_attempt(&f)) {
+		ret = hmm_range_fault(&r);
+		mutex_lock(L);
+		if (mmu_invlock_any_commit(&f, ret))
+			break;
+		mutex_unlock(L);
+	}
+	ret = mmu_invlock_any_error(&f);
+	if (ret)
+		goto out;
	...
-	mutex_lock(L);
-	if (mmu_interval_read_retry(N, seq)) {
-		mutex_unlock(L);
-		goto again;
-	}
	...
out:
+	mmu_invlock_any_end(&f);
	...

// There, a walk writes into the table itself. So a fault that fails takes out what its rounds have left
// and never published. What is mapped for DMA was published by an earlier fault.

@table depends on label@
@@
	HMM_PFN_DMA_MAPPED

@depends on table@
identifier ret;
identifier label.out, label.r;
expression label.L;
@@
	ret = mmu_invlock_any_error(&f);
-	if (ret)
+	if (ret) {
+		mutex_lock(L);
+		for (unsigned long i = 0; i < (r.end - r.start) >> PAGE_SHIFT; i++)
+			if (!(r.hmm_pfns[i] & HMM_PFN_DMA_MAPPED))
+				r.hmm_pfns[i] &= ~HMM_PFN_FLAGS;
+		mutex_unlock(L);
		goto out;
+	}

// --- one round in a function of its own, as in mshv_regions.c. Its caller goes round in a do loop, which
//     is a statement that spatch cannot match: remove that by hand ---

@round@
identifier fn, r, ret, S, s;
expression L, M;
@@
fn(struct S *s, struct hmm_range *r)
{
+	struct mmu_invlock_any_fault f;
	int ret;

-	r->notifier_seq = mmu_interval_read_begin(r->notifier);
-	mmap_read_lock(M);
-	ret = hmm_range_fault(r);
-	mmap_read_unlock(M);
-	if (ret)
-		return ret;
-	mutex_lock(L);
-	if (mmu_interval_read_retry(r->notifier, r->notifier_seq)) {
-		mutex_unlock(L);
-		cond_resched();
-		return -EBUSY;
-	}
-	return 0;
+	mmu_invlock_any_init(&f, r, NULL);
+	while (mmu_invlock_any_attempt(&f)) {
+		ret = hmm_range_fault(r);
+		mutex_lock(L);
+		if (mmu_invlock_any_commit(&f, ret))
+			break;
+		mutex_unlock(L);
+	}
+	return mmu_invlock_any_end(&f);
}

// --- a range of its own, as in nouveau_svm.c ---

@own@
identifier out, timeout, ret, r;
initializer I;
expression T, L, M;
@@
+	struct mmu_invlock_any_fault f;
-	unsigned long timeout = T;
	...
	struct hmm_range r = I;
	...
+	mmu_invlock_any_init(&f, &r, NULL);
	while (
-		true
+		mmu_invlock_any_attempt(&f)
		) {
-		if (time_after(jiffies, timeout)) {
-			ret = -EBUSY;
-			goto out;
-		}
-		r.notifier_seq = mmu_interval_read_begin(r.notifier);
-		mmap_read_lock(M);
		ret = hmm_range_fault(&r);
-		mmap_read_unlock(M);
-		if (ret) {
-			if (ret == -EBUSY)
-				continue;
-			goto out;
-		}
		mutex_lock(L);
		if (
-			mmu_interval_read_retry(r.notifier, r.notifier_seq)
+			!mmu_invlock_any_commit(&f, ret)
			) {
			mutex_unlock(L);
			continue;
		}
		break;
	}

@@
identifier own.out, own.ret;
statement body;
@@
	while (mmu_invlock_any_attempt(&f))
		body
+	ret = mmu_invlock_any_error(&f);
+	if (ret)
+		goto out;
	...
out:
+	mmu_invlock_any_end(&f);
	...
	return ret;

@depends on label@
@@
#include <linux/hmm.h>
+#include "kmod/mmu_invlock_any.h"

@depends on round@
@@
#include <linux/hmm.h>
+#include "kmod/mmu_invlock_any.h"

@depends on own@
@@
#include <linux/hmm.h>
+#include "kmod/mmu_invlock_any.h"

@depends on loop@
@@
#include <linux/mmu_notifier.h>
+#include "kmod/mmu_invlock_any.h"
