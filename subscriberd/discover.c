#include "subscriberd/discover.h"

#include <errno.h>
#include <event2/event.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/cstr.h"
#include "base/log.h"
#include "io/config_value.h"
#include "io/jsonrpc.h"
#include "io/netlink.h"
#include "io/timer.h"
#include "libmeshapp/meshapp.h"
#include "scan/scan.h"
#include "scan/text.h"
#include "subscriberd/api_scan.h"

#define GATEWAY_TYPE "internet_gateway"
#define GATEWAY_PORT 65533
#define NETWORK_TIMEOUTS 4    /* a network has so much longer to answer than a host */
#define FLUSH_US 200000u      /* what was found is on disk this soon */
#define PROGRESS_US 5000000u  /* events tell of it this often */
#define WAYS_MAX 4	      /* to one gateway, found by walking */
#define FIRST_WALK_US 500000u /* after the start: our node has had time to connect */

/* One question that is on its way. */
struct asked {
	TAILQ_ENTRY(asked) link;
	struct discover *d;
	uint64_t serial;
	const struct scan_module *module; /* NULL: a host is asked */
	void *request;
	struct rpc_client *call;
	struct event *failed; /* it could not be sent; told from the loop */
	char why[SCAN_WHY_MAX];
};
TAILQ_HEAD(asked_list, asked);

struct discover {
	struct discover_spec spec;
	struct walk *walk;
	struct graph_store *graph;
	struct scan_env env;
	struct asked_list asked;
	struct event *walk_timer, *start_timer, *flush_timer;
	uint32_t scan; /* number of the last one */
	struct graph_scan row;
	uint32_t absent;
	char absent_why[WALK_NETWORKS_MAX][WALK_WHY_MAX];
	struct discover_status ended[DISCOVER_CALLS_MAX];
	size_t ended_count; /* ever */
	uint64_t told_us;   /* when progress was told last */
};

static void rearm(struct discover *d);

static const struct config *config_of(const struct discover *d)
{
	return d->spec.daemon->cfg;
}

/* ---- names of networks ---- */

static int network_number(const char *name)
{
	const struct scan_module *const *modules = scan_modules();

	for (int i = 0; modules[i]; i++)
		if (strcmp(modules[i]->name, name) == 0)
			return i;
	return -1;
}

/* The set of a list; -1 and *bad for one that is not there. */
static int64_t networks_read(const char *list, char bad[NET_HOW_MAX + 1])
{
	uint32_t set = 0;
	char name[NET_HOW_MAX + 1];

	while (config_list_next(&list, name, sizeof name)) {
		int n = network_number(name);
		if (strcmp(name, "told") == 0)
			continue;
		if (n < 0) {
			memcpy(bad, name, sizeof name);
			return -1;
		}
		set |= UINT32_C(1) << n;
	}
	return set;
}

const char *discover_networks_text(uint32_t networks, char out[GRAPH_NETWORKS_MAX])
{
	const struct scan_module *const *modules = scan_modules();
	size_t len = 0;

	out[0] = '\0';
	for (int i = 0; modules[i]; i++)
		if (networks >> i & 1)
			len += (size_t)snprintf(out + len, GRAPH_NETWORKS_MAX - len, "%s%s",
						len ? "," : "", modules[i]->name);
	if (networks & WALK_TOLD)
		cstr_print(out + len, GRAPH_NETWORKS_MAX - len, "%stold", len ? "," : "");
	return out;
}

static size_t ports_read(const char *list, uint16_t ports[WALK_PORTS_MAX])
{
	char item[16];
	size_t n = 0;

	while (config_list_next(&list, item, sizeof item)) {
		uint32_t port = text_number(item, 0);
		if (port == 0 || port > UINT16_MAX || n == WALK_PORTS_MAX)
			return 0;
		ports[n++] = (uint16_t)port;
	}
	return n;
}

