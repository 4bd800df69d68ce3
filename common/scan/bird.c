/*
 * bird: BIRD's control socket.  Of OSPF the whole graph of routers (`show ospf state all`), of
 * every other protocol its routes.  We ask for restricted access first: nothing can be changed.
 *
 * Lines of an answer are "CODE-text", "CODE text" (the last) or " text" (goes on); what birdc
 * prints, without codes, is read as well.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cstr.h"
#include "io/config.h"
#include "scan/exchange.h"
#include "scan/text.h"

#define OSPF_MAX 8 /* protocols of one BIRD that are asked */

static int bird_probe(const struct scan_env *env, char *why)
{
	return scan_probe_address(env->cfg->bird_socket, "BIRD", why);
}

/* "0016 ", "1016-": 5 characters, else 0. */
static size_t code_length(struct bytes line)
{
	if (line.len < 5 || (line.data[4] != ' ' && line.data[4] != '-'))
		return 0;
	for (int i = 0; i < 4; i++)
		if (!isdigit(line.data[i]))
			return 0;
	return 5;
}

/* ---- parse ---- */

struct reader {
	const struct scan_sink *sink;
	struct net_host router;	 /* whose block this is; own when it is none */
	struct net_host network; /* the first router of the network block, likewise */
	bool in_network, ignored;
};

static int take_router(struct reader *r, struct bytes line)
{
	char id[TEXT_WORD_MAX], metric[TEXT_WORD_MAX];
	struct net_host h;
	bool is_link = text_after(line, "metric", metric);

	if (!text_word(&line, id) || !scan_host_of(&h, id, "ospf"))
		return 0;
	cstr_copy(h.name, sizeof h.name, id);
	if (r->ignored)
		return 0;
	if (r->in_network) {
		if (net_host_is_own(&r->network)) {
			r->network = h;
			return 0;
		}
		return scan_put_link(r->sink, &r->network, &h, 0);
	}
	if (is_link)
		return net_host_is_own(&r->router)
			       ? 0
			       : scan_put_link(r->sink, &r->router, &h, text_number(metric, 0));
	r->router = h;
	return 0;
}

/* What an old LSA still names may not be there any more: only what BIRD can reach counts. */
static int take_distance(struct reader *r, bool reachable)
{
	if (r->in_network || net_host_is_own(&r->router))
		return 0;
	if (reachable)
		return scan_put_host(r->sink, &r->router);
	r->router = (struct net_host){0};
	r->in_network = true; /* whose routers are none either */
	r->network = (struct net_host){0};
	r->ignored = true;
	return 0;
}

/* A host's address beside the router's id. */
static int take_stub(struct reader *r, struct bytes line)
{
	char prefix[TEXT_WORD_MAX];
	struct net_host h;
	int rc;

	if (r->in_network || net_host_is_own(&r->router) || !text_word(&line, prefix) ||
	    !scan_host_of(&h, prefix, "ospf") || net_host_equal(&h, &r->router))
		return 0;
	rc = scan_put_host(r->sink, &h);
	return rc ? rc : scan_put_link(r->sink, &r->router, &h, 0);
}

/* "10.1.0.1/32  unicast [babel1 ...] ..." */
static int take_route(struct reader *r, const char *prefix, struct bytes line)
{
	char kind[TEXT_WORD_MAX], proto[TEXT_WORD_MAX];
	struct net_prefix p;
	struct net_host h;

	if (!text_word(&line, kind) || strcmp(kind, "unicast") != 0 || !text_word(&line, proto) ||
	    proto[0] != '[' || net_prefix_parse(&p, prefix) != 0)
		return 0;
	proto[strcspn(proto, "0123456789]")] = '\0';
	if (strcmp(proto, "[direct") == 0 || strcmp(proto, "[device") == 0 ||
	    !scan_host_of_route(&h, &p, proto + 1))
		return 0;
	return scan_put_host(r->sink, &h);
}

static int take_via(struct reader *r, struct bytes line)
{
	char ip[TEXT_WORD_MAX];
	struct net_host h;
	int rc;

	if (!text_word(&line, ip) || !scan_host_of(&h, ip, "next hop") ||
	    (h.addr.family == 6 && h.addr.ip[0] == 0xfe && (h.addr.ip[1] & 0xc0) == 0x80))
		return 0;
	rc = scan_put_host(r->sink, &h);
	return rc ? rc : scan_put_link(r->sink, NULL, &h, 0);
}

