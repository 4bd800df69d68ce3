/* The SQLite helper: migrations, values that come back as they went, transactions, a full disk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "io/config.h"
#include "io/store.h"

enum { Q_ADD, Q_ALL, Q_COUNT, Q_DEL, Q_SYNC, Q_PAGES, Q_BAD, Q_CHILD };

static const char *const statements[] = {
	[Q_ADD] = "INSERT INTO t (k, num, real, txt, blb, id) VALUES (?,?,?,?,?,?)",
	[Q_ALL] = "SELECT k, num, real, txt, blb, id FROM t WHERE k >= ? ORDER BY k",
	[Q_COUNT] = "SELECT COUNT(*) FROM t",
	[Q_DEL] = "DELETE FROM t",
	[Q_SYNC] = "PRAGMA synchronous",
	[Q_PAGES] = "PRAGMA max_page_count",
	[Q_BAD] = "SELECT nothing FROM nowhere",
	[Q_CHILD] = "INSERT INTO child VALUES (?)",
};
static const char *const migrations[] = {
	"CREATE TABLE t (k INTEGER PRIMARY KEY, num INTEGER, real REAL, txt TEXT, blb BLOB) STRICT;"
	"INSERT INTO t (k, txt) VALUES (1, 'first')",
	"ALTER TABLE t ADD COLUMN id BLOB; CREATE TABLE child (k INTEGER REFERENCES t(k))",
};
static const struct store_spec spec = STORE_SPEC(migrations, statements);
static const struct store_spec spec_old = {
	.migrations = migrations, .n_migrations = 1, .statements = statements, .n_statements = 4};
static const char *const bad_step[] = {"CREATE TABLE u (k); CREATE TABLE u (k)"};
static const struct store_spec spec_bad = STORE_SPEC(bad_step, statements);

static char dir[64], path[128];
static unsigned log_lines;

static void count(enum log_level level, const char *line)
{
	(void)level;
	(void)line;
	log_lines++;
}

static int setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/meshnet-store-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof path, "%s/x.db", dir);
	log_lines = 0;
	log_set_sink(count);
	return 0;
}

static int teardown(void **state)
{
	static const char *const suffix[] = {"", "-wal", "-shm"};
	char name[160];

	(void)state;
	log_set_sink(NULL);
	for (size_t i = 0; i < 3; i++) {
		snprintf(name, sizeof name, "%s%s", path, suffix[i]);
		unlink(name);
	}
	return rmdir(dir);
}

static struct store *open_ok(const struct store_spec *with)
{
	struct store *s = NULL;

	assert_int_equal(store_open(&s, path, with, NULL), 0);
	assert_non_null(s);
	return s;
}

static int add(struct store *s, uint64_t k)
{
	return store_run(s, Q_ADD, store_of_u64(k), store_of_null(), store_of_null(),
			 store_of_null(), store_of_null(), store_of_null());
}

static void test_migrations(void **state)
{
	struct store *s = open_ok(&spec_old);
	struct store_rows r;
	struct stat st;

	(void)state;
	store_close(s);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	/* The second step only, and the data of the first is still there. */
	s = open_ok(&spec);
	r = store_query(s, Q_ALL, store_of_u64(0));
	assert_true(store_next(&r));
	assert_string_equal(store_str(&r, 3), "first");
	assert_false(store_next(&r));
	assert_int_equal(store_end(&r), 0);
	store_close(s);
	s = open_ok(&spec);
	assert_int_equal(store_get_u64(s, Q_COUNT, 99), 1);
	store_close(s);
	assert_int_equal(log_lines, 0);
	/* An older program leaves a newer file alone. */
	assert_int_equal(store_open(&s, path, &spec_old, NULL), -EPROTO);
	assert_null(s);
}

static void test_failed_migration_leaves_nothing(void **state)
{
	static const char *const good[] = {"CREATE TABLE u (k)"};
	static const struct store_spec spec_good = STORE_SPEC(good, statements);
	struct store *s;

	(void)state;
	assert_int_equal(store_open(&s, path, &spec_bad, NULL), -EINVAL);
	s = open_ok(&spec_good);
	store_close(s);
}

static void test_not_a_database(void **state)
{
	FILE *f = fopen(path, "w");
	struct store *s;

	(void)state;
	for (int i = 0; i < 1000; i++)
		fputs("this is somebody's letter\n", f);
	fclose(f);
	assert_int_equal(store_open(&s, path, &spec, NULL), -EBADMSG);
	assert_int_equal(store_open(&s, "/nonexistent/x.db", &spec, NULL), -ENOENT);
	assert_null(s);
}

