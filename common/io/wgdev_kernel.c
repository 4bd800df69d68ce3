/* The kernel's WireGuard: a link of that kind, its keys and peers by generic netlink. */
#include "io/wgdev_int.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/genetlink.h>
#include <linux/wireguard.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "base/cstr.h"
#include "io/netlink_msg.h"
#include "io/wgdev_kernel.h"

#define NAME_TRIES 64

static struct genlmsghdr *request(struct nl_request *q, uint16_t family, uint16_t flags,
				  uint8_t command, uint8_t version)
{
	struct genlmsghdr *g = nl_request_init(q, family, flags, sizeof *g);

	g->cmd = command;
	g->version = version;
	return g;
}

/* ---- the family's number ---- */

static int take_family(const struct nlmsghdr *h, void *ctx)
{
	const struct nlattr *tb[CTRL_ATTR_MAX + 1];
	uint16_t *family = ctx;

	if (!nl_attrs(h, sizeof(struct genlmsghdr), tb, CTRL_ATTR_MAX) ||
	    !tb[CTRL_ATTR_FAMILY_ID] ||
	    mnl_attr_get_payload_len(tb[CTRL_ATTR_FAMILY_ID]) < sizeof *family)
		return -EBADMSG;
	*family = mnl_attr_get_u16(tb[CTRL_ATTR_FAMILY_ID]);
	return 0;
}

static int find_family(struct wgdev *d)
{
	struct nl_request q;

	request(&q, GENL_ID_CTRL, 0, CTRL_CMD_GETFAMILY, 1);
	mnl_attr_put_strz(q.h, CTRL_ATTR_FAMILY_NAME, WG_GENL_NAME);
	int rc = nl_ask(d->genl, &q, take_family, &d->family);
	return rc ? rc : d->family ? 0 : -EBADMSG;
}

/* ---- telling ---- */

static void begin(const struct wgdev *d, struct nl_request *q, uint8_t command, uint16_t flags)
{
	request(q, d->family, flags, command, WG_GENL_VERSION);
	mnl_attr_put_u32(q->h, WGDEVICE_A_IFINDEX, d->index);
}

static int set_device(struct wgdev *d)
{
	struct nl_request q;

	begin(d, &q, WG_CMD_SET_DEVICE, 0);
	mnl_attr_put(q.h, WGDEVICE_A_PRIVATE_KEY, WG_KEY_BYTES, d->secret);
	mnl_attr_put_u16(q.h, WGDEVICE_A_LISTEN_PORT, d->port);
	int rc = nl_ask(d->genl, &q, NULL, NULL);
	sodium_memzero(&q, sizeof q);
	return rc;
}

static void put_endpoint(struct nl_request *q, const struct net_addr *a)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(a->port)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(a->port)};

	memcpy(&v4.sin_addr, a->ip, 4);
	memcpy(&v6.sin6_addr, a->ip, 16);
	if (a->family == 4)
		mnl_attr_put(q->h, WGPEER_A_ENDPOINT, sizeof v4, &v4);
	else if (a->family == 6)
		mnl_attr_put(q->h, WGPEER_A_ENDPOINT, sizeof v6, &v6);
}

static void put_allowed(struct nl_request *q, const struct net_prefix *p)
{
	struct nlattr *one;

	if (!p->addr.family)
		return;
	one = mnl_attr_nest_start(q->h, 0);
	mnl_attr_put_u16(q->h, WGALLOWEDIP_A_FAMILY, nl_af(p->addr.family));
	nl_put_addr(q, WGALLOWEDIP_A_IPADDR, &p->addr);
	mnl_attr_put_u8(q->h, WGALLOWEDIP_A_CIDR_MASK, p->bits);
	mnl_attr_nest_end(q->h, one);
}

