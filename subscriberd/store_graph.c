#include "subscriberd/store_graph.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cstr.h"
#include "io/clock.h"
#include "io/store.h"

#define GONE_KEPT_S (30 * 86400u) /* what is gone is forgotten after this */
#define SCANS_KEPT 32

enum {
	Q_HOST,
	Q_LINK,
	Q_FORGET_HOST,
	Q_FORGET_LINKS,
	Q_SCAN,
	Q_LAST_SCAN,
	Q_HOSTS,
	Q_LINKS,
	Q_PRUNE_HOSTS,
	Q_PRUNE_LINKS,
	Q_PRUNE_SCANS,
	Q_STAMP,
};

static const char *const statements[] = {
	[Q_HOST] =
		"INSERT INTO hosts (key, addr, name, how, networks, parent, depth, gone, "
		"told_port, answer, first, seen, asked, seen_scan, asked_scan, gw_addr, gw_name, "
		"gw_id, stamp) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, "
		"?14, ?15, ?16, ?17, ?18, ?19) ON CONFLICT (key) DO UPDATE SET name = ?3, "
		"how = ?4, networks = ?5, parent = ?6, depth = ?7, gone = ?8, told_port = ?9, "
		"answer = ?10, seen = ?12, asked = ?13, seen_scan = ?14, asked_scan = ?15, "
		"gw_addr = ?16, gw_name = ?17, gw_id = ?18, "
		"stamp = CASE WHEN ?20 THEN ?19 ELSE stamp END",
	[Q_LINK] = "INSERT INTO links (a, b, network, cost, gone, first, seen, seen_scan, stamp) "
		   "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (a, b, network) DO "
		   "UPDATE SET cost = ?4, gone = ?5, seen = ?7, seen_scan = ?8, "
		   "stamp = CASE WHEN ?10 THEN ?9 ELSE stamp END",
	[Q_FORGET_HOST] = "DELETE FROM hosts WHERE key = ?1",
	[Q_FORGET_LINKS] = "DELETE FROM links WHERE a = ?1 OR b = ?1",
	[Q_SCAN] =
		"INSERT INTO scans (number, started, finished, networks) VALUES (?1, ?2, ?3, ?4) "
		"ON CONFLICT (number) DO UPDATE SET finished = ?3",
	[Q_LAST_SCAN] = "SELECT number, started, finished, networks FROM scans "
			"ORDER BY number DESC LIMIT 1",
	[Q_HOSTS] =
		"SELECT addr, name, how, networks, parent, depth, gone, told_port, answer, first, "
		"seen, asked, seen_scan, asked_scan, gw_addr, gw_name, gw_id, stamp, key "
		"FROM hosts WHERE stamp > ?1 ORDER BY stamp LIMIT ?2",
	[Q_LINKS] = "SELECT a, b, network, cost, gone, first, seen, seen_scan, stamp FROM links "
		    "WHERE stamp > ?1 ORDER BY stamp LIMIT ?2",
	[Q_PRUNE_HOSTS] = "DELETE FROM hosts WHERE gone AND seen < ?1",
	[Q_PRUNE_LINKS] = "DELETE FROM links WHERE gone AND seen < ?1",
	[Q_PRUNE_SCANS] = "DELETE FROM scans WHERE number <= ?1",
	[Q_STAMP] = "SELECT max(s) FROM (SELECT max(stamp) AS s FROM hosts UNION ALL "
		    "SELECT max(stamp) FROM links)",
};

static const char *const migrations[] = {
	"CREATE TABLE hosts (key TEXT PRIMARY KEY, addr TEXT NOT NULL, name TEXT NOT NULL, "
	"how TEXT NOT NULL, networks TEXT NOT NULL, parent TEXT NOT NULL, depth INTEGER NOT NULL, "
	"gone INTEGER NOT NULL, told_port INTEGER NOT NULL, answer INTEGER NOT NULL, "
	"first INTEGER NOT NULL, seen INTEGER NOT NULL, asked INTEGER NOT NULL, "
	"seen_scan INTEGER NOT NULL, asked_scan INTEGER NOT NULL, gw_addr TEXT NOT NULL, "
	"gw_name TEXT NOT NULL, gw_id TEXT NOT NULL, stamp INTEGER NOT NULL) STRICT;"
	"CREATE TABLE links (a TEXT NOT NULL, b TEXT NOT NULL, network TEXT NOT NULL, "
	"cost INTEGER NOT NULL, gone INTEGER NOT NULL, first INTEGER NOT NULL, "
	"seen INTEGER NOT NULL, seen_scan INTEGER NOT NULL, stamp INTEGER NOT NULL, "
	"PRIMARY KEY (a, b, network)) STRICT, WITHOUT ROWID;"
	"CREATE TABLE scans (number INTEGER PRIMARY KEY, started INTEGER NOT NULL, "
	"finished INTEGER NOT NULL, networks TEXT NOT NULL) STRICT;"
	"CREATE INDEX hosts_stamp ON hosts (stamp);"
	"CREATE INDEX links_stamp ON links (stamp);"
	"CREATE INDEX links_b ON links (b);",
};

