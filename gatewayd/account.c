#include "gatewayd/account.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cstr.h"

#define KEY_BYTES 32
#define HOST_PREFIX_V6 64u

static void host_text(const struct net_addr *host, char out[NET_PREFIX_TEXT])
{
	struct net_prefix p = {.addr = *host, .bits = HOST_PREFIX_V6};

	if (host->family == 4) {
		net_addr_ip_text(host, out);
		return;
	}
	p = net_prefix_network(&p);
	net_prefix_text(&p, out);
}

void account_who(const struct lease_binding *b, const char *code, char who[ACCOUNT_WHO_MAX + 1])
{
	char text[MESH_ID_TEXT > NET_PREFIX_TEXT ? MESH_ID_TEXT : NET_PREFIX_TEXT];

	if (*code) {
		cstr_print(who, ACCOUNT_WHO_MAX + 1, "code:%s", code);
		return;
	}
	if (b->proven) { /* what a host says about its node is not taken for it */
		cstr_print(who, ACCOUNT_WHO_MAX + 1, "node:%s", mesh_id_text(&b->node, text));
		return;
	}
	host_text(&b->host, text);
	cstr_print(who, ACCOUNT_WHO_MAX + 1, "host:%s", text);
}

static void who_key(const char *who, uint8_t key[KEY_BYTES])
{
	crypto_generichash(key, KEY_BYTES, (const uint8_t *)who, strlen(who), NULL, 0);
}

void account_table_init(struct account_table *t, size_t max, uint64_t seed)
{
	map_init(&t->by_who, KEY_BYTES, max, seed);
	TAILQ_INIT(&t->all);
}

void account_table_free(struct account_table *t)
{
	struct account *a;

	while ((a = TAILQ_FIRST(&t->all)))
		account_remove(t, a);
	map_free(&t->by_who);
}

struct account *account_find(const struct account_table *t, const char *who)
{
	uint8_t key[KEY_BYTES];

	who_key(who, key);
	return map_get(&t->by_who, key);
}

struct account *account_add(struct account_table *t, const char *who, uint32_t month)
{
	struct account *a = calloc(1, sizeof(*a));
	uint8_t key[KEY_BYTES];

	if (!a)
		return NULL;
	cstr_copy(a->who, sizeof(a->who), who);
	a->month = month;
	who_key(a->who, key);
	if (map_put(&t->by_who, key, a)) {
		free(a);
		return NULL;
	}
	TAILQ_INSERT_TAIL(&t->all, a, link);
	return a;
}

void account_remove(struct account_table *t, struct account *a)
{
	uint8_t key[KEY_BYTES];

	who_key(a->who, key);
	map_del(&t->by_who, key);
	TAILQ_REMOVE(&t->all, a, link);
	free(a);
}

void account_turn(struct account *a, uint32_t month)
{
	if (a->month == month)
		return;
	a->month = month;
	a->up_bytes = a->down_bytes = 0;
	a->dirty = true;
}

uint64_t account_used(const struct account *a)
{
	return a->up_bytes + a->down_bytes;
}
