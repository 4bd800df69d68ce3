/* The walk through networks against a small world on a virtual clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "subscriberd/walk.h"

enum { GRAPH, TREE, LAN }; /* networks: all at once; one by one; host by host with a pause */

struct pending {
	uint64_t serial, at;
	bool is_ask;
	unsigned network;
	bool own;
	struct net_host host;
	struct net_addr addr;
};

struct world {
	struct walk *w;
	struct walk_policy policy;
	uint64_t now, now_s;
	struct pending pending[WALK_PARALLEL_MAX];
	size_t count, most;
	/* What happened. */
	char asked[4096]; /* addresses in order */
	unsigned queries, hosts_told, links_told, gateways, finished, forgotten, gone;
	uint64_t first_ask_us[300];
	size_t asks;
	/* The world. */
	unsigned graph_size; /* 10.0.0.1 .. in a line */
	unsigned lan_size;   /* 10.9.0.1 .. */
	unsigned gateway_at; /* of the graph; 0: none */
	bool tree_fails, graph_fails;
	struct net_addr told[40];
	size_t told_count;
};

static struct net_host ip(unsigned net, unsigned n)
{
	return (struct net_host){
		.addr = {.family = 4, .ip = {10, (uint8_t)net, (uint8_t)(n >> 8), (uint8_t)n}}};
}

static struct pending *pend(struct world *w, uint64_t serial, uint64_t after)
{
	assert_in_range(w->count, 0, WALK_PARALLEL_MAX - 1);
	struct pending *p = &w->pending[w->count++];
	*p = (struct pending){.serial = serial, .at = w->now + after};
	if (w->count > w->most)
		w->most = w->count;
	return p;
}

static void op_query(void *ctx, unsigned network, const struct net_host *host, uint64_t serial)
{
	struct world *w = ctx;
	struct pending *p = pend(w, serial, 1000);

	w->queries++;
	p->network = network;
	p->own = host == NULL;
	if (host)
		p->host = *host;
}

static void op_ask(void *ctx, const struct net_addr *addr, uint64_t serial)
{
	struct world *w = ctx;
	char text[NET_ADDR_TEXT];
	size_t len = strlen(w->asked);

	pend(w, serial, 5000)->is_ask = true;
	w->pending[w->count - 1].addr = *addr;
	snprintf(w->asked + len, sizeof w->asked - len, "%s ", net_addr_text(addr, text));
	if (w->asks < 300)
		w->first_ask_us[w->asks] = w->now;
	w->asks++;
}

static void op_host(void *ctx, const struct walk_host *h, bool news)
{
	struct world *w = ctx;
	w->hosts_told += news;
	w->gone += news && h->gone;
}

static void op_link(void *ctx, const struct walk_link *l, bool news)
{
	(void)l;
	((struct world *)ctx)->links_told += news;
}

static void op_forget(void *ctx, const struct walk_host *h)
{
	assert_true(h->gone);
	((struct world *)ctx)->forgotten++;
}

static void op_gateway(void *ctx, const struct walk_host *h)
{
	assert_int_equal(h->answer, WALK_GATEWAY);
	assert_non_null(h->gateway);
	((struct world *)ctx)->gateways++;
}

static void op_finished(void *ctx)
{
	((struct world *)ctx)->finished++;
}

static const struct walk_ops ops = {op_query,  op_ask,	   op_host,    op_link,
				    op_forget, op_gateway, op_finished};

static void answer_query(struct world *w, const struct pending *p)
{
	struct net_link l = {0};
	const char *error = NULL;

	if (p->network == GRAPH && w->graph_fails) {
		error = "no";
	} else if (p->network == GRAPH) { /* far ends first */
		for (unsigned i = w->graph_size; i-- > 1;) {
			l = (struct net_link){ip(0, i), ip(0, i + 1), 10};
			walk_saw_link(w->w, p->serial, &l, w->now_s);
		}
		l = (struct net_link){{{0}, "", ""}, ip(0, 1), 10};
		walk_saw_link(w->w, p->serial, &l, w->now_s);
	} else if (p->network == TREE && w->tree_fails && !p->own) {
		error = "timeout";
	} else if (p->network == TREE) { /* a line of four, one answer each */
		unsigned n = p->own ? 0 : p->host.addr.ip[3];
		l.a = p->own ? (struct net_host){0} : p->host;
		l.b = ip(1, n + 1);
		if (n < 4)
			walk_saw_link(w->w, p->serial, &l, w->now_s);
	} else {
		for (unsigned i = 1; i <= w->lan_size; i++) {
			struct net_host h = ip(9, i);
			walk_saw_host(w->w, p->serial, &h, w->now_s);
		}
	}
	walk_on_query(w->w, p->serial, error, w->now_s, w->now);
}

