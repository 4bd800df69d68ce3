/*
 * vpn-server and vpn-client: a network of their own between apps of the mesh.  Both ends are the
 * tunnel method "mesh" (common/tunnel/mesh.c), which gatewayd and subscriberd use as well; here is
 * only who gets which address, and the command line.
 *   options.c  the command line and section [vpn] of the configuration
 *   hosts.c    addresses of a subnet, pure
 *   store.c    which client has which of them
 *   host.c     routes, rules, forwarding: what is changed on the host, and taken back
 *   resolv.c   /etc/resolv.conf
 *   offer.c    what the two say to each other, as JSON
 *   server.c   client.c
 *
 * The client opens a stream to the server's app, sends one request, and gets one answer: its
 * addresses, or why not.  They are its own as long as the stream is open.  The packets go over a
 * datagram connection between the same two apps.
 */
#ifndef VPN_VPN_H
#define VPN_VPN_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/id.h"
#include "base/limits.h"
#include "base/prefix.h"
#include "io/appline.h"
#include "io/config.h"
#include "vpn/offer.h"

struct event_base;

#define VPN_SERVER_TYPE "vpn_server"
#define VPN_CLIENT_TYPE "vpn_client"
#define VPN_SID_BYTES 33 /* 32 hex digits */

struct vpn_options {
	struct config *cfg;
	bool server;
	int argc; /* with argv, of main: for a reload */
	char **argv;
	const char *node_addr, *app_id, *interface;
	uint32_t mtu;
	bool json;
	/* of a server */
	struct net_prefix subnet4, subnet6; /* family 0: none */
	struct vpn_advice advice;
	/* of a client */
	bool full;
	struct appline_peer to;
	struct net_prefix routes[VPN_ROUTES_MAX];
	unsigned route_count;
};

/* 0: run; 1: done (--help); 2: take back what an earlier run has left (--cleanup); -1: bad, said
 * so. Free it in any case. */
int vpn_options_parse(struct vpn_options *o, bool server, int argc, char **argv);
/* SIGHUP: reads command line and configuration again.  The level of the log is taken; what else is
 * another than `o` has is named in the log, and holds from the next start.  0, -1: bad, said so. */
int vpn_options_reload(const struct vpn_options *o);
/* The same, of an app's signals. */
int vpn_on_hup(void *options);
void vpn_options_free(struct vpn_options *o);

/* Both run until SIGINT or SIGTERM and return the exit code. */
int vpn_server_run(struct event_base *base, const struct vpn_options *opt);
int vpn_client_run(struct event_base *base, const struct vpn_options *opt);
/* main of both programs. */
int vpn_main(bool server, int argc, char **argv);
#endif
