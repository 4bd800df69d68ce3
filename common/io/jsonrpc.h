/*
 * JSON-RPC 2.0 and 1.0: three parts that stand alone.
 *   rpc_server  tables of methods and the pure dispatch from request bytes to answer bytes
 *               (jsonrpc.c; no socket: gatewayd uses it over a mesh stream too).  The tables say
 *               what methods take and answer (rpcshape.h): calls are checked by that, and the
 *               method rpc.discover, which every server has, tells it (jsonrpc_discover.c)
 *   rpc_http    serves an rpc_server over HTTP POST, and pages over GET (jsonrpc_http.c)
 *   rpc_client  asynchronous calls over HTTP, and one synchronous form (jsonrpc_client.c)
 *
 * Usual wiring of a daemon:
 *   static const struct rpc_method methods[] = {
 *           {.name = "addNode",
 *            .handler = api_add_node,
 *            .access = RPC_AUTHORISED,
 *            .text = "Starts a node here.",
 *            .params = "connect? bool whether it gets a link to another node\n",
 *            .result = "@node"},
 *   };
 *   rpc_server_new(&rpc); rpc_server_add(rpc, methods, 1, api);
 *   rpc_http_new(&http, base, rpc, &(struct rpc_http_spec){.networks = "127.0.0.0/8,::1"});
 *   rpc_http_listen(http, "127.0.0.1,::1", 1234);
 *   ... rpc_http_free(http); rpc_server_free(rpc);
 */
#ifndef IO_JSONRPC_H
#define IO_JSONRPC_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/id.h"
#include "base/limits.h"
#include "io/rpcshape.h"

#define RPC_BODY_MAX_BYTES (1u << 20)	/* a request or an answer */
#define RPC_DEPTH_MAX 32		/* nesting of a request or an answer */
#define RPC_BATCH_MAX 64		/* calls in one batch */
#define RPC_PENDING_MAX 1024		/* requests of one server that wait for an answer */
#define RPC_CONNECTIONS_MAX 128		/* of one rpc_http */
#define RPC_CONNECTIONS_PER_PEER_MAX 32 /* of one IPv4 address or IPv6 /64 (loopback excepted) */
#define RPC_IDLE_S 10			/* a request must be whole this long after it could start */
#define RPC_ANSWER_S 120 /* a handler that has not answered by then loses its client */

enum rpc_code {
	RPC_PARSE_ERROR = -32700,
	RPC_INVALID_REQUEST = -32600,
	RPC_NO_METHOD = -32601,
	RPC_INVALID_PARAMS = -32602,
	RPC_INTERNAL = -32603,
	RPC_FAILED = -32000, /* understood, and the answer is no; the message says why */
	RPC_DENIED = -32001, /* an authorised-only method */
	RPC_BUSY = -32002,
};

enum rpc_access { RPC_PUBLIC, RPC_AUTHORISED };

/* Who asks.  Copied by rpc_dispatch. */
struct rpc_ctx {
	struct net_addr addr;  /* family 0 when it did not come over IP */
	struct net_addr local; /* our own address that was called */
	bool authorised;
	bool over_mesh; /* then the two below say who: authenticated by the mesh */
	struct mesh_id mesh_peer;
	char mesh_app[NAME_MAX_BYTES + 1];
	/* Set, during rpc_dispatch only, when a call was refused for want of the right.  May be
	 * NULL. */
	bool *denied;
};

struct rpc_server;
struct rpc_request;
struct rpc_call;

/*
 * Answers `call` exactly once with rpc_reply or rpc_fail, before it returns or any time later.
 * `params` is always an object (by-position parameters have got their names), is what the method's
 * table says, and lives until the call is answered.  Not answering is a leak and leaves the client
 * waiting.
 */
typedef void rpc_handler(struct rpc_call *call, struct json_object *params, void *arg);

/* Texts as in rpcshape.h. */
struct rpc_method {
	const char *name;
	rpc_handler *handler;
	enum rpc_access access;
	const char *text; /* what it does, in a sentence or two */
	/* FIELDS in the order of calls by position; NULL: none.  What they do not name is refused,
	 * but ignored with a public method: daemons of another version call those. */
	const char *params;
	const char *result;	  /* FIELDS or, without a newline, a TYPE; NULL: an empty object */
	const char *fails, *busy; /* when the answer is RPC_FAILED or RPC_BUSY; NULL: never */
};

/* What rpc.discover says of the whole. */
struct rpc_about {
	const char *title, *text;
};

/* 0 or -ENOMEM. */
int rpc_server_new(struct rpc_server **out);
/* The table must outlive the server; several may be added, the first match wins.  -ENOMEM. */
int rpc_server_add(struct rpc_server *server, const struct rpc_method *methods, size_t count,
		   void *arg);
