#include "subscriberd/rank.h"

#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cstr.h"

#define LOSS_MS 1000.0	      /* for a gateway that answers nothing */
#define FAILURE_MS 50.0	      /* for each recent failure */
#define UPLINK_FAULT_MS 500.0 /* for one whose uplink was never proven lately */
#define LATER_METHOD_MS 10.0  /* for each method that we would rather have */
#define UNMEASURED_MS 100.0   /* round trip */
#define RATE_BITS 100000.0    /* what a slow tunnel is judged by: the time that these take */
#define RATE_UNKNOWN_MS 10.0
#define RATE_MAX_MS 200.0
#define MEASURING_US 1000000u /* a new gateway is measured before it is chosen, this long */
#define TUNNEL_FRESH_US 10000000u
#define TUNNEL_HALF_LIFE_US 60e6 /* of losses in a tunnel that is gone */

bool sub_names_have(const struct sub_names *names, const struct sub_gateway *g)
{
	char key[SUB_KEY_MAX], id[MESH_ID_TEXT] = "", ip[NET_ADDR_TEXT] = "";

	sub_contact_key(&g->contact, key);
	if (g->contact.via == SUB_VIA_MESH)
		mesh_id_text(&g->contact.node, id);
	else
		net_addr_ip_text(&g->contact.addr, ip);
	for (size_t i = 0; i < names->count; i++) {
		const char *n = names->text[i];
		/* "http:ADDR:PORT" is known by ADDR:PORT too. */
		if (strcmp(n, key) == 0 || (g->info.name[0] && strcmp(n, g->info.name) == 0) ||
		    (id[0] && strcmp(n, id) == 0) || (g->id[0] && strcmp(n, g->id) == 0) ||
		    (ip[0] && strcmp(n, ip) == 0) ||
		    (ip[0] && strcmp(n, key + strlen("http:")) == 0))
			return true;
	}
	return false;
}

bool sub_price_parse(const char *text, double *price, char currency[16])
{
	char *end;

	*price = -1;
	currency[0] = '\0';
	if (!*text)
		return true;
	*price = strtod(text, &end);
	if (end == text || !isfinite(*price) || *price < 0 || strlen(end) > 15)
		return false;
	while (isspace((unsigned char)*end))
		end++;
	cstr_print(currency, 16, "%.15s", end);
	return true;
}

/* NULL when we can pay it. */
static const char *too_dear(const struct sub_gateway *g, const struct sub_terms *t)
{
	char own[16];
	double price;

	if (t->max_price < 0 || !g->info.price[0])
		return NULL;
	if (!sub_price_parse(g->info.price, &price, own))
		return "its price is no number, and MaxPrice is set";
	if (price > t->max_price)
		return "costs more than MaxPrice";
	const char *currency = g->info.currency[0] ? g->info.currency : own;
	if (price > 0 && t->currency[0] && strcmp(currency, t->currency) != 0)
		return "wants another currency than MaxPrice is in";
	return NULL;
}

static bool offers(const struct sub_gateway *g, const char *method)
{
	for (size_t i = 0; i < g->info.method_count; i++)
		if (strcmp(g->info.methods[i], method) == 0)
			return true;
	return false;
}

static bool rests(const struct sub_gateway *g, const char *method, uint64_t now)
{
	for (size_t i = 0; i < SUB_METHODS_MAX; i++)
		if (strcmp(g->faults[i].name, method) == 0)
			return now < g->faults[i].until_us;
	return false;
}

/* The index among the terms' methods, or -1 and why there is none. */
static int method_of(const struct sub_gateway *g, const struct sub_terms *t,
		     const struct sub_rank_question *q, uint64_t now, const char **no)
{
	*no = "offers no method that we accept";
	for (size_t i = 0; i < t->method_count; i++) {
		const char *m = t->methods[i];
		if (!offers(g, m) || (q->only && q->only[0] && strcmp(q->only, m) != 0) ||
		    (q->except && strcmp(q->except, m) == 0))
			continue;
		if (q->live || !rests(g, m, now))
			return (int)i;
		*no = "its methods failed a moment ago";
	}
	return -1;
}

/* Why it cannot be used at all; NULL when it can. */
static const char *unusable(const struct sub_gateway *g, const struct sub_terms *t,
			    const struct sub_rank_question *q, uint64_t now)
{
	bool live = q->live;

	if (q->banned || sub_names_have(&t->banned, g))
		return "is banned";
	if (g->own && !q->ordered)
		return "is on our own host: it would lead in a circle";
	if (!g->heard_us)
		return "has not answered yet";
	if (now > g->heard_us + SUB_SILENT_US)
		return "is silent";
	if (!g->info.online)
		return "its uplink is down";
	if (g->info.free_slots == 0 && !g->sid[0] && !live)
		return "is full";
	if (now < g->cooldown_until_us && !live)
		return "failed a moment ago";
	if (g->quality.rtt_ms <= 0 && g->asking && now < g->heard_us + MEASURING_US && !live)
		return "is being measured";
	return too_dear(g, t);
}

