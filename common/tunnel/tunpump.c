#include "tunnel/tunpump.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/log.h"
#include "io/clock.h"
#include "io/sysctl.h"
#include "io/tun.h"
#include "libmeshapp/meshapp.h"
#include "libmeshapp/meshtun.h"
#include "wire/vnethdr.h"

struct tunpump_route {
	LIST_ENTRY(tunpump_route) link;
	struct tunpump *pump;
	struct tunroute route; /* counts what is moved here */
	struct meshconn *conn;
	struct tunroute_counters by_node; /* for connections that are gone */
	struct log_limit foreign_log;
};

struct tunpump {
	struct tun *tun;
	struct tunpump_config config;
	struct tunroute_table table;
	LIST_HEAD(, tunpump_route) routes;
	size_t connected, plain; /* peers that are; those that take no headers */
	bool can_cut;		 /* the kernel's super-packets are small enough for us */
	bool forwards;		 /* the host, when it was last asked */
	bool blocked;		 /* a connection takes nothing now */
	struct meshtun *node;	 /* asked to move the packets, */
	bool served;		 /* and does, */
	bool refused;		 /* or cannot */
};

_Static_assert(TUNPUMP_GSO_MAX + VNETHDR_BYTES <= MESHAPP_DATAGRAM_MAX_BYTES,
	       "a super-packet is one record");
_Static_assert(TUN_HEADER_MAX == VNETHDR_BYTES, "tun.h and vnethdr.h mean the same header");

bool tunpump_can_vnet(void)
{
	return tun_probe_vnet();
}

/* --- the kernel's side ---------------------------------------------------------------------- */

static void update_reading(struct tunpump *t)
{
	bool on = !t->served && !t->blocked && (t->connected || !t->config.hold);

	(void)tun_set_reading(t->tun, on);
}

static void set_offload(struct tunpump *t)
{
	if (!t->can_cut)
		return;
	int rc = tun_set_offload(t->tun, t->plain == 0);
	if (rc)
		log_warn("%s: offloads stay as they are: %s", tun_name(t->tun), strerror(-rc));
}

static bool host_forwards(void)
{
	static const char *const keys[] = {"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"};
	char value[SYSCTL_VALUE_MAX];

	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
		if (sysctl_read(keys[i], value, sizeof value) == 0 && strcmp(value, "0") != 0)
			return true;
	return false;
}

static int set_gso_max(struct tunpump *t, struct nl *nl)
{
	t->forwards = host_forwards();
	return nl_link_set_gso_max(nl, tun_index(t->tun),
				   t->forwards ? TUNPUMP_GSO_MAX : TUNPUMP_GSO_OWN_MAX);
}

/* Hosts become routers and cease to be: asked whenever a peer comes. */
static void follow_forwarding(struct tunpump *t)
{
	struct nl *nl;

	if (!t->can_cut || host_forwards() == t->forwards || nl_open(&nl))
		return;
	(void)set_gso_max(t, nl);
	nl_close(nl);
}

static void from_tun(uint8_t *record, size_t len, void *arg)
{
	struct tunpump *t = arg;
	struct bytes out;
	struct tunroute *found = tunroute_out(&t->table, record, len, &out);
	struct tunpump_route *r;
	int rc;

	if (!found) /* nobody has this address, or multicast of the kernel's own */
		return;
	r = found->owner;
	rc = r->conn ? meshconn_send(r->conn, out.data, out.len) : -ENOTCONN;
	tunroute_sent(found, out.len, rc == 0);
	/* What comes next waits in the interface's queue. */
	if (rc == -EAGAIN || (rc == 0 && !meshconn_is_writable(r->conn))) {
		t->blocked = true;
		update_reading(t);
	}
}

static void tun_lost(int err, void *arg)
{
	struct tunpump *t = arg;

	t->config.lost(err, t->config.arg);
}

/* The interface dies with us, so nothing of this goes to the journal.  Up comes first: the kernel
 * loses the route to an IPv6 peer when the address is given to an interface that is down. */
static int configure(struct tunpump *t, struct nl *nl)
{
	const struct tunpump_config *c = &t->config;
	uint32_t link = tun_index(t->tun);
	int rc = nl_link_set_mtu(nl, link, c->mtu);

	t->can_cut = t->table.vnet && set_gso_max(t, nl) == 0;
	set_offload(t);
	if (!rc)
		rc = nl_link_set_up(nl, link, true);
	for (size_t i = 0; i < c->addr_count && !rc; i++) {
		struct nl_addr a = c->addrs[i];
		a.link = link;
		if (a.prefix.addr.family)
			rc = nl_addr_add(nl, &a);
		/* A host without IPv6 still has IPv4. */
		if (rc && a.prefix.addr.family == 6) {
			log_warn("%s: no IPv6 address: %s", tun_name(t->tun), strerror(-rc));
			rc = 0;
		}
	}
	return rc;
}

int tunpump_open(struct tunpump **out, struct event_base *base, struct nl *nl,
		 const struct tunpump_config *config)
{
	struct tunpump *t = calloc(1, sizeof *t);
	bool vnet = tunpump_can_vnet();
	uint64_t seed;
	int rc;

	if (!t)
		return -ENOMEM;
	randombytes_buf(&seed, sizeof seed);
	t->config = *config;
	LIST_INIT(&t->routes);
	tunroute_table_init(&t->table, vnet, seed);
	rc = tun_open(&t->tun, base, config->interface, vnet ? TUN_VNET : TUN_PLAIN);
	if (!rc)
		rc = configure(t, nl);
	if (rc) {
		tunpump_close(t);
		return rc;
	}
	tun_set_callbacks(t->tun, from_tun, tun_lost, t);
	update_reading(t);
	t->config.addrs = NULL;
	t->config.interface = NULL;
	*out = t;
	return 0;
}

