#include "gatewayd/api_method.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cstr.h"
#include "base/log.h"
#include "io/config.h"
#include "io/config_value.h"
#include "io/jsonrpc.h"
#include "libmeshapp/meshapp.h"

_Static_assert(GW_WHY_MAX >= TUNNEL_WHY_MAX, "a method's reason fits");
_Static_assert(LEASE_INTERFACE_MAX + 1 == IFNAMSIZ, "a lease holds an interface name");

struct running {
	const struct tunnel_method *method;
	void *gw;
	char interface[IFNAMSIZ]; /* a name, or its beginning and '*' */
};

/* Asked for by the configuration, and why it cannot be offered. */
struct absent {
	char name[LEASE_METHOD_MAX + 1];
	char why[TUNNEL_WHY_MAX];
};

struct gw_methods {
	struct tunnel_env env;
	struct gw_engine *engine;
	struct running list[GW_METHODS_MAX];
	size_t count;
	struct absent absent[GW_METHODS_MAX];
	size_t absent_count;
};

static struct running *find(struct gw_methods *m, const char *name)
{
	for (size_t i = 0; i < m->count; i++)
		if (strcmp(m->list[i].method->name, name) == 0)
			return &m->list[i];
	return NULL;
}

static bool rides_on_mesh(const struct tunnel_method *method)
{
	return method->gateway_accept != NULL;
}

static struct net_prefix own_address(const struct pool *p)
{
	return (struct net_prefix){.addr = pool_gateway(p), .bits = p->net.bits};
}

/* A value of the method's section; NULL: it has no such key. */
static const void *section_value(const struct gw_methods *m, const char *method, const char *key,
				 enum config_kind kind)
{
	const struct config_key *k = config_key_find(method, key);

	return k && k->kind == kind ? (const char *)m->env.cfg + k->offset : NULL;
}

/* "mgw%d" is "mgw*": whatever number the kernel gives. */
static void interface_pattern(char out[IFNAMSIZ], const char *interface)
{
	char *percent;

	cstr_copy(out, IFNAMSIZ, interface);
	percent = strchr(out, '%');
	if (percent)
		memcpy(percent, "*", 2);
}

static struct tunnel_gateway_config config_of(const struct gw_methods *m, const char *method)
{
	const char *const *name = section_value(m, method, "Interface", CONFIG_STR);
	const uint64_t *mtu = section_value(m, method, "Mtu", CONFIG_U64);

	return (struct tunnel_gateway_config){
		.interface = name ? *name : "",
		.mtu = mtu ? (uint32_t)*mtu : 0,
		.addr4 = own_address(gw_engine_pool4(m->engine)),
		.addr6 = own_address(gw_engine_pool6(m->engine)),
	};
}

static int start_one(struct gw_methods *m, const struct tunnel_method *method, char *why)
{
	struct running *r = &m->list[m->count];
	struct tunnel_gateway_config config = config_of(m, method->name);
	int rc;

	if (m->count == GW_METHODS_MAX) {
		cstr_print(why, TUNNEL_WHY_MAX, "more than %d methods", GW_METHODS_MAX);
		return -ENOSPC;
	}
	rc = method->probe(&m->env, TUNNEL_GATEWAY, why);
	if (!rc)
		rc = method->gateway_start(&r->gw, &m->env, &config, why);
	if (rc)
		return rc;
	rc = gw_engine_add_method(m->engine, method->name, rides_on_mesh(method));
	if (rc) {
		cstr_copy(why, TUNNEL_WHY_MAX, strerror(-rc));
		method->gateway_stop(r->gw);
		return rc;
	}
	r->method = method;
	interface_pattern(r->interface, config.interface);
	m->count++;
	gw_engine_set_ready(m->engine, method->name,
			    !rides_on_mesh(method) || (m->env.app && meshapp_is_up(m->env.app)));
	return 0;
}

/* Said again only when it is another reason. */
static void note_absent(struct gw_methods *m, const struct absent *before, size_t before_count,
			const struct absent *a)
{
	bool news = true;

	for (size_t i = 0; i < before_count; i++)
		if (strcmp(before[i].name, a->name) == 0 && strcmp(before[i].why, a->why) == 0)
			news = false;
	if (news)
		log_error("method %s cannot be offered: %s", a->name, a->why);
	if (m->absent_count < GW_METHODS_MAX)
		m->absent[m->absent_count++] = *a;
}

