#include "gatewayd/metrics.h"

static void write_leases(struct metrics *m, const struct gw_engine *e)
{
	const struct gw_counters *c = gw_engine_counters(e);

	metrics_gauge(m, "meshnet_gatewayd_leases", "Leases that are held now.",
		      gw_engine_lease_count(e));
	metrics_gauge(m, "meshnet_gatewayd_free_slots", "How many more could be granted.",
		      gw_engine_free_slots(e));
	metrics_family(m, "meshnet_gatewayd_lease_events_total", METRIC_COUNTER,
		       "What has become of leases and requests for them.");
	metrics_sample(m, "event", "granted", c->granted);
	metrics_sample(m, "event", "repeated", c->repeated);
	metrics_sample(m, "event", "renewed", c->renewed);
	metrics_sample(m, "event", "released", c->released);
	metrics_sample(m, "event", "expired", c->expired);
	metrics_sample(m, "event", "refused", c->refused);
}

void gw_metrics_write(struct metrics *m, const struct gw_engine *e)
{
	const struct gw_uplink *uplink = gw_engine_uplink(e);
	const struct gw_method *methods;
	size_t count = gw_engine_methods(e, &methods);

	write_leases(m, e);
	metrics_gauge(m, "meshnet_gatewayd_uplink_online", "1 while the uplink is proved.",
		      uplink->online);
	metrics_gauge_us(m, "meshnet_gatewayd_uplink_rtt_seconds",
			 "Time to connect to a target of the uplink.", uplink->rtt_us);
	metrics_gauge(m, "meshnet_gatewayd_uplink_checked_timestamp_seconds",
		      "When the uplink was looked at last (0: not yet).", uplink->checked_s);
	metrics_family(m, "meshnet_gatewayd_method_ready", METRIC_GAUGE,
		       "1 for a method that can serve.");
	for (size_t i = 0; i < count; i++)
		metrics_sample(m, "method", methods[i].name, methods[i].ready);
}
