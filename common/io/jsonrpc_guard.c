/* Networks, token, and what a browser may be tricked into. */
#include "io/jsonrpc_guard.h"

#include <ctype.h>
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

static int network_parse(struct rpc_network *n, const char *text)
{
	const char *slash = strchr(text, '/');
	size_t len = slash ? (size_t)(slash - text) : strlen(text);
	char ip[NET_ADDR_TEXT], *end = NULL;
	unsigned long max;

	if (len >= sizeof ip)
		return -EINVAL;
	memcpy(ip, text, len);
	ip[len] = '\0';
	if (net_addr_parse(&n->addr, ip, 0) || n->addr.port)
		return -EINVAL;
	max = n->addr.family == 4 ? 32 : 128;
	n->bits = (unsigned)max;
	if (!slash)
		return 0;
	if (!isdigit((unsigned char)slash[1]) || strtoul(slash + 1, &end, 10) > max || *end)
		return -EINVAL;
	n->bits = (unsigned)strtoul(slash + 1, NULL, 10);
	return 0;
}

void rpc_guard_clear(struct rpc_guard *g)
{
	if (g->token)
		sodium_memzero(g->token, strlen(g->token));
	free(g->token);
	free(g->names);
	*g = (struct rpc_guard){0};
}

static int guard_networks(struct rpc_guard *g, const char *list)
{
	char *copy = strdup(list ? list : ""), *rest = NULL;
	int err = copy ? 0 : -ENOMEM;

	for (char *t = copy ? strtok_r(copy, ", \t", &rest) : NULL; t && !err;
	     t = strtok_r(NULL, ", \t", &rest)) {
		if (g->network_count < RPC_NETWORKS_MAX &&
		    network_parse(&g->networks[g->network_count], t) == 0) {
			g->network_count++;
		} else {
			log_error("rpc: '%s' in the list of authorised networks is no prefix like "
				  "10.0.0.0/8 (%d at most)",
				  t, RPC_NETWORKS_MAX);
			err = -EINVAL;
		}
	}
	free(copy);
	return err;
}

int rpc_guard_init(struct rpc_guard *g, const struct rpc_http_spec *spec)
{
	int err = guard_networks(g, spec->networks);

	g->token = spec->token && *spec->token ? strdup(spec->token) : NULL;
	g->names = strdup(spec->names ? spec->names : "");
	if (!err && (!g->names || (spec->token && *spec->token && !g->token)))
		err = -ENOMEM;
	if (err)
		rpc_guard_clear(g);
	return err;
}

static bool in_list(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (const char *p = list; *p; p += strcspn(p, ", ")) {
		p += strspn(p, ", ");
		if (len && strcspn(p, ", ") == len && strncasecmp(p, word, len) == 0)
			return true;
	}
	return false;
}

/* A browser lured to a name that suddenly points at us (DNS rebinding) sends that name. */
static bool host_is_ours(const struct rpc_guard *g, const char *host)
{
	struct net_addr ip;
	char name[256];
	size_t len;

	if (!host || net_addr_parse(&ip, host, 0) == 0)
		return host != NULL;
	len = strcspn(host, ":");
	if (len >= sizeof name)
		return false;
	memcpy(name, host, len);
	name[len] = '\0';
	return strcasecmp(name, "localhost") == 0 || in_list(g->names, name);
}

/* Requests a web page caused are trusted by address only when the page is our own. */
static bool page_is_ours(const struct rpc_guard *g, const struct rpc_credentials *c)
{
	const char *site = c->origin ? strstr(c->origin, "://") : NULL;
	const char *from = c->fetch_site;

	if (from && strcasecmp(from, "same-origin") != 0 && strcasecmp(from, "none") != 0)
		return false;
	if (!c->origin && !c->get)
		return true;
	if (!host_is_ours(g, c->host))
		return false;
	return !c->origin || (site && strcasecmp(site + 3, c->host) == 0);
}

static bool token_given(const struct rpc_guard *g, const char *authorization)
{
	size_t len = g->token ? strlen(g->token) : 0;

	if (!g->token || !authorization || strncasecmp(authorization, "Bearer ", 7) != 0)
		return false;
	authorization += 7 + strspn(authorization + 7, " ");
	return strlen(authorization) == len && sodium_memcmp(authorization, g->token, len) == 0;
}

bool rpc_guard_allows(const struct rpc_guard *g, const struct rpc_credentials *c)
{
	if (token_given(g, c->authorization))
		return true;
	for (size_t i = 0; i < g->network_count; i++) {
		if (g->networks[i].addr.family == c->addr.family &&
		    net_addr_same_prefix(&g->networks[i].addr, &c->addr, g->networks[i].bits))
			return page_is_ours(g, c);
	}
	return false;
}
