#include <event2/event.h>
#include <malloc.h>
#include <sodium.h>
#include <stdio.h>
#include <sys/resource.h>

#include "base/log.h"
#include "io/privileges.h"
#include "socks/socks.h"

/* Buffers of one message come and go; giving their pages back each time costs more than they do. */
#define HEAP_KEPT_BYTES (4 << 20)

/* A socket a stream: the usual soft limit of 1,024 is for programs that use select. */
static void raise_descriptor_limit(const struct socks_options *o)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r))
		return;
	r.rlim_cur = r.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &r);
	if (r.rlim_max < o->streams_max)
		log_warn("only %llu descriptors are allowed: [proxy] MaxStreams = %u cannot be "
			 "reached",
			 (unsigned long long)r.rlim_max, o->streams_max);
}

static int run(bool server, struct socks_options *o)
{
	struct event_base *base = sodium_init() < 0 ? NULL : event_base_new();
	int code;

	if (!base) {
		log_error("cannot start the event loop");
		return 1;
	}
	raise_descriptor_limit(o);
	(void)mallopt(M_TRIM_THRESHOLD, HEAP_KEPT_BYTES);
	code = server ? socks_server_run(base, o) : socks_client_run(base, o);
	event_base_free(base);
	return code;
}

int socks_main(bool server, int argc, char **argv)
{
	static struct socks_options o;
	int verdict = socks_options_parse(&o, server, argc, argv);
	int code = verdict < 0 ? 2 : 0;

	if (verdict == 0)
		code = privileges_limit(PRIVILEGE(CAP_NET_BIND_SERVICE)) ? 1 : run(server, &o);
	socks_options_free(&o);
	return code;
}
