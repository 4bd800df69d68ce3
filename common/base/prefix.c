#include "base/prefix.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned family_bits(const struct net_addr *a)
{
	return a->family == 4 ? 32 : 128;
}

int net_prefix_parse(struct net_prefix *p, const char *text)
{
	char ip[NET_ADDR_TEXT];
	const char *slash = strchr(text, '/');
	size_t len = slash ? (size_t)(slash - text) : strlen(text);
	struct net_prefix v = {0};
	unsigned long bits;

	if (len >= sizeof ip)
		return -EINVAL;
	memcpy(ip, text, len);
	ip[len] = '\0';
	if (net_addr_parse(&v.addr, ip, 0) || v.addr.port)
		return -EINVAL;
	bits = family_bits(&v.addr);
	if (slash) {
		char *end;
		if (slash[1] < '0' || slash[1] > '9')
			return -EINVAL;
		bits = strtoul(slash + 1, &end, 10);
		if (*end || bits > family_bits(&v.addr))
			return -EINVAL;
	}
	v.bits = (uint8_t)bits;
	*p = v;
	return 0;
}

const char *net_prefix_text(const struct net_prefix *p, char out[NET_PREFIX_TEXT])
{
	char ip[NET_ADDR_TEXT];

	net_addr_ip_text(&p->addr, ip);
	if (p->addr.family == 0)
		snprintf(out, NET_PREFIX_TEXT, "none");
	else
		snprintf(out, NET_PREFIX_TEXT, "%s/%u", ip, p->bits);
	return out;
}

bool net_prefix_contains(const struct net_prefix *p, const struct net_addr *a)
{
	return a->family != 0 && net_addr_same_prefix(&p->addr, a, p->bits);
}

struct net_prefix net_prefix_network(const struct net_prefix *p)
{
	struct net_prefix v = *p;

	v.addr.port = 0;
	for (unsigned i = 0; i < sizeof v.addr.ip; i++) {
		unsigned first = i * 8;
		if (first >= v.bits)
			v.addr.ip[i] = 0;
		else if (v.bits - first < 8)
			v.addr.ip[i] &= (uint8_t)(0xff00u >> (v.bits - first));
	}
	return v;
}

int net_prefix_parse_list(struct net_prefix *out, size_t max, const char *text)
{
	size_t n = 0;

	for (;;) {
		char item[NET_PREFIX_TEXT];
		text += strspn(text, ", \t");
		size_t len = strcspn(text, ", \t");
		if (len == 0)
			return (int)n;
		if (len >= sizeof item)
			return -EINVAL;
		if (n == max)
			return -ENOSPC;
		memcpy(item, text, len);
		item[len] = '\0';
		if (net_prefix_parse(&out[n], item))
			return -EINVAL;
		n++;
		text += len;
	}
}
