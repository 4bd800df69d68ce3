/* libmeshapp against a fake node: a channel listener that plays the node's part, and plays it badly
 * where a test asks for it. */
#include <errno.h>
#include <event2/event.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/log.h"
#include "io/chan.h"
#include "io/clock.h"
#include "libmeshapp/meshapp.h"

#define LISTED 150
#define PAGE 64

struct fake_node {
	struct chan_listener *listener;
	struct chan *ch;
	char addr[64];
	uint16_t register_code;
	unsigned registrations, connects, shutdowns, requests;
	uint64_t next_connection, last_shutdown;
	uint16_t last_shutdown_code;
	uint32_t last_seq, last_handle;
	uint64_t credit_from_app; /* returned by the app */
	size_t received;
	unsigned take_parts, parts;
	size_t part_bytes;
	bool hold_credit, stuck_list;
	char info[APP_INFO_MAX_BYTES + 1];
};

enum act { ACT_NONE, ACT_CLOSE_CONN, ACT_CLOSE_APP };

struct peer {
	struct meshapp *app;
	struct meshconn *conn;
	unsigned ups, downs, states, incoming, on_up, consumed, writable, closed, lists;
	uint16_t code;
	size_t last_len, entries;
	uint64_t bytes;
	uint8_t last_byte;
	bool refuse_incoming;
	enum act at_up, at_consume, at_writable, at_closed, at_incoming, at_state, at_list;
	char text[128];
};

static struct event_base *base;
static struct fake_node node;

static void quiet(enum log_level level, const char *line)
{
	(void)level;
	(void)line;
}

static bool spin(const unsigned *what, unsigned at_least, unsigned ms)
{
	uint64_t end = daemon_now_us() + ms * 1000u;
	struct timeval step = {0, 2000};
	do {
		event_base_loopexit(base, &step);
		event_base_loop(base, EVLOOP_ONCE);
		event_base_loop(base, EVLOOP_NONBLOCK);
	} while ((!what || *what < at_least) && daemon_now_us() < end);
	return what && *what >= at_least;
}

/* --- the fake node ------------------------------------------------------------------------ */

static void node_register(struct chan *ch, const struct msg *m)
{
	struct msg ack = {.type = MSG_RegisterAppAck, .seq = m->seq};
	node.registrations++;
	bytes_to_cstr(m->register_app.info, node.info, sizeof node.info);
	ack.register_app_ack.code = node.register_code;
	ack.register_app_ack.text = bytes_str(node.register_code ? "remark" : "");
	memset(ack.register_app_ack.node.b, 0xab, 32);
	ack.register_app_ack.max_message = MAX_MESSAGE_BYTES;
	chan_send(ch, &ack);
	chan_ready(ch);
}

static void node_list(struct chan *ch, const struct msg *m)
{
	static struct msg r;
	char name[PAGE][16];
	uint32_t at = m->app_list_request.after;
	memset(&r, 0, sizeof r);
	node.requests++;
	r.type = MSG_AppListResponse;
	r.seq = m->seq;
	if (m->app_list_request.kind == APP_LIST_BY_NAME)
		r.app_list_response.code = CODE_UNAVAILABLE;
	for (uint16_t i = 0; i < PAGE && at < LISTED; i++, at++) {
		struct app_item *item = &r.app_list_response.apps[i];
		snprintf(name[i], sizeof name[i], "app%u", at);
		item->app = bytes_str(name[i]);
		item->type = m->app_list_request.value;
		item->info = bytes_str("{}");
		r.app_list_response.apps_count++;
	}
	r.app_list_response.next = at < LISTED ? at : 0;
	if (node.stuck_list)
		r.app_list_response.next = 1;
	chan_send(ch, &r);
}

static void node_connection_on(uint64_t id, uint32_t handle, const char *app, uint8_t class)
{
	struct msg on = {.type = MSG_ConnectionOn};
	on.connection_on.connection = id;
	on.connection_on.handle = handle;
	on.connection_on.class = class;
	memset(on.connection_on.peer.b, 0xcd, 32);
	on.connection_on.app = bytes_str(app);
	chan_send(node.ch, &on);
}

