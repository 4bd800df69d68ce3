/*
 * What the kernel does for UDP in bulk: it cuts one message into segments (UDP_SEGMENT) and hands
 * over several datagrams as one (UDP_GRO), each with a control message about the length.
 *
 * A refusal shows itself.  What takes the control messages and does not understand them (emulators
 * of a CPU of the other byte order, sandboxes) loses or garbles packets instead: udp_offload_probe
 * finds out.
 */
#ifndef NODE_UDP_OFFLOAD_H
#define NODE_UDP_OFFLOAD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

union udp_control {
	struct cmsghdr align;
	uint8_t bytes[CMSG_SPACE(sizeof(int))];
};

/* Has `h` cut into segments of this length. */
void udp_offload_cut(struct msghdr *h, union udp_control *control, uint16_t segment);
/* 0, or -errno: datagrams of one length from one sender may come as one message. */
int udp_offload_gather(int fd);
/* The length of each datagram but the last of a message of `len` bytes that came. */
size_t udp_offload_length(struct msghdr *h, size_t len);

struct udp_offload {
	bool cuts, gathers; /* false: it must not be used here */
};
/* Sends a few bytes over loopback; takes it for good where that cannot be done. */
struct udp_offload udp_offload_probe(void);
#endif
