/*
 * Methods: how a subscriber's packets reach its gateway.  A method is one file with both ends and
 * one constant table; null.c is the template to copy.  It may include base, wire, io, json-c,
 * libevent and libmeshapp, no daemon.
 *
 * What a method does: makes tunnel interfaces, moves packets, says what the other end must know.
 * What the daemons do for every method: leases, address pools, nftables (by interface name and
 * leased address), forwarding, the subscriber's routes, rules, name servers.  So a method changes
 * the host only through the journal it is given, and adds no route.
 *
 * Calls are synchronous and quick.  What takes long (a server that must start) goes on after the
 * call; the subscriber's end tries until it is there.  Strings and objects that are passed in are
 * valid during the call.  Errors: -errno, and a sentence for people in `why` (TUNNEL_WHY_MAX bytes,
 * never NULL, set whenever the return value is negative).
 */
#ifndef TUNNEL_TUNNEL_H
#define TUNNEL_TUNNEL_H

#include <errno.h>
#include <json-c/json.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/id.h"
#include "base/prefix.h"
#include "base/sid.h"

/* The methods' sections of the configuration (io/config_doc.h). */
#define TUNNEL_DOCS                                                                                \
	config_doc_mesh, config_doc_wireguard, config_doc_direct, config_doc_gre, config_doc_ipip, \
		config_doc_vxlan, config_doc_openvpn, config_doc_fastd, config_doc_softether,      \
		config_doc_socks, config_doc_cjdns
#define TUNNEL_WHY_MAX 160
#define TUNNEL_LEASES_MAX 65536u /* of one gateway and method */

struct config;
struct event_base;
struct hostjournal;
struct meshapp;
struct meshconn;

