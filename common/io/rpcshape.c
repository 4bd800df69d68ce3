#include "io/rpcshape.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cstr.h"
#include "base/id.h"

/* ---- reading the notation; its texts are ours, and tests read all of them ---- */

bool rpc_span_is(struct rpc_span s, const char *text)
{
	return strlen(text) == s.len && memcmp(text, s.p, s.len) == 0;
}

static struct rpc_span take(const char **at, const char *stop)
{
	struct rpc_span s = {*at, strcspn(*at, stop)};

	*at += s.len;
	*at += **at == ' ';
	return s;
}

bool rpc_field_next(const char **at, struct rpc_field *out)
{
	if (!*at || !**at || **at == '\n')
		return false;
	out->name = take(at, " \n");
	out->type = take(at, " \n");
	out->text = take(at, "\n");
	*at += **at == '\n';
	out->optional = out->name.len && out->name.p[out->name.len - 1] == '?';
	out->name.len -= out->optional;
	return true;
}

bool rpc_shape_next(const char **at, struct rpc_shape *out)
{
	const char *end;

	if (!**at)
		return false;
	out->name = take(at, " \n");
	out->text = take(at, "\n");
	end = strstr(*at, "\n\n");
	*at += **at == '\n';
	out->fields = *at;
	*at = end ? end + 2 : *at + strlen(*at);
	return true;
}

static const char *number_read(const char *p, uint64_t *out)
{
	char *end;

	*out = strtoull(p, &end, 10);
	while (isalpha((unsigned char)*end)) /* 64u */
		end++;
	return end;
}

/* "(MAX)" or "(MIN..MAX)". */
static const char *limits_read(const char *p, struct rpc_type *out)
{
	if (*p != '(')
		return p;
	out->limited = true;
	p = number_read(p + 1, &out->max);
	if (strncmp(p, "..", 2) == 0) {
		out->min = out->max;
		p = number_read(p + 2, &out->max);
	}
	return p + (*p == ')');
}

static enum rpc_kind kind_of(struct rpc_span word)
{
	static const char names[][7] = {
		[RPC_KIND_TEXT] = "text", [RPC_KIND_UINT] = "uint", [RPC_KIND_NUMBER] = "number",
		[RPC_KIND_BOOL] = "bool", [RPC_KIND_NULL] = "null", [RPC_KIND_OBJECT] = "object",
		[RPC_KIND_ANY] = "any",	  [RPC_KIND_ID] = "id",	    [RPC_KIND_REF] = "ref",
	};

	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (rpc_span_is(word, names[i]))
			return (enum rpc_kind)i;
	return RPC_KIND_UNKNOWN;
}

bool rpc_type_next(struct rpc_span *rest, struct rpc_type *out)
{
	const char *p = rest->p, *end = rest->p + rest->len, *from = p;

	if (!rest->len)
		return false;
	*out = (struct rpc_type){.kind = RPC_KIND_UNKNOWN};
	while (p < end && !strchr("|[(", *p))
		p++;
	out->name = (struct rpc_span){from, (size_t)(p - from)};
	if (*from == '=' || *from == '@') {
		out->kind = *from == '=' ? RPC_KIND_WORDS : RPC_KIND_SHAPE;
		out->name.p++;
		out->name.len--;
	} else {
		out->kind = kind_of(out->name);
	}
	if (p < end)
		p = limits_read(p, out);
	if (p < end && *p == '[') {
		out->list = true;
		out->list_limited = p[1] != ']';
		p = out->list_limited ? number_read(p + 1, &out->list_max) : p + 1;
		p += *p == ']';
	}
	if (p < end && *p != '|') /* a slip in a table: rpc.discover and its test see it */
		out->kind = RPC_KIND_UNKNOWN;
	p += p < end;
	*rest = (struct rpc_span){p, (size_t)(end - p)};
	return true;
}

bool rpc_word_next(struct rpc_span *rest, struct rpc_span *out)
{
	size_t len = 0;

	if (!rest->len)
		return false;
	while (len < rest->len && rest->p[len] != ',')
		len++;
	*out = (struct rpc_span){rest->p, len};
	len += len < rest->len;
	rest->p += len;
	rest->len -= len;
	return true;
}

/* ---- checking ---- */

struct check {
	rpc_shape_find *find;
	const void *arg;
	char *why;
	char path[96]; /* of the value at hand */
};

