/* Runs of packets have the same fate as the same packets one by one: each state machine is fed both
 * ways and asked for the same answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "core/egress.h"
#include "core/recvstate.h"
#include "core/sendstate.h"

#define BYTES 100u
#define SEQS 20000u
#define AHEAD 1500u /* or the receiver's table of ranges is full and nothing new counts */

static uint64_t rng = 0x2545f4914f6cdd1du;

static uint32_t any(uint32_t below)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)((rng >> 16) % below);
}

/* The last packet of a run may be shorter. */
static struct pkt *new_run(struct pkt_pool *pool, unsigned count, size_t last)
{
	size_t len = (count - 1) * BYTES + last;
	struct block *b = block_new(len);
	struct pkt *p = pkt_new_run(pool, b, b->data, len, count > 1 ? BYTES : last);

	block_put(b);
	assert_non_null(p);
	assert_int_equal(p->count, count);
	return p;
}

/* --- the run itself ------------------------------------------------------------------------- */

static void test_split(void **state)
{
	struct pkt_pool pool;

	(void)state;
	pkt_pool_init(&pool, 10);
	for (unsigned count = 2; count <= PKT_RUN_PACKETS; count++) {
		for (unsigned n = 1; n < count; n++) {
			struct pkt *p = new_run(&pool, count, 30);
			uint8_t *data = p->data;
			p->seq = 1000;
			p->order = 7;
			struct pkt *rest = pkt_split(&pool, p, n);
			assert_int_equal(p->count, n);
			assert_int_equal(p->len, n * BYTES);
			assert_int_equal(pkt_payload(p, n - 1).len, BYTES);
			assert_int_equal(rest->count, count - n);
			assert_int_equal(rest->len, (count - n - 1) * BYTES + 30);
			assert_int_equal(rest->seq, 1000 + n);
			assert_int_equal(rest->order, 7 + n);
			assert_ptr_equal(rest->data, data + n * BYTES);
			struct bytes last = pkt_payload(rest, rest->count - 1);
			assert_int_equal(last.len, 30);
			assert_ptr_equal(last.data, data + (count - 1) * BYTES);
			assert_int_equal(p->block->refs, 2);
			pkt_free(&pool, p);
			pkt_free(&pool, rest);
		}
	}
	assert_int_equal(pool.live, 0);
	pkt_pool_free(&pool);
}

static void test_fit(void **state)
{
	struct pkt_pool pool;

	(void)state;
	pkt_pool_init(&pool, 10);
	struct pkt *p = new_run(&pool, 10, BYTES);
	assert_int_equal(pkt_fit(p, NULL), 10);
	for (unsigned bytes = 0; bytes < 1500; bytes++)
		for (unsigned packets = 0; packets < 15; packets++) {
			unsigned n = 0; /* the rule of single packets: while bytes are left */
			while (n < 10 && n < packets && n * BYTES < bytes)
				n++;
			assert_int_equal(pkt_fit(p, &(struct pkt_room){bytes, packets}), n ? n : 1);
		}
	pkt_free(&pool, p);
	pkt_pool_free(&pool);
}

/* --- sent ----------------------------------------------------------------------------------- */

struct bench {
	struct pkt_pool pool;
	struct sendstate runs, singles;
	struct recvstate peer;
	struct rtt rtt;
	uint64_t now;
	unsigned loss_percent;
};

static void compare(const struct bench *b)
{
	const struct sendstate *r = &b->runs, *s = &b->singles;

	assert_int_equal(r->base, s->base);
	assert_int_equal(r->next, s->next);
	assert_int_equal(r->next_order, s->next_order);
	assert_int_equal(r->newest_order, s->newest_order);
	assert_int_equal(r->inflight_bytes, s->inflight_bytes);
	assert_int_equal(r->inflight_packets, s->inflight_packets);
	assert_int_equal(r->lost_packets, s->lost_packets);
	assert_int_equal(r->delivered_bytes, s->delivered_bytes);
	assert_int_equal(r->delivered_us, s->delivered_us);
	assert_int_equal(r->slowest_us, s->slowest_us);
	assert_int_equal(r->reordering, s->reordering);
}

static void arrive(struct bench *b, const struct pkt *p)
{
	for (unsigned i = 0; i < p->count; i++) {
		struct hop_header h = {
			.type = PACKET_DATA, .seq = p->seq + i, .tries = (uint8_t)(p->tries - 1)};
		if (any(100) >= b->loss_percent)
			recvstate_add(&b->peer, &h, b->now + 300);
	}
}

