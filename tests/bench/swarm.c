/*
 * Many nodes in one process, for a real nodemanager: each has its own key, its own TCP connection
 * from its own loopback address, a real handshake, and answers everything as a node would that has
 * done it.  Each line on stdin names what comes next; its results are lines of JSON.
 *
 *   swarm MANAGER_PORT NODES
 *
 *   register        all of them, some at a time
 *   hold SECONDS    answer pings and nothing else
 *   links COUNT     ConnectDirectly, until all of these transports are up
 *   connect COUNT AT_ONCE    ConnectWithRoute between any two, to ConnectionOn
 *   break COUNT     one link after the other ends; how long until its connections are on new ways
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "core/channel.h"
#include "wire/frame.h"
#include "wire/msg.h"

#define BODY_MAX FRAME_CONTROL_MAX_BYTES
#define REGISTERING_MAX 128u /* at a time: fewer than a manager lets wait unregistered */
#define LINKING_MAX 256u
#define EVENTS 256
#define STALL_SECONDS 20.0 /* without any progress */
#define QUIET_SECONDS 0.03
#define HOSTS_A_NET 250u

struct node {
	uint32_t index;
	int fd;
	bool registered;
	struct noise_keypair key;
	struct channel channel;
	uint8_t *in, *out; /* what is not whole yet; what the socket did not take */
	size_t in_len, out_len;
	uint32_t seq, transport; /* the last that it has made */
	double asked_at;	 /* 0: nothing is asked */
};

struct swarm {
	struct node *nodes;
	uint32_t count, started;
	uint16_t port;
	int epoll;
	uint32_t registered, linked, connected, refused;
	double *took;	/* seconds from ConnectWithRoute to ConnectionOn */
	uint32_t moved; /* ends of connections that were given another way */
	double moved_at;
	double progress_at;
	uint64_t rng;
	uint8_t scratch[2 * BODY_MAX];
};

static double wall_seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "swarm: %s (%s)\n", what, strerror(errno));
	exit(1);
}

static uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static uint32_t below(struct swarm *s, uint32_t n)
{
	return (uint32_t)(mix(s->rng += 0x9e3779b97f4a7c15u) % n);
}

/* --- bytes of one node ------------------------------------------------------------------------ */

static void watch(struct swarm *s, struct node *n, int op)
{
	struct epoll_event e = {.events = EPOLLIN | (n->out_len ? EPOLLOUT : 0u), .data.ptr = n};
	if (epoll_ctl(s->epoll, op, n->fd, &e))
		die("epoll_ctl");
}

/* Keeps a rest in memory of its own, so that ten thousand idle nodes need none. */
static void keep(uint8_t **at, size_t *len, const uint8_t *rest, size_t rest_len)
{
	uint8_t *copy = rest_len ? malloc(rest_len) : NULL;
	if (rest_len && !copy)
		die("out of memory");
	if (rest_len)
		memcpy(copy, rest, rest_len);
	free(*at);
	*at = copy;
	*len = rest_len;
}

static void transmit(struct swarm *s, struct node *n, const uint8_t *data, size_t len)
{
	ssize_t sent = n->out_len ? 0 : write(n->fd, data, len);
	if (sent < 0 && errno != EAGAIN)
		die("the manager closed a channel");
	size_t done = sent < 0 ? 0 : (size_t)sent;
	if (done == len)
		return;
	uint8_t *more = realloc(n->out, n->out_len + len - done);
	if (!more)
		die("out of memory");
	memcpy(more + n->out_len, data + done, len - done);
	n->out = more;
	n->out_len += len - done;
	watch(s, n, EPOLL_CTL_MOD);
}

static void flush(struct swarm *s, struct node *n)
{
	ssize_t sent = write(n->fd, n->out, n->out_len);
	if (sent < 0 && errno != EAGAIN)
		die("the manager closed a channel");
	if (sent <= 0)
		return;
	uint8_t *old = n->out;
	n->out = NULL;
	keep(&n->out, &n->out_len, old + sent, n->out_len - (size_t)sent);
	free(old);
	watch(s, n, EPOLL_CTL_MOD);
}

static void say(struct swarm *s, struct node *n, const struct msg *m)
{
	uint8_t frame[FRAME_HEADER_BYTES + 4096 + CHANNEL_TAG_BYTES];
	struct wbuf w = wbuf_init(frame + FRAME_HEADER_BYTES, 4096);
	msg_encode(m, &w);
	size_t body = wbuf_len(&w);
	if (w.bad || channel_seal(&n->channel, bytes_of(frame + FRAME_HEADER_BYTES, body),
				  frame + FRAME_HEADER_BYTES))
		die("cannot seal");
	frame_header_put(frame, body + CHANNEL_TAG_BYTES);
	transmit(s, n, frame, FRAME_HEADER_BYTES + body + CHANNEL_TAG_BYTES);
}

