#include "subscriberd/gateway.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define SILENT_US 35000000u	/* a gateway not heard for this long is not tried */
#define LOSS_PENALTY_MS 1000.0	/* for a gateway that answers nothing */
#define FAILURE_PENALTY_MS 50.0 /* for each recent failure */
#define UNMEASURED_MS 100.0
#define MEASURING_US 1000000u /* a new gateway is measured before it is chosen, this long */

const char *sub_contact_key(const struct sub_contact *c, char out[SUB_KEY_MAX])
{
	char id[MESH_ID_TEXT], addr[NET_ADDR_TEXT];

	if (c->via == SUB_VIA_MESH)
		snprintf(out, SUB_KEY_MAX, "mesh:%s/%s", mesh_id_text(&c->node, id), c->app);
	else
		snprintf(out, SUB_KEY_MAX, "http:%s", net_addr_text(&c->addr, addr));
	return out;
}

bool sub_contact_equal(const struct sub_contact *a, const struct sub_contact *b)
{
	if (a->via != b->via)
		return false;
	if (a->via == SUB_VIA_HTTP)
		return net_addr_equal(&a->addr, &b->addr);
	return mesh_id_equal(&a->node, &b->node) && strcmp(a->app, b->app) == 0;
}

void sub_quality_answer(struct sub_quality *q, double rtt_ms)
{
	if (q->rtt_ms == 0) {
		q->rtt_ms = rtt_ms;
	} else {
		q->jitter_ms += (fabs(rtt_ms - q->rtt_ms) - q->jitter_ms) / 8;
		q->rtt_ms += (rtt_ms - q->rtt_ms) / 8;
	}
	q->loss -= q->loss / 8;
	q->samples++;
}

void sub_quality_silence(struct sub_quality *q)
{
	q->loss += (1 - q->loss) / 8;
	q->samples++;
}

const char *sub_gateway_method(const struct sub_gateway *g, const char *const *methods,
			       size_t method_count)
{
	for (size_t i = 0; i < method_count; i++)
		for (size_t k = 0; k < g->info.method_count; k++)
			if (strcmp(methods[i], g->info.methods[k]) == 0)
				return methods[i];
	return NULL;
}

/* Why it cannot be used at all; NULL when it can. */
static const char *unusable(const struct sub_gateway *g, const char *const *methods,
			    size_t method_count, uint64_t now)
{
	if (!g->heard_us)
		return "has not answered yet";
	if (now > g->heard_us + SILENT_US)
		return "is silent";
	if (!g->info.online)
		return "its uplink is down";
	if (g->info.free_slots == 0 && !g->sid[0])
		return "is full";
	if (!sub_gateway_method(g, methods, method_count))
		return "offers no method that we accept";
	if (now < g->cooldown_until_us)
		return "failed a moment ago";
	if (g->quality.rtt_ms <= 0 && g->asking && now < g->heard_us + MEASURING_US)
		return "is being measured";
	return NULL;
}

double sub_gateway_score(const struct sub_gateway *g, const char *const *methods,
			 size_t method_count, uint64_t now, char why[SUB_WHY_MAX])
{
	const char *no = unusable(g, methods, method_count, now);
	const struct sub_quality *q = &g->quality;

	if (no) {
		snprintf(why, SUB_WHY_MAX, "%s%s%.150s", no, g->error[0] ? ": " : "", g->error);
		return HUGE_VAL;
	}
	double rtt = q->rtt_ms > 0 ? q->rtt_ms : UNMEASURED_MS;
	double loss = q->loss * LOSS_PENALTY_MS;
	double failures = g->failures * FAILURE_PENALTY_MS;
	double score = rtt + 4 * q->jitter_ms + g->info.uplink_rtt_ms + loss + failures;
	snprintf(why, SUB_WHY_MAX,
		 "rtt %.1f + 4 x jitter %.1f + uplink %.1f + loss %.0f + failures %.0f ms", rtt,
		 q->jitter_ms, g->info.uplink_rtt_ms, loss, failures);
	return score;
}
