/* The commands: what each is called, what it asks of which daemon, how its answer looks. */
#ifndef MESHCTL_COMMAND_H
#define MESHCTL_COMMAND_H

#include <stdbool.h>
#include <stdio.h>

#include "meshctl/args.h"
#include "meshctl/run.h"
#include "meshctl/view.h"

struct json_object;

/* An option of one command. */
struct ctl_option {
	const char *name, *letter; /* "--paths"; "-k" or NULL */
	const char *value;	   /* what it takes, as the help calls it; NULL: a switch */
	const char *help;	   /* NULL: the usage says it all */
};

struct ctl_command {
	const char *name;
	/* Words that follow, for people and for completion: a capital letter or NODE is a node,
	 * GATEWAY a gateway, COMMAND a command, small letters (`a|b`) are meant as they stand, and
	 * `...` repeats the word before. */
	const char *usage, *help;
	enum ctl_daemon daemon;
	const char *method; /* NULL: `run` does it, or there is nothing to do (exit) */
	size_t min, max;    /* words after the name */
	/* Parameters from the words; NULL result with `error` set refuses them. */
	struct json_object *(*params)(const struct ctl_args *a, char error[CTL_ERROR_MAX]);
	const struct view *view; /* or */
	void (*show)(struct json_object *result, FILE *out);
	uint64_t timeout_us;
	const struct ctl_option *options; /* ends with a NULL name */
	/* Instead of method, params, view and show. */
	enum ctl_exit (*run)(const struct ctl_args *a, const struct ctl_command *c, FILE *out,
			     FILE *err);
	bool paged;  /* the list may be longer than one answer */
	bool watch;  /* --watch makes sense though there is no view */
	bool hidden; /* not in the help */
};

/* A whole number without sign; false: it is none. */
bool ctl_number(const char *text, uint64_t *out);
/* Underscores read as dashes.  NULL when there is none. */
const struct ctl_command *ctl_command_find(const char *name);
/* The command most like `name`, or NULL when none is near. */
const struct ctl_command *ctl_command_closest(const char *name);
/* All commands in the order of the help; NULL at the end. */
const struct ctl_command *ctl_command_at(size_t i);
void ctl_command_help(FILE *out);
/* Usage, help and options of one. */
void ctl_command_describe(const struct ctl_command *c, FILE *out);
#endif
