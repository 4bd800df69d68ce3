/* The nodemanager's store: what a killed manager had decided, the next one knows. */
#include "nm_recorder.h"

#include <sqlite3.h>
#include <unistd.h>

#include "nodemanager/store.h"

static char path[64];

static int setup(void **state)
{
	(void)state;
	snprintf(path, sizeof path, "/tmp/test_nm_store.XXXXXX");
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
	return 0;
}

static int teardown(void **state)
{
	char more[80];
	(void)state;
	unlink(path);
	snprintf(more, sizeof more, "%s-wal", path);
	unlink(more);
	snprintf(more, sizeof more, "%s-shm", path);
	unlink(more);
	return 0;
}

static void fill(struct nm_store *s)
{
	struct mesh_id id[4] = {node_id(1), node_id(2), node_id(3)};
	for (unsigned i = 0; i < 3; i++) {
		struct nm_node_record node = {.id = id[i]};
		snprintf(node.name, sizeof node.name, "n%u", i + 1);
		node.no_transit = i == 2;
		nm_store_node_put(s, &node, 1000);
	}
	nm_store_link_put(s, &id[1], &id[0]);
	nm_store_link_put(s, &id[1], &id[2]);
	nm_store_link_transport(s, &id[1], &id[0], 7);
	nm_store_link_transport(s, &id[2], &id[1], 4000000000u); /* either order */
	nm_store_link_transport(s, &id[0], &id[2], 9);		 /* no such link */
	nm_store_link_options(s, &id[1], &id[0],
			      &(struct nm_link_options){.cost = 4711, .upkeep = 1});
	for (unsigned i = 0; i < 3; i++)
		nm_store_counter_put(s, NM_COUNTER_TRANSPORT, 4000000000u + i);
	nm_store_counter_put(s, NM_COUNTER_LABEL, 17);
	struct nm_route_record route = {0xfedcba9800000001u, {id[0], id[1]}, {7, 7}, {11, 22}};
	nm_store_route_put(s, &route);
	route.number++;
	nm_store_route_put(s, &route);
	nm_store_route_del(s, route.number);
}

/* One end of a transport, as its node reports it. */
static void holds(struct rec *r, unsigned n, uint32_t transport, unsigned peer)
{
	struct held *h = &r->held[n];
	h->transports[h->transport_count++] = (struct report_transport){
		.transport = transport, .peer = node_id(peer), .initiator = n < peer, .up = 1};
}

/* What was said about nodes and links. */
static void check_policy(struct rec *r)
{
	struct mesh_id id[4] = {node_id(1), node_id(2), node_id(3)}, nodes[4];
	uint64_t cost;
	for (unsigned i = 0; i < 3; i++) {
		struct nm_node_info info;
		assert_int_equal(nm_node_get(r->nm, &id[i], &info), 0);
		assert_int_equal(info.transit, i != 2);
	}
	assert_int_equal(nm_find_route(r->nm, &id[0], &id[1], nodes, 4, &cost), 2);
	assert_int_equal(cost, 4711);
}

static void test_comes_back(void **state)
{
	struct rec *r = rec_new();
	struct nm_store *s;
	(void)state;
	assert_int_equal(nm_store_open(&s, path, NULL), 0);
	fill(s);
	nm_store_close(s);
	assert_int_equal(nm_store_open(&s, path, NULL), 0);
	rec_start(r);
	assert_int_equal(nm_store_load(s, r->nm), 0);
	nm_recover(r->nm, r->now);
	assert_int_equal(rec_status(r).nodes, 3);
	assert_int_equal(rec_status(r).links, 2);
	assert_int_equal(rec_status(r).routes, 1);
	/* The numbers of the transports are those of the links. */
	holds(r, 1, 7, 2);
	holds(r, 2, 7, 1);
	holds(r, 2, 4000000000u, 3);
	holds(r, 3, 4000000000u, 2);
	r->held[1].rules[r->held[1].rule_count++] = (struct report_rule){7, 22, 0, 1};
	r->held[2].rules[r->held[2].rule_count++] = (struct report_rule){7, 11, 0, 1};
	for (unsigned n = 1; n <= 3; n++)
		assert_int_equal(node_join(r, n, n, 5).keep, 1);
	assert_int_equal(rec_status(r).transports_connected, 2);
	check_policy(r);
	rec_sleep(r, 60 * SECOND);
	assert_int_equal(r->count, 3); /* three acks, and nothing to mend */
	assert_int_equal(rec_status(r).routes, 1);
	/* The next number is above all that was given out. */
	assert_int_equal(rec_link(r, 1, 3), 4000000003u);
	nm_store_close(s);
	rec_free(r);
}

#define ZEROS31 "00000000000000000000000000000000000000000000000000000000000000"

/* A file of the first version is brought up to date; nobody knows its transports. */
static void test_first_version(void **state)
{
	static const char old[] =
		"CREATE TABLE nodes (number INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL"
		" UNIQUE, name TEXT NOT NULL, first_seen INTEGER NOT NULL) STRICT;"
		"CREATE TABLE links (a BLOB NOT NULL, b BLOB NOT NULL, PRIMARY KEY (a, b),"
		" CHECK (a < b)) STRICT;"
		"CREATE INDEX links_b ON links (b);"
		"INSERT INTO nodes (id, name, first_seen) VALUES"
		" (x'" ZEROS31 "01', 'a', 1), (x'" ZEROS31 "02', 'b', 1);"
		"INSERT INTO links SELECT x.id, y.id FROM nodes x, nodes y WHERE x.name = 'a' AND"
		" y.name = 'b';"
		"PRAGMA user_version = 1;";
	struct rec *r = rec_new();
	struct nm_store *s;
	sqlite3 *db;
	(void)state;
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, old, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	assert_int_equal(nm_store_open(&s, path, NULL), 0);
	rec_start(r);
	assert_int_equal(nm_store_load(s, r->nm), 0);
	assert_int_equal(rec_status(r).nodes, 2);
	assert_int_equal(rec_status(r).links, 1);
	nm_store_close(s);
	rec_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_comes_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_first_version, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
