#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/log.h"
#include "echo/echo.h"
#include "io/timer.h"
#include "libmeshapp/meshapp.h"

struct waiting {
	TAILQ_ENTRY(waiting) link;
	size_t len;
	uint8_t data[];
};

/* What could not be sent back yet.  Bounded: its bytes are not consumed until they are sent, so the
 * sender runs out of credit. */
struct client {
	TAILQ_ENTRY(client) link;
	struct client_list *list;
	TAILQ_HEAD(waiting_list, waiting) queue;
};
TAILQ_HEAD(client_list, client);

static void drop_client(struct client *cl)
{
	struct waiting *w;
	TAILQ_REMOVE(cl->list, cl, link);
	while ((w = TAILQ_FIRST(&cl->queue))) {
		TAILQ_REMOVE(&cl->queue, w, link);
		free(w);
	}
	free(cl);
}

static void give_up(struct meshconn *conn, uint16_t code, const char *reason)
{
	drop_client(meshconn_arg(conn));
	meshconn_close(conn, code, reason);
}

static bool enqueue(struct client *cl, const uint8_t *data, size_t len)
{
	struct waiting *w = malloc(sizeof *w + len);
	if (!w)
		return false;
	w->len = len;
	memcpy(w->data, data, len);
	TAILQ_INSERT_TAIL(&cl->queue, w, link);
	return true;
}

static void consume(struct meshconn *conn, const uint8_t *data, size_t len)
{
	struct client *cl = meshconn_arg(conn);
	bool datagram = meshconn_class(conn) == CLASS_DATAGRAM;
	int err = TAILQ_EMPTY(&cl->queue) ? meshconn_send(conn, data, len) : -EAGAIN;

	if (err == -EAGAIN && !datagram) {
		if (!enqueue(cl, data, len))
			give_up(conn, CODE_BUSY, "out of memory");
		return;
	}
	meshconn_consume(conn, len);
}

static void on_writable(struct meshconn *conn)
{
	struct client *cl = meshconn_arg(conn);
	struct waiting *w;

	while ((w = TAILQ_FIRST(&cl->queue)) && meshconn_send(conn, w->data, w->len) == 0) {
		meshconn_consume(conn, w->len);
		TAILQ_REMOVE(&cl->queue, w, link);
		free(w);
	}
}

static void on_closed(struct meshconn *conn, uint16_t code, const char *reason)
{
	log_debug("connection of %s ended: %s (%s)", meshconn_peer_app(conn), msg_code_name(code),
		  reason);
	drop_client(meshconn_arg(conn));
}

static bool on_incoming(struct meshapp *app, struct meshconn *conn)
{
	static const struct meshconn_callbacks cb = {
		.consume = consume, .on_writable = on_writable, .on_closed = on_closed};
	struct client *cl = calloc(1, sizeof *cl);
	if (!cl)
		return false;
	cl->list = meshapp_arg(app);
	TAILQ_INSERT_TAIL(cl->list, cl, link);
	TAILQ_INIT(&cl->queue);
	meshconn_set_callbacks(conn, &cb, cl);
	meshconn_set_manual_credit(conn, true);
	return true;
}

static void on_state(struct meshapp *app, bool up, const char *text)
{
	char id[MESH_ID_SHORT];
	if (up)
		log_info("registered at node %s %s", mesh_id_short(meshapp_node(app), id), text);
	else
		log_info("not registered: %s", text);
}

static void on_signal(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	event_base_loopbreak(arg);
}

int echo_server_run(struct event_base *base, const struct echo_options *opt)
{
	struct client_list clients = TAILQ_HEAD_INITIALIZER(clients);
	struct client *cl;
	struct meshapp_options mo = {
		.node_addr = opt->node_addr,
		.app_id = opt->app_id ? opt->app_id : "echo",
		.app_type = ECHO_APP_TYPE,
		.cb = {on_state, on_incoming},
		.arg = &clients,
	};
	struct event *term = evsignal_new(base, SIGTERM, on_signal, base);
	struct event *intr = evsignal_new(base, SIGINT, on_signal, base);
	struct meshapp *app = meshapp_open(base, &mo);
	int code = 1;

	if (!app || !term || !intr) {
		log_error("cannot open the node at %s as %s: %s", mo.node_addr, mo.app_id,
			  strerror(errno));
	} else {
		event_add(term, NULL);
		event_add(intr, NULL);
		event_base_dispatch(base);
		code = 0;
	}
	meshapp_close(app);
	while ((cl = TAILQ_FIRST(&clients)))
		drop_client(cl);
	event_drop(term);
	event_drop(intr);
	return code;
}
