#include "meshctl/gateway.h"

#include "io/jsonrpc.h"

/* Also of the leases that subscriberd holds, which knows neither usage nor rates. */
const struct view ctl_view_sessions = {
	"sessions", "no sessions",
	(const struct view_column[]){{"SID", "sid", VIEW_TEXT},
				     {"NAME", "name|gateway", VIEW_TEXT},
				     {"ROLE", "role", VIEW_TEXT},
				     {"STATE", "state", VIEW_TEXT},
				     {"METHOD", "method", VIEW_TEXT},
				     {"NODE", "node", VIEW_ID},
				     {"HOST", "host", VIEW_TEXT},
				     {"IPV4", "ipv4", VIEW_TEXT},
				     {"IPV6", "ipv6", VIEW_TEXT},
				     {"USED", "usedBytes", VIEW_BYTES},
				     {"OF", "quotaBytes", VIEW_LIMIT},
				     {"MONTH", "monthBytes", VIEW_BYTES},
				     {"KBIT/S", "rateKbps", VIEW_NONZERO},
				     {"UNTIL", "timeoutTimestamp", VIEW_TIME},
				     {0}}};

const struct view ctl_view_codes = {"codes", "no access codes",
				    (const struct view_column[]){{"NAME", "name", VIEW_TEXT},
								 {"CREATED", "created", VIEW_TIME},
								 {0}}};

const struct view ctl_view_known = {
	"gateways", "no other gateway is known",
	(const struct view_column[]){{"NAME", "name", VIEW_TEXT},
				     {"NODE", "node", VIEW_ID},
				     {"ADDRESS", "address", VIEW_TEXT},
				     {"ANSWERED", "provenAt", VIEW_TIME},
				     {"SEEN", "seenAt", VIEW_TIME},
				     {0}}};

struct json_object *ctl_params_sid(const struct ctl_args *a, char error[CTL_ERROR_MAX])
{
	struct json_object *o = json_object_new_object();

	(void)error;
	rpc_set_str(o, "sid", a->words[1]);
	return o;
}

struct json_object *ctl_params_code(const struct ctl_args *a, char error[CTL_ERROR_MAX])
{
	struct json_object *o = json_object_new_object();

	(void)error;
	rpc_set(o, "name", rpc_text(a->words[1]));
	return o;
}

struct json_object *ctl_params_setting(const struct ctl_args *a, char error[CTL_ERROR_MAX])
{
	struct json_object *o = json_object_new_object();

	(void)error;
	rpc_set(o, "key", rpc_text(a->words[1]));
	rpc_set(o, "value", rpc_text(a->words[2]));
	return o;
}
