#include "core/replay.h"

bool replay_accept(struct replay *r, uint64_t number)
{
	uint64_t word = number / 64, bit = UINT64_C(1) << (number % 64);

	if (number == UINT64_MAX || (r->next > REPLAY_WINDOW && number < r->next - REPLAY_WINDOW))
		return false;
	if (number >= r->next) {
		uint64_t top = r->next ? (r->next - 1) / 64 : 0;
		for (uint64_t i = 1; i <= word - top && i <= REPLAY_WORDS; i++)
			r->bits[(top + i) % REPLAY_WORDS] = 0;
		r->next = number + 1;
	}
	uint64_t *slot = &r->bits[word % REPLAY_WORDS];
	if (*slot & bit)
		return false;
	*slot |= bit;
	return true;
}
