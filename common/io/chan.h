/*
 * Message channels on libevent: framed messages over TCP or a Unix socket, in the clear or inside
 * core/channel.h (Noise_XX).  A listener accepts, a client connects and reconnects; both hand out
 * `struct chan`.
 *
 * Life of a channel: on_up (connected, and authenticated where there is a key) -> on_msg ... ->
 * on_down, after which the pointer is gone.  on_down is called exactly once for a channel that was
 * up, unless its owner ended it himself (chan_close, chan_finish, *_free): then not at all.
 * Attempts that never came up are counted and logged here.  Every function may be called from every
 * callback, closing the channel and freeing its listener or client included.
 *
 * State: after on_up both ends are in HELLO, where only the messages that the catalogue marks HELLO
 * are accepted.  The owner calls chan_ready when registration is through (from within on_msg, so
 * that the next message in the buffer already finds READY); a channel that is not ready within the
 * handshake timeout is closed.  A message that msg_allowed forbids to the peer's role, or that does
 * not decode, closes the channel (CODE_PROTOCOL).
 *
 * Liveness is built in for READY channels: a Ping when nothing arrived for a while, death after
 * silence.  Ping and its CommonAck never reach on_msg.  Sequences with the top bit set belong to
 * it: take yours from chan_next_seq (or keep them below 2^31).
 *
 * The first listener or client makes the process ignore SIGPIPE, unless it has a handler.
 */
#ifndef IO_CHAN_H
#define IO_CHAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/id.h"
#include "core/noise.h"
#include "wire/msg.h"

struct event_base;
struct chan;
struct chan_listener;
struct chan_client;

#define CHAN_PING_INTERVAL_US 3000000u
#define CHAN_SILENCE_MAX_US 9000000u /* two pings unanswered; noticed at once when it is over */
#define CHAN_BACKOFF_MIN_US 200000u
#define CHAN_BACKOFF_MAX_US 5000000u
/* on_drain comes when pending output has been above this and falls below. */
#define CHAN_LOW_WATER_BYTES (256u << 10)

struct chan_callbacks {
	/* `peer`: the authenticated key of the other end; NULL on a plain channel. */
	void (*on_up)(struct chan *ch, const struct mesh_id *peer);
	/* The message and its views are valid until the callback returns. */
	void (*on_msg)(struct chan *ch, const struct msg *m);
	/* `code`: enum msg_code; `reason` is text for people. */
	void (*on_down)(struct chan *ch, uint16_t code, const char *reason);
	void (*on_drain)(struct chan *ch); /* may be NULL, as any of them */
};

/* Zero in a number means its default. */
struct chan_options {
	const char *name; /* for logs: "node", "app", "manager"; copied */
	const struct noise_keypair
		*key;		 /* NULL: plain (only on loopback and Unix sockets); copied */
	bool plain_local;	 /* with a key: loopback and Unix sockets are plain all the same */
	unsigned peer_role;	 /* the FROM_ bit of the other end */
	size_t max_body_bytes;	 /* of one message; FRAME_CONTROL_MAX_BYTES */
	size_t output_max_bytes; /* CHANNEL_OUTPUT_MAX_BYTES */
	uint64_t handshake_timeout_us; /* until chan_ready; CHANNEL_HANDSHAKE_TIMEOUT_US */
	uint64_t ping_interval_us, silence_max_us;
	struct chan_callbacks cb;
	void *arg; /* first value of chan_arg for each channel */
	/* Called with `arg` before bytes go out: what they rest on can be made durable.  It must
	 * not use channels.  May be NULL. */
	void (*before_write)(void *arg);
	/* A loopback TCP port has an abstract Unix socket beside it, which is faster and carries
	 * descriptors: a listener makes it (if it can), a client tries it first. */
	bool local_twin;
	/* Listeners only. */
	bool take_fds;		      /* descriptors may come with messages (Unix sockets) */
	unsigned max_channels;	      /* 1024; more are closed as they arrive */
	unsigned max_unauthenticated; /* not yet ready; 64; one more ends the oldest of them */
	unsigned unix_mode;	      /* of a Unix socket; 0660 */
	/* Clients only. */
	uint32_t mark;			/* SO_MARK of TCP connections, where we may; 0: none */
	const struct mesh_id *expected; /* the peer's key, copied; NULL: `pin` decides, or any */
	/* Asked before our own identity is shown.  False refuses (log why yourself). */
	bool (*pin)(void *arg, const struct mesh_id *peer);
};