/* The same for SHAPES (io/rpcshape.h) that methods name with '@', whichever table they are in. */
int rpc_server_shapes(struct rpc_server *server, const char *shapes);
/* `about` outlives the server. */
void rpc_server_describe(struct rpc_server *server, const struct rpc_about *about);
/* Free every rpc_http first.  Calls still open stay valid until their owner answers them (the
 * answer goes nowhere): an engine may drop its callers before or after this. */
void rpc_server_free(struct rpc_server *server);

/* The answer's bytes, valid during the call; `len` 0 means nothing is to be sent (notifications).
 */
typedef void rpc_answer_cb(const char *text, size_t len, void *arg);

/*
 * Handles one request or batch.  `cb` is called exactly once, possibly before this returns.
 * Returns a handle while an answer is outstanding (for rpc_request_abandon; it is dead once `cb`
 * has been called), else NULL.
 */
struct rpc_request *rpc_dispatch(struct rpc_server *server, const void *data, size_t len,
				 const struct rpc_ctx *ctx, rpc_answer_cb *cb, void *arg);
/* The client is gone: `cb` will not be called. */
void rpc_request_abandon(struct rpc_request *request);

/* For handlers.  rpc_reply consumes `result` (NULL is JSON null). */
void rpc_reply(struct rpc_call *call, struct json_object *result);
void rpc_fail(struct rpc_call *call, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/*
 * Before rpc_reply, which has to follow at once, in a public method whose answer depends on nothing
 * but the call's parameters and what `fresh` looks at: the answer serves everybody who asks the
 * same, as long as `fresh` answers true and until rpc_server_forget.  One answer is kept.
 */
typedef bool rpc_fresh(void *arg);
void rpc_keep(struct rpc_call *call, rpc_fresh *fresh, void *arg);
void rpc_server_forget(struct rpc_server *server);
const struct rpc_ctx *rpc_call_ctx(const struct rpc_call *call);
/* False once nobody waits for the answer any more (it must be given all the same). */
bool rpc_call_wanted(const struct rpc_call *call);

/*
 * Parameters, whose types and limits the method's table has already enforced: the value, or
 * `fallback` (NULL for objects and arrays) when it is missing or null.  Strings live as long as
 * `params`; a ref that was given as a number is its digits.
 */
const char *rpc_param_str(struct json_object *params, const char *name, const char *fallback);
uint64_t rpc_param_u64(struct json_object *params, const char *name, uint64_t fallback);
bool rpc_param_bool(struct json_object *params, const char *name, bool fallback);
struct json_object *rpc_param_json(struct json_object *params, const char *name);

/* A JSON string from text that a peer chose: invalid UTF-8 becomes U+FFFD.  NULL text is null. */
struct json_object *rpc_text(const char *text);
/* Shorthand to build objects; a value that could not be made (NULL) becomes null. */
void rpc_set(struct json_object *object, const char *key, struct json_object *value);
void rpc_set_str(struct json_object *object, const char *key, const char *value);
void rpc_set_u64(struct json_object *object, const char *key, uint64_t value);
void rpc_set_i64(struct json_object *object, const char *key, int64_t value);
void rpc_set_bool(struct json_object *object, const char *key, bool value);
/* Parses strictly (depth, UTF-8, nothing after the value).  NULL on error; JSON null gives NULL and
 * *is_null (may be NULL) true.  The caller puts the result. */
struct json_object *rpc_parse(const void *data, size_t len, bool *is_null);

/* ---- HTTP server ---- */

struct event_base;
struct evbuffer;
struct rpc_http;

struct rpc_http_spec {
	const char *networks; /* "10.0.0.0/8, ::1": authorised by address; NULL: nobody */
	const char *token;    /* `Authorization: Bearer TOKEN` authorises; NULL or "": no token */
	const char *names;    /* host names a browser may use for us ("router.lan, ..."); else only
				 IP addresses and localhost (DNS rebinding).  May be NULL. */
};

/* What a GET answers; `status` 200 and `type` text/html as preset.  `type` must be static. */
struct rpc_page {
	int status;
	const char *type;
	struct evbuffer *body;
};
/* `path` is decoded, `query` is raw text after the '?' or NULL. */
typedef void rpc_get_handler(const struct rpc_ctx *ctx, const char *path, const char *query,
			     struct rpc_page *page, void *arg);

/* Copies the spec.  -ENOMEM, -EINVAL (networks unreadable; logged). */
int rpc_http_new(struct rpc_http **out, struct event_base *base, struct rpc_server *server,
		 const struct rpc_http_spec *spec);
/* Replaces the spec (SIGHUP); on error the old one stays. */
int rpc_http_set_access(struct rpc_http *http, const struct rpc_http_spec *spec);
/*
 * Listens on each of a comma-separated list ("127.0.0.1,[::1]:1235"; port 0 takes a free one).  An
 * address of a family the host lacks is skipped with a warning while another works.  -EINVAL,
 * -EADDRINUSE, ... (logged); then none of this call is left listening.
 */
int rpc_http_listen(struct rpc_http *http, const char *addrs, uint16_t port);
/* The port of the first listener; 0 without one. */
uint16_t rpc_http_port(const struct rpc_http *http);
/* Serves GET on `path`; a path that ends in '/' serves everything below it (longest match wins).
 * `path` must be static.  -ENOMEM. */
int rpc_http_get(struct rpc_http *http, const char *path, enum rpc_access access,
		 rpc_get_handler *handler, void *arg);

/* A GET whose answer goes on and on (server-sent events). */
struct rpc_stream;
struct rpc_stream_ops {
	const char *type; /* Content-Type, static */
	/* May one more begin?  False is answered with 503. */
	bool (*room)(void *arg);
	/* It has begun; `last_event_id` is the client's header or NULL, valid during the call. */
	void (*open)(struct rpc_stream *stream, const char *last_event_id, void *arg);
	/* It has ended, whoever ended it; not called from inside rpc_stream_send. */
	void (*closed)(struct rpc_stream *stream, void *arg);
};
/* As rpc_http_get; `ops` must be static. */
int rpc_http_stream(struct rpc_http *http, const char *path, enum rpc_access access,
		    const struct rpc_stream_ops *ops, void *arg);
#define RPC_STREAM_BACKLOG_BYTES (256u << 10)
/* 0; -ENOBUFS: the client does not read, and RPC_STREAM_BACKLOG_BYTES wait: it is cut off (`closed`
 * follows).  -EPIPE: it is being closed already. */
int rpc_stream_send(struct rpc_stream *stream, const void *data, size_t len);

struct rpc_http_counters {
	uint64_t requests;     /* of any method */
	uint64_t unauthorized; /* answered with 401, or 403 for a GET */
	uint64_t evicted;      /* idle connections closed to make room */
	size_t connections;
};
void rpc_http_get_counters(const struct rpc_http *http, struct rpc_http_counters *out);
/* Open calls are abandoned. */
void rpc_http_free(struct rpc_http *http);

/* ---- client ---- */

struct rpc_target {
	const char *host; /* an address; a name is looked up blocking (fine for meshctl only) */
	uint16_t port;
	const char *token;   /* NULL or "": none */
	uint64_t timeout_us; /* for the whole call; 0: 10 s */
};

/*
 * How a call ended.
 *   RPC_OUTCOME_RESULT  result (NULL is JSON null)
 *   RPC_OUTCOME_ERROR   the server answered with an error: code, text, data (may be NULL)
 *   RPC_OUTCOME_DOWN    no usable answer: code is -errno (-ECONNREFUSED, -ETIMEDOUT, -EPROTO
 *                       for something that is no JSON-RPC, -EMSGSIZE, ...), text says it
 */
enum rpc_outcome { RPC_OUTCOME_RESULT, RPC_OUTCOME_ERROR, RPC_OUTCOME_DOWN };
struct rpc_answer {
	enum rpc_outcome outcome;
	int code;
	char text[TEXT_MAX_BYTES + 1];
	struct json_object *result, *data;
};
typedef void rpc_client_cb(const struct rpc_answer *answer, void *arg);
struct rpc_client;

/*
 * Calls `method`; `params` (object or array, NULL for none) stays the caller's.  `cb` is called
 * exactly once, from the event loop, never from inside this call; the answer's objects live during
 * `cb` (json_object_get to keep).  NULL when out of memory (then no `cb`).
 */
struct rpc_client *rpc_client_call(struct event_base *base, const struct rpc_target *target,
				   const char *method, struct json_object *params,
				   rpc_client_cb *cb, void *arg);
/* No `cb` any more.  Not after `cb` has been called. */
void rpc_client_cancel(struct rpc_client *call);

/* Waits for the answer, in an event loop of its own.  End with rpc_answer_free. */
void rpc_client_sync(const struct rpc_target *target, const char *method,
		     struct json_object *params, struct rpc_answer *answer);
void rpc_answer_free(struct rpc_answer *answer);

/* The two halves of a client for other carriers (a mesh stream).  rpc_encode_call gives malloced
 * text (NULL when out of memory); the answer of rpc_decode_answer ends with rpc_answer_free. */
char *rpc_encode_call(uint32_t id, const char *method, struct json_object *params, size_t *len);
void rpc_decode_answer(const void *data, size_t len, uint32_t id, struct rpc_answer *answer);
#endif
