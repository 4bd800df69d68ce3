/* What ranges cannot say about the gateway's configuration. */
#include <ctype.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cstr.h"
#include "base/limits.h"
#include "gatewayd/api.h"
#include "gatewayd/pool.h"
#include "gatewayd/shell.h"
#include "gatewayd/uplink.h"
#include "io/config_value.h"
#include "io/hook.h"
#include "tunnel/tunnel.h"

struct check {
	const struct config *cfg;
	config_report *report;
	void *ctx;
	bool bad;
};

static void fault(struct check *c, const char *key, const char *value, const char *accepted)
{
	char line[512];

	cstr_print(line, sizeof(line), "gateway.%s: '%.300s' is not accepted: %s", key, value,
		   accepted);
	c->report(c->ctx, line);
	c->bad = true;
}

static void check_pool(struct check *c, const char *key, const char *text, uint8_t family)
{
	struct pool p;
	bool good = pool_init(&p, text) == 0 && (!*text || p.net.addr.family == family);

	pool_free(&p);
	if (!good)
		fault(c, key, text,
		      family == 4 ? "one IPv4 network without host bits, /8 to /30, or nothing"
				  : "one IPv6 network without host bits, /8 to /126, or nothing");
}

static void check_methods(struct check *c)
{
	const char *at = c->cfg->gateway_methods;
	char name[LEASE_METHOD_MAX + 1];
	bool any = false;

	while (config_list_next(&at, name, sizeof(name))) {
		any = true;
		if (!tunnel_gateway_find(name))
			fault(c, "Methods", name, "no such method");
	}
	if (!any)
		fault(c, "Methods", c->cfg->gateway_methods, "at least one method is needed");
}

static void check_targets(struct check *c)
{
	const char *at = c->cfg->gateway_uplink_targets;
	struct net_addr a;
	char text[NET_ADDR_TEXT + 8];

	while (config_list_next(&at, text, sizeof(text)))
		if (net_addr_parse(&a, text, 0) || !a.port)
			fault(c, "UplinkTargets", text, "IP:PORT is needed");
}

static void check_question(struct check *c)
{
	uint8_t out[UPLINK_QUESTION_MAX];

	if (!uplink_question(out, 0, c->cfg->gateway_uplink_dns_name))
		fault(c, "UplinkDnsName", c->cfg->gateway_uplink_dns_name, "a host name is needed");
}

static void check_command(struct check *c, const char *key, const char *command)
{
	char path[HOOK_LINE_MAX];

	if (!*command)
		return;
	if (hook_check(command, path) || *path != '/' || access(path, X_OK))
		fault(c, key, command, "the whole path of a program, then words for it");
}

static void check_length(struct check *c, const char *key, const char *text, size_t max)
{
	char accepted[64];

	cstr_print(accepted, sizeof(accepted), "at most %zu bytes", max);
	if (strlen(text) > max)
		fault(c, key, text, accepted);
}

static void check_name(struct check *c)
{
	const char *name = c->cfg->gateway_name;

	check_length(c, "Name", name, NAME_MAX_BYTES);
	for (const char *p = name; *p; p++)
		if (isspace((unsigned char)*p) || iscntrl((unsigned char)*p)) {
			fault(c, "Name", name, "no blanks, it is also the app's id");
			return;
		}
}

int gw_shell_check(const struct config *cfg, config_report *report, void *report_ctx)
{
	struct check c = {cfg, report, report_ctx, false};

	check_name(&c);
	check_pool(&c, "Pool4", cfg->gateway_pool4, 4);
	check_pool(&c, "Pool6", cfg->gateway_pool6, 6);
	if (!*cfg->gateway_pool4 && !*cfg->gateway_pool6)
		fault(&c, "Pool4", "", "at least one of Pool4 and Pool6 is needed");
	check_methods(&c);
	check_targets(&c);
	check_question(&c);
	check_command(&c, "OnRegister", cfg->gateway_on_register);
	check_command(&c, "OnRelease", cfg->gateway_on_release);
	check_length(&c, "UplinkInterface", cfg->gateway_uplink_interface, IFNAMSIZ - 1);
	check_length(&c, "Text", cfg->gateway_text, GW_API_TEXT_MAX);
	check_length(&c, "Price", cfg->gateway_price, GW_API_WORD_MAX);
	check_length(&c, "Currency", cfg->gateway_currency, GW_API_WORD_MAX);
	return c.bad ? -EINVAL : 0;
}
