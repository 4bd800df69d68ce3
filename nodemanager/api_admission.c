/* Who may be in the mesh: invites, the list of nodes, revoked keys, roles. */
#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "io/clock.h"
#include "nodemanager/api.h"

#define INVITE_SECONDS_DEFAULT (2u * 86400u)
#define REF_MAX 128 /* text that names something */

const char *nm_api_admission_name(enum nm_admission_mode mode)
{
	static const char *const names[] = {
		[NM_ADMISSION_OPEN] = "open",
		[NM_ADMISSION_TOKEN] = "token",
		[NM_ADMISSION_ALLOWLIST] = "allowlist",
	};
	return names[mode];
}

static void done(struct nm_api *api, struct rpc_call *call)
{
	rpc_reply(call, json_object_new_object());
	api->touched(api->ctx);
}

/* What went wrong, in words; `thing` is what has a limit. */
static void failed(struct rpc_call *call, int err, const char *thing)
{
	if (err == -ENOSPC)
		rpc_fail(call, RPC_BUSY, "there are too many %s", thing);
	else if (err == -ENOMEM)
		rpc_fail(call, RPC_INTERNAL, "out of memory");
	else
		rpc_fail(call, RPC_INTERNAL, "the database cannot be written; nothing has changed");
}

static uint8_t role_of(const char *text)
{
	uint8_t role = ROLES;
	while (--role > ROLE_DEFAULT && strcmp(text, node_role_name(role)) != 0)
		;
	return role;
}

/* --- invites ---------------------------------------------------------------------------------- */

static struct json_object *invite_json(const struct nm_invite_record *invite)
{
	struct json_object *o = json_object_new_object();
	uint64_t now = daemon_wall_s();
	rpc_set_u64(o, "number", invite->number);
	rpc_set_str(o, "role", node_role_name(invite->role));
	rpc_set_u64(o, "uses", invite->uses);
	rpc_set_u64(o, "used", invite->used);
	rpc_set_u64(o, "created", invite->created_s);
	rpc_set_u64(o, "expires", invite->expires_s);
	rpc_set_str(o, "state",
		    invite->used >= invite->uses ? "used up"
		    : now >= invite->expires_s	 ? "expired"
						 : "open");
	return o;
}

static void invite(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct nm_api *api = arg;
	struct nm_invite_record record;
	char token[NM_TOKEN_TEXT];
	uint64_t uses = rpc_param_u64(params, "uses", 1);
	uint64_t seconds = rpc_param_u64(params, "expiresSeconds", INVITE_SECONDS_DEFAULT);
	uint8_t role = role_of(rpc_param_str(params, "role", "member"));
	int err = nm_invite(api->nm, (uint32_t)uses, seconds, role, token, &record);
	if (err) {
		failed(call, err, "invites: remove some");
		return;
	}
	struct json_object *o = invite_json(&record);
	rpc_set_str(o, "token", token);
	/* It is of use only where it is asked for: say so rather than let it puzzle people. */
	struct nm_status status;
	nm_status_get(api->nm, &status);
	rpc_set_str(o, "admission", nm_api_admission_name(status.admission));
	rpc_reply(call, o);
	sodium_memzero(token, sizeof token);
}

static void add_invite_json(void *arg, const struct nm_invite_record *record)
{
	json_object_array_add(arg, invite_json(record));
}

static void list_invites(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct nm_api *api = arg;
	struct json_object *o = json_object_new_object(), *list = json_object_new_array();
	(void)params;
	nm_invites_each(api->nm, add_invite_json, list);
	rpc_set(o, "invites", list);
	rpc_reply(call, o);
}

static void remove_invite(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct nm_api *api = arg;
	int err = nm_invite_remove(api->nm, rpc_param_str(params, "invite", ""));
	if (err == -ENOENT)
		rpc_fail(call, RPC_FAILED, "there is no such invite");
	else if (err)
		failed(call, err, "invites");
	else
		done(api, call);
}

/* --- keys that need not be known -------------------------------------------------------------- */

