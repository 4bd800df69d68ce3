/* An app outside the tree, with callbacks: manyconn NODE ECHO_APP COUNT.  Whenever its node is
 * there it makes COUNT connections to the echo server and sends a message over each; says what
 * happens, one line each:  up | all COUNT | down REASON | ended N code CODE REASON | bad WHAT */
#include <event2/event.h>
#include <meshapp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MANY_MAX 10000

struct one {
	struct many *many;
	int number;
};

struct many {
	struct event_base *base;
	struct meshapp *app;
	const char *to;
	int count, back, ended;
	struct one one[MANY_MAX];
};

static void on_up(struct meshconn *c)
{
	struct one *o = meshconn_arg(c);

	if (meshconn_send(c, &o->number, sizeof o->number))
		printf("bad send\n");
}

static void consume(struct meshconn *c, const uint8_t *data, size_t len)
{
	struct one *o = meshconn_arg(c);

	if (len != sizeof o->number || memcmp(data, &o->number, len) != 0)
		printf("bad content\n");
	else if (++o->many->back == o->many->count)
		printf("all %d\n", o->many->back);
}

static void connect_one(struct one *o);

static void again(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	connect_one(arg);
}

static void on_closed(struct meshconn *c, uint16_t code, const char *reason)
{
	static const struct timeval moment = {0, 300000};
	struct one *o = meshconn_arg(c);
	struct many *m = o->many;

	/* A node that has just been started has not registered yet. */
	if (code == MESHAPP_UNAVAILABLE) {
		event_base_once(m->base, -1, EV_TIMEOUT, again, o, &moment);
		return;
	}
	if (++m->ended == m->count || code != MESHAPP_LOST)
		printf("ended %d code %s %s\n", m->ended, meshapp_code_name(code), reason);
}

static void connect_one(struct one *o)
{
	static const struct meshconn_callbacks cb = {
		.on_up = on_up, .consume = consume, .on_closed = on_closed};
	struct many *m = o->many;

	if (!meshapp_connect(m->app, NULL, m->to, MESHAPP_STREAM, &cb, o))
		printf("bad connect\n");
}

static void connect_all(struct many *m)
{
	for (int i = 0; i < m->count; i++) {
		m->one[i] = (struct one){m, i};
		connect_one(&m->one[i]);
	}
}

static void on_state(struct meshapp *app, bool up, const char *text)
{
	struct many *m = meshapp_arg(app);

	printf("%s %s\n", up ? "up" : "down", text);
	m->back = m->ended = 0;
	m->app = app;
	if (up)
		connect_all(m);
}

int main(int argc, char **argv)
{
	static struct many m;
	struct meshapp_options o = {
		.app_id = "manyconn", .app_type = "test", .cb = {.on_state = on_state}, .arg = &m};

	if (argc != 4 || (m.count = atoi(argv[3])) < 1 || m.count > MANY_MAX)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	o.node_addr = argv[1];
	m.to = argv[2];
	m.base = event_base_new();
	struct meshapp *app = meshapp_open(m.base, &o);
	if (!app)
		return 1;
	return event_base_dispatch(m.base);
}