int discover_check(const struct config *cfg, config_report *report, void *ctx)
{
	uint16_t ports[WALK_PORTS_MAX];
	struct net_prefix allowed[WALK_ALLOWED_MAX];
	char bad[NET_HOW_MAX + 1], line[200] = "";

	if (networks_read(cfg->subscriber_networks, bad) < 0)
		cstr_print(line, sizeof line, "subscriber.Networks: there is no network '%s'", bad);
	else if (ports_read(cfg->subscriber_scan_ports, ports) == 0)
		cstr_print(line, sizeof line, "subscriber.ScanPorts: 1 to %d ports are wanted",
			   WALK_PORTS_MAX);
	else if (net_prefix_parse_list(allowed, WALK_ALLOWED_MAX, cfg->subscriber_scan_networks) <
		 0)
		snprintf(line, sizeof line, "subscriber.ScanNetworks: at most %d networks",
			 WALK_ALLOWED_MAX);
	if (!line[0])
		return 0;
	report(ctx, line);
	return -EINVAL;
}

/* ---- questions of the walk ---- */

static void asked_free(struct asked *a)
{
	TAILQ_REMOVE(&a->d->asked, a, link);
	event_drop(a->failed);
	free(a);
}

static void on_answer(int err, const char *why, const uint8_t *data, size_t len, void *arg)
{
	struct asked *a = arg;
	struct discover *d = a->d;
	char text[SCAN_WHY_MAX];

	a->request = NULL;
	if (!err) {
		struct api_scan_sink sink = {d->walk, a->serial, daemon_wall_s()};
		err = a->module->parse(
			data, len,
			&(struct scan_sink){api_scan_saw_host, api_scan_saw_link, &sink});
		why = "its answer makes no sense";
	}
	cstr_copy(text, sizeof text, why);
	if (err)
		log_debug("network %s: %s", a->module->name, text);
	walk_on_query(d->walk, a->serial, err ? text : NULL, daemon_wall_s(), daemon_now_us());
	asked_free(a);
	rearm(d);
}

static void on_info(const struct rpc_answer *answer, void *arg)
{
	struct asked *a = arg;
	struct discover *d = a->d;
	struct walk_gateway gateway = {0};
	struct net_addr told[WALK_TOLD_MAX];
	size_t count = 0;
	enum walk_answer said = WALK_NO_GATEWAY;

	a->call = NULL;
	/* Somebody is there who speaks something else. */
	if (answer->outcome == RPC_OUTCOME_DOWN && answer->code != -EPROTO)
		said = WALK_SILENT;
	else if (answer->outcome == RPC_OUTCOME_RESULT &&
		 api_scan_read_info(answer->result, &gateway, told, &count))
		said = WALK_GATEWAY;
	walk_on_ask(d->walk, a->serial, said, &gateway, told, count, daemon_wall_s(),
		    daemon_now_us());
	asked_free(a);
	rearm(d);
}

/* It could not even be sent. */
static void on_failed(evutil_socket_t fd, short what, void *arg)
{
	struct asked *a = arg;
	struct discover *d = a->d;

	(void)fd, (void)what;
	if (a->module)
		walk_on_query(d->walk, a->serial, a->why, daemon_wall_s(), daemon_now_us());
	else
		walk_on_ask(d->walk, a->serial, WALK_SILENT, NULL, NULL, 0, daemon_wall_s(),
			    daemon_now_us());
	asked_free(a);
	rearm(d);
}

static void asked_failed(struct asked *a, const char *why)
{
	static const struct timeval at_once = {0, 0};

	cstr_copy(a->why, sizeof a->why, why);
	a->failed = timer_new(a->d->spec.daemon->base, on_failed, a);
	if (!a->failed || evtimer_add(a->failed, &at_once))
		log_error("out of memory: a scan will not end");
}

static struct asked *asked_new(struct discover *d, uint64_t serial)
{
	struct asked *a = calloc(1, sizeof *a);

	if (!a)
		return NULL;
	a->d = d;
	a->serial = serial;
	TAILQ_INSERT_TAIL(&d->asked, a, link);
	return a;
}

