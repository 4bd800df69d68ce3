#include "subscriberd/metrics.h"

static void write_gateways(struct metrics *m, const struct sub_engine *e)
{
	const struct sub_gateway *g;
	uint64_t known = 0, online = 0;

	for (size_t it = 0; (g = sub_engine_next_gateway(e, &it));) {
		known++;
		online += g->heard_us && g->info.online;
	}
	metrics_gauge(m, "meshnet_subscriberd_gateways", "Gateways that are known.", known);
	metrics_gauge(m, "meshnet_subscriberd_gateways_online",
		      "Of these, those that answered and have a proven uplink.", online);
}

static void write_traffic(struct metrics *m, const struct sub_traffic *t)
{
	metrics_family(m, "meshnet_subscriberd_tunnel_bytes_total", METRIC_COUNTER,
		       "Bytes through the tunnel in use, by direction.");
	metrics_sample(m, "direction", "up", t->up_bytes);
	metrics_sample(m, "direction", "down", t->down_bytes);
	metrics_family(m, "meshnet_subscriberd_tunnel_packets_total", METRIC_COUNTER,
		       "Packets through the tunnel in use, by direction.");
	metrics_sample(m, "direction", "up", t->up_packets);
	metrics_sample(m, "direction", "down", t->down_packets);
	metrics_counter(m, "meshnet_subscriberd_tunnel_dropped_packets_total",
			"Packets that the tunnel in use could not take.", t->dropped);
}

void sub_metrics_write(struct metrics *m, const struct sub_engine *e,
		       const struct sub_traffic *traffic)
{
	struct sub_status s;

	sub_engine_status(e, &s);
	metrics_family(m, "meshnet_subscriberd_state", METRIC_GAUGE,
		       "1 at the state that the session is in.");
	for (unsigned i = SUB_IDLE; i <= SUB_ONLINE; i++)
		metrics_sample(m, "state", sub_state_name((enum sub_state)i),
			       s.active.state == i && !(i == SUB_ONLINE && s.active.gateway->own));
	metrics_counter(m, "meshnet_subscriberd_failovers_total",
			"Gateways that were given up while in use.", s.failovers);
	metrics_counter(m, "meshnet_subscriberd_moves_total",
			"Moves to a better gateway, with both alive.", s.moves);
	metrics_gauge(m, "meshnet_subscriberd_standby",
		      "1 while a tunnel at the second-best gateway stands by.",
		      s.standby.state == SUB_STANDBY);
	metrics_gauge_us(m, "meshnet_subscriberd_last_outage_seconds",
			 "From the last sign of the old gateway to being online again.",
			 s.last_outage_us);
	write_gateways(m, e);
	if (traffic)
		write_traffic(m, traffic);
}

void sub_metrics_walk(struct metrics *m, const struct walk *w)
{
	struct walk_progress p;

	walk_progress(w, &p);
	metrics_gauge(m, "meshnet_subscriberd_scan_running", "1 while networks are walked.",
		      p.running);
	metrics_gauge(m, "meshnet_subscriberd_scan_hosts", "Hosts that are known and not gone.",
		      p.hosts);
	metrics_gauge(m, "meshnet_subscriberd_scan_links", "Links that are known and not gone.",
		      p.links);
	metrics_gauge(m, "meshnet_subscriberd_scan_waiting",
		      "Questions and hosts of the walk that wait.", p.waiting);
	metrics_counter(m, "meshnet_subscriberd_scan_ignored_total",
			"Hosts and links over the limits.", p.ignored);
}
