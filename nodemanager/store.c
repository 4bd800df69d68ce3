#include "nodemanager/store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "io/store.h"

enum { Q_NODE_PUT, Q_NODE_DEL, Q_NODE_LINKS_DEL, Q_NODES, Q_LINK_PUT, Q_LINK_DEL, Q_LINKS };
static const char *const statements[] = {
	[Q_NODE_PUT] = ("INSERT INTO nodes (id, name, first_seen) VALUES (?,?,?) "
			"ON CONFLICT (id) DO UPDATE SET name = excluded.name"),
	[Q_NODE_DEL] = "DELETE FROM nodes WHERE id = ?",
	[Q_NODE_LINKS_DEL] = "DELETE FROM links WHERE a = ?1 OR b = ?1",
	[Q_NODES] = "SELECT id, name FROM nodes ORDER BY number",
	[Q_LINK_PUT] = "INSERT INTO links (a, b) VALUES (?,?) ON CONFLICT DO NOTHING",
	[Q_LINK_DEL] = "DELETE FROM links WHERE a = ? AND b = ?",
	[Q_LINKS] = "SELECT a, b FROM links",
};
static const char *const migrations[] = {
	/* first_seen: seconds since 1970.  links: a < b. */
	"CREATE TABLE nodes (number INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE,"
	" name TEXT NOT NULL, first_seen INTEGER NOT NULL) STRICT;"
	"CREATE TABLE links (a BLOB NOT NULL, b BLOB NOT NULL, PRIMARY KEY (a, b),"
	" CHECK (a < b)) STRICT;"
	"CREATE INDEX links_b ON links (b);",
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

static int load_nodes(struct nm_store *s, struct nm *nm)
{
	struct store_rows r = store_query(s->db, Q_NODES);
	while (store_next(&r)) {
		struct nm_node_record node = {0};
		if (!store_id(&r, 0, &node.id))
			continue;
		snprintf(node.name, sizeof node.name, "%s", store_str(&r, 1));
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

int nm_store_load(struct nm_store *s, struct nm *nm)
{
	int err = load_nodes(s, nm);
	if (err)
		return err;
	struct store_rows r = store_query(s->db, Q_LINKS);
	while (store_next(&r)) {
		struct mesh_id a, b;
		if (store_id(&r, 0, &a) && store_id(&r, 1, &b) && nm_load_link(nm, &a, &b))
			log_warn("a stored link could not be loaded");
	}
	return store_end(&r);
}

void nm_store_node_put(struct nm_store *s, const struct nm_node_record *node, uint64_t wall_s)
{
	store_run(s->db, Q_NODE_PUT, store_of_id(&node->id), store_of_str(node->name),
		  store_of_u64(wall_s));
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
