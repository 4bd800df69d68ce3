/* TUN interfaces that an app has handed to its node: packets in, packets out, counters, limits, and
 * every way to end it.  And when a remembered next hop must be forgotten. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "packets.h"
#include "unit/node_ends.h"
#include "wire/vnethdr.h"

static struct net_addr addr(const char *text)
{
	struct net_addr a = {0};

	if (text)
		assert_int_equal(net_addr_parse(&a, text, 0), 0);
	return a;
}

/* The code of the answer to a request of the app. */
static uint16_t answered(struct test_app *a)
{
	struct said *s = said_take(&a->heard, MSG_CommonAck);

	assert_non_null(s);
	assert_int_equal(s->m.seq, 50);
	uint16_t code = s->m.common_ack.code;
	free(s);
	return code;
}

static uint16_t attach(struct test_app *a, uint32_t tun, bool vnet)
{
	struct msg m = {.type = MSG_AttachTun, .seq = 50, .attach_tun = {tun, vnet}};

	assert_int_equal(app_say(a, &m), 0);
	return answered(a);
}

static void detach(struct test_app *a, uint32_t tun)
{
	struct msg m = {.type = MSG_DetachTun, .detach_tun = {tun, 0}};

	assert_int_equal(app_say(a, &m), 0);
}

static uint16_t tun_route(struct test_app *a, uint64_t id, uint32_t tun, bool vnet,
			  const char *local4, const char *remote4)
{
	struct msg m = {.type = MSG_TunRoute, .seq = 50};

	m.tun_route.connection = id;
	m.tun_route.tun = tun;
	m.tun_route.vnet = vnet;
	m.tun_route.families = 1;
	m.tun_route.local4 = addr(local4);
	m.tun_route.remote4 = addr(remote4);
	assert_int_equal(app_say(a, &m), 0);
	return answered(a);
}

/* A record with an empty header before it. */
static size_t record(uint8_t *r, const char *src, const char *dst)
{
	struct net_addr s = addr(src), d = addr(dst);

	memset(r, 0, VNETHDR_BYTES);
	return VNETHDR_BYTES + packet_udp(r + VNETHDR_BYTES, &s, &d, 1, 2);
}

static void from_kernel(struct ends *e, const char *src, const char *dst)
{
	uint8_t r[200];
	struct node_engine *engine = e->w->hosts[0].engine;

	node_engine_tun_packet(engine, world_tun.tun, r, record(r, src, dst), e->w->now);
	node_engine_flush(engine, e->w->now);
	world_run(e->w, 10 * MS);
}

/* One record of the far app, as its message. */
static void from_peer(struct ends *e, const void *data, size_t len)
{
	struct msg m = {.type = MSG_SendFromApp};

	m.send_from_app.connection = e->id;
	m.send_from_app.data = bytes_of(data, len);
	assert_int_equal(app_say(&e->c, &m), 0);
	world_run(e->w, 10 * MS);
}

static void up(struct ends *e)
{
	memset(&world_tun, 0, sizeof world_tun);
	world_tun_error = 0;
	ends_up(e, CLASS_DATAGRAM);
	connect_ends(e);
}

static struct msg_tun_stats stats(struct ends *e)
{
	struct said *s, *last = NULL;

	world_run(e->w, 500 * MS);
	while ((s = said_take(&e->a.heard, MSG_TunStats))) {
		free(last);
		last = s;
	}
	assert_non_null(last);
	struct msg_tun_stats out = last->m.tun_stats;
	free(last);
	return out;
}