static void route_free(struct tunpump_route *r)
{
	LIST_REMOVE(r, link);
	free(r);
}

void tunpump_close(struct tunpump *t)
{
	if (!t)
		return;
	while (!LIST_EMPTY(&t->routes))
		route_free(LIST_FIRST(&t->routes));
	meshtun_close(t->node);
	tunroute_table_free(&t->table);
	tun_free(t->tun);
	free(t);
}

const char *tunpump_interface(const struct tunpump *t)
{
	return tun_name(t->tun);
}

/* --- the node's help ------------------------------------------------------------------------ */

static void hand_route_over(struct tunpump_route *r)
{
	struct tunpump *t = r->pump;

	if (t->served && r->conn)
		(void)meshtun_route(t->node, r->conn, &r->route.filter, r->route.vnet);
}

static void on_node_state(struct meshtun *node, uint16_t code, void *arg)
{
	struct tunpump *t = arg;
	struct tunpump_route *r;

	t->served = code == CODE_OK;
	if (t->served) {
		log_debug("%s: the node moves its packets", tun_name(t->tun));
		LIST_FOREACH(r, &t->routes, link)
			hand_route_over(r);
	} else {
		log_debug("%s: the node does not move its packets: %s", tun_name(t->tun),
			  msg_code_name(code));
		t->node = NULL;
		t->refused = code != CODE_LOST;
		meshtun_close(node);
	}
	update_reading(t);
}

static void ask_node(struct tunpump *t)
{
	int rc;

	if (t->node || t->refused)
		return;
	rc = meshtun_open(&t->node, t->config.app, tun_fd(t->tun), t->table.vnet, on_node_state, t);
	t->refused = rc == -EOPNOTSUPP;
}

/* --- routes --------------------------------------------------------------------------------- */

int tunpump_add(struct tunpump *t, const struct tunroute_filter *filter, bool vnet,
		struct tunpump_route **out)
{
	struct tunpump_route *r = calloc(1, sizeof *r);
	int rc;

	if (!r)
		return -ENOMEM;
	r->pump = t;
	r->route = (struct tunroute){.filter = *filter, .vnet = vnet, .owner = r};
	rc = tunroute_add(&t->table, &r->route);
	if (rc) {
		free(r);
		return rc;
	}
	LIST_INSERT_HEAD(&t->routes, r, link);
	if (!vnet && t->plain++ == 0)
		set_offload(t);
	*out = r;
	return 0;
}

void tunpump_set_vnet(struct tunpump_route *r, bool vnet)
{
	struct tunpump *t = r->pump;

	if (r->route.vnet == vnet)
		return;
	r->route.vnet = vnet;
	t->plain += vnet ? (size_t)-1 : 1;
	set_offload(t);
	hand_route_over(r);
}

void tunpump_remove(struct tunpump_route *r)
{
	if (!r)
		return;
	tunpump_connect(r, NULL);
	tunroute_remove(&r->pump->table, &r->route);
	if (!r->route.vnet && --r->pump->plain == 0)
		set_offload(r->pump);
	route_free(r);
}

static void add_counters(struct tunroute_counters *sum, const struct tunroute_counters *n)
{
	sum->in_packets += n->in_packets;
	sum->in_bytes += n->in_bytes;
	sum->out_packets += n->out_packets;
	sum->out_bytes += n->out_bytes;
	sum->foreign += n->foreign;
	sum->dropped += n->dropped;
}

void tunpump_connect(struct tunpump_route *r, struct meshconn *conn)
{
	struct tunpump *t = r->pump;

	if (r->conn) {
		add_counters(&r->by_node, meshconn_tun_counters(r->conn));
		t->connected--;
	}
	r->conn = conn;
	/* Whoever was blocked may be the one that is gone. */
	t->blocked = false;
	if (conn) {
		t->connected++;
		follow_forwarding(t);
		ask_node(t);
		hand_route_over(r);
	}
	update_reading(t);
}

void tunpump_consume(struct tunpump_route *r, const uint8_t *record, size_t len)
{
	struct tunpump *t = r->pump;
	char text[NET_ADDR_TEXT], node[MESH_ID_SHORT];
	struct net_addr src;
	int rc = tunroute_in(&r->route, record, len, &src);

	if (rc == -EPERM && log_limit_due(&r->foreign_log, daemon_now_us()))
		log_warn("mesh: %s/%s sends from %s, which is not its address (%llu packets "
			 "dropped)",
			 mesh_id_short(meshconn_peer_node(r->conn), node),
			 meshconn_peer_app(r->conn), net_addr_ip_text(&src, text),
			 (unsigned long long)r->route.counters.foreign);
	if (rc)
		return;
	rc = r->route.vnet ? tun_write(t->tun, record, len) : tun_write_plain(t->tun, record, len);
	if (rc)
		r->route.counters.dropped++;
}

void tunpump_writable(struct tunpump_route *r)
{
	r->pump->blocked = false;
	update_reading(r->pump);
}

struct tunroute_counters tunpump_counters(const struct tunpump_route *r)
{
	struct tunroute_counters sum = r->route.counters;

	add_counters(&sum, &r->by_node);
	if (r->conn)
		add_counters(&sum, meshconn_tun_counters(r->conn));
	return sum;
}
