#include "io/netlink_tc.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/tc_act/tc_mirred.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "io/netlink_msg.h"

#define TICK_NS 64u	      /* of the packet scheduler's clock */
#define BURST_US 10000u	      /* what may leave at once */
#define BURST_MIN_BYTES 3200u /* two packets */
#define QUANTUM_BYTES 15000u  /* the same for all: who wants more than its rate shares equally */
#define INGRESS_PARENT TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)
#define EGRESS_PARENT TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS)

static struct tcmsg *tc_request(struct nl_request *q, uint16_t type, uint16_t flags, uint32_t dev)
{
	struct tcmsg *t = nl_request_init(q, type, flags, sizeof *t);

	t->tcm_family = AF_UNSPEC;
	t->tcm_ifindex = (int)dev;
	return t;
}

static uint32_t handle(uint16_t minor)
{
	return NL_TC_MAJOR << 16 | minor;
}

int nl_htb_add(struct nl *nl, uint32_t dev)
{
	const struct tc_htb_glob glob = {.version = 3, .rate2quantum = 10};
	struct nl_request q;
	struct tcmsg *t = tc_request(&q, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, dev);
	struct nlattr *options;

	t->tcm_parent = TC_H_ROOT;
	t->tcm_handle = handle(0);
	mnl_attr_put_strz(q.h, TCA_KIND, "htb");
	options = mnl_attr_nest_start(q.h, TCA_OPTIONS);
	mnl_attr_put(q.h, TCA_HTB_INIT, sizeof glob, &glob);
	mnl_attr_nest_end(q.h, options);
	return nl_ask(nl, &q, NULL, NULL);
}

static uint32_t within_u32(uint64_t v)
{
	return v > UINT32_MAX ? UINT32_MAX : (uint32_t)v;
}

static struct tc_ratespec rate_of(uint64_t bytes_s)
{
	return (struct tc_ratespec){
		.linklayer = TC_LINKLAYER_ETHERNET,
		.rate = (uint32_t)(bytes_s > NL_TC_RATE_MAX ? NL_TC_RATE_MAX : bytes_s)};
}

/* The time that a burst takes at this rate, in ticks. */
static uint32_t burst_of(uint64_t bytes_s)
{
	uint64_t burst = bytes_s * BURST_US / 1000000u;

	if (burst < BURST_MIN_BYTES)
		burst = BURST_MIN_BYTES;
	return within_u32(burst * 1000000000u / bytes_s / TICK_NS);
}

int nl_htb_class(struct nl *nl, uint32_t dev, uint16_t minor, uint16_t parent,
		 uint64_t rate_bytes_s, uint64_t ceil_bytes_s)
{
	struct tc_htb_opt opt = {.rate = rate_of(rate_bytes_s),
				 .ceil = rate_of(ceil_bytes_s),
				 .quantum = QUANTUM_BYTES};
	struct nl_request q;
	struct tcmsg *t = tc_request(&q, RTM_NEWTCLASS, NLM_F_CREATE, dev);
	struct nlattr *options;

	if (!rate_bytes_s || ceil_bytes_s < rate_bytes_s)
		return -EINVAL;
	opt.buffer = burst_of(rate_bytes_s);
	opt.cbuffer = burst_of(ceil_bytes_s);
	t->tcm_parent = handle(parent);
	t->tcm_handle = handle(minor);
	mnl_attr_put_strz(q.h, TCA_KIND, "htb");
	options = mnl_attr_nest_start(q.h, TCA_OPTIONS);
	mnl_attr_put(q.h, TCA_HTB_PARMS, sizeof opt, &opt);
	mnl_attr_nest_end(q.h, options);
	return nl_ask(nl, &q, NULL, NULL);
}

int nl_htb_class_del(struct nl *nl, uint32_t dev, uint16_t minor)
{
	struct nl_request q;
	struct tcmsg *t = tc_request(&q, RTM_DELTCLASS, 0, dev);

	t->tcm_handle = handle(minor);
	return nl_ask(nl, &q, NULL, NULL);
}

int nl_leaf_set(struct nl *nl, uint32_t dev, uint16_t minor, const char *kind, uint32_t limit_bytes)
{
	const struct tc_fifo_qopt fifo = {.limit = limit_bytes};
	struct nl_request q;
	struct tcmsg *t = tc_request(&q, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, dev);

	t->tcm_parent = handle(minor);
	mnl_attr_put_strz(q.h, TCA_KIND, kind);
	if (strcmp(kind, "bfifo") == 0)
		mnl_attr_put(q.h, TCA_OPTIONS, sizeof fifo, &fifo);
	return nl_ask(nl, &q, NULL, NULL);
}

/* ---- the hooks ---- */

