/* Node ids (X25519 public keys) and hexadecimal text. */
#ifndef BASE_ID_H
#define BASE_ID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"

struct mesh_id {
	uint8_t b[MESH_ID_BYTES];
};

#define MESH_ID_TEXT 65 /* 64 hex digits and the NUL */
#define MESH_ID_SHORT 9 /* the 8 digits shown in tables */

bool mesh_id_equal(const struct mesh_id *a, const struct mesh_id *b);
bool mesh_id_is_zero(const struct mesh_id *id);
int mesh_id_cmp(const struct mesh_id *a, const struct mesh_id *b);
/* Both return `out`, for use inside a log call. */
const char *mesh_id_text(const struct mesh_id *id, char out[MESH_ID_TEXT]);
const char *mesh_id_short(const struct mesh_id *id, char out[MESH_ID_SHORT]);
/* 0, or -EINVAL unless `text` is exactly 64 hex digits. */
int mesh_id_parse(struct mesh_id *id, const char *text);
/* Would a name like this be taken for an id, a short id, or a number of the list of nodes? */
bool mesh_id_like(const char *text);

/* `out` holds 2 * len + 1 characters. */
void hex_encode(const uint8_t *data, size_t len, char *out);
/* Exactly 2 * len hex digits, or -EINVAL. */
int hex_decode(const char *text, uint8_t *out, size_t len);
#endif
