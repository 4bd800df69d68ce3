#include "wire/msg.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* --- layout ------------------------------------------------------------------------------- */

/* Where the fields of a message lie in its struct, in the order of the wire: what messages.def says
 * as a table, which is smaller than functions for each message. */
enum field_kind {
	FIELD_END,
	FIELD_U8,
	FIELD_U16,
	FIELD_U32,
	FIELD_U64,
	FIELD_COPY, /* `limit` bytes */
	FIELD_ADDR,
	FIELD_STR,   /* at most `limit` bytes */
	FIELD_BLOB,  /* the same, with a u32 length */
	FIELD_LIST,  /* the count of a list, at most `limit` */
	FIELD_ITEMS, /* its entries, `limit` bytes each in memory; follows each FIELD_LIST */
};
enum item_kind {
#define ITEM(name, FIELDS) ITEM_##name,
#define MESSAGE(type, Name, name, senders, state, FIELDS)
#include "wire/messages.def"
#undef ITEM
#undef MESSAGE
};
struct field {
	uint8_t kind, item;
	uint16_t offset;
	uint32_t limit;
};
_Static_assert(sizeof(struct msg) <= UINT16_MAX, "field.offset holds it");
/* Every member of the union begins there. */
#define MSG_FIELDS_AT offsetof(struct msg, register_node)

