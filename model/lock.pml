/* SPDX-License-Identifier: MIT */
/*
 * The lock, as far as one page is concerned: the word of its stripe, and the sequence.
 *
 * Generations are not counted. All that a reader asks is whether they moved since its sample:
 * one bit for each reader remembers that. So storms never end, and states do.
 */
#define BIT(reader)	(1 << (reader))
#define ALL		(BIT(READERS) - 1)

byte running;		/* word & INVLOCK_RUNNING_MASK, of the stripe and of wide */
byte word_moved;	/* readers whose snap.words has another generation */
byte sequence_moved;	/* readers whose snap.sequence is not the feed's */

/* invlock_words_add(INVLOCK_START) */
inline words_add_start()
{
	d_step {
#ifndef START_WITHOUT_GENERATION
		word_moved = ALL;
#endif
		running++
	}
}

/* invlock_words_add(INVLOCK_END) */
inline words_add_end()
{
	running--
}

/* the RMW of invlock_record() */
inline record()
{
	sequence_moved = ALL
}

/* the compare in invlock_validate_slow(): a sample is of a quiet word */
#define WORDS_EQUAL(me)	(!(word_moved & BIT(me)) && !running)
