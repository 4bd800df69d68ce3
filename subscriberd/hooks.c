#include "subscriberd/hooks.h"

#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cstr.h"

#define PAIR_MAX (SUB_KEY_MAX + 32)
#define WAITING_MAX 64

struct sub_hooks {
	struct hooks *programs;
	const struct config *cfg;
	const char *(*interface)(void *ctx, unsigned slot);
	void *ctx;
	char interfaces[SUB_SLOTS][IFNAMSIZ]; /* as they were when they came into use */
	unsigned in_use;
};

int sub_hooks_new(struct sub_hooks **out, struct event_base *base, const struct config *cfg,
		  const char *(*interface)(void *ctx, unsigned slot), void *ctx)
{
	struct sub_hooks *h = calloc(1, sizeof *h);
	int err = h ? hooks_new(&h->programs, base, 1, WAITING_MAX) : -ENOMEM;

	if (err) {
		free(h);
		return err;
	}
	h->cfg = cfg;
	h->interface = interface;
	h->ctx = ctx;
	*out = h;
	return 0;
}

void sub_hooks_free(struct sub_hooks *h)
{
	if (!h)
		return;
	hooks_free(h->programs);
	free(h);
}

bool sub_hooks_idle(const struct sub_hooks *h)
{
	return hooks_idle(h->programs);
}

static void run(struct sub_hooks *h, const char *name, const char *line, const struct sub_event *e)
{
	static const char keys[][12] = {"EVENT", "GATEWAY", "METHOD",	  "INTERFACE",
					"IPV4",	 "IPV6",    "GATEWAY_KEY"};
	char ip4[NET_ADDR_TEXT] = "", ip6[NET_ADDR_TEXT] = "", key[SUB_KEY_MAX];
	char pairs[7][PAIR_MAX];
	const char *env[8] = {NULL};

	if (!*line)
		return;
	if (e->lease->ip4.addr.family)
		net_addr_ip_text(&e->lease->ip4.addr, ip4);
	if (e->lease->ip6.addr.family)
		net_addr_ip_text(&e->lease->ip6.addr, ip6);
	sub_contact_key(&e->gateway->contact, key);
	const char *name_of = e->gateway->info.name[0] ? e->gateway->info.name : key;
	const char *values[] = {name, name_of, e->lease->method, h->interfaces[e->slot], ip4,
				ip6,  NULL};
	for (size_t i = 0; i < 7; i++) {
		cstr_print(pairs[i], PAIR_MAX, "MESHNET_%s=%s", keys[i], i < 6 ? values[i] : key);
		env[i] = pairs[i];
	}
	hooks_run(h->programs, name, line, values, env);
}

static void comes(struct sub_hooks *h, const struct sub_event *e)
{
	cstr_copy(h->interfaces[e->slot], IFNAMSIZ, h->interface(h->ctx, e->slot));
	if (h->in_use++ == 0)
		run(h, "onGoingOnline", h->cfg->subscriber_on_going_online, e);
	run(h, "onConnect", h->cfg->subscriber_on_connect, e);
}

static void goes(struct sub_hooks *h, const struct sub_event *e)
{
	run(h, "onDisconnect", h->cfg->subscriber_on_disconnect, e);
	if (h->in_use > 0 && --h->in_use == 0)
		run(h, "onGoingOffline", h->cfg->subscriber_on_going_offline, e);
}

void sub_hooks_event(struct sub_hooks *h, const struct sub_event *e)
{
	if (!h || !e->gateway || e->gateway->own || !e->lease ||
	    (e->kind != SUB_EVENT_STATE && e->kind != SUB_EVENT_STANDBY))
		return;
	if (e->to == SUB_ONLINE)
		comes(h, e);
	else if (e->from == SUB_ONLINE)
		goes(h, e);
}
