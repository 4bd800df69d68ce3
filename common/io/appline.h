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

struct json_object;

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

/* What an app does with one of its own options; the result as of appline_take. */
typedef int appline_option(void *arg, int opt, char *value);
/* The whole command line, from its start (also when it is read anew).  0; 1: done; -1: bad, said.
 */
int appline_read(struct appline *l, const struct option *options, appline_option *take, void *arg,
		 int argc, char **argv);
/* `opt` of getopt_long.  0: taken; 1: --version or --help, said; -1: not ours, or bad (said). */
int appline_take(struct appline *l, int opt, const char *arg);
/* Says `what` on stderr, and where help is.  -1. */
int appline_complain(const struct appline *l, const char *what);
/* The configuration, to be freed; 0, or -1: said. */
int appline_load(const struct appline *l, struct config **cfg);
/* A text of 1 to `max` characters for *out; false: bad, said.  `what` names the option. */
bool appline_text(const struct appline *l, const char **out, const char *what, const char *text,
		  size_t max);
/* A line of status on stdout, as JSON or for people; consumes `status`. */
void appline_say(bool json, struct json_object *status);
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
