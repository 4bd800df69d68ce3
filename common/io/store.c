#include "io/store.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cstr.h"
#include "base/log.h"
#include "io/clock.h"
#include "io/config.h"

#define DEFAULT_BUSY_MS 2000

struct store_slot {
	sqlite3_stmt *stmt;
	bool busy; /* between store_query() and store_end() */
};

struct store {
	sqlite3 *db;
	const struct store_spec *spec;
	struct log_limit failures;
	bool in_transaction;
	bool lost;		    /* SQLite rolled the open transaction back by itself */
	void (*pending)(void *arg); /* not NULL: single writes are gathered */
	void *pending_arg;
	bool gathered;	 /* in a transaction that store_flush ends */
	int gather_lost; /* -errno: SQLite ended that one by itself, and what was in it is gone */
	struct store_slot slots[];
};

static int error_number(int code)
{
	switch (code & 0xff) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE:
		return 0;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_CONSTRAINT:
		return -EEXIST;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return -EBADMSG;
	case SQLITE_PERM:
	case SQLITE_READONLY:
	case SQLITE_CANTOPEN:
		return -EACCES;
	case SQLITE_TOOBIG:
		return -E2BIG;
	case SQLITE_ERROR:
	case SQLITE_MISUSE:
	case SQLITE_RANGE:
	case SQLITE_MISMATCH:
		return -EINVAL;
	default:
		return -EIO;
	}
}

static const char *store_name(const struct store *s)
{
	const char *path = sqlite3_db_filename(s->db, "main");

	return path && *path ? path : ":memory:";
}

static int fail(struct store *s, int code, const char *sql)
{
	int rc = error_number(code);

	/* A full or failing disk ends the transaction; what the caller still has to write of it
	 * must not be written alone. */
	if (s->in_transaction && sqlite3_get_autocommit(s->db))
		s->lost = true;
	if (s->gathered && sqlite3_get_autocommit(s->db)) {
		s->gathered = false;
		s->gather_lost = rc;
	}
	if (rc && rc != -EEXIST && log_limit_due(&s->failures, daemon_now_us()))
		log_error("%s: %s (%llu failures so far) in: %.200s", store_name(s),
			  sqlite3_errmsg(s->db), (unsigned long long)s->failures.count, sql);
	return rc;
}

int store_exec(struct store *s, const char *sql)
{
	int code = sqlite3_exec(s->db, sql, NULL, NULL, NULL);

	return code == SQLITE_OK ? 0 : fail(s, code, sql);
}

/* --- opening ------------------------------------------------------------------------------ */

static int version_get(struct store *s, uint64_t *version)
{
	sqlite3_stmt *stmt = NULL;
	int code = sqlite3_prepare_v2(s->db, "PRAGMA user_version", -1, &stmt, NULL);

	if (code == SQLITE_OK)
		code = sqlite3_step(stmt);
	if (code == SQLITE_ROW)
		*version = (uint64_t)sqlite3_column_int64(stmt, 0);
	sqlite3_finalize(stmt);
	return code == SQLITE_ROW ? 0 : fail(s, code, "PRAGMA user_version");
}

static int migrate_one(struct store *s, size_t from)
{
	char sql[64];
	int rc = store_begin(s);

	if (rc)
		return rc;
	cstr_print(sql, sizeof sql, "PRAGMA user_version = %zu", from + 1);
	rc = store_exec(s, s->spec->migrations[from]);
	if (!rc)
		rc = store_exec(s, sql);
	if (!rc)
		return store_commit(s);
	store_rollback(s);
	log_error("%s: cannot be brought from version %zu to %zu", store_name(s), from, from + 1);
	return rc;
}