static bool listed(const char *names, const char *method)
{
	char name[LEASE_METHOD_MAX + 1];

	while (config_list_next(&names, name, sizeof(name)))
		if (strcmp(name, method) == 0)
			return true;
	return false;
}

/* The leases first, one by one: whoever watches is told, and what each used is counted. */
static void stop_one(struct gw_methods *m, struct running *r)
{
	size_t after = m->count - 1 - (size_t)(r - m->list);
	size_t ended = gw_engine_remove_method(m->engine, r->method->name);

	log_info("method %s is no longer offered; %zu leases have ended", r->method->name, ended);
	r->method->gateway_stop(r->gw);
	memmove(r, r + 1, after * sizeof(*r));
	m->count--;
}

static size_t stop_unlisted(struct gw_methods *m, const char *names)
{
	size_t stopped = 0;

	for (size_t i = m->count; i-- > 0;) {
		if (listed(names, m->list[i].method->name))
			continue;
		stop_one(m, &m->list[i]);
		stopped++;
	}
	return stopped;
}

size_t gw_methods_list(struct gw_methods *m, const char *names)
{
	struct absent before[GW_METHODS_MAX], a;
	size_t before_count = m->absent_count, changed = stop_unlisted(m, names);

	memcpy(before, m->absent, sizeof(before));
	m->absent_count = 0;
	while (config_list_next(&names, a.name, sizeof(a.name))) {
		const struct tunnel_method *method = tunnel_gateway_find(a.name);

		if (find(m, a.name))
			continue;
		cstr_print(a.why, sizeof(a.why), "there is no such method");
		if (!method || start_one(m, method, a.why)) {
			note_absent(m, before, before_count, &a);
			continue;
		}
		changed++;
		log_info("method %s is offered", a.name);
	}
	return changed;
}

int gw_methods_start(struct gw_methods **out, const struct tunnel_env *env,
		     struct gw_engine *engine, const char *names)
{
	struct gw_methods *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->env = *env;
	m->engine = engine;
	if (!gw_methods_list(m, names)) {
		log_error("no method can be offered");
		gw_methods_stop(m);
		return -EINVAL;
	}
	*out = m;
	return 0;
}

void gw_methods_stop(struct gw_methods *m)
{
	if (!m)
		return;
	for (size_t i = m->count; i-- > 0;)
		m->list[i].method->gateway_stop(m->list[i].gw);
	free(m);
}

size_t gw_methods_interfaces(const struct gw_methods *m, bool borrowed,
			     const char *out[GW_METHODS_MAX])
{
	size_t n = 0;

	for (size_t i = 0; i < m->count; i++)
		if (*m->list[i].interface && m->list[i].method->borrows == borrowed)
			out[n++] = m->list[i].interface;
	return n;
}

void gw_methods_learn(struct gw_methods *m, const char *method, const struct net_addr *host,
		      const struct net_addr *server, struct json_object *options)
{
	struct running *r = method ? find(m, method) : NULL;
	char text[NET_ADDR_TEXT];

	json_object_object_del(options, "server");
	if (server->family)
		rpc_set_str(options, "server", net_addr_ip_text(server, text));
	if (r && r->method->gateway_learn)
		r->method->gateway_learn(r->gw, host, options);
}

static struct net_addr server_of(struct json_object *options)
{
	struct net_addr server = {0};
	struct json_object *v;

	if (json_object_object_get_ex(options, "server", &v) &&
	    json_object_is_type(v, json_type_string))
		net_addr_parse(&server, json_object_get_string(v), 0);
	return server;
}

/* The options were checked when the lease was made; what cannot be read now is no option. */
static struct json_object *options_of(const struct lease *l)
{
	struct json_object *o = NULL;

	if (l->options && *l->options)
		o = rpc_parse(l->options, strlen(l->options), NULL);
	if (o && json_object_is_type(o, json_type_object))
		return o;
	json_object_put(o);
	return json_object_new_object();
}

