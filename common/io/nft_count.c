/* The counters of leases, read element by element over netlink: a text listing of a thousand
 * leases takes a hundred times as long. */
#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/cstr.h"
#include "io/netlink_msg.h"
#include "io/nft_script.h"

#define REQUEST_BYTES 512
#define ANSWER_BYTES 65536
#define KEY_BYTES_MAX (IFNAMSIZ + 16)

struct count_read {
	bool up;
	uint8_t family;
	nft_count_visit *visit;
	void *ctx;
};

/* The attributes inside one that is nested, by type. */
static void nested(const struct nlattr *outer, const struct nlattr **tb, uint16_t max)
{
	memset(tb, 0, sizeof *tb * (max + 1u));
	if (!outer)
		return;
	for (const struct nlattr *a = mnl_attr_get_payload(outer);
	     nl_attr_in(a, nl_attr_end(outer)); a = mnl_attr_next(a))
		if (mnl_attr_get_type(a) <= max)
			tb[mnl_attr_get_type(a)] = a;
}

static uint64_t get_be64(const struct nlattr *a)
{
	return a && mnl_attr_get_payload_len(a) >= 8 ? be64_get(mnl_attr_get_payload(a)) : 0;
}

/* An expression that is no counter counts nothing. */
static bool counter_read(const struct nlattr *expr, struct nft_counter *out)
{
	const struct nlattr *e[NFTA_EXPR_MAX + 1], *c[NFTA_COUNTER_MAX + 1];
	char name[16];

	nested(expr, e, NFTA_EXPR_MAX);
	nl_attr_str(e[NFTA_EXPR_NAME], name, sizeof name);
	if (strcmp(name, "counter") != 0)
		return false;
	nested(e[NFTA_EXPR_DATA], c, NFTA_COUNTER_MAX);
	*out = (struct nft_counter){get_be64(c[NFTA_COUNTER_PACKETS]),
				    get_be64(c[NFTA_COUNTER_BYTES])};
	return true;
}

static void element_read(const struct nlattr *element, const struct count_read *r)
{
	const struct nlattr *e[NFTA_SET_ELEM_MAX + 1], *k[NFTA_DATA_MAX + 1];
	size_t addr_len = r->family == 4 ? 4 : 16;
	struct net_addr addr = {.family = r->family};
	struct nft_counter c;
	char interface[IFNAMSIZ];
	const uint8_t *key;

	nested(element, e, NFTA_SET_ELEM_MAX);
	nested(e[NFTA_SET_ELEM_KEY], k, NFTA_DATA_MAX);
	if (!k[NFTA_DATA_VALUE] ||
	    mnl_attr_get_payload_len(k[NFTA_DATA_VALUE]) < IFNAMSIZ + addr_len ||
	    !counter_read(e[NFTA_SET_ELEM_EXPR], &c))
		return;
	key = mnl_attr_get_payload(k[NFTA_DATA_VALUE]);
	memcpy(interface, key, IFNAMSIZ);
	interface[IFNAMSIZ - 1] = '\0';
	memcpy(addr.ip, key + IFNAMSIZ, addr_len);
	r->visit(interface, &addr, r->up, c, r->ctx);
}

static int on_message(const struct nlmsghdr *h, void *arg)
{
	const struct nlattr *tb[NFTA_SET_ELEM_LIST_MAX + 1], *list;

	if (!nl_attrs(h, sizeof(struct nfgenmsg), tb, NFTA_SET_ELEM_LIST_MAX))
		return MNL_CB_OK;
	list = tb[NFTA_SET_ELEM_LIST_ELEMENTS];
	if (!list)
		return MNL_CB_OK;
	for (const struct nlattr *a = mnl_attr_get_payload(list); nl_attr_in(a, nl_attr_end(list));
	     a = mnl_attr_next(a))
		if (mnl_attr_get_type(a) == NFTA_LIST_ELEM)
			element_read(a, arg);
	return MNL_CB_OK;
}

static struct nlmsghdr *request(char *buf, uint16_t flags, const char *table, const char *map)
{
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct nfgenmsg *g = mnl_nlmsg_put_extra_header(h, sizeof *g);