static void answer(struct world *w, struct pending p)
{
	if (!p.is_ask) {
		answer_query(w, &p);
	} else if (p.addr.ip[1] == 0 && p.addr.ip[3] == w->gateway_at && w->gateway_at) {
		struct walk_gateway g = {.name = "gw", .id = "abc"};
		walk_on_ask(w->w, p.serial, WALK_GATEWAY, &g, w->told, w->told_count, w->now_s,
			    w->now);
	} else {
		walk_on_ask(w->w, p.serial, p.addr.ip[3] % 2 ? WALK_SILENT : WALK_NO_GATEWAY, NULL,
			    NULL, 0, w->now_s, w->now);
	}
}

/* One thing that happens; false when nothing will. */
static bool step(struct world *w)
{
	uint64_t next = walk_next(w->w);
	size_t first = 0;

	for (size_t i = 1; i < w->count; i++)
		if (w->pending[i].at < w->pending[first].at)
			first = i;
	if (w->count && w->pending[first].at <= next) {
		struct pending p = w->pending[first];
		w->pending[first] = w->pending[--w->count];
		if (p.at > w->now)
			w->now = p.at;
		answer(w, p);
		return true;
	}
	if (next == TIMER_NEVER)
		return false;
	if (next > w->now)
		w->now = next;
	walk_run(w->w, w->now_s, w->now);
	return true;
}

static void run(struct world *w)
{
	for (int i = 0; i < 1000000; i++)
		if (!step(w))
			return;
	fail_msg("it does not end");
}

static void open_world(struct world *w, size_t hosts_max)
{
	memset(w, 0, sizeof *w);
	log_set_level(LOG_LEVEL_ERROR);
	w->now = 1000000;
	w->now_s = 1700000000;
	w->graph_size = 5;
	w->policy = (struct walk_policy){.delay_us = 100,
					 .parallel = 4,
					 .depth_max = 32,
					 .hosts_max = hosts_max,
					 .ports = {65533},
					 .port_count = 1,
					 .allowed_count = 1,
					 .walkers = 1u << TREE};
	w->policy.network_delay_us[LAN] = 20000;
	net_prefix_parse(&w->policy.allowed[0], "10.0.0.0/8");
	w->w = walk_new(&w->policy, &ops, w, 7);
	assert_non_null(w->w);
}

static struct walk_progress progress(struct world *w)
{
	struct walk_progress p;
	walk_progress(w->w, &p);
	return p;
}

static const struct walk_host *host(struct world *w, unsigned net, unsigned n)
{
	struct net_host h = ip(net, n);
	return walk_find(w->w, &h);
}

static void test_breadth_first(void **state)
{
	struct world w;
	(void)state;
	open_world(&w, 100);
	assert_true(walk_start(w.w, 1u << GRAPH, 1, w.now_s, w.now));
	assert_false(walk_start(w.w, 1u << GRAPH, 2, w.now_s, w.now));
	run(&w);
	assert_string_equal(w.asked, "10.0.0.1:65533 10.0.0.2:65533 10.0.0.3:65533 "
				     "10.0.0.4:65533 10.0.0.5:65533 ");
	struct walk_progress p = progress(&w);
	assert_false(p.running);
	assert_int_equal(w.finished, 1);
	assert_int_equal(p.hosts, 5);
	assert_int_equal(p.links, 5);
	assert_int_equal(p.asked, 6); /* and ourselves */
	assert_int_equal(p.answered, 2);
	assert_int_equal(p.network[GRAPH], WALK_ANSWERED);
	assert_int_equal(p.network[TREE], WALK_UNUSED);
	assert_int_equal(host(&w, 0, 5)->depth, 5);
	assert_ptr_equal(host(&w, 0, 5)->from, host(&w, 0, 4));
	assert_int_equal(host(&w, 0, 1)->answer, WALK_SILENT);
	assert_int_equal(host(&w, 0, 2)->answer, WALK_NO_GATEWAY);
	walk_free(w.w);
}

