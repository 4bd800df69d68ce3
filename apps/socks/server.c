#include <errno.h>
#include <event2/event.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/appsignals.h"
#include "io/clock.h"
#include "io/timer.h"
#include "libmeshapp/meshapp.h"
#include "socks/hostnets.h"
#include "socks/pipe.h"
#include "socks/server.h"

#define SWEEP_US 500000
#define HELLO_TIMEOUT_US 10000000u
/* An interface that has come a moment ago is denied as well; reading them costs some 20 us. */
#define HOSTNETS_KEPT_US 1000000u

/* --- limits ----------------------------------------------------------------------------------- */

bool server_allows(struct server *v, const struct net_addr *a)
{
	uint64_t now = daemon_now_us();
	char text[NET_ADDR_TEXT];

	if (v->opt->deny_local && (!v->policy_us || now >= v->policy_us + HOSTNETS_KEPT_US)) {
		int rc = hostnets_read(&v->policy);
		/* The list of a moment ago is still there. */
		if (rc)
			log_warn("socks-server: own addresses: %s", strerror(-rc));
		v->policy_us = now;
	}
	if (policy_allows(&v->policy, a))
		return true;
	if (log_limit_due(&v->limits.denied, now))
		log_info("socks-server: %s is denied (%llu so far)", net_addr_text(a, text),
			 (unsigned long long)v->limits.denied.count);
	return false;
}

void server_too_many_names(struct server *v)
{
	if (log_limit_due(&v->limits.lookups, daemon_now_us()))
		log_warn("socks-server: %u names of a client are being resolved: no more (%llu so "
			 "far)",
			 RESOLVER_QUESTIONS_MAX, (unsigned long long)v->limits.lookups.count);
}

bool session_has_room(struct session *s)
{
	struct server *v = s->server;

	if (s->count < v->opt->streams_max)
		return true;
	if (log_limit_due(&v->limits.streams, daemon_now_us()))
		log_warn("socks-server: a client has %u streams: no more ([proxy] MaxStreams; %llu "
			 "so far)",
			 s->count, (unsigned long long)v->limits.streams.count);
	return false;
}

/* --- streams ---------------------------------------------------------------------------------- */

static void mux_up(void *ctx)
{
	(void)ctx;
}

static void mux_open_wanted(void *ctx, struct mux_stream *stream, const struct socks_addr *to)
{
	char text[SOCKS_ADDR_TEXT];

	if (log_enabled(LOG_LEVEL_DEBUG))
		log_debug("socks-server: %u: %s", mux_stream_number(stream),
			  to ? socks_addr_text(to, text) : "UDP");
	if (to)
		target_new(ctx, stream, to);
	else
		relay_new(ctx, stream);
}

static size_t mux_pull(void *ctx, struct mux_stream *stream, uint8_t *out, size_t max)
{
	(void)ctx;
	return pipe_pull(target_pipe(mux_stream_user(stream)), out, max);
}

static void mux_data(void *ctx, struct mux_stream *stream, struct bytes data)
{
	(void)ctx;
	pipe_data(target_pipe(mux_stream_user(stream)), data);
}

static void mux_fin(void *ctx, struct mux_stream *stream)
{
	(void)ctx;
	pipe_fin(target_pipe(mux_stream_user(stream)));
}

static void mux_closed(void *ctx, struct mux_stream *stream, enum mux_end how, uint8_t code)
{
	(void)ctx;
	(void)code;
	if (mux_stream_is_udp(stream))
		relay_free(mux_stream_user(stream));
	else
		target_closed(mux_stream_user(stream), how);
}

/* --- sessions --------------------------------------------------------------------------------- */

