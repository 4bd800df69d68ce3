/*
 * A hostile neighbour: catches packets of a live transport on an interface and sends, many a
 * second, what a stranger could make of them.  For namespaces of a benchmark only.
 *
 *   flood MODE INTERFACE PACKETS_PER_SECOND SECONDS TRANSPORT
 *
 *   foreign    to a MAC address that is nobody's: costs the machine, not the node (the baseline)
 *   handshake  well-formed handshakes under another secret
 *   forged     data packets with a wrong header MAC
 *   replay     data packets as they were
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "core/handshake.h"

#define CAUGHT_MAX 2048
#define CATCH_SECONDS 3
#define FRAME_MAX 1600
#define BATCH 64
#define TICK_NS 1000000u
#define VNET_BYTES sizeof(struct virtio_net_hdr)
#define HEADERS_BYTES (ETH_HLEN + sizeof(struct iphdr) + sizeof(struct udphdr))

enum mode { FOREIGN, HANDSHAKE, FORGED, REPLAY, MODES };
static const char *const mode_names[MODES] = {"foreign", "handshake", "forged", "replay"};

struct frame {
	size_t len; /* with the vnet header */
	uint8_t bytes[VNET_BYTES + FRAME_MAX];
};

struct flood {
	enum mode mode;
	int fd;
	uint32_t transport;
	unsigned long per_second, seconds;
	struct frame *caught;
	size_t count, next;
	uint64_t sent, failed;
};

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int set_option(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof value);
}

static int flood_open(struct flood *f, const char *interface)
{
	struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};

	to.sll_ifindex = (int)if_nametoindex(interface);
	f->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (!to.sll_ifindex || f->fd < 0 || set_option(f->fd, SOL_PACKET, PACKET_VNET_HDR, 1) ||
	    set_option(f->fd, SOL_PACKET, PACKET_QDISC_BYPASS, 1) ||
	    bind(f->fd, (struct sockaddr *)&to, sizeof to))
		return -errno;
	return 0;
}

/* --- catching ----------------------------------------------------------------------------- */

