/*
 * batman: batctl's JSON of one mesh interface.  batman-adv knows originators by MAC address; which
 * IP addresses live behind them tell its translation table, its ARP cache (DAT) and the kernel's
 * neighbours.
 *
 * Hosts that nobody has spoken with are in neither.  So all are called at once, by an echo request
 * to ff02::1 from our own global address: who answers asks for our link-layer address first, from
 * the address that it answers with, and so becomes a neighbour of the kernel.
 *
 * The query's text: the JSON lists, one behind the other, told apart by their members; the last is
 * ours: [{"neigh_mac": ..., "neigh_ip": ...}].
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <json-c/json.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cstr.h"
#include "io/child.h"
#include "io/config.h"
#include "io/netlink.h"
#include "io/privileges.h"
#include "io/timer.h"
#include "scan/exchange.h"
#include "scan/text.h"

#define MAC_TEXT 18
#define ROWS_MAX 65536u
#define ANSWERS_US 1000000 /* for the echoes; batctl runs meanwhile */

static int batman_probe(const struct scan_env *env, char *why)
{
	struct nl_link link = {0};
	struct nl *nl = NULL;
	int rc = nl_open(&nl);

	if (!rc)
		rc = nl_link_get(nl, env->cfg->batman_interface, &link);
	nl_close(nl);
	if ((!rc && strcmp(link.kind, "batadv") == 0) || strchr(env->cfg->batman_batctl, '/'))
		return 0;
	cstr_print(why, SCAN_WHY_MAX, "there is no batman-adv interface %.40s",
		   env->cfg->batman_interface);
	return -ENODEV;
}

/* ---- parse ---- */

struct pair {
	char mac[MAC_TEXT], of[NET_ADDR_TEXT]; /* a client's MAC -> originator, or MAC -> IP */
};

struct pairs {
	struct pair *at;
	size_t count, capacity;
};

struct reader {
	const struct scan_sink *sink;
	struct pairs clients, addresses;
};

