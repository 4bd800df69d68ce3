/*
 * Connections between apps: a path is installed, both ends are told, and when a transport of the
 * path dies the same again with a new path, before the old rules go.
 *
 *   ROUTING -> ASSIGNING -> ON -> ROUTING (path broken) ...; WAITING while the connection needs a
 * path and there is none, or an end's control channel is away; TRACING -> ON or ROUTING for one
 * that an earlier manager made.  Links come back: only who waits for too long ends.
 */
#include "base/cstr.h"
#include "nodemanager/state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *state_name(enum nm_conn_state state)
{
	static const char *const names[] = {
		[NM_CONN_ROUTING] = "routing", [NM_CONN_ASSIGNING] = "assigning",
		[NM_CONN_ON] = "on",	       [NM_CONN_WAITING] = "waiting",
		[NM_CONN_TRACING] = "tracing",
	};
	return names[state];
}

static void wait_no_more(struct nm_conn *c)
{
	TAILQ_REMOVE(&c->nm->waiting, c, wait);
	c->nm->waiting_count--;
}

static void set_state(struct nm_conn *c, enum nm_conn_state state)
{
	if (c->state == state)
		return;
	log_debug("connection %016llx: %s -> %s", (unsigned long long)c->id, state_name(c->state),
		  state_name(state));
	if (c->state == NM_CONN_WAITING)
		wait_no_more(c);
	if (state == NM_CONN_WAITING) {
		TAILQ_INSERT_TAIL(&c->nm->waiting, c, wait);
		c->nm->waiting_count++;
	}
	c->state = state;
}

static unsigned end_count(const struct nm_conn *c)
{
	return c->local ? 1 : 2;
}

/* --- begin and end ---------------------------------------------------------------------------- */

static void conn_free(struct nm *nm, struct nm_conn *c)
{
	nm_request_drop(nm, &c->requests);
	nm_trace_free(c->trace);
	timerq_cancel(&nm->timers, &c->deadline);
	nm_standby_free(nm, c);
	if (c->state == NM_CONN_WAITING)
		wait_no_more(c);
	if (c->path)
		nm_path_remove(nm, c->path);
	if (c->next)
		nm_path_remove(nm, c->next);
	if (!c->established)
		c->end[0].node->connecting--;
	for (unsigned i = 0; i < end_count(c); i++) {
		LIST_REMOVE(&c->end[i], of_node);
		c->end[i].node->conn_count--;
	}
	map_del(&nm->conns, &c->id);
	nm_review_forget(nm, c);
	TAILQ_REMOVE(&nm->conn_list, c, all);
	free(c);
}

static void answer(struct nm *nm, uint64_t channel, uint32_t seq, uint16_t code, const char *text,
		   uint64_t connection)
{
	struct msg m = {.type = MSG_ConnectWithRouteAck, .seq = seq};
	m.connect_with_route_ack.code = code;
	m.connect_with_route_ack.text = bytes_str(text);
	m.connect_with_route_ack.connection = connection;
	nm_answer(nm, channel, &m);
}

/* Ends it for all who know of it but `except`. */
static void conn_end(struct nm *nm, struct nm_conn *c, uint16_t code, const char *text,
		     const struct nm_node *except)
{
	char reason[TEXT_MAX_BYTES + 1];
	cstr_copy(reason, sizeof reason, text);
	log_debug("connection %016llx ends: %s", (unsigned long long)c->id, reason);
	if (!c->established)
		answer(nm, c->ask_channel, c->ask_seq, code, reason, c->id);
	else
		nm_event_conn(nm, NM_EVENT_CONNECTION_DOWN, c, reason);
	for (unsigned i = 0; i < end_count(c); i++)
		if (c->end[i].assigned && c->end[i].node != except)
			nm_tell_connection_shutdown(nm, c->end[i].node, c->id, code, reason);
	conn_free(nm, c);
}

static bool ends_connected(const struct nm_conn *c)
{
	return c->end[0].node->session && c->end[1].node->session;
}

/* --- path ------------------------------------------------------------------------------------- */

static const struct nm_path_owner conn_path;

