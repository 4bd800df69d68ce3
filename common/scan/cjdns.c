/*
 * cjdns: its admin interface (io/cjdns.h).  Our own node tells its table of nodes and its peers; of
 * others we ask their peers (RouterModule_getPeers by address), which the network answers for them.
 *
 * The query's text: the answers, one behind the other.
 */
#include <errno.h>
#include <event2/buffer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cstr.h"
#include "io/cjdns.h"
#include "io/config.h"
#include "scan/exchange.h"
#include "scan/text.h"

#define PAGES_MAX 512
#define ADMIN_PORT 11234

static int cjdns_probe(const struct scan_env *env, char *why)
{
	return scan_probe_address(env->cfg->cjdns_admin_addr, "cjdns's admin interface", why);
}

/* ---- parse ---- */

struct reader {
	const struct scan_sink *sink;
	struct net_addr own; /* family 0: not told */
};

/* "v20.LABEL.KEY.k".  Our own becomes our own host. */
static bool host_of_node(const struct reader *r, struct bytes node, struct net_host *h)
{
	*h = (struct net_host){.how = "node"};
	if (cjdns_address(&h->addr, node) != 0)
		return false;
	bytes_to_cstr(cjdns_key(node), h->name, sizeof h->name);
	if (net_addr_same_ip(&h->addr, &r->own))
		*h = (struct net_host){0};
	return true;
}

static int take_table(struct reader *r, const struct benc *table)
{
	struct rbuf it = benc_items(table);
	struct benc entry;
	struct net_host h;
	int rc = 0;

	while (!rc && benc_next(&it, &entry))
		if (host_of_node(r, benc_get_text(&entry, "addr"), &h) && !net_host_is_own(&h))
			rc = scan_put_host(r->sink, &h);
	return rc;
}

static int put_peer(struct reader *r, const struct net_host *of, const struct net_host *h,
		    uint32_t cost)
{
	int rc = net_host_is_own(h) ? 0 : scan_put_host(r->sink, h);

	return rc ? rc : scan_put_link(r->sink, of, h, cost);
}

/* Of ours: dicts with a state.  Of others: names, the first is the one that was asked. */
static int take_peers(struct reader *r, const struct benc *peers)
{
	struct rbuf it = benc_items(peers);
	struct net_host of = {0}, h;
	struct benc entry;
	bool first = true;
	int rc = 0;

	for (; !rc && benc_next(&it, &entry); first = false) {
		if (entry.type == BENC_DICT) {
			if (bytes_equal(benc_get_text(&entry, "state"), bytes_str("ESTABLISHED")) &&
			    host_of_node(r, benc_get_text(&entry, "addr"), &h))
				rc = put_peer(r, NULL, &h, 0);
		} else if (first && !host_of_node(r, entry.body, &of)) {
			return 0;
		} else if (!first && host_of_node(r, entry.body, &h)) {
			rc = put_peer(r, &of, &h, 0);
		}
	}
	return rc;
}

static int take_link(struct reader *r, const struct benc *link)
{
	int64_t cost = benc_get_int(link, "linkCost", 0);
	struct net_host parent, child;

	if (!host_of_node(r, benc_get_text(link, "parent"), &parent) ||
	    !host_of_node(r, benc_get_text(link, "child"), &child))
		return 0;
	return put_peer(r, &parent, &child, cost > 0 && cost <= INT32_MAX ? (uint32_t)cost : 0);
}

static int take_answer(struct reader *r, const struct benc *answer)
{
	struct benc table = benc_get(answer, "routingTable"), peers = benc_get(answer, "peers"),
		    link = benc_get(answer, "result");
	char text[NET_ADDR_TEXT];
	struct net_host own;

	bytes_to_cstr(benc_get_text(answer, "myIp6"), text, sizeof text);
	if (scan_host_of(&own, text, ""))
		r->own = own.addr;
	if (table.type == BENC_LIST)
		return take_table(r, &table);
	if (peers.type == BENC_LIST)
		return take_peers(r, &peers);
	return link.type == BENC_DICT ? take_link(r, &link) : 0;
}

static int cjdns_parse(const uint8_t *data, size_t len, const struct scan_sink *sink)
{
	struct rbuf r = rbuf_init(data, len);
	struct reader reader = {.sink = sink};
	struct benc answer;
	int rc = len ? 0 : -EBADMSG;

	while (!rc && rbuf_left(&r)) {
		if (!benc_next(&r, &answer) || answer.type != BENC_DICT)
			return -EBADMSG;
		rc = take_answer(&reader, &answer);
	}
	return rc;
}

/* ---- query ---- */

struct cjdns_request {
	struct cjdns *client;
	struct evbuffer *text;
	unsigned step, page;
	scan_answer_cb *cb;
	void *arg;
};

static void cjdns_query_cancel(void *request)
{
	struct cjdns_request *q = request;

	if (!q)
		return;
	cjdns_close(q->client);
	if (q->text)
		evbuffer_free(q->text);
	free(q);
}