#define F(kind, item, n, limit) {FIELD_##kind, item, offsetof(fields_of, n), limit},
#define F_U8(n) F(U8, 0, n, 0)
#define F_U16(n) F(U16, 0, n, 0)
#define F_U32(n) F(U32, 0, n, 0)
#define F_U64(n) F(U64, 0, n, 0)
#define F_ID(n) F(COPY, 0, n.b, MESH_ID_BYTES)
#define F_SECRET(n) F(COPY, 0, n, MESH_SECRET_BYTES)
#define F_ADDR(n) F(ADDR, 0, n, 0)
#define F_STR(n, max) F(STR, 0, n, max)
#define F_BLOB(n, max) F(BLOB, 0, n, max)
#define F_LIST(item, n, max)                                                                       \
	F(LIST, 0, n##_count, max) F(ITEMS, ITEM_##item, n, sizeof(struct item))
#define TABLE_CASE(number, type, ...)                                                              \
	case number: {                                                                             \
		typedef type fields_of;                                                            \
		static const struct field fields[] = {__VA_ARGS__{FIELD_END, 0, 0, 0}};            \
		return fields;                                                                     \
	}

static const struct field *item_fields(uint8_t item)
{
	switch (item) {
#define ITEM(name, FIELDS) TABLE_CASE(ITEM_##name, struct name, FIELDS)
#define MESSAGE(type, Name, name, senders, state, FIELDS)
#include "wire/messages.def"
#undef ITEM
#undef MESSAGE
	default:
		return NULL;
	}
}

/* NULL for a type that does not exist. */
static const struct field *message_fields(uint16_t number)
{
	switch (number) {
#define ITEM(name, FIELDS)
#define MESSAGE(type, Name, name, senders, state, FIELDS)                                          \
	TABLE_CASE(type, struct msg_##name, FIELDS)
#include "wire/messages.def"
#undef ITEM
#undef MESSAGE
	default:
		return NULL;
	}
}
#undef F
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

/* --- decode ------------------------------------------------------------------------------- */

static void decode_fields(struct rbuf *r, const struct field *f, uint8_t *into);

static void decode_items(struct rbuf *r, const struct field *f, uint16_t count, uint8_t *into)
{
	for (uint16_t i = 0; !r->bad && i < count; i++)
		decode_fields(r, item_fields(f->item), into + (size_t)i * f->limit);
}

static void decode_fields(struct rbuf *r, const struct field *f, uint8_t *into)
{
	uint16_t count = 0;

	for (; f->kind != FIELD_END; f++) {
		void *at = into + f->offset;
		switch ((enum field_kind)f->kind) {
		case FIELD_END:
			break;
		case FIELD_U8:
			*(uint8_t *)at = rbuf_u8(r);
			break;
		case FIELD_U16:
			*(uint16_t *)at = rbuf_u16(r);
			break;
		case FIELD_U32:
			*(uint32_t *)at = rbuf_u32(r);
			break;
		case FIELD_U64:
			*(uint64_t *)at = rbuf_u64(r);
			break;
		case FIELD_COPY:
			rbuf_copy(r, at, f->limit);
			break;
		case FIELD_ADDR:
			net_addr_read(r, at);
			break;
		case FIELD_STR:
			*(struct bytes *)at = rbuf_run16(r, f->limit);
			break;
		case FIELD_BLOB:
			*(struct bytes *)at = rbuf_run32(r, f->limit);
			break;
		case FIELD_LIST:
			count = *(uint16_t *)at = rbuf_u16(r);
			if (count > f->limit)
				r->bad = true;
			break;
		case FIELD_ITEMS:
			decode_items(r, f, count, at);
			break;
		}
	}
}

int msg_decode(struct msg *out, struct bytes body)
{
	struct rbuf r = rbuf_init(body.data, body.len);
	const struct field *fields;

	out->type = rbuf_u16(&r);
	out->seq = rbuf_u32(&r);
	fields = message_fields(out->type);
	if (r.bad || !fields)
		return -EBADMSG;
	decode_fields(&r, fields, (uint8_t *)out + MSG_FIELDS_AT);
	return rbuf_done(&r) ? 0 : -EBADMSG;
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

static void encode_fields(struct wbuf *w, const struct field *f, const uint8_t *from);

static void encode_items(struct wbuf *w, const struct field *f, uint16_t count, const uint8_t *from)
{
	for (uint16_t i = 0; !w->bad && i < count; i++)
		encode_fields(w, item_fields(f->item), from + (size_t)i * f->limit);
}

static void encode_fields(struct wbuf *w, const struct field *f, const uint8_t *from)
{
	uint16_t count = 0;

	for (; f->kind != FIELD_END; f++) {
		const void *at = from + f->offset;
		switch ((enum field_kind)f->kind) {
		case FIELD_END:
			break;
		case FIELD_U8:
			wbuf_u8(w, *(const uint8_t *)at);
			break;
		case FIELD_U16:
			wbuf_u16(w, *(const uint16_t *)at);
			break;
		case FIELD_U32:
			wbuf_u32(w, *(const uint32_t *)at);
			break;
		case FIELD_U64:
			wbuf_u64(w, *(const uint64_t *)at);
			break;
		case FIELD_COPY:
			wbuf_copy(w, at, f->limit);
			break;
		case FIELD_ADDR:
			net_addr_write(w, at);
			break;
		case FIELD_STR:
		case FIELD_BLOB:
			encode_run(w, *(const struct bytes *)at, f->limit, f->kind == FIELD_BLOB);
			break;
		case FIELD_LIST:
			count = *(const uint16_t *)at;
			wbuf_u16(w, count);
			if (count > f->limit)
				w->bad = true;
			break;
		case FIELD_ITEMS:
			encode_items(w, f, count, at);
			break;
		}
	}
}

void msg_encode(const struct msg *m, struct wbuf *w)
{
	const struct field *fields = message_fields(m->type);

	wbuf_u16(w, m->type);
	wbuf_u32(w, m->seq);
	if (fields)
		encode_fields(w, fields, (const uint8_t *)m + MSG_FIELDS_AT);
	else
		w->bad = true;
}

/* --- size --------------------------------------------------------------------------------- */

static size_t fields_size(const struct field *f, const uint8_t *from)
{
	size_t size = 0, count = 0;

	for (; f->kind != FIELD_END; f++) {
		const void *at = from + f->offset;
		switch ((enum field_kind)f->kind) {
		case FIELD_END:
			break;
		case FIELD_U8:
		case FIELD_U16:
		case FIELD_U32:
		case FIELD_U64:
			size += (size_t)1 << (f->kind - FIELD_U8);
			break;
		case FIELD_COPY:
			size += f->limit;
			break;
		case FIELD_ADDR:
			size += NET_ADDR_BYTES;
			break;
		case FIELD_STR:
			size += 2 + ((const struct bytes *)at)->len;
			break;
		case FIELD_BLOB:
			size += 4 + ((const struct bytes *)at)->len;
			break;
		case FIELD_LIST:
			size += 2;
			count = *(const uint16_t *)at;
			count = count < f->limit ? count : f->limit;
			break;
		case FIELD_ITEMS:
			for (size_t i = 0; i < count; i++)
				size += fields_size(item_fields(f->item),
						    (const uint8_t *)at + i * f->limit);
			break;
		}
	}
	return size;
}

size_t msg_encoded_size(const struct msg *m)
{
	const struct field *fields = message_fields(m->type);

	return 6 + (fields ? fields_size(fields, (const uint8_t *)m + MSG_FIELDS_AT) : 0);
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

#define MSG_NAME_MAX 23
/* By type; the names stand in it, for a pointer is larger than what is left over of most. */
static const struct {
	char label[MSG_NAME_MAX + 1];
	uint8_t senders, state;
} infos[] = {
#define ITEM(name, FIELDS)
#define MESSAGE(type, Name, name, senders, state, FIELDS)                                          \
	[type] = {#Name, senders, MSG_STATE_##state},
#include "wire/messages.def"
#undef ITEM
#undef MESSAGE
};
#define INFO_COUNT (sizeof infos / sizeof infos[0])
#define ITEM(name, FIELDS)
#define MESSAGE(type, Name, name, senders, state, FIELDS)                                          \
	_Static_assert(sizeof #Name <= sizeof infos[0].label, "MSG_NAME_MAX");
#include "wire/messages.def"
#undef ITEM
#undef MESSAGE

const char *msg_type_name(uint16_t type)
{
	return type < INFO_COUNT && *infos[type].label ? infos[type].label : "unknown";
}

bool msg_allowed(uint16_t type, unsigned sender, enum msg_state state)
{
	return type < INFO_COUNT && (infos[type].senders & sender) &&
	       (state == MSG_STATE_READY || infos[type].state == MSG_STATE_HELLO);
}

const char *msg_code_name(uint16_t code)
{
	static const char names[][16] = {
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
	static const char names[ROLES][8] = {
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
