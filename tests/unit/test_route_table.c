/* The route table against a plain array. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "core/route_table.h"

#define MAX 200u
#define SPACE 20u

struct naive {
	struct route_rule v[MAX];
	size_t n;
};

static uint32_t seed = 1;

static uint32_t any(uint32_t below)
{
	seed = seed * 1664525u + 1013904223u;
	return (seed >> 8) % below;
}

static struct route_rule *naive_find(struct naive *o, uint32_t in_transport, uint32_t in_route)
{
	for (size_t i = 0; i < o->n; i++)
		if (o->v[i].in_transport == in_transport && o->v[i].in_route == in_route)
			return &o->v[i];
	return NULL;
}

static int naive_add(struct naive *o, const struct route_rule *r)
{
	struct route_rule *old = naive_find(o, r->in_transport, r->in_route);

	if (!old && o->n == MAX)
		return -ENOSPC;
	*(old ? old : &o->v[o->n++]) = *r;
	return 0;
}

static int naive_remove(struct naive *o, uint32_t in_transport, uint32_t in_route)
{
	struct route_rule *r = naive_find(o, in_transport, in_route);

	if (!r)
		return -ENOENT;
	*r = o->v[--o->n];
	return 0;
}

static size_t naive_drop(struct naive *o, uint32_t transport)
{
	size_t dropped = 0;

	for (size_t i = 0; i < o->n;) {
		if (o->v[i].in_transport == transport || o->v[i].out_transport == transport) {
			o->v[i] = o->v[--o->n];
			dropped++;
		} else {
			i++;
		}
	}
	return dropped;
}

static void compare(const struct route_table *t, struct naive *o)
{
	struct route_rule *r;
	size_t it = 0, seen = 0;

	assert_int_equal(route_table_count(t), o->n);
	while ((r = route_table_next(t, &it))) {
		struct route_rule *want = naive_find(o, r->in_transport, r->in_route);
		assert_non_null(want);
		assert_int_equal(r->out_transport, want->out_transport);
		assert_int_equal(r->out_route, want->out_route);
		assert_ptr_equal(route_table_lookup(t, r->in_transport, r->in_route), r);
		seen++;
	}
	assert_int_equal(seen, o->n);
}

static void step(struct route_table *t, struct naive *o)
{
	struct route_rule r = {.in_transport = any(SPACE),
			       .in_route = any(SPACE * 2),
			       .out_transport = any(SPACE),
			       .out_route = any(1000)};
	uint32_t what = any(100);

	if (what < 70)
		assert_int_equal(route_table_add(t, &r), naive_add(o, &r));
	else if (what < 98)
		assert_int_equal(route_table_remove(t, r.in_transport, r.in_route),
				 naive_remove(o, r.in_transport, r.in_route));
	else
		assert_int_equal(route_table_drop_transport(t, r.in_transport),
				 naive_drop(o, r.in_transport));
}

static void same_as_array(void **state)
{
	struct route_table t;
	struct naive o = {.n = 0};

	(void)state;
	route_table_init(&t, MAX, 42);
	for (int i = 0; i < 20000; i++) {
		step(&t, &o);
		if (i % 100 == 0)
			compare(&t, &o);
	}
	compare(&t, &o);
	route_table_free(&t);
}

static void full_table_refuses(void **state)
{
	struct route_table t;
	struct route_rule r = {.in_transport = 1};

	(void)state;
	route_table_init(&t, 3, 42);
	for (r.in_route = 0; r.in_route < 3; r.in_route++)
		assert_int_equal(route_table_add(&t, &r), 0);
	assert_int_equal(route_table_add(&t, &r), -ENOSPC);
	r.in_route = 1;
	r.out_route = 77; /* replacing needs no room */
	assert_int_equal(route_table_add(&t, &r), 0);
	assert_int_equal(route_table_lookup(&t, 1, 1)->out_route, 77);
	assert_null(route_table_lookup(&t, 1, 3));
	assert_null(route_table_lookup(&t, 2, 1));
	route_table_free(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(same_as_array),
		cmocka_unit_test(full_table_refuses),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
