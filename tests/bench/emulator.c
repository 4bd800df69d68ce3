/*
 * A link emulator: relays Ethernet frames between pairs of interfaces and impairs them on the way.
 * The kernel's netem is not everywhere; this needs AF_PACKET only.  The ends of the link must not
 * send frames above the MTU (`ethtool -K IF tso off tx-udp-segmentation off`): such are dropped
 * and counted, since loss of a super frame is not what a link does.
 */
#include <errno.h>
#include <getopt.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "impair.h"

#define BATCH 64
#define PORTS_MAX 32
#define SOCKET_BUFFER_BYTES (64 << 20)
#define VNET_BYTES sizeof(struct virtio_net_hdr)
#define WAIT_MAX_NS 100000000u /* a signal is noticed within this */
#define SECOND_NS 1000000000u
#define QUEUE_DEFAULT_BYTES 1000000u

/* Ports 2n and 2n+1 are the ends of a link; `path` leads away from the port to the other end. */
struct port {
	const char *name;
	int fd;
	struct impair path;
	uint64_t oversize, send_errors;
};

struct emulator {
	struct impair_config config[2]; /* first to second interface of a pair, and back */
	struct port ports[PORTS_MAX];
	size_t count;
	struct frame_pool pool;
	struct frame *batch[BATCH]; /* where the next frames are received */
	uint64_t seconds, slack_ns;
};

static volatile sig_atomic_t ended, cut;

static void on_signal(int number)
{
	if (number == SIGUSR1)
		cut = !cut;
	else
		ended = 1;
}

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * SECOND_NS + (uint64_t)t.tv_nsec;
}

static struct timespec timespec_of(uint64_t ns)
{
	return (struct timespec){(time_t)(ns / SECOND_NS), (long)(ns % SECOND_NS)};
}

/* --- frames in and out -------------------------------------------------------------------- */

static int set_option(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof value);
}

static int port_open(struct port *port)
{
	struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	struct packet_mreq promiscuous = {.mr_type = PACKET_MR_PROMISC};

	to.sll_ifindex = (int)if_nametoindex(port->name);
	promiscuous.mr_ifindex = to.sll_ifindex;
	if (!to.sll_ifindex)
		return -errno;
	/* No protocol before bind: else frames of every interface come in meanwhile. */
	port->fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (port->fd < 0)
		return -errno;
	if (set_option(port->fd, SOL_PACKET, PACKET_VNET_HDR, 1) ||
	    set_option(port->fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1) ||
	    set_option(port->fd, SOL_PACKET, PACKET_QDISC_BYPASS, 1) ||
	    set_option(port->fd, SOL_SOCKET, SO_RCVBUFFORCE, SOCKET_BUFFER_BYTES) ||
	    set_option(port->fd, SOL_SOCKET, SO_SNDBUFFORCE, SOCKET_BUFFER_BYTES) ||
	    setsockopt(port->fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous,
		       sizeof promiscuous) ||
	    bind(port->fd, (struct sockaddr *)&to, sizeof to))
		return -errno;
	return 0;
}

/* True when the frame may pass. */
static bool frame_fits(const struct frame *f, int flags)
{
	struct virtio_net_hdr vnet;
	memcpy(&vnet, f->bytes, sizeof vnet);
	return !(flags & MSG_TRUNC) && vnet.gso_type == VIRTIO_NET_HDR_GSO_NONE;
}

static void oversize(struct port *port)
{
	if (!port->oversize++)
		fprintf(stderr,
			"emulator: %s: a frame above the MTU was dropped; at the other end: "
			"ethtool -K IF tso off tx-udp-segmentation off\n",
			port->name);
}

/* Refills what was consumed of the receive batch.  False: out of memory. */
static bool refill(struct emulator *e)
{
	for (size_t i = 0; i < BATCH; i++)
		if (!e->batch[i] && !(e->batch[i] = frame_get(&e->pool)))
			return false;
	return true;
}