static void op_query(void *ctx, unsigned network, const struct net_host *host, uint64_t serial)
{
	struct discover *d = ctx;
	struct asked *a = asked_new(d, serial);
	int err;

	if (!a)
		return;
	a->module = scan_modules()[network];
	/* A network may have to ask around itself. */
	d->env.timeout_us = config_of(d)->subscriber_scan_timeout * 1000 * NETWORK_TIMEOUTS;
	err = a->module->query(&a->request, &d->env, host, on_answer, a);
	if (err)
		asked_failed(a, strerror(-err));
}

static void op_ask(void *ctx, const struct net_addr *addr, uint64_t serial)
{
	struct discover *d = ctx;
	struct asked *a = asked_new(d, serial);
	char ip[NET_ADDR_TEXT];
	struct json_object *params;

	if (!a)
		return;
	params = api_scan_ask(d->walk);
	a->call = rpc_client_call(
		d->spec.daemon->base,
		&(struct rpc_target){.host = net_addr_ip_text(addr, ip),
				     .port = addr->port,
				     .timeout_us = config_of(d)->subscriber_scan_timeout * 1000},
		"nodeInfo", params, on_info, a);
	json_object_put(params);
	if (!a->call)
		asked_failed(a, "out of memory");
}

static void asked_drop_all(struct discover *d)
{
	struct asked *a;

	while ((a = TAILQ_FIRST(&d->asked))) {
		if (a->request)
			a->module->query_cancel(a->request);
		if (a->call)
			rpc_client_cancel(a->call);
		asked_free(a);
	}
}

/* ---- what the walk says ---- */

static void tell(struct discover *d, const char *name, struct json_object *data)
{
	if (d->spec.event)
		d->spec.event(d->spec.ctx, name, data);
	else
		json_object_put(data);
}

static void on_pending(void *arg)
{
	struct discover *d = arg;

	timer_in(d->flush_timer, FLUSH_US);
}

static void on_flush(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	graph_store_flush(((struct discover *)arg)->graph);
}

static void op_host(void *ctx, const struct walk_host *h, bool news)
{
	struct discover *d = ctx;
	char networks[GRAPH_NETWORKS_MAX];

	graph_store_host(d->graph, h, discover_networks_text(h->networks, networks), news);
}

static void op_link(void *ctx, const struct walk_link *l, bool news)
{
	struct discover *d = ctx;

	graph_store_link(d->graph, l, scan_modules()[l->network]->name, news);
}

static void op_forget(void *ctx, const struct walk_host *h)
{
	graph_store_forget(((struct discover *)ctx)->graph, h);
}

static void found(struct discover *d, const struct sub_contact *c)
{
	sub_engine_found(d->spec.engine, c, NULL, daemon_wall_s(), daemon_now_us());
}

/* It says that it is a gateway which we reach in ways enough, or which is our own host's: if that
 * is true it is not needed, otherwise even less.  What is not proven of the others hides nobody. */
static bool known_elsewhere(const struct discover *d, const struct walk_host *h)
{
	const char *id = h->gateway->id;
	const struct walk_host *other;
	size_t it = 0;

	if (!id[0])
		return false;
	while ((other = walk_next_host(d->walk, &it)))
		if (other != h && !other->gone && other->answer == WALK_GATEWAY &&
		    net_host_is_own(&other->host) && strcmp(other->gateway->id, id) == 0)
			return true;
	return sub_engine_ways(d->spec.engine, id, daemon_now_us()) >= WAYS_MAX;
}

static void op_gateway(void *ctx, const struct walk_host *h)
{
	struct discover *d = ctx;

	tell(d, "scan.gateway", api_scan_gateway_json(h));
	if (!net_host_is_own(&h->host) && known_elsewhere(d, h))
		return;
	found(d, &(struct sub_contact){.via = SUB_VIA_HTTP, .addr = h->gateway->addr});
	d->spec.changed(d->spec.ctx);
}

