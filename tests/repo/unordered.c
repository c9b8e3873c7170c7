// SPDX-License-Identifier: MIT
/* For BPF: an atomic operation that orders nothing, and one that does. See test_atomics.py. */
void add(unsigned long long *word)
{
	__atomic_fetch_add(word, 1, __ATOMIC_RELAXED);
}

unsigned long long add_and_tell(unsigned long long *word)
{
	return __sync_fetch_and_add(word, 1);
}
