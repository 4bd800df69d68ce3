#include "gatewayd/codeguard.h"

#include <sodium.h>
#include <string.h>

#include "gatewayd/account.h"

static struct codeguard_window *window_of(struct codeguard *g, const struct lease_binding *who)
{
	char text[ACCOUNT_WHO_MAX + 1];
	uint8_t key[crypto_shorthash_KEYBYTES] = {0}, hash[crypto_shorthash_BYTES];

	account_who(who, "", text);
	memcpy(key, &g->seed, sizeof(g->seed));
	crypto_shorthash(hash, (const uint8_t *)text, strlen(text), key);
	return &g->hosts[hash[0] % CODEGUARD_SLOTS];
}

static unsigned wrong_in(struct codeguard_window *w, uint64_t now_s)
{
	if (now_s < w->began_s || now_s - w->began_s >= CODEGUARD_WINDOW_S)
		*w = (struct codeguard_window){.began_s = now_s};
	return w->wrong;
}

bool codeguard_allows(struct codeguard *g, const struct lease_binding *who, uint64_t now_s)
{
	return wrong_in(&g->all, now_s) < CODEGUARD_ALL &&
	       wrong_in(window_of(g, who), now_s) < CODEGUARD_PER_HOST;
}

void codeguard_wrong(struct codeguard *g, const struct lease_binding *who, uint64_t now_s)
{
	struct codeguard_window *w = window_of(g, who);

	wrong_in(&g->all, now_s);
	wrong_in(w, now_s);
	g->all.wrong++;
	w->wrong++;
}
