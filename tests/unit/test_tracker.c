/* The apptracker's engine against a plain list, paging, grace, and what managers must not do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "apptracker/engine.h"
#include "base/log.h"
#include "base/timerq.h"

#define SECOND 1000000u

struct rec {
	struct tracker *t;
	struct tracker_config config;
	uint64_t now, closed;
	uint8_t bytes[65536];
	struct msg last;
	unsigned answers;
	size_t saved, removed;
};

static int rec_send(void *ctx, uint64_t channel, const struct msg *m)
{
	struct rec *r = ctx;
	struct wbuf w = wbuf_init(r->bytes, sizeof r->bytes);
	assert_int_not_equal(channel, 0);
	msg_encode(m, &w);
	assert_false(w.bad); /* every answer fits a control frame */
	assert_int_equal(msg_decode(&r->last, bytes_of(r->bytes, wbuf_len(&w))), 0);
	r->answers++;
	return 0;
}

static void rec_close(void *ctx, uint64_t channel, const char *reason)
{
	assert_non_null(reason);
	((struct rec *)ctx)->closed = channel;
}

static void rec_saved(void *ctx, const struct tracker_entry *entry)
{
	assert_int_not_equal(entry->app[0], 0);
	((struct rec *)ctx)->saved++;
}

static void rec_removed(void *ctx, const struct mesh_id *node, const char *app)
{
	assert_true(node && app[0]);
	((struct rec *)ctx)->removed++;
}

static const struct tracker_ops ops = {rec_send, rec_close, rec_saved, rec_removed};

static void quiet(enum log_level level, const char *line)
{
	(void)level, (void)line;
}

static struct mesh_id id_of(unsigned n)
{
	return (struct mesh_id){.b = {[0] = (uint8_t)(n >> 8), [1] = (uint8_t)n, [2] = 1}};
}

static struct rec *rec_new(void)
{
	struct rec *r = calloc(1, sizeof *r);
	assert_non_null(r);
	assert_true(sodium_init() >= 0);
	log_set_sink(quiet);
	tracker_config_default(&r->config);
	r->now = SECOND;
	return r;
}

static void rec_start(struct rec *r)
{
	r->t = tracker_new(&r->config, &ops, r, 7);
	assert_non_null(r->t);
}

static void rec_free(struct rec *r)
{
	tracker_free(r->t);
	free(r);
}

static uint16_t say(struct rec *r, uint64_t channel, uint8_t op, unsigned node, const char *app,
		    const char *type)
{
	struct msg m = {.type = MSG_AppRegistrationRequest, .seq = 9};
	struct mesh_id id = id_of(node);
	m.app_registration_request.op = op;
	m.app_registration_request.node = id;
	m.app_registration_request.app = bytes_str(app);
	m.app_registration_request.type = bytes_str(type);
	m.app_registration_request.info = bytes_str(type);
	tracker_manager_msg(r->t, channel, &m, r->now);
	assert_int_equal(r->last.type, MSG_AppRegistrationResponse);
	assert_int_equal(r->last.seq, 9);
	return r->last.app_registration_response.code;
}

static void manager(struct rec *r, unsigned n, uint64_t channel)
{
	struct mesh_id id = id_of(1000 + n);
	assert_int_equal(tracker_manager_up(r->t, &id, channel, r->now), 0);
	assert_int_equal(say(r, channel, APP_OP_HELLO, 0, "", ""), CODE_OK);
}

static const struct msg_app_list_response *list(struct rec *r, uint64_t channel, uint8_t kind,
						const char *value, uint32_t after)
{
	struct msg m = {.type = MSG_AppListRequest, .seq = 4};
	m.app_list_request.kind = kind;
	m.app_list_request.value = bytes_str(value);
	m.app_list_request.after = after;
	tracker_manager_msg(r->t, channel, &m, r->now);
	assert_int_equal(r->last.type, MSG_AppListResponse);
	return &r->last.app_list_response;
}

static void rec_sleep(struct rec *r, uint64_t us)
{
	r->now += us;
	while (tracker_next_timeout(r->t) <= r->now)
		tracker_tick(r->t, r->now);
}