static void packets_both_ways(void **state)
{
	uint8_t r[200];
	struct ends e;

	(void)state;
	up(&e);
	assert_int_equal(attach(&e.a, 1, true), CODE_OK);
	assert_true(world_tun.open && world_tun.vnet && !world_tun.reading);
	assert_int_equal(tun_route(&e.a, e.id, 1, true, "10.0.0.2", NULL), CODE_OK);
	assert_true(world_tun.reading);

	/* Out: a record for the far app; ours hears nothing. */
	from_kernel(&e, "10.0.0.2", "198.51.100.1");
	struct said *s = said_take(&e.c.heard, MSG_AppMessage);
	assert_non_null(s);
	assert_int_equal(s->m.app_message.data.len, VNETHDR_BYTES + 60);
	free(s);
	from_kernel(&e, "10.0.0.9", "198.51.100.1"); /* not our address */
	assert_null(said_take(&e.c.heard, MSG_AppMessage));

	/* In: written to the interface, header and all. */
	size_t len = record(r, "198.51.100.1", "10.0.0.2");
	from_peer(&e, r, len);
	assert_int_equal(world_tun.written, 1);
	assert_true(world_tun.written_vnet);
	assert_int_equal(world_tun.last_len, len);
	assert_memory_equal(world_tun.last, r, len);
	len = record(r, "198.51.100.1", "192.168.1.1"); /* into our other networks */
	from_peer(&e, r, len);
	from_peer(&e, r, 5);
	len = record(r, "198.51.100.1", "10.0.0.2");
	r[0] = VNETHDR_NEEDS_CSUM; /* the sum would go into the IP header */
	from_peer(&e, r, len);
	assert_int_equal(world_tun.written, 1);
	assert_null(said_take(&e.a.heard, MSG_AppMessage));
	assert_null(said_take(&e.a.heard, MSG_AppCredit));
	world_tun.write_result = -5; /* the interface is down */
	from_peer(&e, r, record(r, "198.51.100.1", "10.0.0.2"));

	struct msg_tun_stats n = stats(&e);
	assert_int_equal(n.connection, e.id);
	assert_int_equal(n.out_packets, 1);
	assert_int_equal(n.out_bytes, 60);
	assert_int_equal(n.in_packets, 2);
	assert_int_equal(n.foreign, 1);
	assert_int_equal(n.dropped, 4);
	/* Nothing new, nothing said. */
	world_run(e.w, 1 * S);
	assert_null(said_take(&e.a.heard, MSG_TunStats));
	ends_free(&e);
	assert_false(world_tun.open);
}

/* A pure acknowledgement of TCP, with its header. */
static size_t ack_record(uint8_t *r, uint32_t number)
{
	struct net_addr s = addr("10.0.0.2"), d = addr("198.51.100.1");
	uint8_t tcp[20] = {[1] = 80, [12] = 0x50, [13] = 0x10};

	be32_put(tcp + 8, number);
	memset(r, 0, VNETHDR_BYTES);
	return VNETHDR_BYTES + packet_wrap(r + VNETHDR_BYTES, &s, &d, 6, tcp, sizeof tcp, 16);
}

static uint32_t heard_ack(struct ends *e)
{
	struct said *s = said_take(&e->c.heard, MSG_AppMessage);
	uint32_t number = 0;

	if (s && s->m.app_message.data.len == VNETHDR_BYTES + 40)
		number = be32_get(s->m.app_message.data.data + VNETHDR_BYTES + 28);
	free(s);
	return number;
}

