/*
 * What chan.c, chan_io.c, chan_input.c, chan_listener.c and chan_client.c share; nobody else
 * includes it.
 *
 * Lifetime: a channel belongs to the group (listener or client) that made it until chan_detach.
 * Whoever calls out of it, or runs in one of its events, holds a reference (chan_hold, chan_put);
 * a detached channel is freed with the last one, so a callback may close it, or free the group, and
 * return into code that then touches nothing but the channel itself.
 */
#ifndef IO_CHAN_INT_H
#define IO_CHAN_INT_H

#include <event2/bufferevent.h>
#include <event2/event.h>
#include <sys/queue.h>

#include "base/log.h"
#include "core/channel.h"
#include "core/pkt.h"
#include "io/chan.h"

#define CHAN_TEXT_BYTES 128
#define CHAN_FDS_MAX 4u
#define CHAN_REASON_BYTES 160
/* Sequences of our own pings, so that their acks are told from the owner's. */
#define CHAN_PING_SEQ_BIT 0x80000000u

enum chan_phase {
	CHAN_CONNECTING, /* client: no socket connection yet */
	CHAN_SHAKING,	 /* Noise, or a plain channel that has not told its owner yet */
	CHAN_HELLO,
	CHAN_READY,
	CHAN_FINISHING, /* writing what is left; the owner has let go */
	CHAN_DEAD,	/* detached, waiting for its last reference */
};

TAILQ_HEAD(chan_list, chan);

struct chan_group {
	struct event_base *base;
	struct chan_options opt; /* defaults filled in; pointers into this struct */
	char name[32];
	struct noise_keypair key;
	struct mesh_id expected;
	struct chan_list unready, ready;
	unsigned unready_count, ready_count;
	struct block *scratch; /* what is being read; made with the first read */
	struct chan_counters counters;
	struct log_limit limit_refused, limit_failed, limit_protocol;
	/* The channel no longer belongs to its owner; NULL while the group is being freed. */
	void (*on_gone)(struct chan_group *g, struct chan *ch);
	/* It became ready. */
	void (*on_ready)(struct chan_group *g, struct chan *ch);
};

struct chan {
	TAILQ_ENTRY(chan) link; /* in unready or ready of the group */
	struct chan_group *group;
	struct bufferevent *bev; /* makes the connection, owns the descriptor */
	evutil_socket_t fd;	 /* with its events: from chan_begin on */
	struct event *rd, *wr;
	struct evbuffer *out;
	struct block *in; /* the first in_len bytes: of frames not handled yet */
	size_t in_len;
	size_t need; /* bytes of the whole frame that `in` begins with, as far as known */
	int fds_out[CHAN_FDS_MAX], fds_in[CHAN_FDS_MAX]; /* copies to send; come and not taken */
	unsigned fds_out_count, fds_in_count;
	struct event *later; /* work that must not happen within the caller's stack */
	struct event *tick;  /* deadline before READY, liveness after */
	struct channel noise;
	bool encrypted, initiator, paused, above_low_water;
	bool blocked; /* the socket takes nothing now; `wr` waits for it */
	enum chan_phase phase;
	unsigned holds;
	uint16_t doom_code; /* with doom_reason: end it from the event loop */
	const char *doom_reason;
	uint64_t heard_us, tick_due_us;
	unsigned unacked_ticks; /* while paused: in a row, without a word of the peer's kernel */
	uint32_t next_seq, ping_seq;
	struct net_addr remote;
	struct mesh_id peer;
	void *arg;
	char text[CHAN_TEXT_BYTES];
};

/* Copies options and fills in defaults. */
void chan_group_init(struct chan_group *g, struct event_base *base, const struct chan_options *opt);
/* Ends every channel without callbacks and wipes the key. */
void chan_group_clear(struct chan_group *g);
/* A channel on `bev`, which it consumes (also on failure).  NULL when out of memory. */
struct chan *chan_new(struct chan_group *g, struct bufferevent *bev, bool initiator,
		      bool encrypted);
/* The socket is connected: begin the handshake (or report a plain channel up, from the loop). */
void chan_begin(struct chan *ch);
/* Ends it and tells the owner if it had been up. */
void chan_end(struct chan *ch, uint16_t code, const char *reason);
bool chan_is_up(const struct chan *ch);
/* The peer broke the protocol, or the handshake: counted, logged (limited), ended. */
void chan_protocol_error(struct chan *ch, const char *what);
void chan_handshake_error(struct chan *ch, const char *what);
/* chan_input.c: the next handshake frame, if it is our turn (0 or -errno); tell the owner that it
 * is up; deliver what has arrived. */
int chan_send_handshake(struct chan *ch);
void chan_come_up(struct chan *ch);
/* Handles the whole frames in `data` as long as somebody reads; the bytes used. */
size_t chan_handle(struct chan *ch, uint8_t *data, size_t len);
/* chan_io.c */
int chan_io_open(struct chan *ch);
void chan_io_stop(struct chan *ch);
void chan_io_free(struct chan *ch);
void chan_set_reading(struct chan *ch, bool on);
/* Handles what has been read before. */
void chan_process_input(struct chan *ch);
/* After each addition to `out`. */
void chan_output_added(struct chan *ch);
/* Writes a frame, whose last bytes lie elsewhere, without a copy of those that the socket takes at
 * once.  0; -EAGAIN: others wait before it; -ENOMEM: the channel is broken. */
int chan_write_frame(struct chan *ch, struct bytes head, struct bytes tail);
/* chan.c: the socket has ended. */
void chan_lost(struct chan *ch, uint16_t code, const char *text);
/* chan.c: some of `out` has been written, from the loop. */
void chan_written(struct chan *ch);
void chan_hold(struct chan *ch);
void chan_put(struct chan *ch);
/* Is this address one where no encryption is needed? */
bool chan_is_local(const struct net_addr *a);
#endif
