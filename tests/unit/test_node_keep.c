/* What a node keeps: the bytes, the file, and how the engine goes on from them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <event2/event.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "node/store.h"
#include "unit/node_ends.h"

/* --- bytes ----------------------------------------------------------------------------------- */

static void fill(struct keep_state *k, uint32_t transports, uint32_t rules)
{
	*k = (struct keep_state){.instance = 0x1122334455667788, .starts = 7};
	k->settings = (struct keep_settings){4u << 20, 1452, 1000, 1000000, 10000000, 30};
	randombytes_buf(k->manager.b, sizeof k->manager.b);
	k->transport_count = transports;
	k->rule_count = rules;
	k->transports = transports ? calloc(transports, sizeof *k->transports) : NULL;
	k->rules = rules ? calloc(rules, sizeof *k->rules) : NULL;
	for (uint32_t i = 0; i < transports; i++) {
		struct keep_transport *t = &k->transports[i];
		t->id = 10 + 3 * i;
		randombytes_buf(t->peer.b, sizeof t->peer.b);
		randombytes_buf(t->secret, sizeof t->secret);
		t->initiator = i % 2;
		t->port = (uint16_t)(15000 + i);
		if (i % 3)
			t->remote = (struct net_addr){4, {10, 0, 0, 1}, 15000};
		t->addr_count = (uint8_t)(i % (ADDRS_MAX + 1));
		for (uint8_t a = 0; a < t->addr_count; a++)
			t->addrs[a] = (struct net_addr){a % 2 ? 4 : 6, {10, a}, (uint16_t)(i + 1)};
	}
	for (uint32_t i = 0; i < rules; i++)
		k->rules[i] = (struct keep_rule){transports ? 10 + 3 * (i * transports / rules) : 0,
						 i + 1, 0, i};
}

static uint8_t *encode(const struct keep_state *k, size_t *len)
{
	*len = keep_encoded_size(k);
	uint8_t *out = malloc(*len);
	struct wbuf w = wbuf_init(out, *len);
	keep_encode(k, &w);
	assert_false(w.bad);
	assert_int_equal(wbuf_len(&w), *len);
	return out;
}

static void test_round_trip(void **state)
{
	static const uint32_t sizes[][2] = {{0, 0}, {1, 0}, {0, 3}, {5, 11}, {40, 1000}};

	(void)state;
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		struct keep_state k, got;
		size_t len, again;
		fill(&k, sizes[i][0], sizes[i][1]);
		uint8_t *bytes = encode(&k, &len);
		assert_int_equal(keep_decode(&got, bytes_of(bytes, len)), 0);
		assert_int_equal(got.starts, 7);
		assert_int_equal(got.transport_count, k.transport_count);
		assert_int_equal(got.rule_count, k.rule_count);
		assert_memory_equal(&got.settings, &k.settings, sizeof k.settings);
		uint8_t *second = encode(&got, &again);
		assert_int_equal(again, len);
		assert_memory_equal(second, bytes, len);
		free(bytes);
		free(second);
		keep_free(&k);
		keep_free(&got);
	}
}

static void expect_refused(const struct keep_state *k)
{
	struct keep_state got;
	size_t len;
	uint8_t *bytes = encode(k, &len);

	assert_int_equal(keep_decode(&got, bytes_of(bytes, len)), -EBADMSG);
	assert_null(got.transports);
	assert_null(got.rules);
	free(bytes);
}

static void test_refused(void **state)
{
	struct keep_state k, got;
	size_t len;

	(void)state;
	fill(&k, 3, 4);
	uint8_t *bytes = encode(&k, &len);
	for (size_t n = 0; n < len; n++)
		assert_int_equal(keep_decode(&got, bytes_of(bytes, n)), -EBADMSG);
	bytes = realloc(bytes, len + 1);
	bytes[len] = 0;
	assert_int_equal(keep_decode(&got, bytes_of(bytes, len + 1)), -EBADMSG);
	/* Counts that no file could hold take no memory. */
	memset(bytes + 32 + 8 + 4 + 24, 0xff, 8);
	assert_int_equal(keep_decode(&got, bytes_of(bytes, len)), -EBADMSG);
	free(bytes);
	k.transports[1].id = k.transports[0].id;
	expect_refused(&k);
	k.transports[1].id = 13;
	k.transports[0].id = 0;
	expect_refused(&k);
	k.transports[0].id = 10;
	k.transports[0].port = 0;
	expect_refused(&k);
	k.transports[0].port = 1;
	k.rules[3].out_transport = 11; /* there is none */
	expect_refused(&k);
	k.rules[3].out_transport = 16;
	k.rules[2] = k.rules[1];
	expect_refused(&k);
	keep_free(&k);
}

