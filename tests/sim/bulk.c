#include "sim/sim.h"

#define BULK_LOSS_PPM 300000u
#define BULK_MESSAGES 400u
#define FACTOR_PERCENT 160u
#define ALLOWANCE_BYTES 100000u /* handshakes, probes, the end of the transfer */

static bool arrived(struct sim *s)
{
	return s->conn_count && traffic_flow_done(&s->conns[0].flow[0]);
}

/* A transport repairs 30 % loss without a retransmission storm (DESIGN.md section 6). */
bool bulk_run(struct sim *s)
{
	struct sim_path p = {.delay_us = 10000, .rate_bps = 100000000, .queue_bytes = 1u << 20};

	s->host_count = 2;
	s->topology = (struct sim_topology){.links = {{0, 1}}, .count = 1};
	network_path(s, 0, 1, &p);
	if (scenario_open(s)) {
		p.loss_ppm = BULK_LOSS_PPM;
		network_path(s, 0, 1, &p);
		s->wire_bytes = 0;
		traffic_begin(s, &s->hosts[0].apps[0], &s->hosts[1].apps[1], CLASS_STREAM,
			      BULK_MESSAGES);
		struct sim_flow *f = &s->conns[0].flow[0];
		s->conns[0].flow[1].total = 0;
		f->reader = READER_FAST;
		f->interval_us = 0;
		uint64_t began = s->now;
		if (!sim_run(s, s->now + 300 * SEC, arrived))
			sim_fail(s, "the bulk transfer does not end: %u of %u", f->received,
				 f->total);
		sim_log(s, "bulk: %llu bytes in %.2f s, %llu on the wire (%.2f times)",
			(unsigned long long)f->bytes, (double)(s->now - began) / SEC,
			(unsigned long long)s->wire_bytes,
			(double)s->wire_bytes / (double)f->bytes);
		if (s->wire_bytes > f->bytes * FACTOR_PERCENT / 100 + ALLOWANCE_BYTES)
			sim_fail(s, "%llu bytes on the wire for %llu delivered",
				 (unsigned long long)s->wire_bytes, (unsigned long long)f->bytes);
	}
	scenario_close(s);
	return !s->failure[0];
}