static void no_way(struct nm *nm, struct nm_conn *c)
{
	char text[TEXT_MAX_BYTES + 1], a[NAME_MAX_BYTES + 1], b[NAME_MAX_BYTES + 1];
	snprintf(text, sizeof text, "no way from %s to %s", nm_node_text(c->end[0].node, a),
		 nm_node_text(c->end[1].node, b));
	conn_end(nm, c, CODE_NO_ROUTE, text, NULL);
}

static void waited_too_long(struct timer *t, uint64_t now)
{
	struct nm_conn *c = t->owner;
	(void)now;
	no_way(c->nm, c);
}

/* From the first moment without a path, however often one is tried meanwhile. */
static void wait_for_path(struct nm *nm, struct nm_conn *c, uint64_t now)
{
	uint64_t patience = NM_PATIENCE_TIMEOUTS * (uint64_t)nm->config.connection_timeout_us;
	set_state(c, NM_CONN_WAITING);
	if (!c->deadline.index && timerq_set(&nm->timers, &c->deadline, now + patience))
		conn_end(nm, c, CODE_BUSY, "the nodemanager is out of memory", NULL);
}

static void assign(struct nm *nm, struct nm_conn *c, uint64_t now);

/* Its rules are in place: the ends only need to be told. */
static bool use_standby(struct nm *nm, struct nm_conn *c, uint64_t now)
{
	struct nm_path *path = nm_standby_take(nm, c);
	if (!path)
		return false;
	path->ops = &conn_path;
	c->next = path;
	assign(nm, c, now);
	return true;
}

/* May end (and free) the connection. */
static void route(struct nm *nm, struct nm_conn *c, uint64_t now)
{
	if (!ends_connected(c)) {
		if (c->established)
			wait_for_path(nm, c, now);
		else
			conn_end(nm, c, CODE_NOT_FOUND, "a node is not connected", NULL);
		return;
	}
	if (use_standby(nm, c, now))
		return;
	int err = nm_path_find(nm, c->id, c->end[0].node, c->end[1].node, NM_COST_ANY, &conn_path,
			       c, &c->next, now);
	if (!err)
		set_state(c, NM_CONN_ROUTING);
	else if (err != -ENETUNREACH)
		conn_end(nm, c, CODE_BUSY, "the nodemanager is out of memory", NULL);
	else if (c->established || nm->recovering) /* who carries it may still come back */
		wait_for_path(nm, c, now);
	else
		no_way(nm, c);
}

static void next_drop(struct nm *nm, struct nm_conn *c)
{
	nm_request_drop(nm, &c->requests);
	nm_path_remove(nm, c->next);
	c->next = NULL;
}

/* The ends still use it: a new one was only meant to be better. */
static bool has_path(const struct nm_conn *c)
{
	return c->path && !c->path->broken && !nm_path_is_banned(c->path);
}

static void path_failed(struct nm *nm, struct nm_path *path, const struct nm_reply *why,
			uint64_t now)
{
	struct nm_conn *c = path->owner;
	char text[TEXT_MAX_BYTES + 1];
	cstr_copy(text, sizeof text, why->text);
	next_drop(nm, c);
	if (has_path(c)) {
		set_state(c, NM_CONN_ON);
	} else if (++c->tries < NM_PATH_TRIES) {
		route(nm, c, now);
	} else if (c->established) {
		wait_for_path(nm, c, now);
		nm_conns_retry(nm, now + NM_CONN_RETRY_US);
	} else {
		conn_end(nm, c, why->code, text, NULL);
	}
}

static void path_broken(struct nm *nm, struct nm_path *path, uint64_t now)
{
	struct nm_conn *c = path->owner;
	if (path == c->next) {
		bool told = c->state == NM_CONN_ASSIGNING; /* then the ends may have moved */
		next_drop(nm, c);
		if (has_path(c) && !told)
			set_state(c, NM_CONN_ON);
		else
			route(nm, c, now);
	} else if (c->state == NM_CONN_ON) {
		route(nm, c, now);
	}
}

bool nm_conn_can_move(const struct nm_conn *c)
{
	return c->state == NM_CONN_ON && c->path && !c->path->broken && ends_connected(c);
}

bool nm_conn_move(struct nm *nm, struct nm_conn *c, uint64_t cost_max, uint64_t now)
{
	if (nm_path_find(nm, c->id, c->end[0].node, c->end[1].node, cost_max, &conn_path, c,
			 &c->next, now))
		return false;
	c->standbys_stay = false;
	set_state(c, NM_CONN_ROUTING);
	return true;
}

