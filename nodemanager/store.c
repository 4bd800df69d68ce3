#include "nodemanager/store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cstr.h"
#include "base/log.h"
#include "io/store.h"

enum {
	Q_NODE_PUT,
	Q_NODE_DEL,
	Q_NODE_LINKS_DEL,
	Q_NODES,
	Q_LINK_PUT,
	Q_LINK_DEL,
	Q_LINK_TRANSPORT,
	Q_LINK_OPTIONS,
	Q_LINKS,
	Q_ROUTE_PUT,
	Q_ROUTE_DEL,
	Q_ROUTES,
	Q_COUNTER_PUT,
	Q_COUNTERS,
	Q_INVITE_PUT,
	Q_INVITE_DEL,
	Q_INVITES,
	Q_REVOKED_PUT,
	Q_REVOKED_DEL,
	Q_REVOKED,
	Q_ALLOWED_PUT,
	Q_ALLOWED_DEL,
	Q_ALLOWED
};
static const char *const statements[] = {
	[Q_NODE_PUT] = ("INSERT INTO nodes (id, name, first_seen, transit, role, admitted)"
			" VALUES (?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET name = excluded.name,"
			" transit = excluded.transit, role = excluded.role,"
			" admitted = excluded.admitted"),
	[Q_NODE_DEL] = "DELETE FROM nodes WHERE id = ?",
	[Q_NODE_LINKS_DEL] = "DELETE FROM links WHERE a = ?1 OR b = ?1",
	[Q_NODES] = "SELECT id, name, transit, role, admitted FROM nodes ORDER BY number",
	[Q_LINK_PUT] = "INSERT INTO links (a, b) VALUES (?,?) ON CONFLICT DO NOTHING",
	[Q_LINK_DEL] = "DELETE FROM links WHERE a = ? AND b = ?",
	[Q_LINK_TRANSPORT] = "UPDATE links SET transport = ?3 WHERE a = ?1 AND b = ?2",
	[Q_LINK_OPTIONS] = "UPDATE links SET cost = ?3, upkeep = ?4 WHERE a = ?1 AND b = ?2",
	[Q_LINKS] = "SELECT a, b, transport, cost, upkeep FROM links",
	[Q_ROUTE_PUT] = ("INSERT OR REPLACE INTO routes (number, a, b, a_transport, a_label,"
			 " b_transport, b_label) VALUES (?,?,?,?,?,?,?)"),
	[Q_ROUTE_DEL] = "DELETE FROM routes WHERE number = ?",
	[Q_ROUTES] = ("SELECT number, a, b, a_transport, a_label, b_transport, b_label"
		      " FROM routes"),
	[Q_COUNTER_PUT] = ("INSERT INTO counters (which, value) VALUES (?,?)"
			   " ON CONFLICT (which) DO UPDATE SET value = excluded.value"),
	[Q_COUNTERS] = "SELECT which, value FROM counters",
	[Q_INVITE_PUT] = ("INSERT INTO invites (number, hash, role, uses, used, created, expires)"
			  " VALUES (?,?,?,?,?,?,?)"
			  " ON CONFLICT (number) DO UPDATE SET used = excluded.used"),
	[Q_INVITE_DEL] = "DELETE FROM invites WHERE number = ?",
	[Q_INVITES] = ("SELECT number, hash, role, uses, used, created, expires FROM invites"
		       " ORDER BY number"),
	[Q_REVOKED_PUT] = "INSERT OR REPLACE INTO revoked (id, name, since) VALUES (?,?,?)",
	[Q_REVOKED_DEL] = "DELETE FROM revoked WHERE id = ?",
	[Q_REVOKED] = "SELECT id, name, since FROM revoked",
	[Q_ALLOWED_PUT] = "INSERT OR IGNORE INTO allowed (id) VALUES (?)",
	[Q_ALLOWED_DEL] = "DELETE FROM allowed WHERE id = ?",
	[Q_ALLOWED] = "SELECT id FROM allowed",
};
static const char *const migrations[] = {
	/* first_seen: seconds since 1970.  links: a < b. */
	"CREATE TABLE nodes (number INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE,"
	" name TEXT NOT NULL, first_seen INTEGER NOT NULL) STRICT;"
	"CREATE TABLE links (a BLOB NOT NULL, b BLOB NOT NULL, PRIMARY KEY (a, b),"
	" CHECK (a < b)) STRICT;"
	"CREATE INDEX links_b ON links (b);",
	/* transport: the number that the link's transport has or had.  routes: built by hand, with
	 * the first hop of both ends.  counters: enum nm_counter; given out up to `value`. */
	"ALTER TABLE links ADD COLUMN transport INTEGER NOT NULL DEFAULT 0;"
	"CREATE TABLE routes (number INTEGER PRIMARY KEY, a BLOB NOT NULL, b BLOB NOT NULL,"
	" a_transport INTEGER NOT NULL, a_label INTEGER NOT NULL,"
	" b_transport INTEGER NOT NULL, b_label INTEGER NOT NULL) STRICT;"
	"CREATE TABLE counters (which INTEGER PRIMARY KEY, value INTEGER NOT NULL) STRICT;",
	/* transit: may the node be in the middle of a path?  upkeep: enum nm_upkeep.  cost: set by
	 * an operator; 0: as measured.
	 */
	"ALTER TABLE nodes ADD COLUMN transit INTEGER NOT NULL DEFAULT 1;"
	"ALTER TABLE links ADD COLUMN cost INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE links ADD COLUMN upkeep INTEGER NOT NULL DEFAULT 0;",
	/* role: enum node_role.  hash: BLAKE2b of the token.  Times in seconds since 1970. */
	"ALTER TABLE nodes ADD COLUMN role INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE nodes ADD COLUMN admitted INTEGER NOT NULL DEFAULT 0;"
	"CREATE TABLE invites (number INTEGER PRIMARY KEY AUTOINCREMENT, hash BLOB NOT NULL UNIQUE,"
	" role INTEGER NOT NULL, uses INTEGER NOT NULL, used INTEGER NOT NULL,"
	" created INTEGER NOT NULL, expires INTEGER NOT NULL) STRICT;"
	"CREATE TABLE revoked (id BLOB PRIMARY KEY, name TEXT NOT NULL, since INTEGER NOT NULL)"
	" STRICT;"
	"CREATE TABLE allowed (id BLOB PRIMARY KEY) STRICT;",
};
static const struct store_spec spec = STORE_SPEC(migrations, statements);

