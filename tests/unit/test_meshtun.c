/* Descriptors over a channel, interfaces that an app hands to its node, and super-packets through
 * the kernel: a real node's side of it is played here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/log.h"
#include "io/chan.h"
#include "io/clock.h"
#include "io/netlink.h"
#include "io/tun.h"
#include "libmeshapp/meshtun.h"
#include "netns.h"
#include "packets.h"
#include "tunnel/tunpump.h"
#include "wire/vnethdr.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

static struct event_base *base;
static char dir[] = "/tmp/meshtun-XXXXXX", path[64];

static struct {
	struct chan_listener *listener;
	struct chan *ch;
	struct msg last; /* of AttachTun, DetachTun, TunRoute */
	unsigned attaches, detaches, routes, ups;
	int fd; /* that came with the last AttachTun */
} node;

static void quiet(enum log_level level, const char *line)
{
	(void)level;
	(void)line;
}

static void spin(unsigned ms)
{
	uint64_t end = daemon_now_us() + ms * 1000u;

	do {
		event_base_loop(base, EVLOOP_NONBLOCK);
		usleep(500);
	} while (daemon_now_us() < end);
}

#define wait_for(condition)                                                                        \
	for (unsigned i_ = 0; i_ < 400 && !(condition); i_++)                                      \
		spin(5);                                                                           \
	assert_true(condition)

static void node_up(struct chan *ch, const struct mesh_id *peer)
{
	(void)peer;
	node.ch = ch;
}

static void node_msg(struct chan *ch, const struct msg *m)
{
	struct msg ack = {.type = MSG_RegisterAppAck, .seq = m->seq};

	if (m->type == MSG_RegisterApp) {
		ack.register_app_ack.max_message = 1000;
		chan_send(ch, &ack);
		chan_ready(ch);
		return;
	}
	node.last = *m;
	if (m->type == MSG_AttachTun) {
		node.attaches++;
		node.fd = chan_take_fd(ch);
		chan_send_ack(ch, m->seq, node.fd >= 0 ? CODE_OK : CODE_INVALID, 0, "");
	} else if (m->type == MSG_DetachTun) {
		node.detaches++;
	} else if (m->type == MSG_TunRoute) {
		node.routes++;
		chan_send_ack(ch, m->seq, CODE_OK, 0, "");
	}
}

static void node_down(struct chan *ch, uint16_t code, const char *reason)
{
	(void)ch;
	(void)code;
	(void)reason;
	node.ch = NULL;
}

static void listen_at(const char *address)
{
	struct chan_options o = {.name = "app",
				 .peer_role = FROM_APP,
				 .max_body_bytes = FRAME_MAX_BYTES,
				 .take_fds = true,
				 .local_twin = true,
				 .cb = {node_up, node_msg, node_down, NULL}};

	memset(&node, 0, sizeof node);
	node.fd = -1;
	assert_int_equal(chan_listen(&node.listener, base, address, &o), 0);
}

static void app_state(struct meshapp *app, bool up, const char *text)
{
	(void)app;
	(void)text;
	node.ups += up;
}

static struct meshapp *app_at(const char *address)
{
	struct meshapp *app =
		meshapp_open(base, &(struct meshapp_options){.node_addr = address,
							     .app_id = "a",
							     .app_type = "t",
							     .cb = {.on_state = app_state}});

	assert_non_null(app);
	wait_for(node.ups == 1);
	return app;
}

static struct {
	unsigned count;
	uint16_t code;
	struct meshtun *tun;
} told;

static void on_tun(struct meshtun *t, uint16_t code, void *arg)
{
	assert_ptr_equal(arg, &told);
	told.tun = t;
	told.code = code;
	told.count++;
}

/* Is it the same open file? */
static bool same_file(int a, int b)
{
	struct stat sa, sb;

	return fstat(a, &sa) == 0 && fstat(b, &sb) == 0 && sa.st_ino == sb.st_ino &&
	       sa.st_dev == sb.st_dev;
}

static void handed_over(struct meshapp *app)
{
	int fds[2];
	struct meshtun *t, *second;

	assert_int_equal(pipe(fds), 0);
	memset(&told, 0, sizeof told);
	assert_int_equal(meshtun_open(&t, app, fds[0], true, on_tun, &told), 0);
	wait_for(told.count == 1);
	assert_int_equal(told.code, CODE_OK);
	assert_ptr_equal(told.tun, t);
	assert_int_equal(node.last.attach_tun.vnet, 1);
	assert_true(node.fd != fds[0] && same_file(node.fd, fds[0]));
	assert_true(fcntl(node.fd, F_GETFD) & FD_CLOEXEC);
	close(node.fd);
	/* Two at once keep their order. */
	assert_int_equal(meshtun_open(&second, app, fds[1], false, on_tun, &told), 0);
	wait_for(told.count == 2);
	assert_true(same_file(node.fd, fds[1]));
	close(node.fd);
	meshtun_close(second);
	wait_for(node.detaches == 1);
	assert_int_equal(node.last.detach_tun.tun, 2);
	/* The node gives it back; then the channel ends with another one open. */
	struct msg m = {.type = MSG_DetachTun, .detach_tun = {1, CODE_LOST}};
	chan_send(node.ch, &m);
	wait_for(told.count == 3);
	assert_int_equal(told.code, CODE_LOST);
	meshtun_close(t);
	assert_int_equal(meshtun_open(&t, app, fds[0], true, on_tun, &told), 0);
	wait_for(told.count == 4);
	close(node.fd);
	chan_close(node.ch, "test");
	wait_for(told.count == 5);
	assert_int_equal(told.code, CODE_LOST);
	meshtun_close(t);
	assert_int_equal(meshtun_open(&t, app, fds[0], true, on_tun, &told), -ENOTCONN);
	close(fds[0]);
	close(fds[1]);
}

