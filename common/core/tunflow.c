#include "core/tunflow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define IPV4_HEADER 20u
#define IPV6_HEADER 40u
#define TCP_HEADER 20u
#define UDP_HEADER 8u
#define ICMP_HEADER 8u
#define ENDS_KEY 37 /* family, two addresses, two ports */
#define TTL 64
/* What is over is kept beside the live ones, up to as many again. */
#define OVER_MAX(max) ((max) + 256u)

/* ---- packets ---- */

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static void put16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void set_ip(struct net_addr *a, uint8_t family, const uint8_t *ip)
{
	*a = (struct net_addr){.family = family};
	memcpy(a->ip, ip, family == 4 ? 4 : 16);
}

static int parse_ipv4(const uint8_t *packet, size_t len, struct tunflow_packet *out)
{
	if (len < IPV4_HEADER || get16(packet + 2) != len)
		return -EINVAL;
	out->l4 = (size_t)(packet[0] & 15) * 4;
	if (out->l4 < IPV4_HEADER || out->l4 > len)
		return -EINVAL;
	if (get16(packet + 6) & 0x3fff) /* more fragments, or a place in the whole */
		return -EOPNOTSUPP;
	out->protocol = packet[9];
	set_ip(&out->src, 4, packet + 12);
	set_ip(&out->dst, 4, packet + 16);
	return out->protocol == TUNFLOW_ICMP6 ? -EOPNOTSUPP : 0;
}

static int parse_ipv6(const uint8_t *packet, size_t len, struct tunflow_packet *out)
{
	if (len < IPV6_HEADER || (size_t)get16(packet + 4) + IPV6_HEADER != len)
		return -EINVAL;
	out->l4 = IPV6_HEADER;
	out->protocol = packet[6];
	set_ip(&out->src, 6, packet + 8);
	set_ip(&out->dst, 6, packet + 24);
	return out->protocol == TUNFLOW_ICMP ? -EOPNOTSUPP : 0;
}

static int parse_tcp(const uint8_t *packet, size_t len, struct tunflow_packet *out)
{
	const uint8_t *tcp = packet + out->l4;

	if (len - out->l4 < TCP_HEADER)
		return -EINVAL;
	size_t header = (size_t)(tcp[12] >> 4) * 4;
	if (header < TCP_HEADER || header > len - out->l4)
		return -EINVAL;
	out->tcp_flags = tcp[13];
	out->payload = out->l4 + header;
	return 0;
}

static int parse_udp(const uint8_t *packet, size_t len, struct tunflow_packet *out)
{
	if (len - out->l4 < UDP_HEADER || get16(packet + out->l4 + 4) != len - out->l4)
		return -EINVAL;
	out->payload = out->l4 + UDP_HEADER;
	return 0;
}

int tunflow_parse(const uint8_t *packet, size_t len, struct tunflow_packet *out)
{
	int rc = -EINVAL;

	*out = (struct tunflow_packet){.end = len};
	if (len > 0 && packet[0] >> 4 == 4)
		rc = parse_ipv4(packet, len, out);
	else if (len > 0 && packet[0] >> 4 == 6)
		rc = parse_ipv6(packet, len, out);
	if (rc)
		return rc;
	switch (out->protocol) {
	case TUNFLOW_TCP:
		rc = parse_tcp(packet, len, out);
		break;
	case TUNFLOW_UDP:
		rc = parse_udp(packet, len, out);
		break;
	case TUNFLOW_ICMP:
	case TUNFLOW_ICMP6:
		out->payload = out->l4 + ICMP_HEADER;
		return len - out->l4 < ICMP_HEADER ? -EINVAL : 0;
	default:
		return -EOPNOTSUPP;
	}
	if (!rc) {
		out->src.port = get16(packet + out->l4);
		out->dst.port = get16(packet + out->l4 + 2);
	}
	return rc;
}

static uint32_t sum_of(const uint8_t *p, size_t len, uint32_t sum)
{
	for (; len > 1; p += 2, len -= 2)
		sum += get16(p);
	return len ? sum + ((uint32_t)p[0] << 8) : sum;
}

