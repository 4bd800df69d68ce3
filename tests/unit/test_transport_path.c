/* A transport whose path changes under it: smaller, elsewhere.  It carries records, in packets as
 * large as it takes at the moment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sodium.h>

#include "base/log.h"
#include "core/record.h"
#include "transport_pair.h"
#include "wire/msg.h"

#define RECORD_BYTES 60000u
#define MIB (1u << 20)
#define RECORDS ((MIB + RECORD_BYTES - 1) / RECORD_BYTES)

static struct reassembly together;
static unsigned records, wrong;

static uint8_t pattern(uint64_t record, size_t at)
{
	return (uint8_t)(record * 31 + at * 7 + (at >> 8));
}

static void on_packet(struct side *s, struct pkt *p)
{
	const size_t headers = HOP_HEADER_BYTES + FRAGMENT_HEADER_BYTES;
	struct fragment_header f;
	struct block *whole;

	assert_int_equal(fragment_header_read(&f, p->data + HOP_HEADER_BYTES, p->len - headers), 0);
	int done = reassembly_add(&together, &f, p->data + headers, p->len - headers,
				  s->pair->link.now, &whole);
	assert_true(done >= 0);
	if (!done)
		return;
	for (size_t i = 0; i < f.total; i++)
		wrong += whole->data[i] != pattern(f.record, i);
	records++;
	block_put(whole);
}

static void send_record(struct pair *p, uint64_t number, size_t len)
{
	struct pkt *v[RECORD_PACKETS_MAX];
	uint8_t data[RECORD_BYTES];

	for (size_t i = 0; i < len; i++)
		data[i] = pattern(number, i);
	size_t n = record_cut(&p->pool,
			      &(struct fragment_header){.kind = RECORD_DATA, .record = number},
			      bytes_of(data, len), transport_packet_bytes(p->side[0].t), 5, 0, v);
	assert_true(n > 0);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(transport_send(p->side[0].t, v[i], p->link.now), 0);
}

static void begin(struct pair *p, uint64_t seed)
{
	records = wrong = 0;
	reassembly_init(&together);
	pair_open(p, seed);
	p->side[1].deliver = on_packet;
}

static void end(struct pair *p)
{
	assert_int_equal(wrong, 0);
	assert_int_equal(transport_get_state(p->side[0].t), TRANSPORT_CONNECTED);
	assert_int_equal(transport_get_state(p->side[1].t), TRANSPORT_CONNECTED);
	pair_close(p);
	reassembly_free(&together);
}

static void send_mib(struct pair *p)
{
	for (unsigned i = 0; i < RECORDS; i++)
		send_record(p, i, RECORD_BYTES);
	transport_flush(p->side[0].t, p->link.now);
}

/* Returns how long it took until `want` records were there. */
static uint64_t run_until_records(struct pair *p, unsigned want, uint64_t limit_us)
{
	uint64_t start = p->link.now;

	while (records < want && p->link.now < start + limit_us)
		pair_run(p, p->link.now + 5000);
	assert_int_equal(records, want);
	return p->link.now - start;
}

static size_t found(const struct pair *p)
{
	return transport_packet_bytes(p->side[0].t) + LINKSIM_IP_UDP_BYTES;
}

static struct transport_stats stats_of(const struct pair *p, int i)
{
	struct transport_stats st;

	transport_get_stats(p->side[i].t, &st);
	return st;
}

/* --- size ------------------------------------------------------------------------------------ */

/* Larger packets than this vanish silently from the beginning; the transfer begins before anything
 * is known of it. */
static void small_link(size_t mtu_bytes, unsigned loss_ppm)
{
	static struct pair p;

	begin(&p, mtu_bytes + loss_ppm);
	p.link.mtu_bytes = mtu_bytes;
	p.link.loss_ppm = loss_ppm;
	while (transport_get_state(p.side[0].t) != TRANSPORT_CONNECTED)
		pair_run(&p, p.link.now + 1000);
	send_mib(&p);
	uint64_t took = run_until_records(&p, RECORDS, 10000000);
	pair_run(&p, p.link.now + 20000000);
	printf("mtu %zu loss %u ppm: 1 MiB in %.3f s, found %zu\n", mtu_bytes, loss_ppm,
	       (double)took / 1e6, found(&p));
	assert_in_range(found(&p), mtu_bytes < 1428 ? mtu_bytes - 20 : 1428,
			mtu_bytes < 1428 ? mtu_bytes : 1428);
	if (!loss_ppm)
		assert_in_range(took, 0, 500000);
	end(&p);
}

static void test_small_links(void **state)
{
	static const size_t mtus[] = {1500, 1428, 1400, 1280, 1124, 1104};

	(void)state;
	for (size_t i = 0; i < sizeof mtus / sizeof *mtus; i++)
		small_link(mtus[i], 0);
	small_link(1280, 50000);
	small_link(1124, 50000);
}

/* The path shrinks in the midst of a transfer: all that is full-sized vanishes. */
static void shrink(size_t mtu_bytes, uint64_t seed)
{
	static struct pair p;

	begin(&p, seed);
	pair_connect(&p);
	assert_int_equal(found(&p), 1428);
	p.link.rate_bps = 50000000;
	p.link.queue_bytes = 200000;
	send_mib(&p);
	run_until_records(&p, 3, 10000000);
	p.link.mtu_bytes = mtu_bytes;
	uint64_t took = run_until_records(&p, RECORDS, 20000000);
	printf("shrunk to %zu: the rest in %.3f s\n", mtu_bytes, (double)took / 1e6);
	assert_in_range(took, 0, 3000000);
	pair_run(&p, p.link.now + 10000000);
	assert_in_range(found(&p), mtu_bytes - 20, mtu_bytes);
	end(&p);
}