int nl_clsact_add(struct nl *nl, uint32_t dev)
{
	struct nl_request q;
	struct tcmsg *t = tc_request(&q, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, dev);

	t->tcm_parent = TC_H_CLSACT;
	t->tcm_handle = TC_H_MAKE(TC_H_CLSACT, 0);
	mnl_attr_put_strz(q.h, TCA_KIND, "clsact");
	return nl_ask(nl, &q, NULL, NULL);
}

static int on_filter(const struct nlmsghdr *h, void *ctx)
{
	const struct tcmsg *t = mnl_nlmsg_get_payload(h);
	bool *foreign = ctx;

	if (h->nlmsg_type == RTM_NEWTFILTER && mnl_nlmsg_get_payload_len(h) >= sizeof *t &&
	    t->tcm_info >> 16 != NL_TC_PRIO)
		*foreign = true;
	return 0;
}

static int others_have(struct nl *nl, uint32_t dev, uint32_t parent, bool *foreign)
{
	struct nl_request q;
	struct tcmsg *t = tc_request(&q, RTM_GETTFILTER, NLM_F_DUMP, dev);

	t->tcm_parent = parent;
	return nl_ask(nl, &q, on_filter, foreign);
}

static int filters_del(struct nl *nl, uint32_t dev, uint32_t parent)
{
	struct nl_request q;
	struct tcmsg *t = tc_request(&q, RTM_DELTFILTER, 0, dev);

	t->tcm_parent = parent;
	t->tcm_info = TC_H_MAKE(NL_TC_PRIO << 16, htons(ETH_P_ALL));
	return nl_ask(nl, &q, NULL, NULL);
}

static int gone_is_fine(int rc)
{
	return rc == -ENOENT || rc == -ENODEV || rc == -EINVAL ? 0 : rc;
}

int nl_clsact_release(struct nl *nl, uint32_t dev)
{
	struct nl_request q;
	struct tcmsg *t;
	bool foreign = false;
	int rc = others_have(nl, dev, INGRESS_PARENT, &foreign);

	if (!rc)
		rc = others_have(nl, dev, EGRESS_PARENT, &foreign);
	if (rc)
		return gone_is_fine(rc);
	if (foreign) {
		rc = gone_is_fine(filters_del(nl, dev, INGRESS_PARENT));
		return rc ? rc : gone_is_fine(filters_del(nl, dev, EGRESS_PARENT));
	}
	t = tc_request(&q, RTM_DELQDISC, 0, dev);
	t->tcm_parent = TC_H_CLSACT;
	t->tcm_handle = TC_H_MAKE(TC_H_CLSACT, 0);
	return gone_is_fine(nl_ask(nl, &q, NULL, NULL));
}

/* ---- filters ---- */

static void put_redirect(struct nl_request *q, uint32_t to)
{
	const struct tc_mirred mirred = {
		.action = TC_ACT_STOLEN, .eaction = TCA_EGRESS_REDIR, .ifindex = to};
	struct nlattr *actions = mnl_attr_nest_start(q->h, TCA_BPF_ACT);
	struct nlattr *first = mnl_attr_nest_start(q->h, 1), *options;

	mnl_attr_put_strz(q->h, TCA_ACT_KIND, "mirred");
	options = mnl_attr_nest_start(q->h, TCA_ACT_OPTIONS);
	mnl_attr_put(q->h, TCA_MIRRED_PARMS, sizeof mirred, &mirred);
	mnl_attr_nest_end(q->h, options);
	mnl_attr_nest_end(q->h, first);
	mnl_attr_nest_end(q->h, actions);
}

/* Of the filters that nl_bpf_replace sets; those of nl_bpf_add get theirs from the kernel. */
#define REPLACE_HANDLE 0x6d67u

static int bpf_set(struct nl *nl, uint32_t dev, enum nl_tc_hook hook,
		   const struct sock_filter *program, uint16_t length, uint32_t to, bool replace)
{
	struct nl_request q;
	size_t bytes = length * sizeof *program;
	struct tcmsg *t = tc_request(&q, RTM_NEWTFILTER,
				     replace ? NLM_F_CREATE : NLM_F_CREATE | NLM_F_EXCL, dev);
	struct nlattr *options;
	char *room = NULL;
	int rc;

	t->tcm_parent = hook == NL_TC_CLASS	? handle(0)
			: hook == NL_TC_INGRESS ? INGRESS_PARENT
						: EGRESS_PARENT;
	t->tcm_info = TC_H_MAKE(NL_TC_PRIO << 16, htons(ETH_P_ALL));
	t->tcm_handle = replace ? REPLACE_HANDLE : 0;
	if (bytes > NL_BPF_MAX * sizeof *program) {
		room = malloc(NL_REQUEST_MAX + bytes);
		if (!room)
			return -ENOMEM;
		memcpy(room, q.buf, sizeof q.buf);
		q.h = (struct nlmsghdr *)(void *)room;
	}
	mnl_attr_put_strz(q.h, TCA_KIND, "bpf");
	options = mnl_attr_nest_start(q.h, TCA_OPTIONS);
	mnl_attr_put_u16(q.h, TCA_BPF_OPS_LEN, length);
	mnl_attr_put(q.h, TCA_BPF_OPS, bytes, program);
	if (hook != NL_TC_CLASS)
		put_redirect(&q, to);
	mnl_attr_nest_end(q.h, options);
	rc = nl_ask(nl, &q, NULL, NULL);
	free(room);
	return rc;
}

