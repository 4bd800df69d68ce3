#include "node/keep.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(KEEP_NONCE_BYTES == crypto_aead_xchacha20poly1305_ietf_NPUBBYTES, "nonce");
_Static_assert(AEAD_TAG_BYTES == crypto_aead_xchacha20poly1305_ietf_ABYTES, "tag");

static const uint8_t magic[KEEP_MAGIC_BYTES] = "MNKEEP1";

#define HEAD_BYTES (MESH_ID_BYTES + 8 + 4 + 6 * 4 + 4 + 4)
#define TRANSPORT_BYTES (4 + MESH_ID_BYTES + MESH_SECRET_BYTES + 1 + 2 + NET_ADDR_BYTES + 1)
#define RULE_BYTES 16

void keep_free(struct keep_state *k)
{
	if (k->transports)
		sodium_memzero(k->transports, k->transport_count * sizeof *k->transports);
	free(k->transports);
	free(k->rules);
	*k = (struct keep_state){0};
}

/* --- out ------------------------------------------------------------------------------------- */

size_t keep_encoded_size(const struct keep_state *k)
{
	size_t size = HEAD_BYTES + (size_t)k->rule_count * RULE_BYTES;

	for (uint32_t i = 0; i < k->transport_count; i++)
		size += TRANSPORT_BYTES + (size_t)k->transports[i].addr_count * NET_ADDR_BYTES;
	return size;
}

static void put_transport(struct wbuf *w, const struct keep_transport *t)
{
	wbuf_u32(w, t->id);
	wbuf_copy(w, t->peer.b, sizeof t->peer.b);
	wbuf_copy(w, t->secret, sizeof t->secret);
	wbuf_u8(w, t->initiator);
	wbuf_u16(w, t->port);
	net_addr_write(w, &t->remote);
	wbuf_u8(w, t->addr_count);
	for (uint8_t i = 0; i < t->addr_count; i++)
		net_addr_write(w, &t->addrs[i]);
}

static void put_rule(struct wbuf *w, const struct keep_rule *r)
{
	wbuf_u32(w, r->in_transport);
	wbuf_u32(w, r->in_route);
	wbuf_u32(w, r->out_transport);
	wbuf_u32(w, r->out_route);
}

void keep_encode(const struct keep_state *k, struct wbuf *w)
{
	const struct keep_settings *s = &k->settings;

	wbuf_copy(w, k->manager.b, sizeof k->manager.b);
	wbuf_u64(w, k->instance);
	wbuf_u32(w, k->starts);
	wbuf_u32(w, s->max_buffer);
	wbuf_u32(w, s->max_packet_size);
	wbuf_u32(w, s->time_unit_us);
	wbuf_u32(w, s->send_interval_us);
	wbuf_u32(w, s->connection_timeout_us);
	wbuf_u32(w, s->retransmit_limit);
	wbuf_u32(w, k->transport_count);
	wbuf_u32(w, k->rule_count);
	for (uint32_t i = 0; i < k->transport_count; i++)
		put_transport(w, &k->transports[i]);
	for (uint32_t i = 0; i < k->rule_count; i++)
		put_rule(w, &k->rules[i]);
}

/* --- in -------------------------------------------------------------------------------------- */

static void get_head(struct rbuf *r, struct keep_state *k)
{
	struct keep_settings *s = &k->settings;

	rbuf_copy(r, k->manager.b, sizeof k->manager.b);
	k->instance = rbuf_u64(r);
	k->starts = rbuf_u32(r);
	s->max_buffer = rbuf_u32(r);
	s->max_packet_size = rbuf_u32(r);
	s->time_unit_us = rbuf_u32(r);
	s->send_interval_us = rbuf_u32(r);
	s->connection_timeout_us = rbuf_u32(r);
	s->retransmit_limit = rbuf_u32(r);
}

/* Transports come in order of their numbers. */
static bool get_transport(struct rbuf *r, struct keep_transport *t, uint32_t above)
{
	uint8_t initiator;

	t->id = rbuf_u32(r);
	rbuf_copy(r, t->peer.b, sizeof t->peer.b);
	rbuf_copy(r, t->secret, sizeof t->secret);
	initiator = rbuf_u8(r);
	t->initiator = initiator != 0;
	t->port = rbuf_u16(r);
	net_addr_read(r, &t->remote);
	t->addr_count = rbuf_u8(r);
	if (r->bad || t->id <= above || initiator > 1 || !t->port || t->addr_count > ADDRS_MAX)
		return false;
	for (uint8_t i = 0; i < t->addr_count; i++)
		net_addr_read(r, &t->addrs[i]);
	return !r->bad;
}

