#include "meshctl/admin.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io/jsonrpc.h"

#define COST_MAX 1000000
#define PATHS_MAX 8
#define USES_MAX 9999999

/* ---- who may join ---- */

const struct ctl_option ctl_invite_options[] = {
	{"--uses", NULL, "N", "lets in so many nodes (1)"},
	{"--expires", NULL, "TIME", "90s, 30m, 12h, 2d (2d)"},
	{"--role", NULL, "ROLE", "member, relay or gateway (member)"},
	{0},
};

const struct view ctl_view_invites = {
	"invites", "no invites",
	(const struct view_column[]){{"#", "number", VIEW_NUMBER},
				     {"STATE", "state", VIEW_TEXT},
				     {"ROLE", "role", VIEW_TEXT},
				     {"USED", "used", VIEW_NUMBER},
				     {"OF", "uses", VIEW_NUMBER},
				     {"EXPIRES", "expires", VIEW_TIME},
				     {0}}};

const struct view ctl_view_revoked = {"revoked", "no key is revoked",
				      (const struct view_column[]){{"ID", "id", VIEW_TEXT},
								   {"NAME", "name", VIEW_TEXT},
								   {"SINCE", "since", VIEW_TIME},
								   {0}}};

const struct view ctl_view_allowed = {"allowed",
				      "no node is allowed here (nodemanager.Allow is not shown)",
				      (const struct view_column[]){{"ID", "id", VIEW_TEXT}, {0}}};

int ctl_duration_parse(uint64_t *seconds, const char *text)
{
	static const struct {
		char letter;
		uint32_t seconds;
	} units[] = {{'\0', 1}, {'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 604800}};
	char *end;
	unsigned long long v; /* unsigned long may end at UINT32_MAX, and so say nothing */

	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	v = strtoull(text, &end, 10);
	if (v == 0 || v > UINT32_MAX || (*end && end[1]))
		return -EINVAL;
	for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
		if (units[i].letter != *end)
			continue;
		*seconds = (uint64_t)v * units[i].seconds;
		return 0;
	}
	return -EINVAL;
}

struct json_object *ctl_params_invite(const struct ctl_args *a, char error[CTL_ERROR_MAX])
{
	const char *uses = ctl_args_option(a, "--uses"), *expires = ctl_args_option(a, "--expires"),
		   *role = ctl_args_option(a, "--role");
	uint64_t count = 0, seconds = 0;
	struct json_object *o;

	if (uses && (!ctl_number(uses, &count) || count == 0 || count > USES_MAX)) {
		snprintf(error, CTL_ERROR_MAX, "--uses '%.60s': expected a number (1 to %d)", uses,
			 USES_MAX);
		return NULL;
	}
	if (expires && ctl_duration_parse(&seconds, expires)) {
		snprintf(error, CTL_ERROR_MAX,
			 "--expires '%.60s': expected a duration (90s, 30m, 12h, 2d)", expires);
		return NULL;
	}
	o = json_object_new_object();
	if (uses)
		rpc_set_u64(o, "uses", count);
	if (expires)
		rpc_set_u64(o, "expiresSeconds", seconds);
	if (role)
		rpc_set_str(o, "role", role);
	return o;
}

struct json_object *ctl_params_invite_ref(const struct ctl_args *a, char error[CTL_ERROR_MAX])
{
	struct json_object *o = json_object_new_object();

	(void)error;
	rpc_set_str(o, "invite", a->words[1]);
	return o;
}

struct json_object *ctl_params_role(const struct ctl_args *a, char error[CTL_ERROR_MAX])
{
	struct json_object *o = json_object_new_object();

	(void)error;
	rpc_set_str(o, "node", a->words[1]);
	rpc_set_str(o, "role", a->words[2]);
	return o;
}

/* ---- which way ---- */

const struct ctl_option ctl_route_options[] = {
	{"--paths", "-k", "K", "as many paths that share nothing (1 to 8)"},
	{0},
};

static struct json_object *pair(const struct ctl_args *a)
{
	struct json_object *o = json_object_new_object();

	rpc_set_str(o, "a", a->words[1]);
	rpc_set_str(o, "b", a->words[2]);
	return o;
}

struct json_object *ctl_params_find_route(const struct ctl_args *a, char error[CTL_ERROR_MAX])
{
	const char *paths = ctl_args_option(a, "--paths");
	struct json_object *o;
	uint64_t k = 0;

	if (paths && (!ctl_number(paths, &k) || k == 0 || k > PATHS_MAX)) {
		snprintf(error, CTL_ERROR_MAX, "--paths '%.60s': expected a number (1 to %d)",
			 paths, PATHS_MAX);
		return NULL;
	}
	o = pair(a);
	if (k)
		rpc_set_u64(o, "k", k);
	return o;
}

struct json_object *ctl_params_set_cost(const struct ctl_args *a, char error[CTL_ERROR_MAX])
{
	const char *text = a->words[3];
	bool automatic = strcmp(text, "auto") == 0;
	struct json_object *o;
	uint64_t cost = 0;

	if (!automatic && (!ctl_number(text, &cost) || cost == 0 || cost > COST_MAX)) {
		snprintf(error, CTL_ERROR_MAX, "'%.60s' is no cost (1 to %d, or auto)", text,
			 COST_MAX);
		return NULL;
	}
	o = pair(a);
	rpc_set(o, "cost", automatic ? NULL : json_object_new_uint64(cost));
	return o;
}

struct json_object *ctl_params_set_transit(const struct ctl_args *a, char error[CTL_ERROR_MAX])
{
	struct json_object *o;
	bool yes = strcmp(a->words[2], "yes") == 0;

	if (!yes && strcmp(a->words[2], "no") != 0) {
		snprintf(error, CTL_ERROR_MAX, "'%.60s': expected yes or no", a->words[2]);
		return NULL;
	}
	o = json_object_new_object();
	rpc_set_str(o, "node", a->words[1]);
	rpc_set_bool(o, "transit", yes);
	return o;
}
