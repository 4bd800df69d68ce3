/* The gateway's JSON-RPC for whoever runs it. */
#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cstr.h"
#include "base/log.h"
#include "gatewayd/api.h"
#include "gatewayd/api_peers.h"
#include "gatewayd/shell.h"
#include "gatewayd/store.h"
#include "io/clock.h"
#include "io/config.h"
#include "io/config_value.h"

#define OPTION_MAX (CONFIG_LINE_MAX_BYTES + 128)

static struct json_object *success(void)
{
	struct json_object *o = json_object_new_object();

	rpc_set_bool(o, "success", true);
	return o;
}

/* ---- sessions ---- */

/* endSession(sid): whole, or as many of its first characters as tell it from the others. */
static const struct lease *session_named(const struct gw_api *api, const char *name,
					 size_t *matches)
{
	const struct lease *found = gw_engine_lease(api->engine, name);
	size_t len = strlen(name);

	*matches = found ? 1 : 0;
	for (const struct lease *l = NULL; *matches < 2 &&
					   !(found && strcmp(found->sid, name) == 0) &&
					   (l = gw_engine_lease_after(api->engine, l));)
		if (strncmp(l->sid, name, len) == 0) {
			found = l;
			++*matches;
		}
	return *matches == 1 ? found : NULL;
}

static void api_end_session(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct gw_api *api = arg;
	const char *sid = rpc_param_str(params, "sid", "");
	const struct lease *l;
	char whole[SID_MAX + 1];
	struct json_object *o;
	size_t matches;

	l = *sid ? session_named(api, sid, &matches) : NULL;
	if (!l) {
		rpc_fail(call, RPC_FAILED,
			 *sid && matches ? "several sessions begin so" : "no such session");
		return;
	}
	cstr_copy(whole, sizeof(whole), l->sid);
	log_info("lease %.8s... is ended by the administrator", whole);
	gw_engine_end(api->engine, whole);
	o = success();
	rpc_set_str(o, "sid", whole);
	rpc_reply(call, o);
}

/* ---- access codes ---- */

/* Letters and digits that nobody mistakes for one another, in groups. */
static void code_make(char out[GW_API_CODE_MAX])
{
	static const char letters[] = "abcdefghjkmnpqrstuvwxyz23456789";
	size_t n = 0;

	for (int i = 0; i < 16; i++) {
		if (i && i % 4 == 0)
			out[n++] = '-';
		out[n++] = letters[randombytes_uniform(sizeof(letters) - 1)];
	}
	out[n] = '\0';
}

static void api_add_code(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct gw_api *api = arg;
	char code[GW_API_CODE_MAX];
	const char *name = rpc_param_str(params, "name", "");
	struct json_object *o;
	int rc;

	if (!*name) {
		rpc_fail(call, RPC_INVALID_PARAMS, "Invalid params: a name is needed");
		return;
	}
	code_make(code);
	rc = gw_store_code_add(api->store, name, code, daemon_wall_s());
	if (rc) {
		rpc_fail(call, RPC_FAILED, "%s",
			 rc == -EEXIST ? "there is a code of this name" : strerror(-rc));
		return;
	}
	o = success();
	rpc_set(o, "name", rpc_text(name));
	rpc_set_str(o, "code", code);
	sodium_memzero(code, sizeof(code));
	rpc_reply(call, o);
}

static void api_remove_code(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct gw_api *api = arg;
	int rc = gw_store_code_drop(api->store, rpc_param_str(params, "name", ""));

	if (rc)
		rpc_fail(call, RPC_FAILED, "%s",
			 rc == -ENOENT ? "there is no code of this name" : strerror(-rc));
	else
		rpc_reply(call, success());
}

static void list_code(const char *name, uint64_t created_s, void *ctx)
{
	struct json_object *o = json_object_new_object();

	rpc_set(o, "name", rpc_text(name));
	rpc_set_u64(o, "created", created_s);
	json_object_array_add(ctx, o);
}

static void api_list_codes(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct gw_api *api = arg;
	struct json_object *o = success(), *list = json_object_new_array();

	(void)params;
	if (list)
		gw_store_codes(api->store, list_code, list);
	rpc_set(o, "codes", list);
	rpc_reply(call, o);
}

/* ---- gateways ---- */

