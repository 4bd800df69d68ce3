#include "apptracker/store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cstr.h"
#include "io/store.h"

enum { Q_PUT, Q_DEL, Q_LIST };
static const char *const statements[] = {
	[Q_PUT] = "INSERT INTO apps (node, app, manager, type, info) VALUES (?,?,?,?,?) "
		  "ON CONFLICT (node, app) DO UPDATE SET manager = excluded.manager, "
		  "type = excluded.type, info = excluded.info",
	[Q_DEL] = "DELETE FROM apps WHERE node = ? AND app = ?",
	[Q_LIST] = "SELECT node, app, manager, type, info FROM apps ORDER BY rowid",
};
static const char *const migrations[] = {
	"CREATE TABLE apps (node BLOB NOT NULL, app TEXT NOT NULL, manager BLOB NOT NULL,"
	" type TEXT NOT NULL, info BLOB NOT NULL, UNIQUE (node, app)) STRICT;",
};
static const struct store_spec spec = STORE_SPEC(migrations, statements);

struct tracker_store {
	struct store *db;
};

int tracker_store_open(struct tracker_store **out, const char *path, const struct config *cfg)
{
	struct tracker_store *s = calloc(1, sizeof *s);
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

void tracker_store_close(struct tracker_store *s)
{
	if (!s)
		return;
	tracker_store_flush(s);
	store_close(s->db);
	free(s);
}

int tracker_store_each(struct tracker_store *s,
		       void (*each)(void *arg, const struct tracker_entry *entry), void *arg)
{
	struct store_rows r = store_query(s->db, Q_LIST);
	while (store_next(&r)) {
		struct tracker_entry e = {0};
		struct bytes info = store_blob(&r, 4);
		if (!store_id(&r, 0, &e.node) || !store_id(&r, 2, &e.manager) ||
		    info.len > sizeof e.info)
			continue;
		cstr_copy(e.app, sizeof e.app, store_str(&r, 1));
		cstr_copy(e.type, sizeof e.type, store_str(&r, 3));
		e.info_len = (uint16_t)info.len;
		if (info.len)
			memcpy(e.info, info.data, info.len);
		each(arg, &e);
	}
	return store_end(&r);
}

static bool begin(struct tracker_store *s)
{
	return !store_in_transaction(s->db) && store_begin(s->db) == 0;
}

bool tracker_store_put(struct tracker_store *s, const struct tracker_entry *e)
{
	bool first = begin(s);
	if (store_run(s->db, Q_PUT, store_of_id(&e->node), store_of_str(e->app),
		      store_of_id(&e->manager), store_of_str(e->type),
		      store_of_blob(bytes_of(e->info, e->info_len))))
		store_rollback(s->db);
	return first;
}

bool tracker_store_del(struct tracker_store *s, const struct mesh_id *node, const char *app)
{
	bool first = begin(s);
	if (store_run(s->db, Q_DEL, store_of_id(node), store_of_str(app)))
		store_rollback(s->db);
	return first;
}

void tracker_store_flush(struct tracker_store *s)
{
	if (store_in_transaction(s->db))
		store_commit(s->db);
}
