#include "core/congestion.h"

#define INITIAL_WINDOW_PACKETS 32
#define MINIMUM_WINDOW_PACKETS 4
#define FLOOR_WINDOW_PACKETS 4
#define FLOOR_WINDOW_US 1000u
#define MAXIMUM_WINDOW_BYTES (16u << 20)
#define CUBIC_C 0.4
#define CUBIC_BETA 0.7

void congestion_init(struct congestion *c, enum congestion_algorithm algorithm,
		     uint32_t packet_bytes, uint64_t now)
{
	*c = (struct congestion){
		.algorithm = algorithm,
		.packet_bytes = packet_bytes,
		.cwnd_bytes = (uint64_t)INITIAL_WINDOW_PACKETS * packet_bytes,
	};
	c->cubic.ssthresh_bytes = UINT64_MAX;
	bbr_init(&c->bbr, now);
}

/* Until the path has been full once a slow sample (one small packet, repaired) tells of the sender,
 * and pacing by it would make it true: the first window goes in one round trip all the same. */
static uint64_t pacing_floor(const struct congestion *c, uint64_t window_bytes)
{
	bool known = c->bbr.mode != BBR_STARTUP || !c->bbr.rate_bps || !c->bbr.min_rtt_us;
	return known ? 0 : window_bytes * 8 * 1000000 / c->bbr.min_rtt_us;
}

/* While nothing is known of the path, or it reorders (then little can be known), the first window.
 * Later that would be a standing queue on a slow link: there what it carries in a moment is enough,
 * and never less than keeps acks coming. */
static uint64_t window_floor(const struct congestion *c, uint64_t first_window)
{
	uint64_t least = (uint64_t)FLOOR_WINDOW_PACKETS * c->packet_bytes;
	uint64_t moment = c->bbr.rate_bps / 8 * FLOOR_WINDOW_US / 1000000;

	if (c->bbr.mode == BBR_STARTUP || c->bbr.reorders || moment > first_window)
		return first_window;
	return moment > least ? moment : least;
}

void congestion_sample(struct congestion *c, const struct bbr_sample *s, uint64_t now)
{
	if (c->algorithm != CONGESTION_BBR)
		return;
	uint64_t least = (uint64_t)INITIAL_WINDOW_PACKETS * c->packet_bytes;
	bbr_update(&c->bbr, s, now);
	c->cwnd_bytes = bbr_window(&c->bbr, window_floor(c, least));
	if (c->cwnd_bytes > MAXIMUM_WINDOW_BYTES)
		c->cwnd_bytes = MAXIMUM_WINDOW_BYTES;
	c->pacing_bps = bbr_pacing_bps(&c->bbr);
	if (c->pacing_bps < pacing_floor(c, least))
		c->pacing_bps = pacing_floor(c, least);
}

static double packets(const struct congestion *c)
{
	return (double)c->cwnd_bytes / c->packet_bytes;
}

/* Newton's method from above; libm's function would map 0.3 MB into every node for this one call.
 */
static double cube_root(double x)
{
	double r = x > 1 ? x : 1, last;

	do {
		last = r;
		r -= (r - x / (r * r)) / 3;
	} while (x > 0 && r < last);
	return x > 0 ? r : 0;
}

static void cubic_start_epoch(struct congestion *c, uint64_t now)
{
	struct cubic *q = &c->cubic;
	q->epoch_us = now;
	q->origin = q->w_max > packets(c) ? q->w_max : packets(c);
	q->k = cube_root((q->origin - packets(c)) / CUBIC_C);
}

/* RFC 9438 section 4.2: grow toward W_cubic one round trip ahead, at most by half per window. */
static void cubic_grow(struct congestion *c, uint64_t bytes, uint64_t rtt_us, uint64_t now)
{
	struct cubic *q = &c->cubic;
	if (!q->epoch_us)
		cubic_start_epoch(c, now);
	double t = (double)(now - q->epoch_us + rtt_us) / 1e6 - q->k;
	double target = q->origin + CUBIC_C * t * t * t, w = packets(c);
	/* Reno-friendly floor, section 4.3. */
	double friendly = 3 * (1 - CUBIC_BETA) / (1 + CUBIC_BETA);
	double step = target > w ? (target - w) / w : 0;
	if (step < friendly / w)
		step = friendly / w;
	if (step > 0.5)
		step = 0.5;
	c->cwnd_bytes += (uint64_t)(step * (double)bytes);
}

void congestion_acked(struct congestion *c, uint64_t bytes, uint64_t rtt_us, bool limited,
		      uint64_t now)
{
	if (!limited || c->algorithm != CONGESTION_CUBIC)
		return;
	if (c->cwnd_bytes < c->cubic.ssthresh_bytes)
		c->cwnd_bytes += bytes;
	else
		cubic_grow(c, bytes, rtt_us, now);
	if (c->cwnd_bytes > MAXIMUM_WINDOW_BYTES)
		c->cwnd_bytes = MAXIMUM_WINDOW_BYTES;
}

void congestion_lost(struct congestion *c, uint64_t sent_us, uint64_t now)
{
	struct cubic *q = &c->cubic;
	uint64_t floor = (uint64_t)MINIMUM_WINDOW_PACKETS * c->packet_bytes;

	if (c->algorithm != CONGESTION_CUBIC || sent_us < q->recovery_us)
		return; /* one reduction per round trip */
	q->recovery_us = now;
	q->epoch_us = 0;
	double w = packets(c);
	q->w_max = w < q->w_max ? w * (1 + CUBIC_BETA) / 2 : w;
	c->cwnd_bytes = (uint64_t)((double)c->cwnd_bytes * CUBIC_BETA);
	if (c->cwnd_bytes < floor)
		c->cwnd_bytes = floor;
	q->ssthresh_bytes = c->cwnd_bytes;
}

void congestion_collapse(struct congestion *c)
{
	c->cwnd_bytes = (uint64_t)MINIMUM_WINDOW_PACKETS * c->packet_bytes;
	c->cubic.epoch_us = 0;
	/* The path may have become another: what was known of its rate is not true any more. */
	if (c->algorithm == CONGESTION_BBR)
		bbr_init(&c->bbr, c->bbr.min_rtt_at_us);
	c->pacing_bps = 0;
}
