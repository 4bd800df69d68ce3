#include "node/engine_impl.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

void node_engine_config_init(struct node_engine_config *c)
{
	*c = (struct node_engine_config){
		.max_transports = 4096,
		.max_routes = 65536,
		.max_connections = 4096,
		.max_apps = 256,
		.max_connections_per_app = 4096,
		.congestion = CONGESTION_BBR,
		.ciphers = UINT_MAX,
		.app_pending_max_bytes = 1u << 20,
		.connection_buffer_bytes = 8u << 20,
		.message_max_bytes = MAX_MESSAGE_BYTES,
		.stats_interval_us = 2000000,
	};
}

static void maps_init(struct node_engine *e)
{
	const struct node_engine_config *c = &e->config;
	uint64_t seed;

	e->ops.random(e->ctx, &seed, sizeof seed);
	map_init(&e->links, sizeof(uint32_t), c->max_transports, seed);
	map_init(&e->conns, sizeof(uint64_t), c->max_connections, seed);
	map_init(&e->conns_by_low, sizeof(uint32_t), c->max_connections, seed);
	map_init(&e->requests, sizeof(uint32_t), REQUESTS_MAX, seed);
	route_table_init(&e->routes, c->max_routes, seed);
}

static void lists_init(struct node_engine *e)
{
	TAILQ_INIT(&e->all_links);
	TAILQ_INIT(&e->dirty_links);
	TAILQ_INIT(&e->dead_links);
	TAILQ_INIT(&e->dirty_conns);
	TAILQ_INIT(&e->dead_conns);
	TAILQ_INIT(&e->all_apps);
	TAILQ_INIT(&e->request_order);
	TAILQ_INIT(&e->held);
}

struct node_engine *node_engine_new(const struct node_engine_config *config,
				    const struct node_engine_ops *ops, void *ctx, uint64_t now)
{
	struct node_engine *e = calloc(1, sizeof *e);

	if (!e)
		return NULL;
	e->config = *config;
	e->ops = *ops;
	e->ctx = ctx;
	e->ops.random(e->ctx, &e->instance, sizeof e->instance);
	timerq_init(&e->timers);
	pkt_pool_init(&e->pool, PKT_POOL_KEEP);
	maps_init(e);
	route_changed(e);
	lists_init(e);
	timer_init(&e->stats_timer, link_stats_fire, e);
	timer_init(&e->request_timer, request_fire, e);
	timer_init(&e->held_timer, request_held_fire, e);
	if (timerq_set(&e->timers, &e->stats_timer, now + config->stats_interval_us)) {
		free(e);
		return NULL;
	}
	return e;
}

void node_engine_free(struct node_engine *e)
{
	if (!e)
		return;
	request_free_all(e);
	conn_free_all(e);
	link_free_all(e);
	app_free_all(e);
	route_table_free(&e->routes);
	map_free(&e->links);
	map_free(&e->conns);
	map_free(&e->conns_by_low);
	map_free(&e->requests);
	timerq_free(&e->timers);
	pkt_pool_free(&e->pool);
	explicit_bzero(&e->config, sizeof e->config);
	free(e);
}

void node_engine_shutdown(struct node_engine *e, uint64_t now)
{
	engine_manager_send(
		e, &(struct msg){.type = MSG_Shutdown,
				 .shutdown = {.code = CODE_OK, .text = bytes_str("node ends")}});
	/* The manager takes it from there: one word for all. */
	bool told = e->registered;
	e->registered = false;
	conn_close_all(e, CODE_CLOSED, now);
	node_engine_flush(e, now);
	if (told || !e->settings.max_packet_size)
		link_close_all(e, CODE_CLOSED, now);
	node_engine_flush(e, now);
}

void node_engine_set_addrs(struct node_engine *e, const struct net_addr *addrs, size_t n)
{
	e->addr_count = n < ADDRS_MAX ? n : ADDRS_MAX;
	for (size_t i = 0; i < e->addr_count; i++)
		e->addrs[i] = addrs[i];
}

/* --- the manager channel ------------------------------------------------------------------- */

uint32_t engine_next_seq(struct node_engine *e)
{
	e->next_seq = (e->next_seq + 1) & 0x7fffffffu;
	return e->next_seq ? e->next_seq : ++e->next_seq;
}

void engine_manager_send(struct node_engine *e, const struct msg *m)
{
	if (e->registered)
		e->ops.manager_send(e->ctx, m);
}

void engine_manager_ack(struct node_engine *e, uint32_t seq, uint16_t code, uint64_t value,
			const char *text)
{
	struct msg m = {.type = MSG_CommonAck, .seq = seq};

	if (!seq)
		return;
	m.common_ack.code = code;
	m.common_ack.value = value;
	m.common_ack.text = bytes_str(text ? text : "");
	engine_manager_send(e, &m);
}

