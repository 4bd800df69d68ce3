/* Cutting records into packets and putting them together again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/record.h"

#define HEADERS (HOP_HEADER_BYTES + FRAGMENT_HEADER_BYTES)

static uint64_t rng = 0x853c49e6748fea9bu;

static uint32_t any(uint32_t below)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)((rng >> 16) % below);
}

static uint8_t pattern(uint64_t record, size_t at)
{
	return (uint8_t)(record * 131 + at * 7 + (at >> 8));
}

static void fill(uint8_t *out, uint64_t record, size_t len)
{
	for (size_t i = 0; i < len; i++)
		out[i] = pattern(record, i);
}

static void free_all(struct pkt_pool *pool, struct pkt **v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		pkt_free(pool, v[i]);
}

/* The packets of these runs, each as one of its own; returns how many. */
static size_t single(struct pkt_pool *pool, struct pkt **v, size_t runs)
{
	struct pkt *run[RECORD_RUNS_MAX];
	size_t n = 0;

	assert_in_range(runs, 1, RECORD_RUNS_MAX);
	memcpy(run, v, runs * sizeof *run);
	for (size_t i = 0; i < runs; i++) {
		struct pkt *p = run[i];
		assert_true(p->len <= PKT_RUN_BYTES || p->count == 1);
		for (; p->count > 1; n++) {
			struct pkt *rest = pkt_split(pool, p, 1);
			assert_non_null(rest);
			v[n] = p;
			p = rest;
		}
		v[n++] = p;
	}
	return n;
}

static int add_packet(struct reassembly *r, const struct pkt *p, uint64_t now, struct block **out)
{
	struct fragment_header f;

	assert_int_equal(fragment_header_read(&f, p->data + HOP_HEADER_BYTES, p->len - HEADERS), 0);
	return reassembly_add(r, &f, p->data + HEADERS, p->len - HEADERS, now, out);
}

/* Packets are full but the last, lie one behind the other, and carry what they were given. */
static void check_cut(struct pkt *const *v, size_t n, size_t len, size_t packet_bytes)
{
	size_t offset = 0;

	for (size_t i = 0; i < n; i++) {
		struct fragment_header f;
		size_t body = v[i]->len - HEADERS;
		assert_int_equal(fragment_header_read(&f, v[i]->data + HOP_HEADER_BYTES, body), 0);
		assert_int_equal(f.kind, RECORD_DATA);
		assert_int_equal(f.record, 99);
		assert_int_equal(f.offset, offset);
		assert_int_equal(f.total, len);
		assert_int_equal(v[i]->data[0], PACKET_DATA);
		assert_int_equal(v[i]->label, 7);
		assert_int_equal(v[i]->flags, PACKET_FLAG_DROPPABLE);
		assert_true(i == n - 1 ? v[i]->len <= packet_bytes : v[i]->len == packet_bytes);
		if (i)
			assert_ptr_equal(v[i]->data, v[i - 1]->data + v[i - 1]->len);
		assert_int_equal(v[i]->data[HEADERS], pattern(99, offset));
		offset += body;
	}
	assert_int_equal(offset, len);
}