static const struct store_spec spec = STORE_SPEC(migrations, statements);

struct graph_store {
	struct store *db;
	uint64_t stamp; /* the last one given */
};

const char *graph_key(const struct net_host *h, char out[GRAPH_KEY_MAX])
{
	char ip[NET_ADDR_TEXT];

	if (net_host_is_own(h))
		cstr_print(out, GRAPH_KEY_MAX, "own");
	else if (h->addr.family)
		cstr_copy(out, GRAPH_KEY_MAX, net_addr_ip_text(&h->addr, ip));
	else
		cstr_print(out, GRAPH_KEY_MAX, "name:%s", h->name);
	return out;
}

static void key_read(const char *key, struct net_host *h)
{
	*h = (struct net_host){0};
	if (strncmp(key, "name:", 5) == 0)
		cstr_copy(h->name, sizeof h->name, key + 5);
	else if (strcmp(key, "own") != 0)
		net_addr_parse(&h->addr, key, 0);
}

int graph_store_open(struct graph_store **out, const char *path, const struct config *cfg,
		     void (*pending)(void *arg), void *arg)
{
	struct graph_store *g = calloc(1, sizeof *g);
	uint64_t old = daemon_wall_s() - GONE_KEPT_S;
	int err = g ? store_open(&g->db, path, &spec, cfg) : -ENOMEM;

	if (!err)
		err = store_run(g->db, Q_PRUNE_HOSTS, store_of_u64(old));
	if (!err)
		err = store_run(g->db, Q_PRUNE_LINKS, store_of_u64(old));
	if (err) {
		graph_store_close(g);
		return err;
	}
	g->stamp = store_get_u64(g->db, Q_STAMP, 0);
	store_gather(g->db, pending, arg);
	*out = g;
	return 0;
}

void graph_store_close(struct graph_store *g)
{
	if (!g)
		return;
	if (g->db) {
		store_flush(g->db);
		store_close(g->db);
	}
	free(g);
}

int graph_store_flush(struct graph_store *g)
{
	return store_flush(g->db);
}

static uint64_t new_stamp(struct graph_store *g)
{
	uint64_t now = daemon_wall_us();

	g->stamp = now > g->stamp ? now : g->stamp + 1;
	return g->stamp;
}

int graph_store_host(struct graph_store *g, const struct walk_host *h, const char *networks,
		     bool news)
{
	static const struct walk_gateway none;
	const struct walk_gateway *gw = h->gateway ? h->gateway : &none;
	char key[GRAPH_KEY_MAX], parent[GRAPH_KEY_MAX] = "", addr[NET_ADDR_TEXT] = "",
				 gw_addr[NET_ADDR_TEXT] = "";

	if (h->from)
		graph_key(&h->from->host, parent);
	if (h->host.addr.family)
		net_addr_ip_text(&h->host.addr, addr);
	if (h->gateway)
		net_addr_text(&gw->addr, gw_addr);
	return store_run(g->db, Q_HOST, store_of_str(graph_key(&h->host, key)), store_of_str(addr),
			 store_of_str(h->host.name), store_of_str(h->host.how),
			 store_of_str(networks), store_of_str(parent), store_of_u64(h->depth),
			 store_of_bool(h->gone), store_of_u64(h->told_port),
			 store_of_u64(h->answer), store_of_u64(h->first_s), store_of_u64(h->seen_s),
			 store_of_u64(h->asked_s), store_of_u64(h->seen_scan),
			 store_of_u64(h->asked_scan), store_of_str(gw_addr), store_of_str(gw->name),
			 store_of_str(gw->id), store_of_u64(new_stamp(g)), store_of_bool(news));
}

