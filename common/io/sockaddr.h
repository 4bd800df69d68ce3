/* Between base/addr.h and the kernel's socket addresses. */
#ifndef IO_SOCKADDR_H
#define IO_SOCKADDR_H

#include <sys/socket.h>

#include "base/addr.h"

/* Fills `out`; its length, or 0 for an address without family. */
socklen_t sockaddr_from_net(struct sockaddr_storage *out, const struct net_addr *a);
/* An IPv4-mapped IPv6 address becomes IPv4; any other family becomes family 0. */
void sockaddr_to_net(struct net_addr *out, const struct sockaddr *sa);
/* The "/path" of "unix:/path" or "/path"; NULL for anything else. */
const char *sockaddr_unix_path(const char *text);
/* The abstract Unix socket beside a loopback TCP port: in the same network namespace, and open to
 * the same processes. */
socklen_t sockaddr_local_twin(struct sockaddr_storage *out, uint16_t port);
/* Fills a Unix socket address; its length, or 0 when the path is too long. */
socklen_t sockaddr_from_path(struct sockaddr_storage *out, const char *path);
#endif
