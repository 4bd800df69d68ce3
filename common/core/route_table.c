#include "core/route_table.h"

#include <errno.h>
#include <stdlib.h>

static void key_of(uint32_t key[2], uint32_t in_transport, uint32_t in_route)
{
	key[0] = in_transport;
	key[1] = in_route;
}

void route_table_init(struct route_table *t, size_t max, uint64_t seed)
{
	map_init(&t->rules, sizeof(uint32_t[2]), max, seed);
}

void route_table_free(struct route_table *t)
{
	size_t it = 0;
	struct route_rule *r;
	while ((r = map_next(&t->rules, &it)))
		free(r);
	map_free(&t->rules);
}

struct route_rule *route_table_lookup(const struct route_table *t, uint32_t in_transport,
				      uint32_t in_route)
{
	uint32_t key[2];
	key_of(key, in_transport, in_route);
	return map_get(&t->rules, key);
}

int route_table_add(struct route_table *t, const struct route_rule *rule)
{
	uint32_t key[2];
	struct route_rule *r = route_table_lookup(t, rule->in_transport, rule->in_route);

	if (r) {
		*r = *rule;
		return 0;
	}
	if (!(r = malloc(sizeof *r)))
		return -ENOMEM;
	*r = *rule;
	key_of(key, rule->in_transport, rule->in_route);
	int err = map_put(&t->rules, key, r);
	if (err)
		free(r);
	return err;
}

int route_table_remove(struct route_table *t, uint32_t in_transport, uint32_t in_route)
{
	uint32_t key[2];
	key_of(key, in_transport, in_route);
	struct route_rule *r = map_del(&t->rules, key);
	free(r);
	return r ? 0 : -ENOENT;
}

/* One rule that uses the transport, so that the caller may remove it and look again. */
static struct route_rule *find_by_transport(const struct route_table *t, uint32_t transport)
{
	size_t it = 0;
	struct route_rule *r;
	while ((r = map_next(&t->rules, &it)))
		if (r->in_transport == transport || r->out_transport == transport)
			return r;
	return NULL;
}

size_t route_table_drop_transport(struct route_table *t, uint32_t transport)
{
	size_t n = 0;
	struct route_rule *r;
	for (; (r = find_by_transport(t, transport)); n++)
		route_table_remove(t, r->in_transport, r->in_route);
	return n;
}

struct route_rule *route_table_next(const struct route_table *t, size_t *it)
{
	return map_next(&t->rules, it);
}

size_t route_table_count(const struct route_table *t)
{
	return t->rules.count;
}
