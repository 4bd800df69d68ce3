/*
 * l2: every address of the IPv4 networks that our interfaces are in, for links where no routing
 * protocol tells who is there.  Only networks that were asked for are walked, hosts one by one, a
 * limited number of each.
 *
 * The query's text: "subnet ADDRESS/BITS limit N", one a line; the address is our own.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/config_value.h"
#include "io/netlink.h"
#include "scan/exchange.h"
#include "scan/text.h"

#define SUBNETS_MAX 64
#define HOSTS_MAX 65536u

static int l2_probe(const struct scan_env *env, char *why)
{
	(void)env;
	(void)why;
	return 0;
}

/* ---- parse ---- */

static struct net_addr addr_of(uint32_t v)
{
	struct net_addr a = {.family = 4};

	be32_put(a.ip, v);
	return a;
}

static int take_subnet(struct bytes line, const struct scan_sink *sink)
{
	char prefix[TEXT_WORD_MAX], limit[TEXT_WORD_MAX];
	struct net_host h = {.how = "subnet"};
	struct net_prefix p;
	int rc = 0;

	if (!text_word(&line, prefix) || net_prefix_parse(&p, prefix) != 0 || p.addr.family != 4 ||
	    p.bits < 8 || !text_after(line, "limit", limit))
		return -EBADMSG;
	uint32_t own = be32_get(p.addr.ip), max = text_number(limit, 0);
	uint32_t first = be32_get(net_prefix_network(&p).addr.ip),
		 count = p.bits == 32 ? 1 : (uint32_t)1 << (32 - p.bits);
	/* Neither the network's nor the broadcast address. */
	if (p.bits < 31) {
		first++;
		count -= 2;
	}
	if (max > HOSTS_MAX)
		max = HOSTS_MAX;
	for (uint32_t i = 0; !rc && i < count && max; i++) {
		if (first + i == own)
			continue;
		max--;
		h.addr = addr_of(first + i);
		if (scan_addr_usable(&h.addr))
			rc = scan_put_host(sink, &h);
	}
	return rc;
}

static int l2_parse(const uint8_t *data, size_t len, const struct scan_sink *sink)
{
	struct bytes rest = bytes_of(data, len), line;
	char word[TEXT_WORD_MAX];
	int rc = 0, subnets = 0;

	while (!rc && text_line(&rest, &line)) {
		text_word(&line, word);
		if (strcmp(word, "subnet") != 0 || ++subnets > SUBNETS_MAX)
			return -EBADMSG;
		rc = take_subnet(line, sink);
	}
	return rc;
}

/* ---- query ---- */

struct writer {
	FILE *out;
	const struct config *cfg;
	int count;
};

static int write_addr(const struct nl_addr *a, void *ctx)
{
	struct writer *w = ctx;
	const char *wanted = w->cfg->l2_networks;
	char text[NET_PREFIX_TEXT];

	if (a->peer.family || !scan_addr_usable(&a->prefix.addr) || a->prefix.bits < 8 ||
	    a->prefix.bits > 31 || a->proto == NL_PROTO_MESHNET || w->count >= SUBNETS_MAX ||
	    (*wanted && !config_nets_contain(wanted, &a->prefix.addr)))
		return 0;
	w->count++;
	fprintf(w->out, "subnet %s limit %llu\n", net_prefix_text(&a->prefix, text),
		(unsigned long long)w->cfg->l2_host_limit);
	return 0;
}

static int l2_query(void **request, const struct scan_env *env, const struct net_host *host,
		    scan_answer_cb *cb, void *arg)
{
	struct writer w = {.cfg = env->cfg};
	struct nl *nl = NULL;
	char *text = NULL;
	size_t len = 0;
	int rc;

	if (host)
		return -ENOTSUP;
	w.out = open_memstream(&text, &len);
	if (!w.out)
		return -ENOMEM;
	rc = nl_open(&nl);
	if (!rc)
		rc = nl_addr_list(nl, 4, write_addr, &w);
	nl_close(nl);
	if (rc == -EINTR)
		rc = 0;
	if (fclose(w.out) && !rc)
		rc = -ENOMEM;
	return scan_reply_start(request, env, rc, rc ? strerror(-rc) : "", (uint8_t *)text, len, cb,
				arg);
}

const struct scan_module scan_l2 = {
	.name = "l2",
	.probe = l2_probe,
	.parse = l2_parse,
	.query = l2_query,
	.query_cancel = scan_reply_cancel,
};