static void status_now(const struct discover *d, struct discover_status *out)
{
	cstr_print(out->call_id, sizeof out->call_id, "scan-%u", d->scan);
	walk_progress(d->walk, &out->progress);
	out->absent = d->absent;
	for (int n = 0; n < WALK_NETWORKS_MAX; n++)
		if (d->absent >> n & 1)
			memcpy(out->progress.why[n], d->absent_why[n], WALK_WHY_MAX);
}

static void op_finished(void *ctx)
{
	struct discover *d = ctx;
	struct discover_status *s = &d->ended[d->ended_count++ % DISCOVER_CALLS_MAX];

	status_now(d, s);
	d->row.finished_s = daemon_wall_s();
	graph_store_scan(d->graph, &d->row);
	graph_store_flush(d->graph);
	log_info("scan %u: %u hosts, %u links, %u gateways", d->scan, s->progress.hosts,
		 s->progress.links, s->progress.gateways);
	tell(d, "scan.finished", api_scan_status_json(s, NULL));
}

static const struct walk_ops ops = {op_query,  op_ask,	   op_host,    op_link,
				    op_forget, op_gateway, op_finished};

/* ---- time ---- */

static void tell_progress(struct discover *d)
{
	struct discover_status s;

	if (daemon_now_us() < d->told_us + PROGRESS_US)
		return;
	d->told_us = daemon_now_us();
	status_now(d, &s);
	if (s.progress.running)
		tell(d, "scan.progress", api_scan_status_json(&s, NULL));
}

static void rearm(struct discover *d)
{
	uint64_t at = walk_next(d->walk), now = daemon_now_us();

	tell_progress(d);
	if (at == TIMER_NEVER) {
		evtimer_del(d->walk_timer);
		return;
	}
	timer_in(d->walk_timer, at > now ? at - now : 0);
}

static void on_walk(evutil_socket_t fd, short what, void *arg)
{
	struct discover *d = arg;

	(void)fd, (void)what;
	walk_run(d->walk, daemon_wall_s(), daemon_now_us());
	rearm(d);
}

/* ---- begin of a scan ---- */

static struct walk_policy policy_of(const struct config *cfg)
{
	const struct scan_module *const *modules = scan_modules();
	struct walk_policy p = {.delay_us = cfg->subscriber_scan_delay * 1000,
				.parallel = (unsigned)cfg->subscriber_scan_parallel,
				.depth_max = (unsigned)cfg->subscriber_scan_depth,
				.gateways_max = (unsigned)cfg->subscriber_scan_gateways,
				.hosts_max = (size_t)cfg->subscriber_scan_hosts};
	int n = net_prefix_parse_list(p.allowed, WALK_ALLOWED_MAX, cfg->subscriber_scan_networks);

	p.allowed_count = n > 0 ? (size_t)n : 0;
	p.port_count = ports_read(cfg->subscriber_scan_ports, p.ports);
	for (int i = 0; modules[i]; i++)
		if (modules[i]->walks)
			p.walkers |= UINT32_C(1) << i;
	p.network_delay_us[network_number("l2")] = cfg->l2_delay * 1000;
	return p;
}

struct own {
	struct net_addr addrs[WALK_OWN_MAX];
	size_t count;
};

static int take_own(const struct nl_addr *a, void *ctx)
{
	struct own *own = ctx;

	if (own->count < WALK_OWN_MAX - 1 && scan_addr_usable(&a->prefix.addr))
		own->addrs[own->count++] = a->prefix.addr;
	return 0;
}

/* IPv4 first: the first is where our own host is asked.  Loopback is there without any network. */
static struct own read_own(void)
{
	struct own own = {.count = 0};
	struct nl *nl = NULL;

	if (nl_open(&nl) == 0) {
		nl_addr_list(nl, 4, take_own, &own);
		nl_addr_list(nl, 6, take_own, &own);
	}
	nl_close(nl);
	net_addr_parse(&own.addrs[own.count++], "127.0.0.1", 0);
	return own;
}

static bool own_address(const struct net_addr *addr)
{
	struct own own = read_own();

	for (size_t i = 0; i < own.count; i++) {
		own.addrs[i].port = addr->port;
		if (net_addr_equal(&own.addrs[i], addr))
			return true;
	}
	return net_addr_is_loopback(addr);
}

