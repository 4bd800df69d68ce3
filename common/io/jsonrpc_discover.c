/* rpc.discover: the tables of a server as an OpenRPC document (spec.open-rpc.org), made anew for
 * each call: nothing of it is kept in memory. */
#include <stdio.h>
#include <string.h>

#include "base/cstr.h"

#include "io/jsonrpc_int.h"

#define OPENRPC_VERSION "1.2.6"
#define REF_PREFIX "#/components/schemas/"

static struct json_object *span_text(struct rpc_span s)
{
	return json_object_new_string_len(s.p, (int)s.len);
}

static struct json_object *of_type(const char *type)
{
	struct json_object *o = json_object_new_object();

	rpc_set_str(o, "type", type);
	return o;
}

/* ---- types ---- */

/* The limit is in bytes: no text that it admits has more characters. */
static struct json_object *text_schema(const struct rpc_type *t)
{
	struct json_object *o = of_type("string");

	if (t->limited)
		rpc_set_u64(o, "maxLength", t->max);
	return o;
}

static struct json_object *uint_schema(const struct rpc_type *t)
{
	struct json_object *o = of_type("integer");

	rpc_set_u64(o, "minimum", t->min);
	if (t->limited)
		rpc_set_u64(o, "maximum", t->max);
	return o;
}

static struct json_object *id_schema(void)
{
	struct json_object *o = of_type("string");

	rpc_set_str(o, "pattern", "^[0-9a-f]{64}$");
	return o;
}

static struct json_object *words_schema(const struct rpc_type *t)
{
	struct json_object *o = of_type("string"), *list = json_object_new_array();
	struct rpc_span words = t->name, word;
	char text[64];

	while (rpc_word_next(&words, &word)) {
		cstr_print(text, sizeof text, "%.*s", (int)word.len, word.p);
		for (char *p = text; (p = strchr(p, '+'));)
			*p = ' ';
		json_object_array_add(list, json_object_new_string(text));
	}
	rpc_set(o, "enum", list);
	return o;
}

static struct json_object *ref_schema(const struct rpc_type *t)
{
	const struct rpc_type number = {.kind = RPC_KIND_UINT};
	struct json_object *o = json_object_new_object(), *list = json_object_new_array();

	json_object_array_add(list, uint_schema(&number));
	json_object_array_add(list, text_schema(t));
	rpc_set(o, "anyOf", list);
	return o;
}

static struct json_object *shape_ref(const struct rpc_type *t)
{
	struct json_object *o = json_object_new_object();
	char text[96];

	cstr_print(text, sizeof text, REF_PREFIX "%.*s", (int)t->name.len, t->name.p);
	rpc_set_str(o, "$ref", text);
	return o;
}

static struct json_object *base_schema(const struct rpc_type *t)
{
	switch (t->kind) {
	case RPC_KIND_TEXT:
		return text_schema(t);
	case RPC_KIND_UINT:
		return uint_schema(t);
	case RPC_KIND_NUMBER:
		return of_type("number");
	case RPC_KIND_BOOL:
		return of_type("boolean");
	case RPC_KIND_NULL:
		return of_type("null");
	case RPC_KIND_OBJECT:
		return of_type("object");
	case RPC_KIND_ID:
		return id_schema();
	case RPC_KIND_REF:
		return ref_schema(t);
	case RPC_KIND_WORDS:
		return words_schema(t);
	case RPC_KIND_SHAPE:
		return shape_ref(t);
	case RPC_KIND_ANY:
		return json_object_new_object();
	default: /* a slip in a table: nothing fits, so that a test finds it */
		return of_type("unknown");
	}
}

static struct json_object *alternative_schema(const struct rpc_type *t)
{
	struct json_object *o;

	if (!t->list)
		return base_schema(t);
	o = of_type("array");
	rpc_set(o, "items", base_schema(t));
	if (t->list_limited)
		rpc_set_u64(o, "maxItems", t->list_max);
	return o;
}

/* `or_null`: a parameter that may be missing may be null as well. */
static struct json_object *type_schema(struct rpc_span type, bool or_null)
{
	struct json_object *first = NULL, *list = NULL, *o;
	struct rpc_type t;

	while (rpc_type_next(&type, &t)) {
		or_null = or_null && t.kind != RPC_KIND_ANY && t.kind != RPC_KIND_NULL;
		o = alternative_schema(&t);
		if (!first && !type.len && !or_null)
			return o;
		if (!list)
			first = list = json_object_new_array();
		json_object_array_add(list, o);
	}
	if (or_null)
		json_object_array_add(list, of_type("null"));
	o = json_object_new_object();
	rpc_set(o, "anyOf", list);
	return o;
}

static struct json_object *fields_schema(const char *fields)
{
	struct json_object *o = of_type("object"), *properties = json_object_new_object();
	struct json_object *required = json_object_new_array(), *schema, *others = NULL;
	struct rpc_field f;
	char name[64];

