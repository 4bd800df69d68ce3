/* The command line of meshctl, and of one line at its prompt. */
#ifndef MESHCTL_ARGS_H
#define MESHCTL_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CTL_WORDS_MAX 66 /* a command and a route of 65 nodes */
#define CTL_HOST_MAX 255
#define CTL_ERROR_MAX 256
#define CTL_MANAGER_PORT 1234
#define CTL_GATEWAY_PORT 65533
#define CTL_SUBSCRIBER_PORT 65532

struct ctl_endpoint {
	char host[CTL_HOST_MAX + 1];
	uint16_t port; /* 0: the daemon's usual one */
	bool given;
};

struct ctl_args {
	struct ctl_endpoint rpc;  /* -p, --rpc: nodemanager */
	struct ctl_endpoint gate; /* -g: gatewayd or subscriberd */
	const char *token;
	uint64_t timeout_us; /* 0: as the command needs */
	bool json, help, version;
	/* invite; NULL: not given */
	const char *uses, *expires, *role;
	/* connect-gateway */
	uint16_t port;
	const char *method;
	const char *words[CTL_WORDS_MAX];
	size_t count;
};

/* `env_port` is MESH_RPC_PORT or NULL.  0, or -EINVAL with a line in `error`. */
int ctl_args_init(struct ctl_args *a, const char *env_port, char error[CTL_ERROR_MAX]);
/* Adds options and words (argv[0] is the first, not a program's name); the texts stay the caller's.
 * -EINVAL with a line in `error`. */
int ctl_args_parse(struct ctl_args *a, int argc, char *const *argv, char error[CTL_ERROR_MAX]);
/* "host", "host:port", ":port", "[v6]:port", "v6".  -EINVAL; then `e` is unchanged. */
int ctl_endpoint_parse(struct ctl_endpoint *e, const char *text);
/* "90s", "30m", "12h", "2d", or seconds without a letter: at least 1.  -EINVAL. */
int ctl_duration_parse(uint64_t *seconds, const char *text);
/* Splits a line at blanks, in place; "double quotes" keep blanks.  The number of words, or -E2BIG,
 * -EINVAL (a quote is open). */
int ctl_split(char *line, char **words, int max);
#endif
