/*
 * What handshakes of a transport cost the responder: good ones, each a new attempt of a peer it
 * knows; bogus ones from who lacks the secret; and the same packet again.
 */
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "core/handshake.h"

#define ATTEMPTS 4096
#define BOGUS 2000000

struct init_packet {
	size_t len;
	uint8_t bytes[HANDSHAKE_PACKET_MAX];
};

struct pair {
	struct handshake initiator, responder;
};

static void pair_init(struct pair *p)
{
	uint8_t secret[2][32], psk[MESH_SECRET_BYTES];
	struct mesh_id id[2];

	randombytes_buf(psk, sizeof psk);
	for (int i = 0; i < 2; i++) {
		randombytes_buf(secret[i], sizeof secret[i]);
		crypto_scalarmult_base(id[i].b, secret[i]);
	}
	handshake_init(&p->initiator, 1, secret[0], &id[1], psk);
	handshake_init(&p->responder, 1, secret[1], &id[0], psk);
}

static bool make_packets(struct pair *p, struct init_packet *v, size_t n)
{
	uint8_t ephemeral[32];
	for (size_t i = 0; i < n; i++) {
		randombytes_buf(ephemeral, sizeof ephemeral);
		if (handshake_initiate(&p->initiator, (uint8_t)i, ephemeral))
			return false;
		v[i].len = p->initiator.packet_len;
		memcpy(v[i].bytes, p->initiator.packet, v[i].len);
	}
	return true;
}

static bool measure_good(struct pair *p, const struct init_packet *v, size_t n)
{
	struct hop_keys keys;
	uint8_t ephemeral[32];
	double begin = cpu_seconds();

	for (size_t i = 0; i < n; i++) {
		randombytes_buf(ephemeral, sizeof ephemeral);
		if (handshake_respond(&p->responder, (struct bytes){v[i].bytes, v[i].len},
				      ephemeral, &keys))
			return false;
	}
	print_result("handshakes at the responder, one core", (double)n / (cpu_seconds() - begin),
		     "a second");
	return true;
}

static bool measure_refused(struct pair *p, struct init_packet *packet, int want, const char *name)
{
	struct hop_keys keys;
	uint8_t ephemeral[32] = {1};
	double begin = cpu_seconds();

	for (int i = 0; i < BOGUS; i++)
		if (handshake_respond(&p->responder, (struct bytes){packet->bytes, packet->len},
				      ephemeral, &keys) != want)
			return false;
	print_result(name, BOGUS / (cpu_seconds() - begin), "a second");
	return true;
}

int main(void)
{
	struct pair *p = calloc(1, sizeof *p);
	struct init_packet *v = calloc(ATTEMPTS, sizeof *v);

	if (!p || !v || sodium_init() < 0)
		return 1;
	pair_init(p);
	bool ok = make_packets(p, v, ATTEMPTS) && measure_good(p, v, ATTEMPTS);
	struct init_packet *last = &v[ATTEMPTS - 1];
	ok = ok && measure_refused(p, last, -EALREADY, "repeated handshakes answered, one core");
	last->bytes[last->len - 1] ^= 1;
	ok = ok && measure_refused(p, last, -EBADMSG, "bogus handshakes refused, one core");
	if (!ok)
		fprintf(stderr, "handshakes: an answer was not the expected one\n");
	handshake_wipe(&p->initiator);
	handshake_wipe(&p->responder);
	free(p);
	free(v);
	return ok ? 0 : 1;
}
