/*
 * What the apptracker decides, without I/O: managers announce the apps of their nodes and ask for
 * lists.  Entries are indexed by node, type and name, each list in order of position, so that a
 * long answer is read in pages: `after` is the position of the last entry that the asker has.
 *
 * A manager's entries live while its channel does, and for a grace period after; its hello (op 0)
 * drops them at once.  An entry belongs to the manager that announced it; another manager gets it
 * only when the owner is away.  An ops function must not call back into the engine.
 */
#ifndef APPTRACKER_ENGINE_H
#define APPTRACKER_ENGINE_H

#include <stddef.h>
#include <stdint.h>

#include "base/id.h"
#include "wire/msg.h"

struct tracker;

/* One app; the texts are NUL-terminated in what the engine hands out. */
struct tracker_entry {
	struct mesh_id manager, node;
	char app[NAME_MAX_BYTES + 1], type[NAME_MAX_BYTES + 1];
	uint16_t info_len;
	uint8_t info[APP_INFO_MAX_BYTES];
};

struct tracker_ops {
	int (*send)(void *ctx, uint64_t channel, const struct msg *m);
	/* The engine has forgotten the channel; what was sent before must still be delivered. */
	void (*close)(void *ctx, uint64_t channel, const char *reason);
	/* The store; may be NULL. */
	void (*saved)(void *ctx, const struct tracker_entry *entry);
	void (*removed)(void *ctx, const struct mesh_id *node, const char *app);
};

struct tracker_config {
	size_t apps_max, apps_per_node_max, managers_max;
	uint64_t grace_us;
	const char *managers; /* ids that may connect, comma separated; empty: any.  Borrowed. */
};
void tracker_config_default(struct tracker_config *c);

/* `ops` and `ctx` must outlive the engine; `seed` is random.  NULL: out of memory. */
struct tracker *tracker_new(const struct tracker_config *config, const struct tracker_ops *ops,
			    void *ctx, uint64_t seed);
void tracker_free(struct tracker *t);
/* What the store had; its manager has the grace period to come back.  0, -EINVAL, -ENOSPC, -ENOMEM.
 */
int tracker_load(struct tracker *t, const struct tracker_entry *entry, uint64_t now);

/* `channel` is unique for ever.  0; -EACCES: not one of our managers; -ENOSPC, -ENOMEM: close it.
 */
int tracker_manager_up(struct tracker *t, const struct mesh_id *id, uint64_t channel, uint64_t now);
void tracker_manager_msg(struct tracker *t, uint64_t channel, const struct msg *in, uint64_t now);
void tracker_manager_down(struct tracker *t, uint64_t channel, uint64_t now);

uint64_t tracker_next_timeout(const struct tracker *t);
void tracker_tick(struct tracker *t, uint64_t now);
size_t tracker_count(const struct tracker *t);

struct tracker_status {
	size_t apps, managers_connected;
	uint64_t registrations, lists; /* messages of managers */
	uint64_t refused;	       /* of these registrations */
	uint64_t unwanted;	       /* managers that may not connect */
};
void tracker_status_get(const struct tracker *t, struct tracker_status *out);
#endif
