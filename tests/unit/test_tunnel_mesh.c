/*
 * Both ends of the method mesh, each against the kernel on one side and a connection of this test
 * on the other: the functions of libmeshapp that it uses are defined here instead.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <event2/event.h>

#include "base/ippacket.h"
#include "base/log.h"
#include "io/hostjournal.h"
#include "libmeshapp/meshapp.h"
#include "libmeshapp/meshtun.h"
#include "netns.h"
#include "packets.h"
#include "tunnel/tunnel.h"
#include "wire/vnethdr.h"

/* ---- the mesh, played by this test ---- */

struct meshapp {
	struct mesh_id node;
	bool has_node;
};

struct meshconn {
	struct mesh_id peer;
	const char *peer_app;
	uint8_t class;
	struct meshconn_callbacks cb;
	void *arg;
	bool up, closed;
	int send_result;
	struct tunroute_counters tun_counters;
	struct tunroute_filter tun_filter; /* of the last meshtun_route */
	unsigned tun_routes;
	bool tun_vnet;
	uint8_t sent[66000];
	size_t sent_len;
	unsigned sent_count;
};

static struct meshapp app = {.node = {{1, 2, 3}}, .has_node = true};
static struct meshconn dialled;
static int dial_error;
static unsigned dials;

const char *meshapp_app_id(const struct meshapp *a)
{
	(void)a;
	return "this-app";
}

const struct mesh_id *meshapp_node(const struct meshapp *a)
{
	return a->has_node ? &a->node : NULL;
}

struct meshconn *meshapp_connect(struct meshapp *a, const struct mesh_id *node, const char *app_id,
				 uint8_t class, const struct meshconn_callbacks *cb, void *arg)
{
	(void)a;
	(void)app_id;
	dials++;
	if (dial_error) {
		errno = dial_error;
		return NULL;
	}
	dialled = (struct meshconn){.peer = *node, .class = class, .cb = *cb, .arg = arg};
	return &dialled;
}

void meshconn_set_callbacks(struct meshconn *c, const struct meshconn_callbacks *cb, void *arg)
{
	c->cb = *cb;
	c->arg = arg;
}

int meshconn_send(struct meshconn *c, const void *data, size_t len)
{
	if (c->send_result)
		return c->send_result;
	assert_false(c->closed);
	assert_true(len <= sizeof c->sent);
	memcpy(c->sent, data, len);
	c->sent_len = len;
	c->sent_count++;
	return 0;
}

void meshconn_close(struct meshconn *c, uint16_t code, const char *reason)
{
	(void)code;
	(void)reason;
	assert_false(c->closed);
	c->closed = true;
}

const struct mesh_id *meshconn_peer_node(const struct meshconn *c)
{
	return &c->peer;
}

const char *meshconn_peer_app(const struct meshconn *c)
{
	return c->peer_app;
}

uint8_t meshconn_class(const struct meshconn *c)
{
	return c->class;
}

bool meshconn_is_up(const struct meshconn *c)
{
	return c->up;
}

void *meshconn_arg(const struct meshconn *c)
{
	return c->arg;
}

bool meshconn_is_writable(struct meshconn *c)
{
	return c->send_result == 0;
}

/* ---- the node, which takes interfaces or not ---- */

struct meshtun {
	int fd;
	bool vnet;
	meshtun_state_cb *state;
	void *arg;
};
static struct meshtun handed;
static int handover_error = -EOPNOTSUPP;
static unsigned handovers, handbacks;

int meshtun_open(struct meshtun **out, struct meshapp *a, int fd, bool vnet,
		 meshtun_state_cb *state, void *arg)
{
	assert_ptr_equal(a, &app);
	handovers++;
	if (handover_error)
		return handover_error;
	handed = (struct meshtun){.fd = fd, .vnet = vnet, .state = state, .arg = arg};
	*out = &handed;
	return 0;
}

void meshtun_close(struct meshtun *t)
{
	if (t)
		handbacks++;
}

int meshtun_route(struct meshtun *t, struct meshconn *c, const struct tunroute_filter *filter,
		  bool vnet)
{
	assert_ptr_equal(t, &handed);
	c->tun_filter = *filter;
	c->tun_vnet = vnet;
	c->tun_routes++;
	return 0;
}