static void say_handshake(struct swarm *s, struct node *n)
{
	uint8_t frame[FRAME_HEADER_BYTES + FRAME_HANDSHAKE_MAX_BYTES];
	long len = channel_output(&n->channel, frame + FRAME_HEADER_BYTES);
	if (len < 0)
		die("the handshake failed");
	frame_header_put(frame, (size_t)len);
	if (len)
		transmit(s, n, frame, FRAME_HEADER_BYTES + (size_t)len);
}

/* --- what a node does ------------------------------------------------------------------------- */

static void say_register(struct swarm *s, struct node *n)
{
	char name[32];
	struct msg m = {.type = MSG_RegisterNode, .seq = ++n->seq};
	snprintf(name, sizeof name, "sim-%u", n->index);
	m.register_node.version = 1;
	m.register_node.instance = n->index + 1;
	m.register_node.name = bytes_str(name);
	say(s, n, &m);
}

static void say_ack(struct swarm *s, struct node *n, uint32_t seq, uint64_t value)
{
	struct msg m = {.type = MSG_CommonAck, .seq = seq};
	m.common_ack.value = value;
	say(s, n, &m);
}

/* Both ends measure the same. */
static uint32_t rtt_of(uint32_t transport)
{
	return 500 + (uint32_t)(mix(transport) % 20000);
}

static void say_connected(struct swarm *s, struct node *n, const struct msg_open_udp *o)
{
	struct msg m = {.type = MSG_TransportConnected};
	m.transport_connected.transport = o->transport;
	m.transport_connected.rtt_us = rtt_of(o->transport);
	if (o->addrs_count)
		m.transport_connected.remote = o->addrs[0].addr;
	say(s, n, &m);
}

static void on_registered(struct swarm *s, struct node *n, const struct msg *m)
{
	if (m->register_node_ack.code != CODE_OK)
		die("a registration was refused");
	n->registered = true;
	s->registered++;
}

static void on_connection(struct swarm *s, struct node *n)
{
	if (n->asked_at == 0)
		return;
	s->took[s->connected++] = wall_seconds() - n->asked_at;
	n->asked_at = 0;
}

static void on_message(struct swarm *s, struct node *n, const struct msg *m)
{
	switch (m->type) {
	case MSG_RegisterNodeAck:
		on_registered(s, n, m);
		break;
	case MSG_Ping:
		say_ack(s, n, m->seq, m->ping.nonce);
		return; /* no progress */
	case MSG_TransportCreate:
		n->transport = m->transport_create.transport;
		say_ack(s, n, m->seq, m->transport_create.port);
		break;
	case MSG_OpenUDP:
		say_ack(s, n, m->seq, 0);
		say_connected(s, n, &m->open_udp);
		break;
	case MSG_AssignConnection:
		if (m->assign_connection.path > 1) {
			s->moved++;
			s->moved_at = wall_seconds();
		}
		say_ack(s, n, m->seq, 0);
		break;
	case MSG_AddRoute:
		say_ack(s, n, m->seq, 0);
		break;
	case MSG_ConnectDirectlyAck:
		s->linked++;
		s->refused += m->connect_directly_ack.code != CODE_OK;
		break;
	case MSG_ConnectWithRouteAck:
		if (m->connect_with_route_ack.code != CODE_OK)
			die("a connection was refused");
		break;
	case MSG_ConnectionOn:
		on_connection(s, n);
		break;
	default:
		break;
	}
	s->progress_at = wall_seconds();
}

static void on_body(struct swarm *s, struct node *n, uint8_t *body, size_t len)
{
	struct msg m;
	if (!channel_is_up(&n->channel)) {
		if (channel_input(&n->channel, bytes_of(body, len)))
			die("the handshake failed");
		say_handshake(s, n);
		if (channel_is_up(&n->channel))
			say_register(s, n);
		return;
	}
	if (channel_open(&n->channel, bytes_of(body, len), body) ||
	    msg_decode(&m, bytes_of(body, len - CHANNEL_TAG_BYTES)))
		die("a message cannot be read");
	on_message(s, n, &m);
}