void nm_conn_reroute(struct nm *nm, struct nm_conn *c, uint64_t now)
{
	if (nm_conn_can_move(c))
		route(nm, c, now);
}

/* Only a way of sound links is worth the move; otherwise it stays and hopes. */
static void path_suspect(struct nm *nm, struct nm_path *path, uint64_t now)
{
	struct nm_conn *c = path->owner;
	if (path == c->path && nm_conn_can_move(c) && !use_standby(nm, c, now))
		nm_conn_move(nm, c, NM_COST_SUSPECT - 1, now);
}

static void path_dearer(struct nm *nm, struct nm_path *path)
{
	nm_review_soon(nm, path->owner);
}

/* The old rules stay until there are new ones, or the connection has waited too long. */
static void path_leave(struct nm *nm, struct nm_path *path, uint64_t now)
{
	struct nm_conn *c = path->owner;
	if (path == c->next)
		path_broken(nm, path, now);
	else if (c->state == NM_CONN_ON)
		route(nm, c, now);
}

static void path_traced(struct nm *nm, void *owner, struct nm_path *path, uint64_t now)
{
	struct nm_conn *c = owner;
	nm_trace_free(c->trace);
	c->trace = NULL;
	c->path = path;
	set_state(c, NM_CONN_ON);
	nm_standby_moved(nm, c, now);
	if (!path)
		route(nm, c, now);
	else if (nm_path_is_suspect(path))
		path_suspect(nm, path, now);
	else if (nm_path_is_banned(path))
		nm_review_soon(nm, c);
}

/* --- assignment ------------------------------------------------------------------------------- */

static void tell_on(struct nm *nm, struct nm_conn *c)
{
	struct msg m = {.type = MSG_ConnectionOn};
	m.connection_on.connection = c->id;
	m.connection_on.path = c->path_number;
	m.connection_on.peer = c->end[1].node->id;
	m.connection_on.class = c->class;
	m.connection_on.app = bytes_str(c->app);
	nm_node_send(nm, c->end[0].node, &m);
}

static void established(struct nm *nm, struct nm_conn *c)
{
	c->established = true;
	nm_event_conn(nm, NM_EVENT_CONNECTION_UP, c, NULL);
	c->end[0].node->connecting--;
	answer(nm, c->ask_channel, c->ask_seq, CODE_OK, "", c->id);
	tell_on(nm, c);
}

static void assigned(struct nm *nm, struct nm_conn *c, uint64_t now)
{
	if (c->path)
		nm_path_remove(nm, c->path);
	c->path = c->next;
	c->next = NULL;
	c->tries = 0;
	timerq_cancel(&nm->timers, &c->deadline);
	set_state(c, NM_CONN_ON);
	if (c->path && nm_path_is_banned(c->path)) /* meanwhile */
		nm_review_soon(nm, c);
	if (!c->established)
		established(nm, c);
	else
		nm_event_conn(nm, NM_EVENT_CONNECTION_MOVED, c, NULL);
	nm_standby_moved(nm, c, now);
}

static void assign_acked(struct nm *nm, void *owner, uint32_t side, const struct nm_reply *reply,
			 uint64_t now)
{
	struct nm_conn *c = owner;
	if (reply->code == CODE_OK) {
		c->end[side].acked = true;
		if (c->local || c->end[!side].acked)
			assigned(nm, c, now);
		return;
	}
	if (c->established && reply->code == CODE_LOST && c->end[side].node->present) {
		if (c->next)
			next_drop(nm, c);
		wait_for_path(nm, c, now);
		return;
	}
	/* Its first hop has died meanwhile, and the word of that is on its way. */
	if (c->established && reply->code == CODE_NOT_FOUND && c->next &&
	    ++c->tries < NM_PATH_TRIES) {
		next_drop(nm, c);
		route(nm, c, now);
		return;
	}
	/* Who refused has nothing to end. */
	if (reply->code != CODE_LOST && reply->code != CODE_TIMEOUT)
		c->end[side].assigned = c->established;
	conn_end(nm, c, reply->code, reply->text, NULL);
}

