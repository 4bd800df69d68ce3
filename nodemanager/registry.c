#include "nodemanager/state.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cstr.h"

struct nm_node *nm_node_by_id(const struct nm *nm, const struct mesh_id *id)
{
	return map_get(&nm->nodes, id->b);
}

const char *nm_node_text(const struct nm_node *node, char out[NAME_MAX_BYTES + 1])
{
	char text[MESH_ID_SHORT];
	cstr_copy(out, NAME_MAX_BYTES + 1,
		  node->name[0] ? node->name : mesh_id_short(&node->id, text));
	return out;
}

bool nm_name_copy(char out[NAME_MAX_BYTES + 1], struct bytes text)
{
	if (text.len == 0 || text.len > NAME_MAX_BYTES)
		return false;
	for (size_t i = 0; i < text.len; i++)
		if (text.data[i] <= ' ' || text.data[i] == 0x7f)
			return false;
	memcpy(out, text.data, text.len);
	out[text.len] = '\0';
	return true;
}

void nm_text_key(uint8_t out[NM_TEXT_KEY_BYTES], const char *text)
{
	crypto_generichash(out, NM_TEXT_KEY_BYTES, (const uint8_t *)text, strlen(text), NULL, 0);
}

void nm_stray(struct nm *nm, struct nm_node *node, const char *what, uint64_t now)
{
	char name[NAME_MAX_BYTES + 1];
	nm->dropped++;
	if (log_limit_due(&node->strays, now))
		log_warn("node %s sent what fits nothing here: %s (%llu so far)",
			 nm_node_text(node, name), what, (unsigned long long)node->strays.count);
}

void nm_over_limit(struct nm *nm, struct nm_node *node, const char *what, uint64_t now)
{
	char name[NAME_MAX_BYTES + 1];
	nm->dropped++;
	nm->over_limit++;
	if (log_limit_due(&node->over_limit, now))
		log_warn("node %s has reached a limit: %s (%llu times)", nm_node_text(node, name),
			 what, (unsigned long long)node->over_limit.count);
}

/* --- node records ----------------------------------------------------------------------------- */

static void grace_over(struct timer *t, uint64_t now)
{
	struct nm_node *node = t->owner;
	nm_node_reset(node->nm, node, "its control channel did not come back", now);
}

static struct nm_node *node_new(struct nm *nm, const struct mesh_id *id)
{
	struct nm_node *node = calloc(1, sizeof *node);
	if (!node)
		return NULL;
	node->nm = nm;
	node->id = *id;
	node->vertex = graph_node_add(nm->graph);
	if (node->vertex == GRAPH_NONE || map_put(&nm->nodes, id->b, node)) {
		if (node->vertex != GRAPH_NONE)
			graph_node_remove(nm->graph, node->vertex);
		free(node);
		return NULL;
	}
	graph_node_block(nm->graph, node->vertex, true);
	node->transit = nm_role_of(nm, node) >= ROLE_RELAY;
	graph_node_set_transit(nm->graph, node->vertex, node->transit);
	node->number = ++nm->next_number;
	LIST_INIT(&node->claims);
	timer_init(&node->grace, grace_over, node);
	timer_init(&node->shun, nm_shun_over, node);
	TAILQ_INSERT_TAIL(&nm->node_list, node, all);
	return node;
}

/* Only for one that is not present, and has no links any more. */
static void node_free(struct nm *nm, struct nm_node *node)
{
	uint8_t key[NM_TEXT_KEY_BYTES];
	if (node->name[0]) {
		nm_text_key(key, node->name);
		map_del(&nm->names, key);
	}
	map_del(&nm->nodes, node->id.b);
	graph_node_remove(nm->graph, node->vertex);
	timerq_cancel(&nm->timers, &node->grace);
	timerq_cancel(&nm->timers, &node->shun);
	TAILQ_REMOVE(&nm->node_list, node, all);
	nm_report_free(nm, node->loose);
	free(node);
}

static struct nm_node *holder_of(const struct nm *nm, const char *name)
{
	uint8_t key[NM_TEXT_KEY_BYTES];
	nm_text_key(key, name);
	return map_get(&nm->names, key);
}

