#include "core/handshake.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#define PROLOGUE_TEXT "meshnet transport 1"
#define PROLOGUE_BYTES (sizeof PROLOGUE_TEXT - 1 + 4 + 8 + 1)
#define PAYLOAD_BYTES 9 /* version, life */

void handshake_init(struct handshake *h, uint32_t transport, const uint8_t local_secret[32],
		    const struct mesh_id *remote, const uint8_t psk[MESH_SECRET_BYTES])
{
	memset(h, 0, sizeof *h);
	noise_keypair_from_secret(&h->local, local_secret);
	h->remote = *remote;
	h->transport = transport;
	memcpy(h->psk, psk, sizeof h->psk);
	hopkey_derive(&h->outer, psk, "outer");
}

void handshake_wipe(struct handshake *h)
{
	noise_wipe(&h->noise);
	sodium_memzero(h, sizeof *h);
}

/* The hop header's fields are part of the prologue, so that nobody can move a message elsewhere. */
static int start_noise(struct noise *n, const struct handshake *h, bool initiator, uint64_t attempt,
		       uint8_t epoch, const uint8_t ephemeral[32])
{
	uint8_t prologue[PROLOGUE_BYTES];
	struct wbuf w = wbuf_init(prologue, sizeof prologue);

	wbuf_copy(&w, PROLOGUE_TEXT, sizeof PROLOGUE_TEXT - 1);
	wbuf_u32(&w, h->transport);
	wbuf_u64(&w, attempt);
	wbuf_u8(&w, epoch);
	return noise_init(n, &(struct noise_params){
				     .pattern = NOISE_KKPSK0,
				     .initiator = initiator,
				     .prologue = bytes_of(prologue, sizeof prologue),
				     .local = &h->local,
				     .remote = h->remote.b,
				     .psk = h->psk,
				     .ephemeral = ephemeral,
			     });
}

/* Appends the noise message to the header space and seals the packet. */
static int build_packet(struct handshake *h, struct noise *n, uint8_t type, uint64_t attempt,
			uint8_t epoch, uint8_t packet[HANDSHAKE_PACKET_MAX], size_t *len)
{
	struct wbuf w = wbuf_init(packet, HANDSHAKE_PACKET_MAX);
	uint8_t payload[PAYLOAD_BYTES];
	struct wbuf pw = wbuf_init(payload, sizeof payload);

	wbuf_u8(&pw, PROTOCOL_VERSION);
	wbuf_u64(&pw, h->life);
	wbuf_space(&w, HOP_HEADER_BYTES);
	int err = noise_write(n, bytes_of(payload, sizeof payload), &w);
	if (err)
		return err;
	struct hop_header header = {
		.type = type, .epoch = epoch, .label = h->transport, .seq = attempt};
	*len = wbuf_len(&w);
	hopkey_seal(&h->outer, packet, *len, &header);
	return 0;
}

static int read_packet(struct noise *n, struct bytes packet, uint64_t *life)
{
	uint8_t payload[PAYLOAD_BYTES];
	size_t len;
	struct bytes message = {packet.data + HOP_HEADER_BYTES, packet.len - HOP_HEADER_BYTES};

	if (noise_read(n, message, payload, sizeof payload, &len) != 0 || len != sizeof payload ||
	    payload[0] != PROTOCOL_VERSION)
		return -EBADMSG;
	*life = be64_get(payload + 1);
	return 0;
}

static void take_keys(struct noise *n, uint8_t epoch, uint64_t life, struct hop_keys *out)
{
	struct noise_keys keys;
	noise_split(n, &keys);
	out->valid = true;
	out->epoch = epoch;
	out->life = life;
	hopkey_derive(&out->tx, keys.send, "hop");
	hopkey_derive(&out->rx, keys.receive, "hop");
	sodium_memzero(&keys, sizeof keys);
	noise_wipe(n);
}

int handshake_initiate(struct handshake *h, uint8_t epoch, const uint8_t ephemeral[32])
{
	struct noise n;
	int err = start_noise(&n, h, true, h->attempt + 1, epoch, ephemeral);

	if (!err)
		err = build_packet(h, &n, PACKET_HANDSHAKE_INIT, h->attempt + 1, epoch, h->packet,
				   &h->packet_len);
	if (!err) {
		h->noise = n;
		h->attempt++;
		h->epoch = epoch;
		h->active = true;
	}
	noise_wipe(&n);
	return err;
}

/* Everything that can be checked without public-key work. */
static int check_outer(const struct handshake *h, struct bytes packet, struct hop_header *header)
{
	if (packet.len > HANDSHAKE_PACKET_MAX || hop_header_read(header, packet) != 0 ||
	    header->label != h->transport)
		return -EBADMSG;
	return hopkey_verify(&h->outer, packet.data, packet.len, header) ? 0 : -EBADMSG;
}

int handshake_respond(struct handshake *h, struct bytes packet, const uint8_t ephemeral[32],
		      struct hop_keys *keys)
{
	struct hop_header header;
	struct noise n;
	uint8_t answer[HANDSHAKE_PACKET_MAX];
	size_t answer_len;
	uint64_t life;

	if (check_outer(h, packet, &header) != 0)
		return -EBADMSG;
	if (h->active && header.seq == h->attempt && header.mac == h->init_mac)
		return -EALREADY;
	if (header.seq <= h->attempt)
		return -EBADMSG; /* a replay, or overtaken by a newer attempt */
	int err = start_noise(&n, h, false, header.seq, header.epoch, ephemeral);
	if (!err)
		err = read_packet(&n, packet, &life);
	if (!err)
		err = build_packet(h, &n, PACKET_HANDSHAKE_RESPONSE, header.seq, header.epoch,
				   answer, &answer_len);
	if (!err) {
		memcpy(h->packet, answer, answer_len);
		h->packet_len = answer_len;
		h->attempt = header.seq;
		h->epoch = header.epoch;
		h->init_mac = header.mac;
		h->active = true;
		take_keys(&n, header.epoch, life, keys);
	}
	noise_wipe(&n);
	return err ? -EBADMSG : 0;
}

int handshake_finish(struct handshake *h, struct bytes packet, struct hop_keys *keys)
{
	struct hop_header header;
	uint64_t life;

	if (!h->active || check_outer(h, packet, &header) != 0 || header.seq != h->attempt ||
	    header.epoch != h->epoch || read_packet(&h->noise, packet, &life) != 0)
		return -EBADMSG;
	take_keys(&h->noise, h->epoch, life, keys);
	h->active = false;
	return 0;
}

void handshake_want(const struct handshake *h, uint8_t packet[HOP_HEADER_BYTES])
{
	struct hop_header header = {.type = PACKET_HANDSHAKE_WANTED, .label = h->transport};

	hopkey_seal(&h->outer, packet, HOP_HEADER_BYTES, &header);
}

bool handshake_is_wanted(const struct handshake *h, struct bytes packet)
{
	struct hop_header header;

	return packet.len == HOP_HEADER_BYTES && check_outer(h, packet, &header) == 0;
}
