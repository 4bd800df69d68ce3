#include "socks/client.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/appsignals.h"
#include "io/clock.h"
#include "io/sockaddr.h"
#include "io/timer.h"
#include "libmeshapp/meshapp.h"
#include "socks/pipe.h"

#define SWEEP_US 500000
#define BACKLOG 1024

/* --- the uplink's streams ------------------------------------------------------------------- */

static void on_opened(void *ctx, struct mux_stream *s, const struct net_addr *bound)
{
	(void)ctx;
	local_opened(mux_stream_user(s), bound);
}

static size_t on_pull(void *ctx, struct mux_stream *s, uint8_t *out, size_t max)
{
	(void)ctx;
	return pipe_pull(local_pipe(mux_stream_user(s)), out, max);
}

static void on_data(void *ctx, struct mux_stream *s, struct bytes data)
{
	(void)ctx;
	pipe_data(local_pipe(mux_stream_user(s)), data);
}

static void on_fin(void *ctx, struct mux_stream *s)
{
	(void)ctx;
	pipe_fin(local_pipe(mux_stream_user(s)));
}

static void on_closed(void *ctx, struct mux_stream *s, enum mux_end how, uint8_t code)
{
	(void)ctx;
	local_closed(mux_stream_user(s), how, code);
}

static void on_up(void *ctx)
{
	locals_up(ctx);
}

static void on_down(void *ctx, const char *reason)
{
	(void)reason;
	locals_down(ctx);
}

static void on_record(void *ctx, struct mux_stream *stream, const struct mux_record *record)
{
	(void)ctx;
	local_record(mux_stream_user(stream), record);
}

/* --- listening ------------------------------------------------------------------------------ */

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *addr,
		      int len, void *arg)
{
	(void)listener;
	(void)addr;
	(void)len;
	local_new(arg, fd);
}

/* Out of descriptors: asking again at once would do nothing but that. */
static void on_accept_error(struct evconnlistener *listener, void *arg)
{
	struct client *c = arg;

	if (log_limit_due(&c->limits.locals, daemon_now_us()))
		log_warn("socks-client: accept: %s", strerror(errno));
	c->listeners_off = true;
	evconnlistener_disable(listener);
}

static int bind_socket(const struct net_addr *a)
{
	struct sockaddr_storage ss;
	socklen_t len = sockaddr_from_net(&ss, a);
	const int on = 1;
	int fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), error;

	if (fd < 0)
		return -errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	/* So that 0.0.0.0 and :: may both be there. */
	if (a->family == 6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
	if (bind(fd, (struct sockaddr *)&ss, len) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	error = errno;
	close(fd);
	return -error;
}

static void warn_if_open(const struct client *c, const struct net_addr *a)
{
	char text[NET_ADDR_TEXT];

	if (!net_addr_is_loopback(a) && !c->opt->wants_login)
		log_warn("socks-client: whoever reaches %s may use it: no [proxy] User is set",
			 net_addr_text(a, text));
}

static int listen_on(struct client *c, unsigned i)
{
	const struct net_addr *a = &c->opt->listen[i];
	char text[NET_ADDR_TEXT];
	int fd = bind_socket(a);

	net_addr_text(a, text);
	if (fd >= 0) {
		c->listeners[i] =
			evconnlistener_new(c->base, on_accept, c,
					   LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
		if (!c->listeners[i])
			close(fd);
	}
	if (!c->listeners[i]) {
		log_error("socks-client: cannot listen on %s: %s", text,
			  strerror(fd < 0 ? -fd : ENOMEM));
		return fd < 0 ? fd : -ENOMEM;
	}
	evconnlistener_set_error_cb(c->listeners[i], on_accept_error);
	warn_if_open(c, a);
	struct json_object *o = json_object_new_object();
	json_object_object_add(o, "state", json_object_new_string("listening"));
	json_object_object_add(o, "addr", json_object_new_string(text));
	appline_say(c->opt->json, o);
	return 0;
}

/* --- life ------------------------------------------------------------------------------------- */

static void on_state(struct meshapp *app, bool up, const char *text)
{
	struct client *c = meshapp_arg(app);

	log_info("socks-client: our node is %s%s%s", up ? "there" : "away", text[0] ? ": " : "",
		 text);
	uplink_node(c->uplink, app, up);
}

static void on_sweep(evutil_socket_t fd, short what, void *arg)
{
	struct client *c = arg;

	(void)fd;
	(void)what;
	locals_sweep(c, daemon_now_us());
	for (unsigned i = 0; c->listeners_off && i < c->opt->listen_count; i++)
		evconnlistener_enable(c->listeners[i]);
	c->listeners_off = false;
}

/* Users and times are looked at where they are; open streams stay. */
static int on_hup(void *arg)
{
	struct client *c = arg;
	int rc = socks_options_reload(c->opt);

	for (unsigned i = 0; !rc && i < c->opt->listen_count; i++)
		warn_if_open(c, &c->opt->listen[i]);
	return rc;
}

static int start(struct client *c)
{
	static const struct uplink_callbacks cb = {
		.streams = {.opened = on_opened,
			    .pull = on_pull,
			    .data = on_data,
			    .fin = on_fin,
			    .closed = on_closed},
		.up = on_up,
		.down = on_down,
		.record = on_record,
	};
	const struct timeval sweep = {.tv_usec = SWEEP_US};
	struct meshapp_options mo = {
		.node_addr = c->opt->node_addr,
		.app_id = c->app_id,
		.app_type = SOCKS_CLIENT_TYPE,
		.cb = {.on_state = on_state},
		.arg = c,
	};

	LIST_INIT(&c->locals);
	if (c->opt->app_id)
		snprintf(c->app_id, sizeof c->app_id, "%s", c->opt->app_id);
	else
		snprintf(c->app_id, sizeof c->app_id, "socks-client-%08x", randombytes_random());
	c->sweep = event_new(c->base, -1, EV_PERSIST, on_sweep, c);
	c->uplink = uplink_new(c->base, c->opt, &cb, c);
	if (!c->sweep || event_add(c->sweep, &sweep) || !c->uplink) {
		log_error("socks-client: out of memory");
		return -ENOMEM;
	}
	for (unsigned i = 0; i < c->opt->listen_count; i++) {
		int rc = listen_on(c, i);
		if (rc)
			return rc;
	}
	c->app = meshapp_open(c->base, &mo);
	if (c->app)
		return 0;
	log_error("socks-client: node %s, app %s: %s", mo.node_addr, mo.app_id, strerror(errno));
	return -errno;
}

static void stop(struct client *c)
{
	for (unsigned i = 0; i < c->opt->listen_count; i++)
		if (c->listeners[i])
			evconnlistener_free(c->listeners[i]);
	locals_down(c);
	while (!LIST_EMPTY(&c->locals))
		local_free(LIST_FIRST(&c->locals));
	uplink_free(c->uplink);
	meshapp_close(c->app);
	event_drop(c->sweep);
}

int socks_client_run(struct event_base *base, struct socks_options *opt)
{
	struct client c = {.opt = opt, .base = base};
	struct appsignals signals;
	int rc = start(&c);

	if (appsignals_init(&signals, base, opt->json, on_hup, &c))
		rc = -ENOMEM;
	if (!rc) {
		appsignals_ready(&signals);
		event_base_dispatch(base);
	}
	appsignals_free(&signals);
	stop(&c);
	return rc ? 1 : 0;
}