static void node_connect(struct chan *ch, const struct msg *m)
{
	const struct msg_connect_to_app *c = &m->connect_to_app;
	node.connects++;
	node.last_seq = m->seq;
	node.last_handle = c->handle;
	if (bytes_equal(c->app, bytes_str("silent")))
		return;
	if (bytes_equal(c->app, bytes_str("nowhere"))) {
		chan_send_ack(ch, m->seq, CODE_NOT_FOUND, 0, "no such app");
		return;
	}
	uint64_t id = ++node.next_connection;
	chan_send_ack(ch, m->seq, CODE_OK, id, "");
	node_connection_on(id, c->handle, "", c->class);
}

static void node_send(uint64_t connection, struct bytes data)
{
	struct msg m = {.type = MSG_AppMessage};
	m.app_message.connection = connection;
	m.app_message.data = data;
	chan_send(node.ch, &m);
}

static void node_credit(uint64_t connection, size_t bytes)
{
	struct msg m = {.type = MSG_AppCredit};
	m.app_credit.connection = connection;
	m.app_credit.bytes = (uint32_t)bytes;
	chan_send(node.ch, &m);
}

static void node_shutdown(uint64_t connection, uint16_t code)
{
	struct msg m = {.type = MSG_ConnectionShutdown};
	m.connection_shutdown.connection = connection;
	m.connection_shutdown.code = code;
	chan_send(node.ch, &m);
}

/* Comes back as it came; the credit with the last. */
static void node_part(const struct msg_send_part *p)
{
	struct msg m = {.type = MSG_AppPart};

	node.received += p->data.len;
	node.part_bytes += p->data.len;
	node.parts++;
	m.app_part.connection = p->connection;
	m.app_part.left = p->left;
	m.app_part.data = p->data;
	chan_send(node.ch, &m);
	if (p->left)
		return;
	node_credit(p->connection, node.part_bytes);
	node.part_bytes = 0;
}

static void node_msg(struct chan *ch, const struct msg *m)
{
	switch (m->type) {
	case MSG_RegisterApp:
		node_register(ch, m);
		break;
	case MSG_AppListRequest:
		node_list(ch, m);
		break;
	case MSG_ConnectToApp:
		node_connect(ch, m);
		break;
	case MSG_SendFromApp:
		node.received += m->send_from_app.data.len;
		if (node.hold_credit)
			break;
		node_credit(m->send_from_app.connection, m->send_from_app.data.len);
		node_send(m->send_from_app.connection, m->send_from_app.data);
		break;
	case MSG_TakeParts:
		node.take_parts += m->take_parts.parts;
		break;
	case MSG_SendPart:
		node_part(&m->send_part);
		break;
	case MSG_AppCredit:
		node.credit_from_app += m->app_credit.bytes;
		break;
	case MSG_ConnectionShutdown:
		node.shutdowns++;
		node.last_shutdown = m->connection_shutdown.connection;
		node.last_shutdown_code = m->connection_shutdown.code;
		break;
	default:
		fail_msg("unexpected %s", msg_type_name(m->type));
	}
}

static void node_up(struct chan *ch, const struct mesh_id *peer)
{
	(void)peer;
	node.ch = ch;
}

static void node_down(struct chan *ch, uint16_t code, const char *reason)
{
	(void)code;
	(void)reason;
	if (node.ch == ch)
		node.ch = NULL;
}

/* On a path: after a restart a port might be somebody else's. */
static void node_start(void)
{
	struct chan_options o = {
		.name = "app",
		.peer_role = FROM_APP,
		.max_body_bytes = FRAME_MAX_BYTES,
		.cb = {node_up, node_msg, node_down, NULL},
	};
	snprintf(node.addr, sizeof node.addr, "/tmp/meshnet-test-app-%d", (int)getpid());
	assert_int_equal(chan_listen(&node.listener, base, node.addr, &o), 0);
}

/* --- the app's side ----------------------------------------------------------------------- */

