#include "base/id.h"

#include <errno.h>
#include <string.h>

bool mesh_id_equal(const struct mesh_id *a, const struct mesh_id *b)
{
	return memcmp(a->b, b->b, sizeof a->b) == 0;
}

int mesh_id_cmp(const struct mesh_id *a, const struct mesh_id *b)
{
	return memcmp(a->b, b->b, sizeof a->b);
}

bool mesh_id_is_zero(const struct mesh_id *id)
{
	static const struct mesh_id zero;
	return mesh_id_equal(id, &zero);
}

void hex_encode(const uint8_t *data, size_t len, char *out)
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < len; i++) {
		out[2 * i] = digits[data[i] >> 4];
		out[2 * i + 1] = digits[data[i] & 15];
	}
	out[2 * len] = '\0';
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int hex_decode(const char *text, uint8_t *out, size_t len)
{
	if (strlen(text) != 2 * len)
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		int hi = hex_digit(text[2 * i]), lo = hex_digit(text[2 * i + 1]);
		if (hi < 0 || lo < 0)
			return -EINVAL;
		out[i] = (uint8_t)(hi << 4 | lo);
	}
	return 0;
}

const char *mesh_id_text(const struct mesh_id *id, char out[MESH_ID_TEXT])
{
	hex_encode(id->b, sizeof id->b, out);
	return out;
}

const char *mesh_id_short(const struct mesh_id *id, char out[MESH_ID_SHORT])
{
	hex_encode(id->b, 4, out);
	return out;
}

int mesh_id_parse(struct mesh_id *id, const char *text)
{
	return hex_decode(text, id->b, sizeof id->b);
}

bool mesh_id_like(const char *text)
{
	size_t len = strlen(text);
	if (len && strspn(text, "0123456789") == len)
		return true;
	return (len == MESH_ID_SHORT - 1 || len == MESH_ID_TEXT - 1) &&
	       strspn(text, "0123456789abcdefABCDEF") == len;
}
