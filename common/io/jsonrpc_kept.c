/* Answers that are kept: who asks the same again, but for the id, gets the same, but for the id. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "io/jsonrpc_int.h"

#define ID_DIGITS_MAX 15u /* every such number prints as it was read */
#define FRAME "{\"jsonrpc\":\"2.0\",\"id\":"

/* The digits of a whole number without a sign at `at`, as it would be printed; 0: there are none.
 */
static size_t digits(const char *text, size_t len, size_t at)
{
	size_t n = 0;

	while (at + n < len && n <= ID_DIGITS_MAX && isdigit((unsigned char)text[at + n]))
		n++;
	return n > ID_DIGITS_MAX || (n > 1 && text[at] == '0') ? 0 : n;
}

static size_t skip_blanks(const char *text, size_t len, size_t at)
{
	while (at < len && text[at] && strchr(" \t\r\n", text[at]))
		at++;
	return at;
}

/* Where the id's number stands in a call that has been answered, so it is JSON: "id" occurs once
 * in it, and nothing is written in another way.  False: it cannot be told. */
static bool id_find(const char *text, size_t len, size_t *at, size_t *count)
{
	static const char name[] = "\"id\"";
	const char *found = memmem(text, len, name, sizeof name - 1);

	if (!found || memchr(text, '\\', len))
		return false;
	*at = (size_t)(found - text) + sizeof name - 1;
	if (memmem(text + *at, len - *at, name, sizeof name - 1))
		return false;
	*at = skip_blanks(text, len, *at);
	if (*at == len || text[*at] != ':')
		return false;
	*at = skip_blanks(text, len, *at + 1);
	*count = digits(text, len, *at);
	return *count && *at + *count < len && !strchr(".eE", text[*at + *count]);
}

void rpc_kept_clear(struct rpc_kept *k)
{
	free(k->answer);
	*k = (struct rpc_kept){0};
}

void rpc_kept_put(struct rpc_kept *k, const struct rpc_kept_call *c, const char *answer, size_t len)
{
	size_t at, count, frame = sizeof FRAME - 1;

	rpc_kept_clear(k);
	if (c->len > sizeof k->request || !id_find(c->text, c->len, &at, &count) ||
	    len < frame + count + 1 || memcmp(answer, FRAME, frame) != 0 ||
	    memcmp(answer + frame, c->text + at, count) != 0 || answer[frame + count] != ',')
		return;
	/* What is behind the id, with room for the frame and any id before it. */
	k->rest_len = len - frame - count;
	k->answer = malloc(frame + ID_DIGITS_MAX + k->rest_len);
	if (!k->answer)
		return;
	memcpy(k->answer, FRAME, frame);
	memcpy(k->answer + frame + ID_DIGITS_MAX, answer + frame + count, k->rest_len);
	memcpy(k->request, c->text, c->len);
	k->len = c->len;
	k->id_at = at;
	k->id_count = count;
	k->fresh = c->fresh;
	k->arg = c->arg;
}

const char *rpc_kept_find(struct rpc_kept *k, const char *text, size_t len, size_t *answer_len)
{
	size_t at = k->id_at, behind = k->len - k->id_at - k->id_count, count;
	char *start;

	if (!k->answer || len < at + behind || memcmp(text, k->request, at) != 0)
		return NULL;
	count = digits(text, len, at);
	if (!count || len != at + count + behind ||
	    memcmp(text + at + count, k->request + at + k->id_count, behind) != 0 ||
	    !k->fresh(k->arg))
		return NULL;
	start = k->answer + ID_DIGITS_MAX - count; /* so that all of it stands together */
	memmove(start, FRAME, sizeof FRAME - 1);
	memcpy(start + sizeof FRAME - 1, text + at, count);
	*answer_len = sizeof FRAME - 1 + count + k->rest_len;
	return start;
}
