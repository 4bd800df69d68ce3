#include "wire/msg.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* --- decode ------------------------------------------------------------------------------- */

#define F_U8(n) m->n = rbuf_u8(r);
#define F_U16(n) m->n = rbuf_u16(r);
#define F_U32(n) m->n = rbuf_u32(r);
#define F_U64(n) m->n = rbuf_u64(r);
#define F_ID(n) rbuf_copy(r, m->n.b, sizeof m->n.b);
#define F_SECRET(n) rbuf_copy(r, m->n, sizeof m->n);
#define F_ADDR(n) net_addr_read(r, &m->n);
#define F_STR(n, max) m->n = rbuf_run16(r, max);
#define F_BLOB(n, max) m->n = rbuf_run32(r, max);
#define F_LIST(item, n, max)                                                                       \
	m->n##_count = rbuf_u16(r);                                                                \
	if (m->n##_count > (max))                                                                  \
		r->bad = true;                                                                     \
	for (uint16_t i = 0; !r->bad && i < m->n##_count; i++)                                     \
		decode_##item(r, &m->n[i]);
#define ITEM(name, FIELDS)                                                                         \
	static void decode_##name(struct rbuf *r, struct name *m)                                  \
	{                                                                                          \
		FIELDS                                                                             \
	}
#define MESSAGE(type, Name, name, senders, state, FIELDS)                                          \
	static void decode_msg_##name(struct rbuf *r, struct msg_##name *m)                        \
	{                                                                                          \
		FIELDS                                                                             \
	}
#include "wire/messages.def"
#undef ITEM
#undef MESSAGE
#undef F_U8
#undef F_U16
#undef F_U32
#undef F_U64
#undef F_ID
#undef F_SECRET
#undef F_ADDR
#undef F_STR
#undef F_BLOB
#undef F_LIST

int msg_decode(struct msg *out, struct bytes body)
{
	struct rbuf reader = rbuf_init(body.data, body.len), *r = &reader;

	out->type = rbuf_u16(r);
	out->seq = rbuf_u32(r);
	if (r->bad)
		return -EBADMSG;
	switch (out->type) {
#define ITEM(name, FIELDS)
#define MESSAGE(type, Name, name, senders, state, FIELDS)                                          \
	case type:                                                                                 \
		decode_msg_##name(r, &out->name);                                                  \
		break;
#include "wire/messages.def"
#undef ITEM
#undef MESSAGE
	default:
		return -EBADMSG;
	}
	return rbuf_done(r) ? 0 : -EBADMSG;
}

/* --- encode ------------------------------------------------------------------------------- */

/* Our own value over its limit is our bug, but must never reach the wire. */
static void encode_run(struct wbuf *w, struct bytes b, size_t max, bool wide)
{
	if (b.len > max)
		w->bad = true;
	if (wide)
		wbuf_run32(w, b);
	else
		wbuf_run16(w, b);
}

#define F_U8(n) wbuf_u8(w, m->n);
#define F_U16(n) wbuf_u16(w, m->n);
#define F_U32(n) wbuf_u32(w, m->n);
#define F_U64(n) wbuf_u64(w, m->n);
#define F_ID(n) wbuf_copy(w, m->n.b, sizeof m->n.b);
#define F_SECRET(n) wbuf_copy(w, m->n, sizeof m->n);
#define F_ADDR(n) net_addr_write(w, &m->n);
#define F_STR(n, max) encode_run(w, m->n, max, false);
#define F_BLOB(n, max) encode_run(w, m->n, max, true);
#define F_LIST(item, n, max)                                                                       \
	wbuf_u16(w, m->n##_count);                                                                 \
	if (m->n##_count > (max))                                                                  \
		w->bad = true;                                                                     \
	for (uint16_t i = 0; !w->bad && i < m->n##_count; i++)                                     \
		encode_##item(w, &m->n[i]);
#define ITEM(name, FIELDS)                                                                         \
	static void encode_##name(struct wbuf *w, const struct name *m)                            \
	{                                                                                          \
		FIELDS                                                                             \
	}
#define MESSAGE(type, Name, name, senders, state, FIELDS)                                          \
	static void encode_msg_##name(struct wbuf *w, const struct msg_##name *m)                  \
	{                                                                                          \
		FIELDS                                                                             \
	}
#include "wire/messages.def"
#undef ITEM
#undef MESSAGE
#undef F_U8
#undef F_U16
#undef F_U32
#undef F_U64
#undef F_ID
#undef F_SECRET
#undef F_ADDR
#undef F_STR
#undef F_BLOB
#undef F_LIST

void msg_encode(const struct msg *m, struct wbuf *w)
{
	wbuf_u16(w, m->type);
	wbuf_u32(w, m->seq);
	switch (m->type) {
#define ITEM(name, FIELDS)
#define MESSAGE(type, Name, name, senders, state, FIELDS)                                          \
	case type:                                                                                 \
		encode_msg_##name(w, &m->name);                                                    \
		break;
#include "wire/messages.def"
#undef ITEM
#undef MESSAGE
	default:
		w->bad = true;
	}
}

/* --- size --------------------------------------------------------------------------------- */

#define F_U8(n) size += 1;
#define F_U16(n) size += 2;
#define F_U32(n) size += 4;
#define F_U64(n) size += 8;
#define F_ID(n) size += MESH_ID_BYTES;
#define F_SECRET(n) size += MESH_SECRET_BYTES;
#define F_ADDR(n) size += NET_ADDR_BYTES;
#define F_STR(n, max) size += 2 + m->n.len;
#define F_BLOB(n, max) size += 4 + m->n.len;
#define F_LIST(item, n, max)                                                                       \
	size += 2;                                                                                 \
	for (uint16_t i = 0; i < m->n##_count && i < (max); i++)                                   \
		size += size_##item(&m->n[i]);
#define ITEM(name, FIELDS)                                                                         \
	static size_t size_##name(const struct name *m)                                            \
	{                                                                                          \
		size_t size = 0;                                                                   \
		(void)m;                                                                           \
		FIELDS                                                                             \
		return size;                                                                       \
	}
#define MESSAGE(type, Name, name, senders, state, FIELDS)                                          \
	static size_t size_msg_##name(const struct msg_##name *m)                                  \
	{                                                                                          \
		size_t size = 0;                                                                   \
		(void)m;                                                                           \
		FIELDS                                                                             \
		return size;                                                                       \
	}
#include "wire/messages.def"
#undef ITEM
#undef MESSAGE
#undef F_U8
#undef F_U16
#undef F_U32
#undef F_U64
#undef F_ID
#undef F_SECRET
#undef F_ADDR
#undef F_STR
#undef F_BLOB
#undef F_LIST

size_t msg_encoded_size(const struct msg *m)
{
	switch (m->type) {
#define ITEM(name, FIELDS)
#define MESSAGE(type, Name, name, senders, state, FIELDS)                                          \
	case type:                                                                                 \
		return 6 + size_msg_##name(&m->name);
#include "wire/messages.def"
#undef ITEM
#undef MESSAGE
	default:
		return 6;
	}
}

const struct bytes *msg_tail(const struct msg *m)
{
	switch (m->type) {
	case MSG_SendFromApp:
		return &m->send_from_app.data;
	case MSG_AppMessage:
		return &m->app_message.data;
	case MSG_SendPart:
		return &m->send_part.data;
	case MSG_AppPart:
		return &m->app_part.data;
	default:
		return NULL;
	}
}

/* --- names, senders, states --------------------------------------------------------------- */

struct msg_info {
	const char *name;
	unsigned senders;
	enum msg_state state;
};

static struct msg_info msg_info(uint16_t type)
{
	switch (type) {
#define ITEM(name, FIELDS)
#define MESSAGE(type, Name, name, senders, state, FIELDS)                                          \
	case type:                                                                                 \
		return (struct msg_info){#Name, senders, MSG_STATE_##state};
#include "wire/messages.def"
#undef ITEM
#undef MESSAGE
	default:
		return (struct msg_info){NULL, 0, MSG_STATE_READY};
	}
}

const char *msg_type_name(uint16_t type)
{
	const char *name = msg_info(type).name;
	return name ? name : "unknown";
}

bool msg_allowed(uint16_t type, unsigned sender, enum msg_state state)
{
	struct msg_info i = msg_info(type);
	return (i.senders & sender) && (state == MSG_STATE_READY || i.state == MSG_STATE_HELLO);
}

const char *msg_code_name(uint16_t code)
{
	static const char *const names[] = {
		[CODE_OK] = "ok",
		[CODE_REFUSED] = "refused",
		[CODE_NOT_FOUND] = "not found",
		[CODE_NO_ROUTE] = "no route",
		[CODE_BUSY] = "busy",
		[CODE_INVALID] = "invalid request",
		[CODE_UNAVAILABLE] = "unavailable",
		[CODE_TIMEOUT] = "timeout",
		[CODE_PORT_IN_USE] = "port in use",
		[CODE_CLOSED] = "closed",
		[CODE_LOST] = "lost",
		[CODE_PROTOCOL] = "protocol error",
	};
	return code < sizeof names / sizeof *names ? names[code] : "unknown code";
}

const char *node_role_name(uint8_t role)
{
	static const char *const names[ROLES] = {
		[ROLE_DEFAULT] = "default",
		[ROLE_MEMBER] = "member",
		[ROLE_RELAY] = "relay",
		[ROLE_GATEWAY] = "gateway",
	};
	return role < ROLES ? names[role] : names[ROLE_DEFAULT];
}

/* --- dump --------------------------------------------------------------------------------- */

struct dump {
	char *out;
	size_t size, len;
	bool first;
};

static void put(struct dump *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void put(struct dump *d, const char *fmt, ...)
{
	va_list ap;
	if (d->len + 1 >= d->size)
		return;
	va_start(ap, fmt);
	int n = vsnprintf(d->out + d->len, d->size - d->len, fmt, ap);
	va_end(ap);
	if (n > 0)
		d->len += (size_t)n;
	if (d->len >= d->size)
		d->len = d->size - 1;
}

static void put_key(struct dump *d, const char *name)
{
	put(d, "%s\"%s\":", d->first ? "" : ",", name);
	d->first = false;
}

static void put_str(struct dump *d, struct bytes b)
{
	put(d, "\"");
	for (size_t i = 0; i < b.len; i++) {
		uint8_t c = b.data[i];
		if (c < 0x20 || c >= 0x7f || c == '"' || c == '\\')
			put(d, "\\u%04x", c);
		else
			put(d, "%c", c);
	}
	put(d, "\"");
}

static void put_id(struct dump *d, const struct mesh_id *id)
{
	char text[MESH_ID_TEXT];
	put(d, "\"%s\"", mesh_id_text(id, text));
}

static void put_addr(struct dump *d, const struct net_addr *a)
{
	char text[NET_ADDR_TEXT];
	put(d, "\"%s\"", net_addr_text(a, text));
}

#define F_NUMBER(n) put_key(d, #n), put(d, "%llu", (unsigned long long)m->n);
#define F_U8(n) F_NUMBER(n)
#define F_U16(n) F_NUMBER(n)
#define F_U32(n) F_NUMBER(n)
#define F_U64(n) F_NUMBER(n)
#define F_ID(n) put_key(d, #n), put_id(d, &m->n);
#define F_SECRET(n) put_key(d, #n), put(d, "\"***\"");
#define F_ADDR(n) put_key(d, #n), put_addr(d, &m->n);
#define F_STR(n, max) put_key(d, #n), put_str(d, m->n);
#define F_BLOB(n, max) put_key(d, #n), put(d, "%zu", m->n.len);
#define F_LIST(item, n, max)                                                                       \
	put_key(d, #n), put(d, "[");                                                               \
	for (uint16_t i = 0; i < m->n##_count && i < (max); i++) {                                 \
		put(d, "%s{", i ? "," : "");                                                       \
		d->first = true;                                                                   \
		dump_##item(d, &m->n[i]);                                                          \
		put(d, "}");                                                                       \
	}                                                                                          \
	d->first = false;                                                                          \
	put(d, "]");
#define ITEM(name, FIELDS)                                                                         \
	static void dump_##name(struct dump *d, const struct name *m)                              \
	{                                                                                          \
		FIELDS                                                                             \
	}
#define MESSAGE(type, Name, name, senders, state, FIELDS)                                          \
	static void dump_msg_##name(struct dump *d, const struct msg_##name *m)                    \
	{                                                                                          \
		FIELDS                                                                             \
	}
#include "wire/messages.def"
#undef ITEM
#undef MESSAGE

const char *msg_dump(const struct msg *m, char *out, size_t size)
{
	struct dump dump = {.out = out, .size = size}, *d = &dump;

	out[0] = '\0';
	put(d, "{\"message\":\"%s\",\"seq\":%u", msg_type_name(m->type), m->seq);
	switch (m->type) {
#define ITEM(name, FIELDS)
#define MESSAGE(type, Name, name, senders, state, FIELDS)                                          \
	case type:                                                                                 \
		dump_msg_##name(d, &m->name);                                                      \
		break;
#include "wire/messages.def"
#undef ITEM
#undef MESSAGE
	default:
		break;
	}
	put(d, "}");
	return out;
}
