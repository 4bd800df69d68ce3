#include "subscriberd/discover.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "io/config_value.h"
#include "libmeshapp/meshapp.h"

#define GATEWAY_TYPE "internet_gateway"
#define GATEWAY_PORT 65533

struct discover {
	struct discover_spec spec;
};

int discover_new(struct discover **out, const struct discover_spec *spec)
{
	struct discover *d = calloc(1, sizeof *d);

	if (!d)
		return -ENOMEM;
	d->spec = *spec;
	*out = d;
	return 0;
}

void discover_free(struct discover *d)
{
	free(d);
}

static void found(struct discover *d, const struct sub_contact *c)
{
	sub_engine_found(d->spec.engine, c, NULL, daemon_wall_s(), daemon_now_us());
}

static bool listed(const struct meshapp_entry *entries, size_t count, const struct sub_contact *c)
{
	for (size_t i = 0; i < count; i++)
		if (mesh_id_equal(&entries[i].node, &c->node) &&
		    strcmp(entries[i].app, c->app) == 0)
			return true;
	return false;
}

static void on_list(void *arg, uint16_t code, const struct meshapp_entry *entries, size_t count)
{
	struct discover *d = arg;
	struct sub_engine *engine = d->spec.engine;
	const struct sub_gateway *g;
	size_t it = 0;

	if (code != CODE_OK) {
		log_debug("apptracker was not asked: %s", msg_code_name(code));
		return;
	}
	for (size_t i = 0; i < count; i++) {
		struct sub_contact c = {.via = SUB_VIA_MESH, .node = entries[i].node};
		snprintf(c.app, sizeof c.app, "%s", entries[i].app);
		found(d, &c);
	}
	while ((g = sub_engine_next_gateway(engine, &it)))
		if (g->contact.via == SUB_VIA_MESH && !listed(entries, count, &g->contact))
			sub_engine_vanished(engine, &g->contact, daemon_now_us());
	d->spec.changed(d->spec.ctx);
}

void discover_run(struct discover *d)
{
	const char *at = d->spec.daemon->cfg->subscriber_gateways;
	struct meshapp *app = d->spec.app;
	char item[NET_ADDR_TEXT];

	while (config_list_next(&at, item, sizeof item)) {
		struct sub_contact c = {.via = SUB_VIA_HTTP};
		if (net_addr_parse(&c.addr, item, GATEWAY_PORT) == 0)
			found(d, &c);
	}
	if (app && meshapp_is_up(app))
		meshapp_list(app, APP_LIST_BY_TYPE, GATEWAY_TYPE, on_list, d);
}
