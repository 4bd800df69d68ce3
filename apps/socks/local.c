/* A SOCKS5 client on its TCP connection: greeting, login, request, then a pipe or an association.
 */
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <sodium.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/clock.h"
#include "io/sockaddr.h"
#include "socks/client.h"
#include "socks/pipe.h"

#define HANDSHAKE_US 10000000u /* for all that a client says before we act */
#define CLOSING_US 2000000u    /* to read the reply */
/* The server's own limit ends a connect attempt; ours is for a server that says nothing. */
#define ANSWER_SLACK_US 5000000u
#define HANDSHAKE_BYTES 1024u /* read ahead */

enum phase { GREETING, LOGIN, REQUEST, WAITING, OPENING, FLOWING, ASSOCIATED, CLOSING };

struct local {
	LIST_ENTRY(local) link;
	struct client *client;
	enum phase phase;
	struct bufferevent *bev; /* until it is the pipe's */
	bool eof;		 /* it has ended its sending */
	struct socks5_request request;
	struct mux_stream *stream; /* OPENING and ASSOCIATED */
	struct association *association;
	struct pipe pipe;
	uint64_t deadline_us;
};

void local_free(struct local *l)
{
	if (l->stream)
		mux_reset(l->stream, SOCKS5_FAILURE);
	association_free(l->association);
	if (l->bev)
		bufferevent_free(l->bev);
	LIST_REMOVE(l, link);
	l->client->local_count--;
	free(l);
}

static void enter(struct local *l, enum phase phase, uint64_t time_us)
{
	l->phase = phase;
	l->deadline_us = daemon_now_us() + time_us;
}

/* What it says no longer matters; that it ends does. */
static void wait_for_end(struct local *l)
{
	struct evbuffer *in = bufferevent_get_input(l->bev);

	evbuffer_drain(in, evbuffer_get_length(in));
	if (!l->eof)
		bufferevent_enable(l->bev, EV_READ);
}

/* Closing at once, with input unread, could reset the connection before the reply is read. */
static void close_after_reply(struct local *l)
{
	enter(l, CLOSING, CLOSING_US);
	wait_for_end(l);
}

static void reply(struct local *l, uint8_t code, const struct net_addr *bound)
{
	uint8_t out[SOCKS5_REPLY_BYTES_MAX];
	size_t len = socks5_write_reply(out, code, bound);
	char text[SOCKS_ADDR_TEXT];

	bufferevent_write(l->bev, out, len);
	if (code == SOCKS5_OK)
		return;
	log_debug("socks-client: %s: %s", socks_addr_text(&l->request.to, text),
		  socks5_code_text(code));
	close_after_reply(l);
}

/* --- the stream ------------------------------------------------------------------------------- */

static void ask(struct local *l)
{
	struct client *c = l->client;
	struct mux *m = uplink_mux(c->uplink);
	bool udp = l->request.command == SOCKS5_ASSOCIATE;

	l->phase = WAITING;
	if (!m)
		return;
	l->stream = mux_open(m, udp ? NULL : &l->request.to, l);
	if (l->stream) {
		l->phase = OPENING;
	} else if (errno == EOVERFLOW) {
		/* It waits for the new connection. */
		uplink_renew(c->uplink, "the connection has used up its stream numbers");
	} else {
		if (log_limit_due(&c->limits.streams, daemon_now_us()))
			log_warn("socks-client: %u streams: no more (%s; %llu so far)",
				 mux_stream_count(m), strerror(errno),
				 (unsigned long long)c->limits.streams.count);
		reply(l, SOCKS5_FAILURE, NULL);
	}
}

static void pipe_over(struct pipe *p)
{
	local_free((struct local *)((char *)p - offsetof(struct local, pipe)));
}

static void start_pipe(struct local *l, const struct net_addr *bound)
{
	struct bufferevent *bev = l->bev;
	struct mux_stream *stream = l->stream;

	reply(l, SOCKS5_OK, bound);
	l->phase = FLOWING;
	l->bev = NULL;
	l->stream = NULL;
	if (pipe_start(&l->pipe, bev, stream, l->eof, pipe_over)) {
		l->bev = bev;
		l->stream = stream;
		local_free(l);
	}
}

static bool name_of(const struct local *l, int (*get)(int, struct sockaddr *, socklen_t *),
		    struct net_addr *out)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;

	if (get(bufferevent_getfd(l->bev), (struct sockaddr *)&ss, &len))
		return false;
	sockaddr_to_net(out, (struct sockaddr *)&ss);
	return out->family != 0;
}

