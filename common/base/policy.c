#include "base/policy.h"

#include <errno.h>
#include <string.h>

static int add(struct net_prefix *v, unsigned *count, const char *text)
{
	int n = net_prefix_parse_list(v + *count, POLICY_NETS_MAX - *count, text);

	if (n < 0)
		return n;
	*count += (unsigned)n;
	return 0;
}

int policy_deny(struct policy *p, const char *networks)
{
	return add(p->denied, &p->denied_count, networks);
}

int policy_allow(struct policy *p, const char *networks)
{
	return add(p->allowed, &p->allowed_count, networks);
}

bool policy_add_local(struct policy *p, const struct net_prefix *own)
{
	struct net_prefix v = *own;

	if (p->local_count == POLICY_LOCAL_MAX)
		return false;
	if (v.bits == 0)
		v.bits = v.addr.family == 4 ? 32 : 128;
	p->local[p->local_count++] = v;
	return true;
}

static bool any_contains(const struct net_prefix *v, unsigned count, const struct net_addr *a)
{
	for (unsigned i = 0; i < count; i++)
		if (net_prefix_contains(&v[i], a))
			return true;
	return false;
}

static bool allows(const struct policy *p, const struct net_addr *a)
{
	return any_contains(p->allowed, p->allowed_count, a) ||
	       (!any_contains(p->denied, p->denied_count, a) &&
		!any_contains(p->local, p->local_count, a));
}

/* The IPv4 address inside an IPv6 one; family 0 when there is none. */
static struct net_addr embedded(const struct net_addr *a)
{
	static const struct {
		uint8_t prefix[12];
		unsigned bytes, at;
	} kinds[] = {
		{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, 12, 12}, /* mapped */
		{{0}, 12, 12},					      /* compatible */
		{{0, 0x64, 0xff, 0x9b}, 12, 12},		      /* NAT64, RFC 6052 */
		{{0x20, 0x02}, 2, 2},				      /* 6to4, RFC 3056 */
	};
	struct net_addr v4 = {.port = a->port};

	for (unsigned i = 0; a->family == 6 && i < sizeof kinds / sizeof *kinds; i++) {
		if (memcmp(a->ip, kinds[i].prefix, kinds[i].bytes) != 0)
			continue;
		memcpy(v4.ip, a->ip + kinds[i].at, 4);
		/* :: and ::1 are themselves. */
		v4.family = i == 1 && !v4.ip[0] && !v4.ip[1] && !v4.ip[2] && v4.ip[3] < 2 ? 0 : 4;
		break;
	}
	return v4;
}

bool policy_allows(const struct policy *p, const struct net_addr *a)
{
	struct net_addr v4 = embedded(a);

	return a->family && allows(p, a) && (!v4.family || allows(p, &v4));
}