static void act(struct peer *p, enum act a)
{
	if (a == ACT_CLOSE_CONN && p->conn) {
		meshconn_close(p->conn, CODE_CLOSED, "test");
		p->conn = NULL;
	}
	if (a == ACT_CLOSE_APP) {
		p->conn = NULL;
		meshapp_close(p->app);
		p->app = NULL;
	}
}

static void on_state(struct meshapp *app, bool up, const char *text)
{
	struct peer *p = meshapp_arg(app);
	p->states++;
	*(up ? &p->ups : &p->downs) += 1;
	snprintf(p->text, sizeof p->text, "%s", text);
	act(p, p->at_state);
}

static void conn_up(struct meshconn *c)
{
	struct peer *p = meshconn_arg(c);
	p->on_up++;
	act(p, p->at_up);
}

static void consume(struct meshconn *c, const uint8_t *data, size_t len)
{
	struct peer *p = meshconn_arg(c);
	p->consumed++;
	p->bytes += len;
	p->last_len = len;
	act(p, p->at_consume);
	if (len)
		p->last_byte = data[len - 1]; /* still there after a close */
}

static void writable(struct meshconn *c)
{
	struct peer *p = meshconn_arg(c);
	p->writable++;
	act(p, p->at_writable);
}

static void closed(struct meshconn *c, uint16_t code, const char *reason)
{
	struct peer *p = meshconn_arg(c);
	assert_non_null(reason);
	p->closed++;
	p->code = code;
	p->conn = NULL;
	act(p, p->at_closed);
}

static const struct meshconn_callbacks conn_cb = {conn_up, consume, writable, closed};

static bool on_incoming(struct meshapp *app, struct meshconn *c)
{
	struct peer *p = meshapp_arg(app);
	p->incoming++;
	if (p->refuse_incoming)
		return false;
	p->conn = c;
	meshconn_set_callbacks(c, &conn_cb, p);
	act(p, p->at_incoming);
	return true;
}

static void listed(void *arg, uint16_t code, const struct meshapp_entry *entries, size_t count)
{
	struct peer *p = arg;
	p->lists++;
	p->code = code;
	p->entries = count;
	if (count) {
		assert_string_equal(entries[count - 1].app, count == LISTED ? "app149" : "app64");
		assert_string_equal(entries[0].type, "t");
	}
	act(p, p->at_list);
}

static void open_app(struct peer *p)
{
	struct meshapp_options o = {
		.node_addr = node.addr,
		.app_id = "tester",
		.app_type = "test",
		.info = "one",
		.cb = {on_state, on_incoming},
		.arg = p,
	};
	p->app = meshapp_open(base, &o);
	assert_non_null(p->app);
}

static void begin(struct peer *p)
{
	memset(p, 0, sizeof *p);
	memset(&node, 0, sizeof node);
	node_start();
	open_app(p);
	assert_true(spin(&p->ups, 1, 2000));
}

static void end(struct peer *p)
{
	meshapp_close(p->app);
	chan_listener_free(node.listener);
}

static void connect_to(struct peer *p, const char *name, uint8_t class)
{
	p->conn = meshapp_connect(p->app, NULL, name, class, &conn_cb, p);
	assert_non_null(p->conn);
}

/* --- tests -------------------------------------------------------------------------------- */

static void test_options(void **state)
{
	(void)state;
	struct meshapp_options o = {.node_addr = "127.0.0.1:1", .app_id = "a", .app_type = "t"};
	char longer[APP_INFO_MAX_BYTES + 2];
	memset(longer, 'x', sizeof longer);
	longer[sizeof longer - 1] = '\0';
	o.info = longer;
	assert_null(meshapp_open(base, &o));
	assert_int_equal(errno, EINVAL);
	o.info = NULL;
	o.app_id = "";
	assert_null(meshapp_open(base, &o));
	o.app_id = longer;
	assert_null(meshapp_open(base, &o));
	o.app_id = "a";
	o.node_addr = "nonsense";
	assert_null(meshapp_open(base, &o));
	assert_int_equal(errno, EINVAL);
	o.node_addr = "127.0.0.1:1"; /* nobody there: no error */
	struct meshapp *app = meshapp_open(base, &o);
	assert_non_null(app);
	assert_false(meshapp_is_up(app));
	assert_null(meshapp_node(app));
	assert_null(meshapp_connect(app, NULL, "x", CLASS_STREAM, &conn_cb, NULL));
	assert_int_equal(errno, ENOTCONN);
	assert_int_equal(meshapp_list(app, APP_LIST_ALL, NULL, listed, NULL), -ENOTCONN);
	spin(NULL, 0, 20);
	meshapp_close(app);
}

