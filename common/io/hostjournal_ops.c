/* The kinds of changes: how each is written down, made and taken back. */
#include "io/hostjournal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/cstr.h"
#include "base/log.h"
#include "io/hostjournal_int.h"
#include "io/netlink_tc.h"
#include "io/tun.h"

/* ---- a change as bytes ---- */

static void put_str(struct wbuf *w, const char *s)
{
	wbuf_run16(w, bytes_str(s));
}

/* False when it does not fit. */
static bool get_str(struct rbuf *r, char *out, size_t size)
{
	struct bytes b = rbuf_run16(r, size - 1);

	if (b.len)
		memcpy(out, b.data, b.len);
	out[b.len] = '\0';
	return !r->bad;
}

static void put_prefix(struct wbuf *w, const struct net_prefix *p)
{
	net_addr_write(w, &p->addr);
	wbuf_u8(w, p->bits);
}

static void get_prefix(struct rbuf *r, struct net_prefix *p)
{
	net_addr_read(r, &p->addr);
	p->bits = rbuf_u8(r);
}

static void put_addr(struct wbuf *w, const struct nl_addr *a)
{
	wbuf_u32(w, a->link);
	put_prefix(w, &a->prefix);
	net_addr_write(w, &a->peer);
}

static void get_addr(struct rbuf *r, struct nl_addr *a)
{
	a->link = rbuf_u32(r);
	get_prefix(r, &a->prefix);
	net_addr_read(r, &a->peer);
}

static void put_route(struct wbuf *w, const struct nl_route *route)
{
	wbuf_u8(w, route->family);
	put_prefix(w, &route->dst);
	net_addr_write(w, &route->via);
	net_addr_write(w, &route->source);
	wbuf_u32(w, route->dev);
	wbuf_u32(w, route->table);
	wbuf_u32(w, route->metric);
	wbuf_u8(w, route->type);
}

static void get_route(struct rbuf *r, struct nl_route *route)
{
	route->family = rbuf_u8(r);
	get_prefix(r, &route->dst);
	net_addr_read(r, &route->via);
	net_addr_read(r, &route->source);
	route->dev = rbuf_u32(r);
	route->table = rbuf_u32(r);
	route->metric = rbuf_u32(r);
	route->type = rbuf_u8(r);
}

static void put_rule(struct wbuf *w, const struct nl_rule *rule)
{
	wbuf_u8(w, rule->family);
	wbuf_u32(w, rule->priority);
	wbuf_u32(w, rule->table);
	wbuf_u32(w, rule->fwmark);
	wbuf_u32(w, rule->fwmask);
	put_prefix(w, &rule->from);
	put_prefix(w, &rule->to);
	put_str(w, rule->iif);
	wbuf_u8(w, rule->invert);
	wbuf_u8(w, rule->suppress);
	wbuf_u8(w, rule->suppress_prefixlength);
}

static void get_rule(struct rbuf *r, struct nl_rule *rule)
{
	rule->family = rbuf_u8(r);
	rule->priority = rbuf_u32(r);
	rule->table = rbuf_u32(r);
	rule->fwmark = rbuf_u32(r);
	rule->fwmask = rbuf_u32(r);
	get_prefix(r, &rule->from);
	get_prefix(r, &rule->to);
	get_str(r, rule->iif, sizeof rule->iif);
	rule->invert = rbuf_u8(r);
	rule->suppress = rbuf_u8(r);
	rule->suppress_prefixlength = rbuf_u8(r);
}

/* ---- doing ---- */

typedef int host_make(struct hostjournal *j, const void *what);

/* Written down first, then made; what was there before us is not ours. */
static int make(struct hostjournal *j, struct host_entry *e, host_make *act, const void *what)
{
	int known = hostjournal_find(j, e);
	int rc = known == -ENOENT ? hostjournal_note(j, e) : known;

	if (rc)
		return rc;
	rc = act(j, what);
	if (known == 0)
		return rc == -EEXIST ? 0 : rc;
	if (rc) {
		int forget = hostjournal_forget(j, e);
		if (rc != -EEXIST)
			log_error("host: cannot make %s: %s", e->text, strerror(-rc));
		return forget ? forget : rc;
	}
	log_debug("host: made %s", e->text);
	return 0;
}

