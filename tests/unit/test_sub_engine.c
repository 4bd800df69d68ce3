/* The subscriber's decisions against a recorder of its effects, on a virtual clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sub_world.h"
#include "subscriberd/api.h"

static void test_connects_to_the_best(void **state)
{
	struct world w;
	(void)state;
	world_open(&w);
	bring_online(&w);
	assert_int_equal(w.onlines, 1);
	assert_int_equal(w.requests, 1);
	assert_string_equal(w.method, "mesh");
	sub_engine_free(w.e);
}

static void test_moves_on_when_probes_are_lost(void **state)
{
	struct world w;
	(void)state;
	world_open(&w);
	bring_online(&w);
	/* A lost probe is followed by another at once. */
	run(&w, 500000);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(w.probes, i + 1);
		run(&w, 250000);
		sub_engine_on_probe(w.e, w.probe_serial, false, 0, w.now);
		run(&w, 1);
	}
	/* One answer between losses counts them from the start. */
	assert_int_equal(w.probes, 3);
	sub_engine_on_probe(w.e, w.probe_serial, true, 12, w.now);
	run(&w, 500000);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(state_of(&w), SUB_ONLINE);
		run(&w, 250000);
		sub_engine_on_probe(w.e, w.probe_serial, false, 0, w.now);
		run(&w, 1);
	}
	assert_int_equal(state_of(&w), SUB_REQUESTING);
	assert_string_equal(w.requested, "b");
	assert_int_equal(w.closes, 1);
	assert_int_equal(w.holds, 1); /* nothing leaves by another way meanwhile */
	assert_string_equal(w.released, "sid-a");
	grant(&w);
	sub_engine_on_tunnel(w.e, w.tunnel_serial, true, "", w.now);
	struct sub_status s;
	sub_engine_status(w.e, &s);
	assert_int_equal(s.active.state, SUB_ONLINE);
	assert_int_equal(s.failovers, 1);
	assert_in_range(s.last_outage_us, 1200000, 1300000);
	assert_string_equal(w.events,
			    "session.state:requesting session.state:opening session.state:online "
			    "gateway.lost session.state:idle session.state:requesting "
			    "session.state:opening session.state:online session.failover ");
	sub_engine_free(w.e);
}

static void test_late_answers_change_nothing(void **state)
{
	struct world w;
	(void)state;
	world_open(&w);
	bring_online(&w);
	uint64_t old_tunnel = w.tunnel_serial, old_request = w.request_serial;
	sub_engine_on_tunnel(w.e, old_tunnel, false, "gone", w.now);
	assert_string_equal(w.requested, "b");
	assert_int_equal(state_of(&w), SUB_REQUESTING);
	sub_engine_on_tunnel(w.e, old_tunnel, true, "", w.now);
	struct sub_lease lease = {.sid = "old", .method = "mesh", .lease_seconds = 60};
	sub_engine_on_lease(w.e, old_request, &lease, NULL, false, w.now);
	sub_engine_on_probe(w.e, w.probe_serial, true, 1, w.now);
	sub_engine_on_renewed(w.e, w.renew_serial, NULL, false, w.now);
	assert_int_equal(state_of(&w), SUB_REQUESTING);
	assert_int_equal(w.opens, 1);
	sub_engine_free(w.e);
}

static void test_renews_at_half_time(void **state)
{
	struct world w;
	(void)state;
	world_open(&w);
	bring_online(&w);
	for (unsigned i = 0; i < 130; i++) { /* 65 s with probes answered */
		run(&w, 500000);
		sub_engine_on_probe(w.e, w.probe_serial, true, 10, w.now);
		answer_infos(&w, true, 10, 50);
		if (i == 58)
			assert_int_equal(w.renews, 0);
		if (i == 61) {
			assert_int_equal(w.renews, 1);
			sub_engine_on_renewed(w.e, w.renew_serial, NULL, false, w.now);
		}
	}
	assert_int_equal(w.renews, 2);
	assert_int_equal(state_of(&w), SUB_ONLINE);
	/* "I do not know that lease": asked anew, with nothing else changed. */
	sub_engine_on_renewed(w.e, w.renew_serial, "unknown", true, w.now);
	assert_int_equal(state_of(&w), SUB_REQUESTING);
	sub_engine_free(w.e);
}

static void test_leaves_when_the_uplink_fails(void **state)
{
	struct world w;
	(void)state;
	world_open(&w);
	bring_online(&w);
	run(&w, 10000000);
	answer_infos(&w, false, 10, 50);
	assert_string_equal(w.requested, "b");
	sub_engine_free(w.e);
}

