/* Lines of OpenVPN's management channel, as OpenVPN 2.6.14 wrote them, and the channel itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tunnel/ovpnmgmt.h"

static struct ovpn_event parse(const char *text)
{
	static char line[OVPNMGMT_LINE_MAX];
	struct ovpn_event e;

	snprintf(line, sizeof line, "%s", text);
	ovpn_event_parse(line, &e);
	return e;
}

static void test_lines_of_a_server(void **state)
{
	struct ovpn_event e;

	(void)state;
	e = parse(">CLIENT:CONNECT,12,3");
	assert_int_equal(e.kind, OVPN_CONNECT);
	assert_int_equal(e.cid, 12);
	assert_int_equal(e.kid, 3);
	assert_int_equal(parse(">CLIENT:REAUTH,12,4").kind, OVPN_REAUTH);
	e = parse(">CLIENT:ENV,password=a=b,c");
	assert_int_equal(e.kind, OVPN_ENV);
	assert_string_equal(e.key, "password");
	assert_string_equal(e.value, "a=b,c");
	assert_int_equal(parse(">CLIENT:ENV,END").kind, OVPN_ENV_END);
	assert_string_equal(parse(">CLIENT:ENV,END=x").key, "END");
	e = parse(">CLIENT:ESTABLISHED,7");
	assert_int_equal(e.kind, OVPN_ESTABLISHED);
	assert_int_equal(e.cid, 7);
	e = parse(">BYTECOUNT_CLI:1,1200,18446744073709551600");
	assert_int_equal(e.kind, OVPN_CLIENT_BYTES);
	assert_int_equal(e.in, 1200);
	assert_true(e.out > UINT32_MAX);
	assert_int_equal(parse(">CLIENT:DISCONNECT,0").kind, OVPN_DISCONNECT);
}

static void test_lines_of_a_client(void **state)
{
	struct ovpn_event e =
		parse(">STATE:1795391744,CONNECTED,SUCCESS,10.99.0.21,10.77.1.1,1194,,");

	(void)state;
	assert_int_equal(e.kind, OVPN_STATE);
	assert_string_equal(e.key, "CONNECTED");
	assert_string_equal(e.value, "SUCCESS");
	e = parse(">STATE:1795391744,RECONNECTING,ping-restart,,,,,");
	assert_string_equal(e.key, "RECONNECTING");
	assert_string_equal(e.value, "ping-restart");
	e = parse(">BYTECOUNT:914,1464");
	assert_int_equal(e.kind, OVPN_BYTES);
	assert_int_equal(e.out, 1464);
	assert_string_equal(parse(">FATAL:Cannot open TUN").value, "Cannot open TUN");
	assert_string_equal(parse(">PASSWORD:Verification Failed: 'Auth'").value,
			    "Verification Failed: 'Auth'");
}

static void test_what_is_no_event(void **state)
{
	static const char *const lines[] = {
		"",
		">",
		"SUCCESS: hold release succeeded",
		">INFO:OpenVPN Management Interface Version 5 -- type 'help' for more info",
		">CLIENT:CONNECT,1",
		">CLIENT:CONNECT,1,",
		">CLIENT:CONNECT,-1,2",
		">CLIENT:CONNECT,1,2,3",
		">CLIENT:CONNECT,99999999999999999999999,1",
		">CLIENT:ENV,nothing",
		">CLIENT:ADDRESS,1,10.99.0.21,1",
		">BYTECOUNT_CLI:1,2",
		">BYTECOUNT:1",
		">STATE:x,CONNECTED",
	};

	(void)state;
	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
		struct ovpn_event e = parse(lines[i]);

		if (e.kind != OVPN_OTHER)
			fail_msg("'%s' is kind %d", lines[i], e.kind);
		assert_non_null(e.key);
		assert_non_null(e.value);
	}
}

/* ---- the channel ---- */

struct seen {
	int ups, downs, lines;
	char last[64];
};

static void up(void *arg)
{
	((struct seen *)arg)->ups++;
}

static void line(char *text, void *arg)
{
	struct seen *s = arg;

	s->lines++;
	snprintf(s->last, sizeof s->last, "%s", text);
}

static void down(void *arg)
{
	((struct seen *)arg)->downs++;
}

static const struct ovpnmgmt_callbacks callbacks = {.up = up, .line = line, .down = down};
static char dir[64], path[96];
static struct event_base *base;

static int setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/meshnet-mgmt-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof path, "%s/sock", dir);
	base = event_base_new();
	return base ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	event_base_free(base);
	return rmdir(dir); /* the socket must be gone */
}

static int dial(void)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(sun.sun_path, sizeof sun.sun_path, "%s", path);
	assert_int_equal(connect(fd, (struct sockaddr *)&sun, sizeof sun), 0);
	return fd;
}

static void turn(void)
{
	for (int i = 0; i < 5; i++)
		event_base_loop(base, EVLOOP_NONBLOCK);
}

static void test_one_process_at_a_time(void **state)
{
	struct seen s = {0};
	struct ovpnmgmt *m;
	struct stat st;
	char got[32] = "";
	int first, second;

	(void)state;
	assert_int_equal(ovpnmgmt_listen(&m, base, path, &callbacks, &s), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	ovpnmgmt_send(m, "nobody hears\n");
	first = dial();
	turn();
	assert_int_equal(s.ups, 1);
	second = dial();
	turn();
	assert_int_equal(read(second, got, sizeof got), 0); /* turned away */
	assert_int_equal(s.ups, 1);
	assert_int_equal(write(first, "one\r\ntwo\nthr", 11), 11);
	turn();
	assert_int_equal(s.lines, 2);
	assert_string_equal(s.last, "two");
	ovpnmgmt_send(m, "hold %s\n", "release");
	turn();
	assert_int_equal(read(first, got, sizeof got), 13);
	assert_memory_equal(got, "hold release\n", 13);
	close(first);
	turn();
	assert_int_equal(s.downs, 1);
	first = dial();
	turn();
	assert_int_equal(s.ups, 2);
	ovpnmgmt_free(m);
	turn(); /* libevent closes it there */
	assert_int_equal(read(first, got, sizeof got), 0);
	close(first);
	close(second);
}

static void test_an_endless_line_ends_it(void **state)
{
	static char endless[OVPNMGMT_LINE_MAX * 2];
	struct seen s = {0};
	struct ovpnmgmt *m;
	int fd;

	(void)state;
	memset(endless, 'x', sizeof endless);
	assert_int_equal(ovpnmgmt_listen(&m, base, path, &callbacks, &s), 0);
	fd = dial();
	turn();
	assert_int_equal(write(fd, endless, sizeof endless), sizeof endless);
	turn();
	assert_int_equal(s.downs, 1);
	assert_int_equal(s.lines, 0);
	ovpnmgmt_free(m);
	close(fd);
}

static void test_paths_too_long(void **state)
{
	char big[200];
	struct ovpnmgmt *m;

	(void)state;
	memset(big, 'p', sizeof big);
	big[sizeof big - 1] = '\0';
	assert_int_equal(ovpnmgmt_listen(&m, base, big, &callbacks, NULL), -ENAMETOOLONG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines_of_a_server),
		cmocka_unit_test(test_lines_of_a_client),
		cmocka_unit_test(test_what_is_no_event),
		cmocka_unit_test_setup_teardown(test_one_process_at_a_time, setup, teardown),
		cmocka_unit_test_setup_teardown(test_an_endless_line_ends_it, setup, teardown),
		cmocka_unit_test_setup_teardown(test_paths_too_long, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
