/*
 * What the command lines of our apps have in common: -f -o --check -d --version --help, and the
 * name of a peer.  An app puts APPLINE_LONG among its long options, APPLINE_SHORT before its short
 * ones, APPLINE_USAGE into its help, and gives what it does not know itself to appline_take.
 */
#ifndef IO_APPLINE_H
#define IO_APPLINE_H

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/id.h"
#include "base/limits.h"
#include "io/config.h"

#define APPLINE_OPTIONS_MAX 64u

enum { APPLINE_CHECK = 1024, APPLINE_VERSION, APPLINE_HELP };
/* clang-format off */
#define APPLINE_BASIC                                                                              \
	{"debug", no_argument, NULL, 'd'}, {"version", no_argument, NULL, APPLINE_VERSION},        \
	{"help", no_argument, NULL, APPLINE_HELP}
#define APPLINE_LONG {"check", no_argument, NULL, APPLINE_CHECK}, APPLINE_BASIC
/* clang-format on */
#define APPLINE_SHORT "df:o:"
#define APPLINE_USAGE(section)                                                                     \
	"  -f FILE              configuration, section [" section "] (" CONFIG_DEFAULT_PATH ")\n"  \
	"  -o section.key=value wins over the file (repeatable)\n"                                 \
	"  --check              validate the configuration and exit\n"

struct appline {
	const char *program, *usage;
	bool check, debug;
	const char *path;
	const char *options[APPLINE_OPTIONS_MAX];
	size_t option_count;
};

/* `opt` of getopt_long.  0: taken; 1: --version or --help, said; -1: not ours, or bad (said). */
int appline_take(struct appline *l, int opt, const char *arg);
/* Says `what` on stderr, and where help is.  -1. */
int appline_complain(const struct appline *l, const char *what);
/* The configuration, to be freed; 0, or -1: said. */
int appline_load(const struct appline *l, struct config **cfg);
/* The log as the configuration and -d want it. */
void appline_log(const struct appline *l, const struct config *cfg);
/* True with --check, after it has said that all is well: end with 0. */
bool appline_ends(const struct appline *l);

/* APPID[@NODEID]: an app, at any node or at one. */
struct appline_peer {
	char app[NAME_MAX_BYTES + 1];
	struct mesh_id node;
	bool has_node;
};
/* `what` names the option.  The empty text gives an empty name.  False: bad, said. */
bool appline_peer(const struct appline *l, struct appline_peer *out, const char *what,
		  const char *text);
#endif
