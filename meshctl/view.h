/* How the results of the daemons look to people.  A missing or odd field is "-", never an error. */
#ifndef MESHCTL_VIEW_H
#define MESHCTL_VIEW_H

#include <stdio.h>

struct json_object;

enum view_format {
	VIEW_TEXT,
	VIEW_NUMBER,
	VIEW_ID, /* an id in its short form */
	VIEW_YES_NO,
	VIEW_CONNECTED, /* true: connected, false: away */
	VIEW_US,	/* microseconds, shown as ms */
	VIEW_MS,
	VIEW_PPM, /* parts per million, shown as % */
	VIEW_PERCENT,
	VIEW_BYTES,
	VIEW_LIMIT,   /* bytes; 0 is no limit: "-" */
	VIEW_BPS,     /* bits per second */
	VIEW_TIME,    /* seconds since 1970, shown as local time */
	VIEW_NONZERO, /* a number; 0 is "-" */
};

struct view_column {
	const char *title;
	const char *keys; /* the first of these that is there: "a_name|a" */
	enum view_format format;
};

struct view {
	const char *list; /* the array in the result */
	const char *empty;
	const struct view_column *columns; /* ends with a NULL title */
};

/* One value as text; `out` holds `size` bytes.  NULL gives "-". */
void view_value(struct json_object *value, enum view_format format, char *out, size_t size);
/* A table by the view; with a NULL `columns`, of every member of the first entry. */
void view_list(struct json_object *result, const struct view *view, FILE *out);
/* "key: value" lines; objects inside as "outer.inner". */
void view_object(struct json_object *result, FILE *out);
/* A new invite: its token, what it is good for, and whether anybody is asked for it. */
void view_invite(struct json_object *result, FILE *out);
/* "a -> b -> c" and what else the route has. */
void view_route(struct json_object *result, FILE *out);
#endif
