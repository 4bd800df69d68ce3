/* The subscriber's decisions against a recorder of its effects, on a virtual clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "subscriberd/api.h"
#include "subscriberd/engine.h"

struct world {
	struct sub_engine *e;
	uint64_t now;
	/* what the engine asked for last */
	uint64_t info_serial[16], request_serial, renew_serial, probe_serial, tunnel_serial;
	struct sub_contact info_to[16];
	size_t infos;
	char requested[32], method[16], released[65];
	unsigned requests, renews, probes, opens, closes, onlines, offlines, holds, releases, saves;
	int online_error;
	char events[512]; /* kinds, one after the other */
};

static void op_ask(void *ctx, const struct sub_gateway *g, uint64_t serial)
{
	struct world *w = ctx;
	assert_in_range(w->infos, 0, 15);
	w->info_to[w->infos] = g->contact;
	w->info_serial[w->infos++] = serial;
}

static void op_request(void *ctx, const struct sub_gateway *g, const char *method, uint64_t serial)
{
	struct world *w = ctx;
	w->requests++;
	w->request_serial = serial;
	snprintf(w->requested, sizeof w->requested, "%.31s", g->contact.app);
	strcpy(w->method, method);
}

static void op_renew(void *ctx, const struct sub_gateway *g, const char *sid, uint64_t serial)
{
	struct world *w = ctx;
	(void)g;
	(void)sid;
	w->renews++;
	w->renew_serial = serial;
}

static void op_probe(void *ctx, uint64_t serial)
{
	struct world *w = ctx;
	w->probes++;
	w->probe_serial = serial;
}

static void op_release(void *ctx, const struct sub_gateway *g, const char *sid)
{
	struct world *w = ctx;
	(void)g;
	w->releases++;
	strcpy(w->released, sid);
}

static void op_open(void *ctx, const struct sub_gateway *g, const struct sub_lease *lease,
		    uint64_t serial)
{
	struct world *w = ctx;
	(void)g;
	(void)lease;
	w->opens++;
	w->tunnel_serial = serial;
}

static void op_close(void *ctx)
{
	((struct world *)ctx)->closes++;
}

static int op_online(void *ctx, const struct sub_lease *lease)
{
	struct world *w = ctx;
	(void)lease;
	w->onlines++;
	return w->online_error;
}

static void op_offline(void *ctx, bool hold)
{
	struct world *w = ctx;
	w->offlines++;
	w->holds += hold;
}

static void op_save(void *ctx, const struct sub_gateway *g)
{
	(void)g;
	((struct world *)ctx)->saves++;
}

static void op_discover(void *ctx)
{
	(void)ctx;
}

static void op_event(void *ctx, const struct sub_event *event)
{
	struct world *w = ctx;
	size_t len = strlen(w->events);
	snprintf(w->events + len, sizeof w->events - len, "%s%s%s ", sub_event_name(event->kind),
		 event->kind == SUB_EVENT_STATE ? ":" : "",
		 event->kind == SUB_EVENT_STATE ? sub_state_name(event->to) : "");
	if (event->kind == SUB_EVENT_FAILOVER)
		assert_in_range(event->outage_us, 1, 60000000);
	if (event->kind == SUB_EVENT_LOST)
		assert_true(event->gateway && event->why[0]);
}

static const struct sub_ops ops = {op_ask,     op_request, op_renew,	op_probe,
				   op_release, op_open,	   op_close,	op_online,
				   op_offline, op_save,	   op_discover, op_event};

static const struct sub_policy policy = {
	.methods = {"mesh"},
	.method_count = 1,
	.auto_connect = true,
	.scan_interval_us = 10000000,
	.probe_interval_us = 500000,
	.probe_losses = 3,
};

static void world_open(struct world *w)
{
	memset(w, 0, sizeof *w);
	log_set_level(LOG_LEVEL_ERROR);
	w->now = 1000000;
	w->e = sub_engine_new(&policy, &ops, w, w->now);
	assert_non_null(w->e);
}

static void run(struct world *w, uint64_t us)
{
	uint64_t until = w->now + us;
	while (sub_engine_next(w->e) <= until) {
		if (sub_engine_next(w->e) > w->now)
			w->now = sub_engine_next(w->e);
		sub_engine_run(w->e, w->now);
	}
	w->now = until;
}

static struct sub_contact contact(const char *app)
{
	struct sub_contact c = {.via = SUB_VIA_MESH};
	snprintf(c.app, sizeof c.app, "%s", app);
	c.node.b[0] = (uint8_t)app[0];
	return c;
}