static int open_tunnel(struct gw_methods *m, const struct lease *l, struct json_object *answer,
		       char interface[IFNAMSIZ], char *why)
{
	struct running *r = find(m, l->method);
	struct tunnel_lease tl = {.sid = l->sid, .ip4 = l->ip4, .ip6 = l->ip6, .host = l->who.host};
	int rc;

	if (!r || !answer)
		return r ? -ENOMEM : -ENOENT;
	tl.options = options_of(l);
	if (!tl.options)
		return -ENOMEM;
	if (tl.host.family)
		tl.server = server_of(tl.options);
	rc = r->method->gateway_open(r->gw, &tl, answer, interface, why);
	json_object_put(tl.options);
	return rc;
}

static void set_source(struct gw_methods *m, struct lease *l)
{
	struct running *r = find(m, l->method);
	struct tunnel_source source = {.ip4 = l->ip4, .ip6 = l->ip6};

	if (r && r->method->gateway_source)
		r->method->gateway_source(r->gw, l->sid, &source);
	l->source4 = source.ip4;
	l->source6 = source.ip6;
	l->near4 = source.near4;
	l->near6 = source.near6;
	l->has_mac = source.has_mac;
	memcpy(l->source_mac, source.mac, sizeof(l->source_mac));
}

int gw_methods_open(struct gw_methods *m, struct lease *l, char why[GW_WHY_MAX])
{
	struct json_object *answer = json_object_new_object();
	int rc = open_tunnel(m, l, answer, l->interface, why);

	json_object_put(answer);
	if (!rc)
		set_source(m, l);
	return rc;
}

void gw_methods_close(struct gw_methods *m, const struct lease *l)
{
	struct running *r = find(m, l->method);

	if (r)
		r->method->gateway_close(r->gw, l->sid);
}

/* Opening again is how a method says its answer again. */
struct json_object *gw_methods_answer(struct gw_methods *m, const struct lease *l)
{
	struct json_object *answer = json_object_new_object();
	char interface[IFNAMSIZ], why[TUNNEL_WHY_MAX];

	if (open_tunnel(m, l, answer, interface, why) == 0)
		return answer;
	json_object_put(answer);
	return NULL;
}

struct json_object *gw_methods_info(struct gw_methods *m)
{
	struct json_object *list = json_object_new_array();
	const struct gw_method *offered;
	size_t count = gw_engine_methods(m->engine, &offered);

	/* The engine has them in the same order. */
	for (size_t i = 0; list && i < m->count && i < count; i++) {
		struct json_object *entry = json_object_new_object();

		if (!entry)
			break;
		rpc_set_str(entry, "name", m->list[i].method->name);
		rpc_set_bool(entry, "ready", offered[i].ready);
		if (m->list[i].method->gateway_info)
			m->list[i].method->gateway_info(m->list[i].gw, entry);
		json_object_array_add(list, entry);
	}
	return list;
}

struct json_object *gw_methods_absent(const struct gw_methods *m)
{
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; list && i < m->absent_count; i++) {
		struct json_object *entry = json_object_new_object();

		rpc_set_str(entry, "name", m->absent[i].name);
		rpc_set(entry, "reason", rpc_text(m->absent[i].why));
		json_object_array_add(list, entry);
	}
	return list;
}

bool gw_methods_counters(struct gw_methods *m, const struct lease *l, struct tunnel_counters *out)
{
	struct running *r = find(m, l->method);

	return r && r->method->gateway_counters(r->gw, l->sid, out) == 0;
}

bool gw_methods_accept(struct gw_methods *m, struct meshconn *conn)
{
	for (size_t i = 0; i < m->count; i++)
		if (rides_on_mesh(m->list[i].method) &&
		    m->list[i].method->gateway_accept(m->list[i].gw, conn))
			return true;
	return false;
}

void gw_methods_node_state(struct gw_methods *m, bool up)
{
	for (size_t i = 0; i < m->count; i++)
		if (rides_on_mesh(m->list[i].method))
			gw_engine_set_ready(m->engine, m->list[i].method->name, up);
}