const struct tunroute_counters *meshconn_tun_counters(const struct meshconn *c)
{
	return &c->tun_counters;
}

/* ---- the test ---- */

static struct event_base *base;
static struct hostjournal *journal;
static struct tunnel_env env;
static char dir[] = "/tmp/tunnel-mesh-XXXXXX";
static char why[TUNNEL_WHY_MAX];

static void quiet(enum log_level level, const char *line)
{
	(void)level;
	(void)line;
}

static int setup(void **state)
{
	char path[64];

	(void)state;
	log_set_sink(quiet);
	if (!netns_enter())
		return 0;
	snprintf(path, sizeof path, "%s/host.db", mkdtemp(dir));
	base = event_base_new();
	if (!base || hostjournal_open(&journal, path))
		return -1;
	env = (struct tunnel_env){.base = base, .journal = journal, .app = &app, .state_dir = dir};
	return 0;
}

static int teardown(void **state)
{
	char command[64];

	(void)state;
	hostjournal_close(journal);
	if (base)
		event_base_free(base);
	snprintf(command, sizeof command, "rm -rf %s", dir);
	if (netns_enter())
		free(netns_output(command));
	return 0;
}

static struct net_addr addr(const char *text)
{
	struct net_addr a;

	assert_int_equal(net_addr_parse(&a, text, 0), 0);
	return a;
}

static struct net_prefix prefix(const char *text)
{
	struct net_prefix p;

	assert_int_equal(net_prefix_parse(&p, text), 0);
	return p;
}

static void pump(unsigned ms)
{
	for (unsigned i = 0; i < ms; i++) {
		event_base_loop(base, EVLOOP_NONBLOCK);
		usleep(1000);
	}
}

/* The kernel makes a new IPv6 address usable from a work queue: soon, not at once. */
static void wait_ready(const char *interface)
{
	char command[96];

	snprintf(command, sizeof command, "ip -6 addr show dev %s tentative", interface);
	for (int i = 0; i < 200; i++) {
		char *text = netns_output(command);
		bool ready = !*text;
		free(text);
		if (ready)
			return;
		pump(5);
	}
	fail_msg("%s does not get ready", interface);
}

static struct json_object *end_of(const char *node, const char *name)
{
	struct json_object *o = json_object_new_object();

	if (node)
		json_object_object_add(o, "node", json_object_new_string(node));
	if (name)
		json_object_object_add(o, "app", json_object_new_string(name));
	return o;
}

#define NODE_A "aa00000000000000000000000000000000000000000000000000000000000000"
#define NODE_B "bb00000000000000000000000000000000000000000000000000000000000000"

static void *gateway(void)
{
	struct tunnel_gateway_config config = {.interface = "mgwt%d",
					       .mtu = 1400,
					       .addr4 = prefix("10.117.0.1/16"),
					       .addr6 = prefix("fd75::1/64")};
	void *gw = NULL;

	if (!netns_enter())
		skip();
	assert_int_equal(tunnel_mesh.gateway_start(&gw, &env, &config, why), 0);
	return gw;
}

static int lease_open(void *gw, const char *sid, const char *node, const char *name,
		      const char *ip4, const char *ip6)
{
	struct tunnel_lease l = {.sid = sid, .options = end_of(node, name)};
	struct json_object *answer = json_object_new_object();
	char interface[IFNAMSIZ] = "";

	if (ip4)
		l.ip4 = addr(ip4);
	if (ip6)
		l.ip6 = addr(ip6);
	*why = '\0';
	int rc = tunnel_mesh.gateway_open(gw, &l, answer, interface, why);
	if (rc == 0) {
		assert_string_equal(interface, "mgwt0");
		assert_string_equal(json_object_get_string(json_object_object_get(answer, "app")),
				    "this-app");
		assert_int_equal(json_object_get_int(json_object_object_get(answer, "mtu")), 1400);
		assert_non_null(json_object_object_get(answer, "node"));
	} else {
		assert_true(strlen(why) > 0);
	}
	json_object_put(answer);
	json_object_put(l.options);
	return rc;
}

