/* Any bytes as the answer of a routing daemon; the first byte picks the network module. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/bencode.h"
#include "io/cjdns.h"
#include "scan/scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int ok)
{
	if (!ok)
		abort();
}

static void check(const struct net_host *h)
{
	static const uint8_t zero[12];

	require(h->addr.family == 0 || h->addr.family == 4 || h->addr.family == 6);
	require(h->addr.port == 0);
	if (h->addr.family == 4)
		require(memcmp(h->addr.ip + 4, zero, 12) == 0);
	require(memchr(h->name, '\0', sizeof h->name) && memchr(h->how, '\0', sizeof h->how));
}

static int on_host(const struct net_host *h, void *ctx)
{
	(void)ctx;
	check(h);
	require(!net_host_is_own(h));
	return 0;
}

static int on_link(const struct net_link *l, void *ctx)
{
	(void)ctx;
	check(&l->a);
	check(&l->b);
	require(!net_host_equal(&l->a, &l->b));
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct scan_module *const *modules = scan_modules();
	struct net_addr a;
	struct benc v;
	size_t n = 0;

	if (size == 0)
		return 0;
	while (modules[n])
		n++;
	const struct scan_module *m = modules[(uint8_t)(data[0] - 'a') % n];
	m->parse(data + 1, size - 1, &(struct scan_sink){on_host, on_link, NULL});
	benc_parse(&v, data + 1, size - 1);
	cjdns_address(&a, bytes_of(data + 1, size - 1));
	return 0;
}