static void test_lists(void **state)
{
	(void)state;
	struct rec *r = rec_new();
	rec_start(r);
	manager(r, 1, 1);
	assert_int_equal(say(r, 1, APP_OP_ADD, 1, "a", "echo"), CODE_OK);
	assert_int_equal(say(r, 1, APP_OP_ADD, 1, "b", "socks"), CODE_OK);
	assert_int_equal(say(r, 1, APP_OP_ADD, 2, "a", "socks"), CODE_OK);
	assert_int_equal(list(r, 1, APP_LIST_ALL, "", 0)->apps_count, 3);
	assert_int_equal(list(r, 1, APP_LIST_BY_TYPE, "socks", 0)->apps_count, 2);
	assert_int_equal(list(r, 1, APP_LIST_BY_NAME, "a", 0)->apps_count, 2);
	assert_int_equal(list(r, 1, APP_LIST_BY_NAME, "socks", 0)->apps_count, 0);
	assert_int_equal(list(r, 1, APP_LIST_BY_TYPE, "", 0)->apps_count, 0);
	assert_int_equal(list(r, 1, 9, "", 0)->code, CODE_INVALID);
	/* Replaced: one entry, its new type. */
	assert_int_equal(say(r, 1, APP_OP_ADD, 1, "a", "socks"), CODE_OK);
	assert_int_equal(list(r, 1, APP_LIST_BY_TYPE, "echo", 0)->apps_count, 0);
	assert_int_equal(list(r, 1, APP_LIST_BY_TYPE, "socks", 0)->apps_count, 3);
	assert_int_equal(say(r, 1, APP_OP_REMOVE, 1, "a", ""), CODE_OK);
	assert_int_equal(say(r, 1, APP_OP_REMOVE, 1, "a", ""), CODE_NOT_FOUND);
	assert_int_equal(say(r, 1, APP_OP_NODE_GONE, 2, "", ""), CODE_OK);
	const struct msg_app_list_response *left = list(r, 1, APP_LIST_ALL, "", 0);
	assert_int_equal(left->apps_count, 1);
	assert_true(bytes_equal(left->apps[0].app, bytes_str("b")));
	assert_int_equal(r->saved, 4);
	assert_int_equal(r->removed, 2);
	rec_free(r);
}

static void test_pages(void **state)
{
	(void)state;
	struct rec *r = rec_new();
	uint32_t after = 0;
	unsigned seen = 0, pages = 0;
	char name[16];
	rec_start(r);
	manager(r, 1, 1);
	for (unsigned i = 0; i < 200; i++) {
		snprintf(name, sizeof name, "app%u", i);
		assert_int_equal(say(r, 1, APP_OP_ADD, i / 10 + 1, name, i % 2 ? "odd" : "even"),
				 CODE_OK);
	}
	do {
		const struct msg_app_list_response *page =
			list(r, 1, APP_LIST_BY_TYPE, "odd", after);
		for (unsigned i = 0; i < page->apps_count; i++) {
			snprintf(name, sizeof name, "app%u", 2 * seen++ + 1);
			assert_true(bytes_equal(page->apps[i].app, bytes_str(name)));
		}
		after = page->next;
		/* What goes away between two pages shifts nothing. */
		if (++pages == 1)
			say(r, 1, APP_OP_REMOVE, 1, "app1", "");
	} while (after);
	assert_int_equal(seen, 100);
	assert_int_equal(pages, 2);
	rec_free(r);
}

static void test_limits(void **state)
{
	(void)state;
	struct rec *r = rec_new();
	char name[16];
	r->config.apps_max = 30;
	r->config.apps_per_node_max = 10;
	rec_start(r);
	manager(r, 1, 1);
	for (unsigned i = 0; i < 60; i++) {
		snprintf(name, sizeof name, "app%u", i);
		bool room = i % 15 < 10 && tracker_count(r->t) < 30;
		assert_int_equal(say(r, 1, APP_OP_ADD, i / 15 + 1, name, "t"),
				 room ? CODE_OK : CODE_BUSY);
	}
	assert_int_equal(tracker_count(r->t), 30);
	assert_int_equal(say(r, 1, APP_OP_ADD, 1, "app0", "t"), CODE_OK); /* no new one */
	assert_int_equal(say(r, 1, APP_OP_ADD, 1, "", "t"), CODE_INVALID);
	assert_int_equal(say(r, 1, APP_OP_ADD, 1, "x", "a b"), CODE_INVALID);
	assert_int_equal(say(r, 1, 77, 1, "x", "t"), CODE_INVALID);
	rec_free(r);
}

static void test_manager_goes(void **state)
{
	(void)state;
	struct rec *r = rec_new();
	rec_start(r);
	manager(r, 1, 1);
	manager(r, 2, 2);
	say(r, 1, APP_OP_ADD, 1, "a", "t");
	say(r, 2, APP_OP_ADD, 2, "b", "t");
	assert_int_equal(say(r, 2, APP_OP_ADD, 1, "a", "t"), CODE_REFUSED);
	assert_int_equal(say(r, 2, APP_OP_REMOVE, 1, "a", ""), CODE_NOT_FOUND);
	say(r, 2, APP_OP_NODE_GONE, 1, "", "");
	assert_int_equal(tracker_count(r->t), 2);
	tracker_manager_down(r->t, 1, r->now);
	rec_sleep(r, r->config.grace_us - 1);
	assert_int_equal(list(r, 2, APP_LIST_ALL, "", 0)->apps_count, 2);
	rec_sleep(r, 1);
	assert_int_equal(list(r, 2, APP_LIST_ALL, "", 0)->apps_count, 1);
	/* Back in time: its hello begins anew. */
	tracker_manager_down(r->t, 2, r->now);
	rec_sleep(r, SECOND);
	manager(r, 2, 3);
	assert_int_equal(tracker_count(r->t), 0);
	rec_sleep(r, 10 * r->config.grace_us);
	say(r, 3, APP_OP_ADD, 2, "b", "t");
	/* The newer channel wins, the older one's end means nothing. */
	manager(r, 2, 4);
	assert_int_equal(r->closed, 3);
	say(r, 4, APP_OP_ADD, 2, "b", "t");
	tracker_manager_down(r->t, 3, r->now);
	rec_sleep(r, 10 * r->config.grace_us);
	assert_int_equal(tracker_count(r->t), 1);
	/* An entry of one that is away may be taken over. */
	tracker_manager_down(r->t, 4, r->now);
	manager(r, 1, 5);
	assert_int_equal(say(r, 5, APP_OP_ADD, 2, "b", "t"), CODE_OK);
	rec_sleep(r, 10 * r->config.grace_us);
	assert_int_equal(tracker_count(r->t), 1);
	rec_free(r);
}

