/*
 * The gateway's JSON-RPC (DESIGN.md section 10): every JSON shape of gatewayd.
 *   public:      nodeInfo, requestConnection, renewConnection, releaseConnection
 *   authorised:  status, listSessions, endSession, listGateways, getConfig, setConfig,
 *                addAccessCode, removeAccessCode, listAccessCodes
 * A refusal is a result {success:false, errorMsg, temporary}; a malformed call is an error -32602.
 */
#ifndef GATEWAYD_API_H
#define GATEWAYD_API_H

#include <stddef.h>

#include "gatewayd/api_method.h"
#include "gatewayd/engine.h"
#include "gatewayd/host.h"
#include "gatewayd/api_known.h"
#include "io/clock.h"
#include "io/jsonrpc.h"

#define GW_API_SESSIONS_MAX 500 /* of one listSessions answer */
#define GW_API_TEXT_MAX 1024u	/* gateway.Text */
#define GW_API_CODE_MAX 64u	/* an access code */
#define GW_API_DNS_MAX 3u	/* name servers told to subscribers */
#define GW_API_WORD_MAX 32u	/* gateway.Price, gateway.Currency */

struct config;
struct gw_peers;
struct gw_store;
struct hooks;
struct keypair;

struct gw_held;

/* What the calls look at; all of it is the shell's. */
struct gw_api {
	struct gw_engine *engine;
	struct gw_methods *methods;
	struct gw_host *host;
	struct gw_peers *peers;
	struct gw_store *store;
	struct gw_known *known;
	struct hooks *hooks;
	struct config *cfg;
	void (*reload)(void *arg); /* the configuration has changed; with settle_arg */
	const char *name;
	const char *id;		    /* tells us from other gateways, at whatever address */
	const struct keypair *keys; /* that it is the public one of */
	bool node_up;
	const struct mesh_id *node; /* NULL before the first registration */
	uint64_t started_s;
	struct steady_clock clock;	/* of the leases */
	void (*settle_soon)(void *arg); /* gw_api_settled follows, not from inside */
	void *settle_arg;
	/* Calls that are answered with the settlement.  The API's own. */
	struct json_object *info; /* nodeInfo's answer, printed; NULL: to be made */
	uint64_t info_s;	  /* made then */
	uint64_t info_peers;	  /* gw_peers_changes, then */
	struct rpc_server *rpc;	  /* keeps what it says */
	struct gw_held *held;
	size_t held_count, held_size;
};

#define GW_API_SID_TEXT "text(" RPC_NUM(SID_MAX) ") "
#define GW_API_SID "sid " GW_API_SID_TEXT "of the lease\n"

/* Objects of several methods, or of one and long (api_shapes.c). */
extern const char gw_api_shapes[];

/* `api` outlives the server; api->rpc is set until whoever frees that takes it away.  -ENOMEM. */
int gw_api_register(struct rpc_server *server, struct gw_api *api);
int gw_api_register_admin(struct rpc_server *server, struct gw_api *api); /* gw_api_register's */
/* Answers {success:false, errorMsg, temporary}. */
void gw_api_refuse(struct rpc_call *call, const struct gw_refusal *why);
/* After a settlement: answers what rests on it.  `rc` as gw_engine_settle had it. */
void gw_api_settled(struct gw_api *api, int rc);
/* Frees what gw_api_settled has left. */
void gw_api_clear(struct gw_api *api);
/* What nodeInfo says has changed. */
void gw_api_changed(struct gw_api *api);
/* What others see of us in app lists: JSON in one line.  Returns `out`. */
const char *gw_api_app_info(const struct gw_api *api, char *out, size_t size);
/* The data of an event: of the lease, or of the uplink when it is NULL. */
struct json_object *gw_api_event_json(const struct gw_engine *e, const struct lease *l);
#endif
