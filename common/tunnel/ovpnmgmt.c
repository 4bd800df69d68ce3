#include "tunnel/ovpnmgmt.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"

/* ---- lines ---- */

/* Digits up to `end`; *at is behind it afterwards.  False: something else is there. */
static bool number(char **at, char end, uint64_t *out)
{
	uint64_t v = 0;
	char *p = *at;

	if (*p < '0' || *p > '9')
		return false;
	for (; *p >= '0' && *p <= '9'; p++) {
		if (v > (UINT64_MAX - 9) / 10)
			return false;
		v = v * 10 + (uint64_t)(*p - '0');
	}
	if (*p != end)
		return false;
	*at = end ? p + 1 : p;
	*out = v;
	return true;
}

static bool skip(char **at, const char *prefix)
{
	size_t len = strlen(prefix);

	if (strncmp(*at, prefix, len) != 0)
		return false;
	*at += len;
	return true;
}

/* KEY=VALUE, or END. */
static void parse_env(char *at, struct ovpn_event *e)
{
	char *equals = strchr(at, '=');

	if (strcmp(at, "END") == 0) {
		e->kind = OVPN_ENV_END;
		return;
	}
	if (!equals)
		return;
	*equals = '\0';
	*e = (struct ovpn_event){.kind = OVPN_ENV, .key = at, .value = equals + 1};
}

static void parse_client(char *at, struct ovpn_event *e)
{
	if (skip(&at, "ENV,"))
		parse_env(at, e);
	else if (skip(&at, "CONNECT,"))
		e->kind = number(&at, ',', &e->cid) && number(&at, '\0', &e->kid) ? OVPN_CONNECT
										  : OVPN_OTHER;
	else if (skip(&at, "REAUTH,"))
		e->kind = number(&at, ',', &e->cid) && number(&at, '\0', &e->kid) ? OVPN_REAUTH
										  : OVPN_OTHER;
	else if (skip(&at, "ESTABLISHED,"))
		e->kind = number(&at, '\0', &e->cid) ? OVPN_ESTABLISHED : OVPN_OTHER;
	else if (skip(&at, "DISCONNECT,"))
		e->kind = number(&at, '\0', &e->cid) ? OVPN_DISCONNECT : OVPN_OTHER;
}

/* TIME,NAME,WHY,... */
static void parse_state(char *at, struct ovpn_event *e)
{
	uint64_t time;
	char *comma;

	if (!number(&at, ',', &time))
		return;
	e->kind = OVPN_STATE;
	e->key = at;
	comma = strchr(at, ',');
	if (!comma)
		return;
	*comma = '\0';
	e->value = comma + 1;
	comma = strchr(comma + 1, ',');
	if (comma)
		*comma = '\0';
}

void ovpn_event_parse(char *line, struct ovpn_event *e)
{
	char *at = line;

	*e = (struct ovpn_event){.kind = OVPN_OTHER, .key = "", .value = ""};
	if (skip(&at, ">CLIENT:")) {
		parse_client(at, e);
	} else if (skip(&at, ">BYTECOUNT_CLI:")) {
		if (number(&at, ',', &e->cid) && number(&at, ',', &e->in) &&
		    number(&at, '\0', &e->out))
			e->kind = OVPN_CLIENT_BYTES;
	} else if (skip(&at, ">BYTECOUNT:")) {
		if (number(&at, ',', &e->in) && number(&at, '\0', &e->out))
			e->kind = OVPN_BYTES;
	} else if (skip(&at, ">STATE:")) {
		parse_state(at, e);
	} else if (skip(&at, ">FATAL:")) {
		e->kind = OVPN_FATAL;
		e->value = at;
	} else if (skip(&at, ">PASSWORD:")) {
		e->kind = OVPN_PASSWORD;
		e->value = at;
	}
}

/* ---- the channel ---- */

struct ovpnmgmt {
	struct event_base *base;
	struct evconnlistener *listener;
	struct bufferevent *bev; /* NULL: no process */
	struct ovpnmgmt_callbacks cb;
	void *arg;
	struct sockaddr_un sun;
};

static void channel_close(struct ovpnmgmt *m)
{
	struct bufferevent *bev = m->bev;

	m->bev = NULL;
	if (bev)
		bufferevent_free(bev);
}

static void channel_lost(struct ovpnmgmt *m)
{
	channel_close(m);
	m->cb.down(m->arg);
}

static void on_read(struct bufferevent *bev, void *arg)
{
	struct ovpnmgmt *m = arg;
	struct evbuffer *in = bufferevent_get_input(bev);
	char *line;

	while (m->bev && (line = evbuffer_readln(in, NULL, EVBUFFER_EOL_CRLF))) {
		m->cb.line(line, m->arg);
		free(line);
	}
	if (m->bev && evbuffer_get_length(in) > OVPNMGMT_LINE_MAX) {
		log_warn("openvpn: a line of its management channel is too long");
		channel_lost(m);
	}
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
	(void)bev;
	if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
		channel_lost(arg);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *sa,
		      int len, void *arg)
{
	struct ovpnmgmt *m = arg;

	(void)listener, (void)sa, (void)len;
	if (m->bev) {
		evutil_closesocket(fd);
		return;
	}
	m->bev = bufferevent_socket_new(m->base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (!m->bev) {
		evutil_closesocket(fd);
		return;
	}
	bufferevent_setcb(m->bev, on_read, NULL, on_event, m);
	bufferevent_enable(m->bev, EV_READ | EV_WRITE);
	m->cb.up(m->arg);
}

int ovpnmgmt_listen(struct ovpnmgmt **out, struct event_base *base, const char *path,
		    const struct ovpnmgmt_callbacks *cb, void *arg)
{
	struct ovpnmgmt *m;
	size_t len = strlen(path);

	if (len >= sizeof m->sun.sun_path)
		return -ENAMETOOLONG;
	m = calloc(1, sizeof *m);
	if (!m)
		return -ENOMEM;
	m->base = base;
	m->cb = *cb;
	m->arg = arg;
	m->sun.sun_family = AF_UNIX;
	memcpy(m->sun.sun_path, path, len + 1);
	unlink(path);
	m->listener = evconnlistener_new_bind(
		base, on_accept, m, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 1,
		(struct sockaddr *)&m->sun,
		(int)(offsetof(struct sockaddr_un, sun_path) + len + 1));
	if (!m->listener) {
		int rc = -errno;

		free(m);
		return rc ? rc : -EIO;
	}
	chmod(path, 0600);
	*out = m;
	return 0;
}

void ovpnmgmt_free(struct ovpnmgmt *m)
{
	if (!m)
		return;
	channel_close(m);
	evconnlistener_free(m->listener);
	unlink(m->sun.sun_path);
	free(m);
}

void ovpnmgmt_send(struct ovpnmgmt *m, const char *format, ...)
{
	struct evbuffer *out;
	va_list args;

	if (!m->bev)
		return;
	out = bufferevent_get_output(m->bev);
	/* A process that reads nothing is of no use: its end makes a new one. */
	if (evbuffer_get_length(out) > OVPNMGMT_BACKLOG_MAX) {
		shutdown(bufferevent_getfd(m->bev), SHUT_RDWR);
		return;
	}
	va_start(args, format);
	evbuffer_add_vprintf(out, format, args);
	va_end(args);
}
