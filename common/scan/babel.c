/*
 * babel: babeld's local interface (`-g PATH`), one `dump`.  babeld tells its neighbours (by
 * link-local address) and the prefixes that each router announces, no links between others.
 */
#include <errno.h>
#include <stdio.h>

#include "base/cstr.h"
#include "io/config.h"
#include "scan/exchange.h"
#include "scan/text.h"

static int babel_probe(const struct scan_env *env, char *why)
{
	return scan_probe_address(env->cfg->babel_socket, "babeld", why);
}

/* "prefix P ... id ROUTER metric M refmetric R ..." */
static int parse_route(struct bytes line, const struct scan_sink *sink)
{
	char prefix[TEXT_WORD_MAX], id[TEXT_WORD_MAX], metric[TEXT_WORD_MAX], ref[TEXT_WORD_MAX],
		installed[TEXT_WORD_MAX];
	struct net_prefix p;
	struct net_host h;
	int rc;

	if (!text_after(line, "prefix", prefix) || net_prefix_parse(&p, prefix) != 0 ||
	    !scan_host_of_route(&h, &p, "babel"))
		return 0;
	if (text_after(line, "id", id))
		cstr_copy(h.name, sizeof h.name, id);
	rc = scan_put_host(sink, &h);
	text_after(line, "metric", metric);
	text_after(line, "installed", installed);
	/* What a neighbour announces itself is one link away. */
	if (rc || !text_after(line, "refmetric", ref) || text_number(ref, 1) != 0 ||
	    installed[0] != 'y')
		return rc;
	return scan_put_link(sink, NULL, &h, text_number(metric, 0));
}

static int babel_parse(const uint8_t *data, size_t len, const struct scan_sink *sink)
{
	struct bytes rest = bytes_of(data, len), line;
	int rc = 0;

	if (!text_line(&rest, &line) || !text_begins(line, "BABEL "))
		return -EBADMSG;
	while (!rc && text_line(&rest, &line))
		if (text_begins(line, "add route ") || text_begins(line, "change route "))
			rc = parse_route(line, sink);
	return rc;
}

/* The greeting and each answer end with a line "ok". */
static int on_input(struct scan_exchange *x, struct bytes all, bool ended)
{
	struct scan_notes *notes = scan_exchange_notes(x);
	struct bytes rest = bytes_of(all.data + notes->seen, all.len - notes->seen), line;

	(void)ended;
	while (memchr(rest.data, '\n', rest.len) && text_line(&rest, &line)) {
		notes->seen = all.len - rest.len;
		if (text_begins(line, "no") || text_begins(line, "bad"))
			return -EPROTO;
		if (!bytes_equal(line, bytes_str("ok")))
			continue;
		if (notes->step++ == 1)
			return 1;
		scan_exchange_print(x, "dump\n");
	}
	return 0;
}

static int babel_query(void **request, const struct scan_env *env, const struct net_host *host,
		       scan_answer_cb *cb, void *arg)
{
	if (host)
		return -ENOTSUP;
	return scan_exchange_start((struct scan_exchange **)request, env, env->cfg->babel_socket, 0,
				   NULL, on_input, cb, arg);
}

const struct scan_module scan_babel = {
	.name = "babel",
	.probe = babel_probe,
	.parse = babel_parse,
	.query = babel_query,
	.query_cancel = scan_exchange_cancel,
};