static void test_register_and_again(void **state)
{
	(void)state;
	struct peer p;
	begin(&p);
	assert_string_equal(node.info, "one");
	assert_int_equal(meshapp_node(p.app)->b[31], 0xab);
	assert_int_equal(meshapp_set_info(p.app, "two"), 0);
	assert_true(spin(&node.registrations, 2, 1000));
	assert_string_equal(node.info, "two");
	spin(NULL, 0, 20);
	assert_int_equal(p.states, 1);
	connect_to(&p, "echo", CLASS_STREAM);
	assert_true(spin(&p.on_up, 1, 1000));
	chan_listener_free(node.listener); /* the node restarts */
	assert_true(spin(&p.downs, 1, 1000));
	assert_int_equal(p.closed, 1);
	assert_int_equal(p.code, CODE_LOST);
	assert_int_equal(meshapp_set_info(p.app, "three"), 0);
	node_start();
	assert_true(spin(&p.ups, 2, 3000));
	assert_string_equal(node.info, "three");
	end(&p);
}

static void test_registration_codes(void **state)
{
	(void)state;
	struct peer p = {0};
	memset(&node, 0, sizeof node);
	node.register_code = CODE_REFUSED;
	node_start();
	open_app(&p);
	assert_true(spin(&p.downs, 2, 3000)); /* it goes on trying */
	assert_int_equal(p.ups, 0);
	assert_string_equal(p.text, "remark");
	node.register_code = CODE_UNAVAILABLE; /* registered all the same */
	assert_true(spin(&p.ups, 1, 3000));
	assert_string_equal(p.text, "remark");
	end(&p);
}

static void test_list(void **state)
{
	(void)state;
	struct peer p;
	begin(&p);
	assert_int_equal(meshapp_list(p.app, APP_LIST_BY_TYPE, "t", listed, &p), 0);
	assert_true(spin(&p.lists, 1, 1000));
	assert_int_equal(p.entries, LISTED);
	assert_int_equal(node.requests, 3);
	assert_int_equal(meshapp_list(p.app, APP_LIST_BY_NAME, "t", listed, &p), 0);
	assert_true(spin(&p.lists, 2, 1000));
	assert_int_equal(p.code, CODE_UNAVAILABLE);
	assert_int_equal(p.entries, 0);
	assert_int_equal(meshapp_list(p.app, 9, "t", listed, &p), -EINVAL);
	node.stuck_list = true; /* `next` that does not advance */
	assert_int_equal(meshapp_list(p.app, APP_LIST_BY_TYPE, "t", listed, &p), 0);
	assert_true(spin(&p.lists, 3, 1000));
	assert_int_equal(node.requests, 6); /* three pages, one refusal, two before it gives up */
	assert_int_equal(meshapp_list(p.app, APP_LIST_ALL, NULL, listed, &p), 0);
	chan_listener_free(node.listener);
	node.listener = NULL;
	assert_true(spin(&p.lists, 4, 1000));
	assert_int_equal(p.code, CODE_LOST);
	end(&p);
}

