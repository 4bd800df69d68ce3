/* The gateway's store: what is saved comes back, whole and in order; rows that make no sense do
 * not. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <sqlite3.h>

#include "base/log.h"
#include "gatewayd/store.h"

struct fixture {
	char path[64];
	struct gw_store *store;
	struct lease got[8];
	char options[8][64];
	size_t count;
};

static int setup(void **state)
{
	static struct fixture f;
	int fd;

	memset(&f, 0, sizeof(f));
	snprintf(f.path, sizeof(f.path), "/tmp/test_gw_store.XXXXXX");
	fd = mkstemp(f.path);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(gw_store_open(&f.store, f.path, NULL), 0);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	static const char *const suffixes[] = {"", "-wal", "-shm"};
	struct fixture *f = *state;
	char path[80];

	gw_store_close(f->store);
	for (size_t i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "%s%s", f->path, suffixes[i]);
		unlink(path);
	}
	return 0;
}

static void collect(const struct lease *l, void *ctx)
{
	struct fixture *f = ctx;

	assert_true(f->count < 8);
	snprintf(f->options[f->count], sizeof(f->options[0]), "%s", l->options);
	f->got[f->count++] = *l;
	/* deleting while leases are handed out is what a restart does */
	if (strcmp(l->sid, "delete-me") == 0)
		assert_int_equal(gw_store_delete(f->store, l->sid), 0);
}

static size_t load(struct fixture *f)
{
	f->count = 0;
	assert_int_equal(gw_store_load(f->store, collect, f), 0);
	return f->count;
}

/* As after a restart. */
static void reopen(struct fixture *f)
{
	gw_store_close(f->store);
	assert_int_equal(gw_store_open(&f->store, f->path, NULL), 0);
}

static struct lease full_lease(const char *sid)
{
	struct lease l = {
		.method = "mesh",
		.name = "J\xc3\xbcrgen's \"box\"; --",
		.port = 65532,
		.options = (char *)"{\"node\":\"x\",\"app\":\"y\"}",
		.granted_s = 1700000000,
		.expires_s = 1700000600,
		.rate_kbps = 5000,
		.quota_bytes = 1ull << 50,
	};

	snprintf(l.sid, sizeof(l.sid), "%s", sid);
	l.who.proven = true;
	memset(l.who.node.b, 0xa5, sizeof(l.who.node.b));
	snprintf(l.who.app, sizeof(l.who.app), "subscriber-1");
	net_addr_parse(&l.who.host, "fd00::5", 0);
	net_addr_parse(&l.ip4, "10.66.0.2", 0);
	net_addr_parse(&l.ip6, "fd00:66::2", 0);
	l.ip4.ip[2] = l.ip6.ip[14] = (uint8_t)sid[0];
	snprintf(l.code, sizeof(l.code), "anna");
	l.up_bytes = 77;
	l.down_bytes = 1ull << 45;
	return l;
}

static void assert_same(const struct lease *a, const struct lease *b)
{
	assert_string_equal(a->sid, b->sid);
	assert_string_equal(a->method, b->method);
	assert_string_equal(a->name, b->name);
	assert_int_equal(a->port, b->port);
	assert_int_equal(a->who.proven, b->who.proven);
	assert_true(mesh_id_equal(&a->who.node, &b->who.node));
	assert_string_equal(a->who.app, b->who.app);
	assert_true(net_addr_equal(&a->who.host, &b->who.host));
	assert_true(net_addr_equal(&a->ip4, &b->ip4));
	assert_true(net_addr_equal(&a->ip6, &b->ip6));
	assert_int_equal(a->granted_s, b->granted_s);
	assert_int_equal(a->expires_s, b->expires_s);
	assert_int_equal(a->rate_kbps, b->rate_kbps);
	assert_int_equal(a->quota_bytes, b->quota_bytes);
	assert_string_equal(a->code, b->code);
	assert_int_equal(a->up_bytes, b->up_bytes);
	assert_int_equal(a->down_bytes, b->down_bytes);
}

static void test_round_trip(void **state)
{
	struct fixture *f = *state;
	struct lease full = full_lease("full");
	struct lease bare = {.sid = "bare", .method = "null", .expires_s = 5};

	assert_int_equal(load(f), 0);
	assert_int_equal(gw_store_save(f->store, &full), 0);
	assert_int_equal(gw_store_save(f->store, &bare), 0);
	reopen(f);
	assert_int_equal(load(f), 2);
	assert_same(&f->got[0], &full);
	assert_string_equal(f->options[0], full.options);
	assert_same(&f->got[1], &bare);
	assert_string_equal(f->options[1], "");
}