static void test_cut(void **state)
{
	static uint8_t cipher[RECORD_MAX_BYTES];
	static const size_t mtu[] = {PACKET_MIN_MTU_BYTES - IP_UDP_OVERHEAD_BYTES, 1400, 8952,
				     32501, 65507};
	struct pkt_pool pool;
	struct pkt *v[RECORD_PACKETS_MAX];

	(void)state;
	pkt_pool_init(&pool, 10);
	fill(cipher, 99, sizeof cipher);
	for (size_t m = 0; m < sizeof mtu / sizeof *mtu; m++)
		for (unsigned i = 0; i < 200; i++) {
			size_t len = i ? 1 + any(RECORD_MAX_BYTES) : RECORD_MAX_BYTES;
			if (i % 3 == 1)
				len = (mtu[m] - HEADERS) * (1 + any(7)) + any(3) - 1;
			if (len > RECORD_MAX_BYTES)
				len = RECORD_MAX_BYTES;
			size_t n = record_cut(
				&pool, &(struct fragment_header){.kind = RECORD_DATA, .record = 99},
				bytes_of(cipher, len), mtu[m], 7, PACKET_FLAG_DROPPABLE, v);
			n = single(&pool, v, n);
			assert_int_equal(n, (len + mtu[m] - HEADERS - 1) / (mtu[m] - HEADERS));
			check_cut(v, n, len, mtu[m]);
			free_all(&pool, v, n);
		}
	assert_int_equal(record_cut(&pool,
				    &(struct fragment_header){.kind = RECORD_DATA, .record = 0},
				    bytes_of(cipher, 0), 1400, 7, 0, v),
			 0);
	assert_int_equal(record_cut(&pool,
				    &(struct fragment_header){.kind = RECORD_DATA, .record = 0},
				    bytes_of(cipher, 65535), 500, 7, 0, v),
			 0);
	assert_int_equal(pool.live, 0);
	pkt_pool_free(&pool);
}

#define RECORDS 60u
#define PIECES (RECORDS * RECORD_PACKETS_MAX)

struct whole {
	size_t len, count; /* how often it came out */
};

static void check_whole(const struct fragment_header *f, struct block *b, struct whole *w)
{
	assert_int_equal(f->total, w->len);
	for (size_t i = 0; i < w->len; i++)
		if (b->data[i] != pattern(f->record, i))
			fail_msg("record %u differs at %zu", (unsigned)f->record, i);
	w->count++;
	block_put(b);
}

/* Some records, cut at two sizes as around a change of route, shuffled with duplicates: each comes
 * out whole. */
static void test_random_order(void **state)
{
	static uint8_t cipher[RECORD_MAX_BYTES];
	static struct pkt *v[2 * PIECES];
	struct pkt_pool pool;
	struct reassembly r;

	(void)state;
	pkt_pool_init(&pool, 1000);
	for (unsigned round = 0; round < 10; round++) {
		struct whole whole[RECORDS] = {0};
		size_t n = 0;
		for (uint64_t i = 0; i < RECORDS; i++) {
			whole[i].len = 1 + any(any(2) ? 3000 : RECORD_MAX_BYTES);
			fill(cipher, i, whole[i].len);
			for (unsigned cut = 0; cut < 1 + round % 2; cut++) {
				size_t runs = record_cut(
					&pool,
					&(struct fragment_header){.kind = RECORD_DATA, .record = i},
					bytes_of(cipher, whole[i].len), cut ? 1100 : 1400, 1, 0,
					v + n);
				n += single(&pool, v + n, runs);
			}
		}
		for (size_t i = n; i-- > 1;) {
			size_t j = any((uint32_t)i + 1);
			struct pkt *t = v[i];
			v[i] = v[j], v[j] = t;
		}
		reassembly_init(&r);
		for (size_t i = 0; i < n; i++) {
			struct fragment_header f;
			struct block *out;
			const struct pkt *p = any(4) ? v[i] : v[any((uint32_t)i + 1)];
			for (unsigned twice = 0; twice < 2; twice++, p = v[i]) {
				int done = add_packet(&r, p, 1, &out);
				assert_in_range(done, 0, 1);
				fragment_header_read(&f, p->data + HOP_HEADER_BYTES,
						     p->len - HEADERS);
				if (done)
					check_whole(&f, out, &whole[f.record]);
			}
		}
		for (size_t i = 0; i < RECORDS; i++)
			assert_true(whole[i].count >= 1);
		assert_int_equal(r.given_up, 0);
		reassembly_free(&r);
		free_all(&pool, v, n);
	}
	assert_int_equal(pool.live, 0);
	pkt_pool_free(&pool);
}

static int add_raw(struct reassembly *r, uint64_t record, uint16_t offset, uint16_t total,
		   size_t len, uint64_t now)
{
	static const uint8_t body[2000];
	struct fragment_header f = {RECORD_DATA, 7, record, offset, total};
	struct block *out = NULL;
	int done = reassembly_add(r, &f, body, len, now, &out);

	block_put(out);
	return done;
}