/* The name is free or the node's own; empty takes the name away. */
static int node_rename(struct nm *nm, struct nm_node *node, const char *name)
{
	uint8_t key[NM_TEXT_KEY_BYTES];
	if (strcmp(node->name, name) == 0)
		return 0;
	if (name[0]) {
		nm_text_key(key, name);
		int err = map_put(&nm->names, key, node);
		if (err)
			return err;
	}
	if (node->name[0]) {
		nm_text_key(key, node->name);
		map_del(&nm->names, key);
	}
	cstr_copy(node->name, sizeof node->name, name);
	return 0;
}

int nm_load_node(struct nm *nm, const struct nm_node_record *record)
{
	if (nm_node_by_id(nm, &record->id) || (record->name[0] && holder_of(nm, record->name)))
		return -EINVAL;
	struct nm_node *node = node_new(nm, &record->id);
	if (!node)
		return -ENOMEM;
	int err = record->role < ROLES ? node_rename(nm, node, record->name) : -EINVAL;
	if (err) {
		node_free(nm, node);
		return err;
	}
	node->no_transit = record->no_transit;
	node->role = record->role;
	node->admitted = record->admitted;
	nm_node_transit_update(nm, node, 0); /* nothing goes through it yet */
	return 0;
}

int nm_load_link(struct nm *nm, const struct mesh_id *a, const struct mesh_id *b,
		 uint32_t transport)
{
	struct nm_node *na = nm_node_by_id(nm, a), *nb = nm_node_by_id(nm, b);
	if (!na || !nb || na == nb)
		return -EINVAL;
	struct nm_link *link = nm_link_want(nm, na, nb, false);
	if (!link)
		return -ENOMEM;
	link->last_transport = transport;
	return 0;
}

/* --- who is online ---------------------------------------------------------------------------- */

/* Room for every node there is. */
static bool online_reserve(struct nm *nm)
{
	if (nm->nodes.count <= nm->online_capacity)
		return true;
	size_t capacity = nm->online_capacity ? nm->online_capacity * 2 : 64;
	struct nm_node **online = realloc(nm->online, capacity * sizeof(struct nm_node *));
	if (!online)
		return false;
	nm->online = online;
	nm->online_capacity = capacity;
	return true;
}

static void online_add(struct nm *nm, struct nm_node *node)
{
	nm->online[nm->online_count++] = node;
	node->online_at = nm->online_count;
	graph_node_block(nm->graph, node->vertex, false);
	nm_review_all(nm);
}

static void online_remove(struct nm *nm, struct nm_node *node)
{
	struct nm_node *last = nm->online[--nm->online_count];
	nm->online[node->online_at - 1] = last;
	last->online_at = node->online_at;
	node->online_at = 0;
	graph_node_block(nm->graph, node->vertex, true);
}

void nm_node_lost(struct nm *nm, struct nm_node *node, uint64_t now)
{
	char name[NAME_MAX_BYTES + 1];
	log_info("node %s: control channel lost", nm_node_text(node, name));
	node->session->node = NULL;
	node->session = NULL;
	online_remove(nm, node);
	if (timerq_set(&nm->timers, &node->grace, now + nm->config.grace_us))
		node->must_reset = true; /* out of memory: no grace can be promised */
	nm_request_fail_node(node, now);
}

void nm_node_reset(struct nm *nm, struct nm_node *node, const char *why, uint64_t now)
{
	char name[NAME_MAX_BYTES + 1];
	if (!node->present)
		return;
	log_info("node %s is gone: %s", nm_node_text(node, name), why);
	nm_event_node(nm, NM_EVENT_NODE_DOWN, node, why);
	node->present = node->must_reset = false;
	node->gone_us = now;
	timerq_cancel(&nm->timers, &node->grace);
	nm_conns_end(nm, node, now);
	while (!LIST_EMPTY(&node->ends))
		nm_transport_end(nm, LIST_FIRST(&node->ends)->transport, node, CODE_LOST, why, now);
	/* Paths that are being replaced keep their rules for a while; those here went with the
	 * process. */
	while (!LIST_EMPTY(&node->rules))
		nm_rule_forget(nm, LIST_FIRST(&node->rules));
	nm_apps_gone(nm, node);
	nm_claims_drop(nm, node);
	nm_claims_settle(nm, node, now);
}

