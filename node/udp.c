#include "node/udp.h"

#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "io/sockaddr.h"
#include "node/udp_offload.h"
#include "wire/packet.h"

#define RX_MESSAGES 16u
#define RX_ROUNDS 4u
/* A wake-up takes about so much: what it produces (acks, and the answers of whoever it is for) must
 * not wait for a whole window of input, or the sender stands still meanwhile. */
#define RX_WAKEUP_BYTES (512u << 10)
#define RX_MESSAGES_LARGE (RX_WAKEUP_BYTES / RX_BLOCK_BYTES)
#define RX_BLOCK_BYTES 65536u
#define RX_SLICES_MAX 256u
/* A short datagram whose bytes may be kept is copied: it must not pin a whole receive block. */
#define RX_COPY_BYTES (RX_BLOCK_BYTES / 4)
#define TX_MESSAGES 128u

struct udp {
	struct udp_config config;
	struct udp_counters counters;
	bool no_gso, no_gro;
	struct block *rx[RX_MESSAGES];
};

struct udp_socket {
	struct udp *udp;
	struct event *event;
	bool large; /* what came last was in large pieces */
	uint32_t transport;
	int fd;
	bool v6;
};

struct udp *udp_new(const struct udp_config *config)
{
	struct udp *u = calloc(1, sizeof *u);
	struct udp_offload offload;

	if (!u)
		return NULL;
	u->config = *config;
	offload = udp_offload_probe();
	u->no_gso = !offload.cuts;
	u->no_gro = !offload.gathers;
	if (u->no_gso || u->no_gro)
		log_info("UDP is not %s rightly here; going packet by packet",
			 u->no_gso ? "segmented" : "gathered");
	return u;
}

void udp_trim(struct udp *u)
{
	for (size_t i = 0; i < RX_MESSAGES; i++) {
		block_put(u->rx[i]);
		u->rx[i] = NULL;
	}
}

void udp_free(struct udp *u)
{
	if (!u)
		return;
	udp_trim(u);
	free(u);
}

const struct udp_counters *udp_get_counters(const struct udp *u)
{
	return &u->counters;
}

/* --- receiving ------------------------------------------------------------------------------- */

struct rx_batch {
	struct mmsghdr v[RX_MESSAGES];
	struct iovec iov[RX_MESSAGES];
	struct sockaddr_storage from[RX_MESSAGES];
	union udp_control control[RX_MESSAGES];
};

/* How many messages there is memory for, at most `want`. */
static unsigned rx_prepare(struct udp *u, struct rx_batch *b, unsigned want)
{
	unsigned i;

	for (i = 0; i < want; i++) {
		if (!u->rx[i] && !(u->rx[i] = block_new(RX_BLOCK_BYTES)))
			break;
		b->iov[i] = (struct iovec){.iov_base = u->rx[i]->data, .iov_len = RX_BLOCK_BYTES};
		b->v[i].msg_hdr = (struct msghdr){
			.msg_name = &b->from[i],
			.msg_namelen = sizeof b->from[i],
			.msg_iov = &b->iov[i],
			.msg_iovlen = 1,
			.msg_control = &b->control[i],
			.msg_controllen = sizeof b->control[i],
		};
	}
	return i;
}

static void rx_slices(struct udp_socket *s, struct block *b, size_t len, size_t segment,
		      const struct net_addr *from)
{
	struct udp *u = s->udp;
	struct udp_slice v[RX_SLICES_MAX];
	size_t n = 0;

	for (size_t at = 0; at < len; at += segment) {
		v[n++] = (struct udp_slice){.data = b->data + at,
					    .len = len - at < segment ? len - at : segment};
		if (n == RX_SLICES_MAX || len - at <= segment) {
			u->config.input(u->config.ctx, s->transport, b, v, n, from);
			n = 0;
		}
	}
}

static struct block *copy_of(const struct block *b, size_t len)
{
	struct block *copy = block_new(len);

	if (copy)
		memcpy(copy->data, b->data, len);
	return copy;
}

static void rx_one(struct udp_socket *s, struct rx_batch *batch, unsigned i)
{
	struct udp *u = s->udp;
	struct msghdr *h = &batch->v[i].msg_hdr;
	size_t len = batch->v[i].msg_len;
	struct block *b = u->rx[i], *copy = NULL;
	struct net_addr from;

	sockaddr_to_net(&from, (const struct sockaddr *)&batch->from[i]);
	if (!from.family || !len || (h->msg_flags & MSG_TRUNC))
		return;
	u->counters.rx_datagrams++;
	if (len <= RX_COPY_BYTES && b->data[0] == PACKET_DATA) {
		if (!(copy = copy_of(b, len)))
			return;
		b = copy;
	}
	rx_slices(s, b, len, udp_offload_length(h, len), &from);
	block_put(copy);
	if (u->rx[i]->refs > 1) { /* Kept by somebody: the next datagram gets another block. */
		block_put(u->rx[i]);
		u->rx[i] = NULL;
	}
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct udp_socket *s = arg;
	struct udp *u = s->udp;
	struct rx_batch batch;
	size_t bytes = 0;

	(void)what;
	u->counters.rx_wakeups++;
	for (unsigned round = 0; round < RX_ROUNDS && bytes < RX_WAKEUP_BYTES; round++) {
		unsigned room = rx_prepare(u, &batch, s->large ? RX_MESSAGES_LARGE : RX_MESSAGES);
		int n = room ? recvmmsg(fd, batch.v, room, MSG_DONTWAIT, NULL) : 0;
		for (int i = 0; i < n; i++) {
			bytes += batch.v[i].msg_len;
			rx_one(s, &batch, (unsigned)i);
		}
		s->large = bytes > RX_WAKEUP_BYTES / 2;
		if (n < (int)room)
			break;
	}
	u->config.batch_end(u->config.ctx);
}

