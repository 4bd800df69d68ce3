#include "node/metrics.h"

static void write_transports(struct metrics *m, const struct node_status *s)
{
	metrics_family(m, "meshnet_node_transports", METRIC_GAUGE, "Transports, by state.");
	for (unsigned i = TRANSPORT_NEW; i <= TRANSPORT_DISCONNECTED; i++)
		metrics_sample(m, "state", transport_state_name((enum transport_state)i),
			       s->by_state[i]);
	metrics_gauge(m, "meshnet_node_transports_suspect",
		      "Transports whose peer is not heard under traffic.", s->suspect);
	metrics_counter(m, "meshnet_node_handshakes_total",
			"Handshakes of transports, begun or answered.", s->sum.handshakes);
	metrics_counter(m, "meshnet_node_peer_moves_total",
			"Changes of a peer's address that were followed.", s->sum.moves);
}

static void write_packets(struct metrics *m, const struct node_status *s)
{
	metrics_family(m, "meshnet_node_packets_total", METRIC_COUNTER,
		       "UDP packets of transports, by direction.");
	metrics_sample(m, "direction", "sent", s->sum.tx_packets);
	metrics_sample(m, "direction", "received", s->sum.rx_packets);
	metrics_family(m, "meshnet_node_bytes_total", METRIC_COUNTER,
		       "UDP payload of transports, by direction.");
	metrics_sample(m, "direction", "sent", s->tx_bytes);
	metrics_sample(m, "direction", "received", s->rx_bytes);
	metrics_counter(m, "meshnet_node_retransmits_total", "Packets that were sent again.",
			s->sum.retransmits);
	metrics_counter(m, "meshnet_node_spurious_retransmits_total",
			"Of these, those that had arrived after all.", s->sum.spurious);
	metrics_counter(m, "meshnet_node_probes_total", "Probes of path MTU and liveness.",
			s->sum.probes_sent);
	metrics_counter(m, "meshnet_node_forwarded_packets_total",
			"Packets passed on to a neighbour.", s->forwarded_packets);
	metrics_counter(m, "meshnet_node_delivered_packets_total",
			"Packets for connections that end here.", s->delivered_packets);
}

static void write_drops(struct metrics *m, const struct node_status *s)
{
	metrics_family(m, "meshnet_node_rejected_packets_total", METRIC_COUNTER,
		       "Packets received and not taken: forged or malformed, or replayed or "
		       "received twice.");
	metrics_sample(m, "cause", "bad", s->sum.bad_packets);
	metrics_sample(m, "cause", "replay", s->sum.duplicates);
	metrics_sample(m, "cause", "out_of_window", s->sum.window_drops);
	metrics_family(m, "meshnet_node_dropped_packets_total", METRIC_COUNTER,
		       "Packets dropped, by cause.");
	metrics_sample(m, "cause", "egress_queue", s->sum.egress_drops);
	metrics_sample(m, "cause", "unknown_label", s->unknown_labels);
	metrics_counter(m, "meshnet_node_marked_packets_total",
			"Packets marked because they had waited too long.", s->sum.marks);
	metrics_counter(m, "meshnet_node_route_errors_total",
			"Neighbours that said they do not know a label.", s->route_errors);
	metrics_counter(m, "meshnet_node_refused_total", "What was refused over a limit.",
			s->refused);
	metrics_counter(m, "meshnet_node_held_connects_total",
			"Connections that apps asked for while the manager was away: asked for "
			"when it was there.",
			s->held);
}

void node_metrics_write(struct metrics *m, const struct node_engine *engine)
{
	struct node_status s;

	node_engine_get_status(engine, &s);
	metrics_gauge(m, "meshnet_node_registered", "1 while the manager has this node registered.",
		      s.registered);
	write_transports(m, &s);
	write_packets(m, &s);
	write_drops(m, &s);
	metrics_gauge(m, "meshnet_node_egress_queue_bytes", "Waiting to be sent on transports.",
		      s.egress_bytes);
	metrics_gauge(m, "meshnet_node_queued_bytes",
		      "All that is held: egress queues, in flight, for and from apps.",
		      s.queued_bytes);
	metrics_gauge(m, "meshnet_node_packet_buffers", "Packet buffers in use.", s.live_packets);
	metrics_gauge(m, "meshnet_node_connections", "Connections of apps here.", s.connections);
	metrics_gauge(m, "meshnet_node_apps", "Apps of this node.", s.apps);
	metrics_gauge(m, "meshnet_node_route_rules", "Route rules.", s.routes);
	metrics_gauge(m, "meshnet_node_requests_pending", "Questions to the manager.", s.requests);
}
