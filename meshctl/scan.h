/* `scan` and `graph`: the subscriber's walk through networks, and what it found. */
#ifndef MESHCTL_SCAN_H
#define MESHCTL_SCAN_H

#include "meshctl/command.h"

extern const struct ctl_option ctl_graph_options[];

/* Follows the scan to its end; a terminal on `err` shows how far it is. */
enum ctl_exit ctl_run_scan(const struct ctl_args *a, const struct ctl_command *c, FILE *out,
			   FILE *err);
/* Hosts and links, in as many calls as that takes; as a table, as JSON or for graphviz. */
enum ctl_exit ctl_run_graph(const struct ctl_args *a, const struct ctl_command *c, FILE *out,
			    FILE *err);
#endif
