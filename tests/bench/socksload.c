/*
 * Load for a SOCKS5 proxy, and a server for it to reach.
 *
 *   socksload serve ADDR PORT                        "S" gets bytes for ever, a GET one answer
 *   socksload bulk PROXY PORT ADDR PORT N SECONDS    N streams that take all they get
 *   socksload requests PROXY PORT ADDR PORT N SECONDS
 *                        N at once: connect, SOCKS5, GET of 1,000 bytes, end; then again
 *
 * The loads print one line of JSON.  Addresses are IPv4.
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

#define CHUNK (256 * 1024)
#define ANSWER_BODY 1000
#define EVENTS 256

enum step { CONNECTING, GREETED, ASKED, OPEN };

struct peer {
	int fd;
	enum step step;
	bool pouring;
	size_t got;
};

static uint8_t chunk[CHUNK];
static int epoll;

struct load {
	struct sockaddr_in proxy, target;
	bool requests;
	uint64_t bytes, answers, failures;
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static struct sockaddr_in address(const char *ip, const char *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};

	if (inet_pton(AF_INET, ip, &a.sin_addr) != 1) {
		fprintf(stderr, "socksload: %s is no IPv4 address\n", ip);
		exit(2);
	}
	return a;
}

static void watch(struct peer *p, int op, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = p};

	if (epoll_ctl(epoll, op, p->fd, &ev))
		die("epoll_ctl");
}

/* --- the server ------------------------------------------------------------------------------- */

static void drop(struct peer *p)
{
	close(p->fd);
	free(p);
}

static void answer(struct peer *p)
{
	char head[128];
	int len = snprintf(head, sizeof head,
			   "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n",
			   ANSWER_BODY);

	memset(chunk + len, 'x', ANSWER_BODY);
	memcpy(chunk, head, (size_t)len);
	if (send(p->fd, chunk, (size_t)len + ANSWER_BODY, MSG_NOSIGNAL) < 0)
		perror("answer");
	drop(p);
}

static void serve_one(struct peer *p)
{
	char request[4096];
	ssize_t n;

	if (p->pouring) {
		n = send(p->fd, chunk, sizeof chunk, MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN)
			drop(p);
		return;
	}
	n = recv(p->fd, request, sizeof request, 0);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		drop(p);
	} else if (request[0] == 'S') {
		p->pouring = true;
		watch(p, EPOLL_CTL_MOD, EPOLLOUT);
	} else {
		answer(p);
	}
}

static void take_clients(int listener)
{
	struct peer *p;
	const int on = 1;
	int fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
		p = calloc(1, sizeof *p);
		if (!p)
			die("calloc");
		p->fd = fd;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
		watch(p, EPOLL_CTL_ADD, EPOLLIN);
	}
}

static _Noreturn void serve(char **argv)
{
	struct sockaddr_in a = address(argv[0], argv[1]);
	struct epoll_event events[EVENTS];
	const int on = 1;
	struct peer listener = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)};

	setsockopt(listener.fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(listener.fd, (struct sockaddr *)&a, sizeof a) || listen(listener.fd, 1024))
		die("listen");
	watch(&listener, EPOLL_CTL_ADD, EPOLLIN);
	for (;;) {
		int n = epoll_wait(epoll, events, EVENTS, -1);
		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr == &listener)
				take_clients(listener.fd);
			else
				serve_one(events[i].data.ptr);
		}
	}
}

/* --- the load --------------------------------------------------------------------------------- */

static void start(struct load *l, struct peer *p)
{
	const int on = 1;

	*p = (struct peer){.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)};
	if (p->fd < 0)
		die("socket");
	setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	if (connect(p->fd, (struct sockaddr *)&l->proxy, sizeof l->proxy) && errno != EINPROGRESS)
		die("connect");
	watch(p, EPOLL_CTL_ADD, EPOLLOUT);
}

static void again(struct load *l, struct peer *p, bool good)
{
	if (good)
		l->answers++;
	else
		l->failures++;
	close(p->fd);
	start(l, p);
}

static void say(struct peer *p, const void *data, size_t len)
{
	if (send(p->fd, data, len, MSG_NOSIGNAL) != (ssize_t)len)
		perror("send");
}

/* Each answer of the proxy comes in one piece from all proxies here. */
static bool handshake(struct load *l, struct peer *p, const uint8_t *data, ssize_t n)
{
	uint8_t request[10] = {5, 1, 0, 1};

	if (p->step == GREETED) {
		memcpy(request + 4, &l->target.sin_addr, 4);
		memcpy(request + 8, &l->target.sin_port, 2);
		p->step = ASKED;
		if (n == 2 && data[1] == 0)
			say(p, request, sizeof request);
		return n == 2 && data[1] == 0;
	}
	p->step = OPEN;
	if (n != 10 || data[1])
		return false;
	if (l->requests)
		say(p, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27);
	else
		say(p, "S", 1);
	return true;
}

static void load_one(struct load *l, struct peer *p)
{
	ssize_t n;

	if (p->step == CONNECTING) {
		p->step = GREETED;
		watch(p, EPOLL_CTL_MOD, EPOLLIN);
		say(p, "\5\1\0", 3);
		return;
	}
	n = recv(p->fd, chunk, sizeof chunk, 0);
	if (n < 0 && errno == EAGAIN)
		return;
	if (p->step == OPEN && n > 0) {
		p->got += (size_t)n;
		l->bytes += (uint64_t)n;
	} else if (p->step == OPEN) {
		again(l, p, n == 0 && p->got > ANSWER_BODY);
	} else if (n <= 0 || !handshake(l, p, chunk, n)) {
		again(l, p, false);
	}
}

static void run_for(struct load *l, uint64_t us)
{
	struct epoll_event events[EVENTS];
	uint64_t end = now_us() + us, now;

	while ((now = now_us()) < end) {
		int n = epoll_wait(epoll, events, EVENTS, (int)((end - now) / 1000) + 1);
		for (int i = 0; i < n; i++)
			load_one(l, events[i].data.ptr);
	}
}

static int load(bool requests, char **argv)
{
	struct load l = {.proxy = address(argv[0], argv[1]),
			 .target = address(argv[2], argv[3]),
			 .requests = requests};
	unsigned count = (unsigned)atoi(argv[4]);
	double seconds = atof(argv[5]);
	struct peer *peers = calloc(count ? count : 1, sizeof *peers);
	uint64_t began;

	if (!peers)
		die("calloc");
	for (unsigned i = 0; i < count; i++)
		start(&l, &peers[i]);
	/* What starts up is not measured. */
	run_for(&l, 300000);
	l.bytes = l.answers = l.failures = 0;
	began = now_us();
	run_for(&l, (uint64_t)(seconds * 1e6));
	seconds = (double)(now_us() - began) / 1e6;
	printf("{\"seconds\":%.3f,\"bytes\":%llu,\"answers\":%llu,\"failures\":%llu}\n", seconds,
	       (unsigned long long)l.bytes, (unsigned long long)l.answers,
	       (unsigned long long)l.failures);
	free(peers);
	return 0;
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";

	signal(SIGPIPE, SIG_IGN);
	epoll = epoll_create1(0);
	if (argc == 4 && strcmp(mode, "serve") == 0)
		serve(argv + 2);
	if (argc == 8 && (strcmp(mode, "bulk") == 0 || strcmp(mode, "requests") == 0))
		return load(mode[0] == 'r', argv + 2);
	fprintf(stderr, "usage: socksload serve ADDR PORT\n"
			"       socksload bulk|requests PROXY PORT ADDR PORT N SECONDS\n");
	return 2;
}