static bool has_transport(const struct keep_state *k, uint32_t id)
{
	uint32_t lo = 0, hi = k->transport_count;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		if (k->transports[mid].id == id)
			return true;
		if (k->transports[mid].id < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	return id == 0;
}

static uint64_t rule_key(const struct keep_rule *r)
{
	return (uint64_t)r->in_transport << 32 | r->in_route;
}

/* In order of where they come in. */
static bool get_rules(struct rbuf *r, struct keep_state *k)
{
	for (uint32_t i = 0; i < k->rule_count; i++) {
		struct keep_rule *rule = &k->rules[i];
		rule->in_transport = rbuf_u32(r);
		rule->in_route = rbuf_u32(r);
		rule->out_transport = rbuf_u32(r);
		rule->out_route = rbuf_u32(r);
		if ((i && rule_key(rule) <= rule_key(rule - 1)) ||
		    !has_transport(k, rule->in_transport) || !has_transport(k, rule->out_transport))
			return false;
	}
	return true;
}

static bool get_transports(struct rbuf *r, struct keep_state *k)
{
	for (uint32_t i = 0; i < k->transport_count; i++)
		if (!get_transport(r, &k->transports[i], i ? k->transports[i - 1].id : 0))
			return false;
	return true;
}

/* Memory only for what the bytes can really hold. */
static int make_room(struct keep_state *k, struct rbuf *r)
{
	uint32_t transports = rbuf_u32(r), rules = rbuf_u32(r);
	uint64_t least = (uint64_t)transports * TRANSPORT_BYTES + (uint64_t)rules * RULE_BYTES;

	if (r->bad || least > rbuf_left(r))
		return -EBADMSG;
	k->transports = transports ? calloc(transports, sizeof *k->transports) : NULL;
	k->rules = rules ? calloc(rules, sizeof *k->rules) : NULL;
	if ((transports && !k->transports) || (rules && !k->rules))
		return -ENOMEM;
	k->transport_count = transports;
	k->rule_count = rules;
	return 0;
}

int keep_decode(struct keep_state *out, struct bytes plain)
{
	struct rbuf r = rbuf_init(plain.data, plain.len);
	struct keep_state k = {0};

	*out = k;
	get_head(&r, &k);
	int err = make_room(&k, &r);
	if (!err && (!get_transports(&r, &k) || !get_rules(&r, &k) || !rbuf_done(&r)))
		err = -EBADMSG;
	if (err)
		keep_free(&k);
	*out = k;
	return err;
}

/* --- the seal -------------------------------------------------------------------------------- */

static void key_derive(uint8_t key[32], const uint8_t secret[32])
{
	static const char purpose[] = "meshnet node state 1";

	crypto_generichash(key, 32, (const uint8_t *)purpose, sizeof purpose - 1, secret, 32);
}

int keep_seal(uint8_t *out, struct bytes plain, const uint8_t secret[32],
	      const uint8_t nonce[KEEP_NONCE_BYTES])
{
	uint8_t key[32];

	if (plain.len > KEEP_MAX_BYTES - KEEP_SEAL_BYTES)
		return -EINVAL;
	memcpy(out, magic, sizeof magic);
	memcpy(out + sizeof magic, nonce, KEEP_NONCE_BYTES);
	key_derive(key, secret);
	crypto_aead_xchacha20poly1305_ietf_encrypt(out + sizeof magic + KEEP_NONCE_BYTES, NULL,
						   plain.data, plain.len, magic, sizeof magic, NULL,
						   nonce, key);
	sodium_memzero(key, sizeof key);
	return 0;
}

int keep_open(uint8_t *out, size_t *len, struct bytes sealed, const uint8_t secret[32])
{
	uint8_t key[32];
	size_t head = sizeof magic + KEEP_NONCE_BYTES;

	if (sealed.len < KEEP_SEAL_BYTES || sealed.len > KEEP_MAX_BYTES ||
	    memcmp(sealed.data, magic, sizeof magic) != 0)
		return -EBADMSG;
	key_derive(key, secret);
	int err = crypto_aead_xchacha20poly1305_ietf_decrypt(out, NULL, NULL, sealed.data + head,
							     sealed.len - head, magic, sizeof magic,
							     sealed.data + sizeof magic, key);
	sodium_memzero(key, sizeof key);
	*len = sealed.len - KEEP_SEAL_BYTES;
	return err ? -EBADMSG : 0;
}