static int take_line(struct reader *r, struct bytes line)
{
	char word[TEXT_WORD_MAX];

	if (!text_word(&line, word)) {
		r->router = r->network = (struct net_host){0};
		r->in_network = r->ignored = false;
		return 0;
	}
	if (strcmp(word, "router") == 0)
		return take_router(r, line);
	if (strcmp(word, "distance") == 0 || strcmp(word, "unreachable") == 0)
		return take_distance(r, word[0] == 'd');
	if (strcmp(word, "stubnet") == 0 || strcmp(word, "external") == 0)
		return take_stub(r, line);
	if (strcmp(word, "network") == 0 && net_host_is_own(&r->router)) {
		r->in_network = true;
		r->network = (struct net_host){0};
		return 0;
	}
	if (strcmp(word, "via") == 0)
		return take_via(r, line);
	return isxdigit((unsigned char)word[0]) && strchr(word, '/') ? take_route(r, word, line)
								     : 0;
}

static int bird_parse(const uint8_t *data, size_t len, const struct scan_sink *sink)
{
	struct bytes rest = bytes_of(data, len), line;
	struct reader r = {.sink = sink};
	char word[TEXT_WORD_MAX] = "";
	int rc = 0;

	if (!text_line(&rest, &line))
		return -EBADMSG;
	line = bytes_of(line.data + code_length(line), line.len - code_length(line));
	if (!text_word(&line, word) || strcmp(word, "BIRD") != 0)
		return -EBADMSG;
	while (!rc && text_line(&rest, &line)) {
		size_t skip = code_length(line);
		rc = take_line(&r, bytes_of(line.data + skip, line.len - skip));
	}
	return rc;
}

/* ---- query ---- */

/* Notes: text holds the names of the OSPF protocols, each behind a space; step counts answers. */
static void note_protocol(struct scan_notes *notes, struct bytes line)
{
	char name[TEXT_WORD_MAX], proto[TEXT_WORD_MAX];
	size_t len = strlen(notes->text), count = 0;

	if (!text_word(&line, name) || !text_word(&line, proto) || strcmp(proto, "OSPF") != 0)
		return;
	for (const char *p = notes->text; *p; p++)
		count += *p == ' ';
	if (count < OSPF_MAX && len + strlen(name) + 2 < sizeof notes->text && !strchr(name, '"'))
		cstr_print(notes->text + len, sizeof notes->text - len, " %s", name);
}

/* The question after `step` answers (the greeting is the first); false: that was all. */
static bool ask_next(struct scan_exchange *x, struct scan_notes *notes)
{
	struct bytes names = bytes_str(notes->text);
	char name[TEXT_WORD_MAX];
	unsigned at = 3;

	if (notes->step == 1)
		scan_exchange_print(x, "restrict\n");
	else if (notes->step == 2)
		scan_exchange_print(x, "show protocols\n");
	if (notes->step < 3)
		return true;
	for (; text_word(&names, name); at++)
		if (notes->step == at) {
			scan_exchange_print(x, "show ospf state all \"%s\"\n", name);
			return true;
		}
	if (notes->step == at)
		scan_exchange_print(x, "show route\n");
	return notes->step <= at;
}

static int on_input(struct scan_exchange *x, struct bytes all, bool ended)
{
	struct scan_notes *notes = scan_exchange_notes(x);
	struct bytes rest = bytes_of(all.data + notes->seen, all.len - notes->seen), line;

	(void)ended;
	while (memchr(rest.data, '\n', rest.len) && text_line(&rest, &line)) {
		size_t code = code_length(line);
		notes->seen = all.len - rest.len;
		if (notes->step == 2)
			note_protocol(notes, bytes_of(line.data + code, line.len - code));
		if (!code || line.data[4] != ' ')
			continue;
		notes->step++;
		if (!ask_next(x, notes))
			return 1;
	}
	return 0;
}

static int bird_query(void **request, const struct scan_env *env, const struct net_host *host,
		      scan_answer_cb *cb, void *arg)
{
	if (host)
		return -ENOTSUP;
	return scan_exchange_start((struct scan_exchange **)request, env, env->cfg->bird_socket, 0,
				   NULL, on_input, cb, arg);
}

const struct scan_module scan_bird = {
	.name = "bird",
	.probe = bird_probe,
	.parse = bird_parse,
	.query = bird_query,
	.query_cancel = scan_exchange_cancel,
};