enum match { MATCH, OTHER_KIND, WRONG /* why says it */ };

static enum match wrong(struct check *c, const char *text)
{
	cstr_print(c->why, RPC_SHAPE_WHY_MAX, "%s %.100s", c->path, text);
	return WRONG;
}

static enum match match_text(struct check *c, const struct rpc_type *t, struct json_object *v)
{
	char text[64];

	if (!json_object_is_type(v, json_type_string))
		return OTHER_KIND;
	if (strlen(json_object_get_string(v)) != (size_t)json_object_get_string_len(v))
		return wrong(c, "must be text without NUL");
	if (!t->limited || (size_t)json_object_get_string_len(v) <= t->max)
		return MATCH;
	cstr_print(text, sizeof text, "is longer than %" PRIu64 " bytes", t->max);
	return wrong(c, text);
}

static enum match match_id(struct json_object *v)
{
	struct mesh_id id;

	return json_object_is_type(v, json_type_string) &&
			       json_object_get_string_len(v) == MESH_ID_TEXT - 1 &&
			       mesh_id_parse(&id, json_object_get_string(v)) == 0
		       ? MATCH
		       : OTHER_KIND;
}

static enum match match_uint(struct check *c, const struct rpc_type *t, struct json_object *v)
{
	uint64_t n = json_object_get_uint64(v);
	char text[64];

	if (!json_object_is_type(v, json_type_int))
		return OTHER_KIND;
	if (json_object_get_int64(v) >= 0 && (!t->limited || (n >= t->min && n <= t->max)))
		return MATCH;
	if (!t->limited)
		return wrong(c, "must not be negative");
	cstr_print(text, sizeof text, "must be %" PRIu64 " to %" PRIu64, t->min, t->max);
	return wrong(c, text);
}

/* The words as people read them. */
static void words_text(struct rpc_span words, char *out, size_t size)
{
	struct rpc_span word;
	size_t len = 0;

	while (rpc_word_next(&words, &word) && len < size)
		len += (size_t)snprintf(out + len, size - len, "%s%.*s",
					!len	    ? ""
					: words.len ? ", "
						    : " or ",
					(int)word.len, word.p);
}

static enum match match_words(struct check *c, const struct rpc_type *t, struct json_object *v)
{
	struct rpc_span words = t->name, word;
	char text[128], all[96];

	if (!json_object_is_type(v, json_type_string))
		return OTHER_KIND;
	while (rpc_word_next(&words, &word))
		if (rpc_span_is(word, json_object_get_string(v)))
			return MATCH;
	words_text(t->name, all, sizeof all);
	cstr_print(text, sizeof text, "must be %s", all);
	return wrong(c, text);
}

static bool check_fields(struct check *c, struct json_object *object, const char *fields,
			 bool strict);

static enum match match_one(struct check *c, const struct rpc_type *t, struct json_object *v)
{
	struct rpc_shape shape;

	switch (t->kind) {
	case RPC_KIND_TEXT:
		return match_text(c, t, v);
	case RPC_KIND_UINT:
		return match_uint(c, t, v);
	case RPC_KIND_REF:
		if (json_object_is_type(v, json_type_int))
			return json_object_get_int64(v) >= 0 ? MATCH : OTHER_KIND;
		return match_text(c, t, v);
	case RPC_KIND_ID:
		return match_id(v);
	case RPC_KIND_WORDS:
		return match_words(c, t, v);
	case RPC_KIND_NUMBER:
		return json_object_is_type(v, json_type_int) ||
				       json_object_is_type(v, json_type_double)
			       ? MATCH
			       : OTHER_KIND;
	case RPC_KIND_BOOL:
		return json_object_is_type(v, json_type_boolean) ? MATCH : OTHER_KIND;
	case RPC_KIND_OBJECT:
		return json_object_is_type(v, json_type_object) ? MATCH : OTHER_KIND;
	case RPC_KIND_SHAPE:
		if (!json_object_is_type(v, json_type_object))
			return OTHER_KIND;
		return !c->find(c->arg, t->name, &shape) || check_fields(c, v, shape.fields, true)
			       ? MATCH
			       : WRONG;
	case RPC_KIND_ANY:
		return MATCH;
	default:
		return OTHER_KIND;
	}
}