/* Of what the kernel acknowledges in one batch the last goes out, before whatever follows it. */
static void acks_of_a_batch(void **state)
{
	uint8_t r[200];
	struct ends e;

	(void)state;
	up(&e);
	struct node_engine *engine = e.w->hosts[0].engine;
	assert_int_equal(attach(&e.a, 1, true), CODE_OK);
	assert_int_equal(tun_route(&e.a, e.id, 1, true, "10.0.0.2", NULL), CODE_OK);
	for (uint32_t n = 1; n <= 4; n++)
		assert_true(node_engine_tun_packet(engine, world_tun.tun, r,
						   ack_record(r, n * 1000), e.w->now));
	node_engine_tun_batch_end(engine, world_tun.tun, e.w->now);
	node_engine_flush(engine, e.w->now);
	world_run(e.w, 10 * MS);
	assert_int_equal(heard_ack(&e), 4000);
	assert_null(said_take(&e.c.heard, MSG_AppMessage));

	assert_true(
		node_engine_tun_packet(engine, world_tun.tun, r, ack_record(r, 5000), e.w->now));
	from_kernel(&e, "10.0.0.2", "198.51.100.1");
	assert_int_equal(heard_ack(&e), 5000);
	struct said *s = said_take(&e.c.heard, MSG_AppMessage);
	assert_non_null(s);
	assert_int_equal(s->m.app_message.data.len, VNETHDR_BYTES + 60);
	free(s);

	/* One that waits goes with its interface. */
	assert_true(
		node_engine_tun_packet(engine, world_tun.tun, r, ack_record(r, 6000), e.w->now));
	detach(&e.a, 1);
	node_engine_flush(engine, e.w->now);
	world_run(e.w, 10 * MS);
	assert_null(said_take(&e.c.heard, MSG_AppMessage));
	ends_free(&e);
}

/* A peer without headers. */
static void plain_peer(void **state)
{
	uint8_t r[200];
	struct ends e;

	(void)state;
	up(&e);
	assert_int_equal(attach(&e.a, 1, true), CODE_OK);
	assert_int_equal(tun_route(&e.a, e.id, 1, false, NULL, "10.0.0.7"), CODE_OK);
	from_kernel(&e, "10.0.0.1", "10.0.0.7");
	struct said *s = said_take(&e.c.heard, MSG_AppMessage);
	assert_non_null(s);
	assert_int_equal(s->m.app_message.data.len, 60);
	free(s);
	from_kernel(&e, "10.0.0.1", "10.0.0.8");
	assert_null(said_take(&e.c.heard, MSG_AppMessage));
	size_t len = record(r, "10.0.0.7", "10.0.0.1") - VNETHDR_BYTES;
	from_peer(&e, r + VNETHDR_BYTES, len);
	assert_int_equal(world_tun.written, 1);
	assert_false(world_tun.written_vnet);
	ends_free(&e);
}

static void refusals(void **state)
{
	struct ends e;

	(void)state;
	up(&e);
	assert_int_equal(attach(&e.a, 0, true), CODE_INVALID);
	world_tun_error = -22;
	assert_int_equal(attach(&e.a, 1, true), CODE_INVALID);
	world_tun_error = 0;
	assert_int_equal(tun_route(&e.a, e.id, 1, true, NULL, NULL), CODE_NOT_FOUND);
	assert_int_equal(attach(&e.a, 1, false), CODE_OK);
	assert_int_equal(attach(&e.a, 1, false), CODE_INVALID);
	assert_int_equal(tun_route(&e.a, e.id + 1, 1, false, NULL, NULL), CODE_NOT_FOUND);
	assert_int_equal(tun_route(&e.a, e.id, 1, true, NULL, NULL), CODE_INVALID);
	assert_int_equal(tun_route(&e.a, e.id, 1, false, "fd00::1", NULL), CODE_INVALID);
	assert_false(world_tun.reading);
	assert_int_equal(tun_route(&e.c, e.id, 1, false, NULL, NULL), CODE_NOT_FOUND);
	detach(&e.a, 9); /* unknown: nothing */
	ends_free(&e);

	ends_up(&e, CLASS_STREAM);
	connect_ends(&e);
	assert_int_equal(attach(&e.a, 1, true), CODE_OK);
	assert_int_equal(tun_route(&e.a, e.id, 1, true, NULL, NULL), CODE_INVALID);
	ends_free(&e);
}