/* Puts the sentence into `why`. */
void tunnel_say(char *why, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void tunnel_say_memory(char *why);
/* The same, and is `rc`.  No functions, so that who analyses a caller sees that it is not 0. */
#define tunnel_why(why, rc, ...) (tunnel_say((why), __VA_ARGS__), (rc))
#define tunnel_no_memory(why) (tunnel_say_memory(why), -ENOMEM)

enum tunnel_end { TUNNEL_GATEWAY, TUNNEL_SUBSCRIBER };

/* What the daemon lends to a method; all of it outlives the method's objects. */
struct tunnel_env {
	struct event_base *base;
	struct hostjournal *journal; /* NULL: nothing that would outlive us is changed */
	struct meshapp *app;	     /* NULL: this daemon has no node */
	const char *state_dir;	     /* for files of the method's programs */
	const struct config *cfg;    /* the method's own section; NULL: its defaults */
	struct net_addr server;	     /* for client_options: whom we ask; family 0: over the mesh */
};

/* ---- gateway ---- */
struct tunnel_gateway_config {
	/* Interface and Mtu of the method's section.  The interface is a name, or a template with
	 * one %d (of at most IFNAMSIZ - 1); what comes from one that is not named so is not
	 * subscribers' traffic to the daemon's firewall. */
	const char *interface;
	uint32_t mtu;
	/* Our own address in the pools, with the pool's prefix length; family 0: no such pool. */
	struct net_prefix addr4, addr6;
};

struct tunnel_lease {
	const char *sid;
	struct net_addr ip4, ip6; /* the subscriber's; family 0: none */
	/* Outside of the tunnel: the address that the subscriber called from, and ours that it
	 * called.  Family 0: the call came over the mesh. */
	struct net_addr host, server;
	/*
	 * requestConnection's options, an object (possibly empty); gatewayd keeps it with the lease
	 * and gives the same again after a restart.  Before that it has set "node" and "app" to the
	 * authenticated peer when the call came over the mesh, and "server" to the address called.
	 */
	struct json_object *options;
};

/* What a subscriber's packets look like where they reach the gateway. */
struct tunnel_source {
	struct net_addr ip4, ip6; /* their only source addresses; family 0: none */
	uint8_t mac[6];
	bool has_mac; /* and `mac` is the only link-layer address that they may come from */
	/* Of a borrowed interface: our own addresses there; what goes between them and ip4 or ip6
	 * stays on that network. */
	struct net_addr near4, near6;
};

struct tunnel_counters {
	uint64_t up_packets, up_bytes;	   /* from the subscriber */
	uint64_t down_packets, down_bytes; /* to the subscriber */
	uint64_t spoofed; /* from the subscriber with an address that is not its own */
	uint64_t dropped; /* no room, not connected, malformed; both directions */
	bool connected;	  /* packets can flow now */
};

/* ---- subscriber ---- */
struct tunnel_grant {			    /* from requestConnection's answer */
	const char *sid;		    /* as sid_valid() has it */
	struct net_prefix ip4, ip6;	    /* ours, with prefix length; family 0: none */
	struct net_addr gateway4, gateway6; /* the gateway's tunnel addresses */
	struct net_addr server;		    /* the gateway's own address if we reached it over IP */
	struct json_object *object;	    /* the answer's <method> object; may be NULL */
	const char *interface;		    /* name or template for ours */
};

/* How the subscriber's packets leave by the interface. */
struct tunnel_path {
	struct net_addr source4, source6; /* family 0: the family does not take this way */
	/* Next hops, which are probed too; family 0: the interface is point to point. */
	struct net_addr via4, via6;
};

enum tunnel_state {
	TUNNEL_CONNECTING,
	TUNNEL_UP,     /* the interface is there, up, with its addresses; packets can flow */
	TUNNEL_FAILED, /* final: close it.  tunnel_client_state's text says why */
};
/* From the event loop, or from inside client_open.  `text` is never NULL.  client_close may be
 * called from here only on TUNNEL_FAILED, and not from inside client_open. */
typedef void tunnel_client_state(enum tunnel_state state, const char *text, void *arg);

struct tunnel_method {
	const char *name; /* in methods:[{name}], in requestConnection, key of its object */
	/* The gateway's interface is the operator's own, a LAN: what arrives there needs a lease
	 * only to leave by the uplink, and the firewall counts it (gateway_counters: -ENOENT). */
	bool borrows;

	/* Can this end work here?  0, or -errno and why not.  Changes nothing. */
	int (*probe)(const struct tunnel_env *env, enum tunnel_end end, char *why);

	/* --- gateway --- */
	int (*gateway_start)(void **gw, const struct tunnel_env *env,
			     const struct tunnel_gateway_config *config, char *why);
	/* Adds keys to the method's entry in nodeInfo's `methods` (it has "name" already). */
	void (*gateway_info)(void *gw, struct json_object *entry);
	/*
	 * Opens a lease: fills `answer` (an empty object, sent as "<method>") and `interface`
	 * (where its packets come out).  The same sid again gives the same answer and is no error.
	 * -EINVAL: the options are wrong; -EEXIST: its peer has another lease; -ENOSPC, ...
	 */
	int (*gateway_open)(void *gw, const struct tunnel_lease *lease, struct json_object *answer,
			    char interface[IFNAMSIZ], char *why);
	/* Adds to the options of a request what must be known about the caller after a restart
	 * too, and takes out what the caller wrote in its place.  May be NULL. */
	void (*gateway_learn)(void *gw, const struct net_addr *host, struct json_object *options);
	/* Of an open lease.  May be NULL: the leased addresses and any link-layer address. */
	void (*gateway_source)(void *gw, const char *sid, struct tunnel_source *out);
	/* Unknown sids are ignored. */
	void (*gateway_close)(void *gw, const char *sid);
	/* -ENOENT. */
	int (*gateway_counters)(void *gw, const char *sid, struct tunnel_counters *out);
	/* Methods that ride on the mesh (else NULL): a datagram connection from another app.  True:
	 * the method has taken it (callbacks set); false: not for us, refuse it. */
	bool (*gateway_accept)(void *gw, struct meshconn *conn);
	/* Ends all leases and takes back what it changed. */
	void (*gateway_stop)(void *gw);

	/* --- subscriber --- */
	/* Adds to `options` what the gateway must know (keys, node and app id).  May be NULL. */
	int (*client_options)(const struct tunnel_env *env, struct json_object *options, char *why);
	/* Starts; states follow.  On an error nothing follows. */
	int (*client_open)(void **client, const struct tunnel_env *env,
			   const struct tunnel_grant *grant, tunnel_client_state *state, void *arg,
			   char *why);
	/* "" before the interface is there. */
	const char *(*client_interface)(void *client);
	/* Once it is up.  May be NULL: from the leased addresses, point to point. */
	void (*client_path)(void *client, struct tunnel_path *out);
	/* The address and port, outside of the tunnel, that its packets are sent to now; family 0:
	 * none yet.  May be NULL: grant.server, if any. */
	struct net_addr (*client_server)(void *client);
	void (*client_counters)(void *client, struct tunnel_counters *out);
	/* The interface goes with it.  No more states. */
	void (*client_close)(void *client);
};

/*
 * A method: what both ends have, the gateway's functions, the subscriber's.  It stands in three
 * tables, so that the linker leaves out of a daemon the end that it has no use for: a router's
 * flash is small.
 */
#define TUNNEL_METHOD(noun, common, gateway, client)                                               \
	const struct tunnel_method tunnel_##noun = {                                               \
		TUNNEL_LIST common TUNNEL_LIST gateway TUNNEL_LIST client};                        \
	const struct tunnel_method tunnel_##noun##_gateway = {                                     \
		TUNNEL_LIST common TUNNEL_LIST gateway};                                           \
	const struct tunnel_method tunnel_##noun##_client = {TUNNEL_LIST common TUNNEL_LIST client}
#define TUNNEL_LIST(...) __VA_ARGS__,

/* NULL when there is no such method.  Of the first two the other end's functions are NULL. */
const struct tunnel_method *tunnel_gateway_find(const char *name);
const struct tunnel_method *tunnel_client_find(const char *name);
const struct tunnel_method *tunnel_method_find(const char *name);
/* All, in order of preference; ends with NULL.  `null` is not among them. */
const struct tunnel_method *const *tunnel_methods(void);

#define TUNNEL_DECLARE(noun)                                                                       \
	extern const struct tunnel_method tunnel_##noun, tunnel_##noun##_gateway,                  \
		tunnel_##noun##_client;
#define TUNNEL_ALL(X)                                                                              \
	X(mesh)                                                                                    \
	X(wireguard)                                                                               \
	X(fastd)                                                                                   \
	X(direct)                                                                                  \
	X(gre)                                                                                     \
	X(ipip)                                                                                    \
	X(vxlan)                                                                                   \
	X(openvpn)                                                                                 \
	X(softether)                                                                               \
	X(cjdns)                                                                                   \
	X(socks)
TUNNEL_DECLARE(null)
TUNNEL_ALL(TUNNEL_DECLARE)

#endif
