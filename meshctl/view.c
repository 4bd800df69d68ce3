#include "meshctl/view.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <math.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/id.h"
#include "meshctl/table.h"

#define DEPTH_MAX 4

static void scaled(double v, const char *unit, char *out, size_t size)
{
	static const char *const prefixes[] = {"", "k", "M", "G", "T", "P"};
	size_t i = 0;

	for (; v >= 1000 && i < 5; i++)
		v /= 1000;
	snprintf(out, size, i ? "%.1f %s%s" : "%.0f %s%s", v, prefixes[i], unit);
}

/* The elements of an array, as far as they fit. */
static void joined(struct json_object *list, char *out, size_t size)
{
	size_t len = 0;

	*out = '\0';
	for (size_t i = 0; i < json_object_array_length(list) && len < size; i++) {
		struct json_object *v = json_object_array_get_idx(list, i);
		int n = snprintf(out + len, size - len, "%s%s", i ? ", " : "",
				 v ? json_object_get_string(v) : "-");
		len += n > 0 ? (size_t)n : 0;
	}
}

static void plain(struct json_object *value, char *out, size_t size)
{
	double d = json_object_get_double(value);

	if (json_object_is_type(value, json_type_array))
		joined(value, out, size);
	else if (json_object_is_type(value, json_type_boolean))
		snprintf(out, size, "%s", json_object_get_boolean(value) ? "yes" : "no");
	else if (json_object_is_type(value, json_type_double))
		snprintf(out, size, fabs(d) < 1e6 ? "%.2f" : "%.0f", d);
	else
		snprintf(out, size, "%s", json_object_get_string(value));
}

static bool is_number(struct json_object *v)
{
	return json_object_is_type(v, json_type_int) || json_object_is_type(v, json_type_double);
}

static void when(int64_t seconds, char *out, size_t size)
{
	time_t t = (time_t)seconds;
	struct tm tm;

	if (seconds <= 0 || !localtime_r(&t, &tm) ||
	    strftime(out, size, "%Y-%m-%d %H:%M:%S", &tm) == 0)
		snprintf(out, size, "-");
}

static void number(struct json_object *value, enum view_format format, char *out, size_t size)
{
	double v = json_object_get_double(value);

	/* Nothing has been measured yet, or there is no limit. */
	if (v == 0 && (format == VIEW_US || format == VIEW_MS || format == VIEW_BPS ||
		       format == VIEW_LIMIT)) {
		snprintf(out, size, "-");
		return;
	}
	switch (format) {
	case VIEW_US:
		snprintf(out, size, "%.2f ms", v / 1000);
		break;
	case VIEW_MS:
		snprintf(out, size, "%.2f ms", v);
		break;
	case VIEW_PPM:
		snprintf(out, size, "%.2f %%", v / 10000);
		break;
	case VIEW_PERCENT:
		snprintf(out, size, "%.2f %%", v);
		break;
	case VIEW_BYTES:
	case VIEW_LIMIT:
		scaled(v, "B", out, size);
		break;
	case VIEW_BPS:
		scaled(v, "bit/s", out, size);
		break;
	case VIEW_TIME:
		when(json_object_get_int64(value), out, size);
		break;
	case VIEW_NONZERO:
		snprintf(out, size, v != 0 ? "%" PRIu64 : "-", json_object_get_uint64(value));
		break;
	default:
		plain(value, out, size);
	}
}

void view_value(struct json_object *value, enum view_format format, char *out, size_t size)
{
	if (!value)
		snprintf(out, size, "-");
	else if (format == VIEW_CONNECTED && json_object_is_type(value, json_type_boolean))
		snprintf(out, size, "%s", json_object_get_boolean(value) ? "connected" : "away");
	else if (format == VIEW_ID && json_object_get_string_len(value) == MESH_ID_TEXT - 1)
		snprintf(out, size, "%.8s", json_object_get_string(value));
	else if (is_number(value))
		number(value, format, out, size);
	else
		plain(value, out, size);
	if (!*out)
		snprintf(out, size, "-");
}

/* Members of objects by "a|b": the first that is there and neither null nor "". */
static struct json_object *member(struct json_object *o, const char *keys)
{
	struct json_object *v = NULL;
	char key[64];

	while (json_object_is_type(o, json_type_object) && *keys) {
		size_t len = strcspn(keys, "|");
		snprintf(key, sizeof key, "%.*s", (int)len, keys);
		if (json_object_object_get_ex(o, key, &v) && v &&
		    !(json_object_is_type(v, json_type_string) && !*json_object_get_string(v)))
			return v;
		keys += len + (keys[len] == '|');
	}
	return NULL;
}

static void list_known(struct json_object *list, const struct view_column *columns, struct table *t)
{
	char text[TABLE_CELL_MAX];

	for (const struct view_column *c = columns; c->title; c++)
		table_column(t, c->title,
			     c->format != VIEW_TEXT && c->format != VIEW_ID &&
				     c->format != VIEW_YES_NO && c->format != VIEW_TIME &&
				     c->format != VIEW_CONNECTED);
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *row = json_object_array_get_idx(list, i);
		table_row(t);
		for (size_t c = 0; columns[c].title; c++) {
			view_value(member(row, columns[c].keys), columns[c].format, text,
				   sizeof text);
			table_cell(t, c, text);
		}
	}
}