static void test_seal(void **state)
{
	uint8_t secret[32], other[32], nonce[KEEP_NONCE_BYTES], plain[300], sealed[400], out[400];
	size_t len = 0, total = sizeof plain + KEEP_SEAL_BYTES;

	(void)state;
	randombytes_buf(secret, sizeof secret);
	randombytes_buf(other, sizeof other);
	randombytes_buf(nonce, sizeof nonce);
	randombytes_buf(plain, sizeof plain);
	assert_int_equal(keep_seal(sealed, bytes_of(plain, sizeof plain), secret, nonce), 0);
	assert_int_equal(keep_open(out, &len, bytes_of(sealed, total), secret), 0);
	assert_int_equal(len, sizeof plain);
	assert_memory_equal(out, plain, len);
	assert_int_equal(keep_open(out, &len, bytes_of(sealed, total), other), -EBADMSG);
	for (size_t i = 0; i < total; i++) {
		assert_int_equal(keep_open(out, &len, bytes_of(sealed, i), secret), -EBADMSG);
		sealed[i] ^= 0x40;
		assert_int_equal(keep_open(out, &len, bytes_of(sealed, total), secret), -EBADMSG);
		sealed[i] ^= 0x40;
	}
}

/* --- the file -------------------------------------------------------------------------------- */

static struct keep_state taken;

static int take(void *ctx, struct keep_state *out)
{
	unsigned *asked = ctx;

	++*asked;
	fill(out, taken.transport_count, taken.rule_count);
	out->manager = taken.manager;
	for (uint32_t i = 0; i < out->transport_count; i++) {
		memset(out->transports[i].peer.b, 1, 32);
		memset(out->transports[i].secret, 2, 32);
	}
	return 0;
}

static void run_for(struct event_base *base, long ms)
{
	struct timeval tv = {ms / 1000, ms % 1000 * 1000};

	event_base_loopexit(base, &tv);
	event_base_dispatch(base);
}

static void test_file(void **state)
{
	char dir[] = "/tmp/node-keep-XXXXXX", path[64], beside[64];
	struct event_base *base = event_base_new();
	uint8_t secret[32] = {1}, other[32] = {2};
	unsigned asked = 0;
	struct keep_state k;
	struct stat st, later;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/node.state", dir);
	snprintf(beside, sizeof beside, "%s/node.state.new", dir);
	taken.transport_count = 2;
	struct node_store *s = node_store_new(base, dir, secret, take, &asked);
	assert_int_equal(node_store_load(s, &k), -ENOENT);
	for (int i = 0; i < 50; i++)
		node_store_changed(s);
	run_for(base, 500);
	assert_int_equal(asked, 1);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(access(beside, F_OK), -1);
	assert_int_equal(node_store_load(s, &k), 0);
	assert_int_equal(k.transport_count, 2);
	keep_free(&k);
	/* The same again is not written. */
	node_store_write_now(s);
	assert_int_equal(stat(path, &later), 0);
	assert_int_equal(later.st_ino, st.st_ino);
	taken.rule_count = 3;
	node_store_write_now(s);
	assert_int_equal(stat(path, &later), 0);
	assert_int_not_equal(later.st_ino, st.st_ino);
	assert_int_equal(node_store_load(s, &k), 0);
	assert_int_equal(k.rule_count, 3);
	keep_free(&k);
	node_store_free(s);

	s = node_store_new(base, dir, other, take, &asked);
	assert_int_equal(node_store_load(s, &k), -EBADMSG);
	/* Whatever is in the way: a warning. */
	assert_int_equal(mkdir(beside, 0700), 0);
	node_store_write_now(s);
	assert_int_equal(node_store_load(s, &k), -EBADMSG);
	assert_int_equal(rmdir(beside), 0);
	node_store_write_now(s);
	assert_int_equal(node_store_load(s, &k), 0);
	keep_free(&k);
	assert_int_equal(truncate(path, 20), 0);
	assert_int_equal(node_store_load(s, &k), -EBADMSG);
	assert_int_equal(truncate(path, (off_t)KEEP_MAX_BYTES + 1), 0);
	assert_int_equal(node_store_load(s, &k), -EBADMSG);
	node_store_remove(s);
	assert_int_equal(node_store_load(s, &k), -ENOENT);
	node_store_free(s);
	assert_int_equal(rmdir(dir), 0);
	event_base_free(base);
}