static void test_echo(void **state)
{
	(void)state;
	struct peer p;
	uint8_t *data = calloc(1, MAX_MESSAGE_BYTES + 1);
	static const size_t sizes[] = {0, 1, 1000, 65536, 1u << 20, MAX_MESSAGE_BYTES};
	begin(&p);
	connect_to(&p, "echo", CLASS_STREAM);
	assert_int_equal(meshconn_send(p.conn, data, 1), -ENOTCONN);
	assert_true(spin(&p.on_up, 1, 1000));
	assert_int_equal(meshconn_peer_node(p.conn)->b[0], 0xcd);
	assert_string_equal(meshconn_peer_app(p.conn), "echo");
	for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		data[sizes[i] ? sizes[i] - 1 : 0] = (uint8_t)(i + 1);
		assert_int_equal(meshconn_send(p.conn, data, sizes[i]), 0);
		assert_true(spin(&p.consumed, i + 1, 5000));
		assert_int_equal(p.last_len, sizes[i]);
		if (sizes[i])
			assert_int_equal(p.last_byte, i + 1);
		spin(NULL, 0, 10); /* the credit is back, even of what was larger than all of it */
		assert_true(meshconn_credit(p.conn) == APP_CREDIT_BYTES);
	}
	assert_int_equal(node.take_parts, 1);
	assert_int_equal(node.parts, 18 + 280); /* of the last two */
	assert_int_equal(meshconn_send(p.conn, data, MAX_MESSAGE_BYTES + 1), -EMSGSIZE);
	meshconn_close(p.conn, CODE_CLOSED, "done");
	assert_true(spin(&node.shutdowns, 1, 1000));
	assert_int_equal(p.closed, 0);
	end(&p);
	free(data);
}

/* A node that breaks its word about a length loses the connection, not the app. */
static void test_bad_parts(void **state)
{
	static const struct {
		uint32_t left[2];
		size_t len[2];
	} bad[] = {{{100, 100}, {50, 1}},     {{100, 0}, {50, 99}},
		   {{UINT32_MAX, 0}, {2, 1}}, {{MAX_MESSAGE_BYTES, 0}, {1, 1}},
		   {{5, 0}, {0, 5}},	      {{5, 5}, {1, 0}}};
	static const uint8_t zero[100];
	struct msg m = {.type = MSG_AppPart};

	(void)state;
	for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct peer p;
		begin(&p);
		connect_to(&p, "echo", CLASS_STREAM);
		assert_true(spin(&p.on_up, 1, 1000));
		for (unsigned k = 0; k < 2; k++) {
			m.app_part.connection = node.next_connection;
			m.app_part.left = bad[i].left[k];
			m.app_part.data = bytes_of(zero, bad[i].len[k]);
			chan_send(node.ch, &m);
		}
		assert_true(spin(&p.closed, 1, 1000));
		assert_true(spin(&node.shutdowns, 1, 1000));
		assert_int_equal(p.consumed, 0);
		assert_true(meshapp_is_up(p.app));
		end(&p);
	}
}

static void test_datagram(void **state)
{
	(void)state;
	struct peer p;
	static uint8_t data[MESHAPP_DATAGRAM_MAX_BYTES + 1];
	begin(&p);
	connect_to(&p, "echo", CLASS_DATAGRAM);
	assert_true(spin(&p.on_up, 1, 1000));
	assert_int_equal(meshconn_class(p.conn), CLASS_DATAGRAM);
	assert_int_equal(meshconn_send(p.conn, data, sizeof data), -EMSGSIZE);
	assert_int_equal(meshconn_send(p.conn, data, sizeof data - 1), 0);
	assert_true(spin(&p.consumed, 1, 1000));
	end(&p);
}

static void test_credit_of_sender(void **state)
{
	(void)state;
	struct peer p;
	static uint8_t data[100000];
	int sent = 0;
	begin(&p);
	node.hold_credit = true;
	connect_to(&p, "echo", CLASS_STREAM);
	assert_true(spin(&p.on_up, 1, 1000));
	while (meshconn_send(p.conn, data, sizeof data) == 0)
		sent++;
	assert_int_equal(sent, 11); /* while the credit is above zero */
	assert_int_equal(meshconn_credit(p.conn), 0);
	spin(NULL, 0, 50);
	assert_int_equal(p.writable, 0);
	node_credit(1, 40000); /* still in debt */
	spin(NULL, 0, 50);
	assert_int_equal(p.writable, 0);
	node_credit(1, 60000);
	assert_true(spin(&p.writable, 1, 1000));
	assert_int_equal(meshconn_send(p.conn, data, sizeof data), 0);
	assert_int_equal(meshconn_send(p.conn, data, sizeof data), -EAGAIN);
	node_credit(1, UINT32_MAX); /* a node that gives too much cannot make us send more */
	assert_true(spin(&p.writable, 2, 1000));
	assert_int_equal(meshconn_credit(p.conn), APP_CREDIT_BYTES);
	end(&p);
}

