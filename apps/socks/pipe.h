/*
 * A socket joined to a stream: bytes both ways, each direction ended on its own, no more held than
 * the read-ahead one way and the stream's window the other.
 */
#ifndef SOCKS_PIPE_H
#define SOCKS_PIPE_H

#include "socks/mux.h"

struct bufferevent;

struct pipe {
	struct bufferevent *bev;   /* owned; NULL once over */
	struct mux_stream *stream; /* NULL once it is closed */
	bool fin, shut;		   /* the stream has ended; and the socket has been told */
	bool paused;		   /* the socket is not read: enough is waiting for the mesh */
	size_t before;		   /* bytes in the output that are not the stream's */
	uint64_t last_us;	   /* when bytes moved last */
	/* Both are done, or either has failed: socket and stream are gone.  May free the pipe. */
	void (*over)(struct pipe *p);
};

/* Takes both over; `eof`: the socket has ended its sending already. */
void pipe_start(struct pipe *p, struct bufferevent *bev, struct mux_stream *stream, bool eof,
		void (*over)(struct pipe *p));
/* Ends both at once, without `over`: the socket's other end sees a reset.  `lost`: the stream is
 * gone with its connection. */
void pipe_abort(struct pipe *p, bool lost);

/* What mux_ops tell of the stream. */
size_t pipe_pull(struct pipe *p, uint8_t *out, size_t max);
void pipe_data(struct pipe *p, struct bytes data);
void pipe_fin(struct pipe *p);
void pipe_closed(struct pipe *p, enum mux_end how);
#endif
