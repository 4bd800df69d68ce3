#include "gatewayd/api_owner.h"

#include <stdio.h>
#include <string.h>

#include "core/ownerproof.h"
#include "io/keyfile.h"

struct claim {
	struct mesh_id key;
	uint64_t stamp;
	uint8_t proof[OWNERPROOF_BYTES];
};

/* Its form was checked with the call's (gw_api_shapes). */
static bool claim_read(struct rpc_call *call, struct json_object *owner, struct claim *c)
{
	_Static_assert(OWNERPROOF_STAMP_MAX == 9223372036854775807u, "the shape says so");
	c->stamp = rpc_param_u64(owner, "stamp", 0);
	if (mesh_id_parse(&c->key, rpc_param_str(owner, "key", "")) == 0 &&
	    !mesh_id_is_zero(&c->key) &&
	    hex_decode(rpc_param_str(owner, "proof", ""), c->proof, sizeof(c->proof)) == 0)
		return true;
	rpc_fail(call, RPC_INVALID_PARAMS,
		 "Invalid params: owner.key and owner.proof are 64 hex digits each");
	return false;
}

/* As both ends print them: in the order in which they came, without `owner`. */
static const char *options_text(struct json_object *options)
{
	return json_object_to_json_string_ext(options, JSON_C_TO_STRING_PLAIN |
							       JSON_C_TO_STRING_NOSLASHESCAPE);
}

bool gw_api_owner(const struct gw_api *api, struct rpc_call *call, struct json_object *holder,
		  const char *name, const char *sid, const char *method, struct lease_binding *who)
{
	struct gw_refusal why = {.text = "the proof of ownership (owner) is wrong"};
	struct json_object *owner;
	struct ownerproof_call c = {.call = name, .sid = sid ? sid : "", .options = ""};
	struct claim claim;

	if (!holder || who->proven)
		return true;
	owner = rpc_param_json(holder, "owner");
	if (!owner)
		return true;
	if (!claim_read(call, owner, &claim))
		return false;
	c.method = method ? method : "";
	if (method) {
		json_object_object_del(holder, "owner");
		c.options = options_text(holder);
	}
	c.stamp = claim.stamp;
	if (!ownerproof_good(api->keys->secret, &api->keys->id, &claim.key, &c, claim.proof)) {
		gw_api_refuse(call, &why);
		return false;
	}
	who->key = claim.key;
	who->stamp = claim.stamp;
	return true;
}