static void list_any(struct json_object *list, struct table *t)
{
	struct json_object *first = json_object_array_get_idx(list, 0);
	const char *keys[TABLE_COLUMNS_MAX];
	size_t count = 0;
	char text[TABLE_CELL_MAX];

	if (json_object_is_type(first, json_type_object)) {
		json_object_object_foreach(first, key, value)
		{
			if (count == TABLE_COLUMNS_MAX)
				break;
			table_column(t, key, is_number(value));
			keys[count++] = key;
		}
	} else {
		table_column(t, "value", false);
	}
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *row = json_object_array_get_idx(list, i);
		table_row(t);
		for (size_t c = 0; c < (count ? count : 1); c++) {
			view_value(count ? member(row, keys[c]) : row, VIEW_TEXT, text,
				   sizeof text);
			table_cell(t, c, text);
		}
	}
}

void view_list(struct json_object *result, const struct view *view, FILE *out)
{
	struct json_object *list =
		json_object_is_type(result, json_type_array) ? result : member(result, view->list);
	struct table t;

	if (!json_object_is_type(list, json_type_array)) {
		view_object(result, out);
		return;
	}
	if (json_object_array_length(list) == 0) {
		fprintf(out, "%s\n", view->empty);
		return;
	}
	table_init(&t);
	if (view->columns)
		list_known(list, view->columns, &t);
	else
		list_any(list, &t);
	table_print(&t, out);
	table_free(&t);
}

static void line_print(const char *key, struct json_object *value, FILE *out)
{
	char text[TABLE_CELL_MAX], safe[TABLE_CELL_MAX];

	view_value(value, VIEW_TEXT, text, sizeof text);
	bytes_to_cstr(bytes_str(text), safe, sizeof safe);
	fprintf(out, "%s: %s\n", key, safe);
}

static void object_lines(struct json_object *o, const char *prefix, int depth, FILE *out)
{
	json_object_object_foreach(o, name, value)
	{
		char key[200], safe[200];
		snprintf(key, sizeof key, "%s%s%s", prefix, *prefix ? "." : "", name);
		bytes_to_cstr(bytes_str(key), safe, sizeof safe);
		if (json_object_is_type(value, json_type_object) && depth < DEPTH_MAX)
			object_lines(value, safe, depth + 1, out);
		else
			line_print(safe, value, out);
	}
}

void view_object(struct json_object *result, FILE *out)
{
	if (json_object_is_type(result, json_type_object) && json_object_object_length(result))
		object_lines(result, "", 0, out);
	else if (json_object_is_type(result, json_type_object))
		fprintf(out, "done\n");
	else if (result)
		line_print("result", result, out);
	else
		fprintf(out, "done\n");
}

void view_invite(struct json_object *result, FILE *out)
{
	static const struct view_column lines[] = {{"token", "token", VIEW_TEXT},
						   {"role", "role", VIEW_TEXT},
						   {"uses", "uses", VIEW_NUMBER},
						   {"expires", "expires", VIEW_TIME},
						   {"number", "number", VIEW_NUMBER}};
	struct json_object *admission = member(result, "admission");
	char text[TABLE_CELL_MAX], safe[TABLE_CELL_MAX];

	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
		view_value(member(result, lines[i].keys), lines[i].format, text, sizeof text);
		bytes_to_cstr(bytes_str(text), safe, sizeof safe);
		fprintf(out, "%s: %s\n", lines[i].title, safe);
	}
	if (admission && strcmp(json_object_get_string(admission), "token") != 0)
		line_print("note: nodes are not asked for tokens now; admission is", admission,
			   out);
}

/* "a -> b -> c", without an end of line. */
static void nodes_print(struct json_object *nodes, FILE *out)
{
	char text[TABLE_CELL_MAX], safe[TABLE_CELL_MAX];

	for (size_t i = 0; i < json_object_array_length(nodes); i++) {
		struct json_object *n = json_object_array_get_idx(nodes, i);
		if (json_object_is_type(n, json_type_object))
			n = member(n, "name|short|id");
		view_value(n, VIEW_ID, text, sizeof text);
		bytes_to_cstr(bytes_str(text), safe, sizeof safe);
		fprintf(out, "%s%s", i ? " -> " : "", safe);
	}
}

/* One line a path. */
static void paths_print(struct json_object *paths, FILE *out)
{
	char cost[TABLE_CELL_MAX];

	for (size_t i = 0; i < json_object_array_length(paths); i++) {
		struct json_object *path = json_object_array_get_idx(paths, i);
		struct json_object *nodes = member(path, "nodes");
		view_value(member(path, "cost"), VIEW_NUMBER, cost, sizeof cost);
		fprintf(out, "path %zu (cost %s): ", i + 1, cost);
		if (json_object_is_type(nodes, json_type_array))
			nodes_print(nodes, out);
		fputc('\n', out);
	}
}

void view_route(struct json_object *result, FILE *out)
{
	struct json_object *nodes = member(result, "nodes");

	if (!json_object_is_type(nodes, json_type_array)) {
		view_object(result, out);
		return;
	}
	nodes_print(nodes, out);
	fputc('\n', out);
	json_object_object_foreach(result, key, value)
	{
		if (strcmp(key, "paths") == 0 && json_object_is_type(value, json_type_array))
			paths_print(value, out);
		else if (strcmp(key, "nodes") != 0)
			line_print(key, value, out);
	}
}
