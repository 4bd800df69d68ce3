/* The frames of the SOCKS apps' streams (common/PROTOCOL.md section 7): one message of a mesh
 * connection is a run of them.  Pure. */
#ifndef SOCKS_MUXFRAME_H
#define SOCKS_MUXFRAME_H

#include "wire/socksaddr.h"

#define MUX_VERSION 2u
#define MUX_DATA_MAX 60000u /* bytes in one DATA */
/* The longest frame without data: an OPEN with a name. */
#define MUX_CONTROL_BYTES_MAX (5 + SOCKS_ADDR_BYTES_MAX)
#define MUX_DATA_HEADER_BYTES 7u

enum mux_type {
	MUX_HELLO = 1, /* version, window, streams */
	MUX_OPEN,      /* stream, address */
	MUX_ASSOCIATE, /* stream */
	MUX_OPENED,    /* stream, address */
	MUX_REFUSED,   /* stream, code */
	MUX_DATA,      /* stream, bytes */
	MUX_WINDOW,    /* stream, count */
	MUX_FIN,       /* stream */
	MUX_RESET,     /* stream, code */
	MUX_PING,      /* token: to be answered */
	MUX_PONG       /* token: of the PING, or 0: only that we are there */
};

struct mux_frame {
	uint8_t type, version, code;
	uint32_t stream, window, streams, token;
	struct socks_addr addr;
	struct bytes data; /* a view */
};

/* Reads one frame off the cursor.  False (and r->bad): no frame. */
bool mux_frame_read(struct rbuf *r, struct mux_frame *f);
void mux_frame_write(struct wbuf *w, const struct mux_frame *f);

/* A record of the datagram connection: the association's stream, the other end's address, and the
 * datagram. */
#define MUX_RECORD_HEADER_MAX (4 + SOCKS_ADDR_BYTES_MAX)
/* With a numeric address. */
#define MUX_RECORD_HEADER_IPV4 (4 + 1 + 4 + 2)
#define MUX_RECORD_HEADER_IPV6 (4 + 1 + 16 + 2)

struct mux_record {
	uint32_t stream;
	struct socks_addr addr;
	struct bytes payload; /* a view */
};
bool mux_record_read(struct bytes record, struct mux_record *out);
void mux_record_write_header(struct wbuf *w, uint32_t stream, const struct socks_addr *addr);

const char *mux_type_name(uint8_t type);
#endif