static void test_several_networks_at_once(void **state)
{
	struct world w;
	(void)state;
	open_world(&w, 100);
	w.lan_size = 10;
	assert_true(walk_start(w.w, 7, 1, w.now_s, w.now));
	run(&w);
	struct walk_progress p = progress(&w);
	assert_int_equal(p.hosts, 5 + 4 + 10);
	assert_int_equal(host(&w, 1, 4)->depth, 4);
	assert_int_equal(w.queries, 3 + 4); /* each host of the tree about the tree, no other */
	assert_in_range(w.most, 2, 4);
	/* The host by host network keeps its pace. */
	uint64_t last = 0;
	unsigned n = 0;
	const char *at = w.asked;
	for (size_t i = 0; i < w.asks; i++) {
		if (strncmp(at, "10.9.", 5) == 0) {
			if (n++)
				assert_true(w.first_ask_us[i] >= last + 20000);
			last = w.first_ask_us[i];
		}
		at = strchr(at, ' ') + 1;
	}
	assert_int_equal(n, 10);
	walk_free(w.w);
}

static void test_pace_and_limits(void **state)
{
	struct world w;
	(void)state;
	open_world(&w, 100);
	w.graph_size = 40;
	w.policy.delay_us = 3000;
	w.policy.parallel = 2;
	w.policy.depth_max = 30;
	walk_set_policy(w.w, &w.policy);
	walk_start(w.w, 1u << GRAPH, 1, w.now_s, w.now);
	run(&w);
	assert_int_equal(w.asks, 30); /* no deeper */
	assert_int_equal(w.most, 2);
	for (size_t i = 1; i < w.asks; i++)
		assert_true(w.first_ask_us[i] >= w.first_ask_us[i - 1] + 2500);
	walk_free(w.w);
	/* More hosts than there is room for. */
	open_world(&w, 16);
	w.graph_size = 40;
	walk_start(w.w, 1u << GRAPH, 1, w.now_s, w.now);
	run(&w);
	struct walk_progress p = progress(&w);
	assert_int_equal(p.hosts, 16);
	assert_true(p.ignored > 0);
	assert_int_equal(w.finished, 1);
	walk_free(w.w);
}

static void test_a_gateway_tells_of_others(void **state)
{
	struct world w;
	(void)state;
	open_world(&w, 100);
	w.gateway_at = 2;
	w.told[0] = (struct net_addr){4, {10, 5, 0, 8}, 7000};	 /* unknown so far */
	w.told[1] = (struct net_addr){4, {8, 8, 8, 8}, 65533};	 /* not ours to ask */
	w.told[2] = (struct net_addr){4, {10, 5, 0, 9}, 0};	 /* no port */
	w.told[3] = (struct net_addr){4, {127, 0, 0, 1}, 65533}; /* nor this */
	w.told_count = 4;
	w.policy.parallel = 1;
	walk_set_policy(w.w, &w.policy);
	walk_start(w.w, 1u << GRAPH, 1, w.now_s, w.now);
	run(&w);
	assert_string_equal(w.asked, "10.0.0.1:65533 10.0.0.2:65533 10.5.0.8:7000 10.0.0.3:65533 "
				     "10.0.0.4:65533 10.0.0.5:65533 ");
	assert_int_equal(w.gateways, 1);
	assert_int_equal(progress(&w).gateways, 1);
	const struct walk_host *h = host(&w, 5, 8);
	assert_int_equal(h->networks, WALK_TOLD);
	assert_ptr_equal(h->from, host(&w, 0, 2));
	assert_string_equal(host(&w, 0, 2)->gateway->name, "gw");
	assert_int_equal(host(&w, 0, 2)->gateway->addr.port, 65533);
	/* Enough is enough. */
	w.policy.gateways_max = 1;
	walk_set_policy(w.w, &w.policy);
	w.asked[0] = '\0';
	walk_start(w.w, 1u << GRAPH, 2, w.now_s, w.now);
	run(&w);
	assert_string_equal(w.asked, "10.0.0.1:65533 10.0.0.2:65533 ");
	assert_true(progress(&w).enough);
	assert_int_equal(w.finished, 2);
	assert_int_equal(w.gone, 0);
	walk_free(w.w);
}