void nm_node_end(struct nm *nm, struct nm_node *node, const char *why, uint64_t now)
{
	struct nm_session *s = node->session ? node->session : node->reporting;
	if (node->session)
		nm_node_lost(nm, node, now);
	nm_node_reset(nm, node, why, now);
	if (!s)
		return;
	uint64_t channel = s->channel;
	nm_session_free(nm, s);
	nm->ops->node_close(nm->ctx, channel, why);
}

void nm_node_said_shutdown(struct nm *nm, struct nm_node *node, uint64_t now)
{
	nm_node_end(nm, node, "it said that it ends", now);
}

void nm_node_reject(struct nm *nm, struct nm_session *s, const char *why, uint64_t now)
{
	struct nm_node *node = s->node;
	nm_over_limit(nm, node, why, now);
	node->recover = false;
	nm_node_reset(nm, node, why, now);
	nm_claims_settle(nm, node, now);
	nm_node_end(nm, node, why, now);
}

static void links_forget(struct nm *nm, struct nm_node *node, uint64_t now)
{
	while (!LIST_EMPTY(&node->links))
		nm_link_forget(nm, LIST_FIRST(&node->links)->link, now);
}

int nm_shutdown_node(struct nm *nm, const struct mesh_id *id, uint64_t now)
{
	struct nm_node *node = nm_node_by_id(nm, id);
	struct msg m = {.type = MSG_Shutdown};
	if (!node)
		return -ENOENT;
	m.shutdown.code = CODE_CLOSED;
	m.shutdown.text = bytes_str("asked for at the nodemanager");
	links_forget(nm, node, now);
	struct nm_session *s = node->session ? node->session : node->reporting;
	if (s)
		nm->ops->node_send(nm->ctx, s->channel, &m);
	nm_node_end(nm, node, "shut down by request", now);
	return 0;
}

int nm_forget_node(struct nm *nm, const struct mesh_id *id, uint64_t now)
{
	struct nm_node *node = nm_node_by_id(nm, id);
	if (!node)
		return -ENOENT;
	if (node->session || node->reporting)
		return -EBUSY;
	nm_node_reset(nm, node, "forgotten by request", now);
	links_forget(nm, node, now);
	nm_routes_forget(nm, node);
	node->recover = false;
	nm_claims_settle(nm, node, now);
	node_free(nm, node);
	if (nm->ops->node_remove)
		nm->ops->node_remove(nm->ctx, id);
	return 0;
}

void nm_registry_free(struct nm *nm)
{
	size_t it = 0;
	for (struct nm_session *s; (s = map_next(&nm->sessions, &it));) {
		timerq_cancel(&nm->timers, &s->hello);
		nm_report_free(nm, s->report);
		free(s);
	}
	map_free(&nm->sessions);
	struct nm_node *node;
	TAILQ_FOREACH(node, &nm->node_list, all) {
		nm_claims_drop(nm, node);
	}
	nm_links_free(nm);
	while (!TAILQ_EMPTY(&nm->node_list))
		node_free(nm, TAILQ_FIRST(&nm->node_list));
}

/* --- registration ----------------------------------------------------------------------------- */

struct registration {
	char name[NAME_MAX_BYTES + 1];
	struct nm_node *node; /* NULL: a new one */
	struct nm_invite *invite;
	uint16_t code;
	char text[TEXT_MAX_BYTES + 1];
};

static void refuse(struct nm *nm, struct nm_session *s, uint32_t seq, struct registration *r,
		   uint64_t now)
{
	struct msg m = {.type = MSG_RegisterNodeAck, .seq = seq};
	char addr[NET_ADDR_TEXT], id[MESH_ID_SHORT];
	uint64_t channel = s->channel;

	m.register_node_ack.code = r->code;
	m.register_node_ack.text = bytes_str(r->text);
	m.register_node_ack.id = s->id;
	nm->refused++;
	nm_event_refused(nm, s, r->text);
	if (log_limit_due(&nm->refused_log, now))
		log_warn("node %s from %s is refused: %s (%llu refused so far)",
			 mesh_id_short(&s->id, id), net_addr_text(&s->remote, addr), r->text,
			 (unsigned long long)nm->refused);
	nm->ops->node_send(nm->ctx, channel, &m);
	nm_session_free(nm, s);
	nm->ops->node_close(nm->ctx, channel, r->text);
}

