/*
 * A socket joined to a stream: bytes both ways, each direction ended on its own.  What is to be
 * sent stays in the kernel until the mesh takes it, and goes from there into the message; what has
 * come goes to the kernel at once, and no more than the stream's window waits here when that is
 * full.
 */
#ifndef SOCKS_PIPE_H
#define SOCKS_PIPE_H

#include "socks/mux.h"

struct bufferevent;
struct event;

struct pipe {
	/* Owned; NULL once over.  It writes what the socket did not take at once, and holds what
	 * was read before the pipe was there; reading is ours. */
	struct bufferevent *bev;
	struct event *readable;
	int fd;
	struct mux_stream *stream; /* NULL once it is closed */
	bool fin, shut;		   /* the stream has ended; and the socket has been told */
	bool ended;		   /* the socket has nothing more to say */
	bool told;		   /* the stream knows that there is something to read */
	size_t before;		   /* bytes in the output that are not the stream's */
	uint64_t last_us;	   /* when bytes moved last */
	/* Both are done, or either has failed: socket and stream are gone.  May free the pipe. */
	void (*over)(struct pipe *p);
};

/* Takes both over; `eof`: the socket has ended its sending already.  0, or -ENOMEM and nothing is
 * taken. */
int pipe_start(struct pipe *p, struct bufferevent *bev, struct mux_stream *stream, bool eof,
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
