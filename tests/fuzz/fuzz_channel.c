/* Any bytes as the handshake of a control channel and as encrypted frames after it, at either end.
 */
#include <stdlib.h>
#include <string.h>

#include "core/channel.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void end_init(struct channel *ch, bool initiator)
{
	static const uint8_t secret[2][NOISE_KEY_BYTES] = {{1}, {2}};
	static const uint8_t ephemeral[2][NOISE_KEY_BYTES] = {{3}, {4}};
	struct noise_keypair keys;

	noise_keypair_from_secret(&keys, secret[initiator]);
	check(channel_init(ch, &(struct channel_params){.initiator = initiator,
							.local = &keys,
							.ephemeral = ephemeral[initiator],
							.max_body = 4096}) == 0);
}

/* Runs the true handshake for `steps` messages, so that the input meets every state. */
static void advance(struct channel *a, struct channel *b, unsigned steps)
{
	uint8_t body[FRAME_HANDSHAKE_MAX_BYTES];

	for (unsigned i = 0; i < steps; i++) {
		long n = channel_output(i % 2 ? b : a, body);

		check(n > 0);
		check(channel_input(i % 2 ? a : b, bytes_of(body, (size_t)n)) == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t plain[1 << 16];
	struct channel a, b, *victim;
	unsigned steps;

	if (size < 1 || size > sizeof plain)
		return 0;
	steps = (data[0] >> 1) % 4;
	end_init(&a, true);
	end_init(&b, false);
	advance(&a, &b, steps);
	victim = data[0] & 1 ? &a : &b;
	if (channel_is_up(victim)) {
		check(channel_open(victim, bytes_of(data + 1, size - 1), plain) != 0);
		check(!channel_is_up(victim));
	} else if (channel_input(victim, bytes_of(data + 1, size - 1)) == 0) {
		check(channel_body_limit(victim) <= FRAME_HANDSHAKE_MAX_BYTES ||
		      channel_is_up(victim));
	}
	channel_wipe(&a);
	channel_wipe(&b);
	return 0;
}