void engine_ended(struct node_engine *e, uint16_t type, uint64_t id, uint16_t code)
{
	struct msg m = {.type = type};

	if (type == MSG_TransportShutdown) {
		m.transport_shutdown.transport = (uint32_t)id;
		m.transport_shutdown.code = code;
		m.transport_shutdown.text = bytes_str(msg_code_name(code));
	} else {
		m.connection_shutdown.connection = id;
		m.connection_shutdown.code = code;
		m.connection_shutdown.text = bytes_str(msg_code_name(code));
	}
	engine_manager_send(e, &m);
}

void engine_refused(struct node_engine *e, const char *what, uint64_t now)
{
	e->past.refused++;
	if (log_limit_due(&e->log_refused, now))
		log_warn("limit reached: %s (refused %llu so far)", what,
			 (unsigned long long)e->past.refused);
}

void node_engine_manager_up(struct node_engine *e, uint64_t now)
{
	struct msg m = {.type = MSG_RegisterNode, .seq = engine_next_seq(e)};
	struct msg_register_node *r = &m.register_node;

	(void)now;
	e->manager_up = true;
	e->registered = false;
	e->register_seq = m.seq;
	r->version = PROTOCOL_VERSION;
	r->instance = e->instance;
	r->name = bytes_str(e->config.name);
	r->token = bytes_str(e->config.token);
	r->connect = e->config.connect;
	r->addrs_count = (uint16_t)e->addr_count;
	for (size_t i = 0; i < e->addr_count; i++)
		r->addrs[i].addr = e->addrs[i];
	e->ops.manager_send(e->ctx, &m);
}

static void manager_lost(struct node_engine *e, uint64_t now)
{
	e->manager_up = e->registered = false;
	request_manager_lost(e, now);
	conn_close_unbound(e, now);
}

void node_engine_manager_down(struct node_engine *e, uint64_t now)
{
	if (e->registered)
		log_warn("manager is away; links and connections go on");
	manager_lost(e, now);
}

static size_t clamp(uint64_t v, size_t lo, size_t hi)
{
	return v < lo ? lo : v > hi ? hi : (size_t)v;
}

void engine_take_settings(struct node_engine *e, const struct keep_settings *a)
{
	e->settings = *a;
	e->packet_bytes = clamp(a->max_packet_size, PACKET_MIN_MTU_BYTES - IP_UDP_OVERHEAD_BYTES,
				PACKET_MAX_BYTES - IP_UDP_OVERHEAD_BYTES);
	e->egress_bytes = clamp(a->max_buffer, 65536, 256u << 20);
	e->connection_timeout_us = clamp(a->connection_timeout_us, 500000, 600000000);
	e->send_interval_us = clamp(a->send_interval_us, 100000, 60000000);
	e->time_unit_us = (uint32_t)clamp(a->time_unit_us, 100, 1000000);
	e->retransmit_limit = (unsigned)clamp(a->retransmit_limit, 1, 100);
}

static void take_common(struct node_engine *e, const struct msg_register_node_ack *a)
{
	engine_take_settings(e, &(struct keep_settings){
					.max_buffer = a->max_buffer,
					.max_packet_size = a->max_packet_size,
					.time_unit_us = a->time_unit_us,
					.send_interval_us = a->send_interval_us,
					.connection_timeout_us = a->connection_timeout_us,
					.retransmit_limit = a->retransmit_limit,
				});
	engine_kept_changed(e);
}

static void start_from_nothing(struct node_engine *e, uint64_t now)
{
	conn_close_all(e, CODE_LOST, now);
	conn_reap(e);
	link_close_all(e, CODE_CLOSED, now);
	link_reap(e, now);
	route_drop_all(e);
}

static void manager_refuse(struct node_engine *e, const char *why, uint64_t now)
{
	manager_lost(e, now);
	e->ops.manager_close(e->ctx, why);
}

static void register_ack(struct node_engine *e, const struct msg *m, uint64_t now)
{
	const struct msg_register_node_ack *a = &m->register_node_ack;
	char text[128];

	/* Sequence 0: refused before we have asked. */
	if (e->registered || (m->seq != e->register_seq && (m->seq || a->code == CODE_OK)))
		return;
	if (a->code != CODE_OK) {
		bytes_to_cstr(a->text, text, sizeof text);
		log_error("manager refuses this node: %s (%s)", msg_code_name(a->code), text);
		manager_refuse(e, "refused", now);
		return;
	}
	if (!mesh_id_equal(&a->id, &e->config.id)) {
		log_error("manager takes us for another node");
		manager_refuse(e, "wrong id", now);
		return;
	}
	take_common(e, a);
	if (!a->keep)
		start_from_nothing(e, now);
	else
		link_give_up_lost(e, now);
	link_seek_all(e, now);
	e->registered = true;
	log_info("registered with the manager as a %s%s", node_role_name(a->role),
		 a->keep ? ", everything kept" : "");
	if (a->keep)
		report_send_all(e);
	app_announce_all(e, now);
	request_release_held(e, now);
}

