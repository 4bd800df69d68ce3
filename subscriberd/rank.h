/*
 * Which gateway is how good: what is wanted (sub_terms), and what a gateway is worth by it, with
 * the reasons in words.  Pure.
 *
 * A score is in milliseconds, the smaller the better: the round trip through it to the Internet,
 * and what loss, jitter, a slow tunnel, failures and missing proofs of its uplink are worth.
 */
#ifndef SUBSCRIBERD_RANK_H
#define SUBSCRIBERD_RANK_H

#include "subscriberd/gateway.h"

#define SUB_NAMES_MAX 32

/* Names, addresses (with or without port), node ids or proven keys of gateways, keys of ways. */
struct sub_names {
	char text[SUB_NAMES_MAX][SUB_KEY_MAX];
	size_t count;
};

struct sub_terms {
	char methods[SUB_METHODS_MAX][SUB_METHOD_NAME_MAX + 1]; /* accepted, the preferred first */
	size_t method_count;
	double max_price;	 /* negative: any */
	char currency[16];	 /* of max_price; "": whatever the gateway's is */
	struct sub_names pinned; /* before all others while they are usable */
	struct sub_names banned; /* never */
};

/* Is the gateway one of these? */
bool sub_names_have(const struct sub_names *names, const struct sub_gateway *g);
/* "2.5" or "2.5 EUR"; "" is any price.  False when it is none of these. */
bool sub_price_parse(const char *text, double *price, char currency[16]);

struct sub_rank {
	double score; /* HUGE_VAL: not usable now */
	bool pinned;
	const char *method; /* what it would be used with; NULL when not usable */
	char why[SUB_WHY_MAX];
};

/* `only`: no other method than this ("" or NULL: any of the terms); `except`: not this one (may be
 * NULL); `pinned`, `banned`: another way to it is; `ordered`: it was named in
 * an order; `live`: we have a session there, so that neither
 * a full gateway nor an old fault matters. `now` is monotonic. */
struct sub_rank_question {
	const char *only, *except;
	bool live, pinned, banned, ordered;
};
void sub_rank(const struct sub_gateway *g, const struct sub_terms *terms,
	      const struct sub_rank_question *q, uint64_t now, struct sub_rank *out);
/* Does `a` stand before `b`? */
bool sub_rank_before(const struct sub_rank *a, const struct sub_rank *b);
#endif