static void test_all_fail_then_hold_ends(void **state)
{
	struct world w;
	(void)state;
	world_open(&w);
	bring_online(&w);
	sub_engine_on_tunnel(w.e, w.tunnel_serial, false, "gone", w.now);
	sub_engine_on_lease(w.e, w.request_serial, NULL, "refused: full", false, w.now);
	assert_int_equal(state_of(&w), SUB_IDLE);
	assert_int_equal(w.offlines, 1);
	/* Nobody answers any more. */
	for (unsigned i = 0; i < 70; i++) {
		run(&w, 1000000);
		if (state_of(&w) == SUB_REQUESTING)
			sub_engine_on_lease(w.e, w.request_serial, NULL, "refused", false, w.now);
		w.infos = 0;
	}
	assert_int_equal(w.offlines, 2);
	assert_int_equal(w.holds, 1);
	/* Cool-down grows: no storm of requests. */
	assert_in_range(w.requests, 3, 20);
	sub_engine_free(w.e);
}

static void test_request_timeout_and_open_timeout(void **state)
{
	struct world w;
	(void)state;
	world_open(&w);
	struct sub_contact a = contact("a");
	sub_engine_found(w.e, &a, NULL, 1, w.now);
	answer_infos(&w, true, 10, 0);
	assert_int_equal(state_of(&w), SUB_REQUESTING);
	run(&w, 5100000);
	assert_int_equal(state_of(&w), SUB_IDLE);
	assert_int_equal(w.releases, 0);
	run(&w, 8000000); /* the scan asked again meanwhile */
	answer_infos(&w, true, 10, 0);
	assert_int_equal(state_of(&w), SUB_REQUESTING);
	grant(&w);
	run(&w, 8100000);
	assert_int_equal(w.closes, 1);
	assert_string_equal(w.released, "sid-a");
	sub_engine_free(w.e);
}

/* --- a world that answers ------------------------------------------------------------------ */

static void answer_probes(struct world *w)
{
	for (unsigned slot = 0; slot < 2; slot++)
		for (unsigned k = 0; k < SUB_PROBES; k++) {
			uint64_t serial = w->probe_of[slot][k];
			bool lost = w->deaf[slot] || (k == SUB_PROBE_UPLINK && w->dark[slot]);
			if (!serial || !w->open[slot])
				continue;
			if (lost && ++w->age[slot][k] < 5)
				continue; /* the timeout of 250 ms */
			w->age[slot][k] = 0;
			w->probe_of[slot][k] = 0;
			sub_engine_on_probe(w->e, serial, !lost, w->rtt[slot], w->now);
		}
}

/* Steps of 50 ms in which everybody answers who can: tunnels, nodeInfo, requests. */
static void live(struct world *w, double seconds)
{
	for (uint64_t end = w->now + (uint64_t)(seconds * 1e6); w->now < end;) {
		unsigned requests = w->requests, opens = w->opens;
		run(w, 50000);
		answer_probes(w);
		for (unsigned i = 0; i < 4 && !w->mute; i++)
			if (w->renew_open[i])
				sub_engine_on_renewed(w->e, w->renew_open[i], NULL, false, w->now);
		memset(w->renew_open, 0, sizeof w->renew_open);
		if (!w->mute)
			answer_infos(w, true, w->rpc_rtt[0], w->rpc_rtt[1]);
		if (w->requests != requests && w->grants)
			grant(w);
		if (w->opens != opens)
			sub_engine_on_tunnel(w->e, w->tunnel_serial, true, "", w->now);
	}
}

static struct sub_status status_of(struct world *w)
{
	struct sub_status s;
	sub_engine_status(w->e, &s);
	return s;
}

/* Online at a, standby at b. */
static void bring_both(struct world *w)
{
	w->rpc_rtt[0] = 10;
	w->rpc_rtt[1] = 50;
	w->rtt[0] = 10;
	w->rtt[1] = 50;
	w->grants = true;
	bring_online(w);
	live(w, 4);
	struct sub_status s = status_of(w);
	assert_int_equal(s.active.state, SUB_ONLINE);
	assert_string_equal(s.active.gateway->contact.app, "a");
	assert_int_equal(s.standby.state, SUB_STANDBY);
	assert_string_equal(s.standby.gateway->contact.app, "b");
	assert_int_equal(w->standbys, 2);
	assert_int_equal(w->online_slot, 0);
}

static void test_standby_takes_over(void **state)
{
	struct world w;
	(void)state;
	world_open(&w);
	bring_both(&w);
	w.deaf[0] = true;
	uint64_t began = w.now;
	while (w.online_slot == 0 && w.now < began + 5000000)
		live(&w, 0.05);
	assert_int_equal(w.online_slot, 1);
	assert_in_range(w.now - began, 700000, 1600000);
	/* The new one was in use before the old one was taken away, and nothing was asked for. */
	assert_int_equal(w.gaps, 0);
	assert_int_equal(w.requests, 2);
	assert_int_equal(w.holds, 0);
	assert_string_equal(w.released, "sid-a");
	struct sub_status s = status_of(&w);
	assert_string_equal(s.active.gateway->contact.app, "b");
	assert_int_equal(s.failovers, 1);
	assert_int_equal(s.last_switch_us, 0);
	assert_in_range(s.last_detect_us, 700000, 1000000);
	sub_engine_free(w.e);
}