static void test_over_unix(void **state)
{
	(void)state;
	listen_at(path);
	struct meshapp *app = app_at(path);
	handed_over(app);
	meshapp_close(app);
	chan_listener_free(node.listener);
}

/* A loopback port has a Unix socket beside it, which the app finds by itself. */
static void test_over_the_twin(void **state)
{
	char address[32];

	(void)state;
	listen_at("127.0.0.1:0");
	snprintf(address, sizeof address, "127.0.0.1:%u", chan_listener_port(node.listener));
	struct meshapp *app = app_at(address);
	assert_int_equal(chan_remote(node.ch)->family, 0);
	handed_over(app);
	meshapp_close(app);
	chan_listener_free(node.listener);
}

static void test_not_over_tcp(void **state)
{
	struct chan_options o = {
		.name = "app", .peer_role = FROM_APP, .cb = {node_up, node_msg, node_down, NULL}};
	struct meshtun *t;
	char address[32];

	(void)state;
	memset(&node, 0, sizeof node);
	assert_int_equal(chan_listen(&node.listener, base, "127.0.0.1:0", &o), 0);
	snprintf(address, sizeof address, "127.0.0.1:%u", chan_listener_port(node.listener));
	struct meshapp *app = app_at(address);
	assert_int_equal(chan_remote(node.ch)->family, 4);
	assert_int_equal(meshtun_open(&t, app, 0, true, on_tun, &told), -EOPNOTSUPP);
	meshapp_close(app);
	chan_listener_free(node.listener);
}

/* ---- the interface itself ---- */

static struct {
	uint8_t record[70000];
	size_t len;
	unsigned count, errors;
} got;

static void on_packet(uint8_t *packet, size_t len, void *arg)
{
	(void)arg;
	if (len > got.len) { /* the kernel may have small ones of its own */
		memcpy(got.record, packet, len);
		got.len = len;
	}
	got.count++;
}

static unsigned batches_ended;

static void on_batch_end(void *arg)
{
	(void)arg;
	assert_true(got.count > 0);
	batches_ended++;
}

static void on_error(int err, void *arg)
{
	(void)err;
	(void)arg;
	got.errors++;
}

static struct tun *interface(enum tun_kind kind)
{
	struct nl_addr a = {0};
	struct tun *t;
	struct nl *nl;

	memset(&got, 0, sizeof got);
	assert_int_equal(tun_open(&t, base, "mtest%d", kind), 0);
	assert_int_equal(nl_open(&nl), 0);
	a.link = tun_index(t);
	assert_int_equal(net_prefix_parse(&a.prefix, "10.9.0.1/24"), 0);
	assert_int_equal(nl_link_set_mtu(nl, a.link, 1420), 0);
	assert_int_equal(nl_link_set_gso_max(nl, a.link, TUNPUMP_GSO_MAX), 0);
	assert_int_equal(nl_link_set_up(nl, a.link, true), 0);
	assert_int_equal(nl_addr_add(nl, &a), 0);
	nl_close(nl);
	return t;
}

static int udp_socket(void)
{
	struct sockaddr_in sa = {.sin_family = AF_INET,
				 .sin_port = htons(7000),
				 .sin_addr.s_addr = htonl(0x0a090001)};
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);

	assert_int_equal(bind(s, (struct sockaddr *)&sa, sizeof sa), 0);
	return s;
}

/* The same packet with its ends exchanged, as if the other side had sent it. */
static void turn_round(uint8_t *record)
{
	uint8_t *ip = record + VNETHDR_BYTES, swap[4];

	memcpy(swap, ip + 12, 4);
	memcpy(ip + 12, ip + 16, 4);
	memcpy(ip + 16, swap, 4);
}

/* Out as one record of many segments, in as one write, and the socket gets each segment.  By the
 * interface as it is, or by a second descriptor as a node has it. */
