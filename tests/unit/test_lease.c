/* Leases: session ids, who may do what with a lease, and the table. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gatewayd/lease.h"

static struct lease_binding from_host(const char *address)
{
	struct lease_binding b = {0};

	assert_int_equal(net_addr_parse(&b.host, address, 0), 0);
	return b;
}

static struct lease_binding with_app(struct lease_binding b, uint8_t node, const char *app)
{
	b.node.b[0] = node;
	snprintf(b.app, sizeof(b.app), "%s", app);
	return b;
}

static struct lease_binding from_mesh(uint8_t node, const char *app)
{
	return with_app((struct lease_binding){.proven = true}, node, app);
}

static struct lease *lease_new(const char *sid, struct lease_binding who)
{
	struct lease *l = calloc(1, sizeof(*l));

	assert_non_null(l);
	snprintf(l->sid, sizeof(l->sid), "%s", sid);
	snprintf(l->method, sizeof(l->method), "mesh");
	l->who = who;
	return l;
}

static void test_sid(void **state)
{
	static const uint8_t random[LEASE_SID_RANDOM_BYTES] = {0xde, 0xad, [15] = 0x0f};
	char sid[SID_MAX + 1], longest[SID_MAX + 2];

	(void)state;
	memset(longest, 'a', sizeof(longest));
	longest[SID_MAX + 1] = '\0';
	assert_false(sid_valid(longest));
	longest[SID_MAX] = '\0';
	assert_true(sid_valid(longest));
	assert_true(sid_valid("A-z_09"));
	assert_true(sid_valid("x"));
	assert_false(sid_valid(""));
	assert_false(sid_valid("a b"));
	assert_false(sid_valid("a/b"));
	assert_false(sid_valid("a.b"));
	assert_false(sid_valid("s\xc3\xa9"));
	assert_false(sid_valid("a\n"));
	lease_sid_make(random, sid);
	assert_string_equal(sid, "dead000000000000000000000000000f");
	assert_true(sid_valid(sid));
}

static void test_belongs(void **state)
{
	struct lease *http = lease_new("h", with_app(from_host("10.0.0.5"), 1, "sub"));
	struct lease *mesh = lease_new("m", from_mesh(1, "sub"));
	struct lease_binding c;

	(void)state;
	net_addr_parse(&mesh->ip4, "10.66.0.2", 0);
	/* the same subscriber; the port of a connection says nothing */
	c = with_app(from_host("10.0.0.5:999"), 1, "sub");
	assert_true(lease_belongs_to(http, &c));
	assert_true(lease_may_manage(http, &c));
	/* a lease that was proven is out of reach of a host that names its app */
	assert_false(lease_belongs_to(mesh, &c));
	assert_false(lease_may_manage(mesh, &c));
	/* another host, app or node */
	c = with_app(from_host("10.0.0.6"), 1, "sub");
	assert_false(lease_belongs_to(http, &c));
	assert_false(lease_may_manage(http, &c));
	c = with_app(from_host("10.0.0.5"), 1, "other");
	assert_false(lease_belongs_to(http, &c));
	c = with_app(from_host("10.0.0.5"), 2, "sub");
	assert_false(lease_belongs_to(http, &c));
	/* over the mesh the app is proven, wherever its lease was made */
	c = from_mesh(1, "sub");
	assert_true(lease_belongs_to(http, &c));
	assert_true(lease_belongs_to(mesh, &c));
	assert_true(lease_may_manage(http, &c));
	c = from_mesh(1, "other");
	assert_false(lease_belongs_to(mesh, &c));
	assert_false(lease_may_manage(mesh, &c));
	/* from inside its tunnel a host may renew, not ask as somebody */
	c = from_host("10.66.0.2");
	assert_true(lease_may_manage(mesh, &c));
	assert_false(lease_belongs_to(mesh, &c));
	c = (struct lease_binding){0}; /* from nowhere: no address is not the missing IPv6 one */
	assert_false(lease_may_manage(mesh, &c));
	assert_false(lease_belongs_to(mesh, &c));
	lease_free(http);
	lease_free(mesh);
}

static void test_same_host(void **state)
{
	struct lease_binding a = from_host("10.0.0.5"), b = from_host("10.0.0.6");
	struct lease_binding m = from_mesh(1, "x"), n = from_mesh(1, "y"), o = from_mesh(2, "x");

	(void)state;
	assert_true(lease_same_host(&a, &a));
	assert_false(lease_same_host(&a, &b));
	assert_true(lease_same_host(&m, &n));
	assert_false(lease_same_host(&m, &o));
	assert_false(lease_same_host(&m, &a));
	assert_false(lease_same_host(&a, &m));
	a = from_host("fd00::1");
	b = from_host("fd00::ffff:1");
	assert_true(lease_same_host(&a, &b));
	b = from_host("fd00:0:0:1::1");
	assert_false(lease_same_host(&a, &b));
}

static void test_table(void **state)
{
	struct lease *a = lease_new("a", from_mesh(1, "sub")),
		     *b = lease_new("b", from_mesh(2, "sub"));
	struct lease *c = lease_new("c", from_host("10.0.0.5")),
		     *d = lease_new("d", from_host("10.0.0.5"));
	struct lease *same_sid = lease_new("a", from_mesh(3, "sub"));
	struct lease *same_app = lease_new("e", from_mesh(1, "sub"));
	struct lease_binding host = from_host("10.0.0.5"), app = from_mesh(2, "sub");
	struct lease_table t;

	(void)state;
	lease_table_init(&t, 4, 1);
	assert_null(lease_table_by_sid(&t, "a"));
	assert_int_equal(lease_table_add(&t, a), 0);
	assert_int_equal(lease_table_add(&t, b), 0);
	assert_int_equal(lease_table_add(&t, c), 0);
	assert_int_equal(lease_table_add(&t, d), 0);
	assert_int_equal(lease_table_add(&t, same_sid), -EEXIST);
	assert_int_equal(lease_table_add(&t, same_app), -EEXIST);
	assert_int_equal(t.count, 4);
	assert_ptr_equal(lease_table_by_sid(&t, "c"), c);
	assert_ptr_equal(lease_table_by_app(&t, "mesh", &a->who.node, "sub"), a);
	assert_null(lease_table_by_app(&t, "mesh", &a->who.node, "subx"));
	assert_null(lease_table_by_app(&t, "null", &a->who.node, "sub"));
	assert_ptr_equal(lease_table_by_owner(&t, "mesh", &host), c); /* the oldest */
	assert_ptr_equal(lease_table_by_owner(&t, "mesh", &app), b);
	assert_null(lease_table_by_owner(&t, "null", &host));
	assert_int_equal(lease_table_count_host(&t, &host), 2);
	lease_table_remove(&t, c);
	assert_null(lease_table_by_sid(&t, "c"));
	assert_ptr_equal(lease_table_by_owner(&t, "mesh", &host), d);
	lease_table_remove(&t, a);
	assert_int_equal(lease_table_add(&t, same_sid), 0);
	assert_int_equal(lease_table_add(&t, same_app), 0);
	assert_int_equal(t.count, 4);
	/* at the limit an add leaves nothing behind */
	assert_int_equal(lease_table_add(&t, c), -ENOSPC);
	assert_null(lease_table_by_sid(&t, "c"));
	assert_int_equal(t.count, 4);
	lease_table_free(&t);
	lease_free(a), lease_free(b), lease_free(c), lease_free(d);
	lease_free(same_sid), lease_free(same_app);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sid),
		cmocka_unit_test(test_belongs),
		cmocka_unit_test(test_same_host),
		cmocka_unit_test(test_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