static void test_returns_only_after_a_while(void **state)
{
	struct world w;
	(void)state;
	world_open(&w);
	bring_both(&w);
	w.deaf[0] = true;
	live(&w, 2);
	w.deaf[0] = false;
	assert_string_equal(status_of(&w).active.gateway->contact.app, "b");
	live(&w, 10);
	/* It is the standby again, and not yet trusted. */
	assert_string_equal(status_of(&w).standby.gateway->contact.app, "a");
	assert_string_equal(status_of(&w).active.gateway->contact.app, "b");
	w.rtt[status_of(&w).standby.slot] = 10;
	unsigned releases = w.releases;
	live(&w, 15);
	assert_string_equal(status_of(&w).active.gateway->contact.app, "b");
	live(&w, 200);
	struct sub_status s = status_of(&w);
	assert_string_equal(s.active.gateway->contact.app, "a");
	assert_int_equal(s.moves, 1);
	/* Both live on: what runs through the old one goes on there. */
	assert_string_equal(s.standby.gateway->contact.app, "b");
	assert_int_equal(s.standby.state, SUB_STANDBY);
	assert_int_equal(w.gaps, 0);
	assert_int_equal(w.releases, releases);
	assert_non_null(strstr(w.events, "session.moved "));
	sub_engine_free(w.e);
}

static void test_a_move_is_not_repeated_at_once(void **state)
{
	struct world w;
	(void)state;
	world_open(&w);
	bring_both(&w);
	/* Whoever is in use is the worse one: a pendulum. */
	for (unsigned i = 0; i < 600; i++) {
		w.rtt[0] = w.online_slot == 0 ? 60 : 30;
		w.rtt[1] = w.online_slot == 1 ? 60 : 30;
		live(&w, 1);
	}
	assert_in_range(status_of(&w).moves, 1, 5);
	sub_engine_free(w.e);
}

static void test_rpc_dead_but_tunnel_alive(void **state)
{
	struct world w;
	(void)state;
	world_open(&w);
	bring_both(&w);
	w.mute = true; /* nobody's nodeInfo: then the one in use is no worse */
	live(&w, 12);
	assert_int_equal(w.online_slot, 0);
	w.mute = false;
	live(&w, 6);
	assert_int_equal(status_of(&w).moves, 0);
	/* Only the one in use: it cannot be renewed, and the other can. */
	w.mute_app = 'a';
	live(&w, 14);
	assert_int_equal(w.online_slot, 1);
	assert_int_equal(status_of(&w).failovers, 0);
	assert_int_equal(status_of(&w).moves, 1);
	assert_int_equal(w.gaps, 0);
	sub_engine_free(w.e);
}

static void test_uplink_beyond_the_gateway(void **state)
{
	struct sub_policy p = policy;
	struct world w;
	(void)state;
	p.probe_uplink = true;
	world_open(&w);
	sub_engine_set_policy(w.e, &p, w.now);
	bring_both(&w);
	/* A target that nobody reaches is not the gateway's fault. */
	w.dark[0] = w.dark[1] = true;
	live(&w, 10);
	assert_int_equal(w.online_slot, 0);
	w.dark[0] = w.dark[1] = false;
	live(&w, 6);
	w.dark[0] = true;
	live(&w, 3);
	assert_int_equal(w.online_slot, 1);
	assert_int_equal(status_of(&w).failovers, 1);
	sub_engine_free(w.e);
}

static void test_other_method_before_the_gateway_is_given_up(void **state)
{
	struct sub_policy p = policy;
	struct world w;
	(void)state;
	world_open(&w);
	p.standby = false;
	p.terms.method_count = 2;
	strcpy(p.terms.methods[1], "gre");
	sub_engine_set_policy(w.e, &p, w.now);
	w.rpc_rtt[0] = 10;
	w.rpc_rtt[1] = 11;
	w.rtt[0] = w.rtt[1] = 10;
	w.grants = true;
	bring_online(&w);
	live(&w, 3);
	w.deaf[0] = true;
	unsigned requests = w.requests;
	while (w.requests == requests)
		live(&w, 0.05);
	assert_string_equal(w.requested, "a");
	assert_string_equal(w.method, "gre");
	assert_string_equal(w.sid_asked, "");
	/* That fails too: now the other gateway's turn has come. */
	w.deaf[0] = true;
	requests = w.requests;
	while (w.requests == requests)
		live(&w, 0.05);
	assert_string_equal(w.requested, "b");
	sub_engine_free(w.e);
}

