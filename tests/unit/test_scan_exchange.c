/* Talking to routing daemons that answer in pieces, not at all, without end, or not any more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "io/config.h"
#include "scan/exchange.h"
#include "scan/scan.h"

enum manner { SILENT, CLOSES, REFUSES, FLOODS, IN_PIECES };

struct server {
	struct event_base *base;
	struct evconnlistener *listener;
	enum manner manner;
	const char *script[4]; /* the greeting, then the answer to each question */
	unsigned at;
	struct bufferevent *bev;
	char path[64];
};

static void say(struct server *s, const char *text)
{
	bufferevent_write(s->bev, text, strlen(text));
}

static void flood(struct bufferevent *bev, void *arg)
{
	static char junk[65536];
	(void)arg;
	memset(junk, 'x', sizeof junk);
	bufferevent_write(bev, junk, sizeof junk);
}

static void on_question(struct bufferevent *bev, void *arg)
{
	struct server *s = arg;
	char buf[1024];

	while (bufferevent_read(bev, buf, sizeof buf) > 0)
		;
	if (s->manner == IN_PIECES && s->script[s->at])
		say(s, s->script[s->at++]);
}

static void on_gone(struct bufferevent *bev, short what, void *arg)
{
	struct server *s = arg;
	(void)what;
	if (s->bev == bev)
		s->bev = NULL;
	bufferevent_free(bev);
}

static void on_accept(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *sa, int len,
		      void *arg)
{
	struct server *s = arg;
	(void)l, (void)sa, (void)len;
	s->bev = bufferevent_socket_new(s->base, fd, BEV_OPT_CLOSE_ON_FREE);
	bufferevent_setcb(s->bev, on_question, s->manner == FLOODS ? flood : NULL, on_gone, s);
	bufferevent_enable(s->bev, EV_READ | EV_WRITE);
	s->at = 1;
	if (s->manner == REFUSES)
		say(s, "BABEL 1.0\nbad\n");
	else if (s->manner == IN_PIECES)
		say(s, s->script[0]);
	else if (s->manner == FLOODS)
		flood(s->bev, s);
	else if (s->manner == CLOSES) {
		bufferevent_free(s->bev);
		s->bev = NULL;
	}
}

static void serve(struct server *s, struct event_base *base, enum manner manner)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};

	memset(s, 0, sizeof *s);
	s->base = base;
	s->manner = manner;
	snprintf(s->path, sizeof s->path, "/tmp/meshnet-exchange-%d", getpid());
	snprintf(un.sun_path, sizeof un.sun_path, "%s", s->path);
	unlink(s->path);
	s->listener = evconnlistener_new_bind(base, on_accept, s, LEV_OPT_CLOSE_ON_FREE, 1,
					      (struct sockaddr *)&un, sizeof un);
	assert_non_null(s->listener);
}

static void end(struct server *s)
{
	evconnlistener_free(s->listener);
	if (s->bev)
		bufferevent_free(s->bev);
	unlink(s->path);
}

struct got {
	struct event_base *base;
	unsigned count;
	int err;
	size_t len;
	char data[4096];
};

static void on_answer(int err, const char *why, const uint8_t *data, size_t len, void *arg)
{
	struct got *g = arg;

	assert_true(err == 0 || *why);
	g->count++;
	g->err = err;
	g->len = len;
	if (len && len < sizeof g->data)
		memcpy(g->data, data, len);
	event_base_loopbreak(g->base);
}

struct fixture {
	struct event_base *base;
	struct config *cfg;
	struct scan_env env;
	struct server server;
	struct got got;
};

static void open_fixture(struct fixture *f, enum manner manner)
{
	memset(f, 0, sizeof *f);
	f->base = event_base_new();
	f->cfg = config_new();
	assert_true(f->base && f->cfg);
	serve(&f->server, f->base, manner);
	f->got.base = f->base;
	f->cfg->babel_socket = f->cfg->bird_socket = f->cfg->frr_socket = f->server.path;
	f->cfg->yggdrasil_socket = f->server.path;
	f->env = (struct scan_env){f->base, f->cfg, 300000};
}

static void close_fixture(struct fixture *f)
{
	end(&f->server);
	event_base_free(f->base);
	config_free(f->cfg);
}

static int ask(struct fixture *f, const struct scan_module *m)
{
	void *request = NULL;

	f->got.count = 0;
	assert_int_equal(m->query(&request, &f->env, NULL, on_answer, &f->got), 0);
	assert_non_null(request);
	assert_int_equal(f->got.count, 0); /* never from inside the call */
	event_base_dispatch(f->base);
	assert_int_equal(f->got.count, 1);
	return f->got.err;
}

static void test_bad_manners(void **state)
{
	static const struct {
		enum manner manner;
		int err;
	} cases[] = {{SILENT, -ETIMEDOUT}, {CLOSES, -EPROTO}, {FLOODS, -E2BIG}};
	const struct scan_module *const modules[] = {&scan_babel, &scan_bird, &scan_frr,
						     &scan_yggdrasil};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct fixture f;
		open_fixture(&f, cases[i].manner);
		if (cases[i].manner == FLOODS)
			f.env.timeout_us = 20000000;
		/* One that floods is enough for one module: it takes a while. */
		for (size_t m = 0; m < (cases[i].manner == FLOODS ? 1 : 4); m++) {
			int err = ask(&f, modules[m]);
			/* Of a question that it has not read, a reset. */
			assert_true(err == cases[i].err ||
				    (cases[i].manner == CLOSES && err == -ECONNRESET));
		}
		close_fixture(&f);
	}
	struct fixture f;
	open_fixture(&f, REFUSES);
	assert_int_equal(ask(&f, &scan_babel), -EPROTO);
	close_fixture(&f);
}

