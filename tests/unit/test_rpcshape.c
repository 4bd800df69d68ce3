/* The notation of JSON-RPC's objects: which shape has which fields. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "io/rpcshape.h"

static void test_shapes_in_turn(void **state)
{
	const char *at =
		"one The first.\nx uint(1..5) of it\ny? text\n\nnone\n\nlast The last.\nz bool\n";
	struct rpc_shape shape;
	struct rpc_field field;

	(void)state;
	assert_true(rpc_shape_next(&at, &shape));
	assert_true(rpc_span_is(shape.name, "one"));
	assert_true(rpc_span_is(shape.text, "The first."));
	assert_true(rpc_field_next(&shape.fields, &field));
	assert_true(rpc_span_is(field.name, "x"));
	assert_true(rpc_span_is(field.text, "of it"));
	assert_true(rpc_field_next(&shape.fields, &field));
	assert_true(rpc_span_is(field.name, "y"));
	assert_true(field.optional);
	assert_false(rpc_field_next(&shape.fields, &field)); /* not those of the next */
	assert_true(rpc_shape_next(&at, &shape));
	assert_true(rpc_span_is(shape.name, "none"));
	assert_true(rpc_span_is(shape.text, ""));
	assert_false(rpc_field_next(&shape.fields, &field));
	assert_true(rpc_shape_next(&at, &shape));
	assert_true(rpc_span_is(shape.name, "last"));
	assert_true(rpc_field_next(&shape.fields, &field));
	assert_true(rpc_span_is(field.name, "z"));
	assert_false(rpc_field_next(&shape.fields, &field));
	assert_false(rpc_shape_next(&at, &shape));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shapes_in_turn),
	};
	return cmocka_run_group_tests_name("rpcshape", tests, NULL, NULL);
}
