/*
 * libmeshapp: how a program uses the mesh.  It talks to its own node over a Unix socket or loopback
 * TCP (in the clear), or to a node on another host (encrypted, by keys).
 *
 * Two ways to use it: callbacks on a libevent loop that the program runs (the first part), or calls
 * that wait (the second part, meshapp_open_sync and what follows it).
 *
 *   cc prog.c $(pkg-config --cflags --libs meshapp libevent)    (libevent: for callbacks only)
 *
 *   struct meshapp *app = meshapp_open(base, &(struct meshapp_options){
 *           .node_addr = "127.0.0.1:17000", .app_id = "files", .app_type = "file_server",
 *           .cb = {.on_state = ..., .on_incoming = ...}, .arg = me});
 *
 * Units: times are microseconds, sizes are bytes.  Errors: functions that return int give 0 or a
 * negative errno value, named with each; functions that return a pointer give NULL and set errno.
 * What happens to a connection is told by a code (enum meshapp_code) and a text for people.
 *
 * The node may go away at any time: the library connects to it again by itself (after 200 ms,
 * doubling to 5 s, with jitter), registers the app again, and says both by on_state.  Every
 * connection ends with the channel to the node (on_closed, MESHAPP_LOST) and is the app's to make
 * again.
 *
 * Threads: an app and its connections belong to one thread.  Every function may be called from
 * every callback, those that free what the callback is about included.
 *
 * Flow control: each direction of a connection starts with MESHAPP_CREDIT_BYTES of credit.  A
 * message may be sent while the credit is above zero, whatever its size (so a message larger than
 * the whole credit goes, and leaves a debt); the receiver's consumption earns it back.
 */
#ifndef MESHAPP_H
#define MESHAPP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct event_base; /* libevent's */
struct meshapp;	   /* an app registered at a node */
struct meshconn;   /* a connection to another app */

/* --- limits ----------------------------------------------------------------------------------- */
#define MESHAPP_NAME_MAX 63		  /* bytes of an app id or type */
#define MESHAPP_INFO_MAX 512		  /* bytes of what an app says of itself */
#define MESHAPP_MESSAGE_MAX (16u << 20)	  /* of a stream; a node may be configured to less */
#define MESHAPP_DATAGRAM_MAX_BYTES 65519u /* of a datagram */
#define MESHAPP_CREDIT_BYTES (1u << 20)	  /* under way in each direction of a connection */
#define MESHAPP_CONNECT_TIMEOUT_US 20000000u
#define MESHAPP_REQUEST_TIMEOUT_US 10000000u
#define MESHAPP_CONNS_MAX 65536u /* connections of one app; a node has its own limit as well */
#define MESHAPP_LIST_MAX 4096u	 /* entries in one answer; a longer list is cut */

/* --- node ids ----------------------------------------------------------------------------------*/
#ifndef BASE_ID_H /* Meshnet's own sources have them from there */
#define MESH_ID_BYTES 32
#define MESH_ID_TEXT 65 /* 64 hex digits and the NUL */
struct mesh_id {
	uint8_t b[MESH_ID_BYTES]; /* a node's X25519 public key */
};
#endif
bool mesh_id_equal(const struct mesh_id *a, const struct mesh_id *b);
/* Returns `out`. */
const char *mesh_id_text(const struct mesh_id *id, char out[MESH_ID_TEXT]);
/* 0, or -EINVAL unless `text` is exactly 64 hex digits. */
int mesh_id_parse(struct mesh_id *id, const char *text);

/* --- codes
 * --------------------------------------------------------------------------------------*/
