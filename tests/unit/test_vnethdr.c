/* Super-packet headers: what the kernel writes is put in order, what a peer writes is believed in
 * no field. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>

#include "packets.h"
#include "wire/vnethdr.h"

#define TCP 6
#define RECORD_MAX 4096

struct record {
	uint8_t b[RECORD_MAX];
	size_t len;
	struct vnethdr h;
};

static struct net_addr addr(const char *text)
{
	struct net_addr a;

	assert_int_equal(net_addr_parse(&a, text, 0), 0);
	return a;
}

static void finish(struct record *r, const struct vnethdr *h)
{
	r->h = *h;
	vnethdr_write(r->b, h);
}

/* A super-packet of `payload` bytes with a correct header. */
static void make(struct record *r, bool v6, uint8_t proto, size_t payload, uint16_t gso_size)
{
	struct net_addr src = addr(v6 ? "fd00::1" : "10.0.0.1"),
			dst = addr(v6 ? "fd00::2" : "10.0.0.2");
	uint8_t body[RECORD_MAX] = {0};
	size_t head = proto == TCP ? 32 : 8;
	uint16_t ip = v6 ? 40 : 20;

	if (proto == TCP)
		body[12] = 8 << 4;
	else
		put16(body + 4, head + payload);
	memset(body + head, 'x', payload);
	r->len = VNETHDR_BYTES + packet_wrap(r->b + VNETHDR_BYTES, &src, &dst, proto, body,
					     head + payload, proto == TCP ? 16 : 6);
	finish(r, &(struct vnethdr){
			  .flags = VNETHDR_NEEDS_CSUM,
			  .gso_type = proto != TCP ? VNETHDR_GSO_UDP
				      : v6	   ? VNETHDR_GSO_TCP6
						   : VNETHDR_GSO_TCP4,
			  .hdr_len = (uint16_t)(ip + head),
			  .gso_size = gso_size,
			  .csum_start = ip,
			  .csum_offset = proto == TCP ? 16 : 6,
		  });
}

static int check(const struct record *r)
{
	/* In memory of its exact size, so that a read behind it is seen. */
	uint8_t *copy = malloc(r->len ? r->len : 1);
	struct net_addr src, dst;

	assert_non_null(copy);
	memcpy(copy, r->b, r->len);
	int rc = vnethdr_check(copy, r->len, &src, &dst);
	if (rc == 0)
		assert_true(src.family == dst.family && (src.family == 4 || src.family == 6));
	free(copy);
	return rc;
}

static int check_with(struct record *r, struct vnethdr h)
{
	struct vnethdr before = r->h;

	vnethdr_write(r->b, &h);
	int rc = check(r);
	vnethdr_write(r->b, &before);
	return rc;
}

static void test_good(void **state)
{
	struct record r;

	(void)state;
	for (unsigned v6 = 0; v6 < 2; v6++) {
		make(&r, v6, TCP, 3000, 1368);
		assert_int_equal(check(&r), 0);
		r.h.gso_type |= VNETHDR_GSO_ECN;
		finish(&r, &r.h);
		assert_int_equal(check(&r), 0);
		make(&r, v6, PACKET_UDP, 3000, 1000);
		assert_int_equal(check(&r), 0);
		/* One segment that needs its checksum, and a packet that needs nothing. */
		make(&r, v6, TCP, 100, 0);
		finish(&r, &(struct vnethdr){.flags = VNETHDR_NEEDS_CSUM,
					     .csum_start = r.h.csum_start,
					     .csum_offset = 16});
		assert_int_equal(check(&r), 0);
		assert_false(vnethdr_is_plain(&r.h));
		finish(&r, &(struct vnethdr){0});
		assert_int_equal(check(&r), 0);
		assert_true(vnethdr_is_plain(&r.h));
		finish(&r, &(struct vnethdr){.flags = VNETHDR_DATA_VALID});
		assert_int_equal(check(&r), 0);
		assert_true(vnethdr_is_plain(&r.h));
	}
}