static void test_replace_and_delete(void **state)
{
	struct fixture *f = *state;
	struct lease a = full_lease("a"), b = full_lease("b"), c = full_lease("delete-me");

	assert_int_equal(gw_store_save(f->store, &a), 0);
	assert_int_equal(gw_store_save(f->store, &b), 0);
	a.expires_s += 600; /* a renewal keeps its place: the oldest lease first */
	assert_int_equal(gw_store_save(f->store, &a), 0);
	reopen(f);
	assert_int_equal(load(f), 2);
	assert_same(&f->got[0], &a);
	assert_same(&f->got[1], &b);
	assert_int_equal(gw_store_delete(f->store, "a"), 0);
	assert_int_equal(gw_store_delete(f->store, "never there"), 0);
	assert_int_equal(gw_store_save(f->store, &c), 0);
	assert_int_equal(load(f), 2);
	assert_int_equal(load(f), 1);
	assert_string_equal(f->got[0].sid, "b");
}

static void edit(struct fixture *f, const char *sql)
{
	sqlite3 *db;

	assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

/* Somebody edited the file. */
static void test_nonsense_rows(void **state)
{
	static const char *const edits[] = {
		"UPDATE lease SET ip4 = 'ten dot something' WHERE sid = 'x'",
		"UPDATE lease SET ip4 = '10.66.0.2', node = x'0102' WHERE sid = 'x'",
		"UPDATE lease SET node = zeroblob(32), app = hex(zeroblob(99)) WHERE sid = 'x'",
		"UPDATE lease SET app = '', method = printf('%.*c', 99, 'm') WHERE sid = 'x'",
		"UPDATE lease SET method = 'mesh', sid = 'not a sid' WHERE sid = 'x'",
	};
	struct fixture *f = *state;
	struct lease good = full_lease("good"), x = full_lease("x");

	assert_int_equal(gw_store_save(f->store, &good), 0);
	assert_int_equal(gw_store_save(f->store, &x), 0);
	for (size_t i = 0; i < sizeof(edits) / sizeof(edits[0]); i++) {
		edit(f, edits[i]);
		assert_int_equal(load(f), 1);
		assert_string_equal(f->got[0].sid, "good");
	}
}

/* A row that could not be deleted gives way to who got its address. */
static void test_address_taken_over(void **state)
{
	struct fixture *f = *state;
	struct lease old = full_lease("old"), new = full_lease("new");

	assert_int_equal(gw_store_save(f->store, &old), 0);
	new.ip6 = old.ip6;
	assert_int_equal(gw_store_save(f->store, &new), 0);
	assert_int_equal(load(f), 1);
	assert_string_equal(f->got[0].sid, "new");
}

static void note_pending(void *arg)
{
	++*(unsigned *)arg;
}

static void note_code(const char *name, uint64_t created_s, void *ctx)
{
	assert_int_equal(created_s, 5);
	snprintf(ctx, LEASE_NAME_MAX + 1, "%s", name);
}

static void test_usage_and_codes(void **state)
{
	struct fixture *f = *state;
	struct lease l = full_lease("l");
	struct account a = {.who = "code:anna", .month = 202611, .up_bytes = 5, .down_bytes = 6};
	char name[LEASE_NAME_MAX + 1] = "";
	uint64_t up = 1, down = 2;
	unsigned pending = 0;

	gw_store_gather(f->store, note_pending, &pending);
	assert_int_equal(gw_store_save(f->store, &l), 0);
	l.up_bytes = 100;
	assert_int_equal(gw_store_usage_save(f->store, &l), 0);
	assert_int_equal(gw_store_account_load(f->store, a.who, a.month, &up, &down), -ENOENT);
	assert_int_equal(gw_store_account_save(f->store, &a), 0);
	a.up_bytes = 7;
	assert_int_equal(gw_store_account_save(f->store, &a), 0);
	assert_int_equal(pending, 1);
	assert_int_equal(gw_store_code_add(f->store, "anna", "sesame", 5), 0); /* flushes */
	assert_int_equal(gw_store_code_add(f->store, "anna", "other", 5), -EEXIST);
	reopen(f);
	assert_int_equal(load(f), 1);
	assert_same(&f->got[0], &l);
	assert_int_equal(gw_store_account_load(f->store, a.who, a.month, &up, &down), 0);
	assert_int_equal(up, 7);
	assert_int_equal(down, 6);
	assert_int_equal(gw_store_account_load(f->store, a.who, 202612, &up, &down), -ENOENT);
	assert_int_equal(gw_store_codes(f->store, note_code, name), 0);
	assert_string_equal(name, "anna");
	assert_int_equal(gw_store_code_find(f->store, "sesame", name), 0);
	assert_int_equal(gw_store_code_find(f->store, "Sesame", name), -ENOENT);
	assert_int_equal(gw_store_code_drop(f->store, "anna"), 0);
	assert_int_equal(gw_store_code_drop(f->store, "anna"), -ENOENT);
	assert_int_equal(gw_store_code_find(f->store, "sesame", name), -ENOENT);
}

static void quiet(enum log_level level, const char *line)
{
	(void)level;
	(void)line;
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_round_trip),	    T(test_replace_and_delete), T(test_nonsense_rows),
		T(test_address_taken_over), T(test_usage_and_codes),
	};

	log_set_sink(quiet);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