static void test_strangers(void **state)
{
	(void)state;
	struct rec *r = rec_new();
	char text[MESH_ID_TEXT], managers[200];
	struct mesh_id good = id_of(1001), bad = id_of(1002);
	snprintf(managers, sizeof managers, " x, %s", mesh_id_text(&good, text));
	r->config.managers = managers;
	rec_start(r);
	assert_int_equal(tracker_manager_up(r->t, &bad, 1, r->now), -EACCES);
	assert_int_equal(tracker_manager_up(r->t, &good, 2, r->now), 0);
	tracker_manager_msg(r->t, 2, &(struct msg){.type = MSG_AppListRequest}, r->now);
	assert_int_equal(r->closed, 2); /* no hello before */
	assert_int_equal(r->answers, 0);
	tracker_manager_msg(r->t, 2, &(struct msg){.type = MSG_AppListRequest}, r->now);
	tracker_manager_msg(r->t, 99, &(struct msg){.type = MSG_CommonAck}, r->now);
	assert_int_equal(r->answers, 0);
	rec_free(r);
}

static void test_load(void **state)
{
	(void)state;
	struct rec *r = rec_new();
	struct tracker_entry e = {
		.manager = id_of(1001), .node = id_of(1), .app = "a", .type = "t"};
	rec_start(r);
	assert_int_equal(tracker_load(r->t, &e, r->now), 0);
	manager(r, 2, 2);
	assert_int_equal(list(r, 2, APP_LIST_BY_NAME, "a", 0)->apps_count, 1);
	rec_sleep(r, r->config.grace_us);
	assert_int_equal(tracker_count(r->t), 0);
	rec_free(r);
}

/* Random work against an array that does the obvious. */
#define MODEL_NODES 4
#define MODEL_APPS 6

static void test_against_naive(void **state)
{
	(void)state;
	struct rec *r = rec_new();
	unsigned type_of[MODEL_NODES][MODEL_APPS] = {0};
	uint32_t x = 3;
	rec_start(r);
	manager(r, 1, 1);
	for (unsigned step = 0; step < 20000; step++) {
		x = x * 1664525u + 1013904223u;
		unsigned node = (x >> 9) % MODEL_NODES, app = (x >> 14) % MODEL_APPS,
			 type = 1 + (x >> 19) % 3, what = (x >> 25) % 8;
		char name[8], kind[8];
		snprintf(name, sizeof name, "a%u", app);
		snprintf(kind, sizeof kind, "t%u", type);
		if (what < 4) {
			say(r, 1, APP_OP_ADD, node + 1, name, kind);
			type_of[node][app] = type;
		} else if (what < 6) {
			uint16_t code = say(r, 1, APP_OP_REMOVE, node + 1, name, "");
			assert_int_equal(code, type_of[node][app] ? CODE_OK : CODE_NOT_FOUND);
			type_of[node][app] = 0;
		} else if (what == 6 && step % 5 == 0) {
			say(r, 1, APP_OP_NODE_GONE, node + 1, "", "");
			memset(type_of[node], 0, sizeof type_of[node]);
		}
		unsigned of_type = 0, of_name = 0;
		for (unsigned n = 0; n < MODEL_NODES; n++)
			for (unsigned a = 0; a < MODEL_APPS; a++) {
				of_type += type_of[n][a] == type;
				of_name += a == app && type_of[n][a];
			}
		assert_int_equal(list(r, 1, APP_LIST_BY_TYPE, kind, 0)->apps_count, of_type);
		assert_int_equal(list(r, 1, APP_LIST_BY_NAME, name, 0)->apps_count, of_name);
	}
	rec_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lists),	      cmocka_unit_test(test_pages),
		cmocka_unit_test(test_limits),	      cmocka_unit_test(test_manager_goes),
		cmocka_unit_test(test_strangers),     cmocka_unit_test(test_load),
		cmocka_unit_test(test_against_naive),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
