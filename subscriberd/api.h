/* Every JSON shape of the subscriber: what it asks of gateways, and its own JSON-RPC. */
#ifndef SUBSCRIBERD_API_H
#define SUBSCRIBERD_API_H

#include "core/ownerproof.h"
#include "io/jsonrpc.h"
#include "subscriberd/engine.h"

struct keyproof_ask;

#define SUB_API_KEY_MAX 159
_Static_assert(SUB_API_KEY_MAX == SUB_KEY_MAX - 1, "a key's text");

/* An object for a method's options, with the gateway's access code ("" none). */
struct json_object *sub_api_options(const char *code);
/* Parameters of requestConnection: `sid` "" asks for a new one; consumes `options`. */
struct json_object *sub_api_request(const char *sid, const char *name, uint64_t port,
				    const char *method, struct json_object *options);
/* Parameters of renewConnection and releaseConnection. */
struct json_object *sub_api_sid(const char *sid);
/* Adds to the options of requestConnection, or to the parameters of the other two, the proof that
 * the call comes from us; c->options is set here. */
void sub_api_own(struct json_object *holder, const uint8_t secret[MESH_SECRET_BYTES],
		 const struct mesh_id *gateway, struct ownerproof_call *c);
/* Parameters of nodeInfo that ask for a proof of its key. */
struct json_object *sub_api_challenge(const struct keyproof_ask *ask);
/* Did the answer that `info` was read from prove info->id, at that place?  Sets info->proven. */
void sub_api_read_proof(struct json_object *answer, const struct keyproof_ask *ask,
			const char *place, struct sub_info *info);
/* The method's own object of a lease; NULL. */
struct json_object *sub_api_method_object(struct json_object *lease, const char *method);

/* gatewayd's answers.  Everything in them comes from a stranger: lengths, ranges and types are
 * checked.  0, or -EBADMSG with a sentence in `why` (SUB_WHY_MAX). */
int sub_api_read_info(struct json_object *answer, struct sub_info *out, char *why);
/* Also -EPERM for a refusal, whose text is in `why`, or -EAGAIN: it may pass. */
int sub_api_read_lease(struct json_object *answer, struct sub_lease *out, char *why);
/* 0; -EPERM refused (`why`), *gone: the lease is unknown there, not a passing fault. */
int sub_api_read_renewal(struct json_object *answer, bool *gone, char *why);
/* Text of a failed call. */
const char *sub_api_failure(const struct rpc_answer *answer);

struct sub_traffic {
	uint64_t up_packets, up_bytes, down_packets, down_bytes, dropped;
};

struct sub_api_hooks {
	struct sub_engine *engine;
	/* Interface of a slot's tunnel, "" when none, and its counters; false when none. */
	const char *(*interface)(void *ctx, unsigned slot);
	bool (*traffic)(void *ctx, unsigned slot, struct sub_traffic *out);
	/* The engine was given an order: its next timer may have changed. */
	void (*changed)(void *ctx);
	/* How it was found, in words; fills and returns `out`. */
	const char *(*found_by)(void *ctx, const struct sub_contact *c, char out[SUB_WHY_MAX]);
	/* This address is about to be asked, by order: a kill switch has to let that out. */
	void (*ordered)(void *ctx, const struct net_addr *gateway);
	void *ctx;
};
/* Registers status, listGateways, listSessions, connect, disconnect.  0 or -ENOMEM. */
int sub_api_register(struct rpc_server *rpc, struct sub_api_hooks *hooks);
/* Answers pollCallStatus of an order to connect; false when the id is not one of those. */
bool sub_api_poll_order(const struct sub_api_hooks *h, struct rpc_call *call, const char *id);
/* The data of an event; its name is sub_event_name(). */
struct json_object *sub_api_event_json(const struct sub_event *event);
#endif
