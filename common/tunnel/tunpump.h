/*
 * A TUN interface whose packets ride on datagram connections of the mesh: opened, given its
 * addresses, and the place where records become packets and packets records.  Which peer has which
 * addresses is the owner's business (mesh.c): it adds a route for each.
 *
 * A record is one IP packet, or, to a peer that said it can take them ("vnet": true on both sides),
 * a virtio header (wire/vnethdr.h) and then one IP packet of up to TUNPUMP_GSO_MAX bytes.  While
 * any peer cannot, the kernel is told to hand out plain packets only.
 *
 * Where the node is reached by a Unix socket the interface is handed to it, and no packet passes
 * here any more (libmeshapp/meshtun.h); elsewhere, and until then, this moves them.
 */
#ifndef TUNNEL_TUNPUMP_H
#define TUNNEL_TUNPUMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/tunroute.h"
#include "io/netlink.h"

/* As much as a record holds with header and tag, for a host that forwards: what its other
 * interfaces have put together is often longer than what makes one run of UDP packets, and the
 * kernel cuts what is longer than we say into single packets. */
#define TUNPUMP_GSO_MAX 65500u
/* One run of UDP packets, for a host that sends only what is its own. */
#define TUNPUMP_GSO_OWN_MAX 62500u

struct event_base;
struct meshapp;
struct meshconn;
struct tunpump;
struct tunpump_route;

struct tunpump_config {
	const char *interface; /* name, or template with %d */
	uint32_t mtu;
	const struct nl_addr *addrs; /* `link` is filled in; those of family 0 are skipped */
	size_t addr_count;
	struct meshapp *app;
	/* While no peer is connected packets wait in the kernel, rather than being dropped. */
	bool hold;
	/* The interface is unusable (somebody deleted it): close the pump. */
	void (*lost)(int err, void *arg);
	void *arg;
};

/* Can this host take records with a header? */
bool tunpump_can_vnet(void);
/* Makes the interface, up and with its addresses.  -errno of tun_open or netlink. */
int tunpump_open(struct tunpump **out, struct event_base *base, struct nl *nl,
		 const struct tunpump_config *config);
/* Its routes go with it.  NULL is fine; also from `lost`. */
void tunpump_close(struct tunpump *t);
const char *tunpump_interface(const struct tunpump *t);

/* A peer that is not connected yet.  0 or -errno of tunroute_add. */
int tunpump_add(struct tunpump *t, const struct tunroute_filter *filter, bool vnet,
		struct tunpump_route **out);
void tunpump_remove(struct tunpump_route *r); /* NULL is fine */
/* The peer is another program now, and takes headers or does not. */
void tunpump_set_vnet(struct tunpump_route *r, bool vnet);
/* NULL: it is gone, or will be closed by the caller now. */
void tunpump_connect(struct tunpump_route *r, struct meshconn *conn);
/* `consume` and `on_writable` of its connection. */
void tunpump_consume(struct tunpump_route *r, const uint8_t *record, size_t len);
void tunpump_writable(struct tunpump_route *r);
/* Of all its connections; what the node moves is told a few times a second. */
struct tunroute_counters tunpump_counters(const struct tunpump_route *r);
#endif