/* Returns how many frames came. */
static size_t port_receive(struct emulator *e, struct port *port, uint64_t now)
{
	struct iovec iov[BATCH];
	struct mmsghdr msgs[BATCH];

	if (!refill(e))
		return 0;
	memset(msgs, 0, sizeof msgs);
	for (size_t i = 0; i < BATCH; i++) {
		iov[i] = (struct iovec){e->batch[i]->bytes, FRAME_BYTES_MAX};
		msgs[i].msg_hdr.msg_iov = &iov[i];
		msgs[i].msg_hdr.msg_iovlen = 1;
	}
	int n = recvmmsg(port->fd, msgs, BATCH, MSG_DONTWAIT, NULL);
	for (int i = 0; i < n; i++) {
		struct frame *f = e->batch[i];
		f->len = msgs[i].msg_len;
		if (!frame_fits(f, msgs[i].msg_hdr.msg_flags)) {
			oversize(port);
			continue;
		}
		e->batch[i] = NULL;
		impair_input(&port->path, f, now);
	}
	return n > 0 ? (size_t)n : 0;
}

static void send_batch(struct port *to, struct mmsghdr *msgs, size_t count)
{
	for (size_t sent = 0; sent < count;) {
		int n = sendmmsg(to->fd, msgs + sent, (unsigned)(count - sent), MSG_DONTWAIT);
		if (n <= 0) { /* a full device queue loses the frame, as it would anyone's */
			to->send_errors++;
			n = 1;
		}
		sent += (size_t)n;
	}
}

/* Sends what is due on the way to `to`; how many frames. */
static size_t port_send(struct emulator *e, struct impair *path, struct port *to, uint64_t now)
{
	struct frame *frames[BATCH];
	struct iovec iov[BATCH];
	struct mmsghdr msgs[BATCH];
	size_t n = 0;

	while (n < BATCH && (frames[n] = impair_output(path, now))) {
		iov[n] = (struct iovec){frames[n]->bytes, frames[n]->len};
		msgs[n] = (struct mmsghdr){.msg_hdr = {.msg_iov = &iov[n], .msg_iovlen = 1}};
		n++;
	}
	send_batch(to, msgs, n);
	for (size_t i = 0; i < n; i++)
		frame_put(&e->pool, frames[i]);
	return n;
}

/* --- the loop ----------------------------------------------------------------------------- */

static size_t turn(struct emulator *e, uint64_t now)
{
	size_t moved = 0, n;
	for (size_t i = 0; i < e->count; i++) {
		struct port *port = &e->ports[i];
		port->path.cut = cut;
		/* Bounded, so that a flood on one port cannot hold up the others. */
		for (int k = 0; k < 16 && (n = port_receive(e, port, now)); k++) {
			moved += n;
			if (n < BATCH)
				break;
		}
	}
	for (size_t i = 0; i < e->count; i++)
		while ((n = port_send(e, &e->ports[i].path, &e->ports[i ^ 1], now)))
			moved += n;
	return moved;
}

static uint64_t next_due_ns(const struct emulator *e)
{
	uint64_t due = UINT64_MAX;
	for (size_t i = 0; i < e->count; i++) {
		uint64_t t = impair_next_ns(&e->ports[i].path);
		due = t < due ? t : due;
	}
	return due;
}

static void wait_for_work(struct emulator *e, struct pollfd *fds, uint64_t now)
{
	uint64_t due = next_due_ns(e), wait = due > now ? due - now : 0;
	struct timespec t = timespec_of(wait < WAIT_MAX_NS ? wait : WAIT_MAX_NS);
	ppoll(fds, e->count, &t, NULL);
}