/* With nobody else to go to the lease is asked for again; twice, if that does not help. */
static void test_keeps_the_lease_of_the_only_gateway(void **state)
{
	struct sub_contact a = contact("a");
	struct world w;
	(void)state;
	world_open(&w);
	assert_int_equal(sub_engine_found(w.e, &a, NULL, 1, w.now), 0);
	answer_infos(&w, true, 10, 50);
	w.rpc_rtt[0] = w.rtt[0] = 10;
	w.grants = true;
	grant(&w);
	sub_engine_on_tunnel(w.e, w.tunnel_serial, true, "", w.now);
	live(&w, 3);
	assert_int_equal(state_of(&w), SUB_ONLINE);
	for (unsigned i = 0; i < 3; i++) {
		unsigned requests = w.requests;
		w.deaf[0] = true;
		while (w.requests == requests)
			live(&w, 0.05);
		assert_string_equal(w.released, i == 2 ? "sid-a" : "");
		assert_string_equal(w.sid_asked, i == 2 ? "" : "sid-a");
		w.deaf[0] = false;
		for (unsigned n = 0; n < 200 && state_of(&w) != SUB_ONLINE; n++)
			live(&w, 0.05);
		assert_int_equal(state_of(&w), SUB_ONLINE);
	}
	sub_engine_free(w.e);
}

static void test_lossy_tunnel(void **state)
{
	struct world w;
	(void)state;
	world_open(&w);
	bring_both(&w);
	/* Two of five are lost, never three in a row. */
	for (unsigned i = 0; w.online_slot == 0 && i < 400; i++) {
		w.deaf[0] = i % 25 < 10;
		live(&w, 0.05);
	}
	assert_int_equal(w.online_slot, 1);
	sub_engine_free(w.e);
}

static void test_terms(void **state)
{
	struct sub_policy p = policy;
	struct world w;
	struct sub_rank r;
	(void)state;
	world_open(&w);
	strcpy(p.terms.pinned.text[0], "b");
	p.terms.pinned.count = 1;
	sub_engine_set_policy(w.e, &p, w.now);
	struct sub_contact a = contact("a"), b = contact("b");
	sub_engine_found(w.e, &a, NULL, 1, w.now);
	sub_engine_found(w.e, &b, NULL, 1, w.now);
	w.grants = true;
	w.rpc_rtt[0] = 10;
	w.rpc_rtt[1] = 90;
	live(&w, 10);
	assert_string_equal(status_of(&w).active.gateway->contact.app, "b");
	sub_engine_rank(w.e, status_of(&w).active.gateway, w.now, &r);
	assert_true(r.pinned && strstr(r.why, "pinned"));
	/* Banned while in use: left, at once. */
	p.terms.pinned.count = 0;
	strcpy(p.terms.banned.text[0], "b");
	p.terms.banned.count = 1;
	sub_engine_set_policy(w.e, &p, w.now);
	live(&w, 2);
	assert_string_equal(status_of(&w).active.gateway->contact.app, "a");
	sub_engine_rank(w.e, sub_engine_find(w.e, "b"), w.now, &r);
	assert_true(isinf(r.score) && strstr(r.why, "is banned"));
	sub_engine_free(w.e);
}

static void test_price(void **state)
{
	static const struct {
		const char *max, *price, *currency;
		bool fits;
	} cases[] = {
		{"", "1000", "EUR", true},	{"2", "2", "", true},
		{"2", "2.01", "", false},	{"2.5 EUR", "2", "EUR", true},
		{"2.5 EUR", "2", "USD", false}, {"2.5 EUR", "0", "USD", true},
		{"2.5 EUR", "2 EUR", "", true}, {"0", "0", "", true},
		{"0", "ask me", "", false},	{"0", "", "", true},
	};
	struct sub_terms t = {.methods = {"mesh"}, .method_count = 1};
	char currency[16];
	double price;
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct sub_gateway g = {.heard_us = 1,
					.info = {.methods = {"mesh"},
						 .method_count = 1,
						 .online = true,
						 .free_slots = 1}};
		struct sub_rank r;
		assert_true(sub_price_parse(cases[i].max, &t.max_price, t.currency));
		strcpy(g.info.price, cases[i].price);
		strcpy(g.info.currency, cases[i].currency);
		sub_rank(&g, &t, &(struct sub_rank_question){0}, 2, &r);
		assert_int_equal(isfinite(r.score), cases[i].fits);
	}
	assert_false(sub_price_parse("cheap", &price, currency));
	assert_false(sub_price_parse("-1", &price, currency));
	assert_false(sub_price_parse("1 twelve-letters-and-more", &price, currency));
}

