/*
 * Where a SOCKS server lets its clients go: allowed networks are exceptions from denied ones, and
 * what is in neither is allowed.  Pure.  It is asked about every address right before it is used,
 * so a name that resolves to something else the next time gains nothing.
 */
#ifndef BASE_POLICY_H
#define BASE_POLICY_H

#include "base/prefix.h"

#define POLICY_NETS_MAX 128u
#define POLICY_LOCAL_MAX 512u

struct policy {
	struct net_prefix denied[POLICY_NETS_MAX], allowed[POLICY_NETS_MAX];
	unsigned denied_count, allowed_count;
	/* The networks of the host's own interfaces, as they are now; denied as well. */
	struct net_prefix local[POLICY_LOCAL_MAX];
	unsigned local_count;
};

/* Adds comma separated networks.  0, -EINVAL, -ENOSPC. */
int policy_deny(struct policy *p, const char *networks);
int policy_allow(struct policy *p, const char *networks);
/* A network of ours; a default route (0 bits) denies only the address itself.  False: no room. */
bool policy_add_local(struct policy *p, const struct net_prefix *own);
/* An IPv6 address that carries an IPv4 one (mapped, compatible, NAT64, 6to4) needs leave for both.
 */
bool policy_allows(const struct policy *p, const struct net_addr *a);
#endif