static struct meshconn incoming(const char *node, const char *name)
{
	struct meshconn c = {.peer_app = name, .class = CLASS_DATAGRAM, .up = true};

	assert_int_equal(mesh_id_parse(&c.peer, node), 0);
	return c;
}

static struct tunnel_counters counters(void *gw, const char *sid)
{
	struct tunnel_counters c;

	assert_int_equal(tunnel_mesh.gateway_counters(gw, sid, &c), 0);
	return c;
}

static void test_gateway_packets(void **state)
{
	struct meshconn c = incoming(NODE_A, "sub"), stranger = incoming(NODE_B, "sub");
	struct net_addr gw4 = addr("10.117.0.1"), sub4 = addr("10.117.0.2"),
			other4 = addr("10.117.0.3"), gw6 = addr("fd75::1"), sub6 = addr("fd75::2"),
			src, dst;
	uint8_t p[256];

	(void)state;
	void *gw = gateway();
	assert_int_equal(lease_open(gw, "s1", NODE_A, "sub", "10.117.0.2", "fd75::2"), 0);
	assert_false(counters(gw, "s1").connected);
	/* Nobody connected: what comes for the lease is dropped and counted. */
	free(netns_output("ping -c 1 -W 1 10.117.0.2"));
	pump(5);
	assert_true(counters(gw, "s1").dropped >= 1);

	assert_false(tunnel_mesh.gateway_accept(gw, &stranger));
	c.class = CLASS_STREAM;
	assert_false(tunnel_mesh.gateway_accept(gw, &c));
	c.class = CLASS_DATAGRAM;
	assert_true(tunnel_mesh.gateway_accept(gw, &c));
	assert_true(counters(gw, "s1").connected);

	wait_ready("mgwt0");
	/* The kernel answers the ping into the tunnel, and it comes to the lease's connection. */
	size_t len = packet_echo(p, &sub4, &gw4, 9);
	c.cb.consume(&c, p, len);
	pump(5);
	assert_int_equal(ippacket_ends(c.sent, c.sent_len, &src, &dst), 0);
	assert_true(net_addr_same_ip(&src, &gw4) && net_addr_same_ip(&dst, &sub4));
	len = packet_echo(p, &sub6, &gw6, 9);
	c.cb.consume(&c, p, len);
	pump(5);
	assert_int_equal(ippacket_ends(c.sent, c.sent_len, &src, &dst), 0);
	assert_true(net_addr_same_ip(&src, &gw6) && net_addr_same_ip(&dst, &sub6));
	assert_int_equal(counters(gw, "s1").up_packets, 2);
	assert_int_equal(counters(gw, "s1").down_packets, 2);
	assert_int_equal(counters(gw, "s1").up_bytes, 44 + 64);
	assert_int_equal(c.sent_count, 2);

	/* Spoofed, cut, stretched, empty, garbage: counted, nothing comes back. */
	len = packet_echo(p, &other4, &gw4, 9);
	c.cb.consume(&c, p, len);
	assert_int_equal(counters(gw, "s1").spoofed, 1);
	uint64_t dropped = counters(gw, "s1").dropped;
	len = packet_echo(p, &sub4, &gw4, 9);
	c.cb.consume(&c, p, len - 1);
	c.cb.consume(&c, p, len + 1);
	c.cb.consume(&c, p, 0);
	c.cb.consume(&c, (const uint8_t *)"\xff\xff\xff\xff", 4);
	p[0] = 0x41;
	c.cb.consume(&c, p, len);
	pump(5);
	assert_int_equal(counters(gw, "s1").dropped, dropped + 5);
	assert_int_equal(c.sent_count, 2);

	/* No credit: dropped, not queued. */
	c.send_result = -EAGAIN;
	len = packet_echo(p, &sub4, &gw4, 9);
	c.cb.consume(&c, p, len);
	pump(5);
	assert_int_equal(counters(gw, "s1").dropped, dropped + 6);

	c.cb.on_closed(&c, CODE_LOST, "lost");
	assert_false(counters(gw, "s1").connected);
	tunnel_mesh.gateway_stop(gw);
	assert_int_equal(if_nametoindex("mgwt0"), 0);
	assert_int_equal(hostjournal_count(journal), 0);
}

