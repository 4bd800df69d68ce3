#include "io/netlink.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "io/netlink_msg.h"

#define NL_ANSWER_BYTES 32768
#define NAME_NUMBERS_MAX 65536u
#define NL_TIMEOUT_S                                                                               \
	5 /* the kernel answers at once; this only keeps a bug from hanging a daemon               \
	   */

struct nl {
	struct mnl_socket *sock;
	uint32_t seq;
	_Alignas(struct nlmsghdr) char rx[NL_ANSWER_BYTES];
};

static int open_family(struct nl **out, int family)
{
	struct nl *nl = calloc(1, sizeof *nl);
	struct timeval timeout = {.tv_sec = NL_TIMEOUT_S};
	int rc;

	if (!nl)
		return -ENOMEM;
	nl->sock = mnl_socket_open2(family, SOCK_CLOEXEC);
	if (!nl->sock || mnl_socket_bind(nl->sock, 0, MNL_SOCKET_AUTOPID) ||
	    setsockopt(mnl_socket_get_fd(nl->sock), SOL_SOCKET, SO_RCVTIMEO, &timeout,
		       sizeof timeout)) {
		rc = -errno;
		nl_close(nl);
		return rc;
	}
	*out = nl;
	return 0;
}

int nl_open(struct nl **out)
{
	return open_family(out, NETLINK_ROUTE);
}

int nl_open_generic(struct nl **out)
{
	return open_family(out, NETLINK_GENERIC);
}

void nl_close(struct nl *nl)
{
	if (!nl)
		return;
	if (nl->sock)
		mnl_socket_close(nl->sock);
	free(nl);
}

/* ---- requests and answers ---- */

void *nl_request_init(struct nl_request *q, uint16_t type, uint16_t flags, size_t len)
{
	memset(q->buf, 0, sizeof q->buf);
	q->h = mnl_nlmsg_put_header(q->buf);
	q->h->nlmsg_type = type;
	q->h->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	return mnl_nlmsg_put_extra_header(q->h, len);
}

void nl_put_addr(struct nl_request *q, uint16_t attr, const struct net_addr *a)
{
	mnl_attr_put(q->h, attr, a->family == 4 ? 4 : 16, a->ip);
}

struct answer_state {
	nl_answer *answer;
	void *ctx;
	uint32_t seq;
	size_t count;
	int result; /* what the visitor or the kernel said first */
	bool done, interrupted;
};

static void answer_error(struct answer_state *s, const struct nlmsghdr *h)
{
	const struct nlmsgerr *e = mnl_nlmsg_get_payload(h);
	int err = -EBADMSG;

	if (mnl_nlmsg_get_payload_len(h) >= sizeof *e)
		err = e->error;
	s->done = true;
	if (err && !s->result)
		s->result = err < 0 ? err : -err;
}

static void answer_one(struct answer_state *s, const struct nlmsghdr *h)
{
	if (h->nlmsg_seq != s->seq) /* the rest of an answer that we gave up waiting for */
		return;
	if (h->nlmsg_flags & NLM_F_DUMP_INTR)
		s->interrupted = true;
	if (h->nlmsg_type == NLMSG_ERROR) {
		answer_error(s, h);
	} else if (h->nlmsg_type == NLMSG_DONE) {
		const int *err = mnl_nlmsg_get_payload(h);
		s->done = true;
		if (mnl_nlmsg_get_payload_len(h) >= sizeof *err && *err < 0 && !s->result)
			s->result = *err;
	} else if (h->nlmsg_type >= NLMSG_MIN_TYPE && s->answer && !s->result) {
		if (++s->count > NL_DUMP_MAX)
			s->result = -E2BIG;
		else
			s->result = s->answer(h, s->ctx);
	}
}

int nl_ask(struct nl *nl, struct nl_request *q, nl_answer *answer, void *ctx)
{
	struct answer_state s = {.answer = answer, .ctx = ctx, .seq = ++nl->seq};

	q->h->nlmsg_seq = s.seq;
	if ((q->h->nlmsg_flags & NLM_F_DUMP) != NLM_F_DUMP)
		q->h->nlmsg_flags |= NLM_F_ACK;
	if (mnl_socket_sendto(nl->sock, q->h, q->h->nlmsg_len) < 0)
		return -errno;
	/* Always to the end of the answer, so that the next request finds an empty socket. */
	while (!s.done) {
		ssize_t n = mnl_socket_recvfrom(nl->sock, nl->rx, sizeof nl->rx);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		int left = (int)n;
		for (const struct nlmsghdr *h = (void *)nl->rx; mnl_nlmsg_ok(h, left);
		     h = mnl_nlmsg_next(h, &left))
			answer_one(&s, h);
	}
	return s.result ? s.result : s.interrupted ? -EINTR : 0;
}