static void on_readable(struct swarm *s, struct node *n)
{
	size_t len = n->in_len, used = 0, need;
	if (len)
		memcpy(s->scratch, n->in, len);
	ssize_t got = read(n->fd, s->scratch + len, sizeof s->scratch - len);
	if (got < 0 && errno == EAGAIN)
		return;
	if (got <= 0)
		die("the manager closed a channel");
	len += (size_t)got;
	for (;;) {
		struct bytes body;
		long whole = frame_parse(bytes_of(s->scratch + used, len - used),
					 channel_body_limit(&n->channel), &body, &need);
		if (whole < 0)
			die("a frame cannot be read");
		if (whole == 0)
			break;
		on_body(s, n, s->scratch + used + FRAME_HEADER_BYTES,
			(size_t)whole - FRAME_HEADER_BYTES);
		used += (size_t)whole;
	}
	keep(&n->in, &n->in_len, s->scratch + used, len - used);
}

/* --- all of them ------------------------------------------------------------------------------ */

static void turn(struct swarm *s, int wait_ms)
{
	struct epoll_event events[EVENTS];
	int count = epoll_wait(s->epoll, events, EVENTS, wait_ms);
	for (int i = 0; i < count; i++) {
		struct node *n = events[i].data.ptr;
		if (events[i].events & EPOLLOUT)
			flush(s, n);
		if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
			on_readable(s, n);
	}
	if (wall_seconds() - s->progress_at > STALL_SECONDS)
		die("nothing happens any more");
}

