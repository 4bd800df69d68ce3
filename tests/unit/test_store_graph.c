/* What walks have found outlives a restart, and what has changed can be told apart by stamps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "subscriberd/store_graph.h"

static char path[64];
static unsigned pending;

static void on_pending(void *arg)
{
	(void)arg;
	pending++;
}

static struct graph_store *reopen(struct graph_store *g)
{
	graph_store_close(g);
	g = NULL;
	assert_int_equal(graph_store_open(&g, path, NULL, on_pending, NULL), 0);
	return g;
}

struct seen {
	struct graph_host hosts[8];
	struct graph_link links[8];
	size_t host_count, link_count;
};

static void on_host(const struct graph_host *h, void *ctx)
{
	struct seen *s = ctx;
	assert_in_range(s->host_count, 0, 7);
	s->hosts[s->host_count] = *h;
	if (h->h.gateway)
		s->hosts[s->host_count].h.gateway = &s->hosts[s->host_count].gateway;
	s->host_count++;
}

static void on_link(const struct graph_link *l, void *ctx)
{
	struct seen *s = ctx;
	assert_in_range(s->link_count, 0, 7);
	s->links[s->link_count++] = *l;
}

static struct seen look(struct graph_store *g, uint64_t since, size_t max)
{
	struct seen s = {0};
	assert_int_equal(graph_store_hosts(g, since, max, on_host, &s), 0);
	assert_int_equal(graph_store_links(g, since, max, on_link, &s), 0);
	return s;
}

static struct walk_host host_of(const char *ip, const char *name)
{
	uint64_t now = (uint64_t)time(NULL);
	struct walk_host h = {.depth = 3,
			      .told_port = 7000,
			      .first_s = now - 10,
			      .seen_s = now,
			      .asked_s = now - 1,
			      .seen_scan = 4,
			      .asked_scan = 3};

	if (*ip)
		net_addr_parse(&h.host.addr, ip, 0);
	snprintf(h.host.name, sizeof h.host.name, "%s", name);
	snprintf(h.host.how, sizeof h.host.how, "ospf");
	return h;
}

static void test_round_trip(void **state)
{
	struct graph_store *g = reopen(NULL);
	struct walk_host a = host_of("fd00::7", "r7"), b = host_of("", "aa:bb:cc:dd:ee:ff"),
			 own = {0};
	struct walk_gateway gw = {.name = "gate", .id = "0123"};
	struct walk_link l = {.a = &a, .b = &b, .cost = 96, .first_s = 5, .seen_s = a.seen_s};
	(void)state;
	net_addr_parse(&gw.addr, "[fd00::7]:65533", 0);
	a.gateway = &gw;
	a.answer = WALK_GATEWAY;
	a.from = &own;
	b.from = &a;
	assert_int_equal(graph_store_host(g, &a, "babel,told", true), 0);
	assert_int_equal(graph_store_host(g, &b, "batman", true), 0);
	assert_int_equal(graph_store_link(g, &l, "babel", true), 0);
	assert_true(pending > 0);
	g = reopen(g);
	struct seen s = look(g, 0, 8);
	assert_int_equal(s.host_count, 2);
	assert_int_equal(s.link_count, 1);
	const struct graph_host *h = &s.hosts[0];
	assert_true(net_host_equal(&h->h.host, &a.host));
	assert_string_equal(h->h.host.name, "r7");
	assert_string_equal(h->h.host.how, "ospf");
	assert_string_equal(h->networks, "babel,told");
	assert_true(net_host_is_own(&h->from));
	assert_int_equal(h->h.depth, 3);
	assert_int_equal(h->h.told_port, 7000);
	assert_int_equal(h->h.answer, WALK_GATEWAY);
	assert_int_equal(h->h.seen_scan, 4);
	assert_int_equal(h->h.asked_scan, 3);
	assert_int_equal(h->h.first_s, a.first_s);
	assert_true(net_addr_equal(&h->h.gateway->addr, &gw.addr));
	assert_string_equal(h->gateway.id, "0123");
	assert_true(net_host_equal(&s.hosts[1].h.host, &b.host));
	assert_true(net_host_equal(&s.hosts[1].from, &a.host));
	assert_null(s.hosts[1].h.gateway);
	assert_true(net_host_equal(&s.links[0].a, &a.host));
	assert_string_equal(s.links[0].network, "babel");
	assert_int_equal(s.links[0].l.cost, 96);
	graph_store_close(g);
}

static void test_stamps(void **state)
{
	struct graph_store *g = reopen(NULL);
	struct walk_host c = host_of("10.0.0.1", "");
	struct seen s = look(g, 0, 8);
	uint64_t last = s.links[0].stamp;
	(void)state;
	assert_true(s.hosts[0].stamp < s.hosts[1].stamp && s.hosts[1].stamp < last);
	assert_int_equal(look(g, last, 8).host_count, 0);
	assert_int_equal(look(g, 0, 1).host_count, 1);
	/* News gets a new stamp, larger than all before also after a restart; the rest does not. */
	assert_int_equal(graph_store_host(g, &c, "kernel", true), 0);
	g = reopen(g);
	s = look(g, last, 8);
	assert_int_equal(s.host_count, 1);
	last = s.hosts[0].stamp;
	c.asked_scan = 9;
	assert_int_equal(graph_store_host(g, &c, "kernel", false), 0);
	assert_int_equal(look(g, last, 8).host_count, 0);
	c.gone = true;
	assert_int_equal(graph_store_host(g, &c, "kernel", true), 0);
	s = look(g, last, 8);
	assert_int_equal(s.host_count, 1);
	assert_true(s.hosts[0].h.gone);
	assert_int_equal(s.hosts[0].h.asked_scan, 9);
	assert_true(s.hosts[0].stamp > last);
	graph_store_close(g);
}