static enum match match_list(struct check *c, const struct rpc_type *t, struct json_object *v)
{
	size_t n = json_object_is_type(v, json_type_array) ? json_object_array_length(v) : 0;
	size_t path_len = strlen(c->path);
	enum match m = MATCH;
	char text[64];

	if (!json_object_is_type(v, json_type_array))
		return OTHER_KIND;
	if (t->list_limited && n > t->list_max) {
		cstr_print(text, sizeof text, "has more than %" PRIu64 " entries", t->list_max);
		return wrong(c, text);
	}
	for (size_t i = 0; i < n && m == MATCH; i++) {
		cstr_print(c->path + path_len, sizeof c->path - path_len, "[%zu]", i);
		m = match_one(c, t, json_object_array_get_idx(v, i));
		if (m == OTHER_KIND)
			m = wrong(c, t->kind == RPC_KIND_REF ? "must be a number, an id or a name"
							     : "is of the wrong type");
	}
	if (m == MATCH)
		c->path[path_len] = '\0';
	return m;
}

static const char *kind_text(const struct rpc_type *t)
{
	static const char texts[][40] = {
		[RPC_KIND_TEXT] = "a string",
		[RPC_KIND_UINT] = "a whole number",
		[RPC_KIND_NUMBER] = "a number",
		[RPC_KIND_BOOL] = "true or false",
		[RPC_KIND_NULL] = "null",
		[RPC_KIND_OBJECT] = "an object",
		[RPC_KIND_ANY] = "anything",
		[RPC_KIND_ID] = "64 hex digits",
		[RPC_KIND_REF] = "a number of the list, an id or a name",
		[RPC_KIND_WORDS] = "a word",
		[RPC_KIND_SHAPE] = "an object",
		[RPC_KIND_UNKNOWN] = "something else",
	};

	return t->list ? "an array" : texts[t->kind];
}

static bool check_value(struct check *c, struct rpc_span type, struct json_object *v)
{
	char kinds[128] = "";
	size_t len = 0;
	struct rpc_type t;

	while (rpc_type_next(&type, &t)) {
		enum match m = t.list ? match_list(c, &t, v) : match_one(c, &t, v);
		if (m != OTHER_KIND)
			return m == MATCH;
		if (len < sizeof kinds)
			len += (size_t)snprintf(kinds + len, sizeof kinds - len, "%s%s",
						len ? ", or " : "", kind_text(&t));
	}
	cstr_print(c->why, RPC_SHAPE_WHY_MAX, "%s must be %.90s", c->path, kinds);
	return false;
}

/* The field of a member; the one called * stands for all that have none of their own. */
static bool field_find(const char *fields, const char *name, struct rpc_field *out)
{
	struct rpc_field f;
	bool found = false;

	while (rpc_field_next(&fields, &f)) {
		if (rpc_span_is(f.name, name)) {
			*out = f;
			return true;
		}
		if (rpc_span_is(f.name, "*")) {
			*out = f;
			found = true;
		}
	}
	return found;
}

static bool check_fields(struct check *c, struct json_object *object, const char *fields,
			 bool strict)
{
	const char *at = fields;
	size_t path_len = strlen(c->path);
	char *path = c->path + path_len;
	size_t room = sizeof c->path - path_len;
	struct rpc_field f;
	struct json_object *v;
	char name[64];

	while (rpc_field_next(&at, &f)) {
		cstr_print(name, sizeof name, "%.*s", (int)f.name.len, f.name.p);
		if (f.optional || rpc_span_is(f.name, "*") ||
		    (json_object_object_get_ex(object, name, &v) && v))
			continue;
		cstr_print(path, room, "%s%s", path_len ? "." : "", name);
		return wrong(c, "is missing") == MATCH;
	}
	json_object_object_foreach(object, key, value)
	{
		cstr_print(path, room, "%s%.48s", path_len ? "." : "", key);
		if (!field_find(fields, key, &f)) {
			if (strict)
				return wrong(c, "is not known here") == MATCH;
		} else if (value && !check_value(c, f.type, value)) {
			return false;
		}
	}
	*path = '\0';
	return true;
}

bool rpc_shape_check(struct json_object *params, const char *fields, bool strict,
		     rpc_shape_find *find, const void *arg, char why[RPC_SHAPE_WHY_MAX])
{
	struct check c = {.find = find, .arg = arg, .why = why};

	return check_fields(&c, params, fields, strict);
}