static void tell_client(const struct session *s, const char *state)
{
	const struct mux_counters *n = mux_counters(carrier_mux(s->carrier));
	struct json_object *o = json_object_new_object();
	char id[MESH_ID_TEXT];

	json_object_object_add(o, "client", json_object_new_string(state));
	json_object_object_add(o, "node", json_object_new_string(mesh_id_text(&s->node, id)));
	json_object_object_add(o, "app", json_object_new_string(s->app));
	json_object_object_add(o, "streams", json_object_new_int64((int64_t)n->opened));
	json_object_object_add(o, "refused", json_object_new_int64((int64_t)n->refused));
	json_object_object_add(o, "bytesIn", json_object_new_int64((int64_t)n->bytes_in));
	json_object_object_add(o, "bytesOut", json_object_new_int64((int64_t)n->bytes_out));
	json_object_object_add(o, "silences", json_object_new_int64((int64_t)s->server->silences));
	appline_say(s->server->opt->json, o);
}

static void session_end(struct session *s, const char *reason)
{
	tell_client(s, "gone");
	targets_drop_all(s);
	while (!LIST_EMPTY(&s->relays))
		relay_free(LIST_FIRST(&s->relays));
	if (s->datagrams)
		meshconn_close(s->datagrams, CODE_CLOSED, reason);
	carrier_free(s->carrier, reason);
	LIST_REMOVE(s, link);
	s->server->session_count--;
	free(s);
}

static void on_over(void *ctx, const char *reason)
{
	struct session *s = ctx;

	log_info("socks-server: a client is gone: %s", reason);
	if (carrier_timed_out(s->carrier))
		s->server->silences++;
	session_end(s, reason);
}

static struct session *find_session(struct server *v, struct meshconn *conn)
{
	struct session *s;

	LIST_FOREACH(s, &v->sessions, link) {
		if (mesh_id_equal(&s->node, meshconn_peer_node(conn)) &&
		    strcmp(s->app, meshconn_peer_app(conn)) == 0)
			return s;
	}
	return NULL;
}

static bool session_new(struct server *v, struct meshconn *conn)
{
	static const struct mux_ops ops = {.up = mux_up,
					   .open = mux_open_wanted,
					   .pull = mux_pull,
					   .data = mux_data,
					   .fin = mux_fin,
					   .closed = mux_closed};
	struct session *s = find_session(v, conn);
	struct carrier_config config = {
		.base = v->base, .conn = conn, .ops = &ops, .over = on_over};

	/* The peer is authenticated: an older connection is one that it has lost. */
	if (s)
		session_end(s, "replaced by a newer connection");
	if (v->session_count >= v->opt->clients_max) {
		if (log_limit_due(&v->limits.clients, daemon_now_us()))
			log_warn("socks-server: %u clients: no more ([proxy] MaxClients; %llu so "
				 "far)",
				 v->session_count, (unsigned long long)v->limits.clients.count);
		return false;
	}
	s = calloc(1, sizeof *s);
	if (!s)
		return false;
	s->server = v;
	s->node = *meshconn_peer_node(conn);
	snprintf(s->app, sizeof s->app, "%s", meshconn_peer_app(conn));
	s->number = ++v->last_number;
	s->since_us = daemon_now_us();
	config.ctx = s;
	config.mux = (struct mux_config){.streams_max = v->opt->streams_max,
					 .window_max = v->opt->window_max,
					 .growth_max = SOCKS_GROWTH_BYTES,
					 .patience_us = SOCKS_PATIENCE_LONG_US};
	randombytes_buf(&config.mux.seed, sizeof config.mux.seed);
	s->carrier = carrier_new(&config);
	if (!s->carrier) {
		free(s);
		return false;
	}
	LIST_INSERT_HEAD(&v->sessions, s, link);
	v->session_count++;
	tell_client(s, "new");
	return true;
}

/* --- datagrams -------------------------------------------------------------------------------- */

static void on_record(struct meshconn *conn, const uint8_t *data, size_t len)
{
	struct session *s = meshconn_arg(conn);
	struct mux_record record;
	struct mux_stream *stream = NULL;

	if (mux_record_read(bytes_of(data, len), &record))
		stream = mux_find(carrier_mux(s->carrier), record.stream);
	/* An unknown one has ended a moment ago. */
	if (stream && mux_stream_is_udp(stream))
		relay_send(mux_stream_user(stream), &record.addr, record.payload);
	else
		s->server->limits.datagrams.count++;
}

