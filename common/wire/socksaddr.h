/* An address or a name with a port, as SOCKS5 (RFC 1928 section 5) and our streams write it.  Pure.
 */
#ifndef WIRE_SOCKSADDR_H
#define WIRE_SOCKSADDR_H

#include "base/addr.h"

#define SOCKS_NAME_MAX 255u
#define SOCKS_ADDR_BYTES_MAX (1 + 1 + SOCKS_NAME_MAX + 2)
#define SOCKS_ADDR_TEXT (SOCKS_NAME_MAX + NET_ADDR_TEXT)

enum socks_addr_kind { SOCKS_ADDR_IPV4 = 1, SOCKS_ADDR_NAME = 3, SOCKS_ADDR_IPV6 = 4 };

struct socks_addr {
	struct net_addr ip; /* family 0: a name; the port counts in any case */
	char name[SOCKS_NAME_MAX + 1];
};

/* Bytes that an address beginning with these takes; 0: too few to say; -1: of no kind we know. */
int socks_addr_size(const uint8_t *data, size_t len);
/* Sets r->bad for an unknown kind and for a name with anything but printable ASCII in it: it goes
 * into logs and to resolvers. */
void socks_addr_read(struct rbuf *r, struct socks_addr *a);
/* Family 0 without a name is written as 0.0.0.0. */
void socks_addr_write(struct wbuf *w, const struct socks_addr *a);
/* "name:port" or as net_addr_text; returns `out`. */
const char *socks_addr_text(const struct socks_addr *a, char out[SOCKS_ADDR_TEXT]);
#endif
