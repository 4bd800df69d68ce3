/* Which client has which host number of the VPN's subnets, kept over restarts of the server: the
 * same client gets the same addresses.  Errors are -errno, logged. */
#ifndef VPN_STORE_H
#define VPN_STORE_H

#include <stdint.h>

#include "base/id.h"

struct config;
struct vpn_store;

int vpn_store_open(struct vpn_store **out, const char *path, const struct config *cfg);
/* NULL is fine. */
void vpn_store_close(struct vpn_store *s);
/* The host number of a client; 0: none. */
uint32_t vpn_store_find(struct vpn_store *s, const struct mesh_id *node, const char *app);
/* The client has it from now on (and nobody else), and has used it now. */
int vpn_store_save(struct vpn_store *s, const struct mesh_id *node, const char *app, uint32_t host,
		   uint64_t now_s);
int vpn_store_forget(struct vpn_store *s, uint32_t host);
/* All, the one that was used longest ago first.  False ends it. */
int vpn_store_list(struct vpn_store *s, bool (*visit)(uint32_t host, void *ctx), void *ctx);
#endif