static void run(struct emulator *e)
{
	struct pollfd fds[PORTS_MAX];
	uint64_t now = now_ns(), end = e->seconds ? now + e->seconds * SECOND_NS : UINT64_MAX;
	struct timespec slack = timespec_of(e->slack_ns);

	for (size_t i = 0; i < e->count; i++)
		fds[i] = (struct pollfd){.fd = e->ports[i].fd, .events = POLLIN};
	while (!ended && now < end) {
		/* While frames flow one wake-up serves many of them. */
		if (turn(e, now))
			nanosleep(&slack, NULL);
		else
			wait_for_work(e, fds, now);
		now = now_ns();
	}
}

static void print_port(const struct port *port, const char *to, bool last)
{
	const struct impair_stats *s = &port->path.stats;
	struct tpacket_stats kernel = {0};
	socklen_t len = sizeof kernel;

	getsockopt(port->fd, SOL_PACKET, PACKET_STATISTICS, &kernel, &len);
	printf("{\"from\":\"%s\",\"to\":\"%s\",\"received\":%lu,\"received_bytes\":%lu,"
	       "\"delivered\":%lu,\"delivered_bytes\":%lu,\"lost\":%lu,\"queue_dropped\":%lu,"
	       "\"queue_max_bytes\":%lu,\"duplicated\":%lu,\"reordered\":%lu,\"cut_dropped\":%lu,"
	       "\"overflow_dropped\":%lu,\"oversize\":%lu,\"missed\":%u}%s",
	       port->name, to, s->received, s->received_bytes, s->delivered, s->delivered_bytes,
	       s->lost, s->queue_dropped, s->queue_max_bytes, s->duplicated, s->reordered,
	       s->cut_dropped, s->overflow_dropped, port->oversize, kernel.tp_drops,
	       last ? "" : ",");
}

static void print_stats(const struct emulator *e)
{
	uint64_t errors = 0;
	for (size_t i = 0; i < e->count; i++)
		errors += e->ports[i].send_errors;
	printf("{\"send_errors\":%lu,\"directions\":[", errors);
	for (size_t i = 0; i < e->count; i++)
		print_port(&e->ports[i], e->ports[i ^ 1].name, i + 1 == e->count);
	printf("]}\n");
}

/* --- the command line --------------------------------------------------------------------- */

static const char usage[] =
	"Usage: emulator [options] IF1 IF2 [IF3 IF4 ...]\n"
	"Relays frames between IF1 and IF2 (and IF3 and IF4 ...) like a link that is not perfect.\n"
	"A value, or one for IF1 to IF2 and one for the way back, joined by a comma:\n"
	"  --delay MS --jitter MS --loss % --reorder % --duplicate % --rate MBIT/S --queue BYTES\n"
	"  --seed N       of the random choices (1)\n"
	"  --keep-order   jitter lets no frame overtake another\n"
	"  --slack US     frames may be late by this (50)\n"
	"  --seconds S    ends by itself after that (never)\n"
	"Says `ready`, and at its end what it did, as one line of JSON.\n"
	"SIGUSR1 cuts the links and joins them again.\n";

enum { DELAY = 256, JITTER, LOSS, REORDER, DUPLICATE, RATE, QUEUE, SEED, ORDER, SLACK, SECONDS };

static const struct option long_options[] = {
	{"delay", required_argument, NULL, DELAY},
	{"jitter", required_argument, NULL, JITTER},
	{"loss", required_argument, NULL, LOSS},
	{"reorder", required_argument, NULL, REORDER},
	{"duplicate", required_argument, NULL, DUPLICATE},
	{"rate", required_argument, NULL, RATE},
	{"queue", required_argument, NULL, QUEUE},
	{"seed", required_argument, NULL, SEED},
	{"keep-order", no_argument, NULL, ORDER},
	{"slack", required_argument, NULL, SLACK},
	{"seconds", required_argument, NULL, SECONDS},
	{0},
};

