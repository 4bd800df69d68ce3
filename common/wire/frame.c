#include "wire/frame.h"

#include <errno.h>

long frame_parse(struct bytes in, size_t max_body, struct bytes *body, size_t *need)
{
	*need = FRAME_HEADER_BYTES;
	if (in.len < FRAME_HEADER_BYTES)
		return 0;
	uint64_t len = be64_get(in.data);
	if (len == 0)
		return -EBADMSG;
	if (len > max_body)
		return -EMSGSIZE;
	*need = FRAME_HEADER_BYTES + (size_t)len;
	if (in.len < *need)
		return 0;
	*body = bytes_of(in.data + FRAME_HEADER_BYTES, (size_t)len);
	return (long)*need;
}

void frame_header_put(uint8_t out[FRAME_HEADER_BYTES], size_t body_len)
{
	be64_put(out, body_len);
}
