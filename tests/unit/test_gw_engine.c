/* The gateway's decisions with a recorder in place of store and tunnels. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"
#include "gatewayd/engine.h"

#define ROWS 600
#define T0 1000u

/* What a disk and a tunnel would hold. */
struct world {
	struct lease rows[ROWS]; /* saved; sid empty: free */
	size_t saved, tunnels, opened, closed;
	int save_rc, delete_rc, open_rc; /* errors to inject */
	uint8_t random;
	uint64_t rate_kbps, count_up, count_down;
	bool counts;		/* the host has counters */
	struct account account; /* saved last */
	char events[512];	/* names, one after the other */
};

static struct lease *row_find(struct world *w, const char *sid)
{
	for (size_t i = 0; i < ROWS; i++)
		if (strcmp(w->rows[i].sid, sid) == 0)
			return &w->rows[i];
	return NULL;
}

static int lease_save(void *ctx, const struct lease *l)
{
	struct world *w = ctx;
	struct lease *row = row_find(w, l->sid);

	if (w->save_rc)
		return w->save_rc;
	if (!row) {
		row = row_find(w, "");
		w->saved++;
	}
	assert_non_null(row);
	*row = *l;
	row->options = NULL;
	return 0;
}

static int lease_delete(void *ctx, const char *sid)
{
	struct world *w = ctx;
	struct lease *row = row_find(w, sid);

	if (w->delete_rc)
		return w->delete_rc;
	if (row) {
		*row = (struct lease){0};
		w->saved--;
	}
	return 0;
}

static int tunnel_open(void *ctx, struct lease *l, char *why)
{
	struct world *w = ctx;

	assert_non_null(row_find(w, l->sid)); /* durable first */
	if (w->open_rc) {
		snprintf(why, GW_WHY_MAX, "no tunnel today");
		return w->open_rc;
	}
	snprintf(l->interface, sizeof(l->interface), "mgw0");
	l->source4 = l->ip4;
	l->source6 = l->ip6;
	w->opened++;
	w->tunnels++;
	return 0;
}

static void tunnel_close(void *ctx, const struct lease *l)
{
	struct world *w = ctx;

	assert_string_equal(l->interface, "mgw0");
	assert_true(w->tunnels > 0);
	w->tunnels--;
	w->closed++;
}

static void random_bytes(void *ctx, void *out, size_t len)
{
	struct world *w = ctx;

	memset(out, ++w->random, len);
}

static void event(void *ctx, enum gw_event kind, const struct lease *l)
{
	struct world *w = ctx;
	size_t len = strlen(w->events);

	snprintf(w->events + len, sizeof w->events - len, "%s ", gw_event_name(kind));
	assert_int_equal(l == NULL,
			 kind == GW_EVENT_UPLINK_ONLINE || kind == GW_EVENT_UPLINK_OFFLINE);
}

static void rate_set(void *ctx, const struct lease *l)
{
	struct world *w = ctx;

	w->rate_kbps = l->rate_now_kbps;
}

static bool lease_count(void *ctx, const struct lease *l, uint64_t *up, uint64_t *down)
{
	struct world *w = ctx;

	(void)l;
	*up = w->count_up;
	*down = w->count_down;
	return w->counts;
}

static int account_load(void *ctx, const char *who, uint32_t month, uint64_t *up, uint64_t *down)
{
	struct world *w = ctx;

	if (strcmp(w->account.who, who) != 0 || w->account.month != month)
		return -ENOENT;
	*up = w->account.up_bytes;
	*down = w->account.down_bytes;
	return 0;
}

static int account_save(void *ctx, const struct account *a)
{
	struct world *w = ctx;

	w->account = *a;
	return 0;
}

static int usage_save(void *ctx, const struct lease *l)
{
	struct world *w = ctx;
	struct lease *row = row_find(w, l->sid);

	row->up_bytes = l->up_bytes;
	row->down_bytes = l->down_bytes;
	return 0;
}

static int code_find(void *ctx, const char *code, char name[LEASE_NAME_MAX + 1])
{
	(void)ctx;
	if (strcmp(code, "sesame") != 0)
		return -ENOENT;
	snprintf(name, LEASE_NAME_MAX + 1, "anna");
	return 0;
}

static const struct gw_ops ops = {
	.rate_set = rate_set,
	.lease_count = lease_count,
	.account_load = account_load,
	.account_save = account_save,
	.usage_save = usage_save,
	.code_find = code_find,
	.lease_save = lease_save,
	.lease_delete = lease_delete,
	.tunnel_open = tunnel_open,
	.tunnel_close = tunnel_close,
	.random_bytes = random_bytes,
	.event = event,
};

struct fixture {
	struct world w;
	struct gw_engine *e;
	struct gw_terms terms;
	const struct lease *lease;
	struct gw_refusal why;
};

static void start(struct fixture *f, const char *pool4, const char *pool6)
{
	assert_int_equal(gw_engine_new(&f->e, pool4, pool6, &f->terms, 5, &ops, &f->w), 0);
	assert_int_equal(gw_engine_add_method(f->e, "mesh", true), 0);
	assert_int_equal(gw_engine_add_method(f->e, "null", false), 0);
	gw_engine_set_ready(f->e, "mesh", true);
	gw_engine_set_ready(f->e, "null", true);
	gw_engine_set_uplink(f->e, &(struct gw_uplink){.online = true, .checked_s = T0});
}