static void test_gateway_leases(void **state)
{
	struct meshconn first = incoming(NODE_A, "sub"), second = incoming(NODE_A, "sub");
	struct tunnel_counters c;

	(void)state;
	void *gw = gateway();
	assert_int_equal(lease_open(gw, "s", NULL, "sub", "10.117.0.2", NULL), -EINVAL);
	assert_int_equal(lease_open(gw, "s", NODE_A, NULL, "10.117.0.2", NULL), -EINVAL);
	assert_int_equal(lease_open(gw, "s", "aa", "sub", "10.117.0.2", NULL), -EINVAL);
	assert_int_equal(lease_open(gw, "s", NODE_A, "", "10.117.0.2", NULL), -EINVAL);
	assert_int_equal(lease_open(gw, "s", NODE_A, "sub", "10.117.0.2", NULL), 0);
	assert_int_equal(lease_open(gw, "s", NODE_A, "sub", "10.117.0.2", NULL), 0);
	assert_int_equal(lease_open(gw, "s", NODE_B, "sub", "10.117.0.2", NULL), -EEXIST);
	assert_int_equal(lease_open(gw, "t", NODE_A, "sub", "10.117.0.3", NULL), -EEXIST);
	assert_int_equal(lease_open(gw, "t", NODE_B, "sub", "10.117.0.2", NULL), -EEXIST);
	assert_int_equal(lease_open(gw, "t", NODE_B, "sub", "10.117.0.3", NULL), 0);
	/* A newer connection of the same app replaces the older one. */
	assert_true(tunnel_mesh.gateway_accept(gw, &first));
	assert_true(tunnel_mesh.gateway_accept(gw, &second));
	assert_true(first.closed);
	assert_false(second.closed);
	tunnel_mesh.gateway_close(gw, "s");
	assert_true(second.closed);
	tunnel_mesh.gateway_close(gw, "s");
	assert_int_equal(tunnel_mesh.gateway_counters(gw, "s", &c), -ENOENT);
	second.closed = false;
	assert_false(tunnel_mesh.gateway_accept(gw, &second));
	assert_int_equal(lease_open(gw, "u", NODE_A, "sub", "10.117.0.2", "fd75::2"), 0);
	tunnel_mesh.gateway_stop(gw);
}

/* ---- subscriber ---- */

static struct {
	enum tunnel_state state;
	unsigned count;
	char text[TUNNEL_WHY_MAX];
	void *close_on_failure;
} told;

static void on_state(enum tunnel_state state, const char *text, void *arg)
{
	assert_ptr_equal(arg, &told);
	told.state = state;
	told.count++;
	snprintf(told.text, sizeof told.text, "%s", text);
	if (state == TUNNEL_FAILED && told.close_on_failure) {
		tunnel_mesh.client_close(told.close_on_failure);
		told.close_on_failure = NULL;
	}
}

static int client(void **c, const char *node)
{
	struct tunnel_grant grant = {.sid = "s",
				     .ip4 = prefix("10.118.0.2/16"),
				     .ip6 = prefix("fd76::2/64"),
				     .gateway4 = addr("10.118.0.1"),
				     .gateway6 = addr("fd76::1"),
				     .object = end_of(node, "gw"),
				     .interface = "mesht0"};

	if (!netns_enter())
		skip();
	memset(&told, 0, sizeof told);
	dials = 0;
	json_object_object_add(grant.object, "mtu", json_object_new_int(1300));
	int rc = tunnel_mesh.client_open(c, &env, &grant, on_state, &told, why);
	json_object_put(grant.object);
	return rc;
}