static uint16_t fold(uint32_t sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

/* RFC 1624 (eqn. 3) for `len` bytes that are replaced. */
static void replace(uint8_t *check, uint8_t *at, const uint8_t *by, size_t len)
{
	uint32_t sum = (uint16_t)~get16(check);

	for (size_t i = 0; i < len; i += 2)
		sum += (uint16_t)~get16(at + i);
	put16(check, (uint16_t)~fold(sum_of(by, len, sum)));
}

static void new_address(uint8_t *packet, const struct tunflow_packet *p, size_t at,
			const struct net_addr *a)
{
	size_t len = a->family == 4 ? 4 : 16;

	replace(packet + p->l4 + 16, packet + at, a->ip, len);
	if (a->family == 4)
		replace(packet + 10, packet + at, a->ip, len);
	memcpy(packet + at, a->ip, len);
}

static void new_port(uint8_t *packet, const struct tunflow_packet *p, size_t at, uint16_t port)
{
	uint8_t by[2];

	put16(by, port);
	replace(packet + p->l4 + 16, packet + p->l4 + at, by, 2);
	memcpy(packet + p->l4 + at, by, 2);
}

void tunflow_readdress(uint8_t *packet, const struct tunflow_packet *p, const struct net_addr *src,
		       const struct net_addr *dst)
{
	bool v4 = p->src.family == 4;

	if (p->protocol != TUNFLOW_TCP || src->family != p->src.family ||
	    dst->family != p->src.family)
		return;
	new_address(packet, p, v4 ? 12 : 8, src);
	new_address(packet, p, v4 ? 16 : 24, dst);
	new_port(packet, p, 0, src->port);
	new_port(packet, p, 2, dst->port);
}

/* The IP header with its checksum; the sum of the pseudo header. */
static uint32_t ip_header(uint8_t *out, uint8_t protocol, const struct net_addr *src,
			  const struct net_addr *dst, size_t l4_len)
{
	size_t ip = src->family == 4 ? 4 : 16;
	uint32_t sum = (uint32_t)protocol + (uint32_t)l4_len;

	if (src->family == 4) {
		memset(out, 0, IPV4_HEADER);
		out[0] = 0x45;
		put16(out + 2, (uint16_t)(IPV4_HEADER + l4_len));
		put16(out + 6, 0x4000);
		out[8] = TTL;
		out[9] = protocol;
		memcpy(out + 12, src->ip, 4);
		memcpy(out + 16, dst->ip, 4);
		put16(out + 10, (uint16_t)~fold(sum_of(out, IPV4_HEADER, 0)));
	} else {
		memset(out, 0, IPV6_HEADER);
		out[0] = 0x60;
		put16(out + 4, (uint16_t)l4_len);
		out[6] = protocol;
		out[7] = TTL;
		memcpy(out + 8, src->ip, 16);
		memcpy(out + 24, dst->ip, 16);
	}
	return sum_of(dst->ip, ip, sum_of(src->ip, ip, sum));
}

size_t tunflow_refuse(uint8_t out[TUNFLOW_HEADERS_MAX], const uint8_t *packet,
		      const struct tunflow_packet *p)
{
	size_t header = p->src.family == 4 ? IPV4_HEADER : IPV6_HEADER;
	uint32_t sum = ip_header(out, TUNFLOW_TCP, &p->dst, &p->src, TCP_HEADER);
	uint8_t *tcp = out + header;

	memset(tcp, 0, TCP_HEADER);
	put16(tcp, p->dst.port);
	put16(tcp + 2, p->src.port);
	tcp[12] = TCP_HEADER / 4 << 4;
	tcp[13] = TUNFLOW_RST;
	if (p->tcp_flags & TUNFLOW_ACK) {
		be32_put(tcp + 4, be32_get(packet + p->l4 + 8));
	} else {
		tcp[13] |= TUNFLOW_ACK;
		be32_put(tcp + 8, be32_get(packet + p->l4 + 4) + 1);
	}
	put16(tcp + 16, (uint16_t)~fold(sum_of(tcp, TCP_HEADER, sum)));
	return header + TCP_HEADER;
}

bool tunflow_echo(uint8_t *packet, const struct tunflow_packet *p)
{
	bool v4 = p->protocol == TUNFLOW_ICMP;
	uint8_t *icmp = packet + p->l4, ip[16], type[2];
	size_t at = v4 ? 12 : 8, len = v4 ? 4 : 16;

	if ((!v4 && p->protocol != TUNFLOW_ICMP6) || icmp[0] != (v4 ? 8 : 128) || icmp[1])
		return false;
	type[0] = v4 ? 0 : 129;
	type[1] = 0;
	replace(icmp + 2, icmp, type, 2);
	icmp[0] = type[0];
	/* Sums do not know an order. */
	memcpy(ip, packet + at, len);
	memcpy(packet + at, packet + at + len, len);
	memcpy(packet + at + len, ip, len);
	return true;
}

size_t tunflow_datagram(uint8_t *out, size_t size, const struct net_addr *src,
			const struct net_addr *dst, struct bytes payload)
{
	size_t header = src->family == 4 ? IPV4_HEADER : IPV6_HEADER;
	size_t room = 65535u - UDP_HEADER - (src->family == 4 ? IPV4_HEADER : 0);

	if (!src->family || src->family != dst->family || payload.len > room ||
	    size < header + UDP_HEADER || payload.len > size - header - UDP_HEADER)
		return 0;
	uint32_t sum = ip_header(out, TUNFLOW_UDP, src, dst, UDP_HEADER + payload.len);
	uint8_t *udp = out + header;
	put16(udp, src->port);
	put16(udp + 2, dst->port);
	put16(udp + 4, (uint16_t)(UDP_HEADER + payload.len));
	put16(udp + 6, 0);
	if (payload.len)
		memmove(udp + UDP_HEADER, payload.data, payload.len);
	uint16_t check = (uint16_t)~fold(sum_of(udp, UDP_HEADER + payload.len, sum));
	put16(udp + 6, check ? check : 0xffff);
	return header + UDP_HEADER + payload.len;
}

/* ---- flows ---- */

static void ends_key(uint8_t key[ENDS_KEY], const struct net_addr *app,
		     const struct net_addr *remote)
{
	key[0] = app->family;
	memcpy(key + 1, app->ip, 16);
	put16(key + 17, app->port);
	memcpy(key + 19, remote->ip, 16);
	put16(key + 35, remote->port);
}

int tunflow_table_init(struct tunflow_table *t, size_t max, uint64_t seed)
{
	*t = (struct tunflow_table){.max = max < TUNFLOW_MAX - 256u ? max : TUNFLOW_MAX - 256u};
	TAILQ_INIT(&t->live);
	TAILQ_INIT(&t->over);
	map_init(&t->by_ends, ENDS_KEY, t->max + OVER_MAX(t->max), seed);
	t->by_port = calloc(TUNFLOW_PORTS, sizeof(struct tunflow *));
	return t->by_port ? 0 : -ENOMEM;
}

static struct tunflow_list *list_of(struct tunflow_table *t, const struct tunflow *f)
{
	return f->over ? &t->over : &t->live;
}

void tunflow_close(struct tunflow_table *t, struct tunflow *f)
{
	uint8_t key[ENDS_KEY];

	ends_key(key, &f->app, &f->remote);
	map_del(&t->by_ends, key);
	t->by_port[f->port - TUNFLOW_PORT_FIRST] = NULL;
	TAILQ_REMOVE(list_of(t, f), f, link);
	t->count--;
	if (!f->over)
		t->live_count--;
	free(f);
}

void tunflow_table_free(struct tunflow_table *t)
{
	struct tunflow *f;

	if (!t->by_port)
		return;
	while ((f = TAILQ_FIRST(&t->live)) || (f = TAILQ_FIRST(&t->over)))
		tunflow_close(t, f);
	map_free(&t->by_ends);
	free(t->by_port);
	t->by_port = NULL;
}

struct tunflow *tunflow_find(const struct tunflow_table *t, const struct net_addr *app,
			     const struct net_addr *remote)
{
	uint8_t key[ENDS_KEY];

	ends_key(key, app, remote);
	return map_get(&t->by_ends, key);
}

struct tunflow *tunflow_by_port(const struct tunflow_table *t, uint16_t port)
{
	return port < TUNFLOW_PORT_FIRST || port >= TUNFLOW_PORT_FIRST + TUNFLOW_PORTS
		       ? NULL
		       : t->by_port[port - TUNFLOW_PORT_FIRST];
}

/* There are fewer flows than ports: it ends. */
static uint16_t free_port(struct tunflow_table *t)
{
	while (t->by_port[t->next % TUNFLOW_PORTS])
		t->next++;
	return (uint16_t)(TUNFLOW_PORT_FIRST + t->next++ % TUNFLOW_PORTS);
}

static void make_room(struct tunflow_table *t, const struct net_addr *app,
		      const struct net_addr *remote)
{
	struct tunflow *old = tunflow_find(t, app, remote);

	if (old && old->over)
		tunflow_close(t, old);
	if (t->count - t->live_count >= OVER_MAX(t->max))
		tunflow_close(t, TAILQ_FIRST(&t->over));
}

struct tunflow *tunflow_open(struct tunflow_table *t, const struct net_addr *app,
			     const struct net_addr *remote, uint64_t now_us)
{
	uint8_t key[ENDS_KEY];
	struct tunflow *f;

	make_room(t, app, remote);
	if (t->live_count >= t->max || tunflow_find(t, app, remote))
		return NULL;
	f = calloc(1, sizeof *f);
	if (!f)
		return NULL;
	ends_key(key, app, remote);
	if (map_put(&t->by_ends, key, f)) {
		free(f);
		return NULL;
	}
	f->app = *app;
	f->remote = *remote;
	f->last_us = now_us;
	f->port = free_port(t);
	t->by_port[f->port - TUNFLOW_PORT_FIRST] = f;
	TAILQ_INSERT_TAIL(&t->live, f, link);
	t->count++;
	t->live_count++;
	return f;
}

void tunflow_touch(struct tunflow_table *t, struct tunflow *f, uint64_t now_us)
{
	f->last_us = now_us;
	TAILQ_REMOVE(list_of(t, f), f, link);
	TAILQ_INSERT_TAIL(list_of(t, f), f, link);
}

void tunflow_end(struct tunflow_table *t, struct tunflow *f, uint64_t now_us)
{
	if (f->over)
		return;
	TAILQ_REMOVE(&t->live, f, link);
	t->live_count--;
	f->over = true;
	f->owner = NULL;
	f->last_us = now_us;
	TAILQ_INSERT_TAIL(&t->over, f, link);
}

void tunflow_sweep(struct tunflow_table *t, uint64_t before_us)
{
	struct tunflow *f;

	while ((f = TAILQ_FIRST(&t->over)) && f->last_us < before_us)
		tunflow_close(t, f);
}