/* While the thread writes, or a second has not passed, changes wait; none gets lost. */
static void test_changes_come_together(void **state)
{
	char dir[] = "/tmp/node-keep-XXXXXX", path[64];
	struct event_base *base = event_base_new();
	uint8_t secret[32] = {1};
	unsigned asked = 0;
	struct keep_state k;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/node.state", dir);
	taken.transport_count = 1;
	struct node_store *s = node_store_new(base, dir, secret, take, &asked);
	for (uint32_t i = 0; i < 20; i++) {
		taken.rule_count = i;
		node_store_changed(s);
		run_for(base, 30);
	}
	assert_in_range(asked, 1, 2);
	run_for(base, 2000);
	assert_in_range(asked, 2, 3);
	assert_int_equal(node_store_load(s, &k), 0);
	assert_int_equal(k.rule_count, 19);
	keep_free(&k);
	node_store_free(s);
	unlink(path);
	assert_int_equal(rmdir(dir), 0);
	event_base_free(base);
}

/* --- the engine ------------------------------------------------------------------------------ */

static void all_away(struct ends *e)
{
	for (int i = 0; i < HOSTS; i++)
		node_engine_manager_down(e->w->hosts[i].engine, e->w->now);
}

/* kill -9: nothing is said to anybody.  What was kept goes through bytes. */
static void restart(struct host *h, struct keep_state *out)
{
	struct keep_state k;
	struct node_engine_config c;
	size_t len;

	assert_int_equal(node_engine_keep(h->engine, &k), 0);
	uint8_t *bytes = encode(&k, &len);
	keep_free(&k);
	assert_int_equal(keep_decode(&k, bytes_of(bytes, len)), 0);
	free(bytes);
	node_engine_free(h->engine);
	node_engine_config_init(&c);
	c.id = h->id;
	memcpy(c.secret, h->secret, sizeof c.secret);
	h->engine = node_engine_new(&c, &world_ops, h, h->world->now);
	said_clear(&h->manager);
	if (out)
		*out = k;
	else
		node_engine_restore(h->engine, &k, h->world->now);
	if (!out)
		keep_free(&k);
}

static void send_and_expect(struct ends *e, uint8_t with, uint64_t within_us)
{
	app_send_data(&e->a, e->id, 20000, with);
	app_send_data(&e->c, e->id, 10000, with);
	world_run(e->w, within_us);
	expect_data(&e->c, e->id, 20000, with);
	expect_data(&e->a, e->id, 10000, with);
}

static void end(struct ends *e)
{
	for (int i = 0; i < HOSTS; i++)
		if (!node_engine_registered(e->w->hosts[i].engine))
			host_register(&e->w->hosts[i], 1);
	ends_free(e);
}

/* The relay is responder of one transport and initiator of the other. */
static void test_relay(void **state)
{
	struct ends e;

	(void)state;
	ends_up(&e, CLASS_STREAM);
	connect_ends(&e);
	send_and_expect(&e, 1, 200 * MS);
	all_away(&e);
	for (uint8_t i = 2; i < 6; i++) {
		restart(&e.w->hosts[1], NULL);
		send_and_expect(&e, i, 2 * S);
	}
	end(&e);
}

