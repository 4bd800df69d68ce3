/* Who a call proves to be, beyond the address that it comes from: {key, stamp, proof}. */
#ifndef GATEWAYD_API_OWNER_H
#define GATEWAYD_API_OWNER_H

#include "gatewayd/api.h"

/*
 * Reads `owner` of `holder` (NULL: there is none), an object: the options of requestConnection,
 * where it is taken out, or the parameters of the other calls, whose `method` is NULL.  `sid` may
 * be NULL.  A caller over the mesh has proven who it is; what it says here is not looked at.
 *
 * True: who->key and who->stamp are set, or stay zero without an `owner`.  False: the call was
 * answered.
 */
bool gw_api_owner(const struct gw_api *api, struct rpc_call *call, struct json_object *holder,
		  const char *name, const char *sid, const char *method, struct lease_binding *who);
#endif