static void start(struct swarm *s, struct node *n)
{
	uint32_t host = 0x7f010001u + (n->index / HOSTS_A_NET << 8) + n->index % HOSTS_A_NET;
	struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(host)};
	struct sockaddr_in to = {.sin_family = AF_INET,
				 .sin_port = htons(s->port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	uint8_t ephemeral[NOISE_KEY_BYTES];
	n->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (n->fd < 0 || bind(n->fd, (struct sockaddr *)&from, sizeof from) ||
	    connect(n->fd, (struct sockaddr *)&to, sizeof to))
		die("cannot connect to the manager");
	setsockopt(n->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
	fcntl(n->fd, F_SETFL, O_NONBLOCK);
	randombytes_buf(ephemeral, sizeof ephemeral);
	struct channel_params p = {
		.initiator = true, .local = &n->key, .ephemeral = ephemeral, .max_body = BODY_MAX};
	if (channel_init(&n->channel, &p))
		die("no channel");
	watch(s, n, EPOLL_CTL_ADD);
	say_handshake(s, n);
}

static void do_register(struct swarm *s)
{
	double begin = wall_seconds();
	s->progress_at = begin;
	while (s->registered < s->count) {
		while (s->started < s->count && s->started - s->registered < REGISTERING_MAX)
			start(s, &s->nodes[s->started++]);
		turn(s, 100);
	}
	print_result("registrations", s->count / (wall_seconds() - begin), "a second");
}

static void do_hold(struct swarm *s, double seconds)
{
	double until = wall_seconds() + seconds;
	while (wall_seconds() < until) {
		s->progress_at = wall_seconds();
		turn(s, 100);
	}
	print_result("held", seconds, "s");
}

/* The first count - 1 join everything, the others are between any two. */
static void ask_link(struct swarm *s, uint32_t i)
{
	uint32_t a = i + 1 < s->count ? i + 1 : below(s, s->count);
	uint32_t b = i + 1 < s->count ? below(s, a) : below(s, s->count - 1);
	if (b == a)
		b = s->count - 1;
	struct msg m = {.type = MSG_ConnectDirectly, .seq = ++s->nodes[a].seq};
	memcpy(m.connect_directly.peer.b, s->nodes[b].key.public, MESH_ID_BYTES);
	say(s, &s->nodes[a], &m);
}

static void do_links(struct swarm *s, uint32_t count)
{
	double begin = wall_seconds();
	uint32_t asked = 0;
	s->progress_at = begin;
	s->linked = 0;
	while (s->linked < count) {
		while (asked < count && asked - s->linked < LINKING_MAX)
			ask_link(s, asked++);
		turn(s, 100);
	}
	if (s->refused)
		die("a link was refused");
	print_result("links", count / (wall_seconds() - begin), "a second");
}

static void ask_connection(struct swarm *s)
{
	struct msg m = {.type = MSG_ConnectWithRoute};
	struct node *a, *b;
	do
		a = &s->nodes[below(s, s->count)];
	while (a->asked_at != 0);
	do
		b = &s->nodes[below(s, s->count)];
	while (a == b);
	m.seq = ++a->seq;
	memcpy(m.connect_with_route.peer.b, b->key.public, MESH_ID_BYTES);
	m.connect_with_route.app = bytes_str("echo");
	m.connect_with_route.from_app = bytes_str("bench");
	a->asked_at = wall_seconds();
	say(s, a, &m);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void do_connect(struct swarm *s, uint32_t count, uint32_t at_once)
{
	uint32_t asked = 0;
	double begin = wall_seconds();
	s->took = calloc(count, sizeof *s->took);
	if (!s->took || !count || !at_once || at_once > s->count / 2)
		die("out of memory, or an argument that cannot be");
	s->connected = 0;
	s->progress_at = begin;
	while (s->connected < count) {
		for (; asked < count && asked - s->connected < at_once; asked++)
			ask_connection(s);
		turn(s, 100);
	}
	double seconds = wall_seconds() - begin;
	qsort(s->took, count, sizeof *s->took, by_value);
	print_result("median", s->took[count / 2] * 1e3, "ms");
	print_result("99th percentile", s->took[(uint64_t)count * 99 / 100] * 1e3, "ms");
	print_result("slowest", s->took[count - 1] * 1e3, "ms");
	print_result("rate", count / seconds, "a second");
	free(s->took);
}

/* Until nothing has moved for a while. */
static double break_one(struct swarm *s)
{
	struct msg m = {.type = MSG_TransportShutdown};
	struct node *n;
	do
		n = &s->nodes[below(s, s->count)];
	while (!n->transport);
	m.transport_shutdown.transport = n->transport;
	m.transport_shutdown.code = CODE_CLOSED;
	m.transport_shutdown.text = bytes_str("the bench ends it");
	n->transport = 0;
	double begin = s->moved_at = wall_seconds();
	say(s, n, &m);
	while (wall_seconds() - s->moved_at < QUIET_SECONDS)
		turn(s, 5);
	return s->moved_at - begin;
}

static void do_break(struct swarm *s, uint32_t count)
{
	double *took = calloc(count, sizeof *took);
	uint32_t with = 0, moved = 0;
	if (!took)
		die("out of memory");
	s->progress_at = wall_seconds();
	for (uint32_t i = 0; i < count; i++) {
		s->moved = 0;
		double seconds = break_one(s);
		if (s->moved)
			took[with++] = seconds;
		moved += s->moved;
	}
	if (!with)
		die("no link carried a connection");
	qsort(took, with, sizeof *took, by_value);
	print_result("median", took[with / 2] * 1e3, "ms");
	print_result("slowest", took[with - 1] * 1e3, "ms");
	print_result("moved", moved / 2.0 / count, "connections a link");
	free(took);
}

/* --- life ------------------------------------------------------------------------------------- */

static void make_keys(struct swarm *s)
{
	uint8_t secret[NOISE_KEY_BYTES];
	for (uint32_t i = 0; i < s->count; i++) {
		randombytes_buf(secret, sizeof secret);
		s->nodes[i].index = i;
		noise_keypair_from_secret(&s->nodes[i].key, secret);
	}
}

static void command(struct swarm *s, const char *line)
{
	unsigned count, at_once;
	double seconds;
	if (strcmp(line, "register\n") == 0)
		do_register(s);
	else if (sscanf(line, "hold %lf", &seconds) == 1)
		do_hold(s, seconds);
	else if (sscanf(line, "links %u", &count) == 1)
		do_links(s, count);
	else if (sscanf(line, "connect %u %u", &count, &at_once) == 2)
		do_connect(s, count, at_once);
	else if (sscanf(line, "break %u", &count) == 1)
		do_break(s, count);
	else
		die("no such command");
	printf("\n");
	fflush(stdout);
}

int main(int argc, char **argv)
{
	char line[128];
	struct swarm *s = calloc(1, sizeof *s);
	if (argc != 3 || !s || sodium_init() < 0)
		die("usage: swarm MANAGER_PORT NODES");
	s->port = (uint16_t)atoi(argv[1]);
	s->count = (uint32_t)atoi(argv[2]);
	if (s->count < 2 || s->count > 60000)
		die("2 to 60000 nodes");
	s->nodes = calloc(s->count, sizeof *s->nodes);
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	struct rlimit files = {s->count + 100, s->count + 100};
	if (!s->nodes || s->epoll < 0 || setrlimit(RLIMIT_NOFILE, &files))
		die("cannot begin");
	make_keys(s);
	while (fgets(line, sizeof line, stdin))
		command(s, line);
	for (uint32_t i = 0; i < s->started; i++) {
		close(s->nodes[i].fd);
		free(s->nodes[i].in);
		free(s->nodes[i].out);
	}
	free(s->nodes);
	free(s);
	return 0;
}
