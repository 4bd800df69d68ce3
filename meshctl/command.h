/* The commands: what each is called, what it asks of which daemon, how its answer looks. */
#ifndef MESHCTL_COMMAND_H
#define MESHCTL_COMMAND_H

#include <stdbool.h>
#include <stdio.h>

#include "meshctl/args.h"
#include "meshctl/view.h"

struct json_object;

enum ctl_daemon { CTL_MANAGER, CTL_GATEWAY, CTL_SUBSCRIBER };

struct ctl_command {
	const char *name, *usage, *help;
	enum ctl_daemon daemon;
	const char *method; /* NULL: the command is not one call (help, exit, status) */
	size_t min, max;    /* words after the name */
	/* Parameters from the words; NULL result with `error` set refuses them. */
	struct json_object *(*params)(const struct ctl_args *a, char error[CTL_ERROR_MAX]);
	const struct view *view; /* or */
	void (*show)(struct json_object *result, FILE *out);
	uint64_t timeout_us;
};

/* Underscores read as dashes.  NULL when there is none. */
const struct ctl_command *ctl_command_find(const char *name);
/* The command most like `name`, or NULL when none is near. */
const struct ctl_command *ctl_command_closest(const char *name);
/* All commands in the order of the help; NULL at the end. */
const struct ctl_command *ctl_command_at(size_t i);
void ctl_command_help(FILE *out);
#endif