static int migrate(struct store *s)
{
	uint64_t version = 0;
	int rc = version_get(s, &version);

	if (rc)
		return rc;
	if (version > s->spec->n_migrations) {
		log_error("%s: version %llu is newer than this program knows (%zu)", store_name(s),
			  (unsigned long long)version, s->spec->n_migrations);
		return -EPROTO;
	}
	for (size_t n = (size_t)version; n < s->spec->n_migrations && !rc; n++)
		rc = migrate_one(s, n);
	return rc;
}

/* SQLite gives its journal files the mode of the database, so that decides for all. */
static int file_prepare(const char *path)
{
	int fd, rc;

	if (!strcmp(path, ":memory:"))
		return 0;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0) {
		rc = -errno;
		log_error("%s: %s", path, strerror(-rc));
		return rc;
	}
	close(fd);
	return 0;
}

static int pragmas_set(struct store *s, const struct config *cfg)
{
	char sql[200];

	sqlite3_busy_timeout(s->db, cfg ? (int)cfg->database_busy_timeout_ms : DEFAULT_BUSY_MS);
	cstr_print(sql, sizeof sql,
		   "PRAGMA journal_mode = WAL; PRAGMA synchronous = %s; PRAGMA foreign_keys = ON; "
		   "PRAGMA trusted_schema = OFF",
		   cfg ? cfg->database_synchronous : "full");
	return store_exec(s, sql);
}

int store_open(struct store **out, const char *path, const struct store_spec *spec,
	       const struct config *cfg)
{
	struct store *s = calloc(1, sizeof *s + spec->n_statements * sizeof s->slots[0]);
	int rc, code;

	*out = NULL;
	if (!s)
		return -ENOMEM;
	s->spec = spec;
	rc = file_prepare(path);
	if (!rc) {
		code = sqlite3_open_v2(path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
				       NULL);
		rc = code == SQLITE_OK ? pragmas_set(s, cfg) : fail(s, code, "open");
	}
	if (!rc)
		rc = migrate(s);
	if (rc)
		store_close(s);
	else
		*out = s;
	return rc;
}

void store_close(struct store *s)
{
	if (!s)
		return;
	if (s->db)
		store_flush(s);
	store_rollback(s);
	for (size_t i = 0; i < s->spec->n_statements; i++)
		sqlite3_finalize(s->slots[i].stmt);
	sqlite3_close(s->db);
	free(s);
}

/* --- arguments ---------------------------------------------------------------------------- */

struct store_arg store_of_null(void)
{
	return (struct store_arg){.kind = STORE_ARG_NULL};
}

struct store_arg store_of_i64(int64_t v)
{
	return (struct store_arg){.kind = STORE_ARG_INT, .num = v};
}

struct store_arg store_of_u64(uint64_t v)
{
	return store_of_i64((int64_t)v);
}

struct store_arg store_of_bool(bool v)
{
	return store_of_i64(v);
}

struct store_arg store_of_real(double v)
{
	return (struct store_arg){.kind = STORE_ARG_REAL, .real = v};
}

struct store_arg store_of_text(struct bytes b)
{
	return (struct store_arg){
		.kind = STORE_ARG_TEXT, .data = b.data ? (const void *)b.data : "", .len = b.len};
}

struct store_arg store_of_str(const char *s)
{
	return s ? store_of_text(bytes_str(s)) : store_of_null();
}

struct store_arg store_of_blob(struct bytes b)
{
	/* SQLite takes a NULL pointer for SQL NULL. */
	return (struct store_arg){
		.kind = STORE_ARG_BLOB, .data = b.data ? (const void *)b.data : "", .len = b.len};
}

struct store_arg store_of_id(const struct mesh_id *id)
{
	return store_of_blob(bytes_of(id->b, sizeof id->b));
}

