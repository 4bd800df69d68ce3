/*
 * What a node holds when its channel is back, against what we know.  Nobody remembers messages for
 * a node that is away, and no message is certain to have arrived when a channel dies: the report
 * says what came of them.  What the node has lost ends for the others; what we do not know must go,
 * unless an earlier manager may have known it (claim.c).
 */
#include "nodemanager/state.h"

#include <stdlib.h>
#include <string.h>

struct app_name {
	char s[NAME_MAX_BYTES + 1];
};

struct nm_report {
	struct report_transport *transports;
	struct nm_loose_rule *rules;	/* complete: in order of rule_cmp */
	struct nm_reported_conn *conns; /* complete: in order of id */
	struct app_name *apps;
	size_t transport_count, rule_count, conn_count, app_count;
	size_t transport_room, rule_room, conn_room, app_room;
};

/* --- pages ------------------------------------------------------------------------------------ */

int nm_report_begin(struct nm_session *s)
{
	s->report = calloc(1, sizeof *s->report);
	return s->report ? 0 : -1;
}

void nm_report_free(struct nm *nm, struct nm_report *r)
{
	if (!r)
		return;
	nm->held_rules -= r->rule_count;
	free(r->transports);
	free(r->rules);
	free(r->conns);
	free(r->apps);
	free(r);
}

/* Room for `more` in the array whose pointer is at `list`. */
static bool grow(void *list, size_t count, size_t more, size_t *room, size_t size)
{
	void *v;
	if (count + more <= *room)
		return true;
	size_t wanted = *room * 2 > count + more ? *room * 2 : count + more;
	memcpy(&v, list, sizeof v);
	void *larger = reallocarray(v, wanted, size);
	if (!larger)
		return false;
	memcpy(list, &larger, sizeof larger);
	*room = wanted;
	/* cppcheck-suppress memleak ; `list` has it now */
	return true;
}

static bool page_grow(struct nm_report *r, const struct msg_node_report *p)
{
	return grow(&r->transports, r->transport_count, p->transports_count, &r->transport_room,
		    sizeof *r->transports) &&
	       grow(&r->rules, r->rule_count, p->rules_count, &r->rule_room, sizeof *r->rules) &&
	       grow(&r->conns, r->conn_count, p->connections_count, &r->conn_room,
		    sizeof *r->conns) &&
	       grow(&r->apps, r->app_count, p->apps_count, &r->app_room, sizeof *r->apps);
}

static void name_take(char out[NAME_MAX_BYTES + 1], struct bytes text)
{
	if (!nm_name_copy(out, text))
		out[0] = '\0';
}

static void conn_take(struct nm_reported_conn *out, const struct report_connection *in)
{
	*out = (struct nm_reported_conn){
		.id = in->connection,
		.path = in->path,
		.peer = in->peer,
		.initiator = in->initiator,
		.class = in->class,
		.started = in->started,
		.out_transport = in->out_transport,
		.out_route = in->out_route,
	};
	name_take(out->app, in->app);
	name_take(out->from_app, in->from_app);
}

static bool page_take(struct nm *nm, struct nm_report *r, const struct msg_node_report *p)
{
	if (!page_grow(r, p))
		return false;
	for (uint16_t i = 0; i < p->transports_count; i++)
		r->transports[r->transport_count++] = p->transports[i];
	for (uint16_t i = 0; i < p->rules_count; i++) {
		const struct report_rule *in = &p->rules[i];
		r->rules[r->rule_count++] = (struct nm_loose_rule){
			in->in_transport, in->in_route, in->out_transport, in->out_route, false};
	}
	nm->held_rules += p->rules_count;
	for (uint16_t i = 0; i < p->connections_count; i++)
		conn_take(&r->conns[r->conn_count++], &p->connections[i]);
	for (uint16_t i = 0; i < p->apps_count; i++)
		name_take(r->apps[r->app_count++].s, p->apps[i].app);
	return true;
}

static bool within_limits(const struct nm *nm, const struct nm_report *r)
{
	const struct nm_config *c = &nm->config;
	return r->transport_count <= 2 * c->transports_per_node_max &&
	       r->rule_count <= NM_REPORT_RULES_MAX && nm->held_rules <= NM_HELD_RULES_MAX &&
	       r->conn_count <= c->connections_per_node_max &&
	       r->app_count <= 2 * c->apps_per_node_max;
}

/* --- order ------------------------------------------------------------------------------------ */

