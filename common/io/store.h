/*
 * SQLite for the daemons' store.c: WAL, migrations, cached statements, typed arguments and columns.
 *
 *     enum { Q_ADD, Q_LIST, Q_COUNT };
 *     static const char *const statements[] = {[Q_ADD] = "INSERT INTO t VALUES (?,?)", ...};
 *     static const char *const migrations[] = {"CREATE TABLE t (...) STRICT; ..."};
 *     static const struct store_spec spec = STORE_SPEC(migrations, statements);
 *
 *     rc = store_open(&s, path, &spec, cfg);
 *     rc = store_run(s, Q_ADD, store_of_u64(7), store_of_str("x"));
 *     struct store_rows r = store_query(s, Q_LIST);
 *     while (store_next(&r))
 *             use(store_u64(&r, 0), store_str(&r, 1));
 *     rc = store_end(&r);
 *
 * Errors are -errno, logged here with the statement (except -EEXIST): -ENOSPC the disk is full,
 * -EIO the disk failed, -EBUSY locked by another process, -EEXIST a constraint said no, -EBADMSG
 * the file is damaged or not ours, -ENOMEM, -EACCES.  After an error inside a transaction:
 * store_rollback().
 */
#ifndef IO_STORE_H
#define IO_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/id.h"

struct config;
struct store;

struct store_spec {
	/* migrations[n] leads from user_version n to n + 1, in a transaction of its own.  Never
	 * change one that was released; append. */
	const char *const *migrations;
	size_t n_migrations;
	const char *const *statements; /* prepared when first used */
	size_t n_statements;
};
#define STORE_SPEC(m, q)                                                                           \
	{                                                                                          \
		.migrations = (m), .n_migrations = sizeof(m) / sizeof((m)[0]), .statements = (q),  \
		.n_statements = sizeof(q) / sizeof((q)[0]),                                        \
	}

/*
 * Opens or makes the file (mode 0600; ":memory:" for tests) and brings it to the newest version.
 * -EPROTO: a newer program made it.  `cfg` may be NULL (defaults of [database]).
 */
int store_open(struct store **out, const char *path, const struct store_spec *spec,
	       const struct config *cfg);
void store_close(struct store *s);

/* Statement arguments.  Text and bytes are only borrowed for the call (store_query: copied). */
struct store_arg {
	enum {
		STORE_ARG_END,
		STORE_ARG_NULL,
		STORE_ARG_INT,
		STORE_ARG_REAL,
		STORE_ARG_TEXT,
		STORE_ARG_BLOB
	} kind;
	int64_t num;
	double real;
	const void *data;
	size_t len;
};
struct store_arg store_of_null(void);
struct store_arg store_of_i64(int64_t v);
/* Kept bit for bit; above INT64_MAX it sorts as a negative number. */
struct store_arg store_of_u64(uint64_t v);
struct store_arg store_of_bool(bool v);
struct store_arg store_of_real(double v);
/* A NULL pointer is SQL NULL. */
struct store_arg store_of_str(const char *s);
/* As TEXT. */
struct store_arg store_of_text(struct bytes b);
/* As BLOB; {NULL, 0} is an empty blob. */
struct store_arg store_of_blob(struct bytes b);
struct store_arg store_of_id(const struct mesh_id *id);

/* Runs a statement that answers no rows.  0 or -errno. */
#define store_run(s, q, ...)                                                                       \
	store_run_args(s, q,                                                                       \
		       (struct store_arg[]){__VA_ARGS__ __VA_OPT__(, ){.kind = STORE_ARG_END}})
int store_run_args(struct store *s, unsigned q, const struct store_arg *args);

/*
 * Rows.  A statement is used by one query at a time: a second one on the same statement before
 * store_end() gets -EBUSY.  Strings and bytes are valid until the next store_next() or store_end().
 */
struct store_rows {
	struct store *s;
	void *stmt; /* sqlite3_stmt */
	unsigned q;
	int err;
};
#define store_query(s, q, ...)                                                                     \
	store_query_args(s, q,                                                                     \
			 (struct store_arg[]){__VA_ARGS__ __VA_OPT__(, ){.kind = STORE_ARG_END}})
struct store_rows store_query_args(struct store *s, unsigned q, const struct store_arg *args);
bool store_next(struct store_rows *r);
/* 0 or the error that ended the rows.  Always call it. */
int store_end(struct store_rows *r);

bool store_is_null(const struct store_rows *r, int column);
int64_t store_i64(const struct store_rows *r, int column);
uint64_t store_u64(const struct store_rows *r, int column);
/* Out of range answers 0: a file that others edited cannot make a wild number. */
uint32_t store_u32(const struct store_rows *r, int column);
bool store_bool(const struct store_rows *r, int column);
double store_real(const struct store_rows *r, int column);
/* Never NULL: "" for SQL NULL. */
const char *store_str(const struct store_rows *r, int column);
struct bytes store_blob(const struct store_rows *r, int column);
/* False (and a zero id) unless the column is a blob of the right size. */
bool store_id(const struct store_rows *r, int column, struct mesh_id *out);

/* The first column of the first row, or `otherwise` (also on an error). */
#define store_get_u64(s, q, otherwise, ...)                                                        \
	store_get_u64_args(                                                                        \
		s, q, otherwise,                                                                   \
		(struct store_arg[]){__VA_ARGS__ __VA_OPT__(, ){.kind = STORE_ARG_END}})
uint64_t store_get_u64_args(struct store *s, unsigned q, uint64_t otherwise,
			    const struct store_arg *args);

/* Of the last store_run(). */
uint64_t store_changes(const struct store *s);
uint64_t store_last_id(const struct store *s);

/* Transactions do not nest (-EBUSY).  A commit that fails has rolled back. */
int store_begin(struct store *s);
int store_commit(struct store *s);
/* Harmless without a transaction. */
void store_rollback(struct store *s);
bool store_in_transaction(const struct store *s);

/* Runs SQL that is not worth a slot (several statements are fine). */
int store_exec(struct store *s, const char *sql);

/*
 * From now on single writes are gathered: the first begins a transaction and calls `pending`, and
 * the owner calls store_flush soon, at the latest before anything leaves the process that rests on
 * them.  So a thousand writes of one moment cost one wait for the disk.  store_begin flushes first.
 */
void store_gather(struct store *s, void (*pending)(void *arg), void *arg);
/* 0 (also when nothing was gathered) or -errno, logged: then all that was gathered is lost, or was
 * already when a write failed that said so. */
int store_flush(struct store *s);
#endif