/* Records are messages again after DetachTun, TunRoute 0, and when the interface fails. */
static void ends_of_it(void **state)
{
	uint8_t r[200];
	size_t len = record(r, "198.51.100.1", "10.0.0.2");
	struct ends e;

	(void)state;
	up(&e);
	assert_int_equal(attach(&e.a, 3, true), CODE_OK);
	assert_int_equal(tun_route(&e.a, e.id, 3, true, NULL, NULL), CODE_OK);
	assert_int_equal(tun_route(&e.a, e.id, 0, false, NULL, NULL), CODE_OK);
	assert_false(world_tun.reading);
	from_peer(&e, r, len);
	struct said *s = said_take(&e.a.heard, MSG_AppMessage);
	assert_non_null(s);
	free(s);

	assert_int_equal(tun_route(&e.a, e.id, 3, true, NULL, NULL), CODE_OK);
	detach(&e.a, 3);
	assert_false(world_tun.open);
	from_peer(&e, r, len);
	s = said_take(&e.a.heard, MSG_AppMessage);
	assert_non_null(s);
	free(s);

	assert_int_equal(attach(&e.a, 3, true), CODE_OK);
	assert_int_equal(tun_route(&e.a, e.id, 3, true, NULL, NULL), CODE_OK);
	node_engine_tun_lost(e.w->hosts[0].engine, world_tun.tun);
	assert_false(world_tun.open);
	s = said_take(&e.a.heard, MSG_DetachTun);
	assert_non_null(s);
	assert_int_equal(s->m.detach_tun.tun, 3);
	assert_int_equal(s->m.detach_tun.code, CODE_LOST);
	free(s);

	/* The connection ends: its last counters first. */
	assert_int_equal(attach(&e.a, 3, true), CODE_OK);
	assert_int_equal(tun_route(&e.a, e.id, 3, true, NULL, NULL), CODE_OK);
	from_peer(&e, r, len);
	app_close(&e.c);
	world_run(e.w, 100 * MS);
	struct said *first = TAILQ_FIRST(&e.a.heard);
	assert_non_null(first);
	assert_int_equal(first->m.type, MSG_TunStats);
	assert_int_equal(first->m.tun_stats.in_packets, 1);
	expect_end(&e.a, e.id, CODE_CLOSED);
	assert_true(world_tun.open && !world_tun.reading);
	/* Packets that are on their way out meanwhile go nowhere. */
	from_kernel(&e, "10.0.0.2", "198.51.100.1");
	ends_free(&e);
	assert_false(world_tun.open);
}

/* A rule is replaced, removed, made again: no packet goes where the old one led. */
static void next_hop_is_not_stale(void **state)
{
	struct ends e;
	struct host *h;

	(void)state;
	up(&e);
	h = e.w->hosts;
	for (unsigned i = 0; i < 3; i++) {
		app_send_data(&e.a, e.id, 100, 1);
		world_run(e.w, 10 * MS);
		expect_data(&e.c, e.id, 100, 1);
		struct msg m = {.type = MSG_RemoveRoute, .seq = 9, .remove_route = {1, 11}};
		manager_say(&h[1], &m);
		assert_int_equal(acked(&h[1], 9, NULL), CODE_OK);
		app_send_data(&e.a, e.id, 100, 2);
		world_run(e.w, 10 * MS);
		assert_null(said_take(&e.c.heard, MSG_AppMessage));
		/* Back to where it came from, where no rule knows that label. */
		assert_int_equal(route(&h[1], 1, 11, 1, 99), CODE_OK);
		app_send_data(&e.a, e.id, 100, 3);
		world_run(e.w, 10 * MS);
		assert_null(said_take(&e.c.heard, MSG_AppMessage));
		assert_int_equal(route(&h[1], 1, 11, 2, 12), CODE_OK);
	}
	app_send_data(&e.a, e.id, 100, 4);
	world_run(e.w, 10 * MS);
	expect_data(&e.c, e.id, 100, 4);
	ends_free(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(packets_both_ways), cmocka_unit_test(acks_of_a_batch),
		cmocka_unit_test(plain_peer),	     cmocka_unit_test(refusals),
		cmocka_unit_test(ends_of_it),	     cmocka_unit_test(next_hop_is_not_stale),
	};
	return sodium_init() < 0 ? 1 : cmocka_run_group_tests_name("node_tun", tests, NULL, NULL);
}
