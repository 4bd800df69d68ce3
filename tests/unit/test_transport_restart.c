/* One end of a transport begins anew, as after kill -9, while the other one goes on. */
#include "core/handshake.h"
#include "transport_pair.h"
#include "wire/msg.h"

/* With everything forgotten but what its owner had written down. */
static void begin_anew(struct pair *p, int i, uint64_t attempts)
{
	struct side *s = &p->side[i];
	struct transport_config c = s->config;

	transport_free(s->t);
	c.resumed = true;
	c.attempts = attempts;
	s->t = transport_new(&c, &pair_ops, s, p->link.now);
	assert_non_null(s->t);
	pair_open_side(p, i);
}

static void send_both(struct pair *p, uint32_t from, uint32_t n)
{
	for (uint32_t i = from; i < from + n; i++) {
		pair_send_number(p, 0, i);
		pair_send_number(p, 1, i);
	}
	transport_flush(p->side[0].t, p->link.now);
	transport_flush(p->side[1].t, p->link.now);
}

static void expect_all(const struct pair *p, uint32_t from, uint32_t n)
{
	for (int i = 0; i < 2; i++)
		for (uint32_t k = from; k < from + n; k++)
			assert_true(p->side[i].seen[k]);
	assert_int_equal(p->side[0].duplicates + p->side[1].duplicates, 0);
}

static uint32_t restarts(const struct pair *p, int i)
{
	struct transport_stats s;
	transport_get_stats(p->side[i].t, &s);
	return s.restarts;
}

static void restart(int who, uint64_t attempts, unsigned times)
{
	static struct pair p;
	uint32_t sent = 0;

	pair_open(&p, 7 + (uint64_t)who);
	pair_connect(&p);
	send_both(&p, sent, 2000);
	pair_run(&p, p.link.now + 3000000);
	expect_all(&p, 0, sent += 2000);
	for (unsigned k = 1; k <= times; k++) {
		begin_anew(&p, who, attempts * k);
		pair_run(&p, p.link.now + 400000);
		assert_int_equal(transport_get_state(p.side[who].t), TRANSPORT_CONNECTED);
		assert_int_equal(transport_get_state(p.side[!who].t), TRANSPORT_CONNECTED);
		assert_int_equal(restarts(&p, !who), k);
		assert_int_equal(restarts(&p, who), 0);
		send_both(&p, sent, 1000);
		pair_run(&p, p.link.now + 3000000);
		expect_all(&p, sent, 1000);
		sent += 1000;
	}
	pair_close(&p);
}

static void test_initiator(void **state)
{
	(void)state;
	restart(0, UINT64_C(1) << 32, 3);
}

static void test_responder(void **state)
{
	(void)state;
	restart(1, 0, 3);
}

/* What was under way is lost, the transport is not: also with a full window and losses. */
static void test_under_traffic(void **state)
{
	static struct pair p;

	(void)state;
	for (int who = 0; who < 2; who++) {
		pair_open(&p, 11 + (uint64_t)who);
		pair_connect(&p);
		p.link.loss_ppm = 50000;
		send_both(&p, 0, 3000);
		pair_run(&p, p.link.now + 20000);
		begin_anew(&p, who, UINT64_C(1) << 32);
		pair_run(&p, p.link.now + 4000000);
		assert_int_equal(restarts(&p, !who), 1);
		send_both(&p, 5000, 500);
		pair_run(&p, p.link.now + 6000000);
		expect_all(&p, 5000, 500);
		pair_close(&p);
	}
}

/* An initiator that repeats old numbers is taken for a replay. */
static void test_old_attempts_are_refused(void **state)
{
	static struct pair p;

	(void)state;
	pair_open(&p, 21);
	pair_connect(&p);
	uint64_t used = transport_get_attempts(p.side[0].t);
	assert_true(used >= 1);
	begin_anew(&p, 0, 0);
	pair_run(&p, p.link.now + 200000);
	assert_int_equal(transport_get_state(p.side[0].t), TRANSPORT_HANDSHAKE);
	assert_int_equal(restarts(&p, 1), 0);
	pair_close(&p);
}

/* Every packet that ever flew, again and again, moves nobody: neither to begin anew nor to close.
 */
static void test_replay(void **state)
{
	static struct pair p;
	static struct flight *kept[4000];
	size_t n = 0;

	(void)state;
	pair_open(&p, 22);
	pair_connect(&p);
	begin_anew(&p, 0, UINT64_C(1) << 32);
	pair_run(&p, p.link.now + 1000000);
	begin_anew(&p, 1, 0);
	/* The handshakes and what follows, as somebody on the way has seen them. */
	for (unsigned step = 0; step < 3000; step++) {
		for (struct flight *f = p.link.first; f && n < 4000; f = f->next) {
			kept[n] = malloc(sizeof **kept + f->len);
			memcpy(kept[n], f, sizeof **kept + f->len);
			n++;
		}
		pair_run(&p, p.link.now + 1000);
	}
	uint32_t before[2] = {restarts(&p, 0), restarts(&p, 1)};
	assert_true(n > 4);
	for (size_t i = 0; i < n; i++) {
		struct side *s = &p.side[kept[i]->to];
		struct net_addr from = p.side[!kept[i]->to].addr;
		struct block *b = block_new(kept[i]->len);
		memcpy(b->data, kept[i]->data, kept[i]->len);
		struct pkt *k = pkt_new(&p.pool, b, b->data, kept[i]->len);
		block_put(b);
		transport_input(s->t, k, &from, p.link.now);
		transport_flush(s->t, p.link.now);
		free(kept[i]);
		pair_run(&p, p.link.now + 1000);
	}
	pair_run(&p, p.link.now + 2000000);
	send_both(&p, 100, 100);
	pair_run(&p, p.link.now + 1000000);
	expect_all(&p, 100, 100);
	assert_int_equal(restarts(&p, 0), before[0]);
	assert_int_equal(restarts(&p, 1), before[1]);
	pair_close(&p);
}

/* A request for a handshake that is repeated costs one change of keys a second at most. */
static void test_wanted_is_rare(void **state)
{
	static struct pair p;
	struct handshake h;
	struct transport_stats s;
	struct net_addr from;

	(void)state;
	pair_open(&p, 23);
	pair_connect(&p);
	from = p.side[1].addr;
	handshake_init(&h, 7, p.side[1].config.local_secret, &p.side[1].config.remote,
		       p.side[1].config.psk);
	transport_get_stats(p.side[0].t, &s);
	uint64_t before = s.handshakes;
	for (unsigned i = 0; i < 3000; i++) {
		struct block *b = block_new(HOP_HEADER_BYTES);
		handshake_want(&h, b->data);
		struct pkt *k = pkt_new(&p.pool, b, b->data, HOP_HEADER_BYTES);
		block_put(b);
		transport_input(p.side[i % 2].t, k, &from, p.link.now);
		pair_run(&p, p.link.now + 1000);
	}
	transport_get_stats(p.side[0].t, &s);
	assert_in_range(s.handshakes - before, 1, 3);
	assert_int_equal(restarts(&p, 0) + restarts(&p, 1), 0);
	handshake_wipe(&h);
	pair_close(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_initiator),
		cmocka_unit_test(test_responder),
		cmocka_unit_test(test_under_traffic),
		cmocka_unit_test(test_old_attempts_are_refused),
		cmocka_unit_test(test_replay),
		cmocka_unit_test(test_wanted_is_rare),
	};
	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