/* Those that are reached by an address, and then those that the mesh lists. */
static void api_list_gateways(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct gw_api *api = arg;
	struct json_object *o = success(), *list = gw_api_peers_list(api->peers, NULL);

	(void)params;
	gw_known_add(api->known, list);
	rpc_set(o, "gateways", list);
	rpc_reply(call, o);
}

/* ---- configuration ---- */

/* Sections that gatewayd reads; what is secret is shown as set or not. */
static bool section_is_ours(const char *section)
{
	return strcmp(section, "general") == 0 || strcmp(section, "daemon") == 0 ||
	       strcmp(section, "database") == 0 || strcmp(section, "gateway") == 0 ||
	       tunnel_gateway_find(section);
}

static struct json_object *value_json(const struct config *cfg, const struct config_key *k)
{
	const void *at = (const char *)cfg + k->offset;
	const char *text;

	switch (k->kind) {
	case CONFIG_U64:
		return json_object_new_uint64(*(const uint64_t *)at);
	case CONFIG_BOOL:
		return json_object_new_boolean(*(const bool *)at);
	default:
		text = *(const char *const *)at;
		return rpc_text((strcasestr(k->key, "token") || strcasestr(k->key, "password")) &&
						*text
					? "***"
					: text);
	}
}

static void api_get_config(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct gw_api *api = arg;
	struct json_object *o = success(), *all = json_object_new_object(), *section;
	const struct config_key *keys = config_keys();

	(void)params;
	for (size_t i = 0; all && i < config_key_count(); i++) {
		const struct config_key *k = &keys[i];

		if (!section_is_ours(k->section))
			continue;
		if (!json_object_object_get_ex(all, k->section, &section)) {
			section = json_object_new_object();
			rpc_set(all, k->section, section);
		}
		if (section)
			rpc_set(section, k->key, value_json(api->cfg, k));
	}
	rpc_set(o, "config", all);
	rpc_reply(call, o);
}

/* What may be set while everything runs.  Not what runs programs or says who may do this: the RPC
 * trusts addresses. */
static bool is_settable(const struct config_key *k)
{
	static const char keys[][18] = {
		"LeaseSeconds",
		"MaxSubscribers",
		"SessionsPerHost",
		"RateKbps",
		"QuotaBytes",
		"MonthQuotaBytes",
		"StepDownKbps",
		"RequireCode",
		"Price",
		"Currency",
		"Text",
		"UplinkTargets",
		"UplinkDns",
		"UplinkDnsName",
		"UplinkInterval",
		"UplinkUpKbps",
		"UplinkDownKbps",
		"UplinkQueue",
		"DeniedNetworks",
		"AllowedNetworks",
	};

	for (size_t i = 0; strcmp(k->section, "gateway") == 0 && i < sizeof(keys) / sizeof(keys[0]);
	     i++)
		if (strcmp(k->key, keys[i]) == 0)
			return true;
	return false;
}

struct complaint {
	char text[TEXT_MAX_BYTES + 1];
};

static void complain(void *ctx, const char *line)
{
	struct complaint *c = ctx;

	if (!*c->text)
		cstr_copy(c->text, sizeof(c->text), line);
}

static int copy_key(struct config *to, const struct config *from, const struct config_key *k,
		    struct complaint *c)
{
	const void *at = (const char *)from + k->offset;
	char option[OPTION_MAX];

	if (k->kind == CONFIG_U64)
		cstr_print(option, sizeof(option), "%s.%s=%" PRIu64, k->section, k->key,
			   *(const uint64_t *)at);
	else
		cstr_print(option, sizeof(option), "%s.%s=%s", k->section, k->key,
			   k->kind == CONFIG_BOOL ? (*(const bool *)at ? "yes" : "no")
						  : *(const char *const *)at);
	return config_set(to, option, complain, c);
}

/* A whole configuration with the change in it that would be accepted from a file, or NULL. */
static struct config *config_with(const struct config *cfg, const struct config_key *k,
				  const char *value, struct complaint *c)
{
	struct config *trial = config_new();
	char option[OPTION_MAX];
	int rc = trial ? 0 : -ENOMEM;

	for (size_t i = 0; !rc && i < config_key_count(); i++)
		rc = copy_key(trial, cfg, &config_keys()[i], c);
	cstr_print(option, sizeof(option), "%s.%s=%s", k->section, k->key, value);
	if (!rc)
		rc = config_set(trial, option, complain, c);
	if (!rc)
		rc = gw_shell_check(trial, complain, c);
	if (!rc)
		return trial;
	config_free(trial);
	if (!*c->text)
		cstr_copy(c->text, sizeof(c->text), strerror(-rc));
	return NULL;
}

