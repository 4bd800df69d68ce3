/* Any bytes as the stream of a control channel: frames, then messages.  What decodes encodes again
 * to bytes that decode to the same, and its dump is one line. */
#include <stdlib.h>
#include <string.h>

#include "wire/frame.h"
#include "wire/msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static size_t encode(const struct msg *m, uint8_t *out, size_t size)
{
	struct wbuf w = wbuf_init(out, size);

	msg_encode(m, &w);
	check(!w.bad);
	check(wbuf_len(&w) == msg_encoded_size(m));
	return wbuf_len(&w);
}

static void try_message(struct bytes body)
{
	static uint8_t first[1 << 17], second[1 << 17];
	static struct msg m, again;
	char line[512];
	size_t len;

	if (body.len > sizeof first / 2 || msg_decode(&m, body))
		return;
	len = encode(&m, first, sizeof first);
	check(msg_decode(&again, bytes_of(first, len)) == 0);
	check(again.type == m.type && again.seq == m.seq);
	check(encode(&again, second, sizeof second) == len && memcmp(first, second, len) == 0);
	check(!strchr(msg_dump(&m, line, sizeof line), '\n'));
	check(strcmp(msg_type_name(m.type), "unknown") != 0);
	msg_allowed(m.type, FROM_NODE, MSG_STATE_HELLO);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes in = {data, size};
	struct bytes body;
	size_t need;

	try_message(in);
	for (;;) {
		long used = frame_parse(in, FRAME_CONTROL_MAX_BYTES, &body, &need);

		if (used <= 0) {
			check(used < 0 || need > in.len);
			return 0;
		}
		check((size_t)used <= in.len && body.len + FRAME_HEADER_BYTES == (size_t)used);
		try_message(body);
		in.data += used;
		in.len -= (size_t)used;
	}
}
