/*
 * Load for a JSON-RPC server over HTTP.
 *
 *   rpcload nodeinfo ADDR PORT CONNECTIONS DEPTH SECONDS   as many nodeInfo as are answered
 *   rpcload lease ADDR PORT CONNECTIONS COUNT              COUNT requestConnection, each another
 * app
 *
 * Connections are kept; DEPTH requests are under way on each.  Prints one line of JSON.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS_MAX 120
#define BUFFER 65536
#define EVENTS 128

struct peer {
	int fd;
	unsigned under_way;
	char in[BUFFER];
	size_t got;
};

struct load {
	struct sockaddr_in to;
	bool leases;
	unsigned depth;
	uint64_t limit, sent, answers, failures;
	uint64_t until_us;
};

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int request_text(const struct load *l, char *out, size_t size)
{
	char body[512];
	int n;

	if (l->leases)
		n = snprintf(body, sizeof body,
			     "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"requestConnection\","
			     "\"params\":{\"method\":\"mesh\",\"options\":{\"node\":\"%064d\","
			     "\"app\":\"load-%d-%llu\"}}}",
			     7, (int)getpid(), (unsigned long long)l->sent);
	else
		n = snprintf(body, sizeof body,
			     "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"nodeInfo\"}");
	return snprintf(out, size,
			"POST / HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"
			"Content-Length: %d\r\n\r\n%s",
			n, body);
}

static void ask(struct load *l, struct peer *p)
{
	char out[BUFFER];
	size_t len = 0;

	while (p->under_way < l->depth && l->sent < l->limit && len + 1024 < sizeof out) {
		len += (size_t)request_text(l, out + len, sizeof out - len);
		l->sent++;
		p->under_way++;
	}
	if (len && send(p->fd, out, len, MSG_NOSIGNAL) != (ssize_t)len)
		die("send");
}

/* The length of the answer that begins the buffer; 0: not whole yet. */
static size_t answer_length(const char *in, size_t got)
{
	const char *end = memmem(in, got, "\r\n\r\n", 4), *field;
	size_t head, body;

	if (!end)
		return 0;
	head = (size_t)(end + 4 - in);
	field = memmem(in, head, "Content-Length: ", 16);
	if (!field || strncmp(in, "HTTP/1.1 200", 12) != 0) {
		fprintf(stderr, "rpcload: %.*s\n", (int)head, in);
		exit(1);
	}
	body = strtoul(field + 16, NULL, 10);
	return head + body <= got ? head + body : 0;
}

static void hear(struct load *l, struct peer *p)
{
	ssize_t n = recv(p->fd, p->in + p->got, sizeof p->in - p->got, 0);
	size_t at = 0, len;

	if (n <= 0) {
		fprintf(stderr, "rpcload: the server has closed a connection\n");
		exit(1);
	}
	p->got += (size_t)n;
	while ((len = answer_length(p->in + at, p->got - at))) {
		l->answers++;
		l->failures += !memmem(p->in + at, len, "\"success\":true", 14);
		p->under_way--;
		at += len;
	}
	memmove(p->in, p->in + at, p->got - at);
	p->got -= at;
	ask(l, p);
}

static struct peer *peer_open(const struct load *l, int epoll)
{
	struct peer *p = calloc(1, sizeof *p);
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = p};
	int one = 1;

	if (!p)
		die("calloc");
	p->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (p->fd < 0 || connect(p->fd, (const struct sockaddr *)&l->to, sizeof l->to) ||
	    setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) ||
	    epoll_ctl(epoll, EPOLL_CTL_ADD, p->fd, &ev))
		die("connect");
	return p;
}

static void run(struct load *l, int connections)
{
	struct epoll_event events[EVENTS];
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	uint64_t began = now_us(), took;

	for (int i = 0; i < connections; i++)
		ask(l, peer_open(l, epoll));
	while (l->answers < l->limit && now_us() < l->until_us) {
		int n = epoll_wait(epoll, events, EVENTS, 100);
		for (int i = 0; i < n; i++)
			hear(l, events[i].data.ptr);
	}
	took = now_us() - began;
	printf("{\"answers\": %llu, \"failures\": %llu, \"seconds\": %.4f}\n",
	       (unsigned long long)l->answers, (unsigned long long)l->failures, (double)took / 1e6);
}

int main(int argc, char **argv)
{
	struct load l = {.to.sin_family = AF_INET, .depth = 1, .limit = UINT64_MAX};
	int connections = argc > 4 ? atoi(argv[4]) : 0;

	signal(SIGPIPE, SIG_IGN);
	if (argc < 6 || connections < 1 || connections > CONNECTIONS_MAX ||
	    inet_pton(AF_INET, argv[2], &l.to.sin_addr) != 1) {
		fprintf(stderr, "see the head of rpcload.c\n");
		return 2;
	}
	l.to.sin_port = htons((uint16_t)atoi(argv[3]));
	l.until_us = now_us() + 60000000u;
	if (strcmp(argv[1], "lease") == 0) {
		l.leases = true;
		l.limit = strtoull(argv[5], NULL, 10);
	} else if (argc == 7) {
		l.depth = (unsigned)atoi(argv[5]);
		l.until_us = now_us() + (uint64_t)atoi(argv[6]) * 1000000u;
	}
	run(&l, connections);
	return 0;
}