static void send_new(struct bench *b)
{
	unsigned count = 1 + any(any(3) ? 45 : 2);
	size_t last = 1 + any(BYTES);
	struct pkt *run = new_run(&b->pool, count, last);

	if (sendstate_window(&b->runs) < count) {
		pkt_free(&b->pool, run);
		return;
	}
	assert_int_equal(sendstate_enter(&b->runs, run), 0);
	sendstate_transmitted(&b->runs, run, b->now);
	for (unsigned i = 0; i < count; i++) {
		struct pkt *p = new_run(&b->pool, 1, i + 1 < count ? BYTES : last);
		assert_int_equal(sendstate_enter(&b->singles, p), 0);
		sendstate_transmitted(&b->singles, p, b->now);
	}
	arrive(b, run);
	if (any(20) == 0) {
		sendstate_starved(&b->runs);
		sendstate_starved(&b->singles);
	}
}

static void send_lost(struct bench *b)
{
	struct pkt_room room = {any(3000), 1 + any(40)};
	struct pkt *run = sendstate_take_lost(&b->runs, &room);

	if (!run) {
		assert_null(sendstate_take_lost(&b->singles, NULL));
		return;
	}
	assert_true(run->count <= room.packets);
	sendstate_transmitted(&b->runs, run, b->now);
	for (unsigned i = 0; i < run->count; i++) {
		struct pkt *p = sendstate_take_lost(&b->singles, NULL);
		assert_int_equal(p->seq, run->seq + i);
		sendstate_transmitted(&b->singles, p, b->now);
		assert_int_equal(p->order, run->order + i);
		assert_int_equal(p->tries, run->tries);
	}
	arrive(b, run);
}

static void take_ack(struct bench *b)
{
	struct sendstate_acked r, s;
	struct ack a;

	recvstate_ack(&b->peer, &a, b->now);
	assert_int_equal(sendstate_ack(&b->runs, &a, &b->rtt, b->now, &r), 0);
	assert_int_equal(sendstate_ack(&b->singles, &a, &b->rtt, b->now, &s), 0);
	assert_int_equal(r.packets, s.packets);
	assert_int_equal(r.bytes, s.bytes);
	assert_int_equal(r.spurious, s.spurious);
	assert_int_equal(r.rtt_us, s.rtt_us);
	assert_int_equal(r.rate_bps, s.rate_bps);
	assert_int_equal(r.sent_delivered, s.sent_delivered);
	assert_int_equal(r.app_limited, s.app_limited);
	if (r.rtt_us)
		rtt_sample(&b->rtt, r.rtt_us, a.delay_us);
	compare(b);
}

static void detect(struct bench *b)
{
	uint64_t r, s;

	assert_int_equal(sendstate_detect(&b->runs, &b->rtt, b->now, &r),
			 sendstate_detect(&b->singles, &b->rtt, b->now, &s));
	assert_int_equal(r, s);
	if (any(10) == 0) {
		unsigned n = any(4);
		sendstate_probe(&b->runs, n);
		sendstate_probe(&b->singles, n);
	}
	compare(b);
}

static void run(unsigned loss_percent)
{
	static struct bench b;

	memset(&b, 0, sizeof b);
	b.now = 1000000;
	b.loss_percent = loss_percent;
	pkt_pool_init(&b.pool, 100);
	sendstate_init(&b.runs, &b.pool);
	sendstate_init(&b.singles, &b.pool);
	recvstate_init(&b.peer);
	for (unsigned rounds = 0; b.runs.base < SEQS; rounds++) {
		assert_in_range(rounds, 0, 100000);
		for (unsigned n = any(6); n; n--) {
			if (any(2) && b.runs.next < SEQS && b.runs.next < b.runs.base + AHEAD)
				send_new(&b);
			else
				send_lost(&b);
			b.now += any(2) * any(100);
		}
		b.now += any(4) ? 300 + any(3000) : 0;
		if (b.peer.largest && any(3))
			take_ack(&b);
		b.now += any(500);
		detect(&b);
	}
	sendstate_free(&b.runs);
	sendstate_free(&b.singles);
	recvstate_free(&b.peer);
	assert_int_equal(b.pool.live, 0);
	pkt_pool_free(&b.pool);
}

static void test_sent(void **state)
{
	(void)state;
	run(0);
	run(1);
	run(10);
	run(50);
}

/* --- received -------------------------------------------------------------------------------- */

static void compare_acks(struct recvstate *runs, struct recvstate *singles, uint64_t now)
{
	struct ack r, s;

	assert_int_equal(runs->pending, singles->pending);
	assert_int_equal(runs->urgent, singles->urgent);
	recvstate_ack(runs, &r, now);
	recvstate_ack(singles, &s, now);
	assert_int_equal(r.cumulative, s.cumulative);
	assert_int_equal(r.largest, s.largest);
	assert_int_equal(r.latest, s.latest);
	assert_int_equal(r.latest_tries, s.latest_tries);
	assert_int_equal(r.delay_us, s.delay_us);
	assert_int_equal(r.range_count, s.range_count);
	for (unsigned i = 0; i < r.range_count; i++) {
		assert_int_equal(r.ranges[i].start, s.ranges[i].start);
		assert_int_equal(r.ranges[i].end, s.ranges[i].end);
	}
}

