/* Any bytes as a packet of the TUN interface of "socks": what is taken lies within it, turning it
 * around and back changes nothing but a zero in a sum, and what is made of it can be read.  And as
 * an acknowledgement that may be held: it is copied whole, and never twice. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/ackfilter.h"
#include "core/tunflow.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int ok)
{
	if (!ok)
		abort();
}

static void try_answers(const uint8_t *data, const struct tunflow_packet *p)
{
	static uint8_t made[1 << 17];
	uint8_t reset[TUNFLOW_HEADERS_MAX];
	struct tunflow_packet q;
	size_t len;

	if (p->protocol == TUNFLOW_TCP) {
		len = tunflow_refuse(reset, data, p);
		require(tunflow_parse(reset, len, &q) == 0 && net_addr_equal(&q.src, &p->dst));
	}
	if (p->protocol == TUNFLOW_UDP) {
		struct bytes payload = bytes_of(data + p->payload, p->end - p->payload);
		len = tunflow_datagram(made, sizeof made, &p->dst, &p->src, payload);
		require(tunflow_parse(made, len, &q) == 0 && q.end - q.payload == payload.len);
		require(payload.len == 0 ||
			memcmp(made + q.payload, payload.data, payload.len) == 0);
	}
}

static void try_hold(const uint8_t *data, size_t size)
{
	static struct ackfilter f;
	size_t before = f.count;

	if (!ackfilter_hold(&f, data, size, 0)) {
		require(f.count == before);
		return;
	}
	require(f.count >= before && f.count <= ACKFILTER_FLOWS);
	size_t i = 0;
	while (i < f.count && (f.held[i].len != size || memcmp(f.held[i].record, data, size) != 0))
		i++;
	require(i < f.count);
	require(!ackfilter_hold(&f, data, size, 0)); /* the same number again tells of a loss */
	if (f.count == ACKFILTER_FLOWS)
		f.count = 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tunflow_packet p, q;
	uint8_t *copy;

	try_hold(data, size);
	if (tunflow_parse(data, size, &p) != 0)
		return 0;
	require(p.end == size && p.l4 < p.payload && p.payload <= p.end);
	require(p.src.family == p.dst.family);
	copy = malloc(size);
	require(copy != NULL);
	memcpy(copy, data, size);
	if (p.protocol == TUNFLOW_TCP) {
		tunflow_readdress(copy, &p, &p.dst, &p.src);
		require(tunflow_parse(copy, size, &q) == 0);
		require(net_addr_equal(&q.src, &p.dst) && net_addr_equal(&q.dst, &p.src));
		require(memcmp(copy + q.payload, data + p.payload, size - p.payload) == 0);
	}
	tunflow_echo(copy, &p);
	try_answers(data, &p);
	free(copy);
	return 0;
}