static void test_client(void **state)
{
	struct net_addr gw4 = addr("10.118.0.1"), own4 = addr("10.118.0.2"), src, dst,
			gw6 = addr("fd76::1"), own6 = addr("fd76::2"), other = addr("10.118.0.3");
	struct tunnel_counters counts;
	uint8_t p[256];
	void *c;

	(void)state;
	assert_int_equal(client(&c, NODE_A), 0);
	assert_int_equal(dialled.class, CLASS_DATAGRAM);
	assert_string_equal(tunnel_mesh.client_interface(c), "");
	assert_int_equal(told.count, 0);
	dialled.up = true;
	dialled.cb.on_up(&dialled);
	assert_int_equal(told.state, TUNNEL_UP);
	assert_string_equal(tunnel_mesh.client_interface(c), "mesht0");
	char *text = netns_output("ip addr show mesht0; ip route show dev mesht0");
	assert_non_null(strstr(text, "mtu 1300"));
	assert_non_null(strstr(text, "inet 10.118.0.2 peer 10.118.0.1/32"));
	assert_non_null(strstr(text, "inet6 fd76::2 peer fd76::1/128"));
	assert_null(strstr(text, "fe80"));
	assert_null(strstr(text, "10.118.0.0/16"));
	free(text);
	wait_ready("mesht0");

	size_t len = packet_echo(p, &gw4, &own4, 3);
	dialled.cb.consume(&dialled, p, len);
	pump(5);
	assert_int_equal(ippacket_ends(dialled.sent, dialled.sent_len, &src, &dst), 0);
	assert_true(net_addr_same_ip(&src, &own4) && net_addr_same_ip(&dst, &gw4));
	len = packet_echo(p, &gw6, &own6, 3);
	dialled.cb.consume(&dialled, p, len);
	pump(5);
	assert_int_equal(ippacket_ends(dialled.sent, dialled.sent_len, &src, &dst), 0);
	assert_true(net_addr_same_ip(&src, &own6) && net_addr_same_ip(&dst, &gw6));
	/* Not for us: a gateway cannot send into our other networks. */
	len = packet_echo(p, &gw4, &other, 3);
	dialled.cb.consume(&dialled, p, len);
	dialled.cb.consume(&dialled, p, 3);
	pump(5);
	tunnel_mesh.client_counters(c, &counts);
	assert_int_equal(counts.down_packets, 2);
	assert_int_equal(counts.up_packets, 2);
	assert_true(counts.connected);
	tunnel_mesh.client_close(c);
	assert_true(dialled.closed);
	assert_int_equal(if_nametoindex("mesht0"), 0);
}

/* Without credit the packets wait in the kernel, and go when there is credit again. */
static void test_client_back_pressure(void **state)
{
	void *c;

	(void)state;
	assert_int_equal(client(&c, NODE_A), 0);
	dialled.up = true;
	dialled.cb.on_up(&dialled);
	dialled.send_result = -EAGAIN;
	char *ping = netns_output("ping -c 3 -i 0.01 -W 0.05 10.118.0.1");
	pump(5);
	assert_int_equal(dialled.sent_count, 0);
	free(ping);
	dialled.send_result = 0;
	dialled.cb.on_writable(&dialled);
	pump(5);
	assert_true(dialled.sent_count >= 2); /* one was read and dropped before */
	tunnel_mesh.client_close(c);
}

static void test_client_reconnects(void **state)
{
	void *c;

	(void)state;
	assert_int_equal(client(&c, NODE_A), 0);
	dialled.up = true;
	dialled.cb.on_up(&dialled);
	unsigned index = if_nametoindex("mesht0");
	dialled.cb.on_closed(&dialled, CODE_LOST, "the node is away");
	assert_int_equal(told.state, TUNNEL_CONNECTING);
	assert_int_equal(told.count, 2);
	dial_error = ENOTCONN;
	pump(450);
	assert_true(dials >= 2);
	dial_error = 0;
	pump(700);
	assert_false(dialled.up);
	dialled.up = true;
	dialled.cb.on_up(&dialled);
	assert_int_equal(told.state, TUNNEL_UP);
	assert_int_equal(told.count, 3);
	assert_int_equal(if_nametoindex("mesht0"), index);
	/* A gateway that restarts is not there for a moment. */
	dialled.cb.on_closed(&dialled, CODE_NOT_FOUND, "no such app");
	assert_int_equal(told.state, TUNNEL_CONNECTING);
	pump(300);
	dialled.up = true;
	dialled.cb.on_up(&dialled);
	assert_int_equal(told.state, TUNNEL_UP);
	/* A refusal is final; the owner closes it from inside the callback. */
	told.close_on_failure = c;
	dialled.cb.on_closed(&dialled, CODE_REFUSED, "no lease");
	assert_int_equal(told.state, TUNNEL_FAILED);
	assert_non_null(strstr(told.text, "no lease"));
	assert_int_equal(if_nametoindex("mesht0"), 0);
}