/* Rules where a route begins come first, by where they go; the others by where they come in. */
static int rule_cmp(const void *a, const void *b)
{
	const struct nm_loose_rule *x = a, *y = b;
	uint64_t kx = x->in_transport ? (uint64_t)x->in_transport << 32 | x->in_route
				      : (uint64_t)x->out_transport << 32 | x->out_route;
	uint64_t ky = y->in_transport ? (uint64_t)y->in_transport << 32 | y->in_route
				      : (uint64_t)y->out_transport << 32 | y->out_route;
	if (!x->in_transport != !y->in_transport)
		return x->in_transport ? 1 : -1;
	return kx < ky ? -1 : kx > ky;
}

static int conn_cmp(const void *a, const void *b)
{
	uint64_t x = ((const struct nm_reported_conn *)a)->id;
	uint64_t y = ((const struct nm_reported_conn *)b)->id;
	return x < y ? -1 : x > y;
}

static void report_sort(struct nm_report *r)
{
	if (r->rule_count)
		qsort(r->rules, r->rule_count, sizeof *r->rules, rule_cmp);
	if (r->conn_count)
		qsort(r->conns, r->conn_count, sizeof *r->conns, conn_cmp);
}

static struct nm_loose_rule *rule_find(const struct nm_report *r, const struct nm_loose_rule *like)
{
	if (!r || !r->rule_count)
		return NULL;
	struct nm_loose_rule *rule = bsearch(like, r->rules, r->rule_count, sizeof *like, rule_cmp);
	return rule && !rule->taken ? rule : NULL;
}

struct nm_loose_rule *nm_loose_in(const struct nm_node *node, uint32_t transport, uint32_t route)
{
	struct nm_loose_rule like = {.in_transport = transport, .in_route = route};
	return rule_find(node->loose, &like);
}

struct nm_loose_rule *nm_loose_origin(const struct nm_node *node, uint32_t transport,
				      uint32_t route)
{
	struct nm_loose_rule like = {.out_transport = transport, .out_route = route};
	return rule_find(node->loose, &like);
}

void nm_loose_remove(struct nm *nm, struct nm_node *node)
{
	struct nm_report *r = node->loose;
	for (size_t i = 0; r && i < r->rule_count; i++)
		if (!r->rules[i].taken)
			nm_tell_route_removed(nm, node, r->rules[i].in_transport,
					      r->rules[i].in_route);
	node->loose = NULL;
	nm_report_free(nm, r);
}

/* --- against what we know ----------------------------------------------------------------------
 */

/* Before anything else changes: later there may be rules that the report cannot have. */
static void rules_mark(struct nm_node *node, struct nm_report *r)
{
	struct nm_rule *rule;
	LIST_FOREACH(rule, &node->rules, of_node) {
		struct nm_loose_rule like = {rule->in_transport, rule->in_route,
					     rule->out_transport, rule->out_route, false};
		struct nm_loose_rule *found = rule_find(r, &like);
		rule->missing = !found || found->in_route != rule->in_route ||
				found->out_transport != rule->out_transport ||
				found->out_route != rule->out_route;
		/* One that comes in alike is replaced when the right one is told again. */
		if (!rule->missing || (found && found->in_transport == rule->in_transport &&
				       found->in_route == rule->in_route))
			found->taken = true;
	}
}

static bool is_lost(const struct nm_rule *rule)
{
	return rule->missing && !rule->path->broken;
}

/*
 * A node loses rules with their transport, or goes on from a file that lacks what came in its last
 * second.  Many more than that are no accident.
 */
static size_t rules_lost(const struct nm_node *node)
{
	const struct nm_rule *rule;
	size_t n = 0;
	LIST_FOREACH(rule, &node->rules, of_node) {
		n += is_lost(rule);
	}
	return n;
}

/* Breaking a path may free its rules and those of others: begin again after it. */
static bool rule_tell_next(struct nm *nm, struct nm_node *node, uint64_t now)
{
	struct nm_rule *rule;
	LIST_FOREACH(rule, &node->rules, of_node) {
		if (!is_lost(rule))
			continue;
		rule->missing = false;
		nm_path_rule_again(nm, rule, now);
		return true;
	}
	return false;
}

static struct report_transport *item_of(const struct nm_report *r, const struct nm_end *e)
{
	const struct nm_transport *t = e->transport;
	bool first = e == &t->end[0];
	for (size_t i = 0; i < r->transport_count; i++) {
		struct report_transport *item = &r->transports[i];
		if (item->transport == t->id && !item->initiator == !first &&
		    mesh_id_equal(&item->peer, &t->end[first].node->id))
			return item;
	}
	return NULL;
}