/* "X" or "X,Y" into both directions. */
static bool parse_pair(const char *text, double max, double v[2])
{
	char *end;
	v[0] = v[1] = strtod(text, &end);
	if (end != text && *end == ',') {
		const char *second = end + 1;
		v[1] = strtod(second, &end);
		if (end == second)
			return false;
	}
	return end != text && !*end && v[0] >= 0 && v[0] <= max && v[1] >= 0 && v[1] <= max;
}

static void set_value(struct impair_config *c, int opt, double v)
{
	switch (opt) {
	case DELAY:
		c->delay_ns = (uint64_t)(v * 1e6);
		break;
	case JITTER:
		c->jitter_ns = (uint64_t)(v * 1e6);
		break;
	case LOSS:
		c->loss = v / 100;
		break;
	case REORDER:
		c->reorder = v / 100;
		break;
	case DUPLICATE:
		c->duplicate = v / 100;
		break;
	case RATE:
		c->rate_bps = (uint64_t)(v * 1e6);
		break;
	case QUEUE:
		c->queue_bytes = (uint64_t)v;
		break;
	case SEED:
		c->seed = (uint64_t)v;
		break;
	default:
		c->keep_order = true;
	}
}

static bool take_option(struct emulator *e, int opt, const char *arg)
{
	bool percent = opt == LOSS || opt == REORDER || opt == DUPLICATE;
	double v[2] = {0, 0};

	if (opt == '?' || (arg && !parse_pair(arg, percent ? 100 : 1e12, v)))
		return false;
	if (opt == SLACK)
		e->slack_ns = (uint64_t)(v[0] * 1e3);
	else if (opt == SECONDS)
		e->seconds = (uint64_t)v[0];
	else
		for (int i = 0; i < 2; i++)
			set_value(&e->config[i], opt, v[i]);
	return true;
}

static bool parse(struct emulator *e, int argc, char **argv)
{
	int opt;
	while ((opt = getopt_long(argc, argv, "", long_options, NULL)) != -1)
		if (!take_option(e, opt, optarg))
			return false;
	e->count = (size_t)(argc - optind);
	if (!e->count || e->count % 2 || e->count > PORTS_MAX)
		return false;
	for (size_t i = 0; i < e->count; i++)
		e->ports[i].name = argv[optind + (int)i];
	return true;
}

static int open_ports(struct emulator *e)
{
	for (size_t i = 0; i < e->count; i++) {
		struct impair_config c = e->config[i % 2];
		c.header_bytes = VNET_BYTES;
		c.seed = c.seed * PORTS_MAX + i; /* no two directions alike */
		int err = impair_init(&e->ports[i].path, &c, &e->pool);
		if (!err)
			err = port_open(&e->ports[i]);
		if (err) {
			fprintf(stderr, "emulator: %s: %s\n", e->ports[i].name, strerror(-err));
			return err;
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	static struct emulator e = {.slack_ns = 50000};
	struct sigaction act = {.sa_handler = on_signal};

	for (int i = 0; i < 2; i++)
		e.config[i] = (struct impair_config){.queue_bytes = QUEUE_DEFAULT_BYTES, .seed = 1};
	if (!parse(&e, argc, argv)) {
		fputs(usage, stderr);
		return 2;
	}
	sigaction(SIGTERM, &act, NULL);
	sigaction(SIGINT, &act, NULL);
	sigaction(SIGUSR1, &act, NULL);
	if (open_ports(&e))
		return 1;
	prctl(PR_SET_TIMERSLACK, 1);
	/* A link does not wait for a free CPU. */
	if (setpriority(PRIO_PROCESS, 0, -15))
		fprintf(stderr, "emulator: priority: %s\n", strerror(errno));
	printf("ready\n");
	fflush(stdout);
	run(&e);
	print_stats(&e);
	for (size_t i = 0; i < e.count; i++) {
		impair_free(&e.ports[i].path);
		close(e.ports[i].fd);
	}
	for (size_t i = 0; i < BATCH; i++)
		free(e.batch[i]);
	frame_pool_free(&e.pool);
	return 0;
}