static int assign_send(struct nm *nm, struct nm_conn *c, uint32_t side, uint64_t now)
{
	struct msg m = {.type = MSG_AssignConnection};
	m.assign_connection = (struct msg_assign_connection){
		.connection = c->id,
		.path = c->path_number,
		.peer = c->end[!side].node->id,
		.initiator = side == 0,
		.class = c->class,
		.app = bytes_str(c->app),
		.from_app = bytes_str(c->from_app),
	};
	if (c->next) {
		m.assign_connection.out_transport = c->next->out_transport[side];
		m.assign_connection.out_route = c->next->out_route[side];
		m.assign_connection.in_transport = c->next->in_transport[side];
		m.assign_connection.in_route = c->next->in_route[side];
	}
	c->end[side].assigned = true;
	c->end[side].acked = false;
	return nm_request_send(nm, c->end[side].node, &m, &c->requests, assign_acked, c, side, now);
}

/* May end the connection. */
static void assign(struct nm *nm, struct nm_conn *c, uint64_t now)
{
	set_state(c, NM_CONN_ASSIGNING);
	c->path_number++;
	int err = 0;
	/* The accepting end first: it may already be ready when the initiator begins. */
	for (uint32_t i = end_count(c); i-- > 0 && !err;)
		err = assign_send(nm, c, i, now);
	if (err)
		conn_end(nm, c, CODE_BUSY, "the nodemanager is out of memory", NULL);
}

static void path_installed(struct nm *nm, struct nm_path *path, uint64_t now)
{
	assign(nm, path->owner, now);
}

static const struct nm_path_owner conn_path = {
	.installed = path_installed,
	.failed = path_failed,
	.broken = path_broken,
	.suspect = path_suspect,
	.dearer = path_dearer,
	.leave = path_leave,
	.traced = path_traced,
};

/* --- asked for -------------------------------------------------------------------------------- */

/* `a` asks. */
static struct nm_conn *conn_new(struct nm *nm, uint64_t id, struct nm_node *a, struct nm_node *b)
{
	struct nm_conn *c = calloc(1, sizeof *c);
	if (!c)
		return NULL;
	c->nm = nm;
	c->id = id;
	timer_init(&c->deadline, waited_too_long, c);
	nm_standby_init(c);
	if (map_put(&nm->conns, &c->id, c)) {
		free(c);
		return NULL;
	}
	c->local = a == b;
	c->end[0].node = a;
	c->end[1].node = b;
	for (unsigned i = 0; i < end_count(c); i++) {
		c->end[i].conn = c;
		LIST_INSERT_HEAD(&c->end[i].node->conns, &c->end[i], of_node);
		c->end[i].node->conn_count++;
	}
	TAILQ_INSERT_TAIL(&nm->conn_list, c, all);
	return c;
}

struct asked {
	char app[NAME_MAX_BYTES + 1], from_app[NAME_MAX_BYTES + 1];
	struct nm_node *peer;
	uint16_t code;
	const char *text;
};

static bool deny(struct asked *a, uint16_t code, const char *text)
{
	a->code = code;
	a->text = text;
	return false;
}

/* Nobody takes all the room that another node has for connections. */
static bool pair_is_full(const struct nm *nm, const struct nm_node *node,
			 const struct nm_node *peer)
{
	const struct nm_conn_end *e;
	size_t count = 0, max = nm->config.connections_per_pair_max;
	if (node->conn_count < max || peer->conn_count < max)
		return false;
	LIST_FOREACH(e, &node->conns, of_node) {
		count += e->conn->end[0].node == node && e->conn->end[1].node == peer;
	}
	return count >= max;
}

