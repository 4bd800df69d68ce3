#include "nodemanager/state.h"

#include <errno.h>
#include <stdlib.h>

#define SECOND_US 1000000u
#define SESSIONS_SPARE 1024 /* channels that have not registered yet, beyond nodes_max */
/* So many numbers are used up in the store at once. */
static const uint32_t counter_block[NM_COUNTERS] = {
	[NM_COUNTER_TRANSPORT] = 256,
	[NM_COUNTER_LABEL] = 65536,
	[NM_COUNTER_CONNECTION] = 65536,
};

void nm_config_default(struct nm_config *c)
{
	*c = (struct nm_config){
		.start_port = 20000,
		.max_buffer = 4u << 20,
		.time_unit_us = 1000,
		.send_interval_us = SECOND_US,
		.connection_timeout_us = 10 * SECOND_US,
		.max_packet_size = 1452,
		.retransmit_limit = 30,
		.nodes_max = 100000,
		.transports_per_node_max = 4096,
		.connections_per_node_max = 16384,
		.apps_per_node_max = 256,
		.connections_per_pair_max = 2048, /* half of what a node takes by default */
		.connecting_per_node_max = 256,
		.message_rate = 5000,
		.message_burst = 10000,
		.connect_rate = 200,
		.connect_burst = 4096, /* as many as a node may have: its apps may all come back */
		.app_rate = 20,
		.app_burst = 512,
		.queries_per_node_max = 320,
		.request_timeout_us = 5 * SECOND_US,
		.transport_timeout_us = 10 * SECOND_US,
		.grace_us = 15 * SECOND_US,
		.hello_timeout_us = 10 * SECOND_US,
		.recover_us = 15 * SECOND_US,
		.link_retry_min_us = SECOND_US / 2,
		.link_retry_max_us = 30 * SECOND_US,
		.default_role = ROLE_GATEWAY,
	};
}

uint64_t nm_random_u64(struct nm *nm)
{
	uint64_t v;
	nm->ops->random(nm->ctx, &v, sizeof v);
	return v;
}

/* Without a store everything starts at a random place. */
static void number_init(struct nm *nm)
{
	nm->seed = nm_random_u64(nm);
	nm->next_seq = (uint32_t)nm_random_u64(nm) & 0xffffff;
	nm->counters[NM_COUNTER_TRANSPORT].next =
		(uint32_t)(nm_random_u64(nm) % 90000); /* people read these */
	nm->counters[NM_COUNTER_LABEL].next = (uint32_t)nm_random_u64(nm);
	nm->counters[NM_COUNTER_CONNECTION].next = (uint32_t)nm_random_u64(nm);
}

void nm_load_counter(struct nm *nm, enum nm_counter which, uint32_t value)
{
	nm->counters[which].next = value;
	nm->counters[which].left = 0;
}

uint32_t nm_counter_next(struct nm *nm, enum nm_counter which)
{
	uint32_t *next = &nm->counters[which].next, *left = &nm->counters[which].left;
	if (!*left) {
		*left = counter_block[which];
		if (nm->ops->counter_save)
			nm->ops->counter_save(nm->ctx, which, *next + *left);
	}
	--*left;
	if (!++*next)
		return nm_counter_next(nm, which);
	return *next;
}

struct nm *nm_new(const struct nm_config *config, const struct nm_ops *ops, void *ctx)
{
	struct nm *nm = calloc(1, sizeof *nm);
	if (!nm)
		return NULL;
	*nm = (struct nm){.config = *config, .ops = ops, .ctx = ctx, .graph = graph_new()};
	if (!nm->graph) {
		free(nm);
		return NULL;
	}
	number_init(nm);
	timerq_init(&nm->timers);
	TAILQ_INIT(&nm->node_list);
	TAILQ_INIT(&nm->transport_list);
	TAILQ_INIT(&nm->link_list);
	nm_conns_init(nm);
	nm_standbys_init(nm);
	nm_review_init(nm);
	nm_tend_init(nm);
	TAILQ_INIT(&nm->route_list);
	map_init(&nm->sessions, sizeof(uint64_t), config->nodes_max + SESSIONS_SPARE, nm->seed);
	map_init(&nm->nodes, MESH_ID_BYTES, config->nodes_max, nm->seed);
	map_init(&nm->names, NM_TEXT_KEY_BYTES, config->nodes_max, nm->seed);
	map_init(&nm->hosts, 17, config->nodes_max + SESSIONS_SPARE, nm->seed);
	map_init(&nm->transports, sizeof(uint32_t), NM_TRANSPORTS_MAX, nm->seed);
	map_init(&nm->labels, 2 * sizeof(uint32_t), NM_RULES_MAX, nm->seed);
	map_init(&nm->requests, sizeof(uint32_t), NM_REQUESTS_MAX, nm->seed);
	map_init(&nm->conns, sizeof(uint64_t), NM_CONNECTIONS_MAX, nm->seed);
	map_init(&nm->apps, NM_TEXT_KEY_BYTES, config->nodes_max * 16, nm->seed);
	map_init(&nm->queries, sizeof(uint32_t), NM_QUERIES_MAX, nm->seed);
	map_init(&nm->revoked, MESH_ID_BYTES, NM_REVOKED_MAX, nm->seed);
	map_init(&nm->allowed, MESH_ID_BYTES, NM_ALLOWED_MAX, nm->seed);
	TAILQ_INIT(&nm->invites);
	nm_roles_init(nm);
	nm_recover_init(nm);
	nm_degree_init(nm);
	return nm;
}

