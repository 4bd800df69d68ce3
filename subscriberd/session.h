/*
 * One of the subscriber's tunnels: the method's client that a lease is used with, and the probes
 * through it.  Several may be open at once (the one in use and the standby), each with an interface
 * of its own; which of them traffic takes is host.h's business, and the engine's decision.
 */
#ifndef SUBSCRIBERD_SESSION_H
#define SUBSCRIBERD_SESSION_H

#include "io/daemon.h"
#include "subscriberd/engine.h"
#include "subscriberd/host.h"
#include "subscriberd/probe.h"
#include "tunnel/tunnel.h"

struct session;

struct session_spec {
	struct daemon *daemon;
	struct sub_host *host;
	struct meshapp *app; /* NULL: no mesh */
	/* What the tunnel opened with `serial` says of itself, always from the event loop. */
	void (*on_tunnel)(uint64_t serial, enum tunnel_state state, const char *text, void *arg);
	probe_cb *on_probe;
	void *arg;
};

/* Copies the spec; what it names outlives this.  0 or -ENOMEM. */
int session_new(struct session **out, const struct session_spec *spec);
/* Closes, without a callback.  NULL is fine. */
void session_free(struct session *s);

/* What a method needs of us, also before a session is opened. */
struct tunnel_env session_env(const struct session *s);
/*
 * The first name of Interface that is free on the host: itself, or with a number (counting on from
 * the one that it ends with, or in the place of its %d).  Those that `others` have or wait for are
 * taken.  Returns out.
 */
const char *session_interface_name(const char *configured, struct nl *nl,
				   struct session *const *others, size_t count, char out[IFNAMSIZ]);

struct session_grant {
	const struct sub_lease *lease;
	struct json_object *answer; /* of requestConnection; a reference is kept while opening */
	struct net_addr server;	    /* the gateway, if it is reached over IP (family 0: not) */
	char interface[IFNAMSIZ];
};
/* Closes what was open.  on_tunnel follows, also when it fails at once. */
void session_open(struct session *s, const struct session_grant *grant, uint64_t serial);
void session_close(struct session *s);
bool session_is_open(const struct session *s);

/* "" before there is one. */
const char *session_interface(const struct session *s);
/* Where its packets go outside of the tunnel; family 0: nowhere over IP. */
struct net_addr session_server(const struct session *s);
/* Of a tunnel that is up. */
struct tunnel_path session_path(const struct session *s);
bool session_counters(const struct session *s, struct tunnel_counters *out);

/* From now on session_probe asks the gateway's end of the tunnel, and ProbeTarget beyond it. */
void session_start_probes(struct session *s);
void session_probe(struct session *s, enum sub_probe kind, uint64_t serial, uint64_t timeout_us);
#endif