struct nm_store {
	struct store *db;
};

int nm_store_open(struct nm_store **out, const char *path, const struct config *cfg)
{
	struct nm_store *s = calloc(1, sizeof *s);
	if (!s)
		return -ENOMEM;
	int err = store_open(&s->db, path, &spec, cfg);
	if (err) {
		free(s);
		return err;
	}
	*out = s;
	return 0;
}

void nm_store_close(struct nm_store *s)
{
	if (!s)
		return;
	store_close(s->db);
	free(s);
}

void nm_store_gather(struct nm_store *s, void (*pending)(void *arg), void *arg)
{
	store_gather(s->db, pending, arg);
}

void nm_store_flush(struct nm_store *s)
{
	(void)store_flush(s->db);
}

static int load_nodes(struct nm_store *s, struct nm *nm)
{
	struct store_rows r = store_query(s->db, Q_NODES);
	while (store_next(&r)) {
		struct nm_node_record node = {0};
		if (!store_id(&r, 0, &node.id))
			continue;
		cstr_copy(node.name, sizeof node.name, store_str(&r, 1));
		node.no_transit = store_u64(&r, 2) == 0;
		uint32_t role = store_u32(&r, 3);
		node.role = role < ROLES ? (uint8_t)role : ROLE_MEMBER; /* the least */
		node.admitted = store_bool(&r, 4);
		int err = nm_load_node(nm, &node);
		if (err == -EINVAL) { /* the name went to another one meanwhile */
			node.name[0] = '\0';
			err = nm_load_node(nm, &node);
		}
		if (err)
			log_warn("a stored node could not be loaded (%d)", err);
	}
	return store_end(&r);
}

static int load_links(struct nm_store *s, struct nm *nm)
{
	struct store_rows r = store_query(s->db, Q_LINKS);
	while (store_next(&r)) {
		struct mesh_id a, b;
		struct nm_link_options options = {.cost = (uint32_t)store_u64(&r, 3),
						  .upkeep = (enum nm_upkeep)store_u64(&r, 4)};
		if (store_id(&r, 0, &a) && store_id(&r, 1, &b) &&
		    (nm_load_link(nm, &a, &b, (uint32_t)store_u64(&r, 2)) ||
		     nm_load_link_options(nm, &a, &b, &options)))
			log_warn("a stored link could not be loaded");
	}
	return store_end(&r);
}