int nl_list(struct nl *nl, uint16_t type, uint8_t family, nl_answer *answer, void *ctx)
{
	struct nl_request q;
	struct rtgenmsg *g = nl_request_init(&q, type, NLM_F_DUMP, sizeof(struct ifinfomsg));

	g->rtgen_family = nl_af(family);
	return nl_ask(nl, &q, answer, ctx);
}

bool nl_attrs(const struct nlmsghdr *h, size_t len, const struct nlattr **tb, uint16_t max)
{
	const void *end = mnl_nlmsg_get_payload_tail(h);

	memset(tb, 0, sizeof *tb * (max + 1u));
	if (mnl_nlmsg_get_payload_len(h) < len)
		return false;
	for (const struct nlattr *a = mnl_nlmsg_get_payload_offset(h, len); nl_attr_in(a, end);
	     a = mnl_attr_next(a))
		if (mnl_attr_get_type(a) <= max)
			tb[mnl_attr_get_type(a)] = a;
	return true;
}

uint32_t nl_attr_u32(const struct nlattr *a)
{
	return a && mnl_attr_get_payload_len(a) >= 4 ? mnl_attr_get_u32(a) : 0;
}

uint8_t nl_attr_u8(const struct nlattr *a)
{
	return a && mnl_attr_get_payload_len(a) >= 1 ? mnl_attr_get_u8(a) : 0;
}

void nl_attr_str(const struct nlattr *a, char *out, size_t size)
{
	size_t len = a ? strnlen(mnl_attr_get_payload(a), mnl_attr_get_payload_len(a)) : 0;

	if (len >= size)
		len = size - 1;
	if (len)
		memcpy(out, mnl_attr_get_payload(a), len);
	out[len] = '\0';
}

struct net_addr nl_attr_addr(const struct nlattr *a, uint8_t family)
{
	struct net_addr v = {0};
	size_t len = family == 4 ? 4 : 16;

	if (family && a && mnl_attr_get_payload_len(a) >= len) {
		v.family = family;
		memcpy(v.ip, mnl_attr_get_payload(a), len);
	}
	return v;
}

uint8_t nl_family_of(unsigned char af)
{
	return af == AF_INET ? 4 : af == AF_INET6 ? 6 : 0;
}

unsigned char nl_af(uint8_t family)
{
	return family == 4 ? AF_INET : family == 6 ? AF_INET6 : AF_UNSPEC;
}

/* ---- links ---- */

static void link_kind(const struct nlattr *info, char *out, size_t size)
{
	const struct nlattr *kind = NULL;

	if (info)
		for (const struct nlattr *a = mnl_attr_get_payload(info);
		     nl_attr_in(a, nl_attr_end(info)); a = mnl_attr_next(a))
			if (mnl_attr_get_type(a) == IFLA_INFO_KIND)
				kind = a;
	nl_attr_str(kind, out, size);
}

static bool link_parse(const struct nlmsghdr *h, struct nl_link *l)
{
	const struct nlattr *tb[IFLA_MAX + 1];
	const struct ifinfomsg *m = mnl_nlmsg_get_payload(h);

	if (h->nlmsg_type != RTM_NEWLINK || !nl_attrs(h, sizeof *m, tb, IFLA_MAX))
		return false;
	*l = (struct nl_link){.index = (uint32_t)m->ifi_index,
			      .mtu = nl_attr_u32(tb[IFLA_MTU]),
			      .group = nl_attr_u32(tb[IFLA_GROUP]),
			      .up = m->ifi_flags & IFF_UP,
			      .running = m->ifi_flags & IFF_RUNNING,
			      .loopback = m->ifi_flags & IFF_LOOPBACK,
			      .point_to_point = m->ifi_flags & IFF_POINTOPOINT};
	nl_attr_str(tb[IFLA_IFNAME], l->name, sizeof l->name);
	link_kind(tb[IFLA_LINKINFO], l->kind, sizeof l->kind);
	return true;
}

static int link_take(const struct nlmsghdr *h, void *ctx)
{
	return link_parse(h, ctx) ? 0 : -EBADMSG;
}

