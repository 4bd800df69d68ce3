/* For tests of the subscriber's engine: a recorder of its effects, on a virtual clock. */
#ifndef TESTS_SUB_WORLD_H
#define TESTS_SUB_WORLD_H

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
#include "subscriberd/engine.h"

struct world {
	struct sub_engine *e;
	uint64_t now;
	/* what the engine asked for last */
	uint64_t info_serial[16], request_serial, renew_serial, probe_serial, tunnel_serial;
	unsigned slot;	 /* of the last request */
	int online_slot; /* that traffic takes; -1 none */
	bool deaf[2];	 /* probes through the tunnel of a slot are lost */
	bool dark[2];	 /* those beyond its gateway are */
	unsigned age[2][SUB_PROBES];
	uint64_t renew_open[4];
	double rpc_rtt[2]; /* of a and of the others */
	bool mute, grants; /* nobody answers nodeInfo; requests are granted */
	char mute_app;	   /* nor does this one */
	uint64_t probe_of[2][SUB_PROBES];
	bool open[2];
	double rtt[2];
	struct sub_contact info_to[16];
	size_t infos;
	char requested[32], method[16], released[65], sid_asked[65];
	unsigned requests, renews, probes, opens, closes, onlines, offlines, holds, releases, saves,
		standbys, gaps, forgotten;
	int online_error;
	char events[512]; /* kinds, one after the other */
};

static inline void op_ask(void *ctx, const struct sub_gateway *g, uint64_t serial)
{
	struct world *w = ctx;
	if (w->infos == 16) { /* nobody answers them in this test */
		w->infos = 0;
	}
	w->info_to[w->infos] = g->contact;
	w->info_serial[w->infos++] = serial;
}

static inline void op_request(void *ctx, unsigned slot, const struct sub_gateway *g,
			      const char *method, const char *sid, uint64_t serial)
{
	struct world *w = ctx;
	w->requests++;
	w->request_serial = serial;
	w->slot = slot;
	snprintf(w->sid_asked, sizeof w->sid_asked, "%s", sid);
	snprintf(w->requested, sizeof w->requested, "%.31s", g->contact.app);
	strcpy(w->method, method);
}

static inline void op_renew(void *ctx, const struct sub_gateway *g, const char *sid,
			    uint64_t serial)
{
	struct world *w = ctx;
	(void)sid;
	w->renews++;
	w->renew_serial = serial;
	if (!w->mute_app || g->contact.app[0] != w->mute_app)
		w->renew_open[w->renews % 4] = serial;
}

static inline void op_probe(void *ctx, unsigned slot, enum sub_probe kind, uint64_t serial,
			    uint64_t timeout_us)
{
	struct world *w = ctx;
	assert_in_range(timeout_us, 250000, 2000000);
	assert_true(w->open[slot]);
	if (kind == SUB_PROBE_GATEWAY && (int)slot == w->online_slot) {
		w->probes++;
		w->probe_serial = serial;
	}
	w->probe_of[slot][kind] = serial;
}

static inline void op_release(void *ctx, const struct sub_gateway *g, const char *sid)
{
	struct world *w = ctx;
	(void)g;
	w->releases++;
	strcpy(w->released, sid);
}

static inline void op_open(void *ctx, unsigned slot, const struct sub_gateway *g,
			   const struct sub_lease *lease, uint64_t serial)
{
	struct world *w = ctx;
	(void)g;
	(void)lease;
	assert_false(w->open[slot]);
	w->open[slot] = true;
	w->opens++;
	w->tunnel_serial = serial;
}

static inline void op_close(void *ctx, unsigned slot)
{
	struct world *w = ctx;
	assert_true(w->open[slot]);
	w->open[slot] = false;
	w->probe_of[slot][0] = w->probe_of[slot][1] = 0;
	w->closes++;
	/* What traffic takes goes last: only when nothing else could take over. */
	if (w->online_slot == (int)slot) {
		w->gaps++;
		w->online_slot = -1;
	}
}

static inline int op_stand_by(void *ctx, unsigned slot, const struct sub_lease *lease)
{
	struct world *w = ctx;
	(void)lease;
	assert_true(w->open[slot]);
	w->standbys++;
	return 0;
}

static inline int op_online(void *ctx, unsigned slot, const struct sub_lease *lease)
{
	struct world *w = ctx;
	(void)lease;
	w->onlines++;
	if (!w->online_error)
		w->online_slot = (int)slot;
	return w->online_error;
}

