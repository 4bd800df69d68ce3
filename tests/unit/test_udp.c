/* The sockets of transports over loopback, with what this kernel does for UDP in bulk, and that
 * what the node finds out about it agrees with what arrives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "node/udp.h"
#include "node/udp_offload.h"

#define EACH 1200u
#define PACKETS 20u

static struct event_base *base;
static size_t came, wrong;

static void on_input(void *ctx, uint32_t transport, struct block *b, const struct udp_slice *v,
		     size_t n, const struct net_addr *from)
{
	(void)ctx;
	(void)transport;
	(void)b;
	(void)from;
	for (size_t i = 0; i < n; i++, came++)
		wrong += v[i].len != EACH || v[i].data[1] != came || v[i].data[EACH - 1] != came;
}

static void on_batch_end(void *ctx)
{
	(void)ctx;
}

/* A run of packets is one message for the kernel: each must arrive as it was, in order. */
static void test_run_arrives(void **state)
{
	const struct udp_config config = {
		.base = base,
		.bind = {.family = 4, .ip = {127, 0, 0, 1}},
		.buffer_bytes = 1 << 20,
		.input = on_input,
		.batch_end = on_batch_end,
	};
	struct udp *u = udp_new(&config);
	struct block *b = block_new(PACKETS * EACH);
	struct udp_socket *from, *to;
	struct pkt run = {.data = b->data, .len = PACKETS * EACH, .each = EACH, .count = PACKETS};
	struct pkt *list[] = {&run};
	struct net_addr address = config.bind;
	int port;

	(void)state;
	assert_true(udp_open(u, 1, 0, &from) > 0);
	port = udp_open(u, 2, 0, &to);
	assert_true(port > 0);
	address.port = (uint16_t)port;
	memset(b->data, 0, PACKETS * EACH);
	for (unsigned i = 0; i < PACKETS; i++)
		b->data[i * EACH + 1] = b->data[(i + 1) * EACH - 1] = (uint8_t)i;
	udp_send(from, &address, list, 1);
	for (unsigned i = 0; i < 200 && came < PACKETS; i++) {
		event_base_loop(base, EVLOOP_NONBLOCK);
		usleep(1000);
	}
	assert_int_equal(came, PACKETS);
	assert_int_equal(wrong, 0);
	udp_close(from);
	udp_close(to);
	udp_free(u);
	block_put(b);
}

/* A control message is read by its own kind alone, and never for more than came. */
static void test_length(void **state)
{
	union udp_control control;
	struct msghdr h = {.msg_control = &control, .msg_controllen = sizeof control};
	struct cmsghdr *c = CMSG_FIRSTHDR(&h);
	const int sizes[] = {200, 0, -1, 1000, 0x40000000};
	const size_t lengths[] = {200, 900, 900, 900, 900};

	(void)state;
	memset(&control, 0, sizeof control);
	c->cmsg_level = IPPROTO_UDP;
	c->cmsg_type = 104; /* UDP_GRO */
	c->cmsg_len = CMSG_LEN(sizeof sizes[0]);
	for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		memcpy(CMSG_DATA(c), &sizes[i], sizeof sizes[i]);
		assert_int_equal(udp_offload_length(&h, 900), lengths[i]);
	}
	c->cmsg_type = 103;
	memcpy(CMSG_DATA(c), &sizes[0], sizeof sizes[0]);
	assert_int_equal(udp_offload_length(&h, 900), 900);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_run_arrives),
		cmocka_unit_test(test_length),
	};
	int failed;

	base = event_base_new();
	failed = cmocka_run_group_tests_name("udp", tests, NULL, NULL);
	event_base_free(base);
	return failed;
}
