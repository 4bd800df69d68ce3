/* Any bytes as a record of a tunnel, from a peer and from the kernel: what gets through is whole,
 * and orders nothing outside its packet.  And as what a VPN client and server say to each other. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/tunroute.h"
#include "vpn/offer.h"
#include "wire/vnethdr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int ok)
{
	if (!ok)
		abort();
}

static void try_check(const uint8_t *data, size_t size)
{
	struct net_addr src, dst;

	if (vnethdr_check(data, size, &src, &dst) != 0)
		return;
	struct vnethdr h = vnethdr_read(data);
	size_t packet = size - VNETHDR_BYTES;
	require(src.family == dst.family && (src.family == 4 || src.family == 6));
	require(h.hdr_len <= packet);
	if (h.flags & VNETHDR_NEEDS_CSUM)
		require(h.csum_start >= (src.family == 4 ? 20 : 40) &&
			(size_t)h.csum_start + h.csum_offset + 2 <= packet);
	if (h.gso_type)
		require(h.gso_size > 0 && h.hdr_len > h.csum_start && h.hdr_len < packet);
	uint8_t *copy = malloc(size);
	require(copy != NULL);
	memcpy(copy, data, size);
	require(vnethdr_normalise(copy, size) == 0 && memcmp(copy, data, size) == 0);
	free(copy);
}

static void try_out(const uint8_t *data, size_t size, bool peer_vnet)
{
	struct tunroute r = {.filter = {.v4 = true, .v6 = true}, .vnet = peer_vnet};
	struct tunroute_table t;
	struct net_addr src;
	struct bytes out;
	uint8_t *copy = malloc(size ? size : 1);

	require(copy != NULL);
	memcpy(copy, data, size);
	tunroute_table_init(&t, true, 1);
	require(tunroute_add(&t, &r) == 0);
	/* What our own kernel's packet becomes, the other end takes. */
	if (tunroute_out(&t, copy, size, &out))
		require(tunroute_in(&r, out.data, out.len, &src) == 0);
	tunroute_table_free(&t);
	free(copy);
}

static void try_vpn(const uint8_t *data, size_t size)
{
	char why[VPN_TEXT_MAX] = "";
	struct vpn_offer o;
	struct json_object *mesh = vpn_request_read(data, size, why);

	require(mesh || *why);
	json_object_put(mesh);
	if (vpn_offer_read(&o, data, size, why) == 0) {
		require(o.mesh && (o.ip4.addr.family == 4 || o.ip6.addr.family == 6));
		vpn_offer_free(&o);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	try_check(data, size);
	try_out(data, size, true);
	try_out(data, size, false);
	try_vpn(data, size);
	return 0;
}