static inline void op_offline(void *ctx, bool hold)
{
	struct world *w = ctx;
	w->offlines++;
	w->holds += hold;
	w->online_slot = -1;
}

static inline void op_save(void *ctx, const struct sub_gateway *g)
{
	(void)g;
	((struct world *)ctx)->saves++;
}

static inline void op_forget(void *ctx, const struct sub_gateway *g)
{
	(void)g;
	((struct world *)ctx)->forgotten++;
}

static inline void op_discover(void *ctx)
{
	(void)ctx;
}

static inline void op_event(void *ctx, const struct sub_event *event)
{
	struct world *w = ctx;
	size_t len = strlen(w->events);
	if (event->kind != SUB_EVENT_STANDBY)
		snprintf(w->events + len, sizeof w->events - len, "%s%s%s ",
			 sub_event_name(event->kind), event->kind == SUB_EVENT_STATE ? ":" : "",
			 event->kind == SUB_EVENT_STATE ? sub_state_name(event->to) : "");
	if (event->kind == SUB_EVENT_FAILOVER)
		assert_in_range(event->outage_us, 1, 60000000);
	if (event->kind == SUB_EVENT_LOST)
		assert_true(event->gateway && event->why[0]);
}

static const struct sub_ops ops = {
	.ask_info = op_ask,
	.request = op_request,
	.renew = op_renew,
	.probe = op_probe,
	.release = op_release,
	.tunnel_open = op_open,
	.tunnel_close = op_close,
	.stand_by = op_stand_by,
	.go_online = op_online,
	.go_offline = op_offline,
	.save = op_save,
	.forget = op_forget,
	.discover = op_discover,
	.event = op_event,
};

static const struct sub_policy policy = {
	.terms = {.methods = {"mesh"}, .method_count = 1, .max_price = -1},
	.auto_connect = true,
	.scan_interval_us = 10000000,
	.probe_interval_us = 500000,
	.standby_probe_interval_us = 5000000,
	.probe_losses = 3,
	.better_for_us = 30000000,
	.standby = true,
};

static inline void world_open(struct world *w)
{
	memset(w, 0, sizeof *w);
	log_set_level(getenv("V") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
	w->now = 1000000;
	w->online_slot = -1;
	w->e = sub_engine_new(&policy, &ops, w, w->now);
	assert_non_null(w->e);
}

static inline void run(struct world *w, uint64_t us)
{
	uint64_t until = w->now + us;
	while (sub_engine_next(w->e) <= until) {
		if (sub_engine_next(w->e) > w->now)
			w->now = sub_engine_next(w->e);
		sub_engine_run(w->e, w->now);
	}
	w->now = until;
}

static inline struct sub_contact contact(const char *app)
{
	struct sub_contact c = {.via = SUB_VIA_MESH};
	snprintf(c.app, sizeof c.app, "%s", app);
	c.node.b[0] = (uint8_t)app[0];
	return c;
}

static inline void answer_infos(struct world *w, bool online, double rtt_a, double rtt_b)
{
	size_t n = w->infos;
	w->infos = 0;
	for (size_t i = 0; i < n; i++) {
		bool a = w->info_to[i].app[0] == 'a';
		bool deaf = w->mute_app && w->info_to[i].app[0] == w->mute_app;
		struct sub_info info = {.methods = {"mesh", "gre"},
					.method_count = 2,
					.free_slots = 5,
					.online = a ? online : true};
		snprintf(info.name, sizeof info.name, "%s", w->info_to[i].app);
		sub_engine_on_info(w->e, w->info_serial[i], &info, a ? rtt_a : rtt_b,
				   deaf ? "no answer" : NULL, 1, w->now);
	}
}

static inline void grant(struct world *w)
{
	struct sub_lease lease = {.method = "mesh", .lease_seconds = 60};
	snprintf(lease.sid, sizeof lease.sid, "sid-%s", w->requested);
	net_prefix_parse(&lease.ip4, "10.0.0.2/16");
	sub_engine_on_lease(w->e, w->request_serial, &lease, NULL, false, w->now);
}

static inline enum sub_state state_of(struct world *w)
{
	struct sub_status s;
	sub_engine_status(w->e, &s);
	return s.active.state;
}

static inline void bring_online(struct world *w)
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
#endif