/* --- sending --------------------------------------------------------------------------------- */

struct tx_batch {
	struct mmsghdr v[TX_MESSAGES];
	struct iovec iov[TX_MESSAGES];
	union udp_control control[TX_MESSAGES];
	/* Of each message: packets, and bytes of each but the last. */
	struct {
		unsigned packets, each;
	} shape[TX_MESSAGES];
	unsigned messages, iovs;
};

/* How many of `v` go out in one message: their packets are equally long, but the last may be
 * shorter. */
static size_t run_length(struct pkt *const *v, size_t n, size_t most)
{
	size_t count = 1, bytes = v[0]->len, packets = v[0]->count;

	for (; count < n && count < most; count++) {
		const struct pkt *p = v[count], *before = v[count - 1];
		if (before->len != before->count * v[0]->each || p->each > v[0]->each ||
		    (p->each < v[0]->each && p->count > 1) || bytes + p->len > PKT_RUN_BYTES ||
		    packets + p->count > PKT_RUN_PACKETS)
			break;
		bytes += p->len;
		packets += p->count;
	}
	return count;
}

static struct msghdr *tx_begin(struct tx_batch *b, const void *name, socklen_t name_len)
{
	struct msghdr *h = &b->v[b->messages].msg_hdr;

	*h = (struct msghdr){.msg_name = (void *)(uintptr_t)name,
			     .msg_namelen = name_len,
			     .msg_iov = &b->iov[b->iovs]};
	return h;
}

static void tx_run(struct tx_batch *b, const void *name, socklen_t name_len, struct pkt *const *v,
		   size_t n)
{
	struct msghdr *h = tx_begin(b, name, name_len);
	struct iovec *last = NULL;
	unsigned packets = 0;

	for (size_t i = 0; i < n; i++) {
		packets += v[i]->count;
		if (last && (uint8_t *)last->iov_base + last->iov_len == v[i]->data) {
			last->iov_len += v[i]->len;
			continue;
		}
		last = &b->iov[b->iovs++];
		*last = (struct iovec){.iov_base = v[i]->data, .iov_len = v[i]->len};
		h->msg_iovlen++;
	}
	if (packets > 1)
		udp_offload_cut(h, &b->control[b->messages], (uint16_t)v[0]->each);
	b->shape[b->messages].packets = packets;
	b->shape[b->messages++].each = v[0]->each;
}

/* Where the kernel does not cut runs. */
static void tx_singly(struct tx_batch *b, const void *name, socklen_t name_len, const struct pkt *p)
{
	for (size_t i = 0; i < p->count; i++) {
		struct bytes payload = pkt_payload(p, i);
		struct msghdr *h = tx_begin(b, name, name_len);
		b->iov[b->iovs++] = (struct iovec){.iov_base = (void *)(uintptr_t)payload.data,
						   .iov_len = payload.len};
		h->msg_iovlen = 1;
		b->shape[b->messages].packets = 1;
		b->shape[b->messages++].each = (unsigned)payload.len;
	}
}

/* A run that the kernel will not cut (an interface without checksums, a small MTU) goes packet by
 * packet. */
static void send_singly(struct udp_socket *s, const struct msghdr *h, size_t each)
{
	s->udp->counters.gso_refused++;
	for (size_t i = 0; i < h->msg_iovlen; i++) {
		const uint8_t *data = h->msg_iov[i].iov_base;
		for (size_t left = h->msg_iov[i].iov_len, len; left; left -= len, data += len) {
			len = left < each ? left : each;
			s->udp->counters.tx_calls++;
			if (sendto(s->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL, h->msg_name,
				   h->msg_namelen) < 0)
				s->udp->counters.tx_lost++;
		}
	}
}

static bool is_refusal(struct udp *u, int error, const struct msghdr *h)
{
	if (!h->msg_controllen || (error != EIO && error != EINVAL && error != EMSGSIZE &&
				   error != ENOPROTOOPT && error != EOPNOTSUPP))
		return false;
	if ((error == EIO || error == ENOPROTOOPT || error == EOPNOTSUPP) && !u->no_gso) {
		u->no_gso = true;
		log_info("the kernel does not segment UDP here; sending packet by packet");
	}
	return true;
}