static int unmake(struct hostjournal *j, struct host_entry *e)
{
	int rc = hostjournal_find(j, e);

	if (!rc)
		rc = host_entry_undo(j, e);
	return rc ? rc : hostjournal_forget(j, e);
}

static int entry_end(struct host_entry *e, const struct wbuf *w)
{
	e->spec_len = wbuf_len(w);
	return w->bad ? -EINVAL : 0;
}

static struct wbuf entry_begin(struct host_entry *e, enum host_change kind)
{
	*e = (struct host_entry){.kind = kind};
	return wbuf_init(e->spec, sizeof e->spec);
}

/* ---- links ---- */

struct link_change {
	const char *name, *kind;
};

static int link_entry(struct host_entry *e, const char *name)
{
	struct wbuf w = entry_begin(e, HOST_LINK);

	put_str(&w, name);
	cstr_print(e->text, sizeof e->text, "link %s", name);
	return entry_end(e, &w);
}

static int link_make(struct hostjournal *j, const void *what)
{
	const struct link_change *c = what;

	return nl_link_add(hostjournal_nl(j), c->name, c->kind);
}

int host_link_add(struct hostjournal *j, const char *name, const char *kind)
{
	struct host_entry e;
	int rc = link_entry(&e, name);

	return rc ? rc : make(j, &e, link_make, &(struct link_change){name, kind});
}

struct tunnel_change {
	const char *name;
	const struct nl_tunnel *tunnel;
};

static int tunnel_make(struct hostjournal *j, const void *what)
{
	const struct tunnel_change *c = what;

	return nl_tunnel_add(hostjournal_nl(j), c->name, c->tunnel);
}

int host_tunnel_add(struct hostjournal *j, const char *name, const struct nl_tunnel *t)
{
	struct host_entry e;
	int rc = link_entry(&e, name);

	return rc ? rc : make(j, &e, tunnel_make, &(struct tunnel_change){name, t});
}

static int tun_make_link(struct hostjournal *j, const void *what)
{
	return tun_make(hostjournal_nl(j), what);
}

int host_tun_add(struct hostjournal *j, const char *name)
{
	struct host_entry e;
	int rc = link_entry(&e, name);

	return rc ? rc : make(j, &e, tun_make_link, name);
}

int host_link_remove(struct hostjournal *j, const char *name)
{
	struct host_entry e;
	int rc = link_entry(&e, name);

	return rc ? rc : unmake(j, &e);
}

/* 0 and *index when the link is there and ours; -ENODEV: another link of that name lacks our group.
 */
static int link_ours(struct hostjournal *j, const char *name, uint32_t *index)
{
	struct nl_link l;
	int rc = nl_link_get(hostjournal_nl(j), name, &l);

	if (!rc && l.group != NL_GROUP_MESHNET && l.group != NL_GROUP_LEAVING)
		rc = -ENODEV;
	if (!rc)
		*index = l.index;
	return rc;
}

static int link_undo(struct hostjournal *j, const char *name)
{
	uint32_t index;
	int rc = link_ours(j, name, &index);

	if (rc)
		return rc == -ENODEV ? 0 : rc;
	return nl_link_del(hostjournal_nl(j), index);
}

void host_link_leave(struct hostjournal *j, const struct host_entry *e)
{
	struct rbuf r = rbuf_init(e->spec, e->spec_len);
	char name[HOST_SPEC_MAX];
	uint32_t index;

	if (get_str(&r, name, sizeof name) && link_ours(j, name, &index) == 0)
		nl_link_leave(hostjournal_nl(j), index);
}

/* ---- addresses ---- */

static int addr_entry(struct host_entry *e, const struct nl_addr *a)
{
	char text[NET_PREFIX_TEXT];
	struct wbuf w = entry_begin(e, HOST_ADDR);

	put_addr(&w, a);
	cstr_print(e->text, sizeof e->text, "address %s on link %u",
		   net_prefix_text(&a->prefix, text), a->link);
	return entry_end(e, &w);
}

static int addr_make(struct hostjournal *j, const void *what)
{
	return nl_addr_add(hostjournal_nl(j), what);
}

