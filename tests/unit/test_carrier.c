/* Calls to gateways that do not answer: each ends once, whose timer is first or last. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <arpa/inet.h>
#include <event2/event.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/jsonrpc.h"
#include "subscriberd/carrier.h"

#define CALLS 200
#define TIMEOUT_US 100000u

static unsigned ended[CALLS], down;

static void on_end(const struct rpc_answer *answer, double rtt_ms, void *arg)
{
	(void)rtt_ms;
	(*(unsigned *)arg)++;
	down += answer->outcome == RPC_OUTCOME_DOWN;
}

/* It takes connections (the kernel does) and says nothing. */
static int silent_listener(uint16_t *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	assert_int_equal(listen(fd, CALLS), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	*port = ntohs(a.sin_port);
	return fd;
}

static void test_silent_gateway(void **state)
{
	const struct timeval enough = {.tv_usec = 4 * TIMEOUT_US};
	struct sub_contact to = {.via = SUB_VIA_HTTP};
	struct event_base *base = event_base_new();
	struct carrier *c = carrier_new(base, NULL);
	uint16_t port;
	int fd = silent_listener(&port);

	(void)state;
	assert_non_null(c);
	assert_int_equal(net_addr_parse(&to.addr, "127.0.0.1", port), 0);
	for (size_t i = 0; i < CALLS; i++)
		carrier_call(c, &to, "nodeInfo", NULL, TIMEOUT_US, on_end, &ended[i]);
	event_base_loopexit(base, &enough);
	event_base_dispatch(base);
	for (size_t i = 0; i < CALLS; i++)
		assert_int_equal(ended[i], 1);
	assert_int_equal(down, CALLS);
	carrier_free(c);
	event_base_free(base);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_silent_gateway),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