static void test_socket_backpressure(void **state)
{
	(void)state;
	struct peer p;
	uint8_t *data = calloc(1, MAX_MESSAGE_BYTES);
	struct meshconn *c[3];
	begin(&p);
	for (unsigned i = 0; i < 3; i++) {
		connect_to(&p, "echo", CLASS_STREAM);
		c[i] = p.conn;
		assert_true(spin(&p.on_up, i + 1, 1000));
	}
	node.hold_credit = true;
	assert_int_equal(meshconn_send(c[0], data, MAX_MESSAGE_BYTES), 0);
	for (int i = 1; i < 3; i++) /* credit enough, but the socket is full */
		assert_int_equal(meshconn_send(c[i], data, 10), -EAGAIN);
	p.conn = c[2];
	p.at_writable = ACT_CLOSE_CONN; /* the first that is asked ends the other */
	assert_true(spin(&p.writable, 1, 3000));
	spin(NULL, 0, 50);
	assert_int_equal(p.writable, 1);
	end(&p);
	free(data);
}

static void test_credit_of_receiver(void **state)
{
	(void)state;
	struct peer p;
	static uint8_t data[50000];
	begin(&p);
	connect_to(&p, "echo", CLASS_STREAM);
	assert_true(spin(&p.on_up, 1, 1000));
	for (unsigned i = 0; i < 100; i++)
		node_send(1, bytes_of(data, sizeof data));
	assert_true(spin(&p.consumed, 100, 3000));
	spin(NULL, 0, 30);
	assert_true(node.credit_from_app <= 100 * sizeof data);
	assert_true(node.credit_from_app > 100 * sizeof data - APP_CREDIT_BYTES / 4);
	meshconn_set_manual_credit(p.conn, true);
	node.credit_from_app = 0;
	for (unsigned i = 0; i < 20; i++)
		node_send(1, bytes_of(data, sizeof data));
	assert_true(spin(&p.consumed, 120, 3000));
	spin(NULL, 0, 30);
	assert_int_equal(node.credit_from_app, 0);
	meshconn_consume(p.conn, 400000);
	spin(NULL, 0, 30);
	assert_true(node.credit_from_app >= 400000 && node.credit_from_app < 700000);
	meshconn_consume(p.conn, SIZE_MAX); /* no more than was delivered */
	spin(NULL, 0, 30);
	assert_true(node.credit_from_app <= 1000000 + APP_CREDIT_BYTES / 4);
	end(&p);
}

static void test_connect_failures(void **state)
{
	(void)state;
	struct peer p;
	char name[NAME_MAX_BYTES + 2];
	begin(&p);
	connect_to(&p, "nowhere", CLASS_STREAM);
	assert_true(spin(&p.closed, 1, 1000));
	assert_int_equal(p.code, CODE_NOT_FOUND);
	memset(name, 'a', sizeof name);
	name[sizeof name - 1] = '\0';
	assert_null(meshapp_connect(p.app, NULL, name, CLASS_STREAM, &conn_cb, &p));
	assert_null(meshapp_connect(p.app, NULL, "a", 7, &conn_cb, &p));
	assert_int_equal(errno, EINVAL);
	connect_to(&p, "echo", CLASS_STREAM);
	assert_true(spin(&p.on_up, 1, 1000));
	node_shutdown(node.next_connection, CODE_NO_ROUTE);
	assert_true(spin(&p.closed, 2, 1000));
	assert_int_equal(p.code, CODE_NO_ROUTE);
	end(&p);
}