	while (rpc_field_next(&fields, &f)) {
		schema = type_schema(f.type, false);
		if (f.text.len)
			rpc_set(schema, "description", span_text(f.text));
		cstr_print(name, sizeof name, "%.*s", (int)f.name.len, f.name.p);
		if (strcmp(name, "*") == 0) {
			others = schema;
			continue;
		}
		rpc_set(properties, name, schema);
		if (!f.optional)
			json_object_array_add(required, span_text(f.name));
	}
	rpc_set(o, "properties", properties);
	rpc_set(o, "required", required);
	rpc_set(o, "additionalProperties", others ? others : json_object_new_boolean(false));
	return o;
}

/* ---- methods ---- */

static struct json_object *params_json(const char *fields)
{
	struct json_object *list = json_object_new_array(), *o;
	struct rpc_field f;

	while (rpc_field_next(&fields, &f)) {
		o = json_object_new_object();
		rpc_set(o, "name", span_text(f.name));
		rpc_set(o, "description", span_text(f.text));
		rpc_set_bool(o, "required", !f.optional);
		rpc_set(o, "schema", type_schema(f.type, f.optional));
		json_object_array_add(list, o);
	}
	return list;
}

static struct json_object *result_json(const char *result)
{
	struct json_object *o = json_object_new_object();
	bool is_type = result && !strchr(result, '\n');

	rpc_set_str(o, "name", "result");
	rpc_set(o, "schema",
		is_type ? type_schema((struct rpc_span){result, strlen(result)}, false)
			: fields_schema(result));
	return o;
}

static void add_error(struct json_object *list, int code, const char *text)
{
	struct json_object *o = json_object_new_object();

	rpc_set_i64(o, "code", code);
	rpc_set_str(o, "message", text);
	json_object_array_add(list, o);
}

static struct json_object *errors_json(const struct rpc_method *m, bool needs_right)
{
	struct json_object *list = json_object_new_array();

	add_error(list, RPC_INVALID_PARAMS, "Invalid params");
	if (needs_right)
		add_error(list, RPC_DENIED, "it needs an authorised address or the token");
	if (m->fails)
		add_error(list, RPC_FAILED, m->fails);
	if (m->busy)
		add_error(list, RPC_BUSY, m->busy);
	return list;
}

static struct json_object *method_json(const struct rpc_server *s, const struct rpc_method *m)
{
	bool needs_right = rpc_needs_right(s, m);
	struct json_object *o = json_object_new_object();

	rpc_set_str(o, "name", m->name);
	rpc_set_str(o, "summary", m->text ? m->text : "");
	rpc_set_str(o, "paramStructure", "either");
	rpc_set(o, "params", params_json(m->params));
	rpc_set(o, "result", result_json(m->result));
	rpc_set(o, "errors", errors_json(m, needs_right));
	rpc_set_str(o, "x-access", needs_right ? "authorised" : "public");
	rpc_set_str(o, "x-unknown-params", m->access == RPC_PUBLIC ? "ignored" : "refused");
	return o;
}

static struct json_object *methods_json(const struct rpc_server *s)
{
	struct json_object *list = json_object_new_array();

	for (size_t t = 0; t < s->table_count; t++)
		for (size_t i = 0; i < s->tables[t].count; i++)
			json_object_array_add(list, method_json(s, &s->tables[t].methods[i]));
	json_object_array_add(list, method_json(s, &rpc_discover_method));
	return list;
}

static struct json_object *components_json(const struct rpc_server *s)
{
	struct json_object *o = json_object_new_object(), *schemas = json_object_new_object();

	for (size_t t = 0; t < s->shape_table_count; t++) {
		struct rpc_shape shape;
		char name[64];

		for (const char *at = s->shapes[t]; rpc_shape_next(&at, &shape);) {
			struct json_object *schema = fields_schema(shape.fields);
			cstr_print(name, sizeof name, "%.*s", (int)shape.name.len, shape.name.p);
			rpc_set(schema, "description",
				json_object_new_string_len(shape.text.p, (int)shape.text.len));
			rpc_set(schemas, name, schema);
		}
	}
	rpc_set(o, "schemas", schemas);
	return o;
}

static struct json_object *info_json(const struct rpc_about *about)
{
	struct json_object *o = json_object_new_object();

	rpc_set_str(o, "title", about ? about->title : "");
	rpc_set_str(o, "version", MESHNET_VERSION);
	rpc_set_str(o, "description", about ? about->text : "");
	return o;
}

static void discover(struct rpc_call *call, struct json_object *params, void *arg)
{
	const struct rpc_server *s = arg;
	struct json_object *o = json_object_new_object();

	(void)params;
	rpc_set_str(o, "openrpc", OPENRPC_VERSION);
	rpc_set(o, "info", info_json(s->about));
	rpc_set(o, "methods", methods_json(s));
	rpc_set(o, "components", components_json(s));
	rpc_reply(call, o);
}

const struct rpc_method rpc_discover_method = {
	.name = "rpc.discover",
	.handler = discover,
	.access = RPC_PUBLIC,
	.text = "This document: every method, what it takes and what it answers, as OpenRPC.",
	.result = "openrpc text the version of OpenRPC\n"
		  "info object title, version and description\n"
		  "methods object[]\n"
		  "components object the schemas that several methods share\n",
};
