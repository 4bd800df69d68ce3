/*
 * Framing of control and app channels (contract, DESIGN.md section 5): an 8-byte big-endian length,
 * then that many bytes.  On an encrypted channel those bytes are ciphertext (core/channel.h).
 */
#ifndef WIRE_FRAME_H
#define WIRE_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/limits.h"

/*
 * Looks at the front of `in`.  Returns the whole size of the first frame (header and body) and sets
 * *body when all of it is there; 0 when more bytes are needed (*need is the size wanted in all, so
 * a reader can wait for that much); -EMSGSIZE when the length exceeds `max_body`, at once, before
 * any of the body has been buffered.  An empty body is -EBADMSG: no message is empty.
 */
long frame_parse(struct bytes in, size_t max_body, struct bytes *body, size_t *need);
void frame_header_put(uint8_t out[FRAME_HEADER_BYTES], size_t body_len);
#endif
