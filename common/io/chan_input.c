/* What arrives: the handshake, frames, messages, and whose they are. */
#include "io/chan_int.h"

#include <errno.h>
#include <event2/buffer.h>
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "io/clock.h"
#include "wire/frame.h"

/* --- handshake ---------------------------------------------------------------------------- */

void chan_come_up(struct chan *ch)
{
	struct chan_group *g = ch->group;
	const struct mesh_id *peer = ch->encrypted ? &ch->peer : NULL;

	ch->phase = CHAN_HELLO;
	if (g->opt.cb.on_up)
		g->opt.cb.on_up(ch, peer);
}

int chan_send_handshake(struct chan *ch)
{
	uint8_t frame[FRAME_HEADER_BYTES + FRAME_HANDSHAKE_MAX_BYTES];
	long len = channel_output(&ch->noise, frame + FRAME_HEADER_BYTES);

	if (len <= 0)
		return (int)len;
	frame_header_put(frame, (size_t)len);
	if (evbuffer_add(ch->out, frame, FRAME_HEADER_BYTES + (size_t)len))
		return -ENOMEM;
	chan_output_added(ch);
	return 0;
}

static bool pinned(struct chan *ch)
{
	const struct chan_options *o = &ch->group->opt;
	const struct mesh_id *peer = channel_peer(&ch->noise);

	if (!ch->initiator || !peer || !o->pin)
		return true;
	struct mesh_id copy = *peer;
	return o->pin(o->arg, &copy);
}

static void shake(struct chan *ch, struct bytes body)
{
	int err = channel_input(&ch->noise, body);

	if (err) {
		chan_handshake_error(ch, err == -EACCES ? "its key is not the expected one"
							: "handshake failed");
		return;
	}
	bool accepted = pinned(ch);
	if (ch->phase == CHAN_DEAD)
		return;
	if (!accepted) {
		chan_handshake_error(ch, "its key was refused");
		return;
	}
	if (chan_send_handshake(ch)) {
		chan_handshake_error(ch, "handshake failed");
		return;
	}
	if (channel_is_up(&ch->noise)) {
		ch->peer = *channel_peer(&ch->noise);
		chan_come_up(ch);
	}
}

/* --- input -------------------------------------------------------------------------------- */

static size_t body_limit(const struct chan *ch)
{
	if (ch->encrypted)
		return channel_body_limit(&ch->noise);
	/* An app that has not registered yet has no business with large messages. */
	return ch->phase == CHAN_READY || ch->group->opt.max_body_bytes < FRAME_CONTROL_MAX_BYTES
		       ? ch->group->opt.max_body_bytes
		       : FRAME_CONTROL_MAX_BYTES;
}

static bool consumed_here(struct chan *ch, const struct msg *m)
{
	if (m->type == MSG_Ping) {
		if (m->seq)
			(void)chan_send_ack(ch, m->seq, CODE_OK, m->ping.nonce, "");
		return true;
	}
	return m->type == MSG_CommonAck && (m->seq & CHAN_PING_SEQ_BIT);
}

static void deliver(struct chan *ch, struct bytes body)
{
	struct chan_group *g = ch->group;
	enum msg_state state = ch->phase == CHAN_READY ? MSG_STATE_READY : MSG_STATE_HELLO;
	struct msg m;
	char what[CHAN_REASON_BYTES];

	if (msg_decode(&m, body)) {
		chan_protocol_error(ch, "a message does not decode");
		return;
	}
	if (consumed_here(ch, &m))
		return;
	if (!msg_allowed(m.type, g->opt.peer_role, state)) {
		snprintf(what, sizeof what, "%s is not allowed %s", msg_type_name(m.type),
			 state == MSG_STATE_HELLO ? "before registration" : "from this side");
		chan_protocol_error(ch, what);
		return;
	}
	if (g->opt.cb.on_msg)
		g->opt.cb.on_msg(ch, &m);
}

static void handle_body(struct chan *ch, uint8_t *data, size_t len)
{
	if (ch->phase == CHAN_SHAKING) {
		shake(ch, bytes_of(data, len));
		return;
	}
	if (ch->encrypted) {
		if (channel_open(&ch->noise, bytes_of(data, len), data)) {
			chan_protocol_error(ch, "a frame does not authenticate");
			return;
		}
		len -= CHANNEL_TAG_BYTES;
	}
	deliver(ch, bytes_of(data, len));
}

/* Handles one frame if a whole one is there; its bytes, 0 when there is none (or no channel any
 * more). */
static size_t take_frame(struct chan *ch, uint8_t *data, size_t len)
{
	struct bytes body;
	long whole = frame_parse(bytes_of(data, len), body_limit(ch), &body, &ch->need);

	if (whole < 0) {
		if (ch->phase == CHAN_SHAKING)
			chan_handshake_error(ch, "garbage instead of a handshake");
		else
			chan_protocol_error(ch, "a frame of impossible length");
		return 0;
	}
	if (whole > 0)
		handle_body(ch, data + FRAME_HEADER_BYTES, (size_t)whole - FRAME_HEADER_BYTES);
	return (size_t)whole;
}

static bool reads(const struct chan *ch)
{
	return (ch->phase == CHAN_SHAKING || chan_is_up(ch)) && !ch->paused && !ch->doom_reason;
}

size_t chan_handle(struct chan *ch, uint8_t *data, size_t len)
{
	size_t used = 0, n = 1;

	ch->need = 0;
	while (n && reads(ch))
		used += n = take_frame(ch, data + used, len - used);
	return used;
}

void chan_pause_input(struct chan *ch)
{
	if (ch->paused || !chan_is_up(ch))
		return;
	ch->paused = true;
	chan_set_reading(ch, false);
}

void chan_resume_input(struct chan *ch)
{
	if (!ch->paused || !chan_is_up(ch))
		return;
	ch->paused = false;
	ch->heard_us = daemon_now_us();
	chan_set_reading(ch, true);
	event_active(ch->later, EV_TIMEOUT, 0);
}
