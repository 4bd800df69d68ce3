/*
 * The host's name servers while a VPN is in use: /etc/resolv.conf is replaced whole, and what was
 * there (a file or a link) is kept in the state directory first, so that it can be put back after
 * kill -9 as well.  What somebody else has written since is left alone.  Where systemd-resolved
 * runs, the client asks that instead (client.c).
 */
#ifndef VPN_RESOLV_H
#define VPN_RESOLV_H

#include <stdbool.h>

#include "base/addr.h"

/* 0 or -errno (logged).  Again with other servers is fine. */
int vpn_resolv_set(const char *state_dir, const struct net_addr *servers, unsigned count);
/* 0 also when there is nothing to put back; -errno (logged): try again later. */
int vpn_resolv_restore(const char *state_dir);
/* The host's names are systemd-resolved's business. */
bool vpn_resolv_is_managed(void);
#endif