int nl_bpf_add(struct nl *nl, uint32_t dev, enum nl_tc_hook hook, const struct sock_filter *program,
	       uint16_t length, uint32_t to)
{
	return length > NL_BPF_MAX ? -EINVAL : bpf_set(nl, dev, hook, program, length, to, false);
}

int nl_bpf_replace(struct nl *nl, uint32_t dev, enum nl_tc_hook hook,
		   const struct sock_filter *program, uint16_t length, uint32_t to)
{
	return length > NL_BPF_HOSTS_MAX ? -EINVAL
					 : bpf_set(nl, dev, hook, program, length, to, true);
}

/* ---- the program ---- */

#define NET (uint32_t) SKF_NET_OFF /* offsets from the network header, whatever the link's is */

struct program {
	struct sock_filter *out;
	uint16_t length, max;
};

static void put(struct program *p, uint16_t code, uint32_t k, uint8_t jt, uint8_t jf)
{
	if (p->length < p->max)
		p->out[p->length++] = (struct sock_filter){code, jt, jf, k};
}

/* A word of the address under the mask is as the network's, or the answer is 0. */
static void put_match(struct program *p, uint32_t at, uint32_t mask, uint32_t want)
{
	put(p, BPF_LD | BPF_W | BPF_ABS, NET + at, 0, 0);
	put(p, BPF_ALU | BPF_AND | BPF_K, mask, 0, 0);
	put(p, BPF_JMP | BPF_JEQ | BPF_K, want & mask, 1, 0);
	put(p, BPF_RET | BPF_K, 0, 0, 0);
}

/* `last`: the address's last word; `bits`: how many of it are the network's. */
static void put_answer(struct program *p, uint32_t last, unsigned bits, uint32_t want,
		       bool redirect)
{
	uint32_t mask = bits >= 16 ? ~(uint32_t)0 << (32 - bits) : 0xffff0000u;

	put_match(p, last, mask, want);
	if (redirect) {
		put(p, BPF_RET | BPF_K, ~(uint32_t)0, 0, 0);
		return;
	}
	put(p, BPF_LD | BPF_W | BPF_ABS, NET + last, 0, 0);
	put(p, BPF_ALU | BPF_AND | BPF_K, ~mask, 0, 0);
	put(p, BPF_ALU | BPF_OR | BPF_K, handle(0), 0, 0);
	put(p, BPF_RET | BPF_A, 0, 0, 0);
}

/* Where an address begins in the header. */
static uint32_t offset_of(bool v6, bool source)
{
	return v6 ? (source ? 8 : 24) : (source ? 12 : 16);
}

/* What the host itself says to a subscriber, or hears, does not burden the uplink. */
static void put_own(struct program *p, const struct net_prefix *net, bool from)
{
	bool v6 = net->addr.family == 6;
	uint32_t last = v6 ? 12 : 0;

	put(p, BPF_LD | BPF_W | BPF_ABS, NET + offset_of(v6, !from) + last, 0, 0);
	put(p, BPF_JMP | BPF_JEQ | BPF_K, be32_get(net->addr.ip + last) + 1, 0, v6 ? 3 : 1);
	if (v6) { /* its last word is many hosts' */
		put(p, BPF_LD | BPF_W | BPF_ABS, NET + offset_of(v6, !from), 0, 0);
		put(p, BPF_JMP | BPF_JEQ | BPF_K, be32_get(net->addr.ip), 0, 1);
	}
	put(p, BPF_RET | BPF_K, 0, 0, 0);
}

static void put_family(struct program *p, const struct net_prefix *net, bool from, bool redirect)
{
	bool v6 = net->addr.family == 6;
	uint32_t at = offset_of(v6, from);
	unsigned words = v6 ? 3 : 0, bits = v6 ? (net->bits > 96 ? net->bits - 96u : 0) : net->bits;

	if (redirect)
		put_own(p, net, from);
	for (unsigned i = 0; i < words; i++)
		put_match(p, at + 4 * i, ~(uint32_t)0, be32_get(net->addr.ip + 4 * i));
	put_answer(p, at + 4 * words, bits, be32_get(net->addr.ip + 4 * words), redirect);
}

