/* What the parts of socks-client share: client.c (wiring), local.c (SOCKS5 clients), association.c
 * (their UDP). */
#ifndef SOCKS_CLIENT_H
#define SOCKS_CLIENT_H

#include <event2/util.h>
#include <sys/queue.h>

#include "base/log.h"
#include "socks/uplink.h"

struct local;
struct association;
LIST_HEAD(local_list, local);

struct client {
	struct socks_options *opt;
	struct event_base *base;
	struct meshapp *app;
	struct uplink *uplink;
	struct evconnlistener *listeners[SOCKS_LISTEN_MAX];
	bool listeners_off; /* out of descriptors: on again with the next sweep */
	struct local_list locals;
	unsigned local_count;
	struct event *sweep;
	char app_id[NAME_MAX_BYTES + 1];
	struct {
		struct log_limit locals, streams, logins, protocol, datagrams;
	} limits;
};

/* --- local.c --- */
/* Takes the socket. */
void local_new(struct client *c, evutil_socket_t fd);
void local_free(struct local *l);
void locals_sweep(struct client *c, uint64_t now);
/* Of the uplink. */
void locals_up(struct client *c);
void locals_down(struct client *c);
void local_opened(struct local *l, const struct net_addr *bound);
struct pipe *local_pipe(struct local *l);
void local_closed(struct local *l, enum mux_end how, uint8_t code);
void local_record(struct local *l, const struct mux_record *record);

/* --- association.c --- */
/*
 * A UDP socket on `own` for datagrams from `peer`, the address of the TCP connection; its port,
 * when not 0, is the only one that counts, else the first that sends.  NULL with errno.
 */
struct association *association_new(struct client *c, const struct net_addr *own,
				    const struct net_addr *peer, uint32_t stream);
void association_free(struct association *a);
struct net_addr association_address(const struct association *a);
void association_record(struct association *a, const struct mux_record *record);
uint64_t association_last_us(const struct association *a);
#endif