/* Why a connection ended or a request failed.  More may come: treat others as MESHAPP_LOST. */
enum meshapp_code {
	MESHAPP_OK = 0,
	MESHAPP_REFUSED = 1,	 /* not allowed: by the other app, by admission */
	MESHAPP_NOT_FOUND = 2,	 /* no such node or app */
	MESHAPP_NO_ROUTE = 3,	 /* there is no way to that node now */
	MESHAPP_BUSY = 4,	 /* a limit is reached; try later */
	MESHAPP_INVALID = 5,	 /* the request makes no sense: an app cannot connect to itself */
	MESHAPP_UNAVAILABLE = 6, /* a daemon that is needed is away (the manager, the tracker): later */
	MESHAPP_TIMEOUT = 7,	 /* no answer in time */
	MESHAPP_PORT_IN_USE = 8, /* never seen by apps */
	MESHAPP_CLOSED = 9,	 /* the other side closed it */
	MESHAPP_LOST = 10,	 /* our node, the other node or the way between went away */
	MESHAPP_PROTOCOL = 11,	 /* the other side does not keep to the protocol */
};
/* "refused", "not found", ...; never NULL. */
const char *meshapp_code_name(uint16_t code);

/* What a connection carries. */
enum meshapp_class {
	MESHAPP_STREAM = 0,   /* messages: ordered, each exactly once while the connection lives */
	MESHAPP_DATAGRAM = 1, /* records: may be lost, come twice or in another order */
};

/* --- an app
 * -------------------------------------------------------------------------------------*/
struct meshapp_callbacks {
	/* up: registered at the node; `text` is empty or a remark ("nodemanager is away").
	 * down: `text` says why; the library goes on trying. */
	void (*on_state)(struct meshapp *app, bool up, const char *text);
	/* Another app has connected.  Call meshconn_set_callbacks and return true, or return false
	 * to refuse.  NULL refuses all. */
	bool (*on_incoming)(struct meshapp *app, struct meshconn *conn);
};

struct noise_keypair; /* made by meshapp_key_load */

struct meshapp_options {
	const char *node_addr; /* "host:port", "unix:/path" or "/path" */
	const char *app_id;    /* unique on its node; 1 to MESHAPP_NAME_MAX bytes */
	const char *app_type;  /* "socks_server", ...; 1 to MESHAPP_NAME_MAX bytes */
	const char *info;      /* what others see in lists; at most MESHAPP_INFO_MAX; may be NULL */
	/* For a node on another host: our key (meshapp_key_load) and the node's id.  Both NULL for
	 * loopback and Unix sockets, which stay plain.  Copied. */
	const struct noise_keypair *key;
	const struct mesh_id *node_key;
	struct meshapp_callbacks cb;
	void *arg;
};

/* Strings are copied.  NULL with errno: EINVAL (address, name or info), EPERM (a node on another
 * host without a key), ENOMEM.  A node that is away is no error: on_state tells when it is there.
 */
struct meshapp *meshapp_open(struct event_base *base, const struct meshapp_options *opt);
/* Closes all connections without callbacks; what waits to be sent is dropped.  NULL is fine. */
void meshapp_close(struct meshapp *app);
void *meshapp_arg(const struct meshapp *app);
/* Registered at its node. */
bool meshapp_is_up(const struct meshapp *app);
/* As it was opened with. */
const char *meshapp_app_id(const struct meshapp *app);
/* Our node's id; NULL before the first registration. */
const struct mesh_id *meshapp_node(const struct meshapp *app);
/* Registers again with new text.  0, -EINVAL when too long, -ENOMEM; kept for later while down. */
int meshapp_set_info(struct meshapp *app, const char *info);
/* Loads DIR/NAME.key, or makes it (mode 0600).  NULL with errno: EBADMSG (damaged), EACCES, ENOMEM,
 * ...  meshapp_key_free wipes it; NULL is fine there. */
struct noise_keypair *meshapp_key_load(const char *dir, const char *name);
void meshapp_key_free(struct noise_keypair *key);
/* Lines of the library's log: level as in syslog(3), 3 (error) to 7 (debug).  Without it they go to
 * stderr.  `max_level` 0 silences it.  NULL restores stderr.  For the whole process. */
void meshapp_set_log(int max_level, void (*line)(int level, const char *text));