/* The node takes the interface: no packet passes here, until it gives it back. */
static void test_client_handover(void **state)
{
	struct net_addr gw4 = addr("10.118.0.1"), own4 = addr("10.118.0.2");
	struct tunnel_counters counts;
	uint8_t p[256];
	void *c;

	(void)state;
	handover_error = 0;
	handovers = handbacks = 0;
	assert_int_equal(client(&c, NODE_A), 0);
	dialled.up = true;
	dialled.cb.on_up(&dialled);
	assert_int_equal(handovers, 1);
	assert_int_equal(dialled.tun_routes, 0);
	/* Until it says so, we do the work. */
	size_t len = packet_echo(p, &gw4, &own4, 3);
	dialled.cb.consume(&dialled, p, len);
	pump(5);
	assert_int_equal(dialled.sent_count, 1);
	handed.state(&handed, CODE_OK, handed.arg);
	assert_int_equal(dialled.tun_routes, 1);
	assert_false(dialled.tun_vnet); /* the grant did not say so */
	assert_true(net_addr_same_ip(&dialled.tun_filter.local4, &own4));
	assert_int_equal(dialled.tun_filter.remote4.family, 0);
	assert_true(dialled.tun_filter.v4 && dialled.tun_filter.v6);
	free(netns_output("ping -c 1 -W 0.05 10.118.0.1"));
	pump(5);
	assert_int_equal(dialled.sent_count, 1);
	dialled.tun_counters = (struct tunroute_counters){.in_packets = 10, .out_packets = 20};
	tunnel_mesh.client_counters(c, &counts);
	assert_int_equal(counts.down_packets, 11);
	assert_int_equal(counts.up_packets, 21);
	/* Another connection: its counters begin anew, ours do not. */
	dialled.cb.on_closed(&dialled, CODE_LOST, "lost");
	pump(300);
	dialled.up = true;
	dialled.cb.on_up(&dialled);
	assert_int_equal(handovers, 1);
	assert_int_equal(dialled.tun_routes, 1);
	tunnel_mesh.client_counters(c, &counts);
	assert_int_equal(counts.up_packets, 21);
	/* The channel to the node was lost with it; packets come here again. */
	handed.state(&handed, CODE_LOST, handed.arg);
	assert_int_equal(handbacks, 1);
	free(netns_output("ping -c 1 -W 0.05 10.118.0.1"));
	pump(5);
	assert_true(dialled.sent_count >= 1);
	tunnel_mesh.client_close(c);
	handover_error = -EOPNOTSUPP;
}

/* Two subscribers of a gateway, one of which takes headers. */
static void test_gateway_headers(void **state)
{
	struct meshconn with = incoming(NODE_A, "sub"), without = incoming(NODE_B, "sub");
	struct net_addr gw4 = addr("10.117.0.1"), a4 = addr("10.117.0.2"), b4 = addr("10.117.0.3"),
			src, dst;
	struct tunnel_lease l = {.sid = "s1", .ip4 = a4, .options = end_of(NODE_A, "sub")};
	struct json_object *answer = json_object_new_object();
	char interface[IFNAMSIZ];
	uint8_t r[256] = {0};

	(void)state;
	void *gw = gateway();
	json_object_object_add(l.options, "vnet", json_object_new_boolean(true));
	assert_int_equal(tunnel_mesh.gateway_open(gw, &l, answer, interface, why), 0);
	assert_true(json_object_get_boolean(json_object_object_get(answer, "vnet")));
	assert_int_equal(lease_open(gw, "s2", NODE_B, "sub", "10.117.0.3", NULL), 0);
	assert_true(tunnel_mesh.gateway_accept(gw, &with));
	assert_true(tunnel_mesh.gateway_accept(gw, &without));
	size_t len = packet_echo(r + VNETHDR_BYTES, &a4, &gw4, 9);
	with.cb.consume(&with, r, VNETHDR_BYTES + len);
	pump(5);
	assert_int_equal(vnethdr_check(with.sent, with.sent_len, &src, &dst), 0);
	assert_true(net_addr_same_ip(&dst, &a4));
	len = packet_echo(r, &b4, &gw4, 9);
	without.cb.consume(&without, r, len);
	pump(5);
	assert_int_equal(ippacket_ends(without.sent, without.sent_len, &src, &dst), 0);
	assert_true(net_addr_same_ip(&dst, &b4));
	/* A header that lies, or is not there. */
	uint64_t dropped = counters(gw, "s1").dropped;
	len = packet_echo(r + VNETHDR_BYTES, &a4, &gw4, 9);
	vnethdr_write(r, &(struct vnethdr){.gso_type = VNETHDR_GSO_TCP4, .gso_size = 100});
	with.cb.consume(&with, r, VNETHDR_BYTES + len);
	with.cb.consume(&with, r + VNETHDR_BYTES, len);
	assert_int_equal(counters(gw, "s1").dropped, dropped + 2);
	json_object_put(answer);
	json_object_put(l.options);
	tunnel_mesh.gateway_stop(gw);
}

