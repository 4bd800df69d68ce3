#include "core/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/ranges.h"

#define PACKET_HEADERS (HOP_HEADER_BYTES + FRAGMENT_HEADER_BYTES)

/* The packets of a record, one behind the other. */
static void lay_out(uint8_t *at, const struct fragment_header *id, struct bytes cipher, size_t each)
{
	struct fragment_header f = *id;

	f.total = (uint16_t)cipher.len;
	for (size_t offset = 0; offset < cipher.len; offset += each) {
		size_t len = cipher.len - offset < each ? cipher.len - offset : each;
		f.offset = (uint16_t)offset;
		at[0] = PACKET_DATA;
		fragment_header_write(at + HOP_HEADER_BYTES, &f);
		memcpy(at + PACKET_HEADERS, cipher.data + offset, len);
		at += PACKET_HEADERS + len;
	}
}

static size_t run_bytes(size_t packet_bytes)
{
	size_t n = PKT_RUN_BYTES / packet_bytes;

	if (n > PKT_RUN_PACKETS)
		n = PKT_RUN_PACKETS;
	return n ? n * packet_bytes : packet_bytes;
}

size_t record_cut(struct pkt_pool *pool, const struct fragment_header *id, struct bytes cipher,
		  size_t packet_bytes, uint32_t label, uint8_t flags,
		  struct pkt *v[RECORD_RUNS_MAX])
{
	size_t each = packet_bytes - PACKET_HEADERS;
	size_t count = (cipher.len + each - 1) / each, n = 0;

	if (count == 0 || count > RECORD_PACKETS_MAX)
		return 0;
	struct block *b = block_new(cipher.len + count * PACKET_HEADERS);
	if (!b)
		return 0;
	lay_out(b->data, id, cipher, each);
	size_t left = b->size, run = run_bytes(packet_bytes);
	for (uint8_t *at = b->data; left; at += v[n++]->len) {
		size_t len = left < run ? left : run;
		if (!(v[n] = pkt_new_run(pool, b, at, len, packet_bytes)))
			break;
		v[n]->label = label;
		v[n]->flags = flags;
		left -= len;
	}
	block_put(b);
	return n;
}

struct partial {
	uint64_t record, started_us;
	uint8_t kind;
	uint16_t time, total;
	size_t front; /* everything below has come; the usual case, since hops seldom reorder */
	struct ranges got; /* what has come beyond */
	struct block *block;
};

void reassembly_init(struct reassembly *r)
{
	memset(r, 0, sizeof *r);
}

static void partial_free(struct partial *p)
{
	if (!p)
		return;
	ranges_free(&p->got);
	block_put(p->block);
	free(p);
}

void reassembly_free(struct reassembly *r)
{
	for (size_t i = 0; i < REASSEMBLY_SLOTS; i++)
		partial_free(r->slots[i]);
	reassembly_init(r);
}

static struct partial *partial_new(const struct fragment_header *f, uint64_t now)
{
	struct partial *p = calloc(1, sizeof *p);
	if (!p)
		return NULL;
	p->record = f->record;
	p->started_us = now;
	p->kind = f->kind;
	p->time = f->time;
	p->total = f->total;
	ranges_init(&p->got, REASSEMBLY_FRAGMENTS_MAX - 1);
	p->block = block_new(f->total);
	if (!p->block) {
		free(p);
		return NULL;
	}
	return p;
}

/* The slot's record, made anew when it held another: newer numbers push older ones out. */
static int find_partial(struct reassembly *r, const struct fragment_header *f, uint64_t now,
			struct partial **out)
{
	struct partial **slot = &r->slots[f->record % REASSEMBLY_SLOTS], *p = *slot;

	if (p && p->record == f->record && p->kind == f->kind) {
		*out = p;
		return p->total == f->total && p->time == f->time ? 0 : -EBADMSG;
	}
	if (p && p->record > f->record && now < p->started_us + REASSEMBLY_STALE_US)
		return -EBADMSG;
	if (p)
		r->given_up++;
	partial_free(p);
	*slot = *out = partial_new(f, now);
	return *out ? 0 : -ENOMEM;
}

static int note(struct partial *p, size_t start, size_t end)
{
	if (start > p->front)
		return ranges_add(&p->got, start, end);
	p->front = end;
	if (p->got.count && p->got.v[0].start <= p->front) {
		struct ranges *g = &p->got;
		size_t joined = 0;
		for (; joined < g->count && g->v[joined].start <= p->front; joined++)
			if (g->v[joined].end > p->front)
				p->front = (size_t)g->v[joined].end;
		ranges_remove(g, 0, p->front);
	}
	return 0;
}

int reassembly_add(struct reassembly *r, const struct fragment_header *f, const uint8_t *body,
		   size_t len, uint64_t now, struct block **out)
{
	size_t end = f->offset + len;
	struct partial *p;
	int err = find_partial(r, f, now, &p);

	if (err)
		return err;
	if (end <= p->front || ranges_covers(&p->got, f->offset, end))
		return 0; /* a duplicate, after a change of route */
	err = note(p, f->offset, end);
	if (err)
		return err;
	memcpy(p->block->data + f->offset, body, len);
	if (p->front < p->total)
		return 0;
	*out = p->block;
	p->block = NULL;
	partial_free(p);
	r->slots[f->record % REASSEMBLY_SLOTS] = NULL;
	return 1;
}