static void test_goodput(void **state)
{
	struct sub_gateway g = {0};
	(void)state;
	sub_gateway_carried(&g, 1e6, false); /* an idle second says nothing */
	assert_true(g.goodput_bps == 0);
	sub_gateway_carried(&g, 8e6, true);
	sub_gateway_carried(&g, 1e6, false);
	assert_true(g.goodput_bps == 8e6);
	sub_gateway_carried(&g, 9e6, false);
	assert_true(g.goodput_bps == 9e6);
	for (unsigned i = 0; i < 60; i++)
		sub_gateway_carried(&g, 2e6, true);
	assert_true(g.goodput_bps < 2.1e6);
}

/* --- orders -------------------------------------------------------------------------------- */

static void test_orders(void **state)
{
	struct world w;
	const char *why;
	(void)state;
	world_open(&w);
	bring_both(&w);
	assert_int_equal(sub_engine_connect(w.e, "nobody", NULL, w.now), -ENOENT);
	int64_t order = sub_engine_connect(w.e, "b", NULL, w.now);
	assert_int_equal(sub_engine_order(w.e, order, &why), SUB_ORDER_PENDING);
	live(&w, 1);
	/* The standby was there already; the old one lives on for what runs through it. */
	assert_int_equal(sub_engine_order(w.e, order, &why), SUB_ORDER_DONE);
	assert_int_equal(w.online_slot, 1);
	assert_int_equal(w.requests, 2);
	assert_int_equal(w.gaps, 0);
	assert_true(w.open[0]);
	live(&w, 12);
	assert_false(w.open[0]);
	assert_string_equal(w.released, "sid-a");
	/* No other than this one, however bad it is. */
	w.deaf[1] = true;
	live(&w, 3);
	assert_string_equal(w.requested, "b");
	w.deaf[1] = w.deaf[0] = false;
	live(&w, 5);
	sub_engine_disconnect(w.e, w.now);
	assert_int_equal(state_of(&w), SUB_IDLE);
	assert_string_equal(w.released, "sid-b");
	unsigned requests = w.requests;
	live(&w, 60);
	assert_int_equal(w.requests, requests);
	order = sub_engine_connect(w.e, NULL, NULL, w.now);
	grant(&w);
	sub_engine_on_tunnel(w.e, w.tunnel_serial, true, "", w.now);
	live(&w, 1);
	assert_int_equal(sub_engine_order(w.e, order, &why), SUB_ORDER_DONE);
	assert_string_equal(status_of(&w).active.gateway->contact.app, "a");
	sub_engine_free(w.e);
}

static void test_order_of_an_unknown_gateway(void **state)
{
	struct world w;
	const char *why;
	(void)state;
	world_open(&w);
	bring_both(&w);
	struct sub_contact c = contact("c");
	w.mute_app = 'c';
	assert_int_equal(sub_engine_found(w.e, &c, NULL, 1, w.now), 0);
	char key[SUB_KEY_MAX];
	int64_t order = sub_engine_connect(w.e, sub_contact_key(&c, key), NULL, w.now);
	live(&w, 1);
	/* It is asked first, and nothing has changed when it does not answer. */
	assert_int_equal(sub_engine_order(w.e, order, &why), SUB_ORDER_FAILED);
	assert_string_equal(why, "no answer");
	assert_int_equal(w.online_slot, 0);
	assert_string_equal(status_of(&w).order, "");
	w.mute_app = 0;
	order = sub_engine_connect(w.e, key, NULL, w.now);
	live(&w, 3);
	assert_int_equal(sub_engine_order(w.e, order, &why), SUB_ORDER_DONE);
	assert_string_equal(status_of(&w).active.gateway->contact.app, "c");
	assert_int_equal(w.gaps, 0);
	sub_engine_free(w.e);
}

/* By a method that we do not use: nothing changes.  By one that the gateway does not have: what is
 * in use stays so. */
static void test_order_by_another_method(void **state)
{
	struct sub_policy p = policy;
	struct world w;
	const char *why;
	(void)state;
	world_open(&w);
	bring_both(&w);
	unsigned requests = w.requests;
	for (unsigned i = 0; i < 2; i++) {
		int64_t order = sub_engine_connect(w.e, i ? "b" : NULL, "gre", w.now);
		live(&w, 1);
		assert_int_equal(sub_engine_order(w.e, order, &why), SUB_ORDER_FAILED);
		assert_string_equal(why, "gre is not among subscriber.Methods");
	}
	p.terms.method_count = 3;
	strcpy(p.terms.methods[1], "gre");
	strcpy(p.terms.methods[2], "vxlan");
	sub_engine_set_policy(w.e, &p, w.now);
	int64_t order = sub_engine_connect(w.e, "b", "vxlan", w.now);
	live(&w, 1); /* it may offer that soon */
	assert_int_equal(sub_engine_order(w.e, order, &why), SUB_ORDER_PENDING);
	assert_int_equal(w.online_slot, 0);
	assert_int_equal(w.requests, requests);
	assert_int_equal(w.gaps, 0);
	order = sub_engine_connect(w.e, "b", "gre", w.now);
	assert_int_equal(sub_engine_order(w.e, order, &why), SUB_ORDER_PENDING);
	assert_string_equal(w.requested, "b");
	assert_string_equal(w.method, "gre");
	sub_engine_free(w.e);
}