int host_addr_add(struct hostjournal *j, const struct nl_addr *a)
{
	struct host_entry e;
	int rc = addr_entry(&e, a);

	return rc ? rc : make(j, &e, addr_make, a);
}

int host_addr_remove(struct hostjournal *j, const struct nl_addr *a)
{
	struct host_entry e;
	int rc = addr_entry(&e, a);

	return rc ? rc : unmake(j, &e);
}

/* The kernel does not compare the protocol when it deletes an address, so look first. */
static int addr_is_ours(const struct nl_addr *a, void *ctx)
{
	const struct nl_addr *want = ctx;

	return a->link == want->link && a->prefix.bits == want->prefix.bits &&
	       net_addr_same_ip(&a->prefix.addr, &want->prefix.addr) &&
	       a->proto == NL_PROTO_MESHNET;
}

static int addr_undo(struct hostjournal *j, struct nl_addr *a)
{
	int found, tries = 3;

	do
		found = nl_addr_list(hostjournal_nl(j), a->prefix.addr.family, addr_is_ours, a);
	while (found == -EINTR && --tries);
	if (found <= 0)
		return found;
	int rc = nl_addr_del(hostjournal_nl(j), a);
	return rc == -EADDRNOTAVAIL || rc == -ENODEV ? 0 : rc;
}

/* ---- routes ---- */

static int route_entry(struct host_entry *e, const struct nl_route *r)
{
	char dst[NET_PREFIX_TEXT];
	struct wbuf w = entry_begin(e, HOST_ROUTE);

	put_route(&w, r);
	cstr_print(e->text, sizeof e->text, "IPv%u route to %s in table %u", r->family,
		   r->dst.addr.family ? net_prefix_text(&r->dst, dst) : "default",
		   r->table ? r->table : NL_TABLE_MAIN);
	return entry_end(e, &w);
}

static int route_make(struct hostjournal *j, const void *what)
{
	return nl_route_add(hostjournal_nl(j), what);
}

int host_route_add(struct hostjournal *j, const struct nl_route *r)
{
	struct host_entry e;
	int rc = route_entry(&e, r);

	return rc ? rc : make(j, &e, route_make, r);
}

int host_route_remove(struct hostjournal *j, const struct nl_route *r)
{
	struct host_entry e;
	int rc = route_entry(&e, r);

	return rc ? rc : unmake(j, &e);
}

static int route_undo(struct hostjournal *j, const struct nl_route *r)
{
	int rc = nl_route_del(hostjournal_nl(j), r);

	/* Routes go with their link or its address. */
	return rc == -ESRCH || rc == -ENODEV || rc == -ENOENT ? 0 : rc;
}

/* ---- rules ---- */

static int rule_entry(struct host_entry *e, const struct nl_rule *r)
{
	struct wbuf w = entry_begin(e, HOST_RULE);

	put_rule(&w, r);
	cstr_print(e->text, sizeof e->text, "IPv%u rule %u to table %u", r->family, r->priority,
		   r->table);
	return entry_end(e, &w);
}

static int rule_make(struct hostjournal *j, const void *what)
{
	return nl_rule_add(hostjournal_nl(j), what);
}

int host_rule_add(struct hostjournal *j, const struct nl_rule *r)
{
	struct host_entry e;
	int rc = rule_entry(&e, r);

	return rc ? rc : make(j, &e, rule_make, r);
}

int host_rule_remove(struct hostjournal *j, const struct nl_rule *r)
{
	struct host_entry e;
	int rc = rule_entry(&e, r);

	return rc ? rc : unmake(j, &e);
}

static int rule_undo(struct hostjournal *j, const struct nl_rule *r)
{
	int rc = nl_rule_del(hostjournal_nl(j), r);

	return rc == -ENOENT ? 0 : rc;
}

/* ---- traffic control ---- */

static int clsact_entry(struct host_entry *e, const char *link, uint32_t index)
{
	struct wbuf w = entry_begin(e, HOST_CLSACT);

	wbuf_u32(&w, index);
	cstr_print(e->text, sizeof e->text, "traffic control of link %s", link);
	return entry_end(e, &w);
}

static int clsact_make(struct hostjournal *j, const void *what)
{
	return nl_clsact_add(hostjournal_nl(j), *(const uint32_t *)what);
}