/* --- who is there
 * ---------------------------------------------------------------------------------*/
enum meshapp_list_kind { MESHAPP_ALL = 0, MESHAPP_BY_TYPE = 1, MESHAPP_BY_NAME = 2 };
struct meshapp_entry {
	struct mesh_id node;
	char app[MESHAPP_NAME_MAX + 1], type[MESHAPP_NAME_MAX + 1], info[MESHAPP_INFO_MAX + 1];
};
/* Called once.  `code`: enum meshapp_code; entries are valid until it returns. */
typedef void meshapp_list_cb(void *arg, uint16_t code, const struct meshapp_entry *entries,
			     size_t count);
/* `kind`: enum meshapp_list_kind; `value` is the type or name, NULL for all.  0 and one callback
 * later; -ENOTCONN (node away), -EINVAL, -ENOMEM (also: 64 lists under way) and none.
 * meshapp_close drops it without a callback. */
int meshapp_list(struct meshapp *app, uint8_t kind, const char *value, meshapp_list_cb *cb,
		 void *arg);

/* --- connections
 * ----------------------------------------------------------------------------------*/
struct meshconn_callbacks {
	void (*on_up)(struct meshconn *conn); /* only for connections that this app asked for */
	/* One message (stream) or record (datagram), as it was sent; valid until it returns. */
	void (*consume)(struct meshconn *conn, const uint8_t *data, size_t len);
	/* After meshconn_send said -EAGAIN: try again. */
	void (*on_writable)(struct meshconn *conn);
	/* The connection is over (or never came up); the pointer is gone afterwards.  `code`: enum
	 * meshapp_code; `reason` is a text for people.  Not called after meshconn_close. */
	void (*on_closed)(struct meshconn *conn, uint16_t code, const char *reason);
};

/* `node` NULL: any node that has the app.  `connection_class`: enum meshapp_class.  on_up or
 * on_closed follows (MESHAPP_TIMEOUT 20 s after the node was asked; it is asked for 48 at a time,
 * the others wait here).  NULL with errno: ENOTCONN (our node is away), EINVAL (name), ENOSPC
 * (MESHAPP_CONNS_MAX), ENOMEM. */
struct meshconn *meshapp_connect(struct meshapp *app, const struct mesh_id *node,
				 const char *app_id, uint8_t connection_class,
				 const struct meshconn_callbacks *cb, void *arg);
void meshconn_set_callbacks(struct meshconn *conn, const struct meshconn_callbacks *cb, void *arg);
/* Copies.  0; -EAGAIN when the credit is used up (on_writable follows); -ENOTCONN before on_up and
 * after the end; -EMSGSIZE over the node's largest message or MESHAPP_DATAGRAM_MAX_BYTES; -ENOMEM.
 */
int meshconn_send(struct meshconn *conn, const void *data, size_t len);
/* A message would be taken now; if not, on_writable follows. */
bool meshconn_is_writable(struct meshconn *conn);
/* Bytes of credit left, zero when in debt. */
size_t meshconn_credit(const struct meshconn *conn);
/* With manual credit the app says itself when it is done with data: back-pressure to the sender. */
void meshconn_set_manual_credit(struct meshconn *conn, bool manual);
void meshconn_consume(struct meshconn *conn, size_t bytes);
/* Ends it; the other app sees `code` and `reason` (at most 255 bytes) after what was sent before.
 * No callback; the pointer is gone. */
void meshconn_close(struct meshconn *conn, uint16_t code, const char *reason);
/* The other end.  The node is zero until known (connect by app name only, before on_up). */
const struct mesh_id *meshconn_peer_node(const struct meshconn *conn);
const char *meshconn_peer_app(const struct meshconn *conn);
uint8_t meshconn_class(const struct meshconn *conn); /* enum meshapp_class */
bool meshconn_is_up(const struct meshconn *conn);
struct meshapp *meshconn_app(const struct meshconn *conn);
void *meshconn_arg(const struct meshconn *conn);
void meshconn_set_arg(struct meshconn *conn, void *arg);