bool discover_is_own(const struct discover *d, const struct sub_gateway *g)
{
	const struct sub_contact *c = &g->contact;
	const struct mesh_id *node = d->spec.app ? meshapp_node(d->spec.app) : NULL;
	const struct walk_host *h;
	size_t it = 0;

	if (c->via == SUB_VIA_MESH && node && mesh_id_equal(node, &c->node))
		return true;
	if (c->via == SUB_VIA_HTTP && own_address(&c->addr))
		return true;
	/* Another way to what answered as the gateway here. */
	while (g->id[0] && (h = walk_next_host(d->walk, &it)))
		if (net_host_is_own(&h->host) && h->answer == WALK_GATEWAY &&
		    strcmp(h->gateway->id, g->id) == 0)
			return true;
	return false;
}

/* Those of the set that are here; why the others are not is noted. */
static uint32_t present(struct discover *d, uint32_t wanted)
{
	const struct scan_module *const *modules = scan_modules();
	uint32_t here = 0;

	d->absent = 0;
	for (int i = 0; modules[i]; i++) {
		if (!(wanted >> i & 1))
			continue;
		d->absent_why[i][0] = '\0';
		if (modules[i]->probe(&d->env, d->absent_why[i]) == 0) {
			here |= UINT32_C(1) << i;
			continue;
		}
		d->absent |= UINT32_C(1) << i;
		log_debug("network %s: %s", modules[i]->name, d->absent_why[i]);
	}
	return here;
}

static void start(struct discover *d, uint32_t wanted, uint32_t scan)
{
	struct walk_policy policy = policy_of(config_of(d));
	char text[GRAPH_NETWORKS_MAX];
	uint32_t here = present(d, wanted);
	struct own own = read_own();
	struct discover_status s;

	walk_set_own(d->walk, own.addrs, own.count);
	walk_set_policy(d->walk, &policy);
	d->scan = scan;
	if (!walk_start(d->walk, here, scan, daemon_wall_s(), daemon_now_us()))
		return;
	d->row = (struct graph_scan){.number = scan, .started_s = daemon_wall_s()};
	cstr_copy(d->row.networks, sizeof d->row.networks, discover_networks_text(wanted, text));
	graph_store_scan(d->graph, &d->row);
	status_now(d, &s);
	log_info("scan %u of %s begins", scan,
		 here ? discover_networks_text(here, text) : "no network");
	tell(d, "scan.started", api_scan_status_json(&s, NULL));
	d->told_us = daemon_now_us();
	rearm(d);
}

static uint32_t configured(const struct discover *d)
{
	char bad[NET_HOW_MAX + 1];
	int64_t set = networks_read(config_of(d)->subscriber_networks, bad);

	return set > 0 ? (uint32_t)set : 0;
}

int discover_scan(struct discover *d, const char *networks, char call_id[DISCOVER_CALL_ID_MAX],
		  char *why)
{
	char bad[NET_HOW_MAX + 1];
	int64_t set = networks ? networks_read(networks, bad) : configured(d);
	struct walk_progress p;

	if (set < 0) {
		cstr_print(why, WALK_WHY_MAX, "there is no network '%s'", bad);
		return -EINVAL;
	}
	walk_progress(d->walk, &p);
	if (!p.running)
		start(d, (uint32_t)set, d->scan + 1);
	cstr_print(call_id, DISCOVER_CALL_ID_MAX, "scan-%u", d->scan);
	return 0;
}

static void schedule(struct discover *d, uint64_t after_us)
{
	if (config_of(d)->subscriber_walk_interval)
		timer_in(d->start_timer, after_us);
	else
		evtimer_del(d->start_timer);
}

/* By itself only where there is something to walk. */
static void on_start(evutil_socket_t fd, short what, void *arg)
{
	struct discover *d = arg;
	struct walk_progress p;

	(void)fd, (void)what;
	walk_progress(d->walk, &p);
	if (!p.running && present(d, configured(d)))
		start(d, configured(d), d->scan + 1);
	schedule(d, config_of(d)->subscriber_walk_interval * 1000000);
}