/* From what depends on most to what stands alone. */
void nm_free(struct nm *nm)
{
	struct nm_node *node;
	if (!nm)
		return;
	/* The nodes keep what they have and hear nothing: the next manager decides. */
	TAILQ_FOREACH(node, &nm->node_list, all) {
		node->session = node->reporting = NULL;
		node->present = false;
	}
	nm_apps_free(nm);
	nm_conns_free(nm);
	nm_standbys_free(nm);
	nm_review_free(nm);
	nm_tend_free(nm);
	nm_routes_free(nm);
	nm_registry_free(nm);
	nm_ports_free(nm);
	nm_invites_free(nm);
	nm_revoked_free(nm);
	nm_allowed_free(nm);
	map_free(&nm->sessions);
	map_free(&nm->nodes);
	map_free(&nm->names);
	map_free(&nm->hosts);
	map_free(&nm->transports);
	map_free(&nm->labels);
	map_free(&nm->claims);
	map_free(&nm->requests);
	map_free(&nm->conns);
	map_free(&nm->apps);
	map_free(&nm->queries);
	graph_path_free(&nm->found);
	graph_free(nm->graph);
	timerq_free(&nm->timers);
	free(nm->online);
	free(nm);
}

void nm_set_config(struct nm *nm, const struct nm_config *config)
{
	size_t nodes_max = nm->config.nodes_max; /* the tables were made for this many */
	size_t standby_paths = nm->config.standby_paths;
	nm->config = *config;
	nm->config.nodes_max = nodes_max;
	if (nm->config.standby_paths != standby_paths)
		nm_standby_number_changed(nm);
	nm_degree_start(nm);
	nm_roles_changed(nm);
}

/* Below 2^31: the upper half belongs to the channel's own pings. */
uint32_t nm_seq_next(struct nm *nm)
{
	do
		nm->next_seq = (nm->next_seq + 1) & 0x7fffffff;
	while (!nm->next_seq || map_get(&nm->requests, &nm->next_seq) ||
	       map_get(&nm->queries, &nm->next_seq));
	return nm->next_seq;
}

struct nm_session *nm_session_by_channel(const struct nm *nm, uint64_t channel)
{
	return map_get(&nm->sessions, &channel);
}

void nm_answer(struct nm *nm, uint64_t channel, const struct msg *m)
{
	if (m->seq && nm_session_by_channel(nm, channel))
		nm->ops->node_send(nm->ctx, channel, m);
}

/* --- what nodes say --------------------------------------------------------------------------- */

static void dispatch(struct nm *nm, struct nm_node *node, const struct msg *m, uint64_t now)
{
	switch (m->type) {
	case MSG_CommonAck:
		nm_request_answer(nm, node, m, now);
		break;
	case MSG_TransportShutdown:
		nm_transport_shutdown(nm, node, &m->transport_shutdown, now);
		break;
	case MSG_TransportConnected:
		nm_transport_connected(nm, node, &m->transport_connected, now);
		break;
	case MSG_TransportStats:
		nm_transport_stats(nm, node, &m->transport_stats, now);
		break;
	case MSG_TransportSuspect:
		nm_transport_suspect(nm, node, &m->transport_suspect, now);
		break;
	case MSG_RouteSwitched:
		nm_route_switched(nm, node, &m->route_switched, now);
		break;
	case MSG_ConnectDirectly:
		nm_connect_directly(nm, node, m, now);
		break;
	case MSG_ConnectWithRoute:
		nm_connect_with_route(nm, node, m, now);
		break;
	case MSG_ConnectionShutdown:
		nm_connection_shutdown(nm, node, &m->connection_shutdown, now);
		break;
	case MSG_RegisterApp:
		nm_register_app(nm, node, m, now);
		break;
	case MSG_UnregisterApp:
		nm_unregister_app(nm, node, m, now);
		break;
	case MSG_AppListRequest:
		nm_app_list_request(nm, node, m, now);
		break;
	case MSG_Ping:
		nm_node_send(nm, node, &(struct msg){.type = MSG_CommonAck, .seq = m->seq});
		break;
	case MSG_Shutdown:
		nm_node_said_shutdown(nm, node, now);
		break;
	default:
		nm_stray(nm, node, msg_type_name(m->type), now);
	}
}

void nm_node_msg(struct nm *nm, uint64_t channel, const struct msg *m, uint64_t now)
{
	struct nm_session *s = nm_session_by_channel(nm, channel);
	if (!s)
		return;
	if (!s->node) {
		if (m->type == MSG_RegisterNode) {
			nm_register(nm, s, m, now);
			return;
		}
		nm->dropped++;
		nm_session_free(nm, s);
		nm->ops->node_close(nm->ctx, channel, "the first message must be RegisterNode");
	} else if (!msg_allowed(m->type, FROM_NODE, MSG_STATE_READY)) {
		nm_stray(nm, s->node, msg_type_name(m->type), now);
	} else if (!nm_may_send(nm, s->node, now)) {
		nm_over_limit(nm, s->node, "messages per second", now);
		if (s->report)
			nm_node_reject(nm, s, "its report comes too fast", now);
	} else if (s->report) {
		nm_report_msg(nm, s, m, now);
	} else {
		nm_node_heard(nm, s->node);
		dispatch(nm, s->node, m, now);
	}
}

uint64_t nm_next_timeout(const struct nm *nm)
{
	return timerq_next(&nm->timers);
}

void nm_tick(struct nm *nm, uint64_t now)
{
	timerq_run(&nm->timers, now);
}
