/* Internet addresses as plain values: no socket type enters the sans-I/O layers. */
#ifndef BASE_ADDR_H
#define BASE_ADDR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

#define NET_ADDR_TEXT 56  /* "[v6]:port" and the NUL */
#define NET_NAME_TEXT 254 /* a host's name and the NUL */
#define NET_LABEL_MAX 63
#define NET_ADDR_BYTES 19 /* on the wire: family, 16 address bytes, port */

struct net_addr {
	uint8_t family; /* 4, 6, or 0 for none */
	uint8_t ip[16]; /* IPv4 in the first four bytes, the rest zero */
	uint16_t port;
};

bool net_addr_equal(const struct net_addr *a, const struct net_addr *b);
bool net_addr_same_ip(const struct net_addr *a, const struct net_addr *b);
bool net_addr_is_loopback(const struct net_addr *a);
/* True when both have the family and the first `bits` bits are the same. */
bool net_addr_same_prefix(const struct net_addr *a, const struct net_addr *b, unsigned bits);
/* "1.2.3.4:5", "[fe80::1]:5"; the `_ip` form leaves the port out.  Return `out`. */
const char *net_addr_text(const struct net_addr *a, char out[NET_ADDR_TEXT]);
const char *net_addr_ip_text(const struct net_addr *a, char out[NET_ADDR_TEXT]);
/* "1.2.3.4:5", "[::1]:5", "1.2.3.4" and "::1" (then `default_port`); numeric only.  -EINVAL. */
int net_addr_parse(struct net_addr *a, const char *text, uint16_t default_port);
/* "host.example.org:5": the name (RFC 1123, and "_") into `host`.  What might have been meant as an
 * IPv4 address, with digits alone behind the last dot, is none.  -EINVAL. */
int net_name_parse(char host[NET_NAME_TEXT], uint16_t *port, const char *text);
void net_addr_write(struct wbuf *w, const struct net_addr *a);
void net_addr_read(struct rbuf *r, struct net_addr *a);
#endif
