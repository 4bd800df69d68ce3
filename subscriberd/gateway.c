#include "subscriberd/gateway.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/cstr.h"
#include "core/keyproof.h"

#define PROOF_US 300000000u /* a key is proven anew this often */
#define WEIGHT 8	    /* of the average against one sample */

_Static_assert(SUB_KEY_MAX == KEYPROOF_PLACE_MAX, "a key is what is proven of a place");

const char *sub_contact_key(const struct sub_contact *c, char out[SUB_KEY_MAX])
{
	if (c->via == SUB_VIA_MESH)
		return keyproof_mesh(&c->node, c->app, out);
	return keyproof_http(&c->addr, out);
}

bool sub_contact_equal(const struct sub_contact *a, const struct sub_contact *b)
{
	if (a->via != b->via)
		return false;
	if (a->via == SUB_VIA_HTTP)
		return net_addr_equal(&a->addr, &b->addr);
	return mesh_id_equal(&a->node, &b->node) && strcmp(a->app, b->app) == 0;
}

bool sub_gateway_same(const struct sub_gateway *a, const struct sub_gateway *b)
{
	return a == b || (a->id[0] && strcmp(a->id, b->id) == 0);
}

bool sub_gateway_unproven(const struct sub_gateway *g, uint64_t now)
{
	return !g->proven_us || now - g->proven_us >= PROOF_US;
}

void sub_quality_answer(struct sub_quality *q, double rtt_ms, uint64_t now)
{
	if (q->rtt_ms == 0) {
		q->rtt_ms = rtt_ms;
	} else {
		q->jitter_ms += (fabs(rtt_ms - q->rtt_ms) - q->jitter_ms) / WEIGHT;
		q->rtt_ms += (rtt_ms - q->rtt_ms) / WEIGHT;
	}
	q->loss -= q->loss / WEIGHT;
	q->samples++;
	q->at_us = now;
}

void sub_quality_silence(struct sub_quality *q, uint64_t now)
{
	q->loss += (1 - q->loss) / WEIGHT;
	q->samples++;
	q->at_us = now;
}

void sub_gateway_proof(struct sub_gateway *g, bool online)
{
	g->uplink_fault += ((online ? 0 : 1) - g->uplink_fault) / WEIGHT;
}

/* What leaves a tunnel that is not full says only that it can carry as much. */
void sub_gateway_carried(struct sub_gateway *g, double bps, bool full)
{
	if (full && g->goodput_bps > 0)
		g->goodput_bps += (bps - g->goodput_bps) / WEIGHT;
	else if (full || (g->goodput_bps > 0 && bps > g->goodput_bps))
		g->goodput_bps = bps;
}

struct sub_method_fault *sub_gateway_fault(struct sub_gateway *g, const char *method, bool make)
{
	struct sub_method_fault *oldest = g->faults;

	for (size_t i = 0; i < SUB_METHODS_MAX; i++) {
		if (strcmp(g->faults[i].name, method) == 0)
			return &g->faults[i];
		if (g->faults[i].until_us < oldest->until_us)
			oldest = &g->faults[i];
	}
	if (!make)
		return NULL;
	*oldest = (struct sub_method_fault){0};
	cstr_copy(oldest->name, sizeof oldest->name, method);
	return oldest;
}