static int setup(void **state)
{
	static struct fixture f;

	memset(&f, 0, sizeof(f));
	f.terms = (struct gw_terms){
		.max_subscribers = 8, .sessions_per_host = 3, .lease_s = 60, .rate_kbps = 500};
	start(&f, "10.66.0.0/24", "fd00:66::/64");
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(f->w.tunnels, gw_engine_lease_count(f->e));
	gw_engine_free(f->e);
	return 0;
}

static struct lease_binding host(const char *address)
{
	struct lease_binding b = {0};

	assert_int_equal(net_addr_parse(&b.host, address, 0), 0);
	return b;
}

static struct lease_binding app(struct lease_binding b, uint8_t node, const char *name)
{
	b.node.b[5] = node;
	snprintf(b.app, sizeof(b.app), "%s", name);
	return b;
}

static struct lease_binding mesh(uint8_t node, const char *name)
{
	return app((struct lease_binding){.proven = true}, node, name);
}

/* Renews and settles: what stands then counts. */
static bool renew(struct fixture *f, const char *sid, const struct lease_binding *who,
		  uint64_t now_s)
{
	bool done = gw_engine_renew(f->e, sid, who, now_s, &f->lease, &f->why);

	gw_engine_settle(f->e, 0);
	return done;
}

static bool ask(struct fixture *f, const char *sid, const char *method, struct lease_binding who,
		uint64_t now_s)
{
	struct gw_request req = {.sid = sid,
				 .name = "sub",
				 .method = method,
				 .options = "{}",
				 .port = 7,
				 .who = who};

	memset(&f->why, 0, sizeof(f->why));
	f->lease = NULL;
	if (!gw_engine_request(f->e, &req, now_s, &f->lease, &f->why))
		return false;
	gw_engine_settle(f->e, 0);
	return true;
}

#define assert_refused(f, is_temporary, words)                                                     \
	do {                                                                                       \
		assert_int_equal((f)->why.temporary, is_temporary);                                \
		assert_non_null(strstr((f)->why.text, words));                                     \
	} while (0)

static void assert_ip(const struct net_addr *a, const char *text)
{
	char got[NET_ADDR_TEXT];

	assert_string_equal(net_addr_ip_text(a, got), text);
}

static void test_grant(void **state)
{
	struct fixture *f = *state;

	assert_true(ask(f, NULL, "mesh", mesh(1, "sub"), T0));
	assert_string_equal(f->lease->sid, "01010101010101010101010101010101");
	assert_string_equal(f->lease->name, "sub");
	assert_string_equal(f->lease->options, "{}");
	assert_ip(&f->lease->ip4, "10.66.0.2");
	assert_ip(&f->lease->ip6, "fd00:66::2");
	assert_int_equal(f->lease->granted_s, T0);
	assert_int_equal(f->lease->expires_s, T0 + 60);
	assert_int_equal(f->lease->rate_kbps, 500);
	assert_int_equal(f->w.saved, 1);
	assert_ptr_equal(gw_engine_lease_of(f->e, "mesh", &f->lease->who.node, "sub"), f->lease);
	assert_int_equal(gw_engine_free_slots(f->e), 7);
	assert_true(ask(f, "mine", "mesh", mesh(2, "sub"), T0));
	assert_string_equal(f->lease->sid, "mine");
	assert_ip(&f->lease->ip4, "10.66.0.3");
	assert_int_equal(gw_engine_next_s(f->e), T0 + 60);
}

static void test_idempotent(void **state)
{
	struct fixture *f = *state;
	const struct lease *first;

	/* same sid */
	assert_true(ask(f, "mine", "mesh", app(host("10.0.0.5:1"), 1, "sub"), T0));
	first = f->lease;
	assert_true(ask(f, "mine", "mesh", app(host("10.0.0.5:2"), 1, "sub"), T0 + 9));
	assert_ptr_equal(f->lease, first);
	assert_int_equal(first->expires_s, T0 + 60);
	/* coming back late renews, durably */
	assert_true(ask(f, "mine", "mesh", app(host("10.0.0.5"), 1, "sub"), T0 + 30));
	assert_ptr_equal(f->lease, first);
	assert_int_equal(first->expires_s, T0 + 90);
	assert_int_equal(row_find(&f->w, "mine")->expires_s, T0 + 90);
	/* no sid, same binding and method */
	assert_true(ask(f, NULL, "mesh", app(host("10.0.0.5"), 1, "sub"), T0 + 31));
	assert_ptr_equal(f->lease, first);
	assert_true(ask(f, NULL, "null", host("10.0.0.5"), T0 + 31));
	first = f->lease;
	assert_true(ask(f, NULL, "null", host("10.0.0.5"), T0 + 31));
	assert_ptr_equal(f->lease, first);
	/* even while nobody new is served */
	gw_engine_set_uplink(f->e, &(struct gw_uplink){.checked_s = T0});
	assert_true(ask(f, "mine", "mesh", mesh(1, "sub"), T0 + 31));
	assert_int_equal(gw_engine_lease_count(f->e), 2);
	assert_int_equal(f->w.opened, 2);
	/* another method under the same sid is a mistake */
	assert_false(ask(f, "mine", "null", app(host("10.0.0.5"), 1, "sub"), T0));
	assert_refused(f, false, "mesh");
}