int nl_link_get(struct nl *nl, const char *name, struct nl_link *out)
{
	struct nl_request q;

	if (!*name || strlen(name) >= IFNAMSIZ)
		return -ENODEV;
	nl_request_init(&q, RTM_GETLINK, 0, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(q.h, IFLA_IFNAME, name);
	return nl_ask(nl, &q, link_take, out);
}

int nl_link_index(struct nl *nl, const char *name)
{
	struct nl_link l;
	int rc = nl_link_get(nl, name, &l);

	return rc ? rc : (int)l.index;
}

int nl_link_set_up(struct nl *nl, uint32_t index, bool up)
{
	struct nl_request q;
	struct ifinfomsg *m = nl_request_init(&q, RTM_NEWLINK, 0, sizeof *m);

	m->ifi_index = (int)index;
	m->ifi_change = IFF_UP;
	m->ifi_flags = up ? IFF_UP : 0;
	return nl_ask(nl, &q, NULL, NULL);
}

static int link_set(struct nl *nl, uint32_t index, uint16_t attr, uint32_t value)
{
	struct nl_request q;
	struct ifinfomsg *m = nl_request_init(&q, RTM_NEWLINK, 0, sizeof *m);

	m->ifi_index = (int)index;
	mnl_attr_put_u32(q.h, attr, value);
	return nl_ask(nl, &q, NULL, NULL);
}

int nl_link_set_mtu(struct nl *nl, uint32_t index, uint32_t mtu)
{
	return link_set(nl, index, IFLA_MTU, mtu);
}

/* Within 64 KB the kernel takes the same for IPv4. */
int nl_link_set_gso_max(struct nl *nl, uint32_t index, uint32_t bytes)
{
	return link_set(nl, index, IFLA_GSO_MAX_SIZE, bytes);
}

int nl_link_add(struct nl *nl, const char *name, const char *kind)
{
	struct nl_request q;
	struct nlattr *info;

	if (!*name || strlen(name) >= IFNAMSIZ || strlen(kind) >= 16)
		return -EINVAL;
	nl_request_init(&q, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(q.h, IFLA_IFNAME, name);
	mnl_attr_put_u32(q.h, IFLA_GROUP, NL_GROUP_MESHNET);
	info = mnl_attr_nest_start(q.h, IFLA_LINKINFO);
	mnl_attr_put_strz(q.h, IFLA_INFO_KIND, kind);
	mnl_attr_nest_end(q.h, info);
	return nl_ask(nl, &q, NULL, NULL);
}

int nl_link_del(struct nl *nl, uint32_t index)
{
	struct nl_request q;
	struct ifinfomsg *m = nl_request_init(&q, RTM_DELLINK, 0, sizeof *m);

	m->ifi_index = (int)index;
	return nl_ask(nl, &q, NULL, NULL);
}

int nl_link_claim(struct nl *nl, uint32_t index)
{
	return link_set(nl, index, IFLA_GROUP, NL_GROUP_MESHNET);
}

bool nl_link_numbered(char out[IFNAMSIZ], const char *template, uint32_t number)
{
	const char *at = strstr(template, "%d");
	int n = at ? snprintf(out, IFNAMSIZ, "%.*s%u%s", (int)(at - template), template, number,
			      at + 2)
		   : -1;

	return n > 0 && n < IFNAMSIZ;
}

int nl_link_free_name(struct nl *nl, const char *wanted, char out[IFNAMSIZ])
{
	if (!*wanted || strlen(wanted) >= IFNAMSIZ)
		return -EINVAL;
	if (!strstr(wanted, "%d")) {
		memcpy(out, wanted, strlen(wanted) + 1);
		return 0;
	}
	for (unsigned i = 0; i < NAME_NUMBERS_MAX; i++) {
		if (!nl_link_numbered(out, wanted, i))
			return -ENOSPC;
		int index = nl_link_index(nl, out);
		if (index < 0)
			return index == -ENODEV ? 0 : index;
	}
	return -ENOSPC;
}

int nl_link_rename(struct nl *nl, uint32_t index, const char *name)
{
	struct nl_request q;
	struct ifinfomsg *m = nl_request_init(&q, RTM_NEWLINK, 0, sizeof *m);

	m->ifi_index = (int)index;
	mnl_attr_put_strz(q.h, IFLA_IFNAME, name);
	return nl_ask(nl, &q, NULL, NULL);
}

int nl_link_set_mac(struct nl *nl, uint32_t index, const uint8_t mac[6])
{
	struct nl_request q;
	struct ifinfomsg *m = nl_request_init(&q, RTM_NEWLINK, 0, sizeof *m);

	m->ifi_index = (int)index;
	mnl_attr_put(q.h, IFLA_ADDRESS, 6, mac);
	return nl_ask(nl, &q, NULL, NULL);
}

int nl_link_add_altname(struct nl *nl, uint32_t index, const char *name)
{
	struct nl_request q;
	struct ifinfomsg *m = nl_request_init(&q, RTM_NEWLINKPROP,
					      NLM_F_CREATE | NLM_F_EXCL | NLM_F_APPEND, sizeof *m);
	struct nlattr *list;

	m->ifi_index = (int)index;
	list = mnl_attr_nest_start(q.h, IFLA_PROP_LIST);
	mnl_attr_put_strz(q.h, IFLA_ALT_IFNAME, name);
	mnl_attr_nest_end(q.h, list);
	return nl_ask(nl, &q, NULL, NULL);
}

struct link_visit {
	nl_link_visit *visit;
	void *ctx;
};

static int link_visit(const struct nlmsghdr *h, void *ctx)
{
	const struct link_visit *v = ctx;
	struct nl_link l;

	return link_parse(h, &l) ? v->visit(&l, v->ctx) : 0;
}

int nl_link_list(struct nl *nl, nl_link_visit *visit, void *ctx)
{
	return nl_list(nl, RTM_GETLINK, 0, link_visit, &(struct link_visit){visit, ctx});
}

/* ---- addresses ---- */

static int addr_request(struct nl *nl, uint16_t type, uint16_t flags, const struct nl_addr *a)
{
	struct nl_request q;
	struct ifaddrmsg *m = nl_request_init(&q, type, flags, sizeof *m);

	if ((a->prefix.addr.family != 4 && a->prefix.addr.family != 6) ||
	    (a->peer.family && a->peer.family != a->prefix.addr.family))
		return -EINVAL;
	m->ifa_family = nl_af(a->prefix.addr.family);
	m->ifa_prefixlen = a->prefix.bits;
	m->ifa_index = a->link;
	nl_put_addr(&q, IFA_LOCAL, &a->prefix.addr);
	nl_put_addr(&q, IFA_ADDRESS, a->peer.family ? &a->peer : &a->prefix.addr);
	if (type == RTM_NEWADDR) {
		mnl_attr_put_u8(q.h, IFA_PROTO, NL_PROTO_MESHNET);
		if (a->prefix.addr.family == 6)
			mnl_attr_put_u32(q.h, IFA_FLAGS, IFA_F_NODAD);
	}
	return nl_ask(nl, &q, NULL, NULL);
}

int nl_addr_add(struct nl *nl, const struct nl_addr *a)
{
	return addr_request(nl, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, a);
}

int nl_addr_del(struct nl *nl, const struct nl_addr *a)
{
	return addr_request(nl, RTM_DELADDR, 0, a);
}

struct addr_visit {
	nl_addr_visit *visit;
	void *ctx;
};

static int addr_visit(const struct nlmsghdr *h, void *ctx)
{
	const struct addr_visit *v = ctx;
	const struct nlattr *tb[IFA_MAX + 1];
	const struct ifaddrmsg *m = mnl_nlmsg_get_payload(h);
	struct nl_addr a;

	if (h->nlmsg_type != RTM_NEWADDR || !nl_attrs(h, sizeof *m, tb, IFA_MAX))
		return 0;
	uint8_t family = nl_family_of(m->ifa_family);
	/* On point-to-point links IFA_ADDRESS is the peer. */
	a = (struct nl_addr){.link = m->ifa_index,
			     .prefix.addr = nl_attr_addr(
				     tb[IFA_LOCAL] ? tb[IFA_LOCAL] : tb[IFA_ADDRESS], family),
			     .prefix.bits = m->ifa_prefixlen,
			     .peer = nl_attr_addr(tb[IFA_ADDRESS], family),
			     .proto = nl_attr_u8(tb[IFA_PROTO])};
	if (net_addr_same_ip(&a.peer, &a.prefix.addr))
		a.peer.family = 0;
	return family ? v->visit(&a, v->ctx) : 0;
}

int nl_addr_list(struct nl *nl, uint8_t family, nl_addr_visit *visit, void *ctx)
{
	return nl_list(nl, RTM_GETADDR, family, addr_visit, &(struct addr_visit){visit, ctx});
}
