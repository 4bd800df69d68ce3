#include "subscriberd/session.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cstr.h"
#include "base/log.h"
#include "io/timer.h"
#include "subscriberd/api.h"

#define INTERFACES_MAX 64u /* numbers tried for a free name */

struct session {
	struct session_spec spec;
	const struct tunnel_method *method;
	void *client;
	struct sub_lease lease;
	struct net_addr server;
	char name[IFNAMSIZ]; /* the interface that we want; "" when closed */
	uint64_t serial;
	bool opening, opened; /* inside client_open; it said TUNNEL_UP meanwhile */
	struct event *settle; /* what client_open said is told after it has returned */
	char why[TUNNEL_WHY_MAX];
	struct probe *probes[SUB_PROBES];
};

static void on_settle(evutil_socket_t fd, short what, void *arg);

int session_new(struct session **out, const struct session_spec *spec)
{
	struct session *s = calloc(1, sizeof *s);

	if (!s)
		return -ENOMEM;
	s->spec = *spec;
	s->settle = timer_new(spec->daemon->base, on_settle, s);
	for (unsigned i = 0; i < SUB_PROBES; i++)
		s->probes[i] = probe_new(spec->daemon->base, spec->on_probe, spec->arg);
	if (!s->settle || !s->probes[SUB_PROBE_GATEWAY] || !s->probes[SUB_PROBE_UPLINK]) {
		session_free(s);
		return -ENOMEM;
	}
	*out = s;
	return 0;
}

void session_free(struct session *s)
{
	if (!s)
		return;
	if (s->client)
		s->method->client_close(s->client);
	for (unsigned i = 0; i < SUB_PROBES; i++)
		probe_free(s->probes[i]);
	event_drop(s->settle);
	free(s);
}

struct tunnel_env session_env(const struct session *s)
{
	return (struct tunnel_env){.base = s->spec.daemon->base,
				   .journal = sub_host_journal(s->spec.host),
				   .app = s->spec.app,
				   .state_dir = s->spec.daemon->state_dir,
				   .cfg = s->spec.daemon->cfg};
}

/* --- the interface's name ----------------------------------------------------------------- */

/* What stands before and behind the number, and the first number. */
static unsigned name_parts(const char *configured, char before[IFNAMSIZ], char after[IFNAMSIZ])
{
	const char *template = strstr(configured, "%d");
	size_t len = template ? (size_t)(template - configured) : strlen(configured);

	while (!template && len > 0 && isdigit((unsigned char)configured[len - 1]))
		len--;
	cstr_print(before, IFNAMSIZ, "%.*s", (int)len, configured);
	cstr_copy(after, IFNAMSIZ, template ? template + 2 : "");
	return template || !configured[len] ? 0 : (unsigned)strtoul(configured + len, NULL, 10);
}

static bool name_taken(const char *name, struct nl *nl, struct session *const *others, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (others[i] && (strcmp(others[i]->name, name) == 0 ||
				  strcmp(session_interface(others[i]), name) == 0))
			return true;
	return nl_link_index(nl, name) != -ENODEV;
}

const char *session_interface_name(const char *configured, struct nl *nl,
				   struct session *const *others, size_t count, char out[IFNAMSIZ])
{
	char before[IFNAMSIZ], after[IFNAMSIZ], tail[IFNAMSIZ];
	unsigned first = name_parts(configured, before, after);

	if (!strstr(configured, "%d"))
		cstr_copy(out, IFNAMSIZ, configured);
	for (unsigned i = 0; i < INTERFACES_MAX; i++) {
		if (i > 0 || strstr(configured, "%d")) {
			cstr_print(tail, sizeof tail, "%u%.10s", first + i, after);
			cstr_print(out, IFNAMSIZ, "%.*s%s", (int)(IFNAMSIZ - 1 - strlen(tail)),
				   before, tail);
		}
		if (!name_taken(out, nl, others, count))
			break;
	}
	return out;
}

/* --- the tunnel --------------------------------------------------------------------------- */

static void on_state(enum tunnel_state state, const char *text, void *arg)
{
	struct session *s = arg;

	if (s->opening && state == TUNNEL_CONNECTING)
		return;
	if (s->opening) {
		s->opened = state == TUNNEL_UP;
		cstr_copy(s->why, sizeof s->why, text);
		event_active(s->settle, EV_TIMEOUT, 0);
		return;
	}
	if (state != TUNNEL_UP)
		log_info("tunnel %s: %s", state == TUNNEL_FAILED ? "failed" : "interrupted", text);
	s->spec.on_tunnel(s->serial, state, text, s->spec.arg);
}