static void test_values_come_back(void **state)
{
	static const uint8_t blob[] = {0, 1, 0xff, 0};
	struct mesh_id id = {.b = {7, [31] = 9}}, got;
	struct store *s = open_ok(&spec);
	struct store_rows r;
	struct bytes b;

	(void)state;
	assert_int_equal(store_run(s, Q_ADD, store_of_u64(5), store_of_u64(UINT64_MAX),
				   store_of_real(0.25), store_of_text(bytes_of("a\0b", 3)),
				   store_of_blob(bytes_of(blob, 4)), store_of_id(&id)),
			 0);
	assert_int_equal(store_changes(s), 1);
	assert_int_equal(store_last_id(s), 5);
	assert_int_equal(store_run(s, Q_ADD, store_of_u64(6), store_of_bool(true), store_of_null(),
				   store_of_str(NULL), store_of_blob(bytes_of(NULL, 0)),
				   store_of_blob(bytes_of(blob, 4))),
			 0);
	r = store_query(s, Q_ALL, store_of_i64(5));
	assert_true(store_next(&r));
	assert_int_equal(store_u64(&r, 1), UINT64_MAX);
	assert_int_equal(store_u32(&r, 1), 0);
	assert_int_equal(store_u32(&r, 0), 5);
	assert_true(store_real(&r, 2) == 0.25);
	assert_string_equal(store_str(&r, 3), "a");
	b = store_blob(&r, 4);
	assert_int_equal(b.len, 4);
	assert_memory_equal(b.data, blob, 4);
	assert_true(store_id(&r, 5, &got));
	assert_true(mesh_id_equal(&id, &got));
	assert_true(store_next(&r));
	assert_true(store_bool(&r, 1));
	assert_true(store_is_null(&r, 2));
	assert_string_equal(store_str(&r, 3), "");
	assert_false(store_is_null(&r, 4));
	assert_int_equal(store_blob(&r, 4).len, 0);
	assert_false(store_id(&r, 5, &got));
	assert_true(mesh_id_is_zero(&got));
	assert_int_equal(store_end(&r), 0);
	store_close(s);
}

static void test_misuse_is_an_error(void **state)
{
	struct store *s = open_ok(&spec);
	struct store_rows r, nested;

	(void)state;
	assert_int_equal(store_run(s, Q_ADD, store_of_u64(1)), -EINVAL);
	assert_int_equal(store_run(s, Q_BAD), -EINVAL);
	assert_int_equal(store_run(s, 99), -EINVAL);
	assert_int_equal(add(s, 1), -EEXIST);
	assert_int_equal(store_run(s, Q_CHILD, store_of_u64(77)), -EEXIST);
	assert_int_equal(store_get_u64(s, Q_BAD, 42), 42);
	r = store_query(s, Q_ALL, store_of_u64(0));
	assert_true(store_next(&r));
	nested = store_query(s, Q_ALL, store_of_u64(0));
	assert_false(store_next(&nested));
	assert_string_equal(store_str(&nested, 3), "");
	assert_int_equal(store_end(&nested), -EBUSY);
	/* The outer one is not disturbed. */
	assert_string_equal(store_str(&r, 3), "first");
	assert_int_equal(store_end(&r), 0);
	r = store_query(s, Q_ALL, store_of_u64(0));
	assert_true(store_next(&r));
	assert_int_equal(store_end(&r), 0);
	store_close(s);
}

static void test_transactions(void **state)
{
	struct store *s = open_ok(&spec);

	(void)state;
	assert_int_equal(store_begin(s), 0);
	assert_int_equal(store_begin(s), -EBUSY);
	assert_int_equal(add(s, 2), 0);
	assert_int_equal(add(s, 2), -EEXIST);
	store_rollback(s);
	store_rollback(s);
	assert_int_equal(store_get_u64(s, Q_COUNT, 0), 1);
	assert_int_equal(store_commit(s), -EIO);
	assert_int_equal(store_begin(s), 0);
	assert_int_equal(add(s, 3), 0);
	assert_int_equal(store_commit(s), 0);
	/* What was committed survives, what was not does not. */
	assert_int_equal(store_begin(s), 0);
	assert_int_equal(store_run(s, Q_DEL), 0);
	store_close(s);
	s = open_ok(&spec);
	assert_int_equal(store_get_u64(s, Q_COUNT, 0), 2);
	store_close(s);
}

static void note_pending(void *arg)
{
	++*(unsigned *)arg;
}

/* Others see gathered writes with the flush and not before. */
static void test_gathered(void **state)
{
	struct store *s = open_ok(&spec), *other = open_ok(&spec);
	unsigned pending = 0;

	(void)state;
	assert_int_equal(store_flush(s), 0);
	store_gather(s, note_pending, &pending);
	assert_int_equal(store_get_u64(s, Q_COUNT, 0), 1);
	assert_int_equal(pending, 0); /* reading begins nothing */
	assert_int_equal(add(s, 2), 0);
	assert_int_equal(add(s, 2), -EEXIST); /* which the others do not suffer from */
	assert_int_equal(add(s, 3), 0);
	assert_int_equal(pending, 1);
	assert_false(store_in_transaction(s));
	assert_int_equal(store_get_u64(s, Q_COUNT, 0), 3);
	assert_int_equal(store_get_u64(other, Q_COUNT, 0), 1);
	assert_int_equal(store_flush(s), 0);
	assert_int_equal(store_get_u64(other, Q_COUNT, 0), 3);
	/* A transaction stands for itself: what comes before stays when it goes. */
	assert_int_equal(add(s, 4), 0);
	assert_int_equal(store_begin(s), 0);
	assert_int_equal(add(s, 5), 0);
	store_rollback(s);
	assert_int_equal(pending, 2);
	assert_int_equal(store_get_u64(other, Q_COUNT, 0), 4);
	assert_int_equal(add(s, 6), 0);
	store_close(s);
	assert_int_equal(store_get_u64(other, Q_COUNT, 0), 5);
	store_close(other);
}

