/*
 * Messages of the control and app channels as C structs, made from messages.def.
 *
 * A decoded message holds views (struct bytes) into the bytes that it was decoded from: use it
 * before those go away.  To send, fill the struct with views of your own data and encode.
 */
#ifndef WIRE_MSG_H
#define WIRE_MSG_H

#include <stdbool.h>

#include "base/addr.h"
#include "base/buf.h"
#include "base/id.h"
#include "base/limits.h"

/* Senders and channel states of messages.def. */
enum {
	FROM_NODE = 1,
	FROM_MANAGER = 2,
	FROM_TRACKER = 4,
	FROM_APP = 8,
	FROM_ANY = 15,
};
enum msg_state { MSG_STATE_HELLO, MSG_STATE_READY };

/* Codes in acks and shutdowns. */
enum msg_code {
	CODE_OK = 0,
	CODE_REFUSED = 1,   /* not allowed: admission, limits */
	CODE_NOT_FOUND = 2, /* no such node, app, transport or connection */
	CODE_NO_ROUTE = 3,
	CODE_BUSY = 4,	      /* a limit is reached; try later */
	CODE_INVALID = 5,     /* the request makes no sense */
	CODE_UNAVAILABLE = 6, /* a daemon that is needed is away (apptracker) */
	CODE_TIMEOUT = 7,
	CODE_PORT_IN_USE = 8,
	CODE_CLOSED = 9, /* the other side closed it */
	CODE_LOST = 10,	 /* retransmit limit or liveness */
	CODE_PROTOCOL = 11,
};
const char *msg_code_name(uint16_t code);

/* What a node may do in the mesh; each may do what stands before it too.
 *   member   begin and end connections; never transit for others
 *   relay    forward for others
 *   gateway  offer others a way out of the mesh (apps of some types) */
enum node_role { ROLE_DEFAULT = 0, ROLE_MEMBER = 1, ROLE_RELAY = 2, ROLE_GATEWAY = 3, ROLES = 4 };
/* "member"; "default" for 0 and whatever is no role. */
const char *node_role_name(uint8_t role);

enum connection_class { CLASS_STREAM = 0, CLASS_DATAGRAM = 1 };
enum app_list_kind { APP_LIST_ALL = 0, APP_LIST_BY_TYPE = 1, APP_LIST_BY_NAME = 2 };
enum app_registration_op {
	APP_OP_HELLO = 0,
	APP_OP_ADD = 1,
	APP_OP_REMOVE = 2,
	APP_OP_NODE_GONE = 3
};

/* Credit per connection between an app and its node at the start, in bytes of data. */
#define APP_CREDIT_BYTES (1u << 20)

#define F_U8(n) uint8_t n;
#define F_U16(n) uint16_t n;
#define F_U32(n) uint32_t n;
#define F_U64(n) uint64_t n;
#define F_ID(n) struct mesh_id n;
#define F_SECRET(n) uint8_t n[MESH_SECRET_BYTES];
#define F_ADDR(n) struct net_addr n;
#define F_STR(n, max) struct bytes n;
#define F_BLOB(n, max) struct bytes n;
#define F_LIST(item, n, max)                                                                       \
	uint16_t n##_count;                                                                        \
	struct item n[max];
#define ITEM(name, FIELDS)                                                                         \
	struct name {                                                                              \
		FIELDS                                                                             \
	};
#define MESSAGE(type, Name, name, senders, state, FIELDS)                                          \
	struct msg_##name {                                                                        \
		FIELDS                                                                             \
	};
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

enum msg_type {
#define ITEM(name, FIELDS)
#define MESSAGE(type, Name, name, senders, state, FIELDS) MSG_##Name = type,
#include "wire/messages.def"
#undef ITEM
#undef MESSAGE
};

struct msg {
	uint16_t type; /* enum msg_type */
	uint32_t seq;  /* a reply carries the sequence that it answers; 0 when no reply is wanted */
	union {
#define ITEM(name, FIELDS)
#define MESSAGE(type, Name, name, senders, state, FIELDS) struct msg_##name name;
#include "wire/messages.def"
#undef ITEM
#undef MESSAGE
	};
};

/* Decodes the inside of a frame.  0; -EBADMSG for anything malformed: unknown type, short or
 * trailing bytes, a length or count over its limit.  `out` is undefined after an error. */
int msg_decode(struct msg *out, struct bytes body);
/* Appends type, sequence and fields; look at w->bad. */
void msg_encode(const struct msg *m, struct wbuf *w);
/* Bytes that msg_encode will write. */
size_t msg_encoded_size(const struct msg *m);
/* What the message ends with, where that may be long: the same bytes as its last ones encoded.
 * NULL: it has no such end. */
const struct bytes *msg_tail(const struct msg *m);
/* "RegisterNode"; "unknown" for a number that is not in the catalogue. */
const char *msg_type_name(uint16_t type);
/* May this sender (one FROM_ bit) send it in this state?  A HELLO message is allowed in READY too.
 */
bool msg_allowed(uint16_t type, unsigned sender, enum msg_state state);
/* One line of JSON for logs, cut to fit; secrets are shown as "***", blobs as their length. */
const char *msg_dump(const struct msg *m, char *out, size_t size);
#endif
