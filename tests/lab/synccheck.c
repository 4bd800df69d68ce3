/* The calls that wait, one after the other: synccheck NODE ECHO_APP.  Prints the line at fault and
 * ends with 1; "ready" when it waits for its node to be killed and started again; "done". */
#include <errno.h>
#include <meshapp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND 1000000u
#define CHECK(x) check((x) != 0, __LINE__, #x)

static char data[100], back[100];
static char *large;

static void check(int good, int line, const char *what)
{
	if (good)
		return;
	printf("line %d: %s\n", line, what);
	exit(1);
}

static void opening(const char *node, struct meshapp_sync **app)
{
	struct meshapp_options o = {
		.node_addr = "nonsense", .app_id = "sync", .app_type = "synccheck"};
	struct meshapp_sync *other = NULL;

	CHECK(meshapp_open_sync(&other, &o, SECOND) == -EINVAL);
	o.node_addr = "192.0.2.1:17000";
	CHECK(meshapp_open_sync(&other, &o, SECOND) == -EPERM);
	o.node_addr = "127.0.0.1:1";
	CHECK(meshapp_open_sync(&other, &o, SECOND / 4) == -ETIMEDOUT);
	o.node_addr = node;
	CHECK(meshapp_open_sync(app, &o, 10 * SECOND) == 0);
	CHECK(meshapp_registrations_sync(*app) == 1);
	CHECK(meshapp_is_up(meshapp_of_sync(*app)) && meshapp_node(meshapp_of_sync(*app)));
	CHECK(meshapp_open_sync(&other, &o, SECOND) == -EACCES && !other);
}

static void sizes(struct meshapp_sync *app, const char *echo)
{
	struct meshconn_sync *c = NULL, *d = NULL;

	CHECK(meshapp_connect_sync(&c, app, NULL, "nobody", MESHAPP_STREAM, 10 * SECOND) ==
	      -ENOENT);
	CHECK(meshapp_connect_sync(&c, app, NULL, "", MESHAPP_STREAM, SECOND) == -EINVAL);
	CHECK(meshapp_connect_sync(&c, app, NULL, echo, MESHAPP_STREAM, 10 * SECOND) == 0);
	CHECK(meshconn_recv_sync(c, back, sizeof back, 0) == -ETIMEDOUT);
	memset(data, 7, sizeof data);
	CHECK(meshconn_send_sync(c, data, sizeof data, SECOND) == 0);
	CHECK(meshconn_recv_sync(c, back, 10, 10 * SECOND) == -EMSGSIZE);
	CHECK(meshconn_recv_sync(c, back, sizeof back, 0) == sizeof back);
	CHECK(memcmp(data, back, sizeof data) == 0);
	CHECK(meshconn_send_sync(c, large, MESHAPP_MESSAGE_MAX + 1, SECOND) == -EMSGSIZE);
	CHECK(meshconn_send_sync(c, large, MESHAPP_MESSAGE_MAX, 10 * SECOND) == 0);
	CHECK(meshconn_recv_sync(c, large, MESHAPP_MESSAGE_MAX, 20 * SECOND) ==
	      MESHAPP_MESSAGE_MAX);
	CHECK(meshapp_connect_sync(&d, app, NULL, echo, MESHAPP_DATAGRAM, 10 * SECOND) == 0);
	CHECK(meshconn_send_sync(d, large, MESHAPP_DATAGRAM_MAX_BYTES + 1, SECOND) == -EMSGSIZE);
	CHECK(strcmp(meshconn_reason_sync(c), "") == 0 && meshconn_of_sync(c));
	meshconn_close_sync(c);
	meshconn_close_sync(d);
}

/* With another app of the same node: the messages come before the end, and the end has a reason. */
static void endings(const char *node, struct meshapp_sync *app)
{
	struct meshapp_options o = {.node_addr = node, .app_id = "peer", .app_type = "test2"};
	struct meshconn_sync *to = NULL, *from = NULL;
	struct meshapp_sync *peer = NULL;

	CHECK(meshapp_open_sync(&peer, &o, 10 * SECOND) == 0);
	CHECK(meshapp_accept_sync(&from, peer, 0) == -ETIMEDOUT);
	CHECK(meshapp_connect_sync(&to, app, meshapp_node(meshapp_of_sync(app)), "peer",
				   MESHAPP_STREAM, 10 * SECOND) == 0);
	CHECK(meshapp_accept_sync(&from, peer, 10 * SECOND) == 0);
	CHECK(meshconn_send_sync(from, "bye", 3, SECOND) == 0);
	meshconn_close_sync(from);
	meshapp_close_sync(peer);
	CHECK(meshconn_recv_sync(to, back, sizeof back, 10 * SECOND) == 3);
	CHECK(meshconn_recv_sync(to, back, sizeof back, 10 * SECOND) == -ECONNRESET);
	CHECK(strcmp(meshconn_reason_sync(to), "closed") == 0 && !meshconn_of_sync(to));
	CHECK(meshconn_send_sync(to, "x", 1, SECOND) == -ECONNRESET);
	meshconn_close_sync(to);
}

static void lists(struct meshapp_sync *app)
{
	struct meshapp_entry *list = NULL;
	size_t count = 0;

	CHECK(meshapp_list_sync(app, MESHAPP_BY_TYPE, "synccheck", &list, &count, 10 * SECOND) ==
	      0);
	CHECK(count == 1 && strcmp(list[0].app, "sync") == 0);
	free(list);
	CHECK(meshapp_list_sync(app, MESHAPP_BY_TYPE, "none such", &list, &count, 10 * SECOND) ==
	      0);
	CHECK(count == 0 && !list);
	CHECK(meshapp_list_sync(app, MESHAPP_ALL, NULL, &list, &count, 0) == -ETIMEDOUT);
}

static void node_goes(struct meshapp_sync *app, const char *echo)
{
	struct meshconn_sync *c = NULL;
	int err = -ENOENT;

	CHECK(meshapp_connect_sync(&c, app, NULL, echo, MESHAPP_STREAM, 10 * SECOND) == 0);
	printf("ready\n");
	CHECK(meshconn_recv_sync(c, back, sizeof back, MESHAPP_FOREVER) == -ECONNABORTED);
	CHECK(*meshconn_reason_sync(c));
	meshconn_close_sync(c);
	/* Until the restarted node knows the mesh again it may say that there is no such app. */
	for (int i = 0; err && i < 100; i++, meshapp_run_sync(app, SECOND / 10))
		err = meshapp_connect_sync(&c, app, NULL, echo, MESHAPP_STREAM, 20 * SECOND);
	CHECK(err == 0);
	CHECK(meshapp_registrations_sync(app) == 2);
	CHECK(meshconn_send_sync(c, "again", 5, SECOND) == 0);
	CHECK(meshconn_recv_sync(c, back, sizeof back, 10 * SECOND) == 5);
}

int main(int argc, char **argv)
{
	struct meshapp_sync *app = NULL;

	setvbuf(stdout, NULL, _IOLBF, 0);
	large = calloc(1, MESHAPP_MESSAGE_MAX + 1);
	if (argc != 3 || !large)
		return 2;
	opening(argv[1], &app);
	sizes(app, argv[2]);
	endings(argv[1], app);
	lists(app);
	node_goes(app, argv[2]);
	meshapp_close_sync(app);
	free(large);
	printf("done\n");
	return 0;
}