uint16_t nl_bpf_leases(struct sock_filter out[NL_BPF_MAX], const struct net_prefix *net4,
		       const struct net_prefix *net6, bool from, bool redirect)
{
	const struct net_prefix *nets[] = {net4, net6};
	struct program p = {.out = out, .max = NL_BPF_MAX};
	uint16_t jump;

	put(&p, BPF_LD | BPF_B | BPF_ABS, NET, 0, 0);
	put(&p, BPF_ALU | BPF_RSH | BPF_K, 4, 0, 0);
	for (size_t i = 0; i < 2; i++) {
		if (!nets[i]->addr.family)
			continue;
		jump = p.length;
		put(&p, BPF_JMP | BPF_JEQ | BPF_K, nets[i]->addr.family, 0, 0);
		put_family(&p, nets[i], from, redirect);
		out[jump].jf = (uint8_t)(p.length - jump - 1);
	}
	put(&p, BPF_RET | BPF_K, 0, 0, 0);
	return p.length;
}

/* ---- the program for hosts ---- */

#define HOST4_LENGTH 5
#define HOST6_LENGTH 18

/* Keeps the other address's comparison behind ours: most packets are somebody else's. */
static void put_host4(struct program *p, const struct nl_bpf_host *h, bool from, uint32_t answer)
{
	put(p, BPF_JMP | BPF_JEQ | BPF_K, be32_get(h->host.ip), 0, HOST4_LENGTH - 1);
	put(p, BPF_LD | BPF_W | BPF_ABS, NET + offset_of(false, !from), 0, 0);
	put(p, BPF_JMP | BPF_JEQ | BPF_K, be32_get(h->server.ip), 0, 1);
	put(p, BPF_RET | BPF_K, 0, 0, 0);
	put(p, BPF_RET | BPF_K, answer, 0, 0);
}

/* All four words, the last first, are the address's; else on at `miss` of this host's part. */
static void put_address6(struct program *p, uint16_t begin, const struct net_addr *a, uint32_t at,
			 uint16_t miss)
{
	for (uint32_t i = 4; i-- > 0;) {
		put(p, BPF_LD | BPF_W | BPF_ABS, NET + at + 4 * i, 0, 0);
		put(p, BPF_JMP | BPF_JEQ | BPF_K, be32_get(a->ip + 4 * i), 0,
		    (uint8_t)(begin + miss - p->length - 1));
	}
}

static void put_host6(struct program *p, const struct nl_bpf_host *h, bool from, uint32_t answer)
{
	uint16_t begin = p->length;

	put_address6(p, begin, &h->host, offset_of(true, from), HOST6_LENGTH);
	put_address6(p, begin, &h->server, offset_of(true, !from), HOST6_LENGTH - 1);
	put(p, BPF_RET | BPF_K, 0, 0, 0);
	put(p, BPF_RET | BPF_K, answer, 0, 0);
}

/* How many of the list have room with what stands before and behind them. */
static size_t hosts_fit(const struct nl_bpf_host *hosts, size_t count)
{
	size_t length = 16, i = 0;

	for (; i < count; i++) {
		length += hosts[i].host.family == 6 ? HOST6_LENGTH : HOST4_LENGTH;
		if (length > NL_BPF_HOSTS_MAX)
			break;
	}
	return i;
}

uint16_t nl_bpf_hosts(struct sock_filter out[NL_BPF_HOSTS_MAX], const struct nl_bpf_host *hosts,
		      size_t count, size_t *fit, bool from, bool redirect)
{
	struct program p = {.out = out, .max = NL_BPF_HOSTS_MAX};
	uint16_t jump;

	*fit = hosts_fit(hosts, count);
	put(&p, BPF_LD | BPF_B | BPF_ABS, NET, 0, 0);
	put(&p, BPF_ALU | BPF_RSH | BPF_K, 4, 0, 0);
	for (uint8_t family = 4; family <= 6; family += 2) {
		put(&p, BPF_JMP | BPF_JEQ | BPF_K, family, 1, 0);
		jump = p.length; /* a conditional one reaches 255 instructions only */
		put(&p, BPF_JMP | BPF_JA, 0, 0, 0);
		if (family == 4)
			put(&p, BPF_LD | BPF_W | BPF_ABS, NET + offset_of(false, from), 0, 0);
		for (size_t i = 0; i < *fit; i++) {
			const struct nl_bpf_host *h = &hosts[i];
			uint32_t answer = redirect ? ~(uint32_t)0 : handle(0) | h->minor;
			if (h->host.family != family)
				continue;
			if (family == 4)
				put_host4(&p, h, from, answer);
			else
				put_host6(&p, h, from, answer);
		}
		put(&p, BPF_RET | BPF_K, 0, 0, 0);
		out[jump].k = p.length - jump - 1u;
	}
	put(&p, BPF_RET | BPF_K, 0, 0, 0);
	return p.length;
}