static void test_method_choice(void **state)
{
	struct fixture *f = *state;

	assert_false(ask(f, NULL, "wireguard", mesh(1, "sub"), T0));
	assert_refused(f, false, "mesh, null");
	assert_false(ask(f, NULL, NULL, mesh(1, "sub"), T0));
	assert_refused(f, false, "mesh, null");
	assert_false(ask(f, NULL, "mesh", host("10.0.0.5"), T0));
	assert_refused(f, false, "options");
	gw_engine_set_ready(f->e, "mesh", false);
	assert_false(ask(f, NULL, "mesh", mesh(1, "sub"), T0));
	assert_refused(f, true, "not ready");
	assert_int_equal(f->w.saved, 0);
	assert_int_equal(gw_engine_add_method(f->e, "mesh", true), -EEXIST);
	assert_int_equal(gw_engine_add_method(f->e, "", true), -EINVAL);
}

static void test_uplink(void **state)
{
	struct fixture *f = *state;

	gw_engine_set_uplink(f->e, &(struct gw_uplink){0});
	assert_false(ask(f, NULL, "null", host("10.0.0.5"), T0));
	assert_refused(f, true, "not yet proven");
	gw_engine_set_uplink(f->e, &(struct gw_uplink){.checked_s = T0});
	assert_false(ask(f, NULL, "null", host("10.0.0.5"), T0));
	assert_refused(f, true, "down");
	gw_engine_set_uplink(f->e, &(struct gw_uplink){.online = true, .checked_s = T0});
	assert_true(ask(f, NULL, "null", host("10.0.0.5"), T0));
	/* who holds a lease keeps it while the uplink is away */
	gw_engine_set_uplink(f->e, &(struct gw_uplink){.checked_s = T0});
	assert_true(renew(f, f->lease->sid, &f->lease->who, T0 + 30));
	assert_int_equal(f->lease->expires_s, T0 + 90);
}

static void test_renew_release(void **state)
{
	struct fixture *f = *state;
	struct lease_binding me = mesh(1, "sub"), you = mesh(2, "sub"), inside = host("10.66.0.2");
	struct lease_binding out = host("10.0.0.9");

	assert_true(ask(f, "s", "mesh", me, T0));
	assert_true(renew(f, "s", &me, T0 + 59));
	assert_int_equal(f->lease->expires_s, T0 + 119);
	assert_int_equal(row_find(&f->w, "s")->expires_s, T0 + 119);
	assert_true(renew(f, "s", &inside, T0 + 60));
	/* what is promised is not taken back by a shorter lease time or a clock set back */
	f->terms.lease_s = 5;
	gw_engine_set_terms(f->e, &f->terms);
	assert_true(renew(f, "s", &me, T0 + 61));
	assert_int_equal(f->lease->expires_s, T0 + 120);
	/* others learn nothing: the same words as for a sid that does not exist */
	assert_false(renew(f, "s", &you, T0));
	assert_refused(f, false, "no such session");
	assert_false(gw_engine_release(f->e, "s", &out, T0, &f->why));
	assert_refused(f, false, "no such session");
	assert_false(gw_engine_release(f->e, "t", &me, T0, &f->why));
	assert_refused(f, false, "no such session");
	assert_true(gw_engine_release(f->e, "s", &me, T0, &f->why));
	assert_int_equal(f->w.saved, 0);
	assert_false(gw_engine_release(f->e, "s", &me, T0, &f->why));
	assert_int_equal(gw_engine_free_slots(f->e), 8);
	assert_int_equal(gw_engine_next_s(f->e), GW_NEVER);
	assert_non_null(strstr(f->w.events,
			       "lease.granted lease.renewed lease.renewed lease.renewed "
			       "lease.released "));
	assert_null(strstr(f->w.events, "lease.expired"));
}

static void test_expiry(void **state)
{
	struct fixture *f = *state;
	struct lease_binding me = mesh(1, "sub");

	assert_true(ask(f, "a", "mesh", me, T0));
	assert_true(ask(f, "b", "mesh", mesh(2, "sub"), T0 + 10));
	gw_engine_run(f->e, T0 + 59);
	assert_int_equal(gw_engine_lease_count(f->e), 2);
	gw_engine_run(f->e, T0 + 60);
	assert_int_equal(gw_engine_lease_count(f->e), 1);
	assert_null(row_find(&f->w, "a"));
	assert_int_equal(gw_engine_next_s(f->e), T0 + 70);
	/* over is over, also when nobody ran the timers */
	me = mesh(2, "sub");
	assert_false(renew(f, "b", &me, T0 + 70));
	assert_int_equal(gw_engine_lease_count(f->e), 0);
	/* a row that cannot be deleted does not keep the address */
	assert_true(ask(f, "c", "mesh", me, T0 + 70));
	f->w.delete_rc = -EIO;
	gw_engine_run(f->e, T0 + 200);
	assert_int_equal(gw_engine_lease_count(f->e), 0);
	assert_int_equal(pool_left(gw_engine_pool4(f->e)), 253);
}