static uint16_t ip_checksum(const uint8_t *header)
{
	uint32_t sum = 0;
	for (size_t i = 0; i < sizeof(struct iphdr); i += 2)
		sum += (uint32_t)header[i] << 8 | header[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static void put16(uint8_t *at, uint16_t v)
{
	at[0] = (uint8_t)(v >> 8);
	at[1] = (uint8_t)v;
}

/* Lengths and checksums for a payload of `len` bytes; UDP's is left out, as IPv4 allows. */
static void frame_finish(struct frame *fr, size_t len)
{
	uint8_t *ip = fr->bytes + VNET_BYTES + ETH_HLEN, *udp = ip + sizeof(struct iphdr);

	memset(fr->bytes, 0, VNET_BYTES);
	put16(ip + 2, (uint16_t)(sizeof(struct iphdr) + sizeof(struct udphdr) + len));
	put16(ip + 10, 0);
	put16(ip + 10, ip_checksum(ip));
	put16(udp + 4, (uint16_t)(sizeof(struct udphdr) + len));
	put16(udp + 6, 0);
	fr->len = VNET_BYTES + HEADERS_BYTES + len;
}

/* Keeps the first packet of what was sent, when it is data of a transport over IPv4. */
static bool keep(struct flood *f, const uint8_t *bytes, size_t len)
{
	const uint8_t *ip = bytes + VNET_BYTES + ETH_HLEN;
	struct virtio_net_hdr vnet;

	if (len < VNET_BYTES + HEADERS_BYTES + HOP_HEADER_BYTES || ip[-2] != 0x08 || ip[-1] != 0 ||
	    ip[0] != 0x45 || ip[9] != IPPROTO_UDP ||
	    bytes[VNET_BYTES + HEADERS_BYTES] != PACKET_DATA)
		return false;
	memcpy(&vnet, bytes, sizeof vnet);
	size_t payload = len - VNET_BYTES - HEADERS_BYTES;
	if (vnet.gso_type != VIRTIO_NET_HDR_GSO_NONE && vnet.gso_size < payload)
		payload = vnet.gso_size;
	if (HEADERS_BYTES + payload > FRAME_MAX)
		return false;
	struct frame *fr = &f->caught[f->count++];
	memcpy(fr->bytes, bytes, VNET_BYTES + HEADERS_BYTES + payload);
	frame_finish(fr, payload);
	return true;
}

static void catch_packets(struct flood *f)
{
	static uint8_t bytes[VNET_BYTES + 70000];
	struct timeval wait = {.tv_usec = 100000};
	uint64_t end = now_ns() + CATCH_SECONDS * 1000000000ull;

	setsockopt(f->fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
	while (f->count < CAUGHT_MAX && now_ns() < end) {
		struct sockaddr_ll from;
		socklen_t from_len = sizeof from;
		ssize_t n = recvfrom(f->fd, bytes, sizeof bytes, 0, (struct sockaddr *)&from,
				     &from_len);
		if (n > 0 && from.sll_pkttype == PACKET_OUTGOING)
			keep(f, bytes, (size_t)n);
	}
	/* No more: they would only fill the socket's buffer. */
	set_option(f->fd, SOL_SOCKET, SO_RCVBUF, 0);
}

/* --- what becomes of them ----------------------------------------------------------------- */

static bool make_handshakes(struct flood *f)
{
	uint8_t secret[32], psk[MESH_SECRET_BYTES], ephemeral[32];
	struct mesh_id id;
	struct handshake h;

	randombytes_buf(secret, sizeof secret);
	randombytes_buf(psk, sizeof psk);
	crypto_scalarmult_base(id.b, secret);
	handshake_init(&h, f->transport, secret, &id, psk);
	for (size_t i = 0; i < f->count; i++) {
		randombytes_buf(ephemeral, sizeof ephemeral);
		if (handshake_initiate(&h, (uint8_t)i, ephemeral))
			return false;
		memcpy(f->caught[i].bytes + VNET_BYTES + HEADERS_BYTES, h.packet, h.packet_len);
		frame_finish(&f->caught[i], h.packet_len);
		if (f->mode == FOREIGN)
			memcpy(f->caught[i].bytes + VNET_BYTES, "\x02\0\0\0\0\x01", ETH_ALEN);
	}
	handshake_wipe(&h);
	return true;
}

/* A new number, near the true ones, and a guess at the MAC. */
static void forge(struct frame *fr)
{
	uint8_t *hop = fr->bytes + VNET_BYTES + HEADERS_BYTES;
	randombytes_buf(hop + 14, HOP_HEADER_BYTES - 14);
}

static bool prepare(struct flood *f)
{
	if (f->mode == HANDSHAKE || f->mode == FOREIGN)
		return make_handshakes(f);
	for (size_t i = 0; f->mode == FORGED && i < f->count; i++)
		forge(&f->caught[i]);
	return true;
}

/* --- sending ------------------------------------------------------------------------------ */

static void send_batch(struct flood *f, size_t n)
{
	struct mmsghdr msgs[BATCH];
	struct iovec iov[BATCH];

	memset(msgs, 0, sizeof msgs);
	for (size_t i = 0; i < n; i++) {
		struct frame *fr = &f->caught[f->next];
		f->next = (f->next + 1) % f->count;
		iov[i] = (struct iovec){fr->bytes, fr->len};
		msgs[i].msg_hdr.msg_iov = &iov[i];
		msgs[i].msg_hdr.msg_iovlen = 1;
	}
	int sent = sendmmsg(f->fd, msgs, (unsigned)n, 0);
	f->sent += sent > 0 ? (size_t)sent : 0;
	f->failed += n - (sent > 0 ? (size_t)sent : 0);
}

static void send_all(struct flood *f)
{
	uint64_t begin = now_ns(), end = begin + f->seconds * 1000000000ull, now = begin, done = 0;
	struct timespec tick = {.tv_nsec = TICK_NS};

	while (now < end) {
		uint64_t want = (uint64_t)((double)(now - begin) * (double)f->per_second / 1e9);
		/* When held up for long it does not make up for that by a burst. */
		if (want - done > f->per_second / 20)
			done = want - f->per_second / 20;
		while (done < want) {
			size_t n = want - done < BATCH ? (size_t)(want - done) : BATCH;
			send_batch(f, n);
			done += n;
		}
		nanosleep(&tick, NULL);
		now = now_ns();
	}
	print_result("sent", (double)f->sent / (double)f->seconds, "packets a second");
	print_result("not sent", (double)f->failed / (double)f->seconds, "packets a second");
}

static bool parse(struct flood *f, int argc, char **argv)
{
	if (argc != 6)
		return false;
	while (f->mode < MODES && strcmp(argv[1], mode_names[f->mode]) != 0)
		f->mode++;
	f->per_second = strtoul(argv[3], NULL, 10);
	f->seconds = strtoul(argv[4], NULL, 10);
	f->transport = (uint32_t)strtoul(argv[5], NULL, 10);
	return f->mode < MODES && f->per_second && f->seconds;
}

int main(int argc, char **argv)
{
	struct flood f = {.fd = -1};
	int code = 1;

	if (!parse(&f, argc, argv)) {
		fprintf(stderr, "Usage: flood foreign|handshake|forged|replay INTERFACE "
				"PACKETS_PER_SECOND SECONDS TRANSPORT\n");
		return 2;
	}
	f.caught = calloc(CAUGHT_MAX, sizeof *f.caught);
	prctl(PR_SET_TIMERSLACK, 1);
	int err = f.caught && sodium_init() >= 0 ? flood_open(&f, argv[2]) : -ENOMEM;
	if (err)
		fprintf(stderr, "flood: %s: %s\n", argv[2], strerror(-err));
	else
		catch_packets(&f);
	if (!err && !f.count)
		fprintf(stderr, "flood: %s: no packet of a transport went out\n", argv[2]);
	else if (!err && prepare(&f)) {
		printf("{\"caught\":%zu}\n", f.count);
		fflush(stdout);
		send_all(&f);
		code = 0;
	}
	close(f.fd);
	free(f.caught);
	return code;
}