static int pairs_add(struct pairs *p, const char *mac, const char *of)
{
	if (strlen(mac) != MAC_TEXT - 1 || strlen(of) >= NET_ADDR_TEXT)
		return 0;
	if (p->count >= ROWS_MAX)
		return -E2BIG;
	if (p->count == p->capacity) {
		size_t capacity = p->capacity ? 2 * p->capacity : 64;
		struct pair *at = realloc(p->at, capacity * sizeof *at);
		if (!at)
			return -ENOMEM;
		p->at = at;
		p->capacity = capacity;
	}
	struct pair *pair = &p->at[p->count++];
	cstr_copy(pair->mac, sizeof pair->mac, mac);
	cstr_copy(pair->of, sizeof pair->of, of);
	for (char *c = pair->mac; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	return 0;
}

static int by_mac(const void *a, const void *b)
{
	return strcmp(((const struct pair *)a)->mac, ((const struct pair *)b)->mac);
}

/* The first pair of this MAC in a sorted table; NULL. */
static const struct pair *pairs_find(const struct pairs *p, const char *mac)
{
	size_t low = 0, high = p->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (strcmp(p->at[mid].mac, mac) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low < p->count && strcmp(p->at[low].mac, mac) == 0 ? &p->at[low] : NULL;
}

static int take_row(struct reader *r, struct json_object *row)
{
	const char *orig = text_json_str(row, "orig_address"),
		   *client = text_json_str(row, "tt_address"),
		   *dat = text_json_str(row, "dat_cache_hwaddress"),
		   *neigh = text_json_str(row, "neigh_mac");

	if (*client)
		return *orig ? pairs_add(&r->clients, client, orig) : 0;
	if (*dat)
		return pairs_add(&r->addresses, dat, text_json_str(row, "dat_cache_ip4address"));
	if (*neigh)
		return pairs_add(&r->addresses, neigh, text_json_str(row, "neigh_ip"));
	return 0;
}

static bool host_of_mac(const char *mac, struct net_host *h)
{
	*h = (struct net_host){.how = "originator"};
	if (strlen(mac) != MAC_TEXT - 1)
		return false;
	cstr_copy(h->name, sizeof h->name, mac);
	for (char *c = h->name; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	return true;
}

/* An originator and our way to it: direct when it is its own next hop. */
static int take_originator(struct reader *r, struct json_object *row)
{
	struct json_object *best = text_json_get(row, "best", json_type_boolean);
	struct net_host h, hop;
	int rc;

	if (!best || !json_object_get_boolean(best) || *text_json_str(row, "tt_address") ||
	    !host_of_mac(text_json_str(row, "orig_address"), &h))
		return 0;
	rc = scan_put_host(r->sink, &h);
	if (rc || !host_of_mac(text_json_str(row, "neigh_address"), &hop))
		return rc;
	/* tq: 255 is best. */
	uint32_t tq = text_json_u32(row, "tq");
	return net_host_equal(&h, &hop) ? scan_put_link(r->sink, NULL, &h, tq < 256 ? 256 - tq : 1)
					: 0;
}

static int each_row(struct reader *r, struct json_object *list,
		    int (*take)(struct reader *r, struct json_object *row))
{
	int rc = 0;

	for (size_t i = 0; !rc && i < json_object_array_length(list); i++)
		rc = take(r, json_object_array_get_idx(list, i));
	return rc;
}

/* Clients with an address, linked with their originator. */
static int put_clients(struct reader *r)
{
	int rc = 0;

	qsort(r->addresses.at, r->addresses.count, sizeof *r->addresses.at, by_mac);
	for (size_t i = 0; !rc && i < r->clients.count; i++) {
		const struct pair *client = &r->clients.at[i],
				  *ip = pairs_find(&r->addresses, client->mac);
		struct net_host orig, h;
		if (!ip || !host_of_mac(client->of, &orig))
			continue;
		for (; !rc && ip < r->addresses.at + r->addresses.count &&
		       strcmp(ip->mac, client->mac) == 0;
		     ip++) {
			if (!scan_host_of(&h, ip->of, "client") ||
			    (h.addr.family == 6 && h.addr.ip[0] == 0xfe))
				continue;
			rc = scan_put_host(r->sink, &h);
			if (!rc)
				rc = scan_put_link(r->sink, &orig, &h, 0);
		}
	}
	return rc;
}

static int batman_parse(const uint8_t *data, size_t len, const struct scan_sink *sink)
{
	struct bytes rest = bytes_of(data, len);
	struct reader r = {.sink = sink};
	struct json_object *o;
	bool bad = false;
	int rc = len ? 0 : -EBADMSG;

	while (!rc && (o = text_json(&rest, &bad))) {
		if (json_object_is_type(o, json_type_array)) {
			rc = each_row(&r, o, take_row);
			if (!rc)
				rc = each_row(&r, o, take_originator);
		}
		json_object_put(o);
	}
	if (!rc && bad)
		rc = -EBADMSG;
	if (!rc && r.addresses.count)
		rc = put_clients(&r);
	free(r.clients.at);
	free(r.addresses.at);
	return rc;
}

/* ---- query ---- */

static const char *const tables[] = {"originators_json", "transtable_global_json",
				     "dat_cache_json"};
#define TABLES (sizeof tables / sizeof *tables)

struct batman_request {
	struct scan_env kept; /* the configuration in it is stable */
	struct child *child;
	struct event *timer, *next, *answers;
	bool tables_read, heard; /* who would answer the call has done so */
	struct evbuffer *text;
	size_t step, before; /* length of the text before this table */
	scan_answer_cb *cb;
	void *arg;
};

static void batman_query_cancel(void *request)
{
	struct batman_request *q = request;

	if (!q)
		return;
	child_free(q->child);
	event_drop(q->timer);
	event_drop(q->next);
	event_drop(q->answers);
	if (q->text)
		evbuffer_free(q->text);
	free(q);
}

static void finish(struct batman_request *q, int err, const char *why)
{
	size_t len = err ? 0 : evbuffer_get_length(q->text);

	q->cb(err, why, len ? evbuffer_pullup(q->text, -1) : NULL, len, q->arg);
	batman_query_cancel(q);
}

static int write_neighbour(const struct nl_neigh *n, void *ctx)
{
	struct evbuffer *out = ctx;
	char ip[NET_ADDR_TEXT];
	const uint8_t *m = n->lladdr;

	if (!n->failed && !n->noarp && n->has_lladdr)
		evbuffer_add_printf(
			out,
			",{\"neigh_mac\":\"%02x:%02x:%02x:%02x:%02x:%02x\",\"neigh_ip\":\"%s\"}",
			m[0], m[1], m[2], m[3], m[4], m[5], net_addr_ip_text(&n->addr, ip));
	return 0;
}

static void add_neighbours(struct batman_request *q)
{
	struct nl *nl = NULL;

	evbuffer_add_printf(q->text, "[{}");
	if (nl_open(&nl) == 0)
		nl_neigh_list(nl, 0, write_neighbour, q->text);
	nl_close(nl);
	evbuffer_add_printf(q->text, "]");
}

static void on_output(struct child *c, const char *data, size_t len, void *arg)
{
	struct batman_request *q = arg;

	(void)c;
	if (evbuffer_get_length(q->text) + len <= SCAN_ANSWER_MAX_BYTES)
		evbuffer_add(q->text, data, len);
}

static void on_exit_of(struct child *c, int status, void *arg);

static int start_table(struct batman_request *q)
{
	const char *argv[] = {q->kept.cfg->batman_batctl, "meshif", q->kept.cfg->batman_interface,
			      tables[q->step], NULL};
	const struct child_spec spec = {.name = "batctl",
					.argv = argv,
					.privileges = PRIVILEGE(CAP_NET_ADMIN),
					.on_exit = on_exit_of,
					.on_output = on_output,
					.arg = q};

	q->before = evbuffer_get_length(q->text);
	return child_start(&q->child, q->kept.base, &spec);
}

static void finish_if_done(struct batman_request *q)
{
	if (!q->tables_read || !q->heard)
		return;
	add_neighbours(q);
	finish(q, 0, "");
}

/* ---- the call ---- */

struct own {
	uint32_t link;
	struct net_addr found;
};

static int take_global(const struct nl_addr *a, void *ctx)
{
	struct own *own = ctx;

	if (a->link != own->link || a->prefix.addr.ip[0] == 0xfe)
		return 0;
	own->found = a->prefix.addr;
	return 1;
}

/* Where the addresses are: a mesh interface is often the port of a bridge. */
static uint32_t link_of(const char *interface)
{
	char path[64], target[128];
	ssize_t n;

	cstr_print(path, sizeof path, "/sys/class/net/%.15s/master", interface);
	n = readlink(path, target, sizeof target - 1);
	if (n > 0) {
		target[n] = '\0';
		const char *name = strrchr(target, '/');
		return if_nametoindex(name ? name + 1 : target);
	}
	return if_nametoindex(interface);
}

/* False: there is no IPv6 on the interface, or we may not. */
static bool call_everybody(const char *interface)
{
	struct own own = {.link = link_of(interface)};
	struct sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_scope_id = own.link}, from = to;
	const struct icmp6_hdr echo = {.icmp6_type = ICMP6_ECHO_REQUEST};
	struct nl *nl = NULL;
	bool sent = false;
	int fd;

	if (!own.link || nl_open(&nl))
		return false;
	nl_addr_list(nl, 6, take_global, &own);
	nl_close(nl);
	if (!own.found.family)
		return false;
	memcpy(&from.sin6_addr, own.found.ip, sizeof from.sin6_addr);
	from.sin6_scope_id = 0;
	if (inet_pton(AF_INET6, "ff02::1", &to.sin6_addr) != 1)
		return false;
	fd = socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_ICMPV6);
	if (fd < 0)
		return false;
	if (bind(fd, (struct sockaddr *)&from, sizeof from) == 0)
		sent = sendto(fd, &echo, sizeof echo, 0, (struct sockaddr *)&to, sizeof to) > 0;
	close(fd);
	return sent;
}

static void on_answers(evutil_socket_t fd, short what, void *arg)
{
	struct batman_request *q = arg;

	(void)fd, (void)what;
	q->heard = true;
	finish_if_done(q);
}

/* ---- the tables ---- */

/* Outside of the child's callback, where it may be freed. */
static void on_next(evutil_socket_t fd, short what, void *arg)
{
	struct batman_request *q = arg;
	int err;

	(void)fd, (void)what;
	child_free(q->child);
	q->child = NULL;
	if (++q->step < TABLES) {
		err = start_table(q);
		if (err)
			finish(q, err, "batctl could not be started");
		return;
	}
	q->tables_read = true;
	finish_if_done(q);
}

static void on_exit_of(struct child *c, int status, void *arg)
{
	struct batman_request *q = arg;

	(void)c;
	if (status && q->step == 0) {
		event_active(q->timer, EV_READ, 0);
		return;
	}
	/* A table that this version has not, or not turned on, costs only what it would tell. */
	if (status) {
		size_t len = evbuffer_get_length(q->text);
		struct evbuffer *kept = evbuffer_new();
		if (kept) {
			evbuffer_remove_buffer(q->text, kept, q->before);
			evbuffer_drain(q->text, len);
			evbuffer_add_buffer(q->text, kept);
			evbuffer_free(kept);
		}
	}
	event_active(q->next, EV_TIMEOUT, 0);
}

static void on_timeout(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	if (what & EV_TIMEOUT)
		finish(arg, -ETIMEDOUT, "batctl does not end");
	else
		finish(arg, -EIO, "batctl failed; is the interface a batman-adv one?");
}

static int batman_query(void **request, const struct scan_env *env, const struct net_host *host,
			scan_answer_cb *cb, void *arg)
{
	const struct timeval answers = {ANSWERS_US / 1000000, ANSWERS_US % 1000000};
	struct batman_request *q;
	int err = -ENOMEM;

	if (host)
		return -ENOTSUP;
	q = calloc(1, sizeof *q);
	if (!q)
		return -ENOMEM;
	q->kept = *env;
	q->cb = cb;
	q->arg = arg;
	q->text = evbuffer_new();
	q->timer = timer_new(env->base, on_timeout, q);
	q->next = timer_new(env->base, on_next, q);
	q->answers = timer_new(env->base, on_answers, q);
	if (q->text && q->timer && q->next && q->answers && !timer_in(q->timer, env->timeout_us))
		err = start_table(q);
	if (!err && call_everybody(env->cfg->batman_interface))
		err = evtimer_add(q->answers, &answers);
	else
		q->heard = true;
	if (err) {
		batman_query_cancel(q);
		return err;
	}
	*request = q;
	return 0;
}

const struct scan_module scan_batman = {
	.name = "batman",
	.probe = batman_probe,
	.parse = batman_parse,
	.query = batman_query,
	.query_cancel = batman_query_cancel,
};