static void super_packet(struct tun *reader, struct tun *t)
{
	struct sockaddr_in to = {.sin_family = AF_INET,
				 .sin_port = htons(7000),
				 .sin_addr.s_addr = htonl(0x0a090002)};
	uint8_t payload[12500], back[2000];
	int s = udp_socket(), segment = 1000;
	struct net_addr src, dst;

	for (size_t i = 0; i < sizeof payload; i++)
		payload[i] = (uint8_t)(i * 7 >> 3);
	tun_set_callbacks(reader, on_packet, on_error, NULL);
	tun_set_batch_end(reader, on_batch_end);
	batches_ended = 0;
	assert_int_equal(tun_set_reading(reader, true), 0);
	assert_int_equal(setsockopt(s, SOL_UDP, UDP_SEGMENT, &segment, sizeof segment), 0);
	assert_int_equal(sendto(s, payload, sizeof payload, 0, (struct sockaddr *)&to, sizeof to),
			 sizeof payload);
	wait_for(got.len >= 1000);
	spin(20);
	if (got.len == VNETHDR_BYTES + 1028)
		skip(); /* a kernel before 6.2 cuts UDP itself */
	assert_int_equal(got.len, VNETHDR_BYTES + 28 + sizeof payload);
	assert_true(batches_ended > 0);
	assert_int_equal(vnethdr_normalise(got.record, got.len), 0);
	assert_int_equal(vnethdr_check(got.record, got.len, &src, &dst), 0);
	struct vnethdr h = vnethdr_read(got.record);
	assert_int_equal(h.gso_type, VNETHDR_GSO_UDP);
	assert_int_equal(h.gso_size, 1000);
	assert_int_equal(h.hdr_len, 28);
	turn_round(got.record);
	assert_int_equal(tun_write(t, got.record, got.len), 0);
	for (size_t at = 0; at < sizeof payload; at += 1000) {
		size_t want = sizeof payload - at < 1000 ? sizeof payload - at : 1000;
		assert_int_equal(recv(s, back, sizeof back, 0), want);
		assert_memory_equal(back, payload + at, want);
	}
	/* One without a header, by the same interface. */
	uint8_t p[100];
	size_t len = packet_udp(p, &dst, &src, 7000, 7000);
	assert_int_equal(tun_write_plain(t, p, len), 0);
	assert_int_equal(recv(s, back, sizeof back, 0), 32);
	close(s);
	tun_set_reading(reader, false);
}

static void test_super_packets(void **state)
{
	(void)state;
	if (!netns_enter() || !tun_probe_vnet())
		skip();
	struct tun *t = interface(TUN_VNET);
	assert_int_equal(tun_set_offload(t, true), 0);
	super_packet(t, t);
	/* Without offloads the kernel gives whole packets only. */
	assert_int_equal(tun_set_offload(t, false), 0);
	memset(&got, 0, sizeof got);
	tun_set_reading(t, true);
	char *ping = netns_output("ping -c 1 -W 0.1 -s 5000 10.9.0.2");
	free(ping);
	wait_for(got.count >= 4); /* fragments */
	assert_true(got.len <= VNETHDR_BYTES + 1420);
	tun_free(t);
}

static void test_adopted(void **state)
{
	int fds[2];
	struct tun *t, *copy;

	(void)state;
	if (!netns_enter() || !tun_probe_vnet())
		skip();
	t = interface(TUN_VNET);
	assert_int_equal(tun_adopt(&copy, base, dup(tun_fd(t)), TUN_PLAIN), -EINVAL);
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(tun_adopt(&copy, base, fds[0], TUN_VNET), -EINVAL);
	assert_int_equal(close(fds[0]), -1); /* consumed */
	close(fds[1]);
	assert_int_equal(tun_adopt(&copy, base, dup(tun_fd(t)), TUN_VNET), 0);
	assert_int_equal(tun_set_offload(t, true), 0);
	super_packet(copy, copy);
	/* The owner makes it blocking: we still do not wait. */
	memset(&got, 0, sizeof got);
	assert_int_equal(fcntl(tun_fd(t), F_SETFL, O_RDWR), 0);
	tun_set_reading(copy, true);
	free(netns_output("ping -c 1 -W 0.1 10.9.0.2"));
	wait_for(got.count >= 1);
	spin(20);
	/* It outlives its owner's descriptor, and tells when the interface is deleted. */
	tun_free(t);
	free(netns_output("ip link del mtest0"));
	wait_for(got.errors == 1);
	tun_free(copy);
}

static int setup(void **state)
{
	(void)state;
	log_set_sink(quiet);
	if (!netns_enter())
		fprintf(stderr, "SKIP: tests of interfaces\n");
	else
		free(netns_output("ip link set lo up"));
	base = event_base_new();
	snprintf(path, sizeof path, "%s/node.sock", mkdtemp(dir));
	return base ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	event_base_free(base);
	unlink(path);
	rmdir(dir);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_over_unix),    cmocka_unit_test(test_over_the_twin),
		cmocka_unit_test(test_not_over_tcp), cmocka_unit_test(test_super_packets),
		cmocka_unit_test(test_adopted),
	};
	return cmocka_run_group_tests_name("meshtun", tests, setup, teardown);
}
