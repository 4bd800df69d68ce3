/* The question to a name server, and what counts as its answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "gatewayd/uplink.h"

static void test_question(void **state)
{
	static const uint8_t wanted[] = {0x12, 0x34, 1, 0,   0,	  1,   0, 0, 0, 0, 0, 0,
					 1,    'a',  3, 'o', 'r', 'g', 0, 0, 1, 0, 1};
	uint8_t out[UPLINK_QUESTION_MAX];
	char name[300];

	(void)state;
	assert_int_equal(uplink_question(out, 0x1234, "a.org"), sizeof wanted);
	assert_memory_equal(out, wanted, sizeof wanted);
	assert_int_equal(uplink_question(out, 1, "a.org."), sizeof wanted);
	assert_int_equal(uplink_question(out, 1, ""), 17); /* the root */
	assert_int_equal(uplink_question(out, 1, "a..org"), 0);
	assert_int_equal(uplink_question(out, 1, ".org"), 0);
	memset(name, 'x', sizeof name);
	name[64] = '\0';
	assert_int_equal(uplink_question(out, 1, name), 0);
	name[63] = '\0';
	assert_int_equal(uplink_question(out, 1, name), 12 + 65 + 4);
	for (size_t i = 0; i < 299; i++)
		name[i] = i % 2 ? '.' : 'x';
	name[299] = '\0';
	assert_int_equal(uplink_question(out, 1, name), 0);
}

static void test_answer(void **state)
{
	uint8_t answer[12] = {0x12, 0x34, 0x81, 0x80};

	(void)state;
	assert_true(uplink_answered(answer, 12, 0x1234));
	assert_false(uplink_answered(answer, 11, 0x1234));
	assert_false(uplink_answered(answer, 0, 0x1234));
	assert_false(uplink_answered(answer, 12, 0x1235));
	answer[3] = 0x83; /* no such name: the server works */
	assert_true(uplink_answered(answer, 12, 0x1234));
	answer[3] = 0x82; /* it has failed */
	assert_false(uplink_answered(answer, 12, 0x1234));
	answer[2] = 0x01; /* a question */
	answer[3] = 0x00;
	assert_false(uplink_answered(answer, 12, 0x1234));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_question),
		cmocka_unit_test(test_answer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
