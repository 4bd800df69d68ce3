#include "core/recent.h"

#include <stdlib.h>
#include <string.h>

struct recent_datagram {
	uint64_t kept_us;
	size_t len; /* 0: taken */
	uint8_t data[RECENT_BYTES];
};

void recent_init(struct recent *r)
{
	*r = (struct recent){0};
}

void recent_free(struct recent *r)
{
	for (unsigned i = 0; i < RECENT_DATAGRAMS; i++)
		free(r->ring[i]);
	recent_init(r);
}

void recent_keep(struct recent *r, struct bytes data, uint64_t now)
{
	struct recent_datagram **d = &r->ring[r->next];

	if (data.len > RECENT_BYTES || data.len == 0)
		return;
	if (!*d && !(*d = malloc(sizeof **d)))
		return;
	(*d)->kept_us = now;
	(*d)->len = data.len;
	memcpy((*d)->data, data.data, data.len);
	r->next = (r->next + 1) % RECENT_DATAGRAMS;
}

bool recent_take(struct recent *r, struct bytes *out, uint64_t now)
{
	for (unsigned i = 0; i < RECENT_DATAGRAMS; i++) {
		struct recent_datagram *d = r->ring[(r->next + i) % RECENT_DATAGRAMS];
		if (!d || !d->len)
			continue;
		*out = bytes_of(d->data, d->len);
		d->len = 0;
		if (now - d->kept_us <= RECENT_AGE_US)
			return true;
	}
	return false;
}
