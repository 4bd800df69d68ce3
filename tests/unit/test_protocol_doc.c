/* The tables of messages in common/PROTOCOL.md are those of messages.def.  When they are not, this
 * prints what belongs between the two marks in the document. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/msg.h"

#define BEGIN_MARK "<!-- from messages.def: begin -->\n"
#define END_MARK "<!-- from messages.def: end -->\n"
#define TEXT_MAX 65536u

struct text {
	char s[TEXT_MAX];
	size_t len;
};

static void put(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void put(struct text *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(t->s + t->len, sizeof t->s - t->len, fmt, ap);
	va_end(ap);
	assert_in_range(n, 0, sizeof t->s - t->len - 1);
	t->len += (size_t)n;
}

static void put_field(struct text *t, const char *name, const char *type)
{
	put(t, "%s%s %s", t->s[t->len - 2] == '|' ? "" : ", ", name, type);
}

static void put_sized(struct text *t, const char *name, const char *type, unsigned max)
{
	put_field(t, name, type);
	put(t, "(%u)", max);
}

static void put_senders(struct text *t, unsigned senders)
{
	static const char *const names[] = {"node", "manager", "tracker", "app"};
	const char *between = "";

	if (senders == FROM_ANY) {
		put(t, "any");
		return;
	}
	for (unsigned i = 0; i < 4; i++)
		if (senders & 1u << i) {
			put(t, "%s%s", between, names[i]);
			between = ", ";
		}
}

static void put_row(struct text *t, unsigned type, const char *name, unsigned senders,
		    enum msg_state state)
{
	put(t, "| %u | %s | ", type, name);
	put_senders(t, senders);
	put(t, " | %s | ", state == MSG_STATE_HELLO ? "hello" : "ready");
}

#define F_U8(n) put_field(t, #n, "u8");
#define F_U16(n) put_field(t, #n, "u16");
#define F_U32(n) put_field(t, #n, "u32");
#define F_U64(n) put_field(t, #n, "u64");
#define F_ID(n) put_field(t, #n, "id");
#define F_SECRET(n) put_field(t, #n, "secret");
#define F_ADDR(n) put_field(t, #n, "addr");
#define F_STR(n, max) put_sized(t, #n, "str", max);
#define F_BLOB(n, max) put_sized(t, #n, "blob", max);
#define F_LIST(item, n, max) put_sized(t, #n, "list of " #item, max);

static void put_items(struct text *t)
{
	put(t, "| item | fields |\n| --- | --- |\n");
#define ITEM(name, FIELDS)                                                                         \
	put(t, "| %s | ", #name);                                                                  \
	FIELDS put(t, " |\n");
#define MESSAGE(type, Name, name, senders, state, FIELDS)
#include "wire/messages.def"
#undef ITEM
#undef MESSAGE
}

static void put_messages(struct text *t)
{
	put(t, "| type | message | sent by | state | fields |\n| --- | --- | --- | --- | --- |\n");
#define ITEM(name, FIELDS)
#define MESSAGE(type, Name, name, senders, state, FIELDS)                                          \
	put_row(t, type, #Name, senders, MSG_STATE_##state);                                       \
	FIELDS put(t, " |\n");
#include "wire/messages.def"
#undef ITEM
#undef MESSAGE
}

static char *document(void)
{
	const char *root = getenv("MESHNET_SRC");
	char path[4096];

	snprintf(path, sizeof path, "%s/common/PROTOCOL.md", root ? root : ".");
	FILE *f = fopen(path, "r");
	char *text = calloc(1, 4 * TEXT_MAX);

	assert_non_null(text);
	if (!f)
		fail_msg("%s: %s (run in the root of the tree or set MESHNET_SRC)", path,
			 strerror(errno));
	assert_in_range(fread(text, 1, 4 * TEXT_MAX - 1, f), 1, 4 * TEXT_MAX - 2);
	fclose(f);
	return text;
}

static void test_tables(void **state)
{
	static struct text want;
	char *doc = document(), *begin = strstr(doc, BEGIN_MARK), *end = strstr(doc, END_MARK);

	(void)state;
	put_messages(&want);
	put(&want, "\n");
	put_items(&want);
	begin = begin ? begin + strlen(BEGIN_MARK) : NULL;
	if (!begin || !end || end < begin || (size_t)(end - begin) != want.len ||
	    memcmp(begin, want.s, want.len) != 0) {
		printf("%s%s%s", BEGIN_MARK, want.s, END_MARK);
		fail_msg("common/PROTOCOL.md does not hold these tables");
	}
	free(doc);
}

static void test_codes(void **state)
{
	char *doc = document(), row[64];

	(void)state;
	for (uint16_t code = 0; strcmp(msg_code_name(code), "unknown code") != 0; code++) {
		snprintf(row, sizeof row, "| %u | %s |", code, msg_code_name(code));
		if (!strstr(doc, row))
			fail_msg("common/PROTOCOL.md lacks the row: %s", row);
	}
	free(doc);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tables),
		cmocka_unit_test(test_codes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
