#include "gatewayd/lease.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define KEY_BYTES 32
#define ADDR_BYTES 17
#define HOST_PREFIX_V6 64u /* one host can have as many addresses as it likes in its /64 */

void lease_sid_make(const uint8_t random[LEASE_SID_RANDOM_BYTES], char sid[SID_MAX + 1])
{
	hex_encode(random, LEASE_SID_RANDOM_BYTES, sid);
}

bool lease_binding_has_app(const struct lease_binding *b)
{
	return !mesh_id_is_zero(&b->node);
}

bool lease_binding_has_key(const struct lease_binding *b)
{
	return !mesh_id_is_zero(&b->key);
}

static bool same_app(const struct lease_binding *a, const struct lease_binding *b)
{
	return mesh_id_equal(&a->node, &b->node) && strcmp(a->app, b->app) == 0;
}

static bool same_host_address(const struct lease_binding *a, const struct lease_binding *b)
{
	return a->host.family != 0 && net_addr_same_ip(&a->host, &b->host);
}

/* A stamp that was seen already may have been recorded; at the address where it was used it is
 * only asked twice. */
static bool is_owner(const struct lease *l, const struct lease_binding *caller)
{
	if (!lease_binding_has_key(&l->who))
		return same_host_address(&l->who, caller);
	return mesh_id_equal(&l->who.key, &caller->key) &&
	       (caller->stamp > l->who.stamp || same_host_address(&l->who, caller));
}

bool lease_belongs_to(const struct lease *l, const struct lease_binding *caller)
{
	if (!same_app(&l->who, caller))
		return false;
	return caller->proven || (!l->who.proven && is_owner(l, caller));
}

bool lease_may_manage(const struct lease *l, const struct lease_binding *caller)
{
	if (caller->proven)
		return same_app(&l->who, caller);
	if (caller->host.family == 0)
		return false;
	if (net_addr_same_ip(&caller->host, &l->ip4) || net_addr_same_ip(&caller->host, &l->ip6))
		return true;
	return !l->who.proven && is_owner(l, caller);
}

bool lease_same_host(const struct lease_binding *a, const struct lease_binding *b)
{
	if (a->proven && b->proven)
		return mesh_id_equal(&a->node, &b->node);
	if (lease_binding_has_key(a) && mesh_id_equal(&a->key, &b->key))
		return true;
	if (a->host.family == 6)
		return net_addr_same_prefix(&a->host, &b->host, HOST_PREFIX_V6);
	return same_host_address(a, b);
}

void lease_free(struct lease *l)
{
	if (!l)
		return;
	free(l->options);
	free(l);
}

static void sid_key(const char *sid, uint8_t key[KEY_BYTES])
{
	crypto_generichash(key, KEY_BYTES, (const uint8_t *)sid, strlen(sid), NULL, 0);
}

/* The lengths of the parts are fixed or closed by their NUL, so no two triples hash the same. */
static void app_key(const char *method, const struct mesh_id *node, const char *app,
		    uint8_t key[KEY_BYTES])
{
	crypto_generichash_state s;

	crypto_generichash_init(&s, NULL, 0, KEY_BYTES);
	crypto_generichash_update(&s, (const uint8_t *)method, strlen(method) + 1);
	crypto_generichash_update(&s, node->b, sizeof(node->b));
	crypto_generichash_update(&s, (const uint8_t *)app, strlen(app) + 1);
	crypto_generichash_final(&s, key, KEY_BYTES);
}

void lease_table_init(struct lease_table *t, size_t max, uint64_t seed)
{
	TAILQ_INIT(&t->all);
	map_init(&t->by_sid, KEY_BYTES, max, seed);
	map_init(&t->by_app, KEY_BYTES, max, ~seed);
	map_init(&t->by_addr, ADDR_BYTES, max * 2, seed);
	t->count = 0;
}

void lease_table_free(struct lease_table *t)
{
	map_free(&t->by_sid);
	map_free(&t->by_app);
	map_free(&t->by_addr);
	TAILQ_INIT(&t->all);
	t->count = 0;
}

