/*
 * What an overlay whose hops are processes costs at least on a machine: super-packets of a TUN
 * interface go in UDP datagrams from process to process.  No key, no check, no ack, nothing
 * repaired.
 *
 *   bare end TUN PORT ADDRESS            between an interface and the neighbour
 *   bare relay PORT ADDRESS ADDRESS      what comes from one neighbour goes to the other
 *
 * It has as few system calls as there can be: it blocks in recvmmsg, and sends all that it got by
 * one sendmmsg; an end has a thread for each way.  For namespaces of a benchmark only.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signal.h>
#include <sys/socket.h>
#include <unistd.h>

#define BATCH 16
#define DATAGRAM_MAX 65535u
#define SEGMENT 1400u
#define SOCKET_BYTES (8 << 20)

struct batch {
	struct mmsghdr msgs[BATCH];
	struct iovec iov[BATCH];
	struct sockaddr_in from[BATCH];
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control[BATCH];
	uint8_t data[BATCH][DATAGRAM_MAX + 1];
};

struct end {
	int tun, udp;
	struct sockaddr_in to;
};

static void die(const char *what)
{
	fprintf(stderr, "bare: %s: %s\n", what, strerror(errno));
	_exit(1);
}

static struct batch *batch_new(void)
{
	struct batch *b = calloc(1, sizeof *b);
	if (!b)
		die("memory");
	for (size_t i = 0; i < BATCH; i++) {
		b->iov[i].iov_base = b->data[i];
		b->msgs[i].msg_hdr.msg_iov = &b->iov[i];
		b->msgs[i].msg_hdr.msg_iovlen = 1;
	}
	return b;
}

static struct sockaddr_in address(const char *ip, const char *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	a.sin_port = htons((uint16_t)strtoul(port, NULL, 10));
	if (inet_pton(AF_INET, ip, &a.sin_addr) != 1) {
		fprintf(stderr, "bare: %s is no IPv4 address\n", ip);
		_exit(2);
	}
	return a;
}

static int udp_open(const char *port)
{
	struct sockaddr_in own = address("0.0.0.0", port);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), on = 1, room = SOCKET_BYTES;
	if (fd < 0 || bind(fd, (struct sockaddr *)&own, sizeof own) ||
	    setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof on) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room) ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room))
		die("socket");
	return fd;
}

static int tun_open(const char *name)
{
	struct ifreq req = {.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR};
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	snprintf(req.ifr_name, sizeof req.ifr_name, "%s", name);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &req) ||
	    ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6))
		die(name);
	return fd;
}

/* How many came; it waits for the first. */
static unsigned receive(int fd, struct batch *b)
{
	for (size_t i = 0; i < BATCH; i++) {
		struct msghdr *m = &b->msgs[i].msg_hdr;
		m->msg_name = &b->from[i];
		m->msg_namelen = sizeof b->from[i];
		m->msg_control = b->control[i].bytes;
		m->msg_controllen = sizeof b->control[i].bytes;
		b->iov[i].iov_len = DATAGRAM_MAX;
	}
	int n;
	do
		n = recvmmsg(fd, b->msgs, BATCH, MSG_WAITFORONE, NULL);
	while (n < 0 && (errno == EINTR || errno == ECONNREFUSED));
	if (n < 0)
		die("recvmmsg");
	return (unsigned)n;
}

/* As long as the kernel says that the packets of this datagram were, else all of it. */
static uint16_t segment_bytes(struct msghdr *m, size_t len)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		int bytes;
		if (c->cmsg_level != IPPROTO_UDP || c->cmsg_type != UDP_GRO)
			continue;
		memcpy(&bytes, CMSG_DATA(c), sizeof bytes);
		return bytes > 0 && (size_t)bytes < len ? (uint16_t)bytes : 0;
	}
	return 0;
}

static void set_segment(struct batch *b, size_t i, uint16_t bytes)
{
	struct msghdr *m = &b->msgs[i].msg_hdr;
	m->msg_control = bytes ? b->control[i].bytes : NULL;
	m->msg_controllen = bytes ? CMSG_SPACE(sizeof bytes) : 0;
	if (!bytes)
		return;
	struct cmsghdr *c = CMSG_FIRSTHDR(m);
	c->cmsg_level = IPPROTO_UDP;
	c->cmsg_type = UDP_SEGMENT;
	c->cmsg_len = CMSG_LEN(sizeof bytes);
	memcpy(CMSG_DATA(c), &bytes, sizeof bytes);
}

/* What does not go is lost. */
static void send_all(int fd, struct batch *b, unsigned count)
{
	for (unsigned done = 0; done < count;) {
		int n = sendmmsg(fd, b->msgs + done, count - done, 0);
		if (n < 0 && errno == EINTR)
			continue;
		done += n > 0 ? (unsigned)n : 1;
	}
}

static void relay(int fd, struct sockaddr_in *one, struct sockaddr_in *other)
{
	struct batch *b = batch_new();
	for (;;) {
		unsigned count = receive(fd, b);
		for (unsigned i = 0; i < count; i++) {
			b->iov[i].iov_len = b->msgs[i].msg_len;
			set_segment(b, i, segment_bytes(&b->msgs[i].msg_hdr, b->msgs[i].msg_len));
			bool first = b->from[i].sin_addr.s_addr == one->sin_addr.s_addr;
			b->msgs[i].msg_hdr.msg_name = first ? other : one;
		}
		send_all(fd, b, count);
	}
}

static void *from_tun(void *arg)
{
	struct end *e = arg;
	struct batch *b = batch_new();
	for (;;) {
		ssize_t n = read(e->tun, b->data[0], DATAGRAM_MAX);
		if (n < 0 && errno != EINTR)
			die("read");
		if (n <= 0)
			continue;
		b->iov[0].iov_len = (size_t)n;
		b->msgs[0].msg_hdr.msg_name = &e->to;
		b->msgs[0].msg_hdr.msg_namelen = sizeof e->to;
		set_segment(b, 0, (size_t)n > SEGMENT ? SEGMENT : 0);
		send_all(e->udp, b, 1);
	}
	return NULL;
}

static void to_tun(struct end *e)
{
	struct batch *b = batch_new();
	for (;;) {
		unsigned count = receive(e->udp, b);
		for (unsigned i = 0; i < count; i++) {
			/* One that came in parts is not an IP packet, and refused. */
			if (write(e->tun, b->data[i], b->msgs[i].msg_len) < 0 && errno == EBADF)
				die("write");
		}
	}
}

int main(int argc, char **argv)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (argc == 5 && !strcmp(argv[1], "relay")) {
		struct sockaddr_in one = address(argv[3], argv[2]),
				   other = address(argv[4], argv[2]);
		relay(udp_open(argv[2]), &one, &other);
	}
	if (argc == 5 && !strcmp(argv[1], "end")) {
		struct end e = {tun_open(argv[2]), udp_open(argv[3]), address(argv[4], argv[3])};
		pthread_t thread;
		if (pthread_create(&thread, NULL, from_tun, &e))
			die("thread");
		to_tun(&e);
	}
	fprintf(stderr, "usage: bare end TUN PORT ADDRESS | bare relay PORT ADDRESS ADDRESS\n");
	return 2;
}