/* Told of in every scan, but its network does not know it any more and it is silent. */
static void test_telling_keeps_nobody_alive(void **state)
{
	struct world w;
	(void)state;
	open_world(&w, 100);
	w.gateway_at = 2;
	w.told[0] = (struct net_addr){4, {10, 0, 0, 5}, 65533};
	w.told_count = 1;
	walk_start(w.w, 1u << GRAPH, 1, w.now_s, w.now);
	run(&w);
	assert_int_equal(host(&w, 0, 5)->networks, WALK_TOLD | 1u << GRAPH);
	w.graph_size = 4;
	walk_start(w.w, 1u << GRAPH, 2, w.now_s, w.now);
	run(&w);
	assert_true(host(&w, 0, 5)->gone);
	walk_free(w.w);
}

static void test_endless_telling_ends(void **state)
{
	struct world w;
	(void)state;
	open_world(&w, 5000);
	w.gateway_at = 1;
	w.graph_size = 1;
	for (size_t i = 0; i < 40; i++)
		w.told[i] = (struct net_addr){4, {10, 7, 0, (uint8_t)i}, 65533};
	w.told_count = 40;
	for (uint32_t scan = 1; scan < 4; scan++) {
		walk_start(w.w, 1u << GRAPH, scan, w.now_s, w.now);
		run(&w);
	}
	assert_int_equal(progress(&w).hosts, 1 + WALK_TOLD_MAX / 2); /* the silent ones are gone */
	walk_free(w.w);
}

static void test_what_goes_and_comes_back(void **state)
{
	struct world w;
	(void)state;
	open_world(&w, 100);
	walk_start(w.w, 1u << GRAPH, 1, w.now_s, w.now);
	run(&w);
	assert_int_equal(w.hosts_told, 5 + 5); /* found, and answered */
	w.graph_size = 3;
	walk_start(w.w, 1u << GRAPH, 2, w.now_s, w.now);
	run(&w);
	assert_int_equal(w.gone, 2);
	assert_int_equal(progress(&w).hosts, 3);
	assert_int_equal(progress(&w).links, 3);
	/* A network that does not answer makes nobody go. */
	w.graph_fails = true;
	walk_start(w.w, 1u << GRAPH, 3, w.now_s, w.now);
	run(&w);
	assert_int_equal(progress(&w).hosts, 3);
	assert_int_equal(progress(&w).network[GRAPH], WALK_FAILED);
	assert_string_equal(progress(&w).why[GRAPH], "no");
	w.graph_fails = false;
	w.graph_size = 5;
	walk_start(w.w, 1u << GRAPH, 4, w.now_s, w.now);
	run(&w);
	assert_int_equal(progress(&w).hosts, 5);
	/* Part of a network that could not be asked makes nobody go either. */
	walk_start(w.w, 1u << TREE, 5, w.now_s, w.now);
	run(&w);
	assert_int_equal(progress(&w).hosts, 9);
	w.tree_fails = true;
	walk_start(w.w, 1u << TREE, 6, w.now_s, w.now);
	run(&w);
	assert_int_equal(progress(&w).hosts, 9);
	walk_free(w.w);
}

static void test_room_is_made(void **state)
{
	struct world w;
	(void)state;
	open_world(&w, 20);
	w.graph_size = 18;
	walk_start(w.w, 1u << GRAPH, 1, w.now_s, w.now);
	run(&w);
	w.graph_size = 2;
	walk_start(w.w, 1u << GRAPH, 2, w.now_s, w.now);
	run(&w);
	assert_int_equal(w.forgotten, 0);
	w.lan_size = 15;
	walk_start(w.w, 1u << GRAPH | 1u << LAN, 3, w.now_s, w.now);
	run(&w);
	assert_int_equal(w.forgotten, 16);
	assert_int_equal(progress(&w).hosts, 17);
	assert_int_equal(host(&w, 0, 2)->depth, 2);
	walk_free(w.w);
}