static void test_forgets(void **state)
{
	struct graph_store *g = reopen(NULL);
	struct walk_host a = host_of("fd00::7", ""), old = host_of("10.0.0.9", "");
	(void)state;
	assert_int_equal(graph_store_forget(g, &a), 0);
	struct seen s = look(g, 0, 8);
	assert_int_equal(s.link_count, 0); /* its links with it */
	assert_int_equal(s.host_count, 2);
	/* What has been gone for long, at the next start. */
	old.gone = true;
	old.seen_s -= 31 * 86400;
	assert_int_equal(graph_store_host(g, &old, "kernel", true), 0);
	assert_int_equal(look(g, 0, 8).host_count, 3);
	g = reopen(g);
	assert_int_equal(look(g, 0, 8).host_count, 2);
	graph_store_close(g);
}

static void test_scans(void **state)
{
	struct graph_store *g = reopen(NULL);
	struct graph_scan scan, got;
	(void)state;
	assert_int_equal(graph_store_last_scan(g, &got), 0);
	assert_int_equal(got.number, 0);
	for (uint32_t i = 1; i <= 100; i++) {
		scan = (struct graph_scan){
			.number = i, .started_s = i, .finished_s = i, .networks = "babel"};
		assert_int_equal(graph_store_scan(g, &scan), 0);
	}
	scan = (struct graph_scan){.number = 101, .started_s = 7, .networks = "bird,told"};
	assert_int_equal(graph_store_scan(g, &scan), 0);
	g = reopen(g);
	assert_int_equal(graph_store_last_scan(g, &got), 0);
	assert_int_equal(got.number, 101);
	assert_int_equal(got.finished_s, 0);
	assert_string_equal(got.networks, "bird,told");
	scan.finished_s = 9;
	assert_int_equal(graph_store_scan(g, &scan), 0);
	assert_int_equal(graph_store_last_scan(g, &got), 0);
	assert_int_equal(got.finished_s, 9);
	graph_store_close(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_stamps),
		cmocka_unit_test(test_forgets),
		cmocka_unit_test(test_scans),
	};
	char folder[] = "/tmp/meshnet-graph-XXXXXX", other[80];
	int failed;

	log_set_level(LOG_LEVEL_ERROR);
	if (!mkdtemp(folder))
		return 1;
	snprintf(path, sizeof path, "%s/graph.db", folder);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	for (size_t i = 0; i < 3; i++) {
		snprintf(other, sizeof other, "%s%s", path,
			 (const char *[]){"", "-wal", "-shm"}[i]);
		unlink(other);
	}
	rmdir(folder);
	return failed;
}
