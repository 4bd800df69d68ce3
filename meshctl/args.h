/* The command line of meshctl, and of one line at its prompt. */
#ifndef MESHCTL_ARGS_H
#define MESHCTL_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CTL_WORDS_MAX 66   /* a command and a route of 65 nodes */
#define CTL_OPTIONS_MAX 16 /* of one command, given at once */
#define CTL_HOST_MAX 255
#define CTL_ERROR_MAX 256
#define CTL_MANAGER_PORT 1234
#define CTL_GATEWAY_PORT 65533
#define CTL_SUBSCRIBER_PORT 65532

struct ctl_option;

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
	uint64_t watch_us; /* --watch: again this often; 0: once */
	/* Those of the command (command.h), in the order given. */
	struct {
		const struct ctl_option *option;
		const char *value; /* "" for a switch */
	} options[CTL_OPTIONS_MAX];
	size_t option_count;
	const char *words[CTL_WORDS_MAX];
	size_t count;
};

/* `env_port` is MESH_RPC_PORT or NULL.  0, or -EINVAL with a line in `error`. */
int ctl_args_init(struct ctl_args *a, const char *env_port, char error[CTL_ERROR_MAX]);
/* Adds options and words (argv[0] is the first, not a program's name); the texts stay the caller's.
 * -EINVAL with a line in `error`. */
int ctl_args_parse(struct ctl_args *a, int argc, char *const *argv, char error[CTL_ERROR_MAX]);
/* The value of an option of the command ("--paths"), the last one given; "" for a switch, NULL when
 * it was not given. */
const char *ctl_args_option(const struct ctl_args *a, const char *name);
/* The options that stand with every command, for completion: NULL at the end. */
const char *ctl_args_global(size_t i, bool *takes_value);
/* "host", "host:port", ":port", "[v6]:port", "v6".  -EINVAL; then `e` is unchanged. */
int ctl_endpoint_parse(struct ctl_endpoint *e, const char *text);
/* Splits a line at blanks, in place; "double quotes" keep blanks.  The number of words, or -E2BIG,
 * -EINVAL (a quote is open). */
int ctl_split(char *line, char **words, int max);
#endif
