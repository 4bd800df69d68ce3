/*
 * The subscriber's changes to its host's network: our own routing table and rules, and the kill
 * switch.  Everything goes through io/hostjournal.h, so a crash leaves nothing behind for good.
 *
 * While connected two rules stand before the main table (as wg-quick does): first the main table
 * without its default route (the community network and the LAN stay direct), then our table with
 * the tunnel's default route, and behind it an unreachable one, so that nothing leaves by another
 * way when the tunnel's interface goes.
 */
#ifndef SUBSCRIBERD_HOST_H
#define SUBSCRIBERD_HOST_H

#include <stdbool.h>

#include "io/config.h"
#include "io/hostjournal.h"
#include "subscriberd/engine.h"
#include "tunnel/tunnel.h"

struct sub_host;

/* Takes back what a crashed run has left.  0 or -errno (logged). */
int sub_host_open(struct sub_host **out, const char *journal_path, const struct config *cfg);
/* Takes back everything. */
void sub_host_close(struct sub_host *h);
/* For --cleanup.  0 or -errno; -EIO when something could not be taken back. */
int sub_host_cleanup(const char *journal_path);
struct hostjournal *sub_host_journal(struct sub_host *h);

/* Default routes through `interface` for the families of `path`; `server`: the gateway's own
 * address if the tunnel's packets go there over IP (family 0: none).  0 or -errno. */
int sub_host_online(struct sub_host *h, const char *interface, const struct tunnel_path *path,
		    const struct net_addr *server);
/* `hold`: the rules and the unreachable routes stay. */
void sub_host_offline(struct sub_host *h, bool hold);
#endif