/* Each field, one at a time, at every value near the right one and at the edges. */
static void test_wrong_fields(void **state)
{
	static const int edges[] = {0,	  1,	39,   40,   47,	   48,	 1000,
				    3031, 3032, 3051, 3052, 65534, 65535};
	struct record r;

	(void)state;
	for (unsigned kind = 0; kind < 4; kind++) {
		make(&r, kind & 1, kind & 2 ? PACKET_UDP : TCP, 3000, 1000);
		for (unsigned e = 0; e < sizeof edges / sizeof *edges; e++) {
			uint16_t v = (uint16_t)edges[e];
			struct vnethdr h = r.h;
			h.hdr_len = v;
			assert_int_equal(check_with(&r, h) == 0, v == r.h.hdr_len);
			h = r.h;
			h.csum_start = v;
			assert_int_equal(check_with(&r, h) == 0, v == r.h.csum_start);
			h = r.h;
			h.csum_offset = v;
			assert_int_equal(check_with(&r, h) == 0, v == r.h.csum_offset);
			h = r.h;
			h.gso_size = v;
			size_t least = kind & 2 ? (3000 + VNETHDR_UDP_SEGMENTS_MAX - 1) /
							  VNETHDR_UDP_SEGMENTS_MAX
						: VNETHDR_TCP_SEGMENT_MIN;
			assert_int_equal(check_with(&r, h) == 0, v >= least);
		}
		for (unsigned v = 0; v < 256; v++) {
			struct vnethdr h = r.h;
			h.flags = (uint8_t)v;
			assert_int_equal(check_with(&r, h) == 0, v == VNETHDR_NEEDS_CSUM);
			h = r.h;
			h.gso_type = (uint8_t)v;
			bool ecn = !(kind & 2) && v == (r.h.gso_type | VNETHDR_GSO_ECN);
			assert_int_equal(check_with(&r, h) == 0, v == r.h.gso_type || ecn);
		}
	}
}

static void test_wrong_packets(void **state)
{
	struct record r;
	uint8_t *p = r.b + VNETHDR_BYTES;

	(void)state;
	/* Not whole, or with a tail. */
	make(&r, false, TCP, 3000, 1000);
	for (size_t n = r.len; n--;) {
		size_t len = r.len;
		r.len = n;
		assert_int_equal(check(&r), -EINVAL);
		r.len = len;
	}
	r.len++;
	assert_int_equal(check(&r), -EINVAL);
	/* A fragment has no transport header of its own. */
	make(&r, false, TCP, 3000, 1000);
	p[6] = 0x20;
	assert_int_equal(check(&r), -EINVAL);
	p[6] = 0, p[7] = 9;
	assert_int_equal(check(&r), -EINVAL);
	p[7] = 0, p[6] = 0x40; /* "do not fragment" is fine */
	assert_int_equal(check(&r), 0);
	/* Another protocol, a TCP header that is too short, too long, or all there is. */
	p[9] = PACKET_UDP;
	assert_int_equal(check(&r), -EINVAL);
	p[9] = TCP;
	p[20 + 12] = 4 << 4;
	assert_int_equal(check(&r), -EINVAL);
	p[20 + 12] = 9 << 4; /* the header's length no longer agrees */
	assert_int_equal(check(&r), -EINVAL);
	make(&r, false, TCP, 0, 1000);
	assert_int_equal(check(&r), -EINVAL);
	/* A UDP length that is not the packet's. */
	make(&r, true, PACKET_UDP, 3000, 1000);
	p[40 + 5]++;
	assert_int_equal(check(&r), -EINVAL);
	/* IP options are counted. */
	make(&r, false, TCP, 3000, 1000);
	p[0] = 0x46;
	assert_int_equal(check(&r), -EINVAL);
}

static void test_extension_headers(void **state)
{
	struct net_addr src = addr("fd00::1"), dst = addr("fd00::2");
	uint8_t body[200] = {0};
	struct record r;

	(void)state;
	/* hop-by-hop of 8 bytes, destination options of 16, then TCP */
	body[0] = 60;
	body[8] = TCP, body[9] = 1;
	body[24 + 12] = 5 << 4;
	r.len = VNETHDR_BYTES +
		packet_wrap(r.b + VNETHDR_BYTES, &src, &dst, 0, body, sizeof body, 24 + 16);
	finish(&r, &(struct vnethdr){.flags = VNETHDR_NEEDS_CSUM,
				     .gso_type = VNETHDR_GSO_TCP6,
				     .hdr_len = 40 + 24 + 20,
				     .gso_size = 60,
				     .csum_start = 40 + 24,
				     .csum_offset = 16});
	assert_int_equal(check(&r), 0);
	r.b[VNETHDR_BYTES + 40 + 9] = 30; /* longer than the packet */
	assert_int_equal(check(&r), -EINVAL);
	r.b[VNETHDR_BYTES + 40 + 9] = 1;
	r.b[VNETHDR_BYTES + 40 + 8] = 44; /* a fragment */
	assert_int_equal(check(&r), -EINVAL);
	r.b[VNETHDR_BYTES + 40] = 0; /* hop-by-hop without end */
	r.b[VNETHDR_BYTES + 40 + 8] = 0;
	assert_int_equal(check(&r), -EINVAL);
}