static void test_black_hole(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 6; seed++) {
		shrink(1400, seed);
		shrink(1280, seed);
		shrink(1124, seed);
	}
}

/* Small packets still pass and are acknowledged, so there is never a silence. */
static void test_black_hole_beside_small_packets(void **state)
{
	static struct pair p;
	unsigned n = 0;

	(void)state;
	begin(&p, 7);
	pair_connect(&p);
	p.link.mtu_bytes = 1300;
	for (; n < 500; n++) {
		send_record(&p, 2 * n, 100);
		send_record(&p, 2 * n + 1, n % 20 ? 100 : 1300);
		transport_flush(p.side[0].t, p.link.now);
		pair_run(&p, p.link.now + 2000);
	}
	run_until_records(&p, 2 * n, 2000000);
	struct transport_stats st = stats_of(&p, 0);
	assert_in_range(st.retransmits, 1, 20); /* the rest was cut smaller from the beginning */
	pair_run(&p, p.link.now + 10000000);
	assert_in_range(found(&p), 1280, 1300);
	end(&p);
}

/* It grows again: found after a while. */
static void test_growing(void **state)
{
	static struct pair p;

	(void)state;
	begin(&p, 8);
	p.link.mtu_bytes = 1200;
	pair_run(&p, p.link.now + 20000000);
	assert_in_range(found(&p), 1180, 1200);
	p.link.mtu_bytes = 0;
	pair_run(&p, p.link.now + 700000000);
	assert_int_equal(found(&p), 1428);
	end(&p);
}

/* --- place ----------------------------------------------------------------------------------- */

static uint16_t seen_at(const struct pair *p, int i)
{
	return transport_get_remote(p->side[i].t)->port;
}

/* Side `who` has another address from now on; the other follows, and nothing is lost. */
static void move(struct pair *p, int who, uint16_t port)
{
	unsigned have = records;

	p->side[who].addr.port = port;
	for (unsigned i = 0; i < 20; i++) {
		send_record(p, 5000 + have + i, 10000);
		transport_flush(p->side[0].t, p->link.now);
		pair_run(p, p->link.now + 20000);
	}
	run_until_records(p, have + 20, 2000000);
	pair_run(p, p->link.now + 2000000);
	assert_int_equal(seen_at(p, !who), port);
}

static void test_roaming(void **state)
{
	static struct pair p;

	(void)state;
	begin(&p, 9);
	pair_connect(&p);
	move(&p, 0, 200); /* who sends moves, */
	move(&p, 1, 300); /* who receives moves, */
	move(&p, 0, 201); /* and again */
	assert_int_equal(stats_of(&p, 1).moves, 2);
	assert_int_equal(stats_of(&p, 0).moves, 1);
	assert_int_equal(stats_of(&p, 0).bad_packets + stats_of(&p, 1).bad_packets, 0);
	end(&p);
}

/* An idle peer that moved is found by what it says of itself; and with loss it takes a try more. */
static void test_roaming_idle(void **state)
{
	static struct pair p;

	(void)state;
	for (uint64_t seed = 100; seed < 120; seed++) {
		begin(&p, seed);
		pair_connect(&p);
		p.link.loss_ppm = seed % 2 ? 200000 : 0;
		int who = seed % 4 / 2;
		p.side[who].addr.port = 222;
		pair_run(&p, p.link.now + (p.link.loss_ppm ? 8000000 : 1700000));
		assert_int_equal(seen_at(&p, !who), 222);
		pair_run(&p, p.link.now + 10000000);
		end(&p);
	}
}

/* Takes the first packet of DATA that is on its way to side 1 off the link. */
static struct flight *catch_data(struct pair *p)
{
	for (struct flight **at = &p->link.first; *at; at = &(*at)->next)
		if ((*at)->to == 1 && (*at)->data[0] == PACKET_DATA) {
			struct flight *f = *at;
			*at = f->next;
			return f;
		}
	return NULL;
}

/* Somebody on the way holds a packet back and sends it from his own address, before any copy of it
 * has arrived: it counts, for it is authentic, but nothing follows it there. */
static void test_forwarded_packet_moves_nobody(void **state)
{
	static struct pair p;

	(void)state;
	begin(&p, 10);
	pair_connect(&p);
	send_record(&p, 1, 1000);
	transport_flush(p.side[0].t, p.link.now);
	struct flight *f = catch_data(&p);
	assert_non_null(f);
	p.link.from_port = 666;
	p.link.to_port = p.side[1].addr.port;
	uint64_t probes = p.link.packets;
	linksim_enqueue(&p.link, 1, f->data, f->len);
	pair_run(&p, p.link.now + 10000);
	assert_int_equal(records, 1);
	assert_true(p.link.packets > probes); /* the challenge, among others */
	/* The same bytes again are old, from wherever they come. */
	p.link.from_port = 667;
	p.link.to_port = p.side[1].addr.port;
	linksim_enqueue(&p.link, 1, f->data, f->len);
	free(f);
	pair_run(&p, p.link.now + 5000000);
	assert_int_equal(seen_at(&p, 1), 100);
	assert_int_equal(stats_of(&p, 1).moves, 0);
	send_record(&p, 2, 1000);
	transport_flush(p.side[0].t, p.link.now);
	run_until_records(&p, 2, 1000000);
	end(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_small_links),
		cmocka_unit_test(test_black_hole),
		cmocka_unit_test(test_black_hole_beside_small_packets),
		cmocka_unit_test(test_growing),
		cmocka_unit_test(test_roaming),
		cmocka_unit_test(test_roaming_idle),
		cmocka_unit_test(test_forwarded_packet_moves_nobody),
	};
	if (sodium_init() < 0)
		return 1;
	log_set_level(LOG_LEVEL_WARN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