static void api_set_config(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct gw_api *api = arg;
	const struct config_key *k;
	struct complaint c = {""};
	const char *key = rpc_param_str(params, "key", "");
	const char *value = rpc_param_str(params, "value", ""); /* as text, whatever its type */
	struct config *trial;
	struct json_object *o;

	k = config_key_find("gateway", strncasecmp(key, "gateway.", 8) == 0 ? key + 8 : key);
	if (strlen(value) > CONFIG_LINE_MAX_BYTES || strpbrk(value, "\r\n")) {
		rpc_fail(call, RPC_INVALID_PARAMS, "Invalid params: value is one line of text");
	} else if (!k || !is_settable(k)) {
		rpc_fail(call, RPC_FAILED, "'%.60s' cannot be set while gatewayd runs", key);
	} else if (!(trial = config_with(api->cfg, k, value, &c))) {
		rpc_fail(call, RPC_FAILED, "%s", c.text);
	} else {
		config_replace(api->cfg, trial);
		api->reload(api->settle_arg);
		o = success();
		rpc_set_str(o, "key", k->key);
		rpc_set(o, "value", value_json(api->cfg, k));
		/* The file stays the operator's: it holds again from the next SIGHUP or start. */
		rpc_set_bool(o, "persistent", false);
		rpc_reply(call, o);
	}
}

#define CODE_NAME "name text(" RPC_NUM(NAME_MAX_BYTES) ") what the code is called\n"
#define KEY "text(" RPC_NUM(TEXT_MAX_BYTES) ") "

static const struct rpc_method methods[] = {
	{.name = "endSession",
	 .handler = api_end_session,
	 .access = RPC_AUTHORISED,
	 .text = "Ends a lease.",
	 .params = "sid " GW_API_SID_TEXT "or as many of its first characters as tell it apart\n",
	 .result = "success bool\n"
		   "sid text the whole\n",
	 .fails = "no session, or several, begin so"},
	{.name = "addAccessCode",
	 .handler = api_add_code,
	 .access = RPC_AUTHORISED,
	 .text = "Makes an access code (RequireCode = yes asks for one).",
	 .params = CODE_NAME,
	 .result = "success bool\n"
		   "name text\n"
		   "code text the secret, told only now\n",
	 .fails = "there is a code of this name"},
	{.name = "removeAccessCode",
	 .handler = api_remove_code,
	 .access = RPC_AUTHORISED,
	 .text = "Takes an access code back.",
	 .params = CODE_NAME,
	 .result = "@done",
	 .fails = "there is no code of this name"},
	{.name = "listAccessCodes",
	 .handler = api_list_codes,
	 .access = RPC_AUTHORISED,
	 .text = "The names of the access codes.",
	 .result = "success bool\n"
		   "codes @access_code[]\n"},
	{.name = "listGateways",
	 .handler = api_list_gateways,
	 .access = RPC_AUTHORISED,
	 .text = "Other gateways: those that have an address, then those that the mesh lists.",
	 .result = "success bool\n"
		   "gateways @gateway[]\n"},
	{.name = "getConfig",
	 .handler = api_get_config,
	 .access = RPC_AUTHORISED,
	 .text = "The configuration as it holds now.",
	 .result = "success bool\n"
		   "config @config\n"},
	{.name = "setConfig",
	 .handler = api_set_config,
	 .access = RPC_AUTHORISED,
	 .text = "Changes a key of [gateway] until the next SIGHUP or start.",
	 .params = "key " KEY "as in the file\n"
		   "value text|number|bool one line\n",
	 .result = "success bool\n"
		   "key text\n"
		   "value text|uint|bool as it holds now\n"
		   "persistent bool always false\n",
	 .fails = "the key cannot be set while gatewayd runs, or the value does not fit"},
};

int gw_api_register_admin(struct rpc_server *server, struct gw_api *api)
{
	return rpc_server_add(server, methods, sizeof(methods) / sizeof(methods[0]), api);
}
