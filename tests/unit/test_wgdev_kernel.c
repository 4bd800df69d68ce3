/* io/wgdev_kernel: a peer whose addresses fill a message goes on in the next one. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <linux/genetlink.h>
#include <linux/wireguard.h>
#include <netinet/in.h>
#include <string.h>

#include "io/netlink_msg.h"
#include "io/wgdev_kernel.h"

struct seen {
	struct wgdev_stat peers[8];
	size_t count;
};

static int see(const struct wgdev_stat *s, void *ctx)
{
	struct seen *seen = ctx;

	assert_true(seen->count < 8);
	seen->peers[seen->count++] = *s;
	return 0;
}

static void begin(struct nl_request *q, struct nlattr **peers)
{
	nl_request_init(q, 30, 0, sizeof(struct genlmsghdr));
	mnl_attr_put_u32(q->h, WGDEVICE_A_IFINDEX, 4);
	*peers = mnl_attr_nest_start(q->h, WGDEVICE_A_PEERS);
}

static struct nlattr *peer(struct nl_request *q, uint8_t number)
{
	struct nlattr *one = mnl_attr_nest_start(q->h, 0);
	uint8_t key[WG_KEY_BYTES] = {number};

	mnl_attr_put(q->h, WGPEER_A_PUBLIC_KEY, sizeof key, key);
	return one;
}

static void details(struct nl_request *q, const void *endpoint, size_t len, int64_t seconds,
		    uint64_t rx)
{
	int64_t time[2] = {seconds, 0};

	mnl_attr_put(q->h, WGPEER_A_ENDPOINT, len, endpoint);
	mnl_attr_put(q->h, WGPEER_A_LAST_HANDSHAKE_TIME, sizeof time, time);
	mnl_attr_put_u64(q->h, WGPEER_A_RX_BYTES, rx);
	mnl_attr_put_u64(q->h, WGPEER_A_TX_BYTES, rx + 1);
}

static void peers_over_two_messages(void **state)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(5)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(6)};
	struct nl_request a, b;
	struct nlattr *peers, *one;
	struct seen s = {.count = 0};
	char text[NET_ADDR_TEXT];

	(void)state;
	inet_pton(AF_INET, "10.0.0.1", &v4.sin_addr);
	inet_pton(AF_INET6, "fd00::1", &v6.sin6_addr);
	begin(&a, &peers);
	one = peer(&a, 1);
	details(&a, &v4, sizeof v4, 100, 10);
	mnl_attr_nest_end(a.h, one);
	one = peer(&a, 2);
	details(&a, &v6, sizeof v6, 200, 20);
	mnl_attr_nest_end(a.h, one);
	mnl_attr_nest_end(a.h, peers);
	begin(&b, &peers);
	one = peer(&b, 2); /* more of its addresses */
	mnl_attr_nest_end(b.h, one);
	one = peer(&b, 3);
	mnl_attr_nest_end(b.h, one);
	mnl_attr_nest_end(b.h, peers);
	assert_int_equal(wgdev_kernel_read((const struct nlmsghdr *const[]){a.h, b.h}, 2, see, &s),
			 0);
	assert_int_equal(s.count, 3);
	assert_string_equal(net_addr_text(&s.peers[0].endpoint, text), "10.0.0.1:5");
	assert_string_equal(net_addr_text(&s.peers[1].endpoint, text), "[fd00::1]:6");
	assert_int_equal(s.peers[1].handshake_s, 200);
	assert_int_equal(s.peers[1].rx_bytes, 20);
	assert_int_equal(s.peers[1].tx_bytes, 21);
	assert_int_equal(s.peers[2].key[0], 3);
	assert_int_equal(s.peers[2].endpoint.family, 0);
}

static void damaged(void **state)
{
	struct nl_request q;
	struct nlattr *peers, *one;
	struct seen s = {.count = 0};
	const struct nlmsghdr *list[] = {q.h = NULL};

	(void)state;
	begin(&q, &peers);
	one = mnl_attr_nest_start(q.h, 0);
	mnl_attr_put(q.h, WGPEER_A_PUBLIC_KEY, 4, "abc");
	mnl_attr_nest_end(q.h, one);
	mnl_attr_nest_end(q.h, peers);
	list[0] = q.h;
	assert_int_equal(wgdev_kernel_read(list, 1, see, &s), -EBADMSG);
	assert_int_equal(s.count, 0);
	nl_request_init(&q, 30, 0, sizeof(struct genlmsghdr));
	q.h->nlmsg_len = sizeof *q.h; /* without its family header */
	assert_int_equal(wgdev_kernel_read(list, 1, see, &s), -EBADMSG);
	nl_request_init(&q, 30, 0, sizeof(struct genlmsghdr));
	assert_int_equal(wgdev_kernel_read(list, 1, see, &s), 0); /* no peers */
	assert_int_equal(s.count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(peers_over_two_messages),
		cmocka_unit_test(damaged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