static int load_routes(struct nm_store *s, struct nm *nm)
{
	struct store_rows r = store_query(s->db, Q_ROUTES);
	while (store_next(&r)) {
		struct nm_route_record route = {.number = store_u64(&r, 0)};
		bool whole = store_id(&r, 1, &route.node[0]) && store_id(&r, 2, &route.node[1]);
		for (int i = 0; i < 2; i++) {
			route.out_transport[i] = (uint32_t)store_u64(&r, 3 + 2 * i);
			route.out_route[i] = (uint32_t)store_u64(&r, 4 + 2 * i);
		}
		if (!whole || nm_load_route(nm, &route))
			log_warn("a stored route could not be loaded");
	}
	return store_end(&r);
}

static int load_counters(struct nm_store *s, struct nm *nm)
{
	struct store_rows r = store_query(s->db, Q_COUNTERS);
	while (store_next(&r))
		if (store_u64(&r, 0) < NM_COUNTERS)
			nm_load_counter(nm, (enum nm_counter)store_u64(&r, 0),
					(uint32_t)store_u64(&r, 1));
	return store_end(&r);
}

static int load_invites(struct nm_store *s, struct nm *nm)
{
	struct store_rows r = store_query(s->db, Q_INVITES);
	while (store_next(&r)) {
		struct bytes hash = store_blob(&r, 1);
		struct nm_invite_record invite = {
			.number = store_u64(&r, 0),
			.role = (uint8_t)store_u32(&r, 2),
			.uses = store_u32(&r, 3),
			.used = store_u32(&r, 4),
			.created_s = store_u64(&r, 5),
			.expires_s = store_u64(&r, 6),
		};
		bool whole = hash.len == sizeof invite.hash;
		if (whole)
			memcpy(invite.hash, hash.data, sizeof invite.hash);
		if (!whole || nm_load_invite(nm, &invite))
			log_warn("a stored invite could not be loaded");
	}
	return store_end(&r);
}

/* Whoever is on it must not come back: what cannot be read is an error. */
static int load_revoked(struct nm_store *s, struct nm *nm)
{
	struct store_rows r = store_query(s->db, Q_REVOKED);
	int err = 0;
	while (!err && store_next(&r)) {
		struct nm_revoked_record revoked = {.since_s = store_u64(&r, 2)};
		cstr_copy(revoked.name, sizeof revoked.name, store_str(&r, 1));
		err = store_id(&r, 0, &revoked.id) ? nm_load_revoked(nm, &revoked) : -EBADMSG;
	}
	int end = store_end(&r);
	if (err)
		log_error("the list of revoked keys could not be loaded (%d)", err);
	return err ? err : end;
}

static int load_allowed(struct nm_store *s, struct nm *nm)
{
	struct store_rows r = store_query(s->db, Q_ALLOWED);
	while (store_next(&r)) {
		struct mesh_id id;
		if (!store_id(&r, 0, &id) || nm_load_allowed(nm, &id))
			log_warn("a stored id of the list of nodes could not be loaded");
	}
	return store_end(&r);
}

int nm_store_load(struct nm_store *s, struct nm *nm)
{
	int err = load_revoked(s, nm);
	if (!err)
		err = load_allowed(s, nm);
	if (!err)
		err = load_invites(s, nm);
	if (!err)
		err = load_nodes(s, nm);
	if (!err)
		err = load_links(s, nm);
	if (!err)
		err = load_routes(s, nm);
	return err ? err : load_counters(s, nm);
}

static int node_put(struct nm_store *s, const struct nm_node_record *node, uint64_t wall_s)
{
	return store_run(s->db, Q_NODE_PUT, store_of_id(&node->id), store_of_str(node->name),
			 store_of_u64(wall_s), store_of_u64(!node->no_transit),
			 store_of_u64(node->role), store_of_bool(node->admitted));
}

void nm_store_node_put(struct nm_store *s, const struct nm_node_record *node, uint64_t wall_s)
{
	node_put(s, node, wall_s);
}

/* What was written last does not wait for the end of the turn. */
static int durable(struct nm_store *s, int err)
{
	return err ? err : store_flush(s->db);
}