static void test_goes_on_after_a_restart(void **state)
{
	struct world w, v;
	size_t it = 0;
	const struct walk_host *h;
	(void)state;
	open_world(&w, 100);
	w.policy.parallel = 1;
	walk_set_policy(w.w, &w.policy);
	walk_start(w.w, 1u << GRAPH, 9, w.now_s, w.now);
	while (w.asks < 3 || w.count)
		assert_true(step(&w));
	open_world(&v, 100);
	while ((h = walk_next_host(w.w, &it)))
		assert_int_equal(walk_restore_host(v.w, h, h->from ? &h->from->host : NULL), 0);
	walk_start(v.w, 1u << GRAPH, 9, v.now_s, v.now);
	run(&v);
	assert_string_equal(v.asked, "10.0.0.4:65533 10.0.0.5:65533 ");
	assert_int_equal(host(&v, 0, 2)->answer, WALK_NO_GATEWAY);
	assert_int_equal(host(&v, 0, 4)->depth, 4);
	walk_free(w.w);
	walk_free(v.w);
}

static void test_as_many_as_there_is_room_for(void **state)
{
	struct world w;
	(void)state;
	open_world(&w, 65536);
	w.lan_size = 65000;
	w.policy.network_delay_us[LAN] = 0;
	walk_set_policy(w.w, &w.policy);
	walk_start(w.w, 1u << LAN, 1, w.now_s, w.now);
	run(&w);
	assert_int_equal(progress(&w).hosts, 65000);
	assert_int_equal(progress(&w).asked, 65001);
	assert_int_equal(w.finished, 1);
	walk_free(w.w);
}

static void test_our_own_host(void **state)
{
	struct world w;
	struct net_addr own = ip(0, 1).addr;
	(void)state;
	open_world(&w, 100);
	walk_set_own(w.w, &own, 1);
	w.gateway_at = 1;
	walk_start(w.w, 1u << GRAPH, 1, w.now_s, w.now);
	run(&w);
	/* 10.0.0.1 is us: asked once, and 10.0.0.2 is next to us. */
	size_t it = 0;
	assert_int_equal(walk_next_host(w.w, &it)->answer, WALK_GATEWAY);
	assert_int_equal(host(&w, 0, 2)->depth, 1);
	assert_int_equal(progress(&w).hosts, 4);
	walk_free(w.w);
}

static void test_nothing_to_do_ends(void **state)
{
	struct world w;
	(void)state;
	open_world(&w, 100);
	walk_start(w.w, 0, 1, w.now_s, w.now);
	run(&w);
	assert_int_equal(w.finished, 1);
	/* Stopped in the middle: late answers change nothing. */
	walk_start(w.w, 1u << GRAPH, 2, w.now_s, w.now);
	assert_true(step(&w));
	walk_stop(w.w, w.now_s);
	assert_int_equal(w.count, 1);
	run(&w);
	assert_int_equal(progress(&w).hosts, 0);
	assert_int_equal(w.finished, 1);
	assert_true(walk_start(w.w, 1u << GRAPH, 3, w.now_s, w.now));
	run(&w);
	assert_int_equal(progress(&w).hosts, 5);
	walk_free(w.w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_breadth_first),
		cmocka_unit_test(test_several_networks_at_once),
		cmocka_unit_test(test_pace_and_limits),
		cmocka_unit_test(test_a_gateway_tells_of_others),
		cmocka_unit_test(test_telling_keeps_nobody_alive),
		cmocka_unit_test(test_endless_telling_ends),
		cmocka_unit_test(test_what_goes_and_comes_back),
		cmocka_unit_test(test_room_is_made),
		cmocka_unit_test(test_goes_on_after_a_restart),
		cmocka_unit_test(test_as_many_as_there_is_room_for),
		cmocka_unit_test(test_our_own_host),
		cmocka_unit_test(test_nothing_to_do_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