static bool check(struct nm *nm, struct nm_node *node, const struct msg_connect_with_route *m,
		  struct asked *a, uint64_t now)
{
	if (!nm_may_connect(nm, node, now))
		return deny(a, CODE_BUSY, "too many connections are asked for per second");
	if (m->class > CLASS_DATAGRAM || !nm_name_copy(a->app, m->app) ||
	    (m->from_app.len && !nm_name_copy(a->from_app, m->from_app)))
		return deny(a, CODE_INVALID, "a class or an app name that cannot be");
	a->peer = mesh_id_is_zero(&m->peer) ? nm_app_nearest(nm, node, a->app)
					    : nm_node_by_id(nm, &m->peer);
	if (!a->peer)
		return deny(a, CODE_NOT_FOUND,
			    mesh_id_is_zero(&m->peer) ? "no node that can be reached has this app"
						      : "no such node");
	if (!a->peer->session)
		return deny(a, CODE_NOT_FOUND, "that node is not connected");
	if (nm_app_is_barred(a->peer, a->app))
		return deny(a, CODE_REFUSED, "that node may not offer this app");
	if (node->connecting >= nm->config.connecting_per_node_max)
		return deny(a, CODE_BUSY, "too many connections are being made");
	if (node->conn_count >= nm->config.connections_per_node_max ||
	    a->peer->conn_count >= nm->config.connections_per_node_max)
		return deny(a, CODE_BUSY, "too many connections");
	if (pair_is_full(nm, node, a->peer))
		return deny(a, CODE_BUSY, "too many connections with that node");
	return true;
}

void nm_connect_with_route(struct nm *nm, struct nm_node *node, const struct msg *m, uint64_t now)
{
	struct asked a = {0};
	uint64_t channel = node->session->channel;
	struct nm_conn *c = NULL;
	if (check(nm, node, &m->connect_with_route, &a, now)) {
		c = conn_new(nm, nm_number_next(nm), node, a.peer);
		if (!c)
			deny(&a, CODE_BUSY, "the nodemanager has no room");
	}
	if (!c) {
		if (a.code == CODE_BUSY)
			nm_over_limit(nm, node, a.text, now);
		answer(nm, channel, m->seq, a.code, a.text, 0);
		return;
	}
	memcpy(c->app, a.app, sizeof c->app);
	memcpy(c->from_app, a.from_app, sizeof c->from_app);
	c->class = m->connect_with_route.class;
	node->connecting++;
	c->ask_channel = channel;
	c->ask_seq = m->seq;
	if (c->local)
		assign(nm, c, now);
	else
		route(nm, c, now);
}

void nm_connection_shutdown(struct nm *nm, struct nm_node *node,
			    const struct msg_connection_shutdown *m, uint64_t now)
{
	char text[TEXT_MAX_BYTES + 1];
	struct nm_conn *c = map_get(&nm->conns, &m->connection);
	(void)now;
	if (!c || (c->end[0].node != node && c->end[1].node != node)) {
		if (!nm_claim_conn_end(nm, node, m->connection))
			log_debug("ConnectionShutdown for unknown connection %016llx",
				  (unsigned long long)m->connection);
		return; /* usual when both ends close at once */
	}
	bytes_to_cstr(m->text, text, sizeof text);
	conn_end(nm, c, m->code, text, node);
}

/* --- taken over from an earlier manager --------------------------------------------------------
 */

static bool may_have_one_more(const struct nm *nm, const struct nm_node *node)
{
	return node->conn_count < nm->config.connections_per_node_max;
}

bool nm_conn_adopt(struct nm *nm, struct nm_node *const node[2],
		   const struct nm_reported_conn *const end[2], uint64_t now)
{
	struct nm_trace_ends ends;
	if (!may_have_one_more(nm, node[0]) || !may_have_one_more(nm, node[1]))
		return false;
	struct nm_conn *c = conn_new(nm, end[0]->id, node[0], node[1]);
	if (!c)
		return false;
	c->established = true;
	c->class = end[0]->class;
	c->path_number = end[0]->path > end[1]->path ? end[0]->path : end[1]->path;
	memcpy(c->app, end[0]->app, sizeof c->app);
	memcpy(c->from_app, end[0]->from_app, sizeof c->from_app);
	for (unsigned i = 0; i < 2; i++) {
		c->end[i].assigned = c->end[i].acked = true;
		ends.node[i] = node[i];
		ends.out_transport[i] = end[i]->out_transport;
		ends.out_route[i] = end[i]->out_route;
	}
	c->state = c->local ? NM_CONN_ON : NM_CONN_TRACING;
	if (!end[0]->started)
		tell_on(nm, c);
	if (c->local)
		return true;
	nm_standby_renew(nm, c, now);
	c->trace = nm_trace_new(c->id, &ends, &conn_path, c);
	if (!c->trace)
		path_traced(nm, c, NULL, now);
	else
		nm_trace_go(nm, c->trace, now);
	return true;
}