	h->nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETSETELEM;
	h->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	h->nlmsg_seq = (uint32_t)time(NULL);
	*g = (struct nfgenmsg){.nfgen_family = NFPROTO_INET, .version = NFNETLINK_V0};
	mnl_attr_put_strz(h, NFTA_SET_ELEM_LIST_TABLE, table);
	mnl_attr_put_strz(h, NFTA_SET_ELEM_LIST_SET, map);
	return h;
}

static void put_key(struct nlmsghdr *h, const char *interface, const struct net_addr *a)
{
	uint8_t key[KEY_BYTES_MAX] = {0};
	size_t len = a->family == 4 ? 4 : 16;
	struct nlattr *list, *element, *data;

	memcpy(key, interface, strnlen(interface, IFNAMSIZ - 1));
	memcpy(key + IFNAMSIZ, a->ip, len);
	list = mnl_attr_nest_start(h, NFTA_SET_ELEM_LIST_ELEMENTS);
	element = mnl_attr_nest_start(h, NFTA_LIST_ELEM);
	data = mnl_attr_nest_start(h, NFTA_SET_ELEM_KEY);
	mnl_attr_put(h, NFTA_DATA_VALUE, IFNAMSIZ + len, key);
	mnl_attr_nest_end(h, data);
	mnl_attr_nest_end(h, element);
	mnl_attr_nest_end(h, list);
}

static int ask(struct mnl_socket *sock, struct nlmsghdr *h, const struct count_read *r)
{
	static _Alignas(struct nlmsghdr) char rx[ANSWER_BYTES];
	int rc = MNL_CB_OK;

	if (mnl_socket_sendto(sock, h, h->nlmsg_len) < 0)
		return -errno;
	while (rc > MNL_CB_STOP) {
		ssize_t n = mnl_socket_recvfrom(sock, rx, sizeof rx);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		rc = mnl_cb_run(rx, (size_t)n, h->nlmsg_seq, mnl_socket_get_portid(sock),
				on_message, (void *)r);
	}
	return rc < 0 ? -errno : 0;
}

static void add_up(const char *interface, const struct net_addr *addr, bool up,
		   struct nft_counter c, void *ctx)
{
	struct nft_lease_counters *sum = ctx;
	struct nft_counter *to = up ? &sum->up : &sum->down;

	(void)interface;
	(void)addr;
	to->packets += c.packets;
	to->bytes += c.bytes;
}

int nft_lease_counters(struct nft *nft, const char *table, const struct nft_lease *lease,
		       struct nft_lease_counters *out)
{
	_Alignas(struct nlmsghdr) char buf[REQUEST_BYTES];
	const struct net_addr *addrs[] = {&lease->ip4, &lease->ip6};
	struct mnl_socket *sock = nft_socket(nft);
	char map[8];

	*out = (struct nft_lease_counters){0};
	if (!sock || !nft_name_ok(table, NFT_TABLE_NAME_MAX))
		return sock ? -EINVAL : -EIO;
	for (int i = 0; i < 4; i++) {
		const struct net_addr *a = addrs[i / 2];
		struct count_read r = {i % 2 == 0, a->family, add_up, out};
		struct nlmsghdr *h;
		int rc;

		if (!a->family)
			continue;
		cstr_print(map, sizeof map, "%s%u", nft_directions[i % 2], a->family);
		h = request(buf, NLM_F_ACK, table, map);
		put_key(h, lease->interface, a);
		rc = ask(sock, h, &r);
		if (rc)
			return rc;
	}
	return 0;
}

int nft_leases_count(struct nft *nft, const char *table, nft_count_visit *visit, void *ctx)
{
	_Alignas(struct nlmsghdr) char buf[REQUEST_BYTES];
	struct mnl_socket *sock = nft_socket(nft);
	char map[8];

	if (!sock || !nft_name_ok(table, NFT_TABLE_NAME_MAX))
		return sock ? -EINVAL : -EIO;
	for (int i = 0; i < 4; i++) {
		struct count_read r = {i % 2 == 0, i < 2 ? 4 : 6, visit, ctx};
		int rc;

		cstr_print(map, sizeof map, "%s%u", nft_directions[i % 2], r.family);
		rc = ask(sock, request(buf, NLM_F_DUMP, table, map), &r);
		if (rc)
			return rc;
	}
	return 0;
}