/* ---- what is kept ---- */

static void on_kept_host(const struct graph_host *row, void *ctx)
{
	struct discover *d = ctx;
	char bad[NET_HOW_MAX + 1];
	int64_t set = networks_read(row->networks, bad);
	struct walk_host h = row->h;

	h.networks =
		(set > 0 ? (uint32_t)set : 0) | (strstr(row->networks, "told") ? WALK_TOLD : 0);
	walk_restore_host(d->walk, &h, &row->from);
}

static void on_kept_link(const struct graph_link *row, void *ctx)
{
	struct discover *d = ctx;
	struct walk_link l = row->l;
	int n = network_number(row->network);

	if (n < 0)
		return;
	l.network = (uint8_t)n;
	walk_restore_link(d->walk, &row->a, &row->b, &l);
}

static int load(struct discover *d)
{
	size_t max = (size_t)config_of(d)->subscriber_scan_hosts;
	int err = graph_store_last_scan(d->graph, &d->row);

	if (!err)
		err = graph_store_hosts(d->graph, 0, max, on_kept_host, d);
	if (!err)
		err = graph_store_links(d->graph, 0, max * WALK_LINKS_PER_HOST, on_kept_link, d);
	d->scan = d->row.number;
	return err;
}

/* Goes on with the scan that the last run did not end. */
static bool resume(struct discover *d)
{
	char bad[NET_HOW_MAX + 1];
	int64_t set = networks_read(d->row.networks, bad);

	if (!d->row.number || d->row.finished_s || set <= 0)
		return false;
	log_info("scan %u was interrupted and goes on", d->row.number);
	start(d, (uint32_t)set, d->row.number);
	return true;
}

/* ---- begin and end ---- */

static int open_all(struct discover *d)
{
	struct event_base *base = d->spec.daemon->base;
	struct walk_policy policy = policy_of(config_of(d));
	char path[512];
	uint64_t seed;
	int err = daemon_state_path(d->spec.daemon, "graph.db", path, sizeof path);

	randombytes_buf(&seed, sizeof seed);
	d->walk = walk_new(&policy, &ops, d, seed);
	d->walk_timer = timer_new(base, on_walk, d);
	d->start_timer = timer_new(base, on_start, d);
	d->flush_timer = timer_new(base, on_flush, d);
	if (!d->walk || !d->walk_timer || !d->start_timer || !d->flush_timer)
		return -ENOMEM;
	if (!err)
		err = graph_store_open(&d->graph, path, config_of(d), on_pending, d);
	return err ? err : load(d);
}

int discover_new(struct discover **out, const struct discover_spec *spec)
{
	struct discover *d = calloc(1, sizeof *d);
	int err;

	if (!d)
		return -ENOMEM;
	d->spec = *spec;
	d->env = (struct scan_env){.base = spec->daemon->base, .cfg = spec->daemon->cfg};
	TAILQ_INIT(&d->asked);
	*out = d;
	err = open_all(d);
	if (err)
		return err;
	schedule(d, resume(d) ? config_of(d)->subscriber_walk_interval * 1000000 : FIRST_WALK_US);
	return 0;
}

void discover_free(struct discover *d)
{
	struct event *events[3];

	if (!d)
		return;
	asked_drop_all(d);
	graph_store_close(d->graph);
	walk_free(d->walk);
	memcpy(events, (struct event *[]){d->walk_timer, d->start_timer, d->flush_timer},
	       sizeof events);
	for (size_t i = 0; i < 3; i++)
		event_drop(events[i]);
	free(d);
}

void discover_reload(struct discover *d)
{
	struct walk_policy policy = policy_of(config_of(d));

	walk_set_policy(d->walk, &policy);
	schedule(d, config_of(d)->subscriber_walk_interval * 1000000);
}

/* ---- the list of apps and the configuration ---- */

