#include "node/udp_offload.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

#define PROBE_BYTES 200u /* of a segment */
#define PROBE_WAIT_MS 100

void udp_offload_cut(struct msghdr *h, union udp_control *control, uint16_t segment)
{
	memset(control, 0, sizeof *control);
	h->msg_control = control;
	h->msg_controllen = CMSG_SPACE(sizeof segment);
	struct cmsghdr *c = CMSG_FIRSTHDR(h);
	c->cmsg_level = SOL_UDP;
	c->cmsg_type = UDP_SEGMENT;
	c->cmsg_len = CMSG_LEN(sizeof segment);
	memcpy(CMSG_DATA(c), &segment, sizeof segment);
}

int udp_offload_gather(int fd)
{
	const int on = 1;

	return setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof on) ? -errno : 0;
}

size_t udp_offload_length(struct msghdr *h, size_t len)
{
	int size;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
		if (c->cmsg_level != SOL_UDP || c->cmsg_type != UDP_GRO)
			continue;
		memcpy(&size, CMSG_DATA(c), sizeof size);
		if (size > 0 && (size_t)size < len)
			return (size_t)size;
	}
	return len;
}

/* Two segments from `from` to the address that `to` is bound to; false when it was refused. */
static bool send_two(int from, int to)
{
	static uint8_t bytes[2 * PROBE_BYTES];
	struct sockaddr_in at;
	socklen_t at_len = sizeof at;
	struct iovec iov = {bytes, sizeof bytes};
	union udp_control control;
	struct msghdr h = {
		.msg_name = &at, .msg_namelen = sizeof at, .msg_iov = &iov, .msg_iovlen = 1};

	if (getsockname(to, (struct sockaddr *)&at, &at_len))
		return false;
	udp_offload_cut(&h, &control, PROBE_BYTES);
	return sendmsg(from, &h, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)sizeof bytes;
}

/* Whether what comes next is one datagram or two of the right length. */
static bool right_length(int fd)
{
	uint8_t bytes[4 * PROBE_BYTES];
	union udp_control control;
	struct iovec iov = {bytes, sizeof bytes};
	struct msghdr h = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = &control,
			   .msg_controllen = sizeof control};
	struct pollfd p = {fd, POLLIN, 0};
	ssize_t n;

	if (poll(&p, 1, PROBE_WAIT_MS) <= 0 || (n = recvmsg(fd, &h, MSG_DONTWAIT)) <= 0)
		return false;
	return udp_offload_length(&h, (size_t)n) == PROBE_BYTES;
}

static int loopback_socket(void)
{
	const struct sockaddr_in any = {.sin_family = AF_INET,
					.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd >= 0 && bind(fd, (const struct sockaddr *)&any, sizeof any)) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Without and with UDP_GRO at the receiver: what is cut wrongly cannot tell about gathering. */
static void probe(int from, int plain, int gathering, struct udp_offload *out)
{
	if (!send_two(from, plain))
		return;
	out->cuts = right_length(plain);
	if (udp_offload_gather(gathering) == 0)
		out->gathers = out->cuts && send_two(from, gathering) && right_length(gathering);
}

struct udp_offload udp_offload_probe(void)
{
	struct udp_offload out = {true, true};
	int fds[3];

	for (int i = 0; i < 3; i++)
		fds[i] = loopback_socket();
	if (fds[0] >= 0 && fds[1] >= 0 && fds[2] >= 0)
		probe(fds[0], fds[1], fds[2], &out);
	for (int i = 0; i < 3; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	return out;
}