/* Down for longer than its neighbours' patience: they wait for it all the same. */
static void test_long_away(void **state)
{
	struct ends e;
	struct keep_state k;

	(void)state;
	ends_up(&e, CLASS_STREAM);
	connect_ends(&e);
	all_away(&e);
	struct host *h = &e.w->hosts[1];
	restart(h, &k); /* that is not told yet what was kept: nobody answers */
	app_send_data(&e.a, e.id, 20000, 9);
	world_run(e.w, 25 * S);
	node_engine_restore(h->engine, &k, e.w->now);
	keep_free(&k);
	world_run(e.w, 3 * S);
	expect_data(&e.c, e.id, 20000, 9);
	send_and_expect(&e, 10, S);
	end(&e);
}

static unsigned packets_in(struct world *w, const struct host *h, uint64_t us)
{
	unsigned before = h->packets;

	world_run(w, us);
	return h->packets - before;
}

/* Host 0 is the initiator and sends INITs, host 2 the responder and asks for them. */
static void test_seeking_gets_seldom(void **state)
{
	struct ends e;
	struct keep_state k;

	(void)state;
	ends_up(&e, CLASS_STREAM);
	connect_ends(&e);
	all_away(&e);
	struct host *h = e.w->hosts;
	restart(&h[1], &k);
	world_run(e.w, 4 * S); /* lost, and asked a few times */
	unsigned early[] = {h[0].packets, h[2].packets};
	world_run(e.w, 30 * S);
	for (int i = 0; i < 3; i += 2)
		assert_in_range(h[i].packets - early[i / 2], 5, 16);
	/* So it stays: every 4 to 8 s, and not both at once. */
	unsigned before = h[2].packets;
	assert_in_range(packets_in(e.w, &h[0], 300 * S), 37, 76);
	assert_in_range(h[2].packets - before, 37, 76);
	/* The peer is heard: at once, however seldom it was asked. */
	app_send_data(&e.a, e.id, 20000, 9);
	node_engine_restore(h[1].engine, &k, e.w->now);
	keep_free(&k);
	world_run(e.w, 600 * MS);
	expect_data(&e.c, e.id, 20000, 9);
	send_and_expect(&e, 10, S);
	end(&e);
}

/* A node whose own restart finds nobody asks often again as soon as the manager is there. */
static void test_manager_gives_hope(void **state)
{
	struct ends e;
	struct keep_state k[2];

	(void)state;
	ends_up(&e, CLASS_STREAM);
	connect_ends(&e);
	all_away(&e);
	struct host *h = e.w->hosts;
	restart(&h[1], &k[1]);
	restart(&h[0], &k[0]);
	e.a.app = NULL;
	node_engine_restore(h[0].engine, &k[0], e.w->now);
	assert_in_range(packets_in(e.w, &h[0], S), 4, 5);
	world_run(e.w, 9 * S);
	assert_in_range(packets_in(e.w, &h[0], 3 * S), 0, 1);
	host_register(&h[0], 1);
	assert_in_range(packets_in(e.w, &h[0], S), 4, 5);
	keep_free(&k[0]);
	keep_free(&k[1]);
	end(&e);
}

/* With the manager there, a silent peer is lost as ever: it gives another path. */
static void test_manager_is_there(void **state)
{
	struct ends e;
	struct keep_state k;

	(void)state;
	ends_up(&e, CLASS_STREAM);
	connect_ends(&e);
	struct host *h = &e.w->hosts[1];
	restart(h, &k);
	keep_free(&k);
	world_run(e.w, 5 * S);
	struct said *s = said_take(&e.w->hosts[0].manager, MSG_TransportShutdown);
	assert_non_null(s);
	assert_int_equal(s->m.transport_shutdown.code, CODE_LOST);
	free(s);
	end(&e);
}

/* A manager that comes back is not told of transports whose peer is still silent. */
static void test_silent_ones_are_not_reported(void **state)
{
	struct ends e;
	struct keep_state k;

	(void)state;
	ends_up(&e, CLASS_STREAM);
	connect_ends(&e);
	all_away(&e);
	restart(&e.w->hosts[1], &k);
	keep_free(&k);
	world_run(e.w, 5 * S);
	said_clear(&e.w->hosts[0].manager);
	host_register(&e.w->hosts[0], 1);
	struct said *s = said_take(&e.w->hosts[0].manager, MSG_NodeReport);
	assert_non_null(s);
	assert_int_equal(s->m.node_report.transports_count, 0);
	assert_int_equal(s->m.node_report.rules_count, 0);
	assert_int_equal(s->m.node_report.connections_count, 1);
	free(s);
	end(&e);
}