static void addr_key(const struct net_addr *a, uint8_t key[ADDR_BYTES])
{
	memset(key, 0, ADDR_BYTES);
	key[0] = a->family;
	memcpy(key + 1, a->ip, a->family == 4 ? 4 : 16);
}

struct lease *lease_table_by_addr(const struct lease_table *t, const struct net_addr *a)
{
	uint8_t key[ADDR_BYTES];

	addr_key(a, key);
	return map_get(&t->by_addr, key);
}

/* Nothing but counting rests on it, so a want of memory is no reason to refuse. */
static void addrs_put(struct lease_table *t, struct lease *l, bool put)
{
	const struct net_addr *addrs[] = {&l->source4, &l->source6};
	uint8_t key[ADDR_BYTES];

	for (size_t i = 0; i < 2; i++) {
		if (!addrs[i]->family)
			continue;
		addr_key(addrs[i], key);
		if (put)
			map_put(&t->by_addr, key, l);
		else if (map_get(&t->by_addr, key) == l)
			map_del(&t->by_addr, key);
	}
}

void lease_table_opened(struct lease_table *t, struct lease *l)
{
	addrs_put(t, l, true);
}

void lease_table_closed(struct lease_table *t, struct lease *l)
{
	addrs_put(t, l, false);
}

struct lease *lease_table_by_sid(const struct lease_table *t, const char *sid)
{
	uint8_t key[KEY_BYTES];

	sid_key(sid, key);
	return map_get(&t->by_sid, key);
}

struct lease *lease_table_by_app(const struct lease_table *t, const char *method,
				 const struct mesh_id *node, const char *app)
{
	uint8_t key[KEY_BYTES];

	app_key(method, node, app, key);
	return map_get(&t->by_app, key);
}

int lease_table_add(struct lease_table *t, struct lease *l)
{
	uint8_t sid[KEY_BYTES], app[KEY_BYTES];
	int rc;

	sid_key(l->sid, sid);
	app_key(l->method, &l->who.node, l->who.app, app);
	if (map_get(&t->by_sid, sid))
		return -EEXIST;
	if (lease_binding_has_app(&l->who)) {
		if (map_get(&t->by_app, app))
			return -EEXIST;
		rc = map_put(&t->by_app, app, l);
		if (rc)
			return rc;
	}
	rc = map_put(&t->by_sid, sid, l);
	if (rc) {
		if (lease_binding_has_app(&l->who))
			map_del(&t->by_app, app);
		return rc;
	}
	TAILQ_INSERT_TAIL(&t->all, l, link);
	t->count++;
	return 0;
}

void lease_table_remove(struct lease_table *t, struct lease *l)
{
	uint8_t key[KEY_BYTES];

	sid_key(l->sid, key);
	map_del(&t->by_sid, key);
	if (lease_binding_has_app(&l->who)) {
		app_key(l->method, &l->who.node, l->who.app, key);
		map_del(&t->by_app, key);
	}
	addrs_put(t, l, false);
	TAILQ_REMOVE(&t->all, l, link);
	t->count--;
}

struct lease *lease_table_by_owner(const struct lease_table *t, const char *method,
				   const struct lease_binding *caller)
{
	struct lease *l;

	if (lease_binding_has_app(caller)) {
		l = lease_table_by_app(t, method, &caller->node, caller->app);
		return l && lease_belongs_to(l, caller) ? l : NULL;
	}
	TAILQ_FOREACH(l, &t->all, link)
		if (strcmp(l->method, method) == 0 && mesh_id_equal(&l->who.key, &caller->key) &&
		    (lease_binding_has_key(caller) || lease_belongs_to(l, caller)))
			return l;
	return NULL;
}

size_t lease_table_count_host(const struct lease_table *t, const struct lease_binding *who)
{
	const struct lease *l;
	size_t n = 0;

	TAILQ_FOREACH(l, &t->all, link)
		n += lease_same_host(&l->who, who);
	return n;
}