/* --- calls that wait
 * -------------------------------------------------------------------------------- For small
 * programs: no loop, no callbacks.  `timeout_us` 0 does not wait (-ETIMEDOUT unless it can be done
 * at once), MESHAPP_FOREVER waits for ever.
 *
 * The library works only while one of these calls runs.  A node takes an app that says nothing for
 * 10 s for dead, so be in one of them at least every 5 s (meshapp_run_sync).
 *
 * A code becomes an errno: REFUSED -ECONNREFUSED, NOT_FOUND -ENOENT, NO_ROUTE -EHOSTUNREACH, BUSY
 * -EBUSY, INVALID -EINVAL, UNAVAILABLE -ENETDOWN, TIMEOUT -ETIMEDOUT, CLOSED -ECONNRESET, LOST and
 * others -ECONNABORTED, PROTOCOL -EPROTO.
 */
#define MESHAPP_FOREVER UINT64_MAX

struct meshapp_sync;  /* an app with a loop of its own */
struct meshconn_sync; /* one of its connections */

/* Opens and waits until the app is registered.  `opt->cb` and `opt->arg` are not used.  0;
 * -ETIMEDOUT (the node is away), -EACCES (the node refuses the app), -EINVAL, -EPERM, -ENOMEM. */
int meshapp_open_sync(struct meshapp_sync **out, const struct meshapp_options *opt,
		      uint64_t timeout_us);
/* Closes its connections and waits, a second at most, until all that was sent has left.  NULL is
 * fine.  All of its meshconn_sync are gone afterwards. */
void meshapp_close_sync(struct meshapp_sync *s);
/* Keeps the app alive for that long. */
void meshapp_run_sync(struct meshapp_sync *s, uint64_t time_us);
/* For what has no waiting form (meshapp_node, meshapp_set_info, ...). */
struct meshapp *meshapp_of_sync(struct meshapp_sync *s);
/* How often the app has been registered: more than before means that the node was away. */
unsigned meshapp_registrations_sync(const struct meshapp_sync *s);
/* `*out` is the caller's to free(3) (NULL when there are none).  0, -ETIMEDOUT, -ENOTCONN, ... */
int meshapp_list_sync(struct meshapp_sync *s, uint8_t kind, const char *value,
		      struct meshapp_entry **out, size_t *count, uint64_t timeout_us);
/* Waits for our node as well when it is away.  0, a code as above, -EINVAL, -ENOSPC, -ENOMEM. */
int meshapp_connect_sync(struct meshconn_sync **out, struct meshapp_sync *s,
			 const struct mesh_id *node, const char *app_id, uint8_t connection_class,
			 uint64_t timeout_us);
/* The next app that connects to us (16 wait at most; more are refused).  0 or -ETIMEDOUT. */
int meshapp_accept_sync(struct meshconn_sync **out, struct meshapp_sync *s, uint64_t timeout_us);
/* Copies.  Waits for credit.  0, -EMSGSIZE, -ENOMEM, -ETIMEDOUT, or why the connection ended. */
int meshconn_send_sync(struct meshconn_sync *c, const void *data, size_t len, uint64_t timeout_us);
/* The next message: its size; -EMSGSIZE when it is larger than `size` (it stays, ask again);
 * -ETIMEDOUT; or, after the last message, why the connection ended. */
ssize_t meshconn_recv_sync(struct meshconn_sync *c, void *data, size_t size, uint64_t timeout_us);
/* Why it ended, in words; "" while it lives.  Valid until the next call with `c`. */
const char *meshconn_reason_sync(const struct meshconn_sync *c);
/* NULL once it has ended. */
struct meshconn *meshconn_of_sync(struct meshconn_sync *c);
/* Ends it (MESHAPP_CLOSED) and frees it.  NULL is fine. */
void meshconn_close_sync(struct meshconn_sync *c);

#ifdef __cplusplus
}
#endif
#endif