static void test_client_errors(void **state)
{
	struct tunnel_env no_app = env;
	void *c;

	(void)state;
	assert_int_equal(client(&c, "zz"), -EPROTO);
	assert_int_equal(client(&c, NULL), -EPROTO);
	dial_error = ENOTCONN;
	assert_int_equal(client(&c, NODE_A), -ENOTCONN);
	dial_error = 0;
	/* A first connection that does not come up. */
	assert_int_equal(client(&c, NODE_A), 0);
	told.close_on_failure = c;
	dialled.cb.on_closed(&dialled, CODE_NO_ROUTE, "no route");
	assert_int_equal(told.state, TUNNEL_FAILED);
	/* Somebody deletes the interface. */
	assert_int_equal(client(&c, NODE_A), 0);
	dialled.up = true;
	dialled.cb.on_up(&dialled);
	told.close_on_failure = c;
	free(netns_output("ip link del mesht0"));
	pump(5);
	assert_int_equal(told.state, TUNNEL_FAILED);
	assert_true(dialled.closed);
	/* No node. */
	no_app.app = NULL;
	assert_int_equal(tunnel_mesh.probe(&no_app, TUNNEL_SUBSCRIBER, why), -ENOTCONN);
	struct json_object *o = json_object_new_object();
	app.has_node = false;
	assert_int_equal(tunnel_mesh.client_options(&env, o, why), -ENOTCONN);
	app.has_node = true;
	assert_int_equal(tunnel_mesh.client_options(&env, o, why), 0);
	assert_true(json_object_get_boolean(json_object_object_get(o, "vnet")));
	assert_int_equal(json_object_object_length(o), 3);
	json_object_put(o);
}

static void test_methods(void **state)
{
	(void)state;
	assert_ptr_equal(tunnel_method_find("mesh"), &tunnel_mesh);
	assert_null(tunnel_method_find("null"));
	assert_null(tunnel_method_find(""));
	for (const struct tunnel_method *const *m = tunnel_methods(); *m; m++)
		assert_true((*m)->probe && (*m)->gateway_start && (*m)->gateway_open &&
			    (*m)->gateway_close && (*m)->gateway_counters && (*m)->gateway_stop &&
			    (*m)->client_open && (*m)->client_interface && (*m)->client_counters &&
			    (*m)->client_close);
	assert_true(tunnel_null.probe(&env, TUNNEL_GATEWAY, why) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_methods),
		cmocka_unit_test(test_gateway_packets),
		cmocka_unit_test(test_gateway_leases),
		cmocka_unit_test(test_client),
		cmocka_unit_test(test_client_back_pressure),
		cmocka_unit_test(test_client_reconnects),
		cmocka_unit_test(test_client_handover),
		cmocka_unit_test(test_gateway_headers),
		cmocka_unit_test(test_client_errors),
	};
	return cmocka_run_group_tests_name("tunnel_mesh", tests, setup, teardown);
}