int graph_store_link(struct graph_store *g, const struct walk_link *l, const char *network,
		     bool news)
{
	char a[GRAPH_KEY_MAX], b[GRAPH_KEY_MAX];

	return store_run(g->db, Q_LINK, store_of_str(graph_key(&l->a->host, a)),
			 store_of_str(graph_key(&l->b->host, b)), store_of_str(network),
			 store_of_u64(l->cost), store_of_bool(l->gone), store_of_u64(l->first_s),
			 store_of_u64(l->seen_s), store_of_u64(l->seen_scan),
			 store_of_u64(new_stamp(g)), store_of_bool(news));
}

int graph_store_forget(struct graph_store *g, const struct walk_host *h)
{
	char key[GRAPH_KEY_MAX];
	int err = store_run(g->db, Q_FORGET_HOST, store_of_str(graph_key(&h->host, key)));

	return err ? err : store_run(g->db, Q_FORGET_LINKS, store_of_str(key));
}

int graph_store_scan(struct graph_store *g, const struct graph_scan *scan)
{
	int err =
		store_run(g->db, Q_SCAN, store_of_u64(scan->number), store_of_u64(scan->started_s),
			  store_of_u64(scan->finished_s), store_of_str(scan->networks));

	if (!err && scan->number > SCANS_KEPT)
		err = store_run(g->db, Q_PRUNE_SCANS, store_of_u64(scan->number - SCANS_KEPT));
	return err;
}

int graph_store_last_scan(struct graph_store *g, struct graph_scan *out)
{
	struct store_rows r = store_query(g->db, Q_LAST_SCAN);

	*out = (struct graph_scan){0};
	if (store_next(&r)) {
		out->number = store_u32(&r, 0);
		out->started_s = store_u64(&r, 1);
		out->finished_s = store_u64(&r, 2);
		cstr_copy(out->networks, sizeof out->networks, store_str(&r, 3));
	}
	return store_end(&r);
}

static void read_host(const struct store_rows *r, struct graph_host *out)
{
	uint32_t answer = store_u32(r, 8);

	*out = (struct graph_host){
		.h = {.depth = (uint8_t)store_u32(r, 5),
		      .gone = store_bool(r, 6),
		      .told_port = (uint16_t)store_u32(r, 7),
		      .answer = answer <= WALK_GATEWAY ? (enum walk_answer)answer : WALK_NOT_ASKED,
		      .first_s = store_u64(r, 9),
		      .seen_s = store_u64(r, 10),
		      .asked_s = store_u64(r, 11),
		      .seen_scan = store_u32(r, 12),
		      .asked_scan = store_u32(r, 13)},
		.stamp = store_u64(r, 17)};
	key_read(store_str(r, 18), &out->h.host);
	cstr_copy(out->h.host.name, sizeof out->h.host.name, store_str(r, 1));
	cstr_copy(out->h.host.how, sizeof out->h.host.how, store_str(r, 2));
	cstr_copy(out->networks, sizeof out->networks, store_str(r, 3));
	key_read(store_str(r, 4), &out->from);
	cstr_copy(out->gateway.name, sizeof out->gateway.name, store_str(r, 15));
	cstr_copy(out->gateway.id, sizeof out->gateway.id, store_str(r, 16));
	if (net_addr_parse(&out->gateway.addr, store_str(r, 14), 0) == 0)
		out->h.gateway = &out->gateway;
	else if (out->h.answer == WALK_GATEWAY)
		out->h.answer = WALK_NOT_ASKED;
}

int graph_store_hosts(struct graph_store *g, uint64_t since, size_t max, graph_host_visit *visit,
		      void *ctx)
{
	struct store_rows r = store_query(g->db, Q_HOSTS, store_of_u64(since), store_of_u64(max));
	struct graph_host row;

	while (store_next(&r)) {
		read_host(&r, &row);
		visit(&row, ctx);
	}
	return store_end(&r);
}

int graph_store_links(struct graph_store *g, uint64_t since, size_t max, graph_link_visit *visit,
		      void *ctx)
{
	struct store_rows r = store_query(g->db, Q_LINKS, store_of_u64(since), store_of_u64(max));

	while (store_next(&r)) {
		struct graph_link row = {.l = {.cost = store_u32(&r, 3),
					       .gone = store_bool(&r, 4),
					       .first_s = store_u64(&r, 5),
					       .seen_s = store_u64(&r, 6),
					       .seen_scan = store_u32(&r, 7)},
					 .stamp = store_u64(&r, 8)};
		key_read(store_str(&r, 0), &row.a);
		key_read(store_str(&r, 1), &row.b);
		cstr_copy(row.network, sizeof row.network, store_str(&r, 2));
		visit(&row, ctx);
	}
	return store_end(&r);
}