static void test_close_before_answer(void **state)
{
	(void)state;
	struct peer p;
	begin(&p);
	for (unsigned late_on = 0; late_on < 2; late_on++) {
		connect_to(&p, "silent", CLASS_STREAM);
		assert_true(spin(&node.connects, late_on + 1, 1000));
		meshconn_close(p.conn, CODE_CLOSED, "changed my mind");
		if (late_on)
			node_connection_on(77, node.last_handle, "", CLASS_STREAM);
		else
			chan_send_ack(node.ch, node.last_seq, CODE_OK, 66, "");
		assert_true(spin(&node.shutdowns, late_on + 1, 1000));
		assert_int_equal(node.last_shutdown, late_on ? 77 : 66);
	}
	assert_int_equal(p.on_up + p.closed, 0);
	end(&p);
}

static void test_incoming(void **state)
{
	(void)state;
	struct peer p;
	begin(&p);
	node_connection_on(1000, 0, "asker", CLASS_STREAM);
	assert_true(spin(&p.incoming, 1, 1000));
	assert_string_equal(meshconn_peer_app(p.conn), "asker");
	assert_true(meshconn_is_up(p.conn));
	node_send(1000, bytes_str("hello"));
	assert_true(spin(&p.consumed, 1, 1000));
	node_connection_on(1000, 0, "again", CLASS_STREAM); /* the same id twice: ignored */
	p.refuse_incoming = true;
	node_connection_on(1001, 0, "asker", CLASS_STREAM);
	assert_true(spin(&node.shutdowns, 1, 1000));
	assert_int_equal(node.last_shutdown, 1001);
	assert_int_equal(node.last_shutdown_code, CODE_REFUSED);
	assert_int_equal(p.incoming, 2);
	node_send(5555, bytes_str("nobody")); /* unknown connections are ignored */
	node_credit(5555, 10);
	node_shutdown(5555, CODE_OK);
	spin(NULL, 0, 30);
	assert_int_equal(p.consumed, 1);
	assert_int_equal(p.downs, 0);
	end(&p);
}

static void drive_all_callbacks(struct peer *p)
{
	static uint8_t data[APP_CREDIT_BYTES];
	if (p->app)
		meshapp_list(p->app, APP_LIST_BY_TYPE, "t", listed, p);
	if (p->app)
		p->conn = meshapp_connect(p->app, NULL, "echo", CLASS_STREAM, &conn_cb, p);
	spin(NULL, 0, 20);
	if (p->conn)
		meshconn_send(p->conn, data, sizeof data);
	if (p->conn)
		meshconn_send(p->conn, data, sizeof data);
	spin(NULL, 0, 30);
	if (p->conn && node.ch)
		node_shutdown(node.next_connection, CODE_OK);
	spin(NULL, 0, 20);
	if (p->app && node.ch)
		node_connection_on(2000, 0, "asker", CLASS_STREAM);
	spin(NULL, 0, 20);
	chan_listener_free(node.listener);
	node.listener = NULL;
	spin(NULL, 0, 20);
}

static void test_end_within_callbacks(void **state)
{
	(void)state;
	for (int which = 0; which < 7; which++)
		for (enum act a = ACT_CLOSE_CONN; a <= ACT_CLOSE_APP; a++) {
			struct peer p;
			begin(&p);
			enum act *at[] = {&p.at_up,	&p.at_consume,	&p.at_writable,
					  &p.at_closed, &p.at_incoming, &p.at_state,
					  &p.at_list};
			*at[which] = a;
			drive_all_callbacks(&p);
			assert_int_equal(p.app == NULL, a == ACT_CLOSE_APP);
			end(&p);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_register_and_again),
		cmocka_unit_test(test_registration_codes),
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_echo),
		cmocka_unit_test(test_bad_parts),
		cmocka_unit_test(test_datagram),
		cmocka_unit_test(test_credit_of_sender),
		cmocka_unit_test(test_socket_backpressure),
		cmocka_unit_test(test_credit_of_receiver),
		cmocka_unit_test(test_connect_failures),
		cmocka_unit_test(test_close_before_answer),
		cmocka_unit_test(test_incoming),
		cmocka_unit_test(test_end_within_callbacks),
	};
	if (sodium_init() < 0)
		return 1;
	log_set_sink(quiet);
	base = event_base_new();
	int failed = cmocka_run_group_tests_name("meshapp", tests, NULL, NULL);
	event_base_free(base);
	return failed;
}
