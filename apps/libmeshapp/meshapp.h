/*
 * libmeshapp: how a program uses the mesh.  It talks to its own node over loopback TCP or a Unix
 * socket, on a libevent loop that the program runs.
 *
 *   struct meshapp *app = meshapp_open(base, &(struct meshapp_options){
 *           .node_addr = "127.0.0.1:17000", .app_id = "files", .app_type = "file_server",
 *           .cb = {.on_state = ..., .on_incoming = ...}, .arg = me});
 *
 * The app registers itself, and again whenever the node comes back.  When the channel to the node
 * ends, every connection ends with it (on_closed, CODE_LOST).  Times are microseconds, sizes bytes.
 * Every function may be called from every callback.
 *
 * Flow control: each direction of a connection starts with APP_CREDIT_BYTES of credit.  A message
 * may be sent while the credit is above zero, whatever its size (so a message larger than the whole
 * credit goes, and leaves a debt); the receiver's consumption earns it back.
 */
#ifndef LIBMESHAPP_MESHAPP_H
#define LIBMESHAPP_MESHAPP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/id.h"
#include "core/noise.h"
#include "wire/msg.h" /* enum msg_code, connection_class, app_list_kind */

struct event_base;
struct meshapp;
struct meshconn;

#define MESHAPP_DATAGRAM_MAX_BYTES 65519u
#define MESHAPP_CONNECT_TIMEOUT_US 20000000u
#define MESHAPP_REQUEST_TIMEOUT_US 10000000u
#define MESHAPP_CONNS_MAX 65536u
#define MESHAPP_LIST_MAX 4096u /* entries in one answer; a longer list is cut */

struct meshconn_callbacks {
	void (*on_up)(struct meshconn *conn); /* only for connections that this app asked for */
	/* One message (stream) or record (datagram), as it was sent. */
	void (*consume)(struct meshconn *conn, const uint8_t *data, size_t len);
	/* After meshconn_send said -EAGAIN: try again. */
	void (*on_writable)(struct meshconn *conn);
	/* The connection is over (or never came up); the pointer is gone afterwards.  Not called
	 * after meshconn_close. */
	void (*on_closed)(struct meshconn *conn, uint16_t code, const char *reason);
};

struct meshapp_callbacks {
	/* up: registered at the node; `text` is empty or a remark ("nodemanager is away").
	 * down: `text` says why; the library goes on trying. */
	void (*on_state)(struct meshapp *app, bool up, const char *text);
	/* Another app has connected.  Call meshconn_set_callbacks and return true, or return false
	 * to refuse.  NULL refuses all. */
	bool (*on_incoming)(struct meshapp *app, struct meshconn *conn);
};

struct meshapp_options {
	const char *node_addr; /* "host:port", "unix:/path" or "/path" */
	const char *app_id;    /* unique on its node; 1..NAME_MAX_BYTES */
	const char *app_type;  /* "socks_server", ...; 1..NAME_MAX_BYTES */
	const char *info; /* what others see in lists; at most APP_INFO_MAX_BYTES; may be NULL */
	/* For a node on another host: our key and the node's.  Loopback and Unix sockets stay
	 * plain. */
	const struct noise_keypair *key;
	const struct mesh_id *node_key;
	struct meshapp_callbacks cb;
	void *arg;
};

/* NULL with errno: EINVAL (address, name or info), ENOMEM.  A node that is away is no error. */
struct meshapp *meshapp_open(struct event_base *base, const struct meshapp_options *opt);
/* Closes all connections without callbacks.  NULL is fine. */
void meshapp_close(struct meshapp *app);
void *meshapp_arg(const struct meshapp *app);
bool meshapp_is_up(const struct meshapp *app);
/* As it was opened with. */
const char *meshapp_app_id(const struct meshapp *app);
/* Our node's id; NULL before the first registration. */
const struct mesh_id *meshapp_node(const struct meshapp *app);
/* Registers again with new text.  0, -EINVAL when too long, -ENOMEM; kept for later while down. */
int meshapp_set_info(struct meshapp *app, const char *info);

struct meshapp_entry {
	struct mesh_id node;
	char app[NAME_MAX_BYTES + 1], type[NAME_MAX_BYTES + 1], info[APP_INFO_MAX_BYTES + 1];
};
/* Called once.  code: enum msg_code; entries are valid until it returns. */
typedef void meshapp_list_cb(void *arg, uint16_t code, const struct meshapp_entry *entries,
			     size_t count);
/* kind: enum app_list_kind; `value` is the type or name, NULL for all.  0 and one callback later;
 * -ENOTCONN, -EINVAL, -ENOMEM and none.  meshapp_close drops it without a callback. */
int meshapp_list(struct meshapp *app, uint8_t kind, const char *value, meshapp_list_cb *cb,
		 void *arg);

/* `node` NULL: any node that has the app.  class: enum connection_class.  on_up or on_closed
 * follows.  NULL with errno: ENOTCONN (node away), EINVAL (name), ENOSPC (MESHAPP_CONNS_MAX),
 * ENOMEM. */
struct meshconn *meshapp_connect(struct meshapp *app, const struct mesh_id *node,
				 const char *app_id, uint8_t class,
				 const struct meshconn_callbacks *cb, void *arg);

void meshconn_set_callbacks(struct meshconn *conn, const struct meshconn_callbacks *cb, void *arg);
/* Copies.  0; -EAGAIN when the credit is used up (on_writable follows); -ENOTCONN before on_up;
 * -EMSGSIZE over the node's max_message or MESHAPP_DATAGRAM_MAX_BYTES; -ENOMEM. */
int meshconn_send(struct meshconn *conn, const void *data, size_t len);
/* A message would be taken now; if not, on_writable follows. */
bool meshconn_is_writable(struct meshconn *conn);
/* Bytes of credit left, zero when in debt. */
size_t meshconn_credit(const struct meshconn *conn);
/* With manual credit the app says itself when it is done with data: back-pressure to the sender. */
void meshconn_set_manual_credit(struct meshconn *conn, bool manual);
void meshconn_consume(struct meshconn *conn, size_t bytes);
/* Ends it; the other app sees `code` and `reason`.  No callback; the pointer is gone. */
void meshconn_close(struct meshconn *conn, uint16_t code, const char *reason);
/* The other end.  The node is zero until known (connect by app name only, before on_up). */
const struct mesh_id *meshconn_peer_node(const struct meshconn *conn);
const char *meshconn_peer_app(const struct meshconn *conn);
uint8_t meshconn_class(const struct meshconn *conn);
bool meshconn_is_up(const struct meshconn *conn);
struct meshapp *meshconn_app(const struct meshconn *conn);
void *meshconn_arg(const struct meshconn *conn);
void meshconn_set_arg(struct meshconn *conn, void *arg);
#endif
