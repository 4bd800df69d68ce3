/*
 * The template of a method: copy this file, name the method, add it to method.c, and fill in one
 * function after the other.  As it stands it works nowhere and says so.
 */
#include <errno.h>
#include <stdio.h>

#include "tunnel/tunnel.h"

static int null_probe(const struct tunnel_env *env, enum tunnel_end end, char *why)
{
	(void)env;
	(void)end;
	return tunnel_why(why, -EOPNOTSUPP, "the null method carries nothing");
}

/* --- gateway --- */

static int null_gateway_start(void **gw, const struct tunnel_env *env,
			      const struct tunnel_gateway_config *config, char *why)
{
	(void)gw;
	(void)config;
	return null_probe(env, TUNNEL_GATEWAY, why);
}

static void null_gateway_info(void *gw, struct json_object *entry)
{
	(void)gw;
	(void)entry;
}

static int null_gateway_open(void *gw, const struct tunnel_lease *lease, struct json_object *answer,
			     char interface[IFNAMSIZ], char *why)
{
	(void)gw;
	(void)lease;
	(void)answer;
	(void)interface;
	return null_probe(NULL, TUNNEL_GATEWAY, why);
}

static void null_gateway_close(void *gw, const char *sid)
{
	(void)gw;
	(void)sid;
}

static int null_gateway_counters(void *gw, const char *sid, struct tunnel_counters *out)
{
	(void)gw;
	(void)sid;
	*out = (struct tunnel_counters){0};
	return -ENOENT;
}

static void null_gateway_stop(void *gw)
{
	(void)gw;
}

/* --- subscriber --- */

static int null_client_open(void **client, const struct tunnel_env *env,
			    const struct tunnel_grant *grant, tunnel_client_state *state, void *arg,
			    char *why)
{
	(void)client;
	(void)grant;
	(void)state;
	(void)arg;
	return null_probe(env, TUNNEL_SUBSCRIBER, why);
}

static const char *null_client_interface(void *client)
{
	(void)client;
	return "";
}

static void null_client_counters(void *client, struct tunnel_counters *out)
{
	(void)client;
	*out = (struct tunnel_counters){0};
}

static void null_client_close(void *client)
{
	(void)client;
}

TUNNEL_METHOD(null, (.name = "null", .probe = null_probe),
	      (.gateway_start = null_gateway_start, .gateway_info = null_gateway_info,
	       .gateway_open = null_gateway_open, .gateway_close = null_gateway_close,
	       .gateway_counters = null_gateway_counters, .gateway_stop = null_gateway_stop),
	      (.client_open = null_client_open, .client_interface = null_client_interface,
	       .client_counters = null_client_counters, .client_close = null_client_close));
