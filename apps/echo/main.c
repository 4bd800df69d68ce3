#include <errno.h>
#include <event2/event.h>
#include <getopt.h>
#include <malloc.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/log.h"
#include "echo/echo.h"
#include "libmeshapp/meshapp.h"

#define COUNT_MAX 10000000u
#define WINDOW_MAX 65536u
#define HEAP_KEPT_BYTES (32 << 20)
#define DEFAULT_NODE "127.0.0.1:17000"

static const char usage[] =
	"Usage: echo server [options]\n"
	"       echo client [options] [SIZE [COUNT]]\n"
	"Sends messages through the mesh and back, checks every byte and measures.\n"
	"\n"
	"  --node ADDR      our node: host:port, unix:/path or /path (" DEFAULT_NODE ")\n"
	"  --id NAME        our app id (server: echo; client: a random one)\n"
	"  -d, --debug      say more\n"
	"  --version, --help\n"
	"client (numbers may end in K or M: 64K is 65536, 10M is 10485760):\n"
	"  --to APPID[@NODEID]  the echo server (echo, at any node); NODEID is 64 hex digits\n"
	"  SIZE, --size BYTES   of each message (64; at most 16M, a datagram 65519)\n"
	"  COUNT, --count N     messages (10)\n"
	"  --window N       messages under way at once (1)\n"
	"  --datagram       unreliable records instead of a stream\n"
	"  --timeout S      to connect, and without anything coming back (30)\n"
	"  --wait           keep trying to connect until the timeout\n"
	"  --json           one line of JSON\n"
	"A long run tells on stderr how far it is; Ctrl-C ends it with the figures until then.\n"
	"Exit code: 0 when everything came back unchanged (of datagrams: anything), else 1; 2 for "
	"a bad\n"
	"command line; 130 after Ctrl-C.\n";

enum {
	OPT_NODE = 256,
	OPT_ID,
	OPT_TO,
	OPT_SIZE,
	OPT_COUNT,
	OPT_WINDOW,
	OPT_DATAGRAM,
	OPT_TIMEOUT,
	OPT_WAIT,
	OPT_JSON
};

static const struct option long_options[] = {
	{"node", required_argument, NULL, OPT_NODE},
	{"id", required_argument, NULL, OPT_ID},
	{"to", required_argument, NULL, OPT_TO},
	{"size", required_argument, NULL, OPT_SIZE},
	{"count", required_argument, NULL, OPT_COUNT},
	{"window", required_argument, NULL, OPT_WINDOW},
	{"datagram", no_argument, NULL, OPT_DATAGRAM},
	{"timeout", required_argument, NULL, OPT_TIMEOUT},
	{"wait", no_argument, NULL, OPT_WAIT},
	{"json", no_argument, NULL, OPT_JSON},
	APPLINE_BASIC,
	{0},
};

static bool parse_number(const char *name, const char *text, uint64_t min, uint64_t max,
			 uint64_t *out)
{
	char *end;
	errno = 0;
	unsigned long long v = strtoull(text, &end, 10);
	unsigned shift = *end == 'K' || *end == 'k' ? 10 : *end == 'M' || *end == 'm' ? 20 : 0;
	if (shift)
		end++;
	if (*text < '0' || *text > '9' || *end || errno || v > max >> shift || v << shift < min) {
		fprintf(stderr, "echo: %s %s: wanted a number from %llu to %llu\n", name, text,
			(unsigned long long)min, (unsigned long long)max);
		return false;
	}
	*out = v << shift;
	return true;
}

/* 0: go on; 1: done, exit 0; -1: bad. */
static int take_option(struct appline *line, struct echo_options *o, int opt, char *arg)
{
	uint64_t v = 0;
	bool ok = true;

	switch (opt) {
	case OPT_NODE:
		o->node_addr = arg;
		break;
	case OPT_ID:
		o->app_id = arg;
		break;
	case OPT_TO:
		ok = *arg ? appline_peer(line, &o->to, "--to", arg)
			  : appline_complain(line, "--to: wanted an app id") == 0;
		break;
	case OPT_SIZE:
		ok = parse_number("--size", arg, 0, MAX_MESSAGE_BYTES, &v);
		o->size_bytes = (size_t)v;
		break;
	case OPT_COUNT:
		ok = parse_number("--count", arg, 1, COUNT_MAX, &o->count);
		break;
	case OPT_WINDOW:
		ok = parse_number("--window", arg, 1, WINDOW_MAX, &v);
		o->window = (unsigned)v;
		break;
	case OPT_DATAGRAM:
		o->datagram = true;
		break;
	case OPT_TIMEOUT:
		ok = parse_number("--timeout", arg, 1, 86400, &v);
		o->timeout_us = v * 1000000u;
		break;
	case OPT_WAIT:
		o->wait = true;
		break;
	case OPT_JSON:
		o->json = true;
		break;
	default: /* it has no configuration: of the common ones -d, --version and --help */
		return appline_take(line, opt, arg);
	}
	return ok ? 0 : -1;
}

static int check_options(const struct appline *line, const struct echo_options *o, int argc)
{
	if (optind < argc)
		return appline_complain(line, "too many arguments");
	if (o->datagram && o->size_bytes > MESHAPP_DATAGRAM_MAX_BYTES)
		return appline_complain(line, "--size: a datagram has at most 65519 bytes");
	if (o->datagram && o->window > 1 && o->size_bytes < ECHO_SEQ_BYTES)
		return appline_complain(line,
					"--size: datagrams with a --window need at least 8 bytes");
	return 0;
}

/* 0: run; 1: done; -1: bad. */
static int parse(struct appline *line, struct echo_options *o, bool *server, int argc, char **argv)
{
	int opt, verdict = 0;

	while (!verdict && (opt = getopt_long(argc, argv, "d", long_options, NULL)) != -1)
		verdict = take_option(line, o, opt, optarg);
	if (verdict)
		return verdict;
	const char *mode = optind < argc ? argv[optind++] : "";
	*server = strcmp(mode, "server") == 0;
	if (!*server && strcmp(mode, "client") != 0)
		return appline_complain(line, "wanted 'server' or 'client'");
	uint64_t size = o->size_bytes;
	if (!*server && optind < argc &&
	    !parse_number("SIZE", argv[optind++], 0, MAX_MESSAGE_BYTES, &size))
		return -1;
	o->size_bytes = (size_t)size;
	if (!*server && optind < argc &&
	    !parse_number("COUNT", argv[optind++], 1, COUNT_MAX, &o->count))
		return -1;
	return check_options(line, o, argc);
}

int main(int argc, char **argv)
{
	struct echo_options o = {
		.node_addr = DEFAULT_NODE,
		.to = {.app = "echo"},
		.size_bytes = 64,
		.count = 10,
		.window = 1,
		.timeout_us = 30000000u,
	};
	struct appline line = {.program = "echo", .usage = usage};
	bool server = false;
	int verdict = parse(&line, &o, &server, argc, argv);

	if (verdict)
		return verdict < 0 ? 2 : 0;
	if (line.debug)
		log_set_level(LOG_LEVEL_DEBUG);
	struct event_base *base = sodium_init() < 0 ? NULL : event_base_new();
	if (!base) {
		log_error("cannot start the event loop");
		return 1;
	}
	/* Messages come and go: their memory stays. */
	(void)mallopt(M_TRIM_THRESHOLD, HEAP_KEPT_BYTES);
	(void)mallopt(M_MMAP_THRESHOLD, HEAP_KEPT_BYTES);
	int code = server ? echo_server_run(base, &o) : echo_client_run(base, &o);
	event_base_free(base);
	return code;
}