static void on_datagrams_closed(struct meshconn *conn, uint16_t code, const char *reason)
{
	struct session *s = meshconn_arg(conn);

	log_debug("socks-server: datagram connection: %s (%s)", msg_code_name(code), reason);
	s->datagrams = NULL;
}

static bool take_datagrams(struct server *v, struct meshconn *conn)
{
	static const struct meshconn_callbacks cb = {.consume = on_record,
						     .on_closed = on_datagrams_closed};
	struct session *s = find_session(v, conn);

	if (!s)
		return false;
	if (s->datagrams)
		meshconn_close(s->datagrams, CODE_CLOSED, "replaced by a newer connection");
	s->datagrams = conn;
	meshconn_set_callbacks(conn, &cb, s);
	return true;
}

/* --- life ------------------------------------------------------------------------------------- */

static bool on_incoming(struct meshapp *app, struct meshconn *conn)
{
	struct server *v = meshapp_arg(app);

	return meshconn_class(conn) == CLASS_STREAM ? session_new(v, conn)
						    : take_datagrams(v, conn);
}

static void on_state(struct meshapp *app, bool up, const char *text)
{
	struct server *v = meshapp_arg(app);
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "state", json_object_new_string(up ? "up" : "down"));
	json_object_object_add(o, "app", json_object_new_string(meshapp_app_id(app)));
	if (text[0])
		json_object_object_add(o, "remark", json_object_new_string(text));
	appline_say(v->opt->json, o);
}

static void on_sweep(evutil_socket_t fd, short what, void *arg)
{
	struct server *v = arg;
	struct session *s, *next;
	uint64_t now = daemon_now_us();

	(void)fd;
	(void)what;
	for (s = LIST_FIRST(&v->sessions); s; s = next) {
		next = LIST_NEXT(s, link);
		targets_sweep(s, now);
		relays_sweep(s, now);
		if (!mux_is_up(carrier_mux(s->carrier)) && now >= s->since_us + HELLO_TIMEOUT_US)
			session_end(s, "no HELLO");
	}
}

/* Streams that are open stay, wherever they lead; the new rules are asked about each new address.
 */
static int on_hup(void *arg)
{
	struct server *v = arg;
	int rc = socks_options_reload(v->opt);

	v->policy = v->opt->policy;
	v->policy_us = 0;
	return rc;
}

static int start(struct server *v)
{
	const struct timeval sweep = {.tv_usec = SWEEP_US};
	const struct meshapp_options mo = {
		.node_addr = v->opt->node_addr,
		.app_id = v->opt->app_id,
		.app_type = SOCKS_SERVER_TYPE,
		.cb = {.on_state = on_state, .on_incoming = on_incoming},
		.arg = v,
	};

	v->policy = v->opt->policy;
	LIST_INIT(&v->sessions);
	v->sweep = event_new(v->base, -1, EV_PERSIST, on_sweep, v);
	v->resolver = resolver_new(v->base, v->opt->resolvers, v->opt->resolver_count);
	if (!v->sweep || event_add(v->sweep, &sweep) || !v->resolver) {
		log_error("socks-server: out of memory");
		return -ENOMEM;
	}
	v->app = meshapp_open(v->base, &mo);
	if (v->app)
		return 0;
	log_error("socks-server: node %s, app %s: %s", mo.node_addr, mo.app_id, strerror(errno));
	return -errno;
}

static void stop(struct server *v)
{
	while (!LIST_EMPTY(&v->sessions))
		session_end(LIST_FIRST(&v->sessions), "the server ends");
	meshapp_close(v->app);
	event_drop(v->sweep);
	resolver_free(v->resolver);
}

int socks_server_run(struct event_base *base, struct socks_options *opt)
{
	struct server *v = calloc(1, sizeof *v);
	struct appsignals signals;
	int rc;

	if (!v)
		return 1;
	v->opt = opt;
	v->base = base;
	rc = start(v);
	if (appsignals_init(&signals, base, opt->json, on_hup, v))
		rc = -ENOMEM;
	if (!rc) {
		appsignals_ready(&signals);
		event_base_dispatch(base);
	}
	appsignals_free(&signals);
	stop(v);
	free(v);
	return rc ? 1 : 0;
}