static void test_strangers(void **state)
{
	struct fixture *f = *state;
	struct lease_binding squatter = app(host("10.0.0.66"), 1, "sub");
	char sid[SID_MAX + 1];

	/* somebody else's sid */
	assert_true(ask(f, "s", "mesh", mesh(1, "sub"), T0));
	assert_false(ask(f, "s", "mesh", mesh(2, "sub"), T0));
	assert_refused(f, false, "cannot be used");
	assert_false(ask(f, "s", "mesh", squatter, T0));
	assert_refused(f, false, "cannot be used");
	/* somebody else's app, named over HTTP: neither the lease nor its sid */
	assert_false(ask(f, NULL, "mesh", squatter, T0));
	assert_refused(f, true, "no session");
	assert_null(strstr(f->why.text, "s\""));
	assert_int_equal(gw_engine_lease_count(f->e), 1);
	/* who claims an app first gives way to the app itself, which gets a sid of its own */
	squatter = app(host("10.0.0.66"), 3, "sub");
	assert_true(ask(f, NULL, "mesh", squatter, T0));
	snprintf(sid, sizeof(sid), "%s", f->lease->sid);
	assert_true(ask(f, NULL, "mesh", mesh(3, "sub"), T0));
	assert_string_not_equal(f->lease->sid, sid);
	assert_true(f->lease->who.proven);
	assert_false(gw_engine_release(f->e, f->lease->sid, &squatter, T0, &f->why));
	assert_int_equal(gw_engine_lease_count(f->e), 2);
}

static struct lease_binding keyed(const char *address, uint8_t key, uint64_t stamp)
{
	struct lease_binding b = host(address);

	b.key.b[3] = key;
	b.stamp = stamp;
	return b;
}

/* Who has the key goes on at another address, and nobody else does, what calls they recorded. */
static void test_owner(void **state)
{
	struct fixture *f = *state;
	struct lease_binding c;
	struct net_addr ip4;

	assert_true(ask(f, NULL, "null", keyed("10.0.0.5", 1, 5), T0));
	char sid[SID_MAX + 1];
	snprintf(sid, sizeof(sid), "%s", f->lease->sid);
	ip4 = f->lease->ip4;
	assert_true(ask(f, sid, "null", keyed("10.0.0.5", 1, 5), T0)); /* sent twice */
	/* recorded, and repeated from elsewhere; without the key; with another */
	assert_false(ask(f, sid, "null", keyed("10.0.0.6", 1, 5), T0));
	assert_refused(f, false, "a later call");
	assert_false(ask(f, NULL, "null", keyed("10.0.0.6", 1, 4), T0));
	assert_refused(f, false, "a later call");
	assert_false(ask(f, sid, "null", host("10.0.0.6"), T0));
	assert_refused(f, false, "cannot be used");
	assert_false(ask(f, sid, "null", keyed("10.0.0.6", 2, 9), T0));
	assert_refused(f, false, "cannot be used");
	/* behind the same address translation */
	assert_false(ask(f, sid, "null", host("10.0.0.5"), T0));
	assert_refused(f, false, "cannot be used");
	assert_true(ask(f, NULL, "null", keyed("10.0.0.5", 2, 1), T0));
	assert_string_not_equal(f->lease->sid, sid);
	c = host("10.0.0.5");
	assert_false(gw_engine_release(f->e, sid, &c, T0, &f->why));
	/* the owner, from elsewhere */
	assert_int_equal(f->w.closed, 0);
	assert_true(ask(f, sid, "null", keyed("10.0.0.7", 1, 6), T0));
	assert_string_equal(f->lease->sid, sid);
	assert_true(net_addr_equal(&f->lease->ip4, &ip4));
	assert_int_equal(f->w.closed, 1);
	assert_ip(&row_find(&f->w, sid)->who.host, "10.0.0.7");
	assert_int_equal(row_find(&f->w, sid)->who.stamp, 6);
	assert_true(ask(f, NULL, "null", keyed("10.0.0.7", 1, 7), T0)); /* without its sid */
	assert_string_equal(f->lease->sid, sid);
	assert_int_equal(f->w.closed, 1);
	assert_int_equal(row_find(&f->w, sid)->who.stamp, 7);
	assert_false(ask(f, sid, "null", keyed("10.0.0.5", 1, 5), T0));
	assert_refused(f, false, "a later call");
	/* renewed and released from anywhere, each call once */
	c = keyed("10.0.0.8", 1, 8);
	assert_true(renew(f, sid, &c, T0 + 1));
	assert_int_equal(row_find(&f->w, sid)->who.stamp, 8);
	assert_ip(&f->lease->who.host, "10.0.0.7");
	assert_false(renew(f, sid, &c, T0 + 1));
	assert_false(gw_engine_release(f->e, sid, &c, T0 + 1, &f->why));
	c.stamp = 9;
	assert_true(gw_engine_release(f->e, sid, &c, T0 + 1, &f->why));
	assert_int_equal(gw_engine_lease_count(f->e), 1);
}

