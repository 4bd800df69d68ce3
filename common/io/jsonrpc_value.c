/* Values in and out of JSON: strict parsing, parameters of calls, results. */
#include "io/jsonrpc.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * What json-c 0.16 takes even when strict: NaN and Infinity (JSON has no bare word with these
 * letters), bare control characters in strings, a NUL as the end of everything.
 */
static bool has_foreign(const char *p, const char *end)
{
	bool quoted = false;

	for (; p < end; p++) {
		if (!*p || (quoted && (unsigned char)*p < 0x20))
			return true;
		if (quoted && *p == '\\' && p + 1 < end)
			p++;
		else if (*p == '"')
			quoted = !quoted;
		else if (!quoted && strchr("NI/'", *p))
			return true;
	}
	return false;
}

struct json_object *rpc_parse(const void *data, size_t len, bool *is_null)
{
	const char *text = data, *end = text + len;
	struct json_tokener *t;
	struct json_object *o = NULL;
	bool ok = false;

	if (is_null)
		*is_null = false;
	while (end > text && end[-1] && strchr(" \t\r\n", end[-1]))
		end--;
	if (end == text || end - text > INT_MAX - 1 || has_foreign(text, end))
		return NULL;
	t = json_tokener_new_ex(RPC_DEPTH_MAX);
	if (!t)
		return NULL;
	json_tokener_set_flags(t, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	o = json_tokener_parse_ex(t, text, (int)(end - text));
	/* A number at the top is only complete once the text is known to end. */
	if (!o && json_tokener_get_error(t) == json_tokener_continue)
		o = json_tokener_parse_ex(t, "\n", 1);
	ok = json_tokener_get_error(t) == json_tokener_success;
	json_tokener_free(t);
	if (!ok) {
		json_object_put(o);
		return NULL;
	}
	if (is_null)
		*is_null = o == NULL;
	return o;
}

struct json_object *rpc_param_json(struct json_object *params, const char *name)
{
	struct json_object *v = NULL;

	json_object_object_get_ex(params, name, &v);
	return v;
}

const char *rpc_param_str(struct json_object *params, const char *name, const char *fallback)
{
	struct json_object *v = rpc_param_json(params, name);

	return v ? json_object_get_string(v) : fallback;
}

uint64_t rpc_param_u64(struct json_object *params, const char *name, uint64_t fallback)
{
	struct json_object *v = rpc_param_json(params, name);

	return v ? json_object_get_uint64(v) : fallback;
}

bool rpc_param_bool(struct json_object *params, const char *name, bool fallback)
{
	struct json_object *v = rpc_param_json(params, name);

	return v ? json_object_get_boolean(v) : fallback;
}

static size_t utf8_tail(uint8_t lead)
{
	if (lead < 0x80)
		return 0;
	if (lead >= 0xc2 && lead < 0xe0)
		return 1;
	if (lead >= 0xe0 && lead < 0xf0)
		return 2;
	if (lead >= 0xf0 && lead < 0xf5)
		return 3;
	return SIZE_MAX;
}

/* Bytes of the valid character at `p` (a NUL ends the text), or 0. */
static size_t utf8_len(const uint8_t *p)
{
	size_t tail = utf8_tail(p[0]);

	if (tail == SIZE_MAX)
		return 0;
	for (size_t i = 1; i <= tail; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	}
	/* Overlong forms, surrogates, beyond U+10FFFF. */
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] >= 0xa0) ||
	    (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] >= 0x90))
		return 0;
	return tail + 1;
}

struct json_object *rpc_text(const char *text)
{
	struct json_object *o;
	const uint8_t *p = (const uint8_t *)text;
	char *clean, *w;

	if (!text)
		return NULL;
	clean = w = malloc(strlen(text) * 3 + 1);
	if (!clean)
		return NULL;
	while (*p) {
		size_t n = utf8_len(p);
		memcpy(w, n ? (const char *)p : "\xef\xbf\xbd", n ? n : 3);
		w += n ? n : 3;
		p += n ? n : 1;
	}
	o = json_object_new_string_len(clean, (int)(w - clean));
	free(clean);
	return o;
}

void rpc_set(struct json_object *object, const char *key, struct json_object *value)
{
	if (!object || json_object_object_add(object, key, value) != 0)
		json_object_put(value);
}

void rpc_set_str(struct json_object *object, const char *key, const char *value)
{
	rpc_set(object, key, rpc_text(value));
}

void rpc_set_u64(struct json_object *object, const char *key, uint64_t value)
{
	rpc_set(object, key, json_object_new_uint64(value));
}

void rpc_set_i64(struct json_object *object, const char *key, int64_t value)
{
	rpc_set(object, key, json_object_new_int64(value));
}

void rpc_set_bool(struct json_object *object, const char *key, bool value)
{
	rpc_set(object, key, json_object_new_boolean(value));
}
