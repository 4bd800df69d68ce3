/* The JSON-RPC methods of the nodemanager: every JSON shape of it is in api*.c. */
#ifndef NODEMANAGER_API_H
#define NODEMANAGER_API_H

#include <sys/queue.h>

#include "io/jsonrpc.h"
#include "nodemanager/engine.h"
#include "nodemanager/spawn.h"

struct event_base;

struct nm_api {
	struct nm *nm;
	struct nm_spawner *spawner;
	struct mesh_id id; /* our public key: what nodes are told as ManagerKey */
	struct event_base *base;
	/* After an operation that may have changed what the engine waits for. */
	void (*touched)(void *ctx);
	void *ctx;
	LIST_HEAD(, nm_adding) adding; /* calls of addNode that wait; private to api_nodes.c */
};

/* `api` must outlive the server.  0 or -ENOMEM. */
int nm_api_register(struct rpc_server *server, struct nm_api *api);
/* Answers what still waits for a new node. */
void nm_api_end(struct nm_api *api);

/* The data of an event; its name is nm_event_name(). */
struct json_object *nm_api_event_json(const struct nm_event *event);

#define NM_API_ROUTE_NODES_MAX 65
#define NM_API_ADD_MAX 100
#define NM_API_REF_MAX 64 /* of text that names a node: a whole id; names are shorter */

/* Parameters that many methods have. */
#define NM_API_NODE "ref(" RPC_NUM(NM_API_REF_MAX) ") "
#define NM_API_A_AND_B                                                                             \
	"a " NM_API_NODE "one of two nodes\n"                                                      \
	"b " NM_API_NODE "the other\n"
#define NM_API_NO_NODE "there is no such node, or several have ids that begin so"

/* The part in api_list.c. */
int nm_api_list_register(struct rpc_server *server, struct nm_api *api);
/* The part in api_routing.c. */
int nm_api_routing_register(struct rpc_server *server, struct nm_api *api);

/* Those of api_admission.c; called by nm_api_register. */
int nm_api_admission_register(struct rpc_server *server, struct nm_api *api);
const char *nm_api_admission_name(enum nm_admission_mode mode);

/* Shared by these files.  False: the call has been failed. */
bool nm_api_node(struct nm_api *api, struct rpc_call *call, struct json_object *params,
		 const char *name, struct mesh_id *id);
/* The same for the parameters a and b. */
bool nm_api_two_nodes(struct nm_api *api, struct rpc_call *call, struct json_object *params,
		      struct mesh_id *a, struct mesh_id *b);
/* What the engine says went wrong. */
void nm_api_failed(struct rpc_call *call, uint16_t code, const char *text);
struct json_object *nm_api_brief_json(const struct nm_node_info *info);
struct json_object *nm_api_node_json(const struct nm_node_info *info);
extern rpc_handler nm_api_add_node, nm_api_add_nodes;
#endif