/* It cannot follow its owner: on a full disk all stays as it was, without a tunnel it is over. */
static void test_owner_moves_in_vain(void **state)
{
	struct fixture *f = *state;

	assert_true(ask(f, "s", "null", keyed("10.0.0.5", 1, 1), T0));
	f->w.save_rc = -ENOSPC;
	assert_false(ask(f, "s", "null", keyed("10.0.0.6", 1, 2), T0));
	assert_refused(f, true, "disk is full");
	f->w.save_rc = 0;
	assert_ip(&gw_engine_lease(f->e, "s")->who.host, "10.0.0.5");
	assert_int_equal(gw_engine_lease(f->e, "s")->who.stamp, 1);
	assert_int_equal(f->w.closed, 0);
	f->w.open_rc = -EIO;
	assert_false(ask(f, "s", "null", keyed("10.0.0.6", 1, 3), T0));
	assert_refused(f, true, "no tunnel today");
	f->w.open_rc = 0;
	assert_int_equal(gw_engine_lease_count(f->e), 0);
	assert_null(row_find(&f->w, "s"));
	assert_int_equal(pool_left(gw_engine_pool4(f->e)), 253);
}

/* A subscriber that lost its sid and makes another gets a new lease in place of the old one. */
static void test_new_sid(void **state)
{
	struct fixture *f = *state;

	assert_true(ask(f, "old", "mesh", mesh(1, "sub"), T0));
	assert_true(ask(f, "new", "mesh", mesh(1, "sub"), T0));
	assert_string_equal(f->lease->sid, "new");
	assert_int_equal(gw_engine_lease_count(f->e), 1);
	assert_null(row_find(&f->w, "old"));
}

static void test_limits(void **state)
{
	struct fixture *f = *state;
	char sid[16];

	for (int i = 0; i < 3; i++) {
		snprintf(sid, sizeof(sid), "a%d", i);
		assert_true(ask(f, sid, "null", host("10.0.0.5"), T0));
	}
	assert_false(ask(f, "a3", "null", host("10.0.0.5"), T0));
	assert_refused(f, true, "too many sessions");
	for (uint8_t i = 0; i < 5; i++)
		assert_true(ask(f, NULL, "mesh", mesh(i + 1, "sub"), T0));
	assert_int_equal(gw_engine_free_slots(f->e), 0);
	assert_false(ask(f, NULL, "mesh", mesh(9, "sub"), T0));
	assert_refused(f, true, "full");
	assert_true(ask(f, NULL, "mesh", mesh(1, "sub"), T0)); /* its own again */
	gw_engine_run(f->e, T0 + 60);
	assert_true(ask(f, NULL, "mesh", mesh(9, "sub"), T0 + 60));
}

static void test_pool_exhausted(void **state)
{
	struct fixture *f = *state;
	struct lease_binding me = mesh(2, "sub");

	gw_engine_free(f->e);
	start(f, "10.66.0.0/29", "fd00:66::/126"); /* 5 and 2 */
	assert_int_equal(gw_engine_free_slots(f->e), 2);
	assert_true(ask(f, NULL, "mesh", mesh(1, "sub"), T0));
	assert_true(ask(f, "b", "mesh", mesh(2, "sub"), T0));
	assert_false(ask(f, NULL, "mesh", mesh(3, "sub"), T0));
	assert_refused(f, true, "no free address");
	assert_int_equal(pool_left(gw_engine_pool4(f->e)), 0); /* as small as the other */
	assert_true(gw_engine_release(f->e, "b", &me, T0, &f->why));
	assert_true(ask(f, NULL, "mesh", mesh(3, "sub"), T0));
	assert_ip(&f->lease->ip6, "fd00:66::3");
}

static void test_store_errors(void **state)
{
	struct fixture *f = *state;
	struct lease_binding me = mesh(1, "sub");

	f->w.save_rc = -ENOSPC;
	assert_false(ask(f, NULL, "mesh", me, T0));
	assert_refused(f, true, "disk is full");
	assert_int_equal(gw_engine_lease_count(f->e), 0);
	assert_int_equal(pool_left(gw_engine_pool4(f->e)), 253);
	assert_int_equal(f->w.opened, 0);
	f->w.save_rc = -EIO;
	assert_false(ask(f, NULL, "mesh", me, T0));
	assert_refused(f, true, "cannot record");
	f->w.save_rc = 0;
	assert_true(ask(f, "s", "mesh", me, T0));
	/* a renewal that is not durable is none */
	f->w.save_rc = -ENOSPC;
	assert_false(renew(f, "s", &me, T0 + 30));
	assert_refused(f, true, "disk is full");
	assert_int_equal(gw_engine_next_s(f->e), T0 + 60);
	/* nor is a release */
	f->w.delete_rc = -EIO;
	assert_false(gw_engine_release(f->e, "s", &me, T0 + 30, &f->why));
	assert_int_equal(f->why.temporary, true);
	assert_int_equal(gw_engine_lease_count(f->e), 1);
	f->w.delete_rc = 0;
	assert_true(gw_engine_release(f->e, "s", &me, T0 + 30, &f->why));
}