int host_clsact_add(struct hostjournal *j, const char *link, uint32_t index)
{
	struct host_entry e;
	int rc = clsact_entry(&e, link, index);

	return rc ? rc : make(j, &e, clsact_make, &index);
}

int host_clsact_remove(struct hostjournal *j, const char *link, uint32_t index)
{
	struct host_entry e;
	int rc = clsact_entry(&e, link, index);

	return rc ? rc : unmake(j, &e);
}

/* ---- nftables ---- */

static int table_entry(struct host_entry *e, const char *table)
{
	struct wbuf w = entry_begin(e, HOST_NFT);

	put_str(&w, table);
	cstr_print(e->text, sizeof e->text, "nftables table inet %s", table);
	return entry_end(e, &w);
}

/* `act` replaces the table when the journal says that it is ours. */
static int table_make(struct hostjournal *j, const char *table, host_make *create,
		      host_make *replace, const void *what)
{
	struct host_entry e;
	int rc = table_entry(&e, table);

	if (rc)
		return rc;
	bool ours = hostjournal_find(j, &e) == 0;
	rc = make(j, &e, ours ? replace : create, what);
	if (rc == -EEXIST)
		log_error(
			"nftables table inet %s is there already and not ours; if nobody needs it: "
			"nft delete table inet %s",
			table, table);
	return rc;
}

static int gateway_create(struct hostjournal *j, const void *what)
{
	return nft_gateway_create(hostjournal_nft(j), what, false);
}

/* The old one goes in the same transaction: what is said to be there already is a fault inside. */
static int replaced(int rc)
{
	return rc == -EEXIST ? -EIO : rc;
}

static int gateway_replace(struct hostjournal *j, const void *what)
{
	return replaced(nft_gateway_create(hostjournal_nft(j), what, true));
}

int host_nft_gateway(struct hostjournal *j, const struct nft_gateway *gw)
{
	return table_make(j, gw->table, gateway_create, gateway_replace, gw);
}

static int masquerade_create(struct hostjournal *j, const void *what)
{
	return nft_masquerade_create(hostjournal_nft(j), what, false);
}

static int masquerade_replace(struct hostjournal *j, const void *what)
{
	return replaced(nft_masquerade_create(hostjournal_nft(j), what, true));
}

int host_nft_masquerade(struct hostjournal *j, const struct nft_masquerade *m)
{
	return table_make(j, m->table, masquerade_create, masquerade_replace, m);
}

static int killswitch_create(struct hostjournal *j, const void *what)
{
	return nft_killswitch_create(hostjournal_nft(j), what, false);
}

static int killswitch_replace(struct hostjournal *j, const void *what)
{
	return replaced(nft_killswitch_create(hostjournal_nft(j), what, true));
}

int host_nft_killswitch(struct hostjournal *j, const struct nft_killswitch *ks)
{
	return table_make(j, ks->table, killswitch_create, killswitch_replace, ks);
}

int host_nft_remove(struct hostjournal *j, const char *table)
{
	struct host_entry e;
	int rc = table_entry(&e, table);

	return rc ? rc : unmake(j, &e);
}

static int table_undo(struct hostjournal *j, const char *table)
{
	int rc = nft_table_del(hostjournal_nft(j), table);

	return rc == -ENOENT ? 0 : rc;
}

/* ---- sysctls ---- */

static int sysctl_entry(struct host_entry *e, const char *key)
{
	struct wbuf w = entry_begin(e, HOST_SYSCTL);

	put_str(&w, key);
	cstr_print(e->text, sizeof e->text, "sysctl %s", key);
	return entry_end(e, &w);
}

int host_sysctl_set(struct hostjournal *j, const char *key, const char *value)
{
	struct host_entry e;
	char now[SYSCTL_VALUE_MAX];
	int rc = sysctl_entry(&e, key);

	if (!rc && strlen(value) >= sizeof e.value)
		rc = -EINVAL;
	if (!rc)
		rc = sysctl_read(key, now, sizeof now);
	if (rc || strcmp(now, value) == 0)
		return rc;
	int known = hostjournal_find(j, &e);
	if (known && known != -ENOENT)
		return known;
	/* Until the write is made, the value before it is ours too. */
	cstr_copy(e.prior, sizeof e.prior, known ? "" : e.value);
	cstr_copy(e.value, sizeof e.value, value);
	if (known)
		memcpy(e.before, now, sizeof now);
	rc = known ? hostjournal_note(j, &e) : hostjournal_update(j, &e);
	if (rc)
		return rc;
	rc = sysctl_write(key, value);
	if (rc) {
		log_error("host: cannot set sysctl %s to %s: %s", key, value, strerror(-rc));
		if (known)
			hostjournal_forget(j, &e);
	}
	return rc;
}