/* SQLite may end it by itself; what comes then is gathered anew. */
static void test_gathered_and_lost(void **state)
{
	struct store *s = open_ok(&spec);
	unsigned pending = 0;

	(void)state;
	store_gather(s, note_pending, &pending);
	assert_int_equal(add(s, 2), 0);
	assert_int_equal(store_exec(s, "INSERT OR ROLLBACK INTO t (k) VALUES (1)"), -EEXIST);
	assert_int_equal(add(s, 3), 0);
	assert_int_equal(pending, 2);
	/* Whoever answers for what was gathered must hear of it. */
	assert_int_equal(store_flush(s), -EEXIST);
	assert_int_equal(store_flush(s), 0);
	assert_int_equal(store_get_u64(s, Q_COUNT, 0), 2);
	store_close(s);
}

static void test_full_disk(void **state)
{
	static uint8_t big[200000];
	struct store *s = open_ok(&spec);
	struct store_arg blob = store_of_blob(bytes_of(big, sizeof big));

	(void)state;
	assert_int_equal(store_exec(s, "PRAGMA max_page_count = 20"), 0);
	assert_int_equal(store_begin(s), 0);
	assert_int_equal(add(s, 2), 0);
	assert_int_equal(store_run(s, Q_ADD, store_of_u64(3), store_of_null(), store_of_null(),
				   store_of_null(), blob, store_of_null()),
			 -ENOSPC);
	/* Whether SQLite ended the transaction itself or not: nothing of it may be kept. */
	if (store_commit(s) == 0)
		assert_int_equal(store_get_u64(s, Q_COUNT, 0), 2);
	else
		assert_int_equal(store_get_u64(s, Q_COUNT, 0), 1);
	assert_false(store_in_transaction(s));
	/* It still works for what fits. */
	assert_int_equal(add(s, 9), 0);
	/* A storm of failures is one line in the log. */
	log_lines = 0;
	for (int i = 0; i < 50; i++)
		assert_int_equal(store_run(s, Q_ADD, store_of_u64(100), store_of_null(),
					   store_of_null(), store_of_null(), blob, store_of_null()),
				 -ENOSPC);
	assert_int_equal(log_lines, 0);
	store_close(s);
}

static void test_lost_transaction(void **state)
{
	struct store *s = open_ok(&spec);

	(void)state;
	/* SQLite ends a transaction on ROLLBACK conflicts exactly as on a disk error. */
	assert_int_equal(store_begin(s), 0);
	assert_int_equal(add(s, 2), 0);
	assert_int_equal(store_exec(s, "INSERT OR ROLLBACK INTO t (k) VALUES (1)"), -EEXIST);
	assert_int_equal(add(s, 3), -EIO);
	assert_int_equal(store_begin(s), -EBUSY);
	assert_int_equal(store_commit(s), -EIO);
	assert_int_equal(store_get_u64(s, Q_COUNT, 0), 1);
	assert_int_equal(add(s, 3), 0);
	store_close(s);
}

static void test_locked_by_another(void **state)
{
	struct config *cfg = config_new();
	struct store *a = open_ok(&spec), *b;

	(void)state;
	cfg->database_busy_timeout_ms = 20;
	cfg->database_synchronous = "normal";
	assert_int_equal(store_open(&b, path, &spec, cfg), 0);
	assert_int_equal(store_get_u64(a, Q_SYNC, 9), 2);
	assert_int_equal(store_get_u64(b, Q_SYNC, 9), 1);
	assert_int_equal(store_begin(a), 0);
	assert_int_equal(add(a, 2), 0);
	assert_int_equal(store_begin(b), -EBUSY);
	assert_int_equal(add(b, 3), -EBUSY);
	/* WAL: readers go on. */
	assert_int_equal(store_get_u64(b, Q_COUNT, 0), 1);
	assert_int_equal(store_commit(a), 0);
	assert_int_equal(add(b, 3), 0);
	store_close(a);
	store_close(b);
	config_free(cfg);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_migrations),	    T(test_failed_migration_leaves_nothing),
		T(test_not_a_database),	    T(test_values_come_back),
		T(test_misuse_is_an_error), T(test_transactions),
		T(test_full_disk),	    T(test_lost_transaction),
		T(test_locked_by_another),  T(test_gathered),
		T(test_gathered_and_lost),
	};

	return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