static int invite_put(struct nm_store *s, const struct nm_invite_record *invite)
{
	return store_run(s->db, Q_INVITE_PUT, store_of_u64(invite->number),
			 store_of_blob(bytes_of(invite->hash, sizeof invite->hash)),
			 store_of_u64(invite->role), store_of_u64(invite->uses),
			 store_of_u64(invite->used), store_of_u64(invite->created_s),
			 store_of_u64(invite->expires_s));
}

int nm_store_invite_put(struct nm_store *s, const struct nm_invite_record *invite)
{
	return durable(s, invite_put(s, invite));
}

int nm_store_node_admit(struct nm_store *s, const struct nm_node_record *node,
			const struct nm_invite_record *used, uint64_t wall_s)
{
	int err = store_begin(s->db);
	if (err)
		return err;
	err = node_put(s, node, wall_s);
	if (!err && used)
		err = invite_put(s, used);
	if (!err)
		return store_commit(s->db);
	store_rollback(s->db);
	return err;
}

int nm_store_invite_del(struct nm_store *s, uint64_t number)
{
	return durable(s, store_run(s->db, Q_INVITE_DEL, store_of_u64(number)));
}

int nm_store_revoked_put(struct nm_store *s, const struct nm_revoked_record *revoked)
{
	return durable(s, store_run(s->db, Q_REVOKED_PUT, store_of_id(&revoked->id),
				    store_of_str(revoked->name), store_of_u64(revoked->since_s)));
}

int nm_store_revoked_del(struct nm_store *s, const struct mesh_id *id)
{
	return durable(s, store_run(s->db, Q_REVOKED_DEL, store_of_id(id)));
}

int nm_store_allowed_put(struct nm_store *s, const struct mesh_id *id)
{
	return durable(s, store_run(s->db, Q_ALLOWED_PUT, store_of_id(id)));
}

int nm_store_allowed_del(struct nm_store *s, const struct mesh_id *id)
{
	return durable(s, store_run(s->db, Q_ALLOWED_DEL, store_of_id(id)));
}

void nm_store_node_del(struct nm_store *s, const struct mesh_id *id)
{
	if (store_begin(s->db))
		return;
	if (store_run(s->db, Q_NODE_LINKS_DEL, store_of_id(id)) ||
	    store_run(s->db, Q_NODE_DEL, store_of_id(id)))
		store_rollback(s->db);
	else
		store_commit(s->db);
}

static void in_order(const struct mesh_id **a, const struct mesh_id **b)
{
	if (mesh_id_cmp(*a, *b) > 0) {
		const struct mesh_id *swap = *a;
		*a = *b;
		*b = swap;
	}
}

void nm_store_link_put(struct nm_store *s, const struct mesh_id *a, const struct mesh_id *b)
{
	in_order(&a, &b);
	store_run(s->db, Q_LINK_PUT, store_of_id(a), store_of_id(b));
}

void nm_store_link_del(struct nm_store *s, const struct mesh_id *a, const struct mesh_id *b)
{
	in_order(&a, &b);
	store_run(s->db, Q_LINK_DEL, store_of_id(a), store_of_id(b));
}

void nm_store_link_transport(struct nm_store *s, const struct mesh_id *a, const struct mesh_id *b,
			     uint32_t transport)
{
	in_order(&a, &b);
	store_run(s->db, Q_LINK_TRANSPORT, store_of_id(a), store_of_id(b), store_of_u64(transport));
}

void nm_store_link_options(struct nm_store *s, const struct mesh_id *a, const struct mesh_id *b,
			   const struct nm_link_options *options)
{
	in_order(&a, &b);
	store_run(s->db, Q_LINK_OPTIONS, store_of_id(a), store_of_id(b),
		  store_of_u64(options->cost), store_of_u64(options->upkeep));
}

void nm_store_route_put(struct nm_store *s, const struct nm_route_record *route)
{
	store_run(s->db, Q_ROUTE_PUT, store_of_u64(route->number), store_of_id(&route->node[0]),
		  store_of_id(&route->node[1]), store_of_u64(route->out_transport[0]),
		  store_of_u64(route->out_route[0]), store_of_u64(route->out_transport[1]),
		  store_of_u64(route->out_route[1]));
}

void nm_store_route_del(struct nm_store *s, uint64_t number)
{
	store_run(s->db, Q_ROUTE_DEL, store_of_u64(number));
}

void nm_store_counter_put(struct nm_store *s, enum nm_counter which, uint32_t value)
{
	store_run(s->db, Q_COUNTER_PUT, store_of_u64(which), store_of_u64(value));
}
