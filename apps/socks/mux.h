/*
 * Many streams in one mesh connection, each with a window of its own: a stream that nobody reads
 * stops alone.  The socks-client opens streams, the socks-server answers; afterwards both ends are
 * equal.  common/PROTOCOL.md section 7.
 *
 * A pure state machine: messages of the connection go in (mux_input) and come out (mux_output), and
 * what happens to a stream is told through mux_ops.  Bytes to be sent stay where they are until
 * mux_output pulls them, so nothing is buffered here.  Bytes received are handed over at once; the
 * owner keeps them, at most the window, and says with mux_consumed what has gone on.
 *
 * A stream lives from mux_open or ops->open until ops->closed, or until mux_reset or mux_refuse:
 * after those the pointer is not the owner's any more.  Streams are freed in mux_input and
 * mux_output only, so any function but these two may be called from any callback.
 */
#ifndef SOCKS_MUX_H
#define SOCKS_MUX_H

#include "socks/alive.h"

#define MUX_MESSAGE_BYTES 64000u /* no message is longer: it fits into one record of the mesh */
#define MUX_TURN_BYTES 16384u	 /* of data in one turn, while others wait for theirs */
#define MUX_WINDOW_FIRST 65536u	 /* how a stream begins */
#define MUX_WINDOW_MAX (16u << 20)
#define MUX_STREAMS_MAX 65536u

struct mux;
struct mux_stream;

enum mux_end {
	MUX_END_FINISHED, /* both sides have sent all */
	MUX_END_REFUSED,  /* instead of opened; `code` says why */
	MUX_END_RESET	  /* by the other end */
};

struct mux_ops {
	/* mux_output has something: call it soon, but not from here. */
	void (*ready)(void *ctx);
	/* The other end is there: streams may be opened. */
	void (*up)(void *ctx);
	/* Server: somebody wants this; mux_accept or mux_refuse answers, now or later.  `to` is
	 * NULL for a UDP association. */
	void (*open)(void *ctx, struct mux_stream *s, const struct socks_addr *to);
	/* Client. */
	void (*opened)(void *ctx, struct mux_stream *s, const struct net_addr *bound);
	/* Copies out up to `max` bytes that are to be sent.  Less than `max`: there is no more, and
	 * mux_readable says when. */
	size_t (*pull)(void *ctx, struct mux_stream *s, uint8_t *out, size_t max);
	void (*data)(void *ctx, struct mux_stream *s, struct bytes data);
	/* The other end has sent all. */
	void (*fin)(void *ctx, struct mux_stream *s);
	void (*closed)(void *ctx, struct mux_stream *s, enum mux_end how, uint8_t code);
};

struct mux_config {
	bool client;
	uint32_t streams_max; /* 1 to MUX_STREAMS_MAX */
	uint32_t window_max;  /* a window grows to this while it is emptied */
	uint64_t growth_max;  /* by which all windows together may exceed MUX_WINDOW_FIRST each */
	uint64_t patience_us; /* a silence that a PING does not end is the end; 0: never */
	uint64_t seed;
};

/* NULL when out of memory.  `ops->ready` follows at once: the HELLO is to be sent. */
struct mux *mux_new(const struct mux_config *config, const struct mux_ops *ops, void *ctx);
/* With all streams, without callbacks.  NULL is fine. */
void mux_free(struct mux *m);

/* One message of the connection.  0, or -EPROTO: close the connection; mux_fault says why. */
int mux_input(struct mux *m, const uint8_t *input, size_t len);
const char *mux_fault(const struct mux *m);
/* To be called every ALIVE_TICK_US.  0, or -ETIMEDOUT: the other end is gone; mux_fault says for
 * how long. */
int mux_tick(struct mux *m, uint64_t now_us);
/* One message into `out` (MUX_MESSAGE_BYTES); its length, or 0 when there is nothing to say. */
size_t mux_output(struct mux *m, uint8_t *out);

bool mux_is_up(const struct mux *m);
uint32_t mux_stream_count(const struct mux *m);

/* Client.  `to` NULL: a UDP association.  NULL with errno: ENOTCONN (not up), ENOSPC (the limit of
 * either end), EOVERFLOW (the connection has used up its numbers), ENOMEM. */
struct mux_stream *mux_open(struct mux *m, const struct socks_addr *to, void *user);
/* Server. */
void mux_accept(struct mux_stream *s, const struct net_addr *bound);
void mux_refuse(struct mux_stream *s, uint8_t code);

void mux_readable(struct mux_stream *s);
/* After what can be pulled there comes no more. */
void mux_finish(struct mux_stream *s);
void mux_consumed(struct mux_stream *s, size_t bytes);
void mux_reset(struct mux_stream *s, uint8_t code);

void mux_stream_set_user(struct mux_stream *s, void *user);
void *mux_stream_user(const struct mux_stream *s);
uint32_t mux_stream_number(const struct mux_stream *s);
bool mux_stream_is_udp(const struct mux_stream *s);
/* NULL: no such stream, or its owner has let go of it. */
struct mux_stream *mux_find(const struct mux *m, uint32_t number);

struct mux_counters {
	uint64_t opened, refused, resets, late, full;
	uint64_t bytes_in, bytes_out, messages_in, messages_out;
	uint64_t pings, pongs; /* asked, heard */
};
const struct mux_counters *mux_counters(const struct mux *m);
#endif