/* What was measured: through the tunnel where we have one there, else by nodeInfo.  Losses of a
 * tunnel that is gone are forgotten slowly, since its nodeInfo may look perfect all the while. */
static struct sub_quality measured(const struct sub_gateway *g, uint64_t now)
{
	const struct sub_quality *t = &g->tunnel;
	struct sub_quality q = g->quality;

	if (!t->at_us)
		return q;
	uint64_t age = now > t->at_us ? now - t->at_us : 0;
	if (age < TUNNEL_FRESH_US && t->rtt_ms > 0)
		return *t;
	double loss = t->loss * exp2(-(double)age / TUNNEL_HALF_LIFE_US);
	if (loss > q.loss)
		q.loss = loss;
	return q;
}

struct sum {
	double score;
	char *text;
	size_t len;
};

__attribute__((format(printf, 4, 5))) static void add(struct sum *s, double ms, bool always,
						      const char *fmt, ...)
{
	va_list ap;

	s->score += ms;
	if ((!always && ms < 0.05) || s->len >= SUB_WHY_MAX)
		return;
	int n = snprintf(s->text + s->len, SUB_WHY_MAX - s->len, "%s", s->len ? " + " : "");
	s->len += n > 0 ? (size_t)n : 0;
	if (s->len >= SUB_WHY_MAX)
		return;
	va_start(ap, fmt);
	n = vsnprintf(s->text + s->len, SUB_WHY_MAX - s->len, fmt, ap);
	va_end(ap);
	s->len += n > 0 ? (size_t)n : 0;
}

static double rate_ms(const struct sub_gateway *g)
{
	double ms;

	if (g->goodput_bps <= 0)
		return RATE_UNKNOWN_MS;
	ms = RATE_BITS / g->goodput_bps * 1000;
	return ms < RATE_MAX_MS ? ms : RATE_MAX_MS;
}

static unsigned method_failures(const struct sub_gateway *g, const char *method)
{
	for (size_t i = 0; i < SUB_METHODS_MAX; i++)
		if (strcmp(g->faults[i].name, method) == 0)
			return g->faults[i].failures;
	return 0;
}

void sub_rank(const struct sub_gateway *g, const struct sub_terms *terms,
	      const struct sub_rank_question *q, uint64_t now, struct sub_rank *out)
{
	const char *no = unusable(g, terms, q, now), *no_method;
	int method = method_of(g, terms, q, now, &no_method);
	struct sub_quality m = measured(g, now);
	struct sum s = {.text = out->why};

	*out = (struct sub_rank){.score = HUGE_VAL,
				 .pinned = q->pinned || sub_names_have(&terms->pinned, g)};
	if (no || method < 0) {
		const char *because = g->silence[0] ? g->silence : g->error;
		no = no ? no : no_method;
		cstr_print(out->why, SUB_WHY_MAX, "%s%s%.130s", no, because[0] ? ": " : "",
			   because);
		return;
	}
	if (out->pinned)
		add(&s, 0, true, "pinned");
	add(&s, m.rtt_ms > 0 ? m.rtt_ms : UNMEASURED_MS, true,
	    m.rtt_ms > 0 ? "rtt %.1f" : "rtt unknown (%.0f)",
	    m.rtt_ms > 0 ? m.rtt_ms : UNMEASURED_MS);
	add(&s, 4 * m.jitter_ms, true, "4 x jitter %.1f", m.jitter_ms);
	add(&s, g->info.uplink_rtt_ms, true, "uplink %.1f", g->info.uplink_rtt_ms);
	add(&s, m.loss * LOSS_MS, false, "loss of %.0f %%: %.0f", m.loss * 100, m.loss * LOSS_MS);
	if (g->goodput_bps > 0)
		add(&s, rate_ms(g), true, "%.1f Mbit/s: %.1f", g->goodput_bps / 1e6, rate_ms(g));
	else
		add(&s, rate_ms(g), true, "rate unknown: %.0f", rate_ms(g));
	add(&s, g->uplink_fault * UPLINK_FAULT_MS, false, "uplink unproven %.0f %%: %.0f",
	    g->uplink_fault * 100, g->uplink_fault * UPLINK_FAULT_MS);
	unsigned failures = g->failures + method_failures(g, terms->methods[method]);
	add(&s, failures * FAILURE_MS, false, "%u failures: %.0f", failures, failures * FAILURE_MS);
	add(&s, method * LATER_METHOD_MS, false, "%s is choice %d: %.0f", terms->methods[method],
	    method + 1, method * LATER_METHOD_MS);
	if (s.len < SUB_WHY_MAX)
		cstr_print(out->why + s.len, SUB_WHY_MAX - s.len, " ms");
	out->score = s.score;
	out->method = terms->methods[method];
}

bool sub_rank_before(const struct sub_rank *a, const struct sub_rank *b)
{
	bool a_ok = isfinite(a->score), b_ok = isfinite(b->score);

	if (a_ok != b_ok)
		return a_ok;
	if (a->pinned != b->pinned)
		return a->pinned;
	return a->score < b->score;
}