static void test_nobody_there(void **state)
{
	struct fixture f;
	char why[SCAN_WHY_MAX] = "";
	(void)state;
	open_fixture(&f, SILENT);
	f.cfg->babel_socket = "/tmp/meshnet-nobody";
	assert_int_equal(scan_babel.probe(&f.env, why), -ENOENT);
	assert_non_null(strstr(why, "babeld does not run here"));
	void *request;
	assert_int_equal(scan_babel.query(&request, &f.env, NULL, on_answer, &f.got), -ENOENT);
	f.cfg->babel_socket = "";
	assert_int_equal(scan_babel.probe(&f.env, why), -ENOENT);
	assert_int_equal(scan_babel.query(&request, &f.env, NULL, on_answer, &f.got), -EINVAL);
	struct net_host h = {.name = "x"};
	assert_int_equal(scan_babel.query(&request, &f.env, &h, on_answer, &f.got), -ENOTSUP);
	assert_int_equal(scan_yggdrasil.query(&request, &f.env, &h, on_answer, &f.got), -EINVAL);
	close_fixture(&f);
}

static void test_question_after_question(void **state)
{
	struct fixture f;
	(void)state;
	open_fixture(&f, IN_PIECES);
	f.server.script[0] = "BABEL 1.0\nmy-id x\nok\n";
	f.server.script[1] =
		"add route 1 prefix 10.0.0.2/32 installed yes id a metric 9 refmetric 0\nok\n";
	assert_int_equal(ask(&f, &scan_babel), 0);
	assert_true(f.got.len > 60);
	assert_memory_equal(f.got.data, "BABEL", 5);
	f.server.script[0] = "{\n \"status\": \"succ"; /* the rest never comes */
	f.server.script[1] = NULL;
	assert_int_equal(ask(&f, &scan_yggdrasil), -ETIMEDOUT);
	close_fixture(&f);
}

static void test_cancel(void **state)
{
	struct fixture f;
	void *request = NULL;
	(void)state;
	open_fixture(&f, SILENT);
	assert_int_equal(scan_babel.query(&request, &f.env, NULL, on_answer, &f.got), 0);
	event_base_loop(f.base, EVLOOP_NONBLOCK);
	scan_babel.query_cancel(request);
	assert_int_equal(scan_kernel.query(&request, &f.env, NULL, on_answer, &f.got), 0);
	scan_kernel.query_cancel(request);
	event_base_loop(f.base, EVLOOP_NONBLOCK);
	assert_int_equal(f.got.count, 0);
	close_fixture(&f);
}

/* Asked about another node, the second try may be the one that is answered; or none. */
static void test_asks_again(void **state)
{
	struct fixture f;
	struct net_host h = {.addr.family = 6};
	void *request = NULL;
	(void)state;
	memset(h.name, 'a', 64);
	open_fixture(&f, SILENT);
	f.env.timeout_us = 1400000;
	assert_int_equal(scan_yggdrasil.query(&request, &f.env, &h, on_answer, &f.got), 0);
	event_base_dispatch(f.base);
	assert_int_equal(f.got.err, -ETIMEDOUT);
	/* The server changes its mind between the two. */
	assert_int_equal(scan_yggdrasil.query(&request, &f.env, &h, on_answer, &f.got), 0);
	event_base_loopexit(f.base, &(struct timeval){0, 500000});
	event_base_dispatch(f.base);
	f.server.manner = IN_PIECES;
	f.server.script[0] = "{}";
	event_base_dispatch(f.base);
	assert_int_equal(f.got.count, 2);
	assert_int_equal(f.got.err, 0);
	assert_int_equal(f.got.len, 2);
	/* Cancelled with one under way. */
	f.server.manner = SILENT;
	assert_int_equal(scan_yggdrasil.query(&request, &f.env, &h, on_answer, &f.got), 0);
	event_base_loop(f.base, EVLOOP_NONBLOCK);
	scan_yggdrasil.query_cancel(request);
	assert_int_equal(f.got.count, 2);
	close_fixture(&f);
}

/* batctl is whatever the configuration names. */
static void test_batctl(void **state)
{
	struct fixture f;
	(void)state;
	open_fixture(&f, SILENT);
	f.env.timeout_us = 5000000;
	f.cfg->batman_batctl = "/bin/echo";
	assert_int_equal(ask(&f, &scan_batman), 0);
	assert_non_null(strstr(f.got.data, "meshif bat0 originators_json\n"));
	assert_non_null(strstr(f.got.data, "meshif bat0 dat_cache_json\n"));
	f.cfg->batman_batctl = "/bin/false";
	assert_int_equal(ask(&f, &scan_batman), -EIO);
	void *request;
	f.cfg->batman_batctl = "/nonexistent/batctl";
	assert_true(scan_batman.query(&request, &f.env, NULL, on_answer, &f.got) < 0);
	close_fixture(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad_manners),
		cmocka_unit_test(test_nobody_there),
		cmocka_unit_test(test_question_after_question),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_asks_again),
		cmocka_unit_test(test_batctl),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