static bool listed(const struct meshapp_entry *entries, size_t count, const struct sub_contact *c)
{
	for (size_t i = 0; i < count; i++)
		if (mesh_id_equal(&entries[i].node, &c->node) &&
		    strcmp(entries[i].app, c->app) == 0)
			return true;
	return false;
}

static void on_list(void *arg, uint16_t code, const struct meshapp_entry *entries, size_t count)
{
	struct discover *d = arg;
	struct sub_engine *engine = d->spec.engine;
	const struct sub_gateway *g;
	size_t it = 0;

	if (code != CODE_OK) {
		log_debug("apptracker was not asked: %s", msg_code_name(code));
		return;
	}
	for (size_t i = 0; i < count; i++) {
		struct sub_contact c = {.via = SUB_VIA_MESH, .node = entries[i].node};
		cstr_copy(c.app, sizeof c.app, entries[i].app);
		found(d, &c);
	}
	while ((g = sub_engine_next_gateway(engine, &it)))
		if (g->contact.via == SUB_VIA_MESH && !listed(entries, count, &g->contact))
			sub_engine_vanished(engine, &g->contact, daemon_now_us());
	d->spec.changed(d->spec.ctx);
}

void discover_run(struct discover *d)
{
	const char *at = config_of(d)->subscriber_gateways;
	struct meshapp *app = d->spec.app;
	char item[NET_ADDR_TEXT];

	while (config_list_next(&at, item, sizeof item)) {
		struct sub_contact c = {.via = SUB_VIA_HTTP};
		if (net_addr_parse(&c.addr, item, GATEWAY_PORT) == 0)
			found(d, &c);
	}
	if (app && meshapp_is_up(app))
		meshapp_list(app, APP_LIST_BY_TYPE, GATEWAY_TYPE, on_list, d);
}

/* ---- looking at it ---- */

const struct walk *discover_walk(const struct discover *d)
{
	return d->walk;
}

struct graph_store *discover_graph(struct discover *d)
{
	return d->graph;
}

int discover_status(const struct discover *d, const char *call_id, struct discover_status *out)
{
	size_t kept = d->ended_count < DISCOVER_CALLS_MAX ? d->ended_count : DISCOVER_CALLS_MAX;

	status_now(d, out);
	if (!d->scan)
		return -ENOENT;
	if (!call_id || strcmp(call_id, out->call_id) == 0)
		return 0;
	for (size_t i = 0; i < kept; i++)
		if (strcmp(d->ended[i].call_id, call_id) == 0) {
			*out = d->ended[i];
			return 0;
		}
	return -ENOENT;
}

static bool in_configuration(const struct discover *d, const struct net_addr *a)
{
	const char *at = config_of(d)->subscriber_gateways;
	char item[NET_ADDR_TEXT];
	struct net_addr b;

	while (config_list_next(&at, item, sizeof item))
		if (net_addr_parse(&b, item, GATEWAY_PORT) == 0 && net_addr_equal(a, &b))
			return true;
	return false;
}

const char *discover_found_by(const struct discover *d, const struct sub_contact *c,
			      char out[GRAPH_NETWORKS_MAX])
{
	struct net_host host = {.addr = c->addr};
	const struct walk_host *h = walk_find(d->walk, &host);

	if (c->via == SUB_VIA_MESH)
		cstr_print(out, GRAPH_NETWORKS_MAX, "apptracker");
	else if (in_configuration(d, &c->addr))
		cstr_print(out, GRAPH_NETWORKS_MAX, "configured");
	else if (h && net_host_is_own(&h->host))
		cstr_print(out, GRAPH_NETWORKS_MAX, "own host");
	else if (h && h->networks == WALK_TOLD)
		cstr_print(out, GRAPH_NETWORKS_MAX, "told by %s",
			   h->from && h->from->gateway ? h->from->gateway->name : "a gateway");
	else if (h)
		discover_networks_text(h->networks & ~WALK_TOLD, out);
	else
		cstr_print(out, GRAPH_NETWORKS_MAX, "named by hand");
	return out;
}