static void manager_shutdown(struct node_engine *e, const struct msg_shutdown *s)
{
	char text[128];

	bytes_to_cstr(s->text, text, sizeof text);
	log_info("manager ends this node: %s", text);
	e->ops.quit(e->ctx, text);
}

/* lint: flat */
void node_engine_manager_message(struct node_engine *e, const struct msg *m, uint64_t now)
{
	if (!e->manager_up)
		return;
	if (m->type == MSG_RegisterNodeAck) {
		register_ack(e, m, now);
		return;
	}
	if (!e->registered) {
		if (log_limit_due(&e->log_protocol, now))
			log_warn("manager sent %s before RegisterNodeAck", msg_type_name(m->type));
		return;
	}
	switch (m->type) {
	case MSG_TransportCreate:
	case MSG_OpenUDP:
	case MSG_TransportShutdown:
		link_message(e, m, now);
		break;
	case MSG_AddRoute:
	case MSG_RemoveRoute:
		route_message(e, m);
		break;
	case MSG_AssignConnection:
	case MSG_ConnectionOn:
	case MSG_ConnectionShutdown:
		conn_message(e, m, now);
		break;
	case MSG_StandbyRoute:
		standby_message(e, m);
		break;
	case MSG_ConnectWithRouteAck:
	case MSG_AppListResponse:
	case MSG_RegisterAppAck:
		request_answer(e, m, now);
		break;
	case MSG_Ping:
		engine_manager_ack(e, m->seq, CODE_OK, m->ping.nonce, NULL);
		break;
	case MSG_Shutdown:
		manager_shutdown(e, &m->shutdown);
		break;
	default: /* CommonAck and ConnectDirectlyAck: nothing waits for them */
		break;
	}
}

bool node_engine_registered(const struct node_engine *e)
{
	return e->registered;
}

/* --- time and work --------------------------------------------------------------------------- */

static void flush_conns(struct node_engine *e, uint64_t now)
{
	struct node_conn *c;

	while ((c = TAILQ_FIRST(&e->dirty_conns))) {
		TAILQ_REMOVE(&e->dirty_conns, c, work);
		c->dirty = false;
		conn_flush(c, now);
	}
}

static void flush_links(struct node_engine *e, uint64_t now)
{
	struct node_link *l;

	while ((l = TAILQ_FIRST(&e->dirty_links))) {
		TAILQ_REMOVE(&e->dirty_links, l, work);
		l->dirty = false;
		if (!l->dead)
			transport_flush(l->transport, now);
	}
}

static bool work_left(const struct node_engine *e)
{
	return !TAILQ_EMPTY(&e->dirty_conns) || !TAILQ_EMPTY(&e->dirty_links) ||
	       !TAILQ_EMPTY(&e->dead_conns) || !TAILQ_EMPTY(&e->dead_links);
}

/* Bounded, so that no pair of state machines that wake each other can hold the loop: what is left
 * is done in the next tick, which next_timeout then wants at once. */
void node_engine_flush(struct node_engine *e, uint64_t now)
{
	for (unsigned round = 0; round < FLUSH_ROUNDS_MAX && work_left(e); round++) {
		flush_conns(e, now);
		flush_links(e, now);
		link_reap(e, now);
		conn_reap(e);
	}
}

uint64_t node_engine_next_timeout(const struct node_engine *e)
{
	return work_left(e) ? 0 : timerq_next(&e->timers);
}

void node_engine_tick(struct node_engine *e, uint64_t now)
{
	timerq_run(&e->timers, now);
	node_engine_flush(e, now);
}

void node_engine_get_status(const struct node_engine *e, struct node_status *out)
{
	const struct node_link *l;
	const struct node_app *a;
	size_t it = 0;
	struct node_conn *c;

	*out = e->past;
	out->transports = e->links.count;
	out->routes = route_table_count(&e->routes);
	out->connections = e->conns.count;
	out->apps = e->app_count;
	out->requests = e->requests.count + e->held_count;
	out->live_packets = e->pool.live;
	out->registered = e->registered;
	TAILQ_FOREACH(l, &e->all_links, all) {
		struct transport_stats s;
		transport_get_stats(l->transport, &s);
		out->transports_up += transport_get_state(l->transport) == TRANSPORT_CONNECTED;
		out->queued_bytes += (size_t)(s.queue_bytes + s.inflight_bytes);
		out->tx_bytes += s.tx_bytes;
		out->rx_bytes += s.rx_bytes;
		out->egress_bytes += (size_t)s.queue_bytes;
		out->by_state[transport_get_state(l->transport)]++;
		out->suspect += transport_is_suspect(l->transport);
		link_count(&out->sum, &s);
	}
	TAILQ_FOREACH(a, &e->all_apps, all) {
		out->queued_bytes += e->ops.app_pending(e->ctx, a->channel);
	}
	while ((c = map_next(&e->conns, &it))) {
		struct connection_stats s = {0};
		if (c->connection)
			connection_get_stats(c->connection, &s);
		out->queued_bytes += s.send_buffered + s.receive_buffered;
	}
}