static void tx_send(struct udp_socket *s, struct tx_batch *b)
{
	struct udp *u = s->udp;
	unsigned at = 0;

	while (at < b->messages) {
		u->counters.tx_calls++;
		int sent =
			sendmmsg(s->fd, b->v + at, b->messages - at, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent > 0) {
			at += (unsigned)sent;
			continue;
		}
		if (errno == EAGAIN || errno == ENOBUFS) {
			for (; at < b->messages; at++)
				u->counters.tx_lost += b->shape[at].packets;
			break;
		}
		if (is_refusal(u, errno, &b->v[at].msg_hdr))
			send_singly(s, &b->v[at].msg_hdr, b->shape[at].each);
		else
			u->counters.tx_lost += b->shape[at].packets;
		at++;
	}
	b->messages = b->iovs = 0;
}

/* The kernel's form of `to` for this socket; 0 when it cannot reach that family. */
static socklen_t address_for(const struct udp_socket *s, const struct net_addr *to,
			     struct sockaddr_storage *out)
{
	struct net_addr mapped = {.family = 6, .port = to->port};

	if (to->family == 4 && s->v6) {
		mapped.ip[10] = mapped.ip[11] = 0xff;
		memcpy(mapped.ip + 12, to->ip, 4);
		return sockaddr_from_net(out, &mapped);
	}
	return to->family == 6 && !s->v6 ? 0 : sockaddr_from_net(out, to);
}

void udp_send(struct udp_socket *s, const struct net_addr *to, struct pkt *const *v, size_t n)
{
	struct sockaddr_storage name;
	socklen_t name_len = address_for(s, to, &name);
	struct tx_batch b;

	b.messages = b.iovs = 0;
	for (size_t i = 0, count; name_len && i < n; i += count) {
		size_t need = s->udp->no_gso ? v[i]->count : 1;
		if (b.messages + need > TX_MESSAGES || b.iovs + need > TX_MESSAGES)
			tx_send(s, &b);
		count = s->udp->no_gso ? 1 : run_length(v + i, n - i, TX_MESSAGES - b.iovs);
		if (s->udp->no_gso)
			tx_singly(&b, &name, name_len, v[i]);
		else
			tx_run(&b, &name, name_len, v + i, count);
	}
	tx_send(s, &b);
}

/* --- sockets --------------------------------------------------------------------------------- */

static void set_option(int fd, int level, int name, int value)
{
	/* Each of these is a wish. */
	(void)setsockopt(fd, level, name, &value, sizeof value);
}

static void set_options(struct udp_socket *s)
{
	int bytes = s->udp->config.buffer_bytes;

	if (setsockopt(s->fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes))
		set_option(s->fd, SOL_SOCKET, SO_RCVBUF, bytes);
	if (setsockopt(s->fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes))
		set_option(s->fd, SOL_SOCKET, SO_SNDBUF, bytes);
	if (s->udp->config.mark)
		set_option(s->fd, SOL_SOCKET, SO_MARK, (int)s->udp->config.mark);
	if (!s->udp->no_gro)
		(void)udp_offload_gather(s->fd);
	/* Never fragmented by the network, and no router's word is believed about the size. */
	set_option(s->fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);
	if (s->v6)
		set_option(s->fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE);
}

static bool is_any6(const struct net_addr *a)
{
	static const uint8_t zero[16];

	return a->family == 6 && memcmp(a->ip, zero, sizeof zero) == 0;
}

/* A socket bound to `want`, or -errno; a host without IPv6 takes "::" as IPv4. */
static int open_bound(struct udp_socket *s, struct net_addr want)
{
	struct sockaddr_storage sa;
	int off = 0, fd;

	fd = socket(want.family == 6 ? AF_INET6 : AF_INET,
		    SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 && errno == EAFNOSUPPORT && is_any6(&want)) {
		want.family = 4;
		fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	}
	if (fd < 0)
		return -errno;
	s->v6 = want.family == 6;
	if (s->v6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
	if (bind(fd, (struct sockaddr *)&sa, sockaddr_from_net(&sa, &want))) {
		int err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

static int bound_port(int fd)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof sa;
	struct net_addr a;

	if (getsockname(fd, (struct sockaddr *)&sa, &len))
		return -errno;
	sockaddr_to_net(&a, (struct sockaddr *)&sa);
	return a.port;
}

int udp_open(struct udp *u, uint32_t transport, uint16_t port, struct udp_socket **out)
{
	struct udp_socket *s = calloc(1, sizeof *s);
	struct net_addr want = u->config.bind;

	if (!s)
		return -ENOMEM;
	s->udp = u;
	s->transport = transport;
	want.port = port;
	s->fd = open_bound(s, want);
	if (s->fd < 0) {
		int err = s->fd;
		free(s);
		return err;
	}
	set_options(s);
	s->event = event_new(u->config.base, s->fd, EV_READ | EV_PERSIST, on_readable, s);
	int bound = s->event && !event_add(s->event, NULL) ? bound_port(s->fd) : -ENOMEM;
	if (bound < 0) {
		udp_close(s);
		return bound;
	}
	*out = s;
	return bound;
}

void udp_close(struct udp_socket *s)
{
	if (s->event)
		event_free(s->event);
	close(s->fd);
	free(s);
}