/* The transaction of a turn fails: all that was granted or extended in it is taken back. */
static void test_unsettled(void **state)
{
	struct fixture *f = *state;
	struct lease_binding one = mesh(1, "sub"), two = mesh(2, "sub");
	struct gw_request req = {.sid = "two", .method = "mesh", .who = two};

	assert_true(ask(f, "one", "mesh", one, T0));
	assert_true(gw_engine_renew(f->e, "one", &one, T0 + 10, &f->lease, &f->why));
	assert_true(gw_engine_renew(f->e, "one", &one, T0 + 20, &f->lease, &f->why));
	assert_true(gw_engine_request(f->e, &req, T0 + 20, &f->lease, &f->why));
	assert_true(gw_engine_unsettled(f->e));
	assert_int_equal(gw_engine_lease_count(f->e), 2);
	assert_int_equal(gw_engine_counters(f->e)->granted, 1);
	gw_engine_settle(f->e, -ENOSPC);
	assert_false(gw_engine_unsettled(f->e));
	assert_int_equal(gw_engine_lease_count(f->e), 1);
	assert_null(gw_engine_lease(f->e, "two"));
	assert_int_equal(f->w.tunnels, 1);
	assert_int_equal(pool_left(gw_engine_pool4(f->e)), 252);
	assert_int_equal(gw_engine_next_s(f->e), T0 + 60);
	assert_string_equal(f->w.events, "uplink.online lease.granted ");
	/* One that is released before the settlement is none of its business. */
	assert_true(gw_engine_request(f->e, &req, T0 + 20, &f->lease, &f->why));
	assert_true(gw_engine_release(f->e, "two", &two, T0 + 20, &f->why));
	assert_false(gw_engine_unsettled(f->e));
	/* An administrator ends what nobody released. */
	assert_true(gw_engine_end(f->e, "one"));
	assert_false(gw_engine_end(f->e, "one"));
	assert_int_equal(f->w.tunnels, 0);
}

/* What the host's counters say at one moment. */
static void count(struct fixture *f, const char *ip, uint64_t up, uint64_t down)
{
	struct net_addr a;

	assert_int_equal(net_addr_parse(&a, ip, 0), 0);
	gw_engine_count_begin(f->e);
	gw_engine_count(f->e, &a, true, up);
	gw_engine_count(f->e, &a, false, down);
	gw_engine_count_end(f->e);
}

static void test_usage(void **state)
{
	struct fixture *f = *state;
	struct lease_binding me = mesh(1, "sub");
	static struct lease saved;

	gw_engine_set_month(f->e, 202611);
	assert_true(ask(f, "s", "mesh", me, T0));
	count(f, "10.66.0.2", 100, 1000);
	count(f, "fd00:66::2", 130, 1000);
	assert_int_equal(f->lease->up_bytes, 130);
	assert_int_equal(f->lease->down_bytes, 1000);
	assert_int_equal(f->w.account.up_bytes, 130);
	assert_int_equal(f->w.account.month, 202611);
	assert_memory_equal(f->w.account.who, "node:0000000000", 15);
	/* The host's table was made anew: its counters begin again. */
	count(f, "10.66.0.2", 5, 7);
	assert_int_equal(f->lease->up_bytes, 135);
	gw_engine_counters_reset(f->e);
	count(f, "10.66.0.2", 50, 7);
	assert_int_equal(f->lease->up_bytes, 185);
	assert_int_equal(f->lease->down_bytes, 1014);
	assert_int_equal(row_find(&f->w, "s")->up_bytes, 185);
	/* Nobody's address is nobody's. */
	count(f, "10.66.0.9", 50, 7);
	assert_int_equal(f->lease->up_bytes, 185 + 0);
	/* A restart: what was used was, and the account is the same. */
	saved = *row_find(&f->w, "s");
	gw_engine_free(f->e);
	f->w.tunnels = 0;
	start(f, "10.66.0.0/24", "fd00:66::/64");
	gw_engine_set_month(f->e, 202611);
	assert_int_equal(gw_engine_restore(f->e, &saved, T0 + 1), 0);
	f->lease = gw_engine_lease(f->e, "s");
	assert_int_equal(f->lease->up_bytes, 185);
	assert_int_equal(account_used(f->lease->account), 185 + 1014);
	/* The last before its end counts. */
	f->w.counts = true;
	f->w.count_up = 15;
	assert_true(gw_engine_release(f->e, "s", &me, T0 + 2, &f->why));
	assert_int_equal(f->w.account.up_bytes, 200);
	/* A new month. */
	f->w.counts = false;
	gw_engine_set_month(f->e, 202612);
	assert_true(ask(f, "s", "mesh", me, T0 + 3));
	assert_int_equal(account_used(f->lease->account), 0);
	count(f, "10.66.0.2", 1, 0);
	gw_engine_set_month(f->e, 202701);
	assert_int_equal(account_used(f->lease->account), 0);
	assert_int_equal(f->lease->up_bytes, 1);
}

static void test_quota_slows_down(void **state)
{
	struct fixture *f = *state;

	f->terms.month_quota_bytes = 1000;
	f->terms.step_down_kbps = 64;
	gw_engine_set_terms(f->e, &f->terms);
	gw_engine_set_month(f->e, 202611);
	/* Two leases of one subscriber, one of another. */
	assert_true(ask(f, "a", "mesh", mesh(1, "x"), T0));
	assert_true(ask(f, "b", "mesh", mesh(1, "y"), T0));
	assert_true(ask(f, "c", "mesh", mesh(2, "x"), T0));
	assert_int_equal(f->lease->rate_now_kbps, 500);
	count(f, "10.66.0.2", 500, 499);
	assert_int_equal(gw_engine_lease(f->e, "a")->rate_now_kbps, 500);
	count(f, "10.66.0.3", 0, 1);
	assert_int_equal(gw_engine_lease(f->e, "a")->rate_now_kbps, 64);
	assert_int_equal(gw_engine_lease(f->e, "b")->rate_now_kbps, 64);
	assert_int_equal(gw_engine_lease(f->e, "c")->rate_now_kbps, 500);
	assert_int_equal(f->w.rate_kbps, 64);
	assert_non_null(strstr(f->w.events, "lease.quota"));
	/* One more lease is slow from the beginning. */
	assert_true(ask(f, "d", "mesh", mesh(1, "z"), T0));
	assert_int_equal(f->lease->rate_now_kbps, 64);
	gw_engine_set_month(f->e, 202612);
	count(f, "10.66.0.3", 0, 1);
	assert_int_equal(gw_engine_lease(f->e, "a")->rate_now_kbps, 500);
	assert_int_equal(f->w.rate_kbps, 500);
}