static void test_report_after_restart(void **state)
{
	struct ends e;
	uint64_t instance[2];
	struct said *s;

	(void)state;
	ends_up(&e, CLASS_STREAM);
	connect_ends(&e);
	struct host *h = &e.w->hosts[0];
	for (int i = 0; i < 2; i++) {
		node_engine_manager_up(h->engine, e.w->now);
		s = said_take(&h->manager, MSG_RegisterNode);
		assert_non_null(s);
		instance[i] = s->m.register_node.instance;
		free(s);
		if (!i)
			restart(h, NULL);
	}
	assert_true(instance[0] == instance[1]);
	e.a.app = NULL; /* its channel went with the process */
	said_clear(&e.a.heard);
	host_register(h, 1);
	s = said_take(&h->manager, MSG_NodeReport);
	assert_non_null(s);
	const struct msg_node_report *p = &s->m.node_report;
	assert_int_equal(p->transports_count, 1);
	assert_int_equal(p->transports[0].transport, 1);
	assert_int_equal(p->transports[0].up, 0);
	assert_int_equal(p->rules_count, 1);
	assert_int_equal(p->rules[0].in_route, 22);
	assert_int_equal(p->connections_count, 0);
	assert_int_equal(p->apps_count, 0);
	free(s);
	world_run(e.w, 500 * MS);
	s = said_take(&h->manager, MSG_TransportConnected);
	assert_non_null(s);
	free(s);
	end(&e);
}

static void test_port_is_taken(void **state)
{
	struct ends e;
	struct keep_state k;
	struct node_status s;

	(void)state;
	ends_up(&e, CLASS_STREAM);
	connect_ends(&e);
	all_away(&e);
	struct host *h = &e.w->hosts[1];
	restart(h, &k);
	h->next_open_error = -EADDRINUSE;
	node_engine_restore(h->engine, &k, e.w->now);
	keep_free(&k);
	node_engine_get_status(h->engine, &s);
	assert_int_equal(s.transports, 1);
	assert_int_equal(s.routes, 0); /* both lead over the other one too */
	assert_int_equal(node_engine_keep(h->engine, &k), 0);
	assert_int_equal(k.transport_count, 1);
	assert_int_equal(k.starts, 1);
	keep_free(&k);
	end(&e);
}

/* The version changes with what is kept, and with nothing else. */
static void test_version(void **state)
{
	struct ends e;
	struct keep_state k;

	(void)state;
	ends_up(&e, CLASS_STREAM);
	struct node_engine *n = e.w->hosts[1].engine;
	uint64_t before = node_engine_kept_version(n);
	connect_ends(&e);
	send_and_expect(&e, 1, 300 * MS);
	world_run(e.w, 5 * S);
	assert_true(node_engine_kept_version(n) == before);
	assert_int_equal(route(&e.w->hosts[1], 1, 99, 2, 99), CODE_OK);
	assert_true(node_engine_kept_version(n) > before);
	assert_int_equal(node_engine_keep(n, &k), 0);
	assert_int_equal(k.transport_count, 2);
	assert_int_equal(k.rule_count, 3);
	keep_free(&k);
	/* A clean end leaves nothing: the manager has heard of it. */
	node_engine_shutdown(n, e.w->now);
	assert_int_equal(node_engine_keep(n, &k), 0);
	assert_int_equal(k.transport_count + k.rule_count, 0);
	keep_free(&k);
	end(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_seal),
		cmocka_unit_test(test_file),
		cmocka_unit_test(test_changes_come_together),
		cmocka_unit_test(test_relay),
		cmocka_unit_test(test_long_away),
		cmocka_unit_test(test_seeking_gets_seldom),
		cmocka_unit_test(test_manager_gives_hope),
		cmocka_unit_test(test_manager_is_there),
		cmocka_unit_test(test_silent_ones_are_not_reported),
		cmocka_unit_test(test_report_after_restart),
		cmocka_unit_test(test_port_is_taken),
		cmocka_unit_test(test_version),
	};
	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
