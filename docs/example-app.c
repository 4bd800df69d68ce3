/* cc example-app.c $(pkg-config --cflags --libs meshapp) -o example-app
 *   example-app 127.0.0.1:17000          answers each message with its capitals, for ever
 *   example-app 127.0.0.1:17000 TEXT...  finds such a server, asks it, prints the answers */
#include <ctype.h>
#include <errno.h>
#include <meshapp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
enum { WAIT = 10000000 /* us */ };
static char text[4096];
static int serve(struct meshapp_sync *app)
{
	struct meshconn_sync *c;
	while (meshapp_accept_sync(&c, app, MESHAPP_FOREVER) == 0) {
		ssize_t n;
		while ((n = meshconn_recv_sync(c, text, sizeof text, WAIT)) >= 0) {
			for (ssize_t i = 0; i < n; i++)
				text[i] = (char)toupper((unsigned char)text[i]);
			meshconn_send_sync(c, text, (size_t)n, WAIT);
		}
		meshconn_close_sync(c);
	}
	return 0;
}

static int ask(struct meshapp_sync *app, char **words)
{
	struct meshapp_entry *servers;
	struct meshconn_sync *c = NULL;
	size_t count;
	int err = meshapp_list_sync(app, MESHAPP_BY_TYPE, "capitals", &servers, &count, WAIT);
	if (err || !count)
		return err ? err : -ENOENT;
	err = meshapp_connect_sync(&c, app, &servers->node, servers->app, MESHAPP_STREAM, WAIT);
	free(servers);
	for (; !err && *words; words++) {
		err = meshconn_send_sync(c, *words, strlen(*words), WAIT);
		ssize_t n = err ? err : meshconn_recv_sync(c, text, sizeof text, WAIT);
		err = n < 0 ? (int)n : !printf("%.*s\n", (int)n, text);
	}
	return err;
}

int main(int argc, char **argv)
{
	char id[32];
	struct meshapp_options o = {.node_addr = argv[argc > 1], .app_id = id};
	struct meshapp_sync *app = NULL;
	snprintf(id, sizeof id, "capitals-%d", getpid());
	o.app_type = argc > 2 ? "asker" : "capitals";
	int err = argc < 2 ? -EINVAL : meshapp_open_sync(&app, &o, WAIT);
	if (!err)
		err = argc > 2 ? ask(app, argv + 2) : serve(app);
	if (err)
		fprintf(stderr, "example-app: %s\n", strerror(-err));
	meshapp_close_sync(app);
	return err != 0;
}
