/*
 * kernel: whatever the kernel's routing tables know, by rtnetlink, told apart by the protocol that
 * put it there (a routing daemon that has no module of its own is seen here too), and neighbours.
 *
 * The query's text: "route PREFIX via IP|- proto N", "neigh IP", one a line.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cstr.h"
#include "io/config_value.h"
#include "io/netlink.h"
#include "scan/exchange.h"
#include "scan/text.h"

#define TEXT_MAX (8u << 20)

static const struct {
	uint8_t number;
	char name[7];
} protocols[] = {{2, "kernel"}, {3, "olsr"},   {4, "static"}, {9, "ra"},      {11, "zebra"},
		 {12, "bird"},	{16, "dhcp"},  {42, "babel"}, {100, "olsr"},  {186, "bgp"},
		 {187, "isis"}, {188, "ospf"}, {189, "rip"},  {192, "eigrp"}, {196, "static"}};

static void protocol_name(unsigned number, char out[NET_HOW_MAX + 1])
{
	/* 3 is RTPROT_BOOT: what `ip route add` writes, and olsrd as well. */
	for (size_t i = 0; i < sizeof protocols / sizeof *protocols; i++)
		if (protocols[i].number == number) {
			cstr_copy(out, NET_HOW_MAX + 1, protocols[i].name);
			return;
		}
	cstr_print(out, NET_HOW_MAX + 1, "proto %u", number % 256);
}

static int kernel_probe(const struct scan_env *env, char *why)
{
	(void)env;
	(void)why;
	return 0;
}

/* ---- parse ---- */

static bool link_local(const struct net_addr *a)
{
	return a->family == 6 && a->ip[0] == 0xfe && (a->ip[1] & 0xc0) == 0x80;
}

static int take_route(struct bytes line, const struct scan_sink *sink)
{
	char prefix[TEXT_WORD_MAX], via[TEXT_WORD_MAX], proto[TEXT_WORD_MAX], how[NET_HOW_MAX + 1];
	struct net_prefix dst;
	struct net_host hop, to;
	int rc = 0;

	if (!text_word(&line, prefix) || net_prefix_parse(&dst, prefix) != 0 ||
	    !text_after(line, "via", via) || !text_after(line, "proto", proto))
		return -EBADMSG;
	protocol_name(text_number(proto, 0), how);
	bool has_hop = scan_host_of(&hop, via, how) && !link_local(&hop.addr);
	if (has_hop && !(rc = scan_put_host(sink, &hop)))
		rc = scan_put_link(sink, NULL, &hop, 0);
	if (rc || !scan_host_of_route(&to, &dst, how) || link_local(&to.addr))
		return rc;
	/* Without a hop it is a neighbour, or nobody. */
	rc = scan_put_host(sink, &to);
	if (!rc && dst.bits >= 32 && (dst.addr.family == 4 || dst.bits == 128) && *via == '-')
		rc = scan_put_link(sink, NULL, &to, 0);
	return rc;
}

static int take_neighbour(struct bytes line, const struct scan_sink *sink)
{
	char ip[TEXT_WORD_MAX];
	struct net_host h;
	int rc;

	if (!text_word(&line, ip) || !scan_host_of(&h, ip, "neighbour") || link_local(&h.addr))
		return 0;
	rc = scan_put_host(sink, &h);
	return rc ? rc : scan_put_link(sink, NULL, &h, 0);
}

static int kernel_parse(const uint8_t *data, size_t len, const struct scan_sink *sink)
{
	struct bytes rest = bytes_of(data, len), line;
	char word[TEXT_WORD_MAX];
	int rc = 0;

	while (!rc && text_line(&rest, &line)) {
		text_word(&line, word);
		rc = strcmp(word, "route") == 0	  ? take_route(line, sink)
		     : strcmp(word, "neigh") == 0 ? take_neighbour(line, sink)
						  : -EBADMSG;
	}
	return rc;
}

/* ---- query ---- */

struct writer {
	FILE *out;
	const char *wanted; /* protocols; "" all */
};

static int write_route(const struct nl_route *r, void *ctx)
{
	const struct writer *w = ctx;
	char dst[NET_PREFIX_TEXT], via[NET_ADDR_TEXT], how[NET_HOW_MAX + 1];
	struct net_prefix p = r->dst;

	protocol_name(r->proto, how);
	if (r->type != NL_ROUTE_UNICAST || r->proto == NL_PROTO_MESHNET ||
	    ftell(w->out) > (long)TEXT_MAX || (*w->wanted && !config_list_contains(w->wanted, how)))
		return 0;
	/* The networks of our own interfaces are no hosts; their hosts are neighbours. */
	if (r->proto == 2 && !r->via.family)
		return 0;
	if (!p.addr.family)
		p.addr.family = r->family;
	fprintf(w->out, "route %s via %s proto %u\n", net_prefix_text(&p, dst),
		r->via.family ? net_addr_ip_text(&r->via, via) : "-", r->proto);
	return 0;
}

static int write_neighbour(const struct nl_neigh *n, void *ctx)
{
	const struct writer *w = ctx;
	char ip[NET_ADDR_TEXT];

	if (!n->failed && !n->noarp && ftell(w->out) <= (long)TEXT_MAX &&
	    (!*w->wanted || config_list_contains(w->wanted, "neighbours")))
		fprintf(w->out, "neigh %s\n", net_addr_ip_text(&n->addr, ip));
	return 0;
}

/* A list that was interrupted is whole enough: the next scan sees the rest. */
static int settle(int rc)
{
	return rc == -EINTR ? 0 : rc;
}

static int write_all(struct writer *w)
{
	struct nl *nl = NULL;
	int rc = nl_open(&nl);

	if (!rc)
		rc = settle(nl_route_list(nl, 0, write_route, w));
	if (!rc)
		rc = settle(nl_neigh_list(nl, 0, write_neighbour, w));
	nl_close(nl);
	return rc;
}

static int kernel_query(void **request, const struct scan_env *env, const struct net_host *host,
			scan_answer_cb *cb, void *arg)
{
	struct writer w = {.wanted = env->cfg->kernel_protocols};
	char *text = NULL;
	size_t len = 0;
	int rc;

	if (host)
		return -ENOTSUP;
	w.out = open_memstream(&text, &len);
	if (!w.out)
		return -ENOMEM;
	rc = write_all(&w);
	if (fclose(w.out) && !rc)
		rc = -ENOMEM;
	return scan_reply_start(request, env, rc, rc ? strerror(-rc) : "", (uint8_t *)text, len, cb,
				arg);
}

const struct scan_module scan_kernel = {
	.name = "kernel",
	.probe = kernel_probe,
	.parse = kernel_parse,
	.query = kernel_query,
	.query_cancel = scan_reply_cancel,
};