static bool deny(struct registration *r, uint16_t code, const char *fmt, const char *arg)
	__attribute__((format(printf, 3, 0)));
static bool deny(struct registration *r, uint16_t code, const char *fmt, const char *arg)
{
	r->code = code;
	snprintf(r->text, sizeof r->text, fmt, arg);
	return false;
}

/* All that can be said against it, before anything changes. */
static bool check(struct nm *nm, const struct nm_session *s, const struct msg_register_node *m,
		  struct registration *r)
{
	if (m->version != PROTOCOL_VERSION)
		return deny(r, CODE_INVALID, "this nodemanager speaks protocol version %s",
			    PROTOCOL_VERSION_TEXT);
	r->node = nm_node_by_id(nm, &s->id);
	const char *why = nm_admission_refusal(nm, r->node, &s->id, m->token, &r->invite);
	if (why)
		return deny(r, CODE_REFUSED, "%s", why);
	if (m->name.len && !nm_name_copy(r->name, m->name))
		return deny(
			r, CODE_INVALID, "%s",
			"a node's name has up to 63 bytes, no blanks and no control characters");
	if (mesh_id_like(r->name))
		return deny(r, CODE_INVALID,
			    "the name %s looks like a number or an id of a node: take another one",
			    r->name);
	struct nm_node *holder = r->name[0] ? holder_of(nm, r->name) : NULL;
	if (holder && holder != r->node)
		return deny(r, CODE_REFUSED, "the name %s belongs to another key: take another one",
			    r->name);
	if (!r->node && nm->nodes.count >= nm->config.nodes_max)
		return deny(r, CODE_BUSY, "%s", "this mesh is full");
	return true;
}

static void register_ack(struct nm *nm, const struct nm_session *s, uint32_t seq, bool keep)
{
	const struct nm_config *c = &nm->config;
	struct msg m = {.type = MSG_RegisterNodeAck, .seq = seq};
	m.register_node_ack = (struct msg_register_node_ack){
		.id = s->id,
		.keep = keep,
		.max_buffer = c->max_buffer,
		.max_packet_size = c->max_packet_size,
		.time_unit_us = c->time_unit_us,
		.send_interval_us = c->send_interval_us,
		.connection_timeout_us = c->connection_timeout_us,
		.retransmit_limit = c->retransmit_limit,
		.role = nm_role_of(nm, s->node),
	};
	nm->ops->node_send(nm->ctx, s->channel, &m);
}

/* The newer channel of a key wins: its peer has just proved to be there. */
static void session_replace(struct nm *nm, struct nm_node *node, uint64_t now)
{
	struct nm_session *old = node->session ? node->session : node->reporting;
	if (!old)
		return;
	uint64_t channel = old->channel;
	if (node->session)
		nm_node_lost(nm, node, now);
	nm_session_free(nm, old);
	nm->ops->node_close(nm->ctx, channel, "the same key has connected again");
}

struct nm_node_record nm_node_record_of(const struct nm_node *node)
{
	struct nm_node_record record = {.id = node->id,
					.role = node->role,
					.admitted = node->admitted,
					.no_transit = node->no_transit};
	memcpy(record.name, node->name, sizeof record.name);
	return record;
}

void nm_node_save(struct nm *nm, const struct nm_node *node)
{
	struct nm_node_record record = nm_node_record_of(node);
	if (nm->ops->node_save)
		nm->ops->node_save(nm->ctx, &record);
}

int nm_expect_node(struct nm *nm, const struct nm_node_record *record)
{
	int err = nm_load_node(nm, record);
	struct nm_node *node = nm_node_by_id(nm, &record->id);
	if (node && (!err || !node->admitted)) {
		node->admitted = true;
		nm_node_save(nm, node);
	}
	if (nm->config.admission == NM_ADMISSION_ALLOWLIST)
		nm_allow(nm, &record->id);
	return err;
}

