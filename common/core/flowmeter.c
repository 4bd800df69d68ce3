#include "core/flowmeter.h"

#include <sodium.h>
#include <string.h>

#define IP4_HEADER_BYTES 20u
#define IP6_HEADER_BYTES 40u
#define PORTS_BYTES 4u
#define TCP 6
#define UDP 17

/* Addresses, protocol, ports; what a packet lacks is 0. */
struct flow {
	uint8_t addrs[32], ports[PORTS_BYTES], protocol;
};
_Static_assert(sizeof(struct flow) == 37, "hashed as bytes");
_Static_assert(crypto_shorthash_KEYBYTES == FLOWMETER_KEY_BYTES, "the key is the hash's");

void flowmeter_init(struct flowmeter *m, const uint8_t key[FLOWMETER_KEY_BYTES])
{
	memset(m, 0, sizeof *m);
	memcpy(m->key, key, sizeof m->key);
}

/* Ports stand in the first fragment only, so fragments are told apart by their addresses. */
static void read_flow(struct flow *f, const uint8_t *p, size_t len)
{
	bool v6 = p[0] >> 4 == 6;
	size_t header = v6 ? IP6_HEADER_BYTES : (p[0] & 15u) * 4u;
	bool fragment = !v6 && ((p[6] & 0x3f) || p[7]);

	memset(f, 0, sizeof *f);
	memcpy(f->addrs, p + (v6 ? 8 : 12), v6 ? 32 : 8);
	f->protocol = v6 ? p[6] : p[9];
	if ((f->protocol == TCP || f->protocol == UDP) && !fragment && len >= header + PORTS_BYTES)
		memcpy(f->ports, p + header, PORTS_BYTES);
}

/* True when this slot's flows send much. */
static bool count(struct flowmeter_slot *s, size_t len, uint32_t tick)
{
	uint32_t passed = tick - s->tick, before = passed < 31 ? (uint32_t)s->bytes >> passed : 0;
	uint32_t bytes = before + (uint32_t)(len < UINT16_MAX ? len : UINT16_MAX);

	s->tick = tick;
	s->bytes = (bytes < 1u << 30 ? bytes : 1u << 30) & 0x7fffffffu;
	if (bytes > FLOWMETER_BULK_BYTES)
		s->bulk = 1;
	else if (before < FLOWMETER_CALM_BYTES)
		s->bulk = 0;
	return s->bulk;
}

bool flowmeter_sparse(struct flowmeter *m, const uint8_t *packet, size_t len, uint64_t now)
{
	uint32_t tick = (uint32_t)(now / FLOWMETER_HALF_LIFE_US);
	uint8_t hash[crypto_shorthash_BYTES];
	struct flow f;

	if (len < IP4_HEADER_BYTES || (packet[0] >> 4 == 6 && len < IP6_HEADER_BYTES))
		return false;
	read_flow(&f, packet, len);
	crypto_shorthash(hash, (const uint8_t *)&f, sizeof f, m->key);
	bool first = count(&m->slots[0][hash[0] % FLOWMETER_SLOTS], len, tick);
	bool second = count(&m->slots[1][hash[1] % FLOWMETER_SLOTS], len, tick);
	return !(first && second) && len <= FLOWMETER_PACKET_BYTES;
}