static void test_quota_ends(void **state)
{
	struct fixture *f = *state;
	struct lease_binding me = mesh(1, "sub");

	f->terms.quota_bytes = 1000;
	f->terms.month_quota_bytes = 1500;
	gw_engine_set_terms(f->e, &f->terms);
	assert_true(ask(f, "a", "mesh", me, T0));
	count(f, "10.66.0.2", 900, 100);
	assert_null(gw_engine_lease(f->e, "a"));
	assert_null(row_find(&f->w, "a"));
	assert_true(ask(f, "b", "mesh", me, T0));
	count(f, "10.66.0.3", 0, 500);
	assert_int_equal(gw_engine_lease_count(f->e), 0);
	assert_false(ask(f, "c", "mesh", me, T0));
	assert_refused(f, true, "this month's quota");
	assert_true(ask(f, "c", "mesh", mesh(2, "sub"), T0));
	gw_engine_set_month(f->e, 1);
	assert_true(ask(f, "d", "mesh", me, T0));
}

static void test_codes(void **state)
{
	struct fixture *f = *state;
	struct gw_request req = {.sid = "s", .method = "null", .who = host("10.0.0.5")};

	f->terms.code_required = true;
	gw_engine_set_terms(f->e, &f->terms);
	assert_false(gw_engine_request(f->e, &req, T0, &f->lease, &f->why));
	assert_refused(f, false, "access code is needed");
	req.code = "wrong";
	for (unsigned i = 0; i < CODEGUARD_PER_HOST; i++) {
		assert_false(gw_engine_request(f->e, &req, T0, &f->lease, &f->why));
		assert_refused(f, false, "not known");
	}
	/* From now on not even the right one is looked at, from there. */
	req.code = "sesame";
	assert_false(gw_engine_request(f->e, &req, T0 + 59, &f->lease, &f->why));
	assert_refused(f, true, "too many wrong");
	req.who = host("10.0.0.6");
	assert_true(gw_engine_request(f->e, &req, T0 + 59, &f->lease, &f->why));
	gw_engine_settle(f->e, 0);
	assert_string_equal(f->lease->code, "anna");
	assert_string_equal(f->lease->account->who, "code:anna");
	/* Who has the lease needs no code to ask again. */
	req.code = NULL;
	assert_true(gw_engine_request(f->e, &req, T0 + 59, &f->lease, &f->why));
	req = (struct gw_request){
		.sid = "t", .method = "null", .who = host("10.0.0.5"), .code = "sesame"};
	assert_true(gw_engine_request(f->e, &req, T0 + 60, &f->lease, &f->why));
	gw_engine_settle(f->e, 0);
}

static void test_account_names(void **state)
{
	char who[ACCOUNT_WHO_MAX + 1], same[ACCOUNT_WHO_MAX + 1];
	struct lease_binding a = host("2001:db8:1:2::5"), b = host("2001:db8:1:2:3::9"),
			     v4 = app(host("10.0.0.5"), 1, "sub"), proven = mesh(0xab, "sub");

	(void)state;
	account_who(&a, "", who);
	account_who(&b, "", same);
	assert_string_equal(who, "host:2001:db8:1:2::/64");
	assert_string_equal(who, same);
	account_who(&v4, "", who); /* what a host says of its node is not taken for it */
	assert_string_equal(who, "host:10.0.0.5");
	account_who(&v4, "anna", who);
	assert_string_equal(who, "code:anna");
	account_who(&proven, "", who);
	assert_int_equal(strlen(who), 5 + 64);
}

static void test_tunnel_errors(void **state)
{
	struct fixture *f = *state;

	f->w.open_rc = -ENODEV;
	assert_false(ask(f, NULL, "mesh", mesh(1, "sub"), T0));
	assert_refused(f, true, "no tunnel today");
	f->w.open_rc = -EINVAL;
	assert_false(ask(f, NULL, "mesh", mesh(1, "sub"), T0));
	assert_refused(f, false, "no tunnel today");
	assert_int_equal(f->w.saved, 0);
	assert_int_equal(gw_engine_lease_count(f->e), 0);
	assert_int_equal(pool_left(gw_engine_pool6(f->e)), 253);
	f->w.open_rc = 0;
	assert_true(ask(f, NULL, "mesh", mesh(1, "sub"), T0));
}

