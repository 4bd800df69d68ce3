#include "subscriberd/store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cstr.h"
#include "io/store.h"

enum { Q_SAVE, Q_FORGET, Q_LOAD, Q_PRUNE, Q_NAME, Q_SET_NAME, Q_STAMP, Q_SET_STAMP };

#define KEEP_ROWS 1024 /* gateways remembered at most */

static const char *const statements[] = {
	[Q_SAVE] = "INSERT INTO gateways (key, via, node, app, addr, name, sid, rtt_ms, jitter_ms, "
		   "loss, "
		   "samples, failures, first_seen, last_seen, error, sid_method, tunnel_rtt_ms, "
		   "tunnel_jitter_ms, tunnel_loss, tunnel_samples, uplink_fault, goodput_bps) "
		   "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, "
		   "?16, ?17, ?18, ?19, ?20, ?21, ?22) "
		   "ON CONFLICT (key) DO UPDATE SET name = ?6, sid = ?7, rtt_ms = ?8, "
		   "jitter_ms = ?9, loss = ?10, samples = ?11, failures = ?12, last_seen = ?14, "
		   "error = ?15, sid_method = ?16, tunnel_rtt_ms = ?17, tunnel_jitter_ms = ?18, "
		   "tunnel_loss = ?19, tunnel_samples = ?20, uplink_fault = ?21, "
		   "goodput_bps = ?22",
	[Q_FORGET] = "DELETE FROM gateways WHERE key = ?1",
	[Q_LOAD] = "SELECT via, node, app, addr, name, sid, rtt_ms, jitter_ms, loss, samples, "
		   "failures, first_seen, last_seen, error, sid_method, tunnel_rtt_ms, "
		   "tunnel_jitter_ms, tunnel_loss, tunnel_samples, uplink_fault, goodput_bps "
		   "FROM gateways ORDER BY last_seen DESC LIMIT ?1",
	[Q_PRUNE] = ("DELETE FROM gateways WHERE key NOT IN "
		     "(SELECT key FROM gateways ORDER BY last_seen DESC LIMIT ?1)"),
	[Q_NAME] = "SELECT app FROM self",
	[Q_SET_NAME] = "INSERT INTO self (app) VALUES (?1)",
	[Q_STAMP] = "SELECT last FROM stamp",
	[Q_SET_STAMP] = ("INSERT INTO stamp (only, last) VALUES (1, ?1) "
			 "ON CONFLICT (only) DO UPDATE SET last = ?1"),
};

static const char *const migrations[] = {
	"CREATE TABLE gateways (key TEXT PRIMARY KEY, via INTEGER NOT NULL, node BLOB, app TEXT, "
	"addr TEXT, name TEXT NOT NULL, sid TEXT NOT NULL, rtt_ms REAL NOT NULL, "
	"jitter_ms REAL NOT NULL, loss REAL NOT NULL, samples INTEGER NOT NULL, "
	"failures INTEGER NOT NULL, first_seen INTEGER NOT NULL, last_seen INTEGER NOT NULL, "
	"error TEXT NOT NULL) STRICT",
	"ALTER TABLE gateways ADD COLUMN sid_method TEXT NOT NULL DEFAULT ''; "
	"ALTER TABLE gateways ADD COLUMN tunnel_rtt_ms REAL NOT NULL DEFAULT 0; "
	"ALTER TABLE gateways ADD COLUMN tunnel_jitter_ms REAL NOT NULL DEFAULT 0; "
	"ALTER TABLE gateways ADD COLUMN tunnel_loss REAL NOT NULL DEFAULT 0; "
	"ALTER TABLE gateways ADD COLUMN tunnel_samples INTEGER NOT NULL DEFAULT 0; "
	"ALTER TABLE gateways ADD COLUMN uplink_fault REAL NOT NULL DEFAULT 0; "
	"ALTER TABLE gateways ADD COLUMN goodput_bps REAL NOT NULL DEFAULT 0; "
	"CREATE TABLE self (app TEXT NOT NULL) STRICT",
	("CREATE TABLE stamp (only INTEGER PRIMARY KEY CHECK (only = 1), last INTEGER NOT NULL) "
	 "STRICT"),
};

static const struct store_spec spec = STORE_SPEC(migrations, statements);

struct sub_store {
	struct store *db;
};

int sub_store_open(struct sub_store **out, const char *path, const struct config *cfg)
{
	struct sub_store *s = calloc(1, sizeof *s);
	int err = s ? store_open(&s->db, path, &spec, cfg) : -ENOMEM;

	if (!err)
		err = store_run(s->db, Q_PRUNE, store_of_u64(KEEP_ROWS));
	if (err) {
		sub_store_close(s);
		return err;
	}
	*out = s;
	return 0;
}

