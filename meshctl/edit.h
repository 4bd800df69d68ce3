/* A line that is edited: history, and completion on Tab (libedit). */
#ifndef MESHCTL_EDIT_H
#define MESHCTL_EDIT_H

#include "meshctl/run.h"

struct edit;

/* NULL when the terminal cannot do it; then plain lines are read.  `args` is what completion asks
 * the daemons with, and outlives it. */
struct edit *edit_open(const struct ctl_args *args, FILE *in, FILE *out, FILE *err);
/* The next line without its line feed, valid until the next call; NULL at the end (Ctrl-D). */
const char *edit_line(struct edit *e);
/* Remembers it, here and in the history file. */
void edit_remember(struct edit *e, const char *line);
void edit_close(struct edit *e);
#endif
