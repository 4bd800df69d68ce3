#include "core/tunroute.h"

#include <errno.h>
#include <string.h>

#include "base/ippacket.h"
#include "wire/vnethdr.h"

void tunroute_table_init(struct tunroute_table *t, bool vnet, uint64_t seed)
{
	memset(t, 0, sizeof *t);
	t->vnet = vnet;
	map_init(&t->by4, 4, TUNROUTE_MAX, seed);
	map_init(&t->by6, 16, TUNROUTE_MAX, seed);
}

void tunroute_table_free(struct tunroute_table *t)
{
	map_free(&t->by4);
	map_free(&t->by6);
	t->any = NULL;
	t->count = 0;
}

/* --- the table ------------------------------------------------------------------------------ */

static bool any_or(uint8_t family, const struct net_addr *a)
{
	return a->family == 0 || a->family == family;
}

static bool filter_ok(const struct tunroute_filter *f)
{
	return (f->v4 || f->v6) && any_or(4, &f->local4) && any_or(4, &f->remote4) &&
	       any_or(6, &f->local6) && any_or(6, &f->remote6);
}

static bool takes_any(const struct tunroute_filter *f)
{
	return (f->v4 && !f->remote4.family) || (f->v6 && !f->remote6.family);
}

static bool has_exact(const struct tunroute_filter *f, uint8_t family)
{
	return family == 4 ? f->v4 && f->remote4.family : f->v6 && f->remote6.family;
}

static bool taken(const struct tunroute_table *t, const struct tunroute *r)
{
	const struct tunroute_filter *f = &r->filter;

	return (takes_any(f) && t->any) || (has_exact(f, 4) && map_get(&t->by4, f->remote4.ip)) ||
	       (has_exact(f, 6) && map_get(&t->by6, f->remote6.ip));
}

static void unmap(struct map *m, const void *key, const struct tunroute *r)
{
	if (map_get(m, key) == r)
		map_del(m, key);
}

int tunroute_add(struct tunroute_table *t, struct tunroute *r)
{
	const struct tunroute_filter *f = &r->filter;
	int err = 0;

	if (!filter_ok(f))
		return -EINVAL;
	if (taken(t, r))
		return -EEXIST;
	if (has_exact(f, 4))
		err = map_put(&t->by4, f->remote4.ip, r);
	if (!err && has_exact(f, 6))
		err = map_put(&t->by6, f->remote6.ip, r);
	if (err) {
		unmap(&t->by4, f->remote4.ip, r);
		return err;
	}
	if (takes_any(f))
		t->any = r;
	t->count++;
	return 0;
}

void tunroute_remove(struct tunroute_table *t, struct tunroute *r)
{
	unmap(&t->by4, r->filter.remote4.ip, r);
	unmap(&t->by6, r->filter.remote6.ip, r);
	if (t->any == r)
		t->any = NULL;
	t->count--;
}

/* --- packets -------------------------------------------------------------------------------- */

static bool is_end(const struct net_addr *want, const struct net_addr *a)
{
	return !want->family || net_addr_same_ip(want, a);
}

static bool passes(const struct tunroute_filter *f, const struct net_addr *local,
		   const struct net_addr *remote)
{
	if (local->family == 4)
		return f->v4 && is_end(&f->local4, local) && is_end(&f->remote4, remote);
	return f->v6 && is_end(&f->local6, local) && is_end(&f->remote6, remote);
}

static struct tunroute *lookup(const struct tunroute_table *t, const struct net_addr *dst)
{
	struct tunroute *r = map_get(dst->family == 4 ? &t->by4 : &t->by6, dst->ip);

	return r ? r : t->any;
}

/* Without its header, for a peer that takes none. */
static bool strip(struct bytes *record)
{
	struct vnethdr h = vnethdr_read(record->data);

	*record = bytes_of(record->data + VNETHDR_BYTES, record->len - VNETHDR_BYTES);
	return vnethdr_is_plain(&h);
}

struct tunroute *tunroute_out(struct tunroute_table *t, uint8_t *record, size_t len,
			      struct bytes *out)
{
	size_t header = t->vnet ? VNETHDR_BYTES : 0;
	struct net_addr src, dst;
	struct tunroute *r;

	if (len <= header || ippacket_ends(record + header, len - header, &src, &dst))
		return NULL;
	r = lookup(t, &dst);
	if (!r)
		return NULL;
	*out = bytes_of(record, len);
	/* A peer that wants headers has agreed on them with an interface that has them. */
	if (!passes(&r->filter, &src, &dst) || (t->vnet && vnethdr_normalise(record, len)) ||
	    (t->vnet && !r->vnet && !strip(out)) || (r->vnet && !t->vnet)) {
		r->counters.dropped++;
		return NULL;
	}
	return r;
}

static size_t packet_bytes(const struct tunroute *r, size_t len)
{
	return len - (r->vnet ? VNETHDR_BYTES : 0);
}

void tunroute_sent(struct tunroute *r, size_t len, bool was_taken)
{
	if (!was_taken) {
		r->counters.dropped++;
		return;
	}
	r->counters.out_packets++;
	r->counters.out_bytes += packet_bytes(r, len);
}

int tunroute_in(struct tunroute *r, const uint8_t *record, size_t len, struct net_addr *src)
{
	struct net_addr dst;

	if (r->vnet ? vnethdr_check(record, len, src, &dst)
		    : ippacket_ends(record, len, src, &dst)) {
		r->counters.dropped++;
		return -EINVAL;
	}
	if (!passes(&r->filter, &dst, src)) {
		r->counters.foreign++;
		return -EPERM;
	}
	r->counters.in_packets++;
	r->counters.in_bytes += packet_bytes(r, len);
	return 0;
}

bool tunroute_in_order(const struct tunroute *r, const uint8_t *record, size_t len)
{
	size_t header = r->vnet ? VNETHDR_BYTES : 0;

	return len > header && ippacket_has_tcp_data(record + header, len - header);
}