/* Runs in order, with gaps, again, and across what has come already. */
static void test_received(void **state)
{
	struct recvstate runs, singles;
	unsigned whole = 0;

	(void)state;
	recvstate_init(&runs);
	recvstate_init(&singles);
	uint64_t top = 0;
	for (unsigned round = 0; round < 20000; round++) {
		size_t count = 1 + any(45);
		struct hop_header h = {.type = PACKET_DATA, .tries = (uint8_t)any(3)};
		uint64_t now = 1000 + round;
		h.seq = any(3) ? top + (any(4) ? 0 : any(60)) : top - any((uint32_t)top + 1) % 400;
		if (any(3) == 0)
			h.seq = runs.cumulative;
		if (any(1000) == 0)
			h.seq = runs.cumulative + RECV_WINDOW_PACKETS - 20;
		enum recv_result r = recvstate_add_run(&runs, &h, count, now);
		if (r == RECV_NEW)
			whole += count > 1;
		for (size_t i = 0; i < count; i++, h.seq++) {
			enum recv_result s = recvstate_add(&singles, &h, now);
			if (r == RECV_APART)
				assert_int_equal(recvstate_add(&runs, &h, now), s);
			else
				assert_int_equal(r, s);
		}
		top = runs.largest;
		if (any(3) == 0)
			compare_acks(&runs, &singles, now);
	}
	assert_true(whole > 1000);
	recvstate_free(&runs);
	recvstate_free(&singles);
}

/* --- waiting to be sent ---------------------------------------------------------------------- */

#define LABELS 3u

/* However runs are cut: nothing is lost or overtaken within a route, and while others wait nobody
 * gets ahead of them by more than a share. */
static void test_queued(void **state)
{
	const int64_t share = 13000;
	struct pkt_pool pool;
	struct egress e;
	uint64_t pushed[LABELS] = {0}, popped[LABELS] = {0};
	int64_t sent[LABELS] = {0};

	(void)state;
	pkt_pool_init(&pool, 100);
	egress_init(&e, &pool, 10u << 20, 5000, 100000);
	for (unsigned i = 0; i < 600; i++) {
		struct pkt *p = new_run(&pool, 1 + any(64), BYTES);
		p->label = 1 + i % LABELS;
		p->seq = pushed[i % LABELS];
		pushed[i % LABELS] += p->count;
		memset(p->data, 0, p->len);
		assert_int_equal(egress_push(&e, p, 1000), 0);
	}
	while (!egress_empty(&e)) {
		struct pkt_room room = {any(20000), any(60)};
		struct pkt *p = egress_pop(&e, any(2) ? &room : NULL, 1000);
		unsigned l = p->label - 1;
		assert_int_equal(p->seq, popped[l]);
		popped[l] += p->count;
		sent[l] += p->len;
		for (unsigned other = 0; other < LABELS; other++)
			if (popped[other] < pushed[other])
				assert_true(sent[l] - sent[other] <= 2 * share);
		pkt_free(&pool, p);
	}
	assert_memory_equal(pushed, popped, sizeof pushed);
	egress_free(&e);
	assert_int_equal(pool.live, 0);
	pkt_pool_free(&pool);
}

/* One route alone keeps its runs whole, and does not pay for that when a second one comes. */
static void test_alone(void **state)
{
	struct pkt_pool pool;
	struct egress e;

	(void)state;
	pkt_pool_init(&pool, 100);
	egress_init(&e, &pool, 10u << 20, 5000, 100000);
	for (unsigned i = 0; i < 2000; i++) {
		struct pkt *p = new_run(&pool, 64, BYTES);
		p->label = i >= 1000 && i % 2 ? 2 : 1;
		memset(p->data, 0, p->len);
		assert_int_equal(egress_push(&e, p, 1000), 0);
		if (i >= 1000)
			continue;
		p = egress_pop(&e, NULL, 1000);
		assert_int_equal(p->count, 64);
		pkt_free(&pool, p);
	}
	uint64_t bytes[2] = {0};
	for (unsigned i = 0; i < 400; i++) {
		struct pkt *p = egress_pop(&e, NULL, 1000);
		bytes[p->label - 1] += p->len;
		pkt_free(&pool, p);
	}
	assert_true(bytes[0] > bytes[1] * 9 / 10 && bytes[1] > bytes[0] * 9 / 10);
	egress_free(&e);
	assert_int_equal(pool.live, 0);
	pkt_pool_free(&pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_split),  cmocka_unit_test(test_fit),
		cmocka_unit_test(test_sent),   cmocka_unit_test(test_received),
		cmocka_unit_test(test_queued), cmocka_unit_test(test_alone),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