/* A node of the list, or any whole id. */
static bool key_param(struct nm_api *api, struct rpc_call *call, struct json_object *params,
		      struct mesh_id *id)
{
	const char *text = rpc_param_str(params, "node", "");
	int err = nm_node_find(api->nm, text, id);
	if (!err || mesh_id_parse(id, text) == 0)
		return true;
	if (err == -EEXIST)
		rpc_fail(call, RPC_FAILED, "several nodes have ids that begin with %.64s", text);
	else
		rpc_fail(call, RPC_FAILED,
			 "there is no node %.64s; one that is not known needs its whole id", text);
	return false;
}

static void revoke(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct nm_api *api = arg;
	struct mesh_id id;
	if (!key_param(api, call, params, &id))
		return;
	int err = nm_revoke(api->nm, &id, daemon_now_us());
	if (err == -EALREADY)
		rpc_fail(call, RPC_FAILED, "this key is revoked already");
	else if (err)
		failed(call, err, "revoked keys");
	else
		done(api, call);
}

static void unrevoke(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct nm_api *api = arg;
	const char *text = rpc_param_str(params, "node", "");
	struct mesh_id id, node;
	int err = -ENOENT;
	if (nm_node_find(api->nm, text, &node) == 0 && nm_is_revoked(api->nm, &node)) {
		id = node;
		err = 0;
	}
	if (err)
		err = nm_revoked_find(api->nm, text, &id);
	if (!err)
		err = nm_unrevoke(api->nm, &id);
	if (err == -EEXIST)
		rpc_fail(call, RPC_FAILED, "several revoked keys fit %.64s: use the whole id",
			 text);
	else if (err == -ENOENT)
		rpc_fail(call, RPC_FAILED, "no key is revoked that fits %.64s", text);
	else if (err)
		failed(call, err, "revoked keys");
	else
		done(api, call);
}

static void add_revoked_json(void *arg, const struct nm_revoked_record *record)
{
	char id[MESH_ID_TEXT], brief[MESH_ID_SHORT];
	struct json_object *o = json_object_new_object();
	rpc_set_str(o, "id", mesh_id_text(&record->id, id));
	rpc_set_str(o, "short", mesh_id_short(&record->id, brief));
	rpc_set(o, "name", rpc_text(record->name));
	rpc_set_u64(o, "since", record->since_s);
	json_object_array_add(arg, o);
}

static void list_revoked(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct nm_api *api = arg;
	struct json_object *o = json_object_new_object(), *list = json_object_new_array();
	(void)params;
	nm_revoked_each(api->nm, add_revoked_json, list);
	rpc_set(o, "revoked", list);
	rpc_reply(call, o);
}

static void allow(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct nm_api *api = arg;
	struct mesh_id id;
	if (!key_param(api, call, params, &id))
		return;
	int err = nm_allow(api->nm, &id);
	if (err && err != -EALREADY)
		failed(call, err, "nodes on the list");
	else
		done(api, call);
}

static void disallow(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct nm_api *api = arg;
	struct mesh_id id;
	if (!key_param(api, call, params, &id))
		return;
	int err = nm_disallow(api->nm, &id, daemon_now_us());
	if (err == -ENOENT)
		rpc_fail(call, RPC_FAILED,
			 "this id was not allowed here (nodemanager.Allow is the operator's file)");
	else if (err)
		failed(call, err, "nodes on the list");
	else
		done(api, call);
}

static void add_allowed_json(void *arg, const struct mesh_id *id)
{
	char text[MESH_ID_TEXT];
	struct json_object *o = json_object_new_object();
	rpc_set_str(o, "id", mesh_id_text(id, text));
	json_object_array_add(arg, o);
}

static void list_allowed(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct nm_api *api = arg;
	struct json_object *o = json_object_new_object(), *list = json_object_new_array();
	(void)params;
	nm_allowed_each(api->nm, add_allowed_json, list);
	rpc_set(o, "allowed", list);
	rpc_reply(call, o);
}

/* --- roles ------------------------------------------------------------------------------------ */

static void set_role(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct nm_api *api = arg;
	struct mesh_id id;
	struct nm_node_info info;
	uint8_t role = role_of(rpc_param_str(params, "role", ""));
	if (!nm_api_node(api, call, params, "node", &id))
		return;
	int err = nm_set_role(api->nm, &id, role, daemon_now_us());
	if (err || nm_node_get(api->nm, &id, &info)) {
		failed(call, err, "nodes");
		return;
	}
	rpc_reply(call, nm_api_node_json(&info));
	api->touched(api->ctx);
}