struct chan_counters {
	uint64_t accepted, refused, handshake_failed, timeouts, protocol_errors;
};

/* `addresses`: "host:port,[v6]:port,unix:/path" (numeric; "/path" is a Unix socket too; port 0:
 * any). All or nothing.  0; -EINVAL for text that is no address; -EPERM for a plain channel on an
 * address that is not loopback; else what bind said (-EADDRINUSE ...).  The failure is logged. */
int chan_listen(struct chan_listener **out, struct event_base *base, const char *addresses,
		const struct chan_options *opt);
/* Closes its channels too, without on_down.  NULL is fine. */
void chan_listener_free(struct chan_listener *l);
/* Bound port of the first TCP address; 0 when there is none. */
uint16_t chan_listener_port(const struct chan_listener *l);
struct metrics;
/* meshnet_channels and meshnet_channel_events_total. */
void chan_listener_metrics(const struct chan_listener *l, struct metrics *m);
const struct chan_counters *chan_listener_counters(const struct chan_listener *l);

/* Connects now and, whenever the channel ends, again after 200 ms doubling to 5 s, with jitter;
 * chan_ready resets that.  `address`: "host:port" (a name is resolved without blocking, all
 * its addresses are tried in turn, and it is resolved anew before they are tried again),
 * "unix:/path" or "/path".  0; -EINVAL; -EPERM (plain, and not local); -ENOMEM. */
int chan_client_new(struct chan_client **out, struct event_base *base, const char *address,
		    const struct chan_options *opt);
/* Closes its channel too, without on_down.  NULL is fine. */
void chan_client_free(struct chan_client *c);
/* The channel while it is up (between on_up and on_down), else NULL. */
struct chan *chan_client_chan(const struct chan_client *c);
const struct chan_counters *chan_client_counters(const struct chan_client *c);

/* 0; -ENOTCONN when not up or ending; -EINVAL for a message over its own limits (our bug, logged);
 * -EMSGSIZE over max_body_bytes; -ENOMEM; -ENOBUFS when the peer does not read and output_max_bytes
 * are waiting: then the channel is ended from the event loop (on_down, CODE_BUSY), because a
 * control channel with a hole is worth nothing.  Whoever can wait looks at chan_output_pending
 * first. */
int chan_send(struct chan *ch, const struct msg *m);
/* The same with a descriptor, of which a copy is sent.  -EOPNOTSUPP: not a Unix socket; -ENOBUFS:
 * too many under way. */
int chan_send_fd(struct chan *ch, const struct msg *m, int fd);
/* The oldest descriptor that has come and was not taken, in the order of their messages: it is the
 * caller's to close.  -1: there is none. */
int chan_take_fd(struct chan *ch);
/* The reply to a request: CommonAck with its sequence. */
int chan_send_ack(struct chan *ch, uint32_t seq, uint16_t code, uint64_t value, const char *text);
size_t chan_output_pending(const struct chan *ch);
/* 1 .. 2^31 - 1, never 0. */
uint32_t chan_next_seq(struct chan *ch);
void chan_ready(struct chan *ch);
bool chan_is_ready(const struct chan *ch);

/* Stops delivering messages, and soon reading; liveness goes on (we keep sending pings, and do not
 * expect to hear anything).  Resuming delivers from the event loop, not from within the call. */
void chan_pause_input(struct chan *ch);
void chan_resume_input(struct chan *ch);

/* Ends it now; what waits to be sent is dropped.  No on_down.  `reason` is logged at debug level.
 */
void chan_close(struct chan *ch, const char *reason);
/* Ends it from the event loop, with on_down, for callers that must not see that within their own
 * call.  `reason` must stay. */
void chan_fail(struct chan *ch, uint16_t code, const char *reason);
/* Ends it when what waits has been written, or after 2 s.  No further callbacks. */
void chan_finish(struct chan *ch, const char *reason);

void chan_set_arg(struct chan *ch, void *arg);
void *chan_arg(const struct chan *ch);
/* The argument given in the options, whatever chan_set_arg did. */
void *chan_owner(const struct chan *ch);
/* NULL on a plain channel. */
const struct mesh_id *chan_peer(const struct chan *ch);
/* Family 0 for a Unix socket. */
const struct net_addr *chan_remote(const struct chan *ch);
/* "node 192.0.2.1:4711" for logs. */
const char *chan_text(const struct chan *ch);
#endif
