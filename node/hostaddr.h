/* Which addresses of this host peers may try: those of interfaces that are up. */
#ifndef NODE_HOSTADDR_H
#define NODE_HOSTADDR_H

#include "base/addr.h"

/*
 * Fills up to `max` addresses (port 0), IPv4 before IPv6, and returns how many.  Loopback only when
 * there is nothing else; no link-local ones; none of interfaces whose names match `exclude` (comma
 * separated patterns), because those are tunnels of our own.
 */
size_t hostaddr_list(struct net_addr *out, size_t max, const char *exclude);
/* The same from configured text, "IP" or "IP:PORT", comma separated. */
size_t hostaddr_parse(struct net_addr *out, size_t max, const char *text);
/* Is `name` among the patterns? */
bool hostaddr_excluded(const char *name, const char *exclude);
#endif
