#include "apptracker/metrics.h"

void tracker_metrics_write(struct metrics *m, const struct tracker *t)
{
	struct tracker_status s;

	tracker_status_get(t, &s);
	metrics_gauge(m, "meshnet_apptracker_apps", "Apps in the list.", s.apps);
	metrics_gauge(m, "meshnet_apptracker_managers", "Managers that are connected.",
		      s.managers_connected);
	metrics_counter(m, "meshnet_apptracker_registrations_total",
			"Apps announced and taken back, and hellos of managers.", s.registrations);
	metrics_counter(m, "meshnet_apptracker_registrations_refused_total",
			"Of these, those that were refused.", s.refused);
	metrics_counter(m, "meshnet_apptracker_lists_total", "Lists that were asked for.", s.lists);
	metrics_counter(m, "meshnet_apptracker_managers_refused_total",
			"Managers that may not connect.", s.unwanted);
}