/* One peer a message: it never grows beyond a request. */
static int kernel_set_peer(struct wgdev *d, const struct wgdev_peer *peer)
{
	struct nl_request q;
	struct nlattr *peers, *one, *allowed;

	begin(d, &q, WG_CMD_SET_DEVICE, 0);
	peers = mnl_attr_nest_start(q.h, WGDEVICE_A_PEERS);
	one = mnl_attr_nest_start(q.h, 0);
	mnl_attr_put(q.h, WGPEER_A_PUBLIC_KEY, WG_KEY_BYTES, peer->key);
	if (peer->psk)
		mnl_attr_put(q.h, WGPEER_A_PRESHARED_KEY, WG_KEY_BYTES, peer->psk);
	mnl_attr_put_u32(q.h, WGPEER_A_FLAGS, WGPEER_F_REPLACE_ALLOWEDIPS);
	put_endpoint(&q, &peer->endpoint);
	mnl_attr_put_u16(q.h, WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL, peer->keepalive_s);
	allowed = mnl_attr_nest_start(q.h, WGPEER_A_ALLOWEDIPS);
	for (int i = 0; i < WGDEV_ALLOWED_MAX; i++)
		put_allowed(&q, &peer->allowed[i]);
	mnl_attr_nest_end(q.h, allowed);
	mnl_attr_nest_end(q.h, one);
	mnl_attr_nest_end(q.h, peers);
	int rc = nl_ask(d->genl, &q, NULL, NULL);
	sodium_memzero(&q, sizeof q);
	return rc;
}

/* With an endpoint, or no family and none. */
static int change_peer(struct wgdev *d, const uint8_t key[WG_KEY_BYTES], uint32_t flags,
		       const struct net_addr *endpoint)
{
	struct nl_request q;
	struct nlattr *peers, *one;

	begin(d, &q, WG_CMD_SET_DEVICE, 0);
	peers = mnl_attr_nest_start(q.h, WGDEVICE_A_PEERS);
	one = mnl_attr_nest_start(q.h, 0);
	mnl_attr_put(q.h, WGPEER_A_PUBLIC_KEY, WG_KEY_BYTES, key);
	mnl_attr_put_u32(q.h, WGPEER_A_FLAGS, flags);
	put_endpoint(&q, endpoint);
	mnl_attr_nest_end(q.h, one);
	mnl_attr_nest_end(q.h, peers);
	return nl_ask(d->genl, &q, NULL, NULL);
}

static int kernel_set_endpoint(struct wgdev *d, const uint8_t key[WG_KEY_BYTES],
			       const struct net_addr *endpoint)
{
	return change_peer(d, key, WGPEER_F_UPDATE_ONLY, endpoint);
}

static int kernel_remove_peer(struct wgdev *d, const uint8_t key[WG_KEY_BYTES])
{
	return change_peer(d, key, WGPEER_F_REMOVE_ME, &(struct net_addr){0});
}

/* ---- asking ---- */

struct listing {
	struct wgdev_stat peer;
	bool has; /* a peer is being told, perhaps over several messages */
	wgdev_visit *visit;
	void *ctx;
};

static uint64_t attr_u64(const struct nlattr *a)
{
	return a && mnl_attr_get_payload_len(a) >= sizeof(uint64_t) ? mnl_attr_get_u64(a) : 0;
}

static struct net_addr endpoint_of(const struct nlattr *a)
{
	struct net_addr out = {0};
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	size_t len = a ? mnl_attr_get_payload_len(a) : 0;

	if (len == sizeof v4) {
		memcpy(&v4, mnl_attr_get_payload(a), sizeof v4);
		out = (struct net_addr){.family = 4, .port = ntohs(v4.sin_port)};
		memcpy(out.ip, &v4.sin_addr, 4);
	} else if (len == sizeof v6) {
		memcpy(&v6, mnl_attr_get_payload(a), sizeof v6);
		out = (struct net_addr){.family = 6, .port = ntohs(v6.sin6_port)};
		memcpy(out.ip, &v6.sin6_addr, 16);
	}
	return out;
}

static void nested(const struct nlattr *nest, const struct nlattr **tb, uint16_t max)
{
	memset(tb, 0, sizeof *tb * (max + 1u));
	for (const struct nlattr *a = mnl_attr_get_payload(nest); nl_attr_in(a, nl_attr_end(nest));
	     a = mnl_attr_next(a))
		if (mnl_attr_get_type(a) <= max)
			tb[mnl_attr_get_type(a)] = a;
}

static int peer_done(struct listing *l)
{
	bool had = l->has;

	l->has = false;
	return had ? l->visit(&l->peer, l->ctx) : 0;
}

