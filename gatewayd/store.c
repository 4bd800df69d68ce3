#include "gatewayd/store.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cstr.h"
#include "base/log.h"
#include "io/store.h"

#define CODE_HASH_BYTES 32

enum {
	Q_SAVE,
	Q_DELETE,
	Q_LIST,
	Q_USAGE,
	Q_ACCOUNT,
	Q_ACCOUNT_SAVE,
	Q_CODE_ADD,
	Q_CODE_FIND,
	Q_CODE_DROP,
	Q_CODES,
};

static const char *const migrations[] = {
	("CREATE TABLE lease ("
	 "  sid TEXT PRIMARY KEY, method TEXT NOT NULL, name TEXT NOT NULL, port INTEGER NOT NULL,"
	 "  proven INTEGER NOT NULL, node BLOB, app TEXT NOT NULL, host TEXT NOT NULL,"
	 "  options TEXT NOT NULL, ip4 TEXT NOT NULL, ip6 TEXT NOT NULL,"
	 "  granted INTEGER NOT NULL, expires INTEGER NOT NULL,"
	 "  rate_kbps INTEGER NOT NULL, quota_bytes INTEGER NOT NULL) STRICT;"),
	/* A lease that ended while the disk was full may have left its row: who gets its address
	 * takes the row's place. */
	("ALTER TABLE lease ADD COLUMN code TEXT NOT NULL DEFAULT '';"
	 "ALTER TABLE lease ADD COLUMN up INTEGER NOT NULL DEFAULT 0;"
	 "ALTER TABLE lease ADD COLUMN down INTEGER NOT NULL DEFAULT 0;"
	 "DELETE FROM lease WHERE ip4 <> '' AND rowid NOT IN"
	 " (SELECT max(rowid) FROM lease GROUP BY ip4);"
	 "DELETE FROM lease WHERE ip6 <> '' AND rowid NOT IN"
	 " (SELECT max(rowid) FROM lease GROUP BY ip6);"
	 "CREATE UNIQUE INDEX lease_ip4 ON lease (ip4) WHERE ip4 <> '';"
	 "CREATE UNIQUE INDEX lease_ip6 ON lease (ip6) WHERE ip6 <> '';"
	 "CREATE TABLE account ("
	 "  who TEXT NOT NULL, month INTEGER NOT NULL,"
	 "  up INTEGER NOT NULL, down INTEGER NOT NULL, PRIMARY KEY (who, month))"
	 " STRICT, WITHOUT ROWID;"
	 "CREATE TABLE code ("
	 "  name TEXT PRIMARY KEY, hash BLOB NOT NULL UNIQUE, created INTEGER NOT NULL) STRICT;"),
	("ALTER TABLE lease ADD COLUMN key BLOB;"
	 "ALTER TABLE lease ADD COLUMN stamp INTEGER NOT NULL DEFAULT 0;"),
};

static const char *const statements[] = {
	[Q_SAVE] =
		("INSERT OR REPLACE INTO lease VALUES"
		 " (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
		 " ON CONFLICT (sid) DO UPDATE SET method = excluded.method, name = excluded.name,"
		 " port = excluded.port, proven = excluded.proven, node = excluded.node,"
		 " app = excluded.app, host = excluded.host, options = excluded.options,"
		 " ip4 = excluded.ip4, ip6 = excluded.ip6, granted = excluded.granted,"
		 " expires = excluded.expires, rate_kbps = excluded.rate_kbps,"
		 " quota_bytes = excluded.quota_bytes, code = excluded.code, up = excluded.up,"
		 " down = excluded.down, key = excluded.key, stamp = excluded.stamp"),
	[Q_DELETE] = "DELETE FROM lease WHERE sid = ?",
	[Q_LIST] =
		("SELECT sid, method, name, port, proven, node, app, host, options, ip4, ip6,"
		 " granted, expires, rate_kbps, quota_bytes, code, up, down, key, stamp FROM lease"
		 " ORDER BY rowid"),
	[Q_USAGE] = "UPDATE lease SET up = ?, down = ? WHERE sid = ?",
	[Q_ACCOUNT] = "SELECT up, down FROM account WHERE who = ? AND month = ?",
	[Q_ACCOUNT_SAVE] = ("INSERT INTO account VALUES (?,?,?,?)"
			    " ON CONFLICT (who, month) DO UPDATE SET up = excluded.up,"
			    " down = excluded.down"),
	[Q_CODE_ADD] = "INSERT INTO code VALUES (?,?,?)",
	[Q_CODE_FIND] = "SELECT name FROM code WHERE hash = ?",
	[Q_CODE_DROP] = "DELETE FROM code WHERE name = ?",
	[Q_CODES] = "SELECT name, created FROM code ORDER BY name",
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
		store_of_u64(l->quota_bytes), store_of_str(l->code), store_of_u64(l->up_bytes),
		store_of_u64(l->down_bytes), store_of_id(&l->who.key), store_of_u64(l->who.stamp));
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

	cstr_copy(out, size, text);
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
	good = text_read(r, 15, l->code, sizeof(l->code)) && good;
	l->up_bytes = store_u64(r, 16);
	l->down_bytes = store_u64(r, 17);
	good = store_id(r, 18, &l->who.key) && good;
	l->who.stamp = store_u64(r, 19);
	l->options = strdup(store_str(r, 8));
	return good && l->options && sid_valid(l->sid);
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

