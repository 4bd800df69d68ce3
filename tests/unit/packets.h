/* IP packets for tests of tunnels. */
#ifndef TESTS_PACKETS_H
#define TESTS_PACKETS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/addr.h"

#define PACKET_UDP 17
#define PACKET_ICMP 1
#define PACKET_ICMP6 58

static inline uint32_t packet_sum(const uint8_t *p, size_t len, uint32_t sum)
{
	for (size_t i = 0; i < len; i++)
		sum += i & 1 ? p[i] : (uint32_t)p[i] << 8;
	return sum;
}

static inline void packet_put_sum(uint8_t *at, uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	at[0] = (uint8_t)(~sum >> 8);
	at[1] = (uint8_t)~sum;
}

static inline void put16(uint8_t *p, size_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* The payload is at the end of the packet; returns the packet's length. */
static inline size_t packet_wrap(uint8_t *p, const struct net_addr *src, const struct net_addr *dst,
				 uint8_t proto, const uint8_t *payload, size_t len, size_t sum_at)
{
	size_t header = src->family == 4 ? 20 : 40, addr = src->family == 4 ? 4 : 16;
	uint8_t *body = p + header;

	memset(p, 0, header);
	memmove(body, payload, len);
	if (src->family == 4) {
		p[0] = 0x45;
		put16(p + 2, header + len);
		p[8] = 64;
		p[9] = proto;
	} else {
		p[0] = 0x60;
		put16(p + 4, len);
		p[6] = proto;
		p[7] = 64;
	}
	memcpy(p + header - 2 * addr, src->ip, addr);
	memcpy(p + header - addr, dst->ip, addr);
	if (src->family == 4)
		packet_put_sum(p + 10, packet_sum(p, header, 0));
	uint32_t sum = packet_sum(body, len, 0);
	if (proto != PACKET_ICMP)
		sum = packet_sum(p + header - 2 * addr, 2 * addr, sum) + proto + (uint32_t)len;
	packet_put_sum(body + sum_at, sum);
	return header + len;
}

static inline size_t packet_udp(uint8_t *p, const struct net_addr *src, const struct net_addr *dst,
				uint16_t sport, uint16_t dport)
{
	uint8_t body[8 + 32] = {0};

	put16(body, sport);
	put16(body + 2, dport);
	put16(body + 4, sizeof body);
	memset(body + 8, 'x', 32);
	return packet_wrap(p, src, dst, PACKET_UDP, body, sizeof body, 6);
}

static inline size_t packet_echo(uint8_t *p, const struct net_addr *src, const struct net_addr *dst,
				 uint16_t id)
{
	uint8_t body[8 + 16] = {0};

	body[0] = src->family == 4 ? 8 : 128;
	put16(body + 4, id);
	memset(body + 8, 'e', 16);
	return packet_wrap(p, src, dst, src->family == 4 ? PACKET_ICMP : PACKET_ICMP6, body,
			   sizeof body, 2);
}

/* The transport header of a packet that was received. */
static inline const uint8_t *packet_body(const uint8_t *p)
{
	return p + (p[0] >> 4 == 4 ? (p[0] & 15) * 4 : 40);
}

static inline uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}
#endif