/* Every request is refused, in steps of 50 ms; how many there were. */
static unsigned refuse_all(struct world *w, double seconds)
{
	unsigned before = w->requests, seen = before;

	w->grants = false;
	for (uint64_t end = w->now + (uint64_t)(seconds * 1e6); w->now < end;) {
		live(w, 0.05);
		if (w->requests == seen)
			continue;
		seen = w->requests;
		sub_engine_on_lease(w->e, w->request_serial, NULL, "refused: not now", true,
				    w->now);
	}
	w->grants = true;
	return seen - before;
}

/* The gateway has not heard of the release of our lease by another method or way. */
static void test_an_order_waits_out_a_refusal(void **state)
{
	struct world w;
	const char *why;
	char key[SUB_KEY_MAX];
	(void)state;
	world_open(&w);
	bring_both(&w);
	sub_engine_disconnect(w.e, w.now);
	struct sub_contact a = contact("a");
	int64_t order = sub_engine_connect(w.e, sub_contact_key(&a, key), NULL, w.now);
	assert_string_equal(w.requested, "a");
	w.grants = false;
	sub_engine_on_lease(w.e, w.request_serial, NULL, "refused: not now", true, w.now);
	assert_int_equal(sub_engine_order(w.e, order, &why), SUB_ORDER_PENDING);
	assert_string_equal(why, "refused: not now");
	assert_int_equal(status_of(&w).order_state, SUB_ORDER_PENDING);
	assert_int_equal(status_of(&w).order_again_us, w.now + 250000);
	unsigned requests = w.requests;
	live(&w, 0.2);
	assert_int_equal(w.requests, requests);
	live(&w, 0.1); /* granted now */
	assert_int_equal(w.requests, requests + 1);
	assert_int_equal(status_of(&w).order_again_us, 0);
	grant(&w);
	sub_engine_on_tunnel(w.e, w.tunnel_serial, true, "", w.now);
	assert_int_equal(sub_engine_order(w.e, order, &why), SUB_ORDER_DONE);
	assert_string_equal(why, "");
	assert_string_equal(status_of(&w).active.gateway->contact.app, "a");
	assert_int_equal(status_of(&w).active.gateway->failures, 0);
	sub_engine_free(w.e);
}

/* Not for ever, not too often, and what is in use stays so meanwhile. */
static void test_an_order_does_not_wait_for_ever(void **state)
{
	struct world w;
	const char *why;
	(void)state;
	world_open(&w);
	bring_both(&w);
	struct sub_contact c = contact("c");
	char key[SUB_KEY_MAX];
	assert_int_equal(sub_engine_found(w.e, &c, NULL, 1, w.now), 0);
	live(&w, 2);
	int64_t order = sub_engine_connect(w.e, sub_contact_key(&c, key), NULL, w.now);
	w.grants = false;
	sub_engine_on_lease(w.e, w.request_serial, NULL, "refused: not now", true, w.now);
	assert_in_range(refuse_all(&w, 3), 2, 4);
	assert_int_equal(sub_engine_order(w.e, order, &why), SUB_ORDER_PENDING);
	assert_in_range(refuse_all(&w, 11), 3, 7);
	assert_int_equal(sub_engine_order(w.e, order, &why), SUB_ORDER_FAILED);
	assert_string_equal(why, "refused: not now");
	assert_string_equal(sub_order_name(status_of(&w).order_state), "failed");
	assert_int_equal(w.online_slot, 0);
	assert_int_equal(w.gaps, 0);
	/* The gateway says meanwhile that it is not to be used at all. */
	sub_engine_disconnect(w.e, w.now);
	order = sub_engine_connect(w.e, "a", NULL, w.now);
	sub_engine_on_lease(w.e, w.request_serial, NULL, "refused: full", true, w.now);
	answer_infos(&w, false, 10, 50);
	w.mute = true;
	w.grants = false;
	sub_engine_scan(w.e, w.now);
	run(&w, 50000);
	answer_infos(&w, false, 10, 50);
	run(&w, 11000000);
	assert_int_equal(sub_engine_order(w.e, order, &why), SUB_ORDER_PENDING);
	run(&w, 2000000);
	assert_int_equal(sub_engine_order(w.e, order, &why), SUB_ORDER_FAILED);
	assert_string_equal(why, "refused: full");
	/* A refusal for good is final at once. */
	w.mute = false;
	live(&w, 2);
	order = sub_engine_connect(w.e, "a", NULL, w.now);
	live(&w, 0.2);
	sub_engine_on_lease(w.e, w.request_serial, NULL, "refused: no", false, w.now);
	assert_int_equal(sub_engine_order(w.e, order, &why), SUB_ORDER_FAILED);
	sub_engine_free(w.e);
}