static int bind_one(sqlite3_stmt *stmt, int n, const struct store_arg *a)
{
	switch (a->kind) {
	case STORE_ARG_INT:
		return sqlite3_bind_int64(stmt, n, a->num);
	case STORE_ARG_REAL:
		return sqlite3_bind_double(stmt, n, a->real);
	case STORE_ARG_TEXT:
		return sqlite3_bind_text64(stmt, n, a->data, a->len, SQLITE_TRANSIENT, SQLITE_UTF8);
	case STORE_ARG_BLOB:
		return sqlite3_bind_blob64(stmt, n, a->data, a->len, SQLITE_TRANSIENT);
	case STORE_ARG_NULL:
	case STORE_ARG_END:
		return sqlite3_bind_null(stmt, n);
	}
	return SQLITE_MISUSE;
}

/* --- running ------------------------------------------------------------------------------ */

static int slot_prepare(struct store *s, unsigned q)
{
	struct store_slot *slot;
	int code;

	if (q >= s->spec->n_statements)
		return -EINVAL;
	if (s->lost)
		return -EIO;
	slot = &s->slots[q];
	if (slot->busy) {
		log_error("%s: nested use of: %.200s", store_name(s), s->spec->statements[q]);
		return -EBUSY;
	}
	if (slot->stmt)
		return 0;
	code = sqlite3_prepare_v3(s->db, s->spec->statements[q], -1, SQLITE_PREPARE_PERSISTENT,
				  &slot->stmt, NULL);
	return code == SQLITE_OK ? 0 : fail(s, code, s->spec->statements[q]);
}

static int slot_bind(struct store *s, unsigned q, const struct store_arg *args)
{
	sqlite3_stmt *stmt = s->slots[q].stmt;
	int code = SQLITE_OK, n = 0;

	for (; args->kind != STORE_ARG_END && code == SQLITE_OK; args++)
		code = bind_one(stmt, ++n, args);
	if (code == SQLITE_OK && n != sqlite3_bind_parameter_count(stmt)) {
		log_error("%s: %d arguments given to: %.200s", store_name(s), n,
			  s->spec->statements[q]);
		return -EINVAL;
	}
	return code == SQLITE_OK ? 0 : fail(s, code, s->spec->statements[q]);
}

static void slot_reset(struct store_slot *slot)
{
	slot->busy = false;
	sqlite3_reset(slot->stmt);
	/* Secrets and large blobs shall not stay in the statement. */
	sqlite3_clear_bindings(slot->stmt);
}

struct store_rows store_query_args(struct store *s, unsigned q, const struct store_arg *args)
{
	struct store_rows r = {.s = s, .q = q};

	r.err = slot_prepare(s, q);
	if (r.err)
		return r;
	r.err = slot_bind(s, q, args);
	if (r.err) {
		slot_reset(&s->slots[q]);
		return r;
	}
	s->slots[q].busy = true;
	r.stmt = s->slots[q].stmt;
	return r;
}

bool store_next(struct store_rows *r)
{
	int code;

	if (r->err || !r->stmt)
		return false;
	code = sqlite3_step(r->stmt);
	if (code == SQLITE_ROW)
		return true;
	if (code != SQLITE_DONE)
		r->err = fail(r->s, code, r->s->spec->statements[r->q]);
	store_end(r);
	return false;
}

int store_end(struct store_rows *r)
{
	if (r->stmt)
		slot_reset(&r->s->slots[r->q]);
	r->stmt = NULL;
	return r->err;
}

/* Without a transaction (somebody else has the lock) the write is one of its own. */
static void gather_begin(struct store *s, unsigned q)
{
	if (!s->pending || s->gathered || s->in_transaction || slot_prepare(s, q) ||
	    sqlite3_stmt_readonly(s->slots[q].stmt) || store_exec(s, "BEGIN IMMEDIATE"))
		return;
	s->gathered = true;
	s->pending(s->pending_arg);
}

int store_run_args(struct store *s, unsigned q, const struct store_arg *args)
{
	gather_begin(s, q);
	struct store_rows r = store_query_args(s, q, args);

	while (store_next(&r))
		;
	return store_end(&r);
}