int host_sysctl_restore(struct hostjournal *j, const char *key)
{
	struct host_entry e;
	int rc = sysctl_entry(&e, key);

	return rc ? rc : unmake(j, &e);
}

static int sysctl_undo(const struct host_entry *e, const char *key)
{
	char now[SYSCTL_VALUE_MAX];
	int rc = sysctl_read(key, now, sizeof now);

	if (rc == -ENOENT) /* of an interface that is gone */
		return 0;
	if (rc)
		return rc;
	if (strcmp(now, e->before) == 0)
		return 0;
	if (strcmp(now, e->value) != 0 && (!*e->prior || strcmp(now, e->prior) != 0)) {
		log_info("host: sysctl %s was changed by somebody else; left at %s", key, now);
		return 0;
	}
	return sysctl_write(key, e->before);
}

/* ---- processes ---- */

static int process_entry(struct host_entry *e, const struct host_process *p)
{
	struct wbuf w = entry_begin(e, HOST_PROCESS);

	put_str(&w, p->mark);
	put_str(&w, p->name);
	put_str(&w, p->socket);
	cstr_print(e->text, sizeof e->text, "process %s", p->name);
	return entry_end(e, &w);
}

static int process_undo(struct rbuf *r)
{
	struct host_process p;

	get_str(r, p.mark, sizeof p.mark);
	get_str(r, p.name, sizeof p.name);
	get_str(r, p.socket, sizeof p.socket);
	return rbuf_done(r) ? host_process_end(&p) : -EBADMSG;
}

int host_process_add(struct hostjournal *j, const struct host_process *p)
{
	struct host_entry e;
	int rc = process_entry(&e, p);

	return rc ? rc : hostjournal_note(j, &e);
}

int host_process_remove(struct hostjournal *j, const struct host_process *p)
{
	struct host_entry e;
	int rc = process_entry(&e, p);

	if (!rc)
		rc = hostjournal_find(j, &e);
	return rc ? rc : hostjournal_forget(j, &e);
}

/* ---- undo ---- */

static int name_undo(struct hostjournal *j, const struct host_entry *e, const char *name)
{
	if (e->kind == HOST_LINK)
		return link_undo(j, name);
	if (e->kind == HOST_SYSCTL)
		return sysctl_undo(e, name);
	return table_undo(j, name);
}

int host_entry_undo(struct hostjournal *j, const struct host_entry *e)
{
	struct rbuf r = rbuf_init(e->spec, e->spec_len);
	struct nl_addr addr = {0};
	struct nl_route route = {0};
	struct nl_rule rule = {0};
	char name[HOST_SPEC_MAX];
	uint32_t index;

	switch (e->kind) {
	case HOST_ADDR:
		get_addr(&r, &addr);
		return rbuf_done(&r) ? addr_undo(j, &addr) : -EBADMSG;
	case HOST_ROUTE:
		get_route(&r, &route);
		return rbuf_done(&r) ? route_undo(j, &route) : -EBADMSG;
	case HOST_RULE:
		get_rule(&r, &rule);
		return rbuf_done(&r) ? rule_undo(j, &rule) : -EBADMSG;
	case HOST_CLSACT:
		index = rbuf_u32(&r);
		return rbuf_done(&r) ? nl_clsact_release(hostjournal_nl(j), index) : -EBADMSG;
	case HOST_LINK:
	case HOST_SYSCTL:
	case HOST_NFT:
		get_str(&r, name, sizeof name);
		return rbuf_done(&r) ? name_undo(j, e, name) : -EBADMSG;
	case HOST_PROCESS:
		return process_undo(&r);
	}
	return -EBADMSG;
}