static void test_interrupted_tunnel(void **state)
{
	struct world w;
	(void)state;
	world_open(&w);
	bring_online(&w);
	/* It comes back in time: nothing happens. */
	sub_engine_on_trouble(w.e, w.tunnel_serial, w.now);
	run(&w, 400000);
	sub_engine_on_tunnel(w.e, w.tunnel_serial, true, "", w.now);
	run(&w, 2000000);
	assert_int_equal(state_of(&w), SUB_ONLINE);
	/* It does not, and there is another gateway. */
	sub_engine_on_trouble(w.e, w.tunnel_serial, w.now);
	run(&w, 700000);
	assert_int_equal(state_of(&w), SUB_REQUESTING);
	assert_string_equal(w.requested, "b");
	/* Nobody else is usable: stay and hope. */
	grant(&w);
	sub_engine_on_tunnel(w.e, w.tunnel_serial, true, "", w.now);
	assert_true(sub_engine_connect(w.e, "b", NULL, w.now) > 0);
	sub_engine_on_trouble(w.e, w.tunnel_serial, w.now);
	run(&w, 900000);
	assert_int_equal(state_of(&w), SUB_ONLINE);
	sub_engine_free(w.e);
}

static void test_routes_that_cannot_be_set(void **state)
{
	struct world w;
	(void)state;
	world_open(&w);
	w.online_error = -EPERM;
	struct sub_contact a = contact("a");
	sub_engine_found(w.e, &a, NULL, 1, w.now);
	answer_infos(&w, true, 10, 0);
	grant(&w);
	sub_engine_on_tunnel(w.e, w.tunnel_serial, true, "", w.now);
	assert_int_equal(state_of(&w), SUB_IDLE);
	assert_int_equal(w.closes, 1);
	sub_engine_free(w.e);
}

static void test_limit_of_gateways(void **state)
{
	struct world w;
	(void)state;
	world_open(&w);
	for (unsigned i = 0; i < SUB_GATEWAYS_MAX + 10; i++) {
		struct sub_contact c = {.via = SUB_VIA_HTTP, .addr = {.family = 4, .port = 1}};
		c.addr.ip[2] = (uint8_t)(i >> 8);
		c.addr.ip[3] = (uint8_t)i;
		w.infos = 0;
		assert_int_equal(sub_engine_found(w.e, &c, NULL, 1, w.now),
				 i < SUB_GATEWAYS_MAX ? 0 : -ENOSPC);
	}
	sub_engine_free(w.e);
}

static struct json_object *json(const char *text)
{
	return json_tokener_parse(text);
}

static const char *const bad[] = {
	"[]",
	"{}",
	"{\"success\":true}",
	"{\"success\":true,\"sid\":\"x\",\"method\":\"mesh\",\"leaseSeconds\":60}",
	"{\"success\":true,\"sid\":\"x\",\"method\":\"mesh\",\"leaseSeconds\":0,\"ipv4\":"
	"\"10.0.0.2\",\"cidr4\":16,\"ipv4gateway\":\"10.0.0.1\"}",
	"{\"success\":true,\"sid\":\"x\",\"method\":\"mesh\",\"leaseSeconds\":60,\"ipv4\":"
	"\"10.0.0.2\",\"cidr4\":33,\"ipv4gateway\":\"10.0.0.1\"}",
	"{\"success\":true,\"sid\":\"x\",\"method\":\"mesh\",\"leaseSeconds\":60,\"ipv4\":"
	"\"127.0.0.2\",\"cidr4\":16,\"ipv4gateway\":\"10.0.0.1\"}",
	"{\"success\":true,\"sid\":\"x\",\"method\":\"mesh\",\"leaseSeconds\":60,\"ipv4\":"
	"\"::1\",\"cidr4\":16,\"ipv4gateway\":\"10.0.0.1\"}",
	"{\"success\":true,\"sid\":"
	"\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\","
	"\"method\":\"mesh\",\"leaseSeconds\":60,\"ipv4\":\"10.0.0.2\",\"cidr4\":16,"
	"\"ipv4gateway\":\"10.0.0.1\"}",
	/* More than a word, where a method writes it into a configuration. */
	"{\"success\":true,\"sid\":\"x\\nscript-security 2\",\"method\":\"openvpn\","
	"\"leaseSeconds\":60,\"ipv4\":\"10.0.0.2\",\"cidr4\":16,\"ipv4gateway\":\"10.0.0."
	"1\"}",
	"{\"success\":true,\"sid\":\"a "
	"b\",\"method\":\"mesh\",\"leaseSeconds\":60,\"ipv4\":"
	"\"10.0.0.2\",\"cidr4\":16,\"ipv4gateway\":\"10.0.0.1\"}",
};

