#include "nodemanager/metrics.h"

struct sums {
	uint64_t by_status[NM_TRANSPORT_CONNECTED + 1], suspect;
};

static void add(void *arg, const struct nm_transport_info *t)
{
	struct sums *s = arg;

	s->by_status[t->status]++;
	s->suspect += t->suspect;
}

static void write_transports(struct metrics *m, const struct nm *nm)
{
	struct sums sums = {0};

	nm_transports_each(nm, NULL, NM_ALL, add, &sums);
	metrics_family(m, "meshnet_nodemanager_transports", METRIC_GAUGE,
		       "Transports between nodes, by what they have come to.");
	for (unsigned i = 0; i <= NM_TRANSPORT_CONNECTED; i++)
		metrics_sample(m, "status", nm_transport_status_name((enum nm_transport_status)i),
			       sums.by_status[i]);
	metrics_gauge(m, "meshnet_nodemanager_transports_suspect",
		      "Of these, those that an end hears nothing on under traffic.", sums.suspect);
}

static void write_events(struct metrics *m, const struct nm_status *s)
{
	metrics_family(m, "meshnet_nodemanager_events_total", METRIC_COUNTER,
		       "What has happened, by kind.");
	for (unsigned i = 0; i < NM_EVENTS; i++)
		metrics_sample(m, "event", nm_event_name((enum nm_event_kind)i), s->events[i]);
}

void nm_metrics_write(struct metrics *m, const struct nm *nm)
{
	struct nm_status s;

	nm_status_get(nm, &s);
	metrics_family(m, "meshnet_nodemanager_nodes", METRIC_GAUGE,
		       "Known nodes, connected and away.");
	metrics_sample(m, "state", "connected", s.nodes_connected);
	metrics_sample(m, "state", "away", s.nodes - s.nodes_connected);
	metrics_gauge(m, "meshnet_nodemanager_links", "Links that are wanted to stay.", s.links);
	write_transports(m, nm);
	metrics_gauge(m, "meshnet_nodemanager_connections", "Connections between apps.",
		      s.connections);
	metrics_gauge(m, "meshnet_nodemanager_routes", "Routes that were built by hand.", s.routes);
	metrics_gauge(m, "meshnet_nodemanager_apps", "Apps of the connected nodes.", s.apps);
	metrics_gauge(m, "meshnet_nodemanager_requests_pending",
		      "Questions that nodes have not answered yet.", s.requests);
	metrics_gauge(m, "meshnet_nodemanager_apptracker_up", "1 while the apptracker is there.",
		      s.tracker);
	metrics_gauge(m, "meshnet_nodemanager_recovering",
		      "1 while nodes of an earlier manager are waited for.", s.recovering);
	metrics_counter(m, "meshnet_nodemanager_registrations_refused_total",
			"Nodes that were not admitted.", s.refused);
	metrics_counter(m, "meshnet_nodemanager_messages_dropped_total",
			"Messages of nodes over a limit or out of order.", s.dropped);
	write_events(m, &s);
}
