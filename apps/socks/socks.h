/*
 * socks-client and socks-server: SOCKS5 through the mesh.  The client takes SOCKS5 on its own host,
 * the server makes the connections; between them runs one stream connection of the mesh with all
 * streams in it, and one datagram connection for UDP (common/PROTOCOL.md section 7).
 *
 * Pure:  muxframe.c  frames of the streams     mux.c  their table and windows
 *        alive.c     whether the other end is still there
 *        (SOCKS5 itself, and where one may go: common/wire/socks5.h, common/base/policy.h)
 * Both:  carrier.c   a mux on its mesh connection
 *        pipe.c      a socket joined to a stream
 *        options.c   the command line and [proxy]    run.c  main
 * Client: client.c   wiring
 *        uplink.c    finds a server, moves to another
 *        local.c     SOCKS5 clients            association.c  their UDP
 * Server: server.c   sessions, one a client of the mesh
 *        target.c    a TCP connection          relay.c        the UDP of an association
 *        resolver.c  names, without blocking   hostnets.c     the host's own networks
 */
#ifndef SOCKS_SOCKS_H
#define SOCKS_SOCKS_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/id.h"
#include "base/limits.h"
#include "io/appline.h"
#include "io/config.h"
#include "base/policy.h"
#include "wire/socks5.h"

struct event_base;

#define SOCKS_SERVER_TYPE "socks_server"
#define SOCKS_CLIENT_TYPE "socks_client"
#define SOCKS_LISTEN_MAX 16u
/* A server that does not answer for so long is dead (socks/alive.h).  A client that may use no
 * other than this one waits longer, in case the mesh finds a way; so does a server for its clients.
 */
#define SOCKS_PATIENCE_US 3000000u
#define SOCKS_PATIENCE_LONG_US 15000000u
/* By which the windows of one connection may grow in all. */
#define SOCKS_GROWTH_BYTES (64u << 20)

struct socks_options {
	bool server;
	int argc; /* of main, for a reload */
	char **argv;
	struct config *cfg; /* owned */
	const char *node_addr, *app_id;
	bool json;
	uint64_t idle_us, connect_us;
	uint32_t streams_max, window_max;
	/* server */
	struct policy policy;
	bool deny_local;
	uint32_t clients_max;
	struct net_addr resolvers[SOCKS_LISTEN_MAX]; /* none: /etc/resolv.conf */
	unsigned resolver_count;
	/* client */
	struct appline_peer to; /* empty: any server that the mesh has */
	struct net_addr listen[SOCKS_LISTEN_MAX];
	unsigned listen_count;
	bool wants_login;
	struct socks5_login login;
};

/* 0: run; 1: done (--help); -1: bad, said so.  Free it in any case. */
int socks_options_parse(struct socks_options *o, bool server, int argc, char **argv);
void socks_options_free(struct socks_options *o);
/* Reads command line and configuration again and takes over what may change while streams flow:
 * networks, the login, times, MaxClients and the log level.  A fault changes nothing, is said, and
 * -1. */
int socks_options_reload(struct socks_options *o);

/* Both run until SIGINT or SIGTERM and return the exit code. */
int socks_server_run(struct event_base *base, struct socks_options *opt);
int socks_client_run(struct event_base *base, struct socks_options *opt);

/* main of both programs. */
int socks_main(bool server, int argc, char **argv);
#endif
