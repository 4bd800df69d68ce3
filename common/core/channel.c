#include "core/channel.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "base/limits.h"

int channel_init(struct channel *ch, const struct channel_params *p)
{
	struct noise_params np = {
		.pattern = NOISE_XX,
		.initiator = p->initiator,
		.prologue = bytes_str(CHANNEL_PROLOGUE),
		.local = p->local,
		.ephemeral = p->ephemeral,
	};
	memset(ch, 0, sizeof *ch);
	ch->max_body = p->max_body;
	if (p->expected) {
		ch->expected = *p->expected;
		ch->has_expected = true;
	}
	return noise_init(&ch->noise, &np);
}

void channel_wipe(struct channel *ch)
{
	sodium_memzero(ch, sizeof *ch);
	ch->state = CHANNEL_FAILED;
}

bool channel_is_up(const struct channel *ch)
{
	return ch->state == CHANNEL_UP;
}

const struct mesh_id *channel_peer(const struct channel *ch)
{
	return ch->peer_known ? &ch->peer : NULL;
}

size_t channel_body_limit(const struct channel *ch)
{
	return channel_is_up(ch) ? ch->max_body + CHANNEL_TAG_BYTES : FRAME_HANDSHAKE_MAX_BYTES;
}

static int fail(struct channel *ch, int err)
{
	channel_wipe(ch);
	return err;
}

static void finish_handshake(struct channel *ch)
{
	if (!noise_done(&ch->noise))
		return;
	noise_split(&ch->noise, &ch->keys);
	noise_wipe(&ch->noise);
	ch->state = CHANNEL_UP;
}

long channel_output(struct channel *ch, uint8_t *out)
{
	struct wbuf w = wbuf_init(out, FRAME_HANDSHAKE_MAX_BYTES);
	if (ch->state != CHANNEL_HANDSHAKE || !noise_writes_next(&ch->noise))
		return 0;
	int err = noise_write(&ch->noise, bytes_of(NULL, 0), &w);
	if (err)
		return fail(ch, err);
	finish_handshake(ch);
	return (long)wbuf_len(&w);
}

static int learn_peer(struct channel *ch)
{
	const uint8_t *key = noise_remote(&ch->noise);
	if (!key || ch->peer_known)
		return 0;
	if (ch->has_expected && memcmp(key, ch->expected.b, sizeof ch->expected.b) != 0)
		return -EACCES;
	memcpy(ch->peer.b, key, sizeof ch->peer.b);
	ch->peer_known = true;
	return 0;
}

int channel_input(struct channel *ch, struct bytes body)
{
	uint8_t payload[FRAME_HANDSHAKE_MAX_BYTES];
	size_t len;

	if (ch->state != CHANNEL_HANDSHAKE || body.len > FRAME_HANDSHAKE_MAX_BYTES)
		return fail(ch, -EBADMSG);
	/* Payloads of the handshake are reserved: this version sends none and refuses any. */
	if (noise_read(&ch->noise, body, payload, sizeof payload, &len) || len != 0)
		return fail(ch, -EBADMSG);
	int err = learn_peer(ch);
	if (err)
		return fail(ch, err);
	finish_handshake(ch);
	return 0;
}

int channel_seal(struct channel *ch, struct bytes plain, uint8_t *out)
{
	if (!channel_is_up(ch))
		return -ENOTCONN;
	if (plain.len > ch->max_body)
		return -EMSGSIZE;
	noise_seal(ch->keys.send, ch->sent++, bytes_of(NULL, 0), plain, out);
	return 0;
}

int channel_open(struct channel *ch, struct bytes body, uint8_t *out)
{
	if (!channel_is_up(ch))
		return -ENOTCONN;
	if (body.len < CHANNEL_TAG_BYTES || body.len > channel_body_limit(ch) ||
	    noise_open(ch->keys.receive, ch->received, bytes_of(NULL, 0), body, out))
		return fail(ch, -EBADMSG);
	ch->received++;
	return 0;
}