static void test_reads_strangers_answers(void **state)
{
	struct sub_lease lease;
	struct sub_info info;
	char why[SUB_WHY_MAX];
	bool gone;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct json_object *o = json(bad[i]);
		assert_true(sub_api_read_lease(o, &lease, why) < 0);
		assert_true(sub_api_read_info(o, &info, why) < 0);
		json_object_put(o);
	}
	struct json_object *o =
		json("{\"success\":true,\"sid\":\"s\",\"method\":\"mesh\",\"leaseSeconds\":60,"
		     "\"ipv4\":\"10.0.0.2\",\"cidr4\":16,\"ipv4gateway\":\"10.0.0.1\"}");
	assert_int_equal(sub_api_read_lease(o, &lease, why), 0);
	assert_int_equal(lease.ip4.bits, 16);
	assert_int_equal(lease.ip6.addr.family, 0);
	json_object_put(o);
	assert_int_equal(lease.dns_count, 0);
	o = json("{\"success\":true,\"sid\":\"s\",\"method\":\"mesh\",\"leaseSeconds\":60,"
		 "\"ipv4\":\"10.0.0.2\",\"cidr4\":16,\"ipv4gateway\":\"10.0.0.1\",\"dns\":"
		 "[\"9.9.9.9\",7,\"127.0.0.1\",\"no\",null,\"fd00::1\",\"1.1.1.1\",\"8.8.8.8\"]}");
	assert_int_equal(sub_api_read_lease(o, &lease, why), 0);
	assert_int_equal(lease.dns_count, 3);
	assert_int_equal(lease.dns[1].family, 6);
	json_object_put(o);
	o = json("{\"success\":true,\"gateway\":true,\"name\":\"g\",\"methods\":[{\"name\":"
		 "\"mesh\",\"ready\":false},{\"name\":\"gre\",\"ready\":true}]}");
	assert_int_equal(sub_api_read_info(o, &info, why), 0);
	assert_int_equal(info.method_count, 1);
	assert_string_equal(info.methods[0], "gre");
	json_object_put(o);
	o = json("{\"success\":false,\"errorMsg\":\"full\\u001b[31m\",\"temporary\":true}");
	assert_int_equal(sub_api_read_lease(o, &lease, why), -EAGAIN);
	assert_null(strchr(why, 27));
	assert_int_equal(sub_api_read_renewal(o, &gone, why), -EPERM);
	assert_false(gone);
	json_object_put(o);
	o = json("{\"success\":false,\"errorMsg\":\"no\",\"temporary\":false}");
	assert_int_equal(sub_api_read_lease(o, &lease, why), -EPERM);
	json_object_put(o);
	o = json("{\"success\":true,\"gateway\":true,\"name\":\"g\",\"methods\":[{\"name\":"
		 "\"mesh\"},7,{\"name\":3}],"
		 "\"terms\":{\"freeSlots\":-5},\"uplink\":{\"online\":true,\"rttMs\":1e999}}");
	assert_int_equal(sub_api_read_info(o, &info, why), 0);
	assert_int_equal(info.method_count, 1);
	assert_int_equal(info.free_slots, 0);
	assert_true(info.online && isfinite(info.uplink_rtt_ms));
	json_object_put(o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_connects_to_the_best),
		cmocka_unit_test(test_moves_on_when_probes_are_lost),
		cmocka_unit_test(test_late_answers_change_nothing),
		cmocka_unit_test(test_renews_at_half_time),
		cmocka_unit_test(test_leaves_when_the_uplink_fails),
		cmocka_unit_test(test_all_fail_then_hold_ends),
		cmocka_unit_test(test_request_timeout_and_open_timeout),
		cmocka_unit_test(test_standby_takes_over),
		cmocka_unit_test(test_returns_only_after_a_while),
		cmocka_unit_test(test_a_move_is_not_repeated_at_once),
		cmocka_unit_test(test_rpc_dead_but_tunnel_alive),
		cmocka_unit_test(test_uplink_beyond_the_gateway),
		cmocka_unit_test(test_other_method_before_the_gateway_is_given_up),
		cmocka_unit_test(test_keeps_the_lease_of_the_only_gateway),
		cmocka_unit_test(test_lossy_tunnel),
		cmocka_unit_test(test_terms),
		cmocka_unit_test(test_price),
		cmocka_unit_test(test_goodput),
		cmocka_unit_test(test_orders),
		cmocka_unit_test(test_order_of_an_unknown_gateway),
		cmocka_unit_test(test_order_by_another_method),
		cmocka_unit_test(test_an_order_waits_out_a_refusal),
		cmocka_unit_test(test_an_order_does_not_wait_for_ever),
		cmocka_unit_test(test_interrupted_tunnel),
		cmocka_unit_test(test_routes_that_cannot_be_set),
		cmocka_unit_test(test_limit_of_gateways),
		cmocka_unit_test(test_reads_strangers_answers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