/* A checksum may be ordered anywhere behind the IP header, and nowhere else. */
static void test_checksum_stays_inside(void **state)
{
	struct record r;

	(void)state;
	make(&r, false, TCP, 100, 0);
	size_t packet = r.len - VNETHDR_BYTES;
	for (unsigned start = 0; start < packet + 4; start++)
		for (unsigned offset = 0; offset < packet + 4; offset += 7) {
			struct vnethdr h = {.flags = VNETHDR_NEEDS_CSUM,
					    .csum_start = (uint16_t)start,
					    .csum_offset = (uint16_t)offset};
			bool inside = start >= 20 && start + offset + 2 <= packet;
			assert_int_equal(check_with(&r, h) == 0, inside);
		}
	assert_int_equal(check_with(&r, (struct vnethdr){.flags = VNETHDR_NEEDS_CSUM,
							 .csum_start = 65535,
							 .csum_offset = 65535}),
			 -EINVAL);
}

/* Hints and leftovers of the kernel's go; what is wrong stays wrong. */
static void test_normalise(void **state)
{
	struct record r;

	(void)state;
	make(&r, true, TCP, 3000, 1368);
	struct vnethdr right = r.h, h = r.h;
	h.hdr_len = 65535;
	vnethdr_write(r.b, &h);
	assert_int_equal(check(&r), -EINVAL);
	assert_int_equal(vnethdr_normalise(r.b, r.len), 0);
	assert_int_equal(check(&r), 0);
	h = vnethdr_read(r.b);
	assert_int_equal(h.hdr_len, right.hdr_len);
	h.gso_size = 0;
	vnethdr_write(r.b, &h);
	assert_int_equal(vnethdr_normalise(r.b, r.len), -EINVAL);
	/* Leftovers in a header that orders nothing. */
	vnethdr_write(r.b, &(struct vnethdr){.hdr_len = 9, .gso_size = 9, .csum_start = 9});
	assert_int_equal(vnethdr_normalise(r.b, r.len), 0);
	h = vnethdr_read(r.b);
	assert_true(h.hdr_len == 0 && h.gso_size == 0 && h.csum_start == 0 && h.csum_offset == 0);
	assert_int_equal(vnethdr_normalise(r.b, VNETHDR_BYTES), -EINVAL);
	assert_int_equal(vnethdr_normalise(r.b, 0), -EINVAL);
}

/* Whatever passes is its own normal form and orders nothing outside the packet. */
static void test_random(void **state)
{
	struct record r;
	unsigned passed = 0;

	(void)state;
	srand(1);
	for (unsigned i = 0; i < 200000; i++) {
		make(&r, rand() & 1, rand() & 1 ? TCP : PACKET_UDP, (size_t)(rand() % 300),
		     (uint16_t)(rand() % 400));
		for (int n = rand() % 4; n--;)
			r.b[(size_t)rand() % (rand() & 1 ? 70 : VNETHDR_BYTES)] ^=
				(uint8_t)(1 << rand() % 8);
		if (check(&r))
			continue;
		passed++;
		struct vnethdr h = vnethdr_read(r.b);
		size_t packet = r.len - VNETHDR_BYTES;
		uint8_t before[VNETHDR_BYTES];
		memcpy(before, r.b, sizeof before);
		assert_int_equal(vnethdr_normalise(r.b, r.len), 0);
		assert_memory_equal(before, r.b, sizeof before);
		assert_true(h.hdr_len <= packet);
		if (h.flags & VNETHDR_NEEDS_CSUM)
			assert_true((size_t)h.csum_start + h.csum_offset + 2 <= packet &&
				    h.csum_start >= 20);
	}
	assert_true(passed > 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_wrong_fields),
		cmocka_unit_test(test_wrong_packets),
		cmocka_unit_test(test_extension_headers),
		cmocka_unit_test(test_checksum_stays_inside),
		cmocka_unit_test(test_normalise),
		cmocka_unit_test(test_random),
	};
	return cmocka_run_group_tests_name("vnethdr", tests, NULL, NULL);
}