static void finish(struct cjdns_request *q, int err, const char *why)
{
	size_t len = err ? 0 : evbuffer_get_length(q->text);

	q->cb(err, why, len ? evbuffer_pullup(q->text, -1) : NULL, len, q->arg);
	cjdns_query_cancel(q);
}

static void on_answer(int err, const char *why, const struct benc *answer, void *arg);

static int ask(struct cjdns_request *q, const char *function, bool paged)
{
	uint8_t buf[64];
	struct wbuf args = wbuf_init(buf, sizeof buf);

	if (paged) {
		benc_put_mark(&args, 'd');
		benc_put_text(&args, "page");
		benc_put_int(&args, q->page);
		benc_put_mark(&args, 'e');
	}
	return cjdns_call(q->client, function, bytes_of(buf, wbuf_len(&args)), 0, on_answer, q);
}

static const char *const own_steps[] = {"Core_nodeInfo", "InterfaceController_peerStats",
					"NodeStore_dumpTable"};
static const char *const lists[] = {"", "peers", "routingTable"};

/* A page with something on it is followed by another. */
static void go_on(struct cjdns_request *q, const struct benc *answer, bool failed)
{
	struct benc list = benc_get(answer, lists[q->step]);

	if (!failed && q->step > 0 && list.type == BENC_LIST && list.body.len &&
	    q->page + 1 < PAGES_MAX) {
		q->page++;
	} else {
		q->step++;
		q->page = 0;
	}
	int err = 0;
	if (q->step < sizeof own_steps / sizeof *own_steps &&
	    !(err = ask(q, own_steps[q->step], q->step > 0)))
		return;
	finish(q, err, err ? strerror(-err) : "");
}

static void on_answer(int err, const char *why, const struct benc *answer, void *arg)
{
	struct cjdns_request *q = arg;
	static const struct benc none;

	/* An error of a later question costs only its answer: functions differ by version. */
	if (err && (err != -EREMOTEIO || q->step == 0 || q->step > 2)) {
		finish(q, err, why);
		return;
	}
	if (!err) /* with the brackets around it */
		evbuffer_add(q->text, answer->body.data - 1, answer->body.len + 2);
	if (evbuffer_get_length(q->text) > SCAN_ANSWER_MAX_BYTES)
		finish(q, -E2BIG, "its answer is too long");
	else if (q->step > 2)
		finish(q, 0, "");
	else
		go_on(q, answer ? answer : &none, err != 0);
}

/* All eight groups in full, as cjdns wants them. */
static void put_ip(struct wbuf *w, const struct net_addr *a)
{
	char text[40];

	for (int i = 0; i < 8; i++)
		cstr_print(text + 5 * i, sizeof text - (size_t)(5 * i), "%02x%02x%s", a->ip[2 * i],
			   a->ip[2 * i + 1], i < 7 ? ":" : "");
	benc_put_text(w, text);
}

static int ask_peers(struct cjdns_request *q, const struct net_host *host, uint64_t timeout_us)
{
	uint8_t buf[128];
	struct wbuf args = wbuf_init(buf, sizeof buf);

	q->step = 3;
	benc_put_mark(&args, 'd');
	benc_put_text(&args, "path");
	put_ip(&args, &host->addr);
	benc_put_text(&args, "timeout");
	benc_put_int(&args, (int64_t)(timeout_us / 1000));
	benc_put_mark(&args, 'e');
	return cjdns_call(q->client, "RouterModule_getPeers", bytes_of(buf, wbuf_len(&args)),
			  timeout_us + 500000, on_answer, q);
}

static int cjdns_query(void **request, const struct scan_env *env, const struct net_host *host,
		       scan_answer_cb *cb, void *arg)
{
	struct cjdns_request *q;
	struct net_addr at;
	int err;

	if (host && (host->addr.family != 6 || host->addr.ip[0] != 0xfc))
		return -EINVAL;
	if (net_addr_parse(&at, env->cfg->cjdns_admin_addr, ADMIN_PORT) != 0)
		return -EINVAL;
	q = calloc(1, sizeof *q);
	if (!q || !(q->text = evbuffer_new())) {
		free(q);
		return -ENOMEM;
	}
	q->cb = cb;
	q->arg = arg;
	err = cjdns_open(&q->client, env->base, &at, env->cfg->cjdns_admin_password);
	if (!err)
		err = host ? ask_peers(q, host, env->timeout_us) : ask(q, own_steps[0], false);
	if (err)
		cjdns_query_cancel(q);
	else
		*request = q;
	return err;
}

const struct scan_module scan_cjdns = {
	.name = "cjdns",
	.walks = true,
	.probe = cjdns_probe,
	.parse = cjdns_parse,
	.query = cjdns_query,
	.query_cancel = cjdns_query_cancel,
};