static void test_contradictions(void **state)
{
	struct reassembly r;

	(void)state;
	reassembly_init(&r);
	assert_int_equal(add_raw(&r, 5, 0, 1000, 100, 1), 0);
	assert_int_equal(add_raw(&r, 5, 100, 1001, 901, 1), -EBADMSG);
	assert_int_equal(add_raw(&r, 5, 100, 999, 899, 1), -EBADMSG);
	assert_int_equal(add_raw(&r, 5, 50, 1000, 100, 1), 0); /* overlaps: cut differently */
	assert_int_equal(add_raw(&r, 5, 150, 1000, 850, 1), 1);
	reassembly_free(&r);
}

static void test_gaps_are_bounded(void **state)
{
	struct reassembly r;

	(void)state;
	reassembly_init(&r);
	for (unsigned i = 0; i < REASSEMBLY_FRAGMENTS_MAX; i++)
		assert_int_equal(add_raw(&r, 5, (uint16_t)(2 * i), 60000, 1, 1), 0);
	assert_int_equal(add_raw(&r, 5, 2 * REASSEMBLY_FRAGMENTS_MAX, 60000, 1, 1), -ENOSPC);
	assert_int_equal(add_raw(&r, 5, 1, 60000, 1, 1), 0);
	reassembly_free(&r);
}

static void test_slots(void **state)
{
	const uint64_t same = 5 + REASSEMBLY_SLOTS;
	struct reassembly r;

	(void)state;
	reassembly_init(&r);
	/* A newer record pushes the older out, which cannot come back... */
	assert_int_equal(add_raw(&r, 5, 0, 200, 100, 1), 0);
	assert_int_equal(add_raw(&r, same, 0, 200, 100, 2), 0);
	assert_int_equal(r.given_up, 1);
	assert_int_equal(add_raw(&r, 5, 100, 200, 100, 3), -EBADMSG);
	assert_int_equal(add_raw(&r, same, 100, 200, 100, 4), 1);
	/* ...until the newer is complete, or has stood incomplete for a second. */
	assert_int_equal(add_raw(&r, 5, 0, 200, 200, 5), 1);
	assert_int_equal(add_raw(&r, UINT64_C(0xffffffffffff05), 0, 200, 100, 6), 0);
	assert_int_equal(add_raw(&r, 5, 0, 200, 100, 5 + REASSEMBLY_STALE_US), -EBADMSG);
	assert_int_equal(add_raw(&r, 5, 0, 200, 100, 6 + REASSEMBLY_STALE_US), 0);
	assert_int_equal(add_raw(&r, 5, 100, 200, 100, 6 + REASSEMBLY_STALE_US), 1);
	assert_int_equal(r.given_up, 2);
	reassembly_free(&r);
}

/* Anything at all: no more is held than the slots, and what comes out has its length. */
static void test_hostile(void **state)
{
	struct reassembly r;
	uint64_t now = 0;
	unsigned done = 0, refused = 0;

	(void)state;
	reassembly_init(&r);
	for (unsigned i = 0; i < 50000; i++) {
		uint16_t total = (uint16_t)(1 + any(any(2) ? 4 : 65535));
		uint16_t offset = (uint16_t)any(total);
		size_t len = 1 + any(total - offset);
		now += any(3000);
		int err = add_raw(&r, any(300), offset, total, len < 2000 ? len : 2000, now);
		assert_true(err == 0 || err == 1 || err == -EBADMSG || err == -ENOSPC);
		done += err == 1;
		refused += err < 0;
	}
	assert_true(done > 100 && refused > 100);
	reassembly_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_random_order),
		cmocka_unit_test(test_contradictions),
		cmocka_unit_test(test_gaps_are_bounded),
		cmocka_unit_test(test_slots),
		cmocka_unit_test(test_hostile),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