static void on_settle(evutil_socket_t fd, short what, void *arg)
{
	struct session *s = arg;
	bool up = s->opened && s->client;

	(void)fd, (void)what;
	s->spec.on_tunnel(s->serial, up ? TUNNEL_UP : TUNNEL_FAILED,
			  s->why[0] ? s->why : "the tunnel could not be opened", s->spec.arg);
}

static int open_client(struct session *s, const struct session_grant *g)
{
	struct tunnel_env env = session_env(s);
	struct tunnel_grant grant = {
		.sid = s->lease.sid,
		.ip4 = s->lease.ip4,
		.ip6 = s->lease.ip6,
		.gateway4 = s->lease.gateway4,
		.gateway6 = s->lease.gateway6,
		.server = s->server,
		.object = sub_api_method_object(g->answer, s->lease.method),
		.interface = s->name,
	};

	s->method = tunnel_client_find(s->lease.method);
	if (!s->method) {
		cstr_print(s->why, sizeof s->why, "there is no method '%s'", s->lease.method);
		return -ENOENT;
	}
	return s->method->client_open(&s->client, &env, &grant, on_state, s, s->why);
}

void session_open(struct session *s, const struct session_grant *grant, uint64_t serial)
{
	session_close(s);
	s->lease = *grant->lease;
	s->server = grant->server;
	s->serial = serial;
	memcpy(s->name, grant->interface, sizeof s->name);
	s->opening = true;
	s->opened = false;
	s->why[0] = '\0';
	int err = open_client(s, grant);
	s->opening = false;
	if (err) {
		log_warn("tunnel of method %s: %s", s->lease.method, s->why);
		s->client = NULL;
		s->opened = false;
		event_active(s->settle, EV_TIMEOUT, 0);
	}
}

void session_close(struct session *s)
{
	for (unsigned i = 0; i < SUB_PROBES; i++)
		probe_close(s->probes[i]);
	event_del(s->settle);
	if (s->client)
		s->method->client_close(s->client);
	s->client = NULL;
	s->name[0] = '\0';
	s->server.family = 0;
}

bool session_is_open(const struct session *s)
{
	return s->client != NULL;
}

/* --- looking at it ------------------------------------------------------------------------ */

const char *session_interface(const struct session *s)
{
	return s->client ? s->method->client_interface(s->client) : "";
}

struct net_addr session_server(const struct session *s)
{
	if (s->client && s->method->client_server)
		return s->method->client_server(s->client);
	return s->server;
}

struct tunnel_path session_path(const struct session *s)
{
	struct tunnel_path p = {.source4 = s->lease.ip4.addr, .source6 = s->lease.ip6.addr};

	if (s->client && s->method->client_path)
		s->method->client_path(s->client, &p);
	return p;
}

bool session_counters(const struct session *s, struct tunnel_counters *out)
{
	*out = (struct tunnel_counters){0};
	if (s->client)
		s->method->client_counters(s->client, out);
	return s->client != NULL;
}

/* --- probes ------------------------------------------------------------------------------- */

static void start_probe(struct session *s, enum sub_probe kind, const struct tunnel_path *path,
			const struct net_addr *target)
{
	const struct net_addr *source = target->family == 4 ? &path->source4 : &path->source6;
	int err = probe_open(s->probes[kind], session_interface(s), source, target);

	if (err)
		log_warn("cannot probe through the tunnel: %s", strerror(-err));
}

void session_start_probes(struct session *s)
{
	struct tunnel_path path = session_path(s);
	struct net_addr target = path.via4.family	    ? path.via4
				 : path.via6.family	    ? path.via6
				 : s->lease.gateway4.family ? s->lease.gateway4
							    : s->lease.gateway6;
	const char *configured = s->spec.daemon->cfg->subscriber_probe_target;

	target.port = 0;
	start_probe(s, SUB_PROBE_GATEWAY, &path, &target);
	if (configured[0] && net_addr_parse(&target, configured, 0) == 0)
		start_probe(s, SUB_PROBE_UPLINK, &path, &target);
}

void session_probe(struct session *s, enum sub_probe kind, uint64_t serial, uint64_t timeout_us)
{
	probe_send(s->probes[kind], serial, timeout_us);
}
