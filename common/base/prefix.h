/* Address prefixes ("10.0.0.0/8", "fd00::/8") as plain values. */
#ifndef BASE_PREFIX_H
#define BASE_PREFIX_H

#include "base/addr.h"

#define NET_PREFIX_TEXT (NET_ADDR_TEXT + 4)

struct net_prefix {
	struct net_addr addr; /* port unused; family 0: no prefix */
	uint8_t bits;
};

/* "10.0.0.0/8"; without "/n" it is a single address.  Host bits are kept.  -EINVAL. */
int net_prefix_parse(struct net_prefix *p, const char *text);
/* Returns `out`. */
const char *net_prefix_text(const struct net_prefix *p, char out[NET_PREFIX_TEXT]);
bool net_prefix_contains(const struct net_prefix *p, const struct net_addr *a);
/* The same with all host bits zero. */
struct net_prefix net_prefix_network(const struct net_prefix *p);
/* A comma or space separated list; 0 entries for an empty text.  Returns the count, -EINVAL, or
 * -ENOSPC when there are more than `max`. */
int net_prefix_parse_list(struct net_prefix *out, size_t max, const char *text);
#endif