void sub_store_close(struct sub_store *s)
{
	if (!s)
		return;
	if (s->db)
		store_close(s->db);
	free(s);
}

int sub_store_save(struct sub_store *s, const struct sub_gateway *g)
{
	const struct sub_contact *c = &g->contact;
	char key[SUB_KEY_MAX], addr[NET_ADDR_TEXT];

	return store_run(s->db, Q_SAVE, store_of_str(sub_contact_key(c, key)), store_of_u64(c->via),
			 store_of_id(&c->node), store_of_str(c->app),
			 store_of_str(net_addr_text(&c->addr, addr)), store_of_str(g->info.name),
			 store_of_str(g->sid), store_of_real(g->quality.rtt_ms),
			 store_of_real(g->quality.jitter_ms), store_of_real(g->quality.loss),
			 store_of_u64(g->quality.samples), store_of_u64(g->failures),
			 store_of_u64(g->first_seen_s), store_of_u64(g->last_seen_s),
			 store_of_str(g->error), store_of_str(g->sid_method),
			 store_of_real(g->tunnel.rtt_ms), store_of_real(g->tunnel.jitter_ms),
			 store_of_real(g->tunnel.loss), store_of_u64(g->tunnel.samples),
			 store_of_real(g->uplink_fault), store_of_real(g->goodput_bps));
}

int sub_store_forget(struct sub_store *s, const struct sub_gateway *g)
{
	char key[SUB_KEY_MAX];

	return store_run(s->db, Q_FORGET, store_of_str(sub_contact_key(&g->contact, key)));
}

static bool read_contact(const struct store_rows *r, struct sub_contact *c)
{
	uint32_t via = store_u32(r, 0);

	if (via == SUB_VIA_HTTP) {
		c->via = SUB_VIA_HTTP;
		return net_addr_parse(&c->addr, store_str(r, 3), 0) == 0;
	}
	c->via = SUB_VIA_MESH;
	cstr_copy(c->app, sizeof c->app, store_str(r, 2));
	return via == SUB_VIA_MESH && store_id(r, 1, &c->node) && c->app[0];
}

int sub_store_load(struct sub_store *s, size_t max, sub_store_visit *visit, void *ctx)
{
	struct store_rows r = store_query(s->db, Q_LOAD, store_of_u64(max));

	while (store_next(&r)) {
		struct sub_gateway g = {.failures = store_u32(&r, 10)};
		if (!read_contact(&r, &g.contact))
			continue;
		cstr_copy(g.info.name, sizeof g.info.name, store_str(&r, 4));
		cstr_copy(g.sid, sizeof g.sid, store_str(&r, 5));
		g.quality = (struct sub_quality){.rtt_ms = store_real(&r, 6),
						 .jitter_ms = store_real(&r, 7),
						 .loss = store_real(&r, 8),
						 .samples = store_u64(&r, 9)};
		g.first_seen_s = store_u64(&r, 11);
		g.last_seen_s = store_u64(&r, 12);
		cstr_copy(g.error, sizeof g.error, store_str(&r, 13));
		cstr_copy(g.sid_method, sizeof g.sid_method, store_str(&r, 14));
		g.tunnel = (struct sub_quality){.rtt_ms = store_real(&r, 15),
						.jitter_ms = store_real(&r, 16),
						.loss = store_real(&r, 17),
						.samples = store_u64(&r, 18)};
		g.uplink_fault = store_real(&r, 19);
		g.goodput_bps = store_real(&r, 20);
		visit(&g, ctx);
	}
	return store_end(&r);
}

int sub_store_app(struct sub_store *s, const char *fresh, char *out, size_t size)
{
	struct store_rows r = store_query(s->db, Q_NAME);
	bool known = store_next(&r);

	cstr_copy(out, size, known ? store_str(&r, 0) : fresh);
	int err = store_end(&r);
	return err || known ? err : store_run(s->db, Q_SET_NAME, store_of_str(fresh));
}

uint64_t sub_store_stamp(struct sub_store *s)
{
	struct store_rows r = store_query(s->db, Q_STAMP);
	uint64_t last = store_next(&r) ? store_u64(&r, 0) : 0;

	store_end(&r);
	return last;
}

int sub_store_set_stamp(struct sub_store *s, uint64_t stamp)
{
	return store_run(s->db, Q_SET_STAMP, store_of_u64(stamp));
}