static void start_association(struct local *l)
{
	const struct net_addr *said = &l->request.to.ip;
	struct net_addr own, peer, bound;

	if (name_of(l, getsockname, &own) && name_of(l, getpeername, &peer)) {
		/* Most say 0.0.0.0:0.  An address that is not theirs tells nothing. */
		peer.port = net_addr_same_ip(said, &peer) ? said->port : 0;
		l->association =
			association_new(l->client, &own, &peer, mux_stream_number(l->stream));
	}
	if (!l->association) {
		mux_reset(l->stream, SOCKS5_FAILURE);
		l->stream = NULL;
		reply(l, SOCKS5_FAILURE, NULL);
		return;
	}
	bound = association_address(l->association);
	reply(l, SOCKS5_OK, &bound);
	l->phase = ASSOCIATED;
	if (l->eof)
		local_free(l);
	else
		wait_for_end(l);
}

void local_opened(struct local *l, const struct net_addr *bound)
{
	if (l->request.command == SOCKS5_ASSOCIATE)
		start_association(l);
	else
		start_pipe(l, bound);
}

struct pipe *local_pipe(struct local *l)
{
	return &l->pipe;
}

void local_closed(struct local *l, enum mux_end how, uint8_t code)
{
	l->stream = NULL;
	if (l->phase == FLOWING)
		pipe_closed(&l->pipe, how);
	else if (l->phase == OPENING)
		reply(l, code <= SOCKS5_BAD_ADDRESS ? code : SOCKS5_FAILURE, NULL);
	else
		local_free(l);
}

void local_record(struct local *l, const struct mux_record *record)
{
	if (l->association)
		association_record(l->association, record);
}

/* --- what the client says --------------------------------------------------------------------- */

static void not_socks(struct local *l)
{
	struct client *c = l->client;

	if (log_limit_due(&c->limits.protocol, daemon_now_us()))
		log_info("socks-client: a connection that does not speak SOCKS5 is closed (%llu so "
			 "far)",
			 (unsigned long long)c->limits.protocol.count);
	/* An answer to what came before the nonsense may be on its way. */
	if (evbuffer_get_length(bufferevent_get_output(l->bev)) > 0)
		close_after_reply(l);
	else
		local_free(l);
}

static int greeting(struct local *l, const uint8_t *data, size_t len)
{
	enum socks5_method wanted = l->client->opt->wants_login ? SOCKS5_PASSWORD : SOCKS5_NO_LOGIN;
	enum socks5_method method;
	int rc = socks5_read_greeting(data, len, wanted, &method);

	if (rc <= 0)
		return rc;
	bufferevent_write(l->bev, (uint8_t[]){5, (uint8_t)method}, 2);
	if (method == SOCKS5_NO_METHOD)
		close_after_reply(l);
	else
		l->phase = method == SOCKS5_PASSWORD ? LOGIN : REQUEST;
	return rc;
}

static int login(struct local *l, const uint8_t *data, size_t len)
{
	struct client *c = l->client;
	struct socks5_login got;
	int rc = socks5_read_login(data, len, &got);
	bool good;

	if (rc <= 0)
		return rc;
	good = sodium_memcmp(&got, &c->opt->login, sizeof got) == 0;
	sodium_memzero(&got, sizeof got);
	bufferevent_write(l->bev, (uint8_t[]){1, good ? 0 : 1}, 2);
	l->phase = REQUEST;
	if (good)
		return rc;
	if (log_limit_due(&c->limits.logins, daemon_now_us()))
		log_warn("socks-client: a wrong user or password (%llu so far)",
			 (unsigned long long)c->limits.logins.count);
	close_after_reply(l);
	return rc;
}

static int request(struct local *l, const uint8_t *data, size_t len)
{
	int rc = socks5_read_request(data, len, &l->request);

	if (rc == -EAFNOSUPPORT) {
		reply(l, SOCKS5_BAD_ADDRESS, NULL);
		return (int)len;
	}
	if (rc <= 0)
		return rc;
	enter(l, WAITING, l->client->opt->connect_us + ANSWER_SLACK_US);
	return rc;
}

/* -errno: this is not SOCKS5. */
static int handshake(struct local *l)
{
	struct evbuffer *in = bufferevent_get_input(l->bev);
	uint8_t data[SOCKS5_MESSAGE_MAX];
	int rc = 1;

	while (rc > 0 && l->phase < WAITING) {
		ev_ssize_t len = evbuffer_copyout(in, data, sizeof data);
		if (len <= 0)
			return 0;
		rc = l->phase == GREETING ? greeting(l, data, (size_t)len)
		     : l->phase == LOGIN  ? login(l, data, (size_t)len)
					  : request(l, data, (size_t)len);
		if (rc > 0)
			evbuffer_drain(in, (size_t)rc);
	}
	return rc < 0 ? rc : 0;
}