static void node_take_hello(struct nm_node *node, const struct nm_session *s,
			    const struct msg_register_node *m)
{
	node->instance = m->instance;
	node->connect = m->connect;
	node->remote = s->remote;
	node->addr_count = m->addrs_count < ADDRS_MAX ? m->addrs_count : ADDRS_MAX;
	for (uint16_t i = 0; i < node->addr_count; i++)
		node->addrs[i] = m->addrs[i].addr;
}

void nm_node_online(struct nm *nm, struct nm_session *s, uint64_t now)
{
	char name[NAME_MAX_BYTES + 1], addr[NET_ADDR_TEXT];
	struct nm_node *node = s->node;
	timerq_cancel(&nm->timers, &s->hello);
	timerq_cancel(&nm->timers, &node->grace);
	node->reporting = NULL;
	node->present = true;
	node->session = s;
	online_add(nm, node);
	nm_node_heard(nm, node);
	nm_event_node(nm, NM_EVENT_NODE_UP, node, NULL);
	log_info("node %s registered from %s", nm_node_text(node, name),
		 net_addr_text(&s->remote, addr));
	(void)now;
}

void nm_node_ready(struct nm *nm, struct nm_node *node, uint64_t now)
{
	nm_conns_resume(nm, node, now);
	/* Others may only have been without it as a relay. */
	nm_conns_retry(nm, now);
	nm_standbys_retry(nm, now);
	nm_links_of_node_try(nm, node, now);
	if (node->connect && LIST_EMPTY(&node->links))
		nm_link_random(nm, node, now);
}

/* It holds what we know, or what an earlier manager knew. */
static bool may_keep(const struct nm_node *node, uint64_t instance)
{
	return node->present ? !node->must_reset && node->instance == instance : node->recover;
}

static void admit(struct nm *nm, struct nm_session *s, struct nm_node *node, const struct msg *m,
		  uint64_t now)
{
	const struct msg_register_node *hello = &m->register_node;

	session_replace(nm, node, now);
	bool keep = may_keep(node, hello->instance);
	if (keep && (nm_report_begin(s) ||
		     timerq_set(&nm->timers, &s->hello, now + nm->config.hello_timeout_us)))
		keep = false;
	if (!keep) {
		node->recover = false;
		nm_node_reset(nm, node, "a new process has taken its place", now);
		nm_claims_settle(nm, node, now);
	}
	node_take_hello(node, s, hello);
	nm_limits_begin(nm, node, now);
	s->node = node;
	node->reporting = s;
	if (!keep)
		nm_node_online(nm, s, now);
	register_ack(nm, s, m->seq, keep);
	if (!keep)
		nm_node_ready(nm, node, now);
}

void nm_register(struct nm *nm, struct nm_session *s, const struct msg *m, uint64_t now)
{
	struct registration r = {0};
	if (!check(nm, s, &m->register_node, &r)) {
		refuse(nm, s, m->seq, &r, now);
		return;
	}
	bool fresh = !r.node;
	if (fresh)
		r.node = node_new(nm, &s->id);
	bool changed = fresh || (r.node && strcmp(r.node->name, r.name) != 0);
	if (!r.node || !online_reserve(nm) || node_rename(nm, r.node, r.name)) {
		if (fresh && r.node)
			node_free(nm, r.node);
		deny(&r, CODE_BUSY, "%s", "out of memory");
		refuse(nm, s, m->seq, &r, now);
		return;
	}
	if (r.invite && nm_invite_use(nm, r.invite, r.node)) {
		if (fresh)
			node_free(nm, r.node);
		deny(&r, CODE_BUSY, "%s", "the nodemanager cannot write its database");
		refuse(nm, s, m->seq, &r, now);
		return;
	}
	if (r.invite)
		nm_role_apply(nm, r.node, now);
	else if (changed)
		nm_node_save(nm, r.node);
	admit(nm, s, r.node, m, now);
}
