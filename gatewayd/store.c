#include "gatewayd/store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "io/store.h"

enum { Q_SAVE, Q_DELETE, Q_LIST };

static const char *const migrations[] = {
	("CREATE TABLE lease ("
	 "  sid TEXT PRIMARY KEY, method TEXT NOT NULL, name TEXT NOT NULL, port INTEGER NOT NULL,"
	 "  proven INTEGER NOT NULL, node BLOB, app TEXT NOT NULL, host TEXT NOT NULL,"
	 "  options TEXT NOT NULL, ip4 TEXT NOT NULL, ip6 TEXT NOT NULL,"
	 "  granted INTEGER NOT NULL, expires INTEGER NOT NULL,"
	 "  rate_kbps INTEGER NOT NULL, quota_bytes INTEGER NOT NULL) STRICT;"),
};

static const char *const statements[] = {
	[Q_SAVE] =
		("INSERT INTO lease VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
		 " ON CONFLICT (sid) DO UPDATE SET method = excluded.method, name = excluded.name,"
		 " port = excluded.port, proven = excluded.proven, node = excluded.node,"
		 " app = excluded.app, host = excluded.host, options = excluded.options,"
		 " ip4 = excluded.ip4, ip6 = excluded.ip6, granted = excluded.granted,"
		 " expires = excluded.expires, rate_kbps = excluded.rate_kbps,"
		 " quota_bytes = excluded.quota_bytes"),
	[Q_DELETE] = "DELETE FROM lease WHERE sid = ?",
	[Q_LIST] = ("SELECT sid, method, name, port, proven, node, app, host, options, ip4, ip6,"
		    " granted, expires, rate_kbps, quota_bytes FROM lease ORDER BY rowid"),
};

static const struct store_spec spec = STORE_SPEC(migrations, statements);

struct gw_store {
	struct store *db;
};

int gw_store_open(struct gw_store **out, const char *path, const struct config *cfg)
{
	struct gw_store *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return -ENOMEM;
	rc = store_open(&s->db, path, &spec, cfg);
	if (rc) {
		free(s);
		return rc;
	}
	*out = s;
	return 0;
}

void gw_store_close(struct gw_store *s)
{
	if (!s)
		return;
	store_close(s->db);
	free(s);
}

void gw_store_gather(struct gw_store *s, void (*pending)(void *arg), void *arg)
{
	store_gather(s->db, pending, arg);
}

int gw_store_flush(struct gw_store *s)
{
	return store_flush(s->db);
}

/* "" for no address. */
static const char *address_text(const struct net_addr *a, char out[NET_ADDR_TEXT])
{
	if (a->family == 0)
		return "";
	return net_addr_ip_text(a, out);
}

int gw_store_save(struct gw_store *s, const struct lease *l)
{
	char host[NET_ADDR_TEXT], ip4[NET_ADDR_TEXT], ip6[NET_ADDR_TEXT];

	return store_run(
		s->db, Q_SAVE, store_of_str(l->sid), store_of_str(l->method), store_of_str(l->name),
		store_of_u64(l->port), store_of_bool(l->who.proven), store_of_id(&l->who.node),
		store_of_str(l->who.app), store_of_str(address_text(&l->who.host, host)),
		store_of_str(l->options ? l->options : ""),
		store_of_str(address_text(&l->ip4, ip4)), store_of_str(address_text(&l->ip6, ip6)),
		store_of_u64(l->granted_s), store_of_u64(l->expires_s), store_of_u64(l->rate_kbps),
		store_of_u64(l->quota_bytes));
}

int gw_store_delete(struct gw_store *s, const char *sid)
{
	return store_run(s->db, Q_DELETE, store_of_str(sid));
}

static bool address_read(const struct store_rows *r, int column, struct net_addr *out)
{
	const char *text = store_str(r, column);

	*out = (struct net_addr){0};
	return !*text || net_addr_parse(out, text, 0) == 0;
}

/* Text that is too long for its place makes the row unusable. */
static bool text_read(const struct store_rows *r, int column, char *out, size_t size)
{
	const char *text = store_str(r, column);

	snprintf(out, size, "%s", text);
	return strlen(text) < size;
}

static bool row_read(const struct store_rows *r, struct lease *l)
{
	bool good = text_read(r, 0, l->sid, sizeof(l->sid)) &&
		    text_read(r, 1, l->method, sizeof(l->method)) &&
		    text_read(r, 2, l->name, sizeof(l->name)) &&
		    text_read(r, 6, l->who.app, sizeof(l->who.app)) &&
		    address_read(r, 7, &l->who.host) && address_read(r, 9, &l->ip4) &&
		    address_read(r, 10, &l->ip6) && store_id(r, 5, &l->who.node);

	l->port = (uint16_t)store_u32(r, 3);
	l->who.proven = store_bool(r, 4);
	l->granted_s = store_u64(r, 11);
	l->expires_s = store_u64(r, 12);
	l->rate_kbps = store_u64(r, 13);
	l->quota_bytes = store_u64(r, 14);
	l->options = strdup(store_str(r, 8));
	return good && l->options && lease_sid_valid(l->sid);
}

static int list_read(struct gw_store *s, struct lease_list *list)
{
	struct store_rows r = store_query(s->db, Q_LIST);
	struct lease *l;

	while (store_next(&r)) {
		l = calloc(1, sizeof(*l));
		if (!l) {
			store_end(&r);
			return -ENOMEM;
		}
		if (row_read(&r, l)) {
			TAILQ_INSERT_TAIL(list, l, link);
			continue;
		}
		log_warn("lease '%.8s' in the store makes no sense, skipped", l->sid);
		lease_free(l);
	}
	return store_end(&r);
}

int gw_store_load(struct gw_store *s, gw_store_visit *visit, void *ctx)
{
	struct lease_list list = TAILQ_HEAD_INITIALIZER(list);
	struct lease *l;
	int rc = list_read(s, &list);

	while ((l = TAILQ_FIRST(&list))) {
		TAILQ_REMOVE(&list, l, link);
		if (!rc)
			visit(l, ctx);
		lease_free(l);
	}
	return rc;
}