#define INVITE                                                                                     \
	"number uint\n"                                                                            \
	"role =member,relay,gateway\n"                                                             \
	"uses uint how often it may be used\n"                                                     \
	"used uint how often it was\n"                                                             \
	"created uint seconds since 1970\n"                                                        \
	"expires uint seconds since 1970\n"                                                        \
	"state =used+up,expired,open\n"
#define REF "ref(" RPC_NUM(REF_MAX) ") "
#define KEY "node " REF "a node; one that is not known by its whole id\n"
#define USES "uint(1.." RPC_NUM(NM_INVITE_USES_MAX) ") "
#define SECONDS "uint(1.." RPC_NUM(NM_INVITE_SECONDS_MAX) ") "
#define TOO_MANY "there are too many"

static const char shapes[] =
	"invite An invitation. Its token is shown once, when it is made.\n" INVITE "\n"
	"revoked A key that is shut out.\n"
	"id id\n"
	"short text\n"
	"name text what it was called\n"
	"since uint seconds since 1970\n"
	"\n"
	"allowed A key that may join.\n"
	"id id\n"
	"\n";

static const struct rpc_method methods[] = {
	{.name = "invite",
	 .handler = invite,
	 .access = RPC_AUTHORISED,
	 .text = "Makes an invitation: who shows its token gets in (Admission = token).",
	 .params = "uses? " USES "how often; none: once\n"
		   "expiresSeconds? " SECONDS "from now; none: two days\n"
		   "role? =member,relay,gateway what they become; none: member\n",
	 .result = INVITE "token text the secret, told only now\n"
			  "admission =open,token,allowlist whether tokens are asked for at all\n",
	 .busy = TOO_MANY},
	{.name = "listInvites",
	 .handler = list_invites,
	 .access = RPC_AUTHORISED,
	 .text = "The invitations.",
	 .result = "invites @invite[]\n"},
	{.name = "removeInvite",
	 .handler = remove_invite,
	 .access = RPC_AUTHORISED,
	 .text = "Takes an invitation back.",
	 .params = "invite " REF "its number or its token\n",
	 .fails = "there is no such invite"},
	{.name = "revoke",
	 .handler = revoke,
	 .access = RPC_AUTHORISED,
	 .text = "Shuts a key out, everywhere and for good.",
	 .params = KEY,
	 .fails = "it is revoked already; " NM_API_NO_NODE,
	 .busy = TOO_MANY},
	{.name = "unrevoke",
	 .handler = unrevoke,
	 .access = RPC_AUTHORISED,
	 .text = "Takes a revocation back.",
	 .params = "node " REF "the node, its id or the beginning of it\n",
	 .fails = "no revoked key fits, or several"},
	{.name = "listRevoked",
	 .handler = list_revoked,
	 .access = RPC_AUTHORISED,
	 .text = "The keys that are shut out.",
	 .result = "revoked @revoked[]\n"},
	{.name = "allow",
	 .handler = allow,
	 .access = RPC_AUTHORISED,
	 .text = "Puts a key on the list of those who may join (Admission = allowlist).",
	 .params = KEY,
	 .fails = NM_API_NO_NODE,
	 .busy = TOO_MANY},
	{.name = "disallow",
	 .handler = disallow,
	 .access = RPC_AUTHORISED,
	 .text = "Takes a key off that list; a node of it is cut off.",
	 .params = KEY,
	 .fails = "it is not on the list; " NM_API_NO_NODE},
	{.name = "listAllowed",
	 .handler = list_allowed,
	 .access = RPC_AUTHORISED,
	 .text = "The keys that allow put on the list.",
	 .result = "allowed @allowed[]\n"},
	{.name = "setRole",
	 .handler = set_role,
	 .access = RPC_AUTHORISED,
	 .text = "Says what a node may do; default: what its invite or the configuration says.",
	 .params = "node " NM_API_NODE "the node\n"
		   "role =default,member,relay,gateway\n",
	 .result = "@node",
	 .fails = NM_API_NO_NODE},
};

int nm_api_admission_register(struct rpc_server *server, struct nm_api *api)
{
	int err = rpc_server_shapes(server, shapes);
	return err ? err : rpc_server_add(server, methods, sizeof methods / sizeof *methods, api);
}
