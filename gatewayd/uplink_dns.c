/* The question to a name server, and whether what comes back answers it.  Pure. */
#include <string.h>

#include "base/buf.h"
#include "gatewayd/uplink.h"

#define HEADER_BYTES 12u
#define LABEL_MAX 63u
#define TYPE_A 1u
#define CLASS_IN 1u
#define RECURSION_DESIRED 0x0100u
#define IS_ANSWER 0x8000u
#define RCODE 0x000fu
#define NO_SUCH_NAME 3u

static void put_name(struct wbuf *w, const char *name)
{
	while (*name) {
		size_t len = strcspn(name, ".");

		if (len == 0 || len > LABEL_MAX) {
			w->bad = true;
			return;
		}
		wbuf_u8(w, (uint8_t)len);
		for (size_t i = 0; i < len; i++)
			wbuf_u8(w, (uint8_t)name[i]);
		name += len;
		name += *name == '.';
	}
	wbuf_u8(w, 0);
}

size_t uplink_question(uint8_t out[UPLINK_QUESTION_MAX], uint16_t id, const char *name)
{
	struct wbuf w = wbuf_init(out, UPLINK_QUESTION_MAX);

	if (strlen(name) > UPLINK_NAME_MAX)
		return 0;
	wbuf_u16(&w, id);
	wbuf_u16(&w, RECURSION_DESIRED);
	wbuf_u16(&w, 1);
	wbuf_u16(&w, 0);
	wbuf_u16(&w, 0);
	wbuf_u16(&w, 0);
	put_name(&w, name);
	wbuf_u16(&w, TYPE_A);
	wbuf_u16(&w, CLASS_IN);
	return w.bad ? 0 : wbuf_len(&w);
}

bool uplink_answered(const uint8_t *answer, size_t len, uint16_t id)
{
	struct rbuf r = rbuf_init(answer, len);
	uint16_t got = rbuf_u16(&r), flags = rbuf_u16(&r);

	return len >= HEADER_BYTES && got == id && (flags & IS_ANSWER) &&
	       ((flags & RCODE) == 0 || (flags & RCODE) == NO_SUCH_NAME);
}