/* The sound ones first: they are where the suspect ones' detours lead. */
static void trust_sound_ones(struct nm *nm, struct nm_node *node, const struct nm_report *r,
			     uint64_t now)
{
	struct nm_end *e;
	LIST_FOREACH(e, &node->ends, of_node) {
		const struct report_transport *item = item_of(r, e);
		if (item && !item->suspect)
			nm_end_suspect(nm, e, false, now);
	}
}

static void transports_compare(struct nm *nm, struct nm_node *node, struct nm_report *r,
			       uint64_t now)
{
	struct nm_end *e = LIST_FIRST(&node->ends);
	trust_sound_ones(nm, node, r, now);
	while (e) {
		struct nm_end *next = LIST_NEXT(e, of_node);
		struct report_transport *item = item_of(r, e);
		if (item) {
			nm_transport_confirm(nm, e->transport, node, item, now);
			item->transport = 0;
		} else {
			nm_transport_end(nm, e->transport, node, CODE_LOST,
					 "a node does not have it any more", now);
		}
		e = next;
	}
	for (size_t i = 0; i < r->transport_count; i++)
		if (r->transports[i].transport)
			nm_claim_transport(nm, node, &r->transports[i], now);
}

static struct nm_reported_conn *conn_find(const struct nm_report *r, uint64_t id)
{
	struct nm_reported_conn like = {.id = id};
	return r->conn_count ? bsearch(&like, r->conns, r->conn_count, sizeof like, conn_cmp)
			     : NULL;
}

static void conns_compare(struct nm *nm, struct nm_node *node, struct nm_report *r, uint64_t now)
{
	struct nm_conn_end *e = LIST_FIRST(&node->conns);
	while (e) {
		struct nm_conn_end *next = LIST_NEXT(e, of_node);
		struct nm_reported_conn *item = conn_find(r, e->conn->id);
		if (item && nm_conn_confirm(nm, e->conn, node, item, now))
			item->known = true;
		else if (e->assigned)
			nm_conn_lost(nm, e->conn, node);
		e = next;
	}
	for (size_t i = 0; i < r->conn_count; i++)
		if (!r->conns[i].known)
			nm_claim_conn(nm, node, &r->conns[i], now);
}

static bool has_app(const void *report, const char *name)
{
	const struct nm_report *r = report;
	for (size_t i = 0; i < r->app_count; i++)
		if (strcmp(r->apps[i].s, name) == 0)
			return true;
	return false;
}

/* The rules stay while somebody may find them again; `r` is the node's from here on. */
static void rules_hold(struct nm *nm, struct nm_node *node, struct nm_report *r)
{
	nm_report_free(nm, node->loose);
	node->loose = r;
	if (!nm->recovering)
		nm_loose_remove(nm, node);
}

static void compare(struct nm *nm, struct nm_session *s, struct nm_report *r, uint64_t now)
{
	struct nm_node *node = s->node;
	rules_mark(node, r);
	nm_claims_drop(nm, node);
	transports_compare(nm, node, r, now);
	if (rules_lost(node) > NM_RULES_LOST_MAX) {
		nm_report_free(nm, r);
		nm_node_reject(nm, s, "its report lacks rules that it had", now);
		return;
	}
	struct nm_report rest = *r; /* what is not about rules */
	r->transports = NULL;
	r->conns = NULL;
	r->apps = NULL;
	rest.rules = NULL;
	rules_hold(nm, node, r);
	while (rule_tell_next(nm, node, now))
		;
	conns_compare(nm, node, &rest, now);
	nm_apps_keep(nm, node, has_app, &rest);
	free(rest.transports);
	free(rest.conns);
	free(rest.apps);
	node->recover = false;
	nm_claims_settle(nm, node, now);
	nm_node_ready(nm, node, now);
}

void nm_report_msg(struct nm *nm, struct nm_session *s, const struct msg *m, uint64_t now)
{
	struct nm_report *r = s->report;
	if (m->type != MSG_NodeReport) {
		nm_stray(nm, s->node, msg_type_name(m->type), now);
		return;
	}
	if (!page_take(nm, r, &m->node_report) || !within_limits(nm, r)) {
		nm_node_reject(nm, s, "its report is too long", now);
		return;
	}
	if (!m->node_report.last)
		return;
	report_sort(r);
	s->report = NULL;
	nm_node_online(nm, s, now);
	compare(nm, s, r, now);
}
