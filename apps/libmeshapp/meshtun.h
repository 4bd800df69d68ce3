/*
 * An app with a TUN interface may hand it to its node, which then moves its packets to and from the
 * app's datagram connections itself: two processes and four copies less on the way.  Works over a
 * Unix socket only; tunnel/tunpump.h does the same work in the app where it does not.
 */
#ifndef LIBMESHAPP_MESHTUN_H
#define LIBMESHAPP_MESHTUN_H

#include "core/tunroute.h"
#include "libmeshapp/meshapp.h"

#define MESHTUNS_MAX 8u /* of one app */

struct meshtun;

/* The node has it (CODE_OK), or does not, or no longer: then close it. */
typedef void meshtun_state_cb(struct meshtun *t, uint16_t code, void *arg);

/*
 * Hands `fd` over; it stays the caller's, who stops reading it when the state says CODE_OK.  0, and
 * a state follows; -EOPNOTSUPP: the node is not reached by a Unix socket; -ENOTCONN, -ENOBUFS,
 * -ENOMEM.
 */
int meshtun_open(struct meshtun **out, struct meshapp *app, int fd, bool vnet,
		 meshtun_state_cb *state, void *arg);
/* The node lets go of it; its connections carry messages again.  No more states.  NULL is fine. */
void meshtun_close(struct meshtun *t);
/* From now on the records of `conn` (datagram, up) are packets of the interface.  A node that
 * cannot says so by the state.  0 or -errno. */
int meshtun_route(struct meshtun *t, struct meshconn *conn, const struct tunroute_filter *filter,
		  bool vnet);
/* What the node has moved for it, as it said last. */
const struct tunroute_counters *meshconn_tun_counters(const struct meshconn *conn);
#endif