/* ---- usage ---- */

int gw_store_usage_save(struct gw_store *s, const struct lease *l)
{
	return store_run(s->db, Q_USAGE, store_of_u64(l->up_bytes), store_of_u64(l->down_bytes),
			 store_of_str(l->sid));
}

int gw_store_account_load(struct gw_store *s, const char *who, uint32_t month, uint64_t *up,
			  uint64_t *down)
{
	struct store_rows r = store_query(s->db, Q_ACCOUNT, store_of_str(who), store_of_u64(month));
	int rc = -ENOENT, end;

	if (store_next(&r)) {
		*up = store_u64(&r, 0);
		*down = store_u64(&r, 1);
		rc = 0;
	}
	end = store_end(&r);
	return end ? end : rc;
}

int gw_store_account_save(struct gw_store *s, const struct account *a)
{
	return store_run(s->db, Q_ACCOUNT_SAVE, store_of_str(a->who), store_of_u64(a->month),
			 store_of_u64(a->up_bytes), store_of_u64(a->down_bytes));
}

/* ---- access codes ---- */

/* Codes are made here and long, so a plain hash cannot be searched through. */
static struct bytes code_hash(const char *code, uint8_t hash[CODE_HASH_BYTES])
{
	crypto_generichash(hash, CODE_HASH_BYTES, (const uint8_t *)code, strlen(code), NULL, 0);
	return bytes_of(hash, CODE_HASH_BYTES);
}

int gw_store_code_add(struct gw_store *s, const char *name, const char *code, uint64_t wall_s)
{
	uint8_t hash[CODE_HASH_BYTES];
	int rc = store_run(s->db, Q_CODE_ADD, store_of_str(name),
			   store_of_blob(code_hash(code, hash)), store_of_u64(wall_s));

	return rc ? rc : store_flush(s->db);
}

int gw_store_code_drop(struct gw_store *s, const char *name)
{
	int rc = store_run(s->db, Q_CODE_DROP, store_of_str(name));

	if (!rc && !store_changes(s->db))
		rc = -ENOENT;
	return rc ? rc : store_flush(s->db);
}

int gw_store_code_find(struct gw_store *s, const char *code, char name[LEASE_NAME_MAX + 1])
{
	uint8_t hash[CODE_HASH_BYTES];
	struct store_rows r = store_query(s->db, Q_CODE_FIND, store_of_blob(code_hash(code, hash)));
	bool found = store_next(&r) && text_read(&r, 0, name, LEASE_NAME_MAX + 1);
	int end = store_end(&r);

	if (end)
		return end;
	return found ? 0 : -ENOENT;
}

int gw_store_codes(struct gw_store *s, gw_store_code_visit *visit, void *ctx)
{
	struct store_rows r = store_query(s->db, Q_CODES);

	while (store_next(&r))
		visit(store_str(&r, 0), store_u64(&r, 1), ctx);
	return store_end(&r);
}