uint64_t store_get_u64_args(struct store *s, unsigned q, uint64_t otherwise,
			    const struct store_arg *args)
{
	struct store_rows r = store_query_args(s, q, args);
	uint64_t v = otherwise;

	if (store_next(&r) && !store_is_null(&r, 0))
		v = store_u64(&r, 0);
	store_end(&r);
	return v;
}

/* --- columns ------------------------------------------------------------------------------ */

bool store_is_null(const struct store_rows *r, int column)
{
	return !r->stmt || sqlite3_column_type(r->stmt, column) == SQLITE_NULL;
}

int64_t store_i64(const struct store_rows *r, int column)
{
	return r->stmt ? sqlite3_column_int64(r->stmt, column) : 0;
}

uint64_t store_u64(const struct store_rows *r, int column)
{
	return (uint64_t)store_i64(r, column);
}

uint32_t store_u32(const struct store_rows *r, int column)
{
	int64_t v = store_i64(r, column);

	return v < 0 || v > UINT32_MAX ? 0 : (uint32_t)v;
}

bool store_bool(const struct store_rows *r, int column)
{
	return store_i64(r, column) != 0;
}

double store_real(const struct store_rows *r, int column)
{
	return r->stmt ? sqlite3_column_double(r->stmt, column) : 0;
}

const char *store_str(const struct store_rows *r, int column)
{
	const unsigned char *text = r->stmt ? sqlite3_column_text(r->stmt, column) : NULL;

	return text ? (const char *)text : "";
}

struct bytes store_blob(const struct store_rows *r, int column)
{
	const void *data = r->stmt ? sqlite3_column_blob(r->stmt, column) : NULL;

	return bytes_of(data, data ? (size_t)sqlite3_column_bytes(r->stmt, column) : 0);
}

bool store_id(const struct store_rows *r, int column, struct mesh_id *out)
{
	struct bytes b = store_blob(r, column);

	memset(out, 0, sizeof *out);
	if (b.len != sizeof out->b || sqlite3_column_type(r->stmt, column) != SQLITE_BLOB)
		return false;
	memcpy(out->b, b.data, b.len);
	return true;
}

uint64_t store_changes(const struct store *s)
{
	return (uint64_t)sqlite3_changes64(s->db);
}

uint64_t store_last_id(const struct store *s)
{
	return (uint64_t)sqlite3_last_insert_rowid(s->db);
}

/* --- transactions ------------------------------------------------------------------------- */

int store_begin(struct store *s)
{
	int rc;

	if (s->in_transaction)
		return -EBUSY;
	rc = store_flush(s);
	if (rc)
		return rc;
	/* Immediate: a lock that cannot be had is told here, not in the middle. */
	rc = store_exec(s, "BEGIN IMMEDIATE");
	if (!rc)
		s->in_transaction = true;
	return rc;
}

int store_commit(struct store *s)
{
	int rc;

	if (!s->in_transaction || s->lost) {
		store_rollback(s);
		return -EIO;
	}
	rc = store_exec(s, "COMMIT");
	if (rc)
		store_rollback(s);
	s->in_transaction = false;
	return rc;
}

void store_rollback(struct store *s)
{
	if (s->in_transaction && !sqlite3_get_autocommit(s->db))
		store_exec(s, "ROLLBACK");
	s->in_transaction = false;
	s->lost = false;
}

bool store_in_transaction(const struct store *s)
{
	return s->in_transaction;
}

void store_gather(struct store *s, void (*pending)(void *arg), void *arg)
{
	s->pending = pending;
	s->pending_arg = arg;
}

int store_flush(struct store *s)
{
	int rc = 0, lost = s->gather_lost;

	s->gather_lost = 0;
	if (s->gathered) {
		rc = store_exec(s, "COMMIT");
		if (rc && !sqlite3_get_autocommit(s->db))
			store_exec(s, "ROLLBACK");
		s->gathered = false;
		s->gather_lost = 0;
	}
	return rc ? rc : lost;
}
