#include "scan/text.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cstr.h"
#include "io/jsonrpc.h"

#define JSON_DEPTH_MAX 64

/* ---- lines and words ---- */

bool text_line(struct bytes *rest, struct bytes *line)
{
	const uint8_t *end;

	if (!rest->len)
		return false;
	end = memchr(rest->data, '\n', rest->len);
	*line = bytes_of(rest->data, end ? (size_t)(end - rest->data) : rest->len);
	size_t used = line->len + (end != NULL);
	*rest = bytes_of(rest->data + used, rest->len - used);
	if (line->len && line->data[line->len - 1] == '\r')
		line->len--;
	return true;
}

static bool blank(uint8_t c)
{
	return c == ' ' || c == '\t';
}

bool text_word(struct bytes *line, char out[TEXT_WORD_MAX])
{
	size_t from = 0, to;

	while (from < line->len && blank(line->data[from]))
		from++;
	for (to = from; to < line->len && !blank(line->data[to]);)
		to++;
	bytes_to_cstr(bytes_of(line->data + from, to - from), out, TEXT_WORD_MAX);
	*line = bytes_of(line->data + to, line->len - to);
	return to > from;
}

bool text_after(struct bytes line, const char *key, char out[TEXT_WORD_MAX])
{
	while (text_word(&line, out))
		if (strcmp(out, key) == 0)
			return text_word(&line, out);
	return false;
}

bool text_begins(struct bytes line, const char *with)
{
	size_t n = strlen(with);

	return line.len >= n && memcmp(line.data, with, n) == 0;
}

uint32_t text_number(const char *text, uint32_t otherwise)
{
	char *end;
	unsigned long long v;

	if (*text < '0' || *text > '9')
		return otherwise;
	v = strtoull(text, &end, 10);
	return *end || v > UINT32_MAX ? otherwise : (uint32_t)v;
}

/* ---- JSON ---- */

size_t text_json_span(const uint8_t *data, size_t len)
{
	unsigned depth = 0;
	bool quoted = false;

	for (size_t i = 0; i < len; i++) {
		uint8_t c = data[i];
		if (quoted && c == '\\')
			i++;
		else if (c == '"')
			quoted = !quoted;
		else if (!quoted && (c == '{' || c == '['))
			depth++;
		else if (!quoted && depth && (c == '}' || c == ']') && --depth == 0)
			return i + 1;
		if (depth > JSON_DEPTH_MAX)
			return 0;
	}
	return 0;
}

struct json_object *text_json(struct bytes *rest, bool *bad)
{
	struct json_object *o;
	size_t span;

	while (rest->len && (blank(*rest->data) || strchr("\r\n", *rest->data)))
		*rest = bytes_of(rest->data + 1, rest->len - 1);
	if (!rest->len)
		return NULL;
	span = text_json_span(rest->data, rest->len);
	o = span ? rpc_parse(rest->data, span, NULL) : NULL;
	*rest = bytes_of(rest->data + span, rest->len - span);
	if (!o)
		*bad = true;
	return o;
}

struct json_object *text_json_get(struct json_object *o, const char *key, int type)
{
	struct json_object *v = NULL;

	if (!json_object_is_type(o, json_type_object) || !json_object_object_get_ex(o, key, &v) ||
	    !json_object_is_type(v, (json_type)type))
		return NULL;
	return v;
}

const char *text_json_str(struct json_object *o, const char *key)
{
	struct json_object *v = text_json_get(o, key, json_type_string);

	return v ? json_object_get_string(v) : "";
}

uint32_t text_json_u32(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;
	double d;

	if (!json_object_is_type(o, json_type_object) || !json_object_object_get_ex(o, key, &v) ||
	    !(json_object_is_type(v, json_type_int) || json_object_is_type(v, json_type_double)))
		return 0;
	d = json_object_get_double(v) + 0.5;
	return d >= 0 && d < (double)UINT32_MAX ? (uint32_t)d : d > 0 ? UINT32_MAX : 0;
}

/* ---- hosts and links ---- */

bool scan_addr_usable(const struct net_addr *a)
{
	static const uint8_t zero[16];
	bool v4 = a->family == 4;

	if (!a->family || memcmp(a->ip, zero, sizeof zero) == 0 || net_addr_is_loopback(a))
		return false;
	return v4 ? a->ip[0] != 0 && a->ip[0] < 224 : a->ip[0] != 0xff;
}

bool scan_host_of(struct net_host *out, const char *address, const char *how)
{
	struct net_prefix p;

	*out = (struct net_host){0};
	if (net_prefix_parse(&p, address) != 0 || p.bits != (p.addr.family == 4 ? 32 : 128) ||
	    !scan_addr_usable(&p.addr))
		return false;
	out->addr = p.addr;
	cstr_copy(out->how, sizeof out->how, how);
	return true;
}

bool scan_host_of_route(struct net_host *out, const struct net_prefix *dst, const char *how)
{
	unsigned all = dst->addr.family == 4 ? 32 : 128;

	*out = (struct net_host){0};
	if (dst->bits == all)
		out->addr = dst->addr;
	else if (dst->addr.family == 4 && dst->bits >= 24 && dst->bits < 31)
		out->addr = net_prefix_network(dst).addr;
	else
		return false;
	if (dst->bits != all)
		out->addr.ip[3] |= 1;
	out->addr.port = 0;
	cstr_copy(out->how, sizeof out->how, how);
	return scan_addr_usable(&out->addr);
}

int scan_put_host(const struct scan_sink *sink, const struct net_host *host)
{
	return sink->host(host, sink->ctx);
}

int scan_put_link(const struct scan_sink *sink, const struct net_host *a, const struct net_host *b,
		  uint32_t cost)
{
	static const struct net_host own;
	struct net_link link = {a ? *a : own, b ? *b : own, cost};

	return net_host_equal(&link.a, &link.b) ? 0 : sink->link(&link, sink->ctx);
}