static int peer_take(struct listing *l, const struct nlattr *nest)
{
	const struct nlattr *tb[WGPEER_A_MAX + 1];
	const struct nlattr *key, *time;
	int rc;

	nested(nest, tb, WGPEER_A_MAX);
	key = tb[WGPEER_A_PUBLIC_KEY];
	if (!key || mnl_attr_get_payload_len(key) != WG_KEY_BYTES)
		return -EBADMSG;
	/* A peer whose addresses filled a message goes on in the next, with its key alone. */
	if (l->has && memcmp(l->peer.key, mnl_attr_get_payload(key), WG_KEY_BYTES) == 0)
		return 0;
	rc = peer_done(l);
	if (rc)
		return rc;
	l->peer = (struct wgdev_stat){.endpoint = endpoint_of(tb[WGPEER_A_ENDPOINT]),
				      .rx_bytes = attr_u64(tb[WGPEER_A_RX_BYTES]),
				      .tx_bytes = attr_u64(tb[WGPEER_A_TX_BYTES])};
	memcpy(l->peer.key, mnl_attr_get_payload(key), WG_KEY_BYTES);
	time = tb[WGPEER_A_LAST_HANDSHAKE_TIME];
	if (time && mnl_attr_get_payload_len(time) >= 2 * sizeof(int64_t))
		l->peer.handshake_s = attr_u64(time);
	l->has = true;
	return 0;
}

static int message_take(const struct nlmsghdr *h, void *ctx)
{
	const struct nlattr *tb[WGDEVICE_A_MAX + 1], *peers;
	int rc = 0;

	if (!nl_attrs(h, sizeof(struct genlmsghdr), tb, WGDEVICE_A_MAX))
		return -EBADMSG;
	peers = tb[WGDEVICE_A_PEERS];
	if (!peers)
		return 0;
	for (const struct nlattr *a = mnl_attr_get_payload(peers);
	     !rc && nl_attr_in(a, nl_attr_end(peers)); a = mnl_attr_next(a))
		rc = peer_take(ctx, a);
	return rc;
}

int wgdev_kernel_read(const struct nlmsghdr *const *messages, size_t count, wgdev_visit *visit,
		      void *ctx)
{
	struct listing l = {.visit = visit, .ctx = ctx};
	int rc = 0;

	for (size_t i = 0; !rc && i < count; i++)
		rc = message_take(messages[i], &l);
	return rc ? rc : peer_done(&l);
}

static int kernel_list(struct wgdev *d, wgdev_visit *visit, void *ctx)
{
	struct listing l = {.visit = visit, .ctx = ctx};
	struct nl_request q;

	begin(d, &q, WG_CMD_GET_DEVICE, NLM_F_DUMP);
	int rc = nl_ask(d->genl, &q, message_take, &l);
	return rc ? rc : peer_done(&l);
}

/* ---- open and close ---- */

static int make_link(struct wgdev *d)
{
	int rc = -EEXIST;

	for (int i = 0; rc == -EEXIST && i < NAME_TRIES; i++) {
		rc = nl_link_free_name(d->nl, d->wanted, d->interface);
		if (!rc)
			rc = d->journal ? host_link_add(d->journal, d->interface, "wireguard")
					: nl_link_add(d->nl, d->interface, "wireguard");
	}
	if (rc) {
		d->interface[0] = '\0';
		return rc;
	}
	rc = nl_link_index(d->nl, d->interface);
	d->index = rc > 0 ? (uint32_t)rc : 0;
	return rc < 0 ? rc : 0;
}

static int kernel_open(struct wgdev *d, char why[WGDEV_WHY_MAX])
{
	const char *what = "its interface";
	int rc = make_link(d);

	if (!rc) {
		what = "generic netlink";
		rc = nl_open_generic(&d->genl);
	}
	if (!rc)
		rc = find_family(d);
	if (!rc)
		rc = set_device(d);
	if (!rc) {
		what = "address or port";
		rc = wgdev_up(d); /* the port is taken here */
	}
	if (rc)
		cstr_print(why, WGDEV_WHY_MAX, "WireGuard of the kernel: %s: %s", what,
			   strerror(-rc));
	return rc;
}

static void kernel_close(struct wgdev *d)
{
	if (*d->interface && d->journal)
		host_link_remove(d->journal, d->interface);
	else if (*d->interface)
		nl_link_del(d->nl, d->index);
	nl_close(d->genl);
}

const struct wgdev_ops wgdev_kernel_ops = {
	.open = kernel_open,
	.close = kernel_close,
	.set_peer = kernel_set_peer,
	.set_endpoint = kernel_set_endpoint,
	.remove_peer = kernel_remove_peer,
	.list = kernel_list,
};