static void answer_infos(struct world *w, bool online, double rtt_a, double rtt_b)
{
	size_t n = w->infos;
	w->infos = 0;
	for (size_t i = 0; i < n; i++) {
		bool a = w->info_to[i].app[0] == 'a';
		struct sub_info info = {.methods = {"mesh"},
					.method_count = 1,
					.free_slots = 5,
					.online = a ? online : true};
		snprintf(info.name, sizeof info.name, "%s", w->info_to[i].app);
		sub_engine_on_info(w->e, w->info_serial[i], &info, a ? rtt_a : rtt_b, NULL, 1,
				   w->now);
	}
}

static void grant(struct world *w)
{
	struct sub_lease lease = {.method = "mesh", .lease_seconds = 60};
	snprintf(lease.sid, sizeof lease.sid, "sid-%s", w->requested);
	net_prefix_parse(&lease.ip4, "10.0.0.2/16");
	sub_engine_on_lease(w->e, w->request_serial, &lease, NULL, w->now);
}

static enum sub_state state_of(struct world *w)
{
	struct sub_status s;
	sub_engine_status(w->e, &s);
	return s.state;
}

static void bring_online(struct world *w)
{
	struct sub_contact a = contact("a"), b = contact("b");
	assert_int_equal(sub_engine_found(w->e, &a, NULL, 1, w->now), 0);
	assert_int_equal(sub_engine_found(w->e, &b, NULL, 1, w->now), 0);
	answer_infos(w, true, 10, 50);
	assert_string_equal(w->requested, "a");
	grant(w);
	assert_int_equal(state_of(w), SUB_OPENING);
	sub_engine_on_tunnel(w->e, w->tunnel_serial, true, "", w->now);
	assert_int_equal(state_of(w), SUB_ONLINE);
}

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
	assert_int_equal(s.state, SUB_ONLINE);
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
	sub_engine_on_lease(w.e, old_request, &lease, NULL, w.now);
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
	sub_engine_on_lease(w.e, w.request_serial, NULL, "refused: full", w.now);
	assert_int_equal(state_of(&w), SUB_IDLE);
	assert_int_equal(w.offlines, 1);
	/* Nobody answers any more. */
	for (unsigned i = 0; i < 70; i++) {
		run(&w, 1000000);
		if (state_of(&w) == SUB_REQUESTING)
			sub_engine_on_lease(w.e, w.request_serial, NULL, "refused", w.now);
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

static void test_orders(void **state)
{
	struct world w;
	(void)state;
	world_open(&w);
	bring_online(&w);
	assert_int_equal(sub_engine_connect(w.e, "nobody", NULL, w.now), -ENOENT);
	assert_int_equal(sub_engine_connect(w.e, "b", NULL, w.now), 0);
	assert_string_equal(w.requested, "b");
	assert_string_equal(w.released, "sid-a");
	grant(&w);
	sub_engine_on_tunnel(w.e, w.tunnel_serial, true, "", w.now);
	sub_engine_disconnect(w.e, w.now);
	assert_int_equal(state_of(&w), SUB_IDLE);
	assert_string_equal(w.released, "sid-b");
	unsigned requests = w.requests;
	run(&w, 60000000);
	assert_int_equal(w.requests, requests);
	assert_int_equal(sub_engine_connect(w.e, NULL, NULL, w.now), 0);
	answer_infos(&w, true, 10, 50);
	run(&w, 2000000);
	assert_int_equal(w.requests, requests + 1);
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
	sub_engine_disconnect(w.e, w.now);
	assert_int_equal(sub_engine_connect(w.e, "b", NULL, w.now), 0);
	grant(&w);
	sub_engine_on_tunnel(w.e, w.tunnel_serial, true, "", w.now);
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

static void test_reads_strangers_answers(void **state)
{
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
	};
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
	o = json("{\"success\":false,\"errorMsg\":\"full\\u001b[31m\",\"temporary\":true}");
	assert_int_equal(sub_api_read_lease(o, &lease, why), -EPERM);
	assert_null(strchr(why, 27));
	assert_int_equal(sub_api_read_renewal(o, &gone, why), -EPERM);
	assert_false(gone);
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
		cmocka_unit_test(test_orders),
		cmocka_unit_test(test_interrupted_tunnel),
		cmocka_unit_test(test_routes_that_cannot_be_set),
		cmocka_unit_test(test_limit_of_gateways),
		cmocka_unit_test(test_reads_strangers_answers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
