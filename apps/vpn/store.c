#include "vpn/store.h"

#include <errno.h>
#include <stdlib.h>

#include "io/store.h"

enum { Q_FIND, Q_SAVE, Q_FORGET, Q_LIST };

static const char *const migrations[] = {
	("CREATE TABLE client ("
	 "  node BLOB NOT NULL, app TEXT NOT NULL, host INTEGER NOT NULL UNIQUE,"
	 "  used INTEGER NOT NULL, PRIMARY KEY (node, app)) STRICT;"),
};
static const char *const statements[] = {
	[Q_FIND] = "SELECT host FROM client WHERE node = ? AND app = ?",
	[Q_SAVE] = "INSERT OR REPLACE INTO client VALUES (?,?,?,?)",
	[Q_FORGET] = "DELETE FROM client WHERE host = ?",
	[Q_LIST] = "SELECT host FROM client ORDER BY used, rowid",
};
static const struct store_spec spec = STORE_SPEC(migrations, statements);

struct vpn_store {
	struct store *db;
};

int vpn_store_open(struct vpn_store **out, const char *path, const struct config *cfg)
{
	struct vpn_store *s = calloc(1, sizeof *s);
	int rc = s ? store_open(&s->db, path, &spec, cfg) : -ENOMEM;

	if (rc)
		free(s);
	else
		*out = s;
	return rc;
}

void vpn_store_close(struct vpn_store *s)
{
	if (!s)
		return;
	store_close(s->db);
	free(s);
}

uint32_t vpn_store_find(struct vpn_store *s, const struct mesh_id *node, const char *app)
{
	return (uint32_t)store_get_u64(s->db, Q_FIND, 0, store_of_id(node), store_of_str(app));
}

int vpn_store_save(struct vpn_store *s, const struct mesh_id *node, const char *app, uint32_t host,
		   uint64_t now_s)
{
	return store_run(s->db, Q_SAVE, store_of_id(node), store_of_str(app), store_of_u64(host),
			 store_of_u64(now_s));
}

int vpn_store_forget(struct vpn_store *s, uint32_t host)
{
	return store_run(s->db, Q_FORGET, store_of_u64(host));
}

int vpn_store_list(struct vpn_store *s, bool (*visit)(uint32_t host, void *ctx), void *ctx)
{
	struct store_rows r = store_query(s->db, Q_LIST);

	while (store_next(&r))
		if (!visit(store_u32(&r, 0), ctx))
			break;
	return store_end(&r);
}