static void on_read(struct bufferevent *bev, void *arg)
{
	struct local *l = arg;
	struct evbuffer *in = bufferevent_get_input(bev);

	if (l->phase == ASSOCIATED || l->phase == CLOSING) {
		evbuffer_drain(in, evbuffer_get_length(in));
		return;
	}
	/* What comes before its time waits in the kernel, or libevent would call back for ever. */
	if (l->phase == WAITING || l->phase == OPENING) {
		bufferevent_disable(bev, EV_READ);
		return;
	}
	if (handshake(l)) {
		not_socks(l);
		return;
	}
	if (l->phase != WAITING)
		return;
	if (l->request.command == SOCKS5_CONNECT || l->request.command == SOCKS5_ASSOCIATE)
		ask(l);
	else
		reply(l, SOCKS5_BAD_COMMAND, NULL);
}

static void on_write(struct bufferevent *bev, void *arg)
{
	struct local *l = arg;

	if (l->phase == CLOSING && l->eof)
		local_free(l);
	else if (l->phase == CLOSING)
		shutdown(bufferevent_getfd(bev), SHUT_WR);
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
	struct local *l = arg;

	(void)bev;
	/* Who has only ended its sending may still want the answer. */
	if ((what & BEV_EVENT_EOF) && (l->phase == WAITING || l->phase == OPENING))
		l->eof = true;
	else if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
		local_free(l);
}

/* --- life ------------------------------------------------------------------------------------- */

void local_new(struct client *c, evutil_socket_t fd)
{
	const int on = 1;
	struct local *l = NULL;

	if (c->local_count < c->opt->streams_max)
		l = calloc(1, sizeof *l);
	else if (log_limit_due(&c->limits.locals, daemon_now_us()))
		log_warn("socks-client: %u connections: no more ([proxy] MaxStreams; %llu so far)",
			 c->local_count, (unsigned long long)c->limits.locals.count);
	if (l)
		l->bev = bufferevent_socket_new(c->base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (!l || !l->bev) {
		free(l);
		close(fd);
		return;
	}
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	l->client = c;
	enter(l, GREETING, HANDSHAKE_US);
	LIST_INSERT_HEAD(&c->locals, l, link);
	c->local_count++;
	bufferevent_setcb(l->bev, on_read, on_write, on_event, l);
	bufferevent_setwatermark(l->bev, EV_READ, 0, HANDSHAKE_BYTES);
	bufferevent_enable(l->bev, EV_READ | EV_WRITE);
}

static void expire(struct local *l)
{
	if (l->phase == WAITING) {
		reply(l, SOCKS5_NETWORK_UNREACHABLE, NULL);
	} else if (l->phase == OPENING) {
		mux_reset(l->stream, SOCKS5_FAILURE);
		l->stream = NULL;
		reply(l, SOCKS5_HOST_UNREACHABLE, NULL);
	} else {
		local_free(l);
	}
}

void locals_sweep(struct client *c, uint64_t now)
{
	struct local *l, *next;

	for (l = LIST_FIRST(&c->locals); l; l = next) {
		uint64_t idle = c->opt->idle_us;
		next = LIST_NEXT(l, link);
		if (l->phase == FLOWING && now >= l->pipe.last_us + idle) {
			pipe_abort(&l->pipe, false);
			local_free(l);
		} else if (l->phase == ASSOCIATED &&
			   now >= association_last_us(l->association) + idle) {
			local_free(l);
		} else if (l->phase != FLOWING && l->phase != ASSOCIATED && now >= l->deadline_us) {
			expire(l);
		}
	}
}

void locals_up(struct client *c)
{
	struct local *l, *next;

	for (l = LIST_FIRST(&c->locals); l; l = next) {
		next = LIST_NEXT(l, link);
		if (l->phase == WAITING)
			ask(l);
	}
}

void locals_down(struct client *c)
{
	struct local *l, *next;

	for (l = LIST_FIRST(&c->locals); l; l = next) {
		next = LIST_NEXT(l, link);
		l->stream = NULL;
		if (l->phase == OPENING) {
			/* Nothing has been said on it: the next server may have it. */
			l->phase = WAITING;
		} else if (l->phase == FLOWING) {
			pipe_abort(&l->pipe, true);
			local_free(l);
		} else if (l->phase == ASSOCIATED) {
			local_free(l);
		}
	}
}