/* kill -9: a new engine on the same store. */
static void test_restart(void **state)
{
	struct fixture *f = *state;
	static struct lease saved[3];
	struct lease bad;

	assert_true(ask(f, "a", "mesh", mesh(1, "sub"), T0));
	assert_true(ask(f, "b", "mesh", mesh(2, "sub"), T0 + 10));
	assert_true(ask(f, "c", "null", host("10.0.0.5"), T0 + 20));
	saved[0] = *row_find(&f->w, "a");
	saved[1] = *row_find(&f->w, "b");
	saved[2] = *row_find(&f->w, "c");
	gw_engine_free(f->e);
	assert_int_equal(f->w.closed, 0);
	f->w.tunnels = 0;

	f->terms.lease_s = 30;
	start(f, "10.66.0.0/24", "fd00:66::/64");
	assert_int_equal(gw_engine_restore(f->e, &saved[0], T0 + 60), -ESTALE);
	assert_null(row_find(&f->w, "a"));
	assert_int_equal(gw_engine_restore(f->e, &saved[1], T0 + 60), 0);
	assert_int_equal(gw_engine_restore(f->e, &saved[1], T0 + 60), -EEXIST);
	assert_int_equal(gw_engine_lease_count(f->e), 1);
	bad = saved[2]; /* an address that another lease has */
	bad.ip4 = saved[1].ip4;
	assert_int_equal(gw_engine_restore(f->e, &bad, T0 + 60), -ESTALE);
	bad = saved[2];
	snprintf(bad.method, sizeof(bad.method), "openvpn");
	assert_int_equal(gw_engine_restore(f->e, &bad, T0 + 60), -ESTALE);
	bad = saved[2];
	net_addr_parse(&bad.ip6, "fd00:67::2", 0);
	assert_int_equal(gw_engine_restore(f->e, &bad, T0 + 60), -ESTALE);
	assert_int_equal(pool_left(gw_engine_pool4(f->e)), 252);
	/* granted by a clock that ran ahead: cut to the present lease time */
	saved[2].expires_s = T0 + 100000;
	lease_save(&f->w, &saved[2]);
	assert_int_equal(gw_engine_restore(f->e, &saved[2], T0 + 60), 0);
	assert_true(ask(f, "c", "null", host("10.0.0.5"), T0 + 61));
	assert_int_equal(f->lease->expires_s, T0 + 90);
	assert_ip(&f->lease->ip4, "10.66.0.4");
	assert_int_equal(f->w.tunnels, 2);
	/* nobody new gets what they hold */
	assert_true(ask(f, NULL, "mesh", mesh(7, "sub"), T0 + 61));
	assert_ip(&f->lease->ip4, "10.66.0.2");
	assert_true(ask(f, NULL, "mesh", mesh(8, "sub"), T0 + 61));
	assert_ip(&f->lease->ip4, "10.66.0.5");
}

static uint32_t next_random(uint32_t *s)
{
	*s = *s * 1664525u + 1013904223u;
	return *s >> 8;
}

/* Whatever happens: no address twice, the store and the tunnels agree with the engine. */
static void assert_consistent(struct fixture *f)
{
	static bool seen[256];
	size_t n = 0;

	memset(seen, 0, sizeof(seen));
	for (const struct lease *l = NULL; (l = gw_engine_lease_after(f->e, l));) {
		assert_false(seen[l->ip4.ip[3]]);
		seen[l->ip4.ip[3]] = true;
		assert_true(l->ip4.ip[3] >= 2 && l->ip4.ip[3] != 255);
		assert_int_equal(row_find(&f->w, l->sid)->expires_s, l->expires_s);
		n++;
	}
	assert_int_equal(n, gw_engine_lease_count(f->e));
	assert_int_equal(n, f->w.tunnels);
	assert_int_equal(n, f->w.saved);
	assert_int_equal(pool_left(gw_engine_pool4(f->e)), 253 - n);
}

static void test_long_run(void **state)
{
	struct fixture *f = *state;
	uint32_t seed = 11;
	uint64_t now = T0;

	f->terms.max_subscribers = 300;
	gw_engine_set_terms(f->e, &f->terms);
	for (int i = 0; i < 6000; i++) {
		uint32_t r = next_random(&seed);
		struct lease_binding who = mesh((uint8_t)(r >> 3), "sub");
		char sid[16];

		f->w.save_rc = r % 17 == 0 ? -ENOSPC : 0;
		f->w.open_rc = r % 19 == 0 ? -ENODEV : 0;
		snprintf(sid, sizeof(sid), "s%u", (r >> 3) % 256);
		now += r % 5 == 0;
		if (r % 4 == 0)
			gw_engine_release(f->e, sid, &who, now, &f->why);
		else if (r % 4 == 1)
			renew(f, sid, &who, now);
		else
			ask(f, sid, r % 3 ? "mesh" : "null", who, now);
		gw_engine_run(f->e, now);
		if (i % 50 == 0)
			assert_consistent(f);
	}
	assert_true(gw_engine_counters(f->e)->granted > 100);
	assert_true(gw_engine_counters(f->e)->expired > 10);
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
		T(test_grant),	       T(test_idempotent),
		T(test_method_choice), T(test_uplink),
		T(test_renew_release), T(test_expiry),
		T(test_strangers),     T(test_new_sid),
		T(test_limits),	       T(test_pool_exhausted),
		T(test_store_errors),  T(test_unsettled),
		T(test_usage),	       T(test_quota_slows_down),
		T(test_quota_ends),    T(test_codes),
		T(test_account_names), T(test_tunnel_errors),
		T(test_restart),       T(test_long_run),
		T(test_owner),	       T(test_owner_moves_in_vain),
	};

	log_set_sink(quiet);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