bool nm_conn_confirm(struct nm *nm, struct nm_conn *c, const struct nm_node *node,
		     const struct nm_reported_conn *item, uint64_t now)
{
	const struct nm_conn_end *e = &c->end[item->initiator ? 0 : 1];
	const struct nm_conn_end *far = &c->end[item->initiator && !c->local ? 1 : 0];
	if (e->node != node || !e->assigned || !mesh_id_equal(&item->peer, &far->node->id))
		return false;
	if (c->established && !item->started)
		tell_on(nm, c);
	if (!c->local)
		nm_standby_reported(nm, c, item->initiator ? 0 : 1, item->out_transport,
				    item->out_route, now);
	return true;
}

void nm_conn_lost(struct nm *nm, struct nm_conn *c, const struct nm_node *node)
{
	char text[TEXT_MAX_BYTES + 1], name[NAME_MAX_BYTES + 1];
	snprintf(text, sizeof text, "node %s has ended it", nm_node_text(node, name));
	conn_end(nm, c, CODE_LOST, text, node);
}

/* --- nodes come and go ------------------------------------------------------------------------ */

void nm_conns_resume(struct nm *nm, struct nm_node *node, uint64_t now)
{
	struct nm_conn_end *e = LIST_FIRST(&node->conns);
	while (e) {
		struct nm_conn_end *next = LIST_NEXT(e, of_node);
		if (e->conn->state == NM_CONN_WAITING)
			route(nm, e->conn, now);
		e = next;
	}
}

/* Each costs a search through the graph: a few at a time, so that other work is not held up. */
static void retry(struct timer *t, uint64_t now)
{
	struct nm *nm = t->owner;
	for (size_t n = 0; n < NM_CONNS_AT_ONCE && nm->waiting_due; n++) {
		struct nm_conn *c = TAILQ_FIRST(&nm->waiting);
		if (!c)
			nm->waiting_due = 0;
		if (!c)
			return;
		nm->waiting_due--;
		/* Whoever goes on waiting goes to the end of the line. */
		set_state(c, NM_CONN_ROUTING);
		route(nm, c, now);
	}
	if (nm->waiting_due)
		timerq_set(&nm->timers, t, now);
}

void nm_conns_retry(struct nm *nm, uint64_t at)
{
	nm->waiting_due = nm->waiting_count;
	if (nm->waiting_due &&
	    at < (nm->waiting_timer.index ? nm->waiting_timer.at_us : TIMER_NEVER))
		timerq_set(&nm->timers, &nm->waiting_timer, at);
}

void nm_conns_init(struct nm *nm)
{
	TAILQ_INIT(&nm->conn_list);
	TAILQ_INIT(&nm->waiting);
	timer_init(&nm->waiting_timer, retry, nm);
}

void nm_conns_trace(struct nm *nm, uint64_t now)
{
	struct nm_conn *c = TAILQ_FIRST(&nm->conn_list);
	while (c) {
		struct nm_conn *next = TAILQ_NEXT(c, all);
		if (c->state == NM_CONN_TRACING)
			nm_trace_go(nm, c->trace, now);
		c = next;
	}
}

void nm_conns_give_up(struct nm *nm, uint64_t now)
{
	struct nm_conn *c = TAILQ_FIRST(&nm->conn_list);
	while (c) {
		struct nm_conn *next = TAILQ_NEXT(c, all);
		if (c->state == NM_CONN_TRACING)
			path_traced(nm, c, NULL, now);
		c = next;
	}
	nm_conns_retry(nm, now);
}

void nm_conns_end(struct nm *nm, struct nm_node *node, uint64_t now)
{
	char text[TEXT_MAX_BYTES + 1], name[NAME_MAX_BYTES + 1];
	(void)now;
	snprintf(text, sizeof text, "node %s is gone", nm_node_text(node, name));
	while (!LIST_EMPTY(&node->conns))
		conn_end(nm, LIST_FIRST(&node->conns)->conn, CODE_LOST, text, node);
}

void nm_conns_free(struct nm *nm)
{
	while (!TAILQ_EMPTY(&nm->conn_list))
		conn_free(nm, TAILQ_FIRST(&nm->conn_list));
	timerq_cancel(&nm->timers, &nm->waiting_timer);
}
