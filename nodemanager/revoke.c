/* Keys that have been thrown out.  They are refused as soon as a handshake has proved them, so that
 * they cost no more than that. */
#include "nodemanager/state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool nm_is_revoked(const struct nm *nm, const struct mesh_id *id)
{
	return map_get(&nm->revoked, id->b) != NULL;
}

int nm_load_revoked(struct nm *nm, const struct nm_revoked_record *record)
{
	if (nm_is_revoked(nm, &record->id))
		return -EINVAL;
	struct nm_revoked_record *kept = malloc(sizeof *kept);
	if (!kept)
		return -ENOMEM;
	*kept = *record;
	int err = map_put(&nm->revoked, record->id.b, kept);
	if (err)
		free(kept);
	return err;
}

void nm_revoked_free(struct nm *nm)
{
	size_t it = 0;
	for (struct nm_revoked_record *r; (r = map_next(&nm->revoked, &it));)
		free(r);
	map_free(&nm->revoked);
}

/* Channels of the key that have not registered. */
static void sessions_close(struct nm *nm, const struct mesh_id *id, const char *why)
{
	struct nm_session *s;
	size_t it = 0;
	while ((s = map_next(&nm->sessions, &it))) {
		if (s->node || !mesh_id_equal(&s->id, id))
			continue;
		uint64_t channel = s->channel;
		nm_session_free(nm, s);
		nm->ops->node_close(nm->ctx, channel, why);
		it = 0; /* the table has changed */
	}
}

void nm_cut(struct nm *nm, const struct mesh_id *id, const char *why, uint64_t now)
{
	struct nm_node *node = nm_node_by_id(nm, id);
	sessions_close(nm, id, why);
	if (!node)
		return;
	nm_node_end(nm, node, why, now);
	/* What an earlier manager gave it is not waited for either. */
	node->recover = false;
	nm_claims_settle(nm, node, now);
}

int nm_revoke(struct nm *nm, const struct mesh_id *id, uint64_t now)
{
	char text[MESH_ID_SHORT];
	struct nm_revoked_record record = {.id = *id, .since_s = nm_wall_s(nm)};
	const struct nm_node *node = nm_node_by_id(nm, id);
	if (nm_is_revoked(nm, id))
		return -EALREADY;
	if (nm->revoked.count >= nm->revoked.max)
		return -ENOSPC;
	if (node)
		memcpy(record.name, node->name, sizeof record.name);
	if (nm->ops->revoked_save && nm->ops->revoked_save(nm->ctx, &record))
		return -EIO;
	int err = nm_load_revoked(nm, &record);
	if (err)
		return err;
	log_warn("key %s%s%s is revoked", mesh_id_short(&record.id, text),
		 record.name[0] ? " of " : "", record.name);
	nm_cut(nm, &record.id, "its key has been revoked", now);
	return 0;
}

int nm_unrevoke(struct nm *nm, const struct mesh_id *id)
{
	char text[MESH_ID_SHORT];
	struct mesh_id was = *id;
	if (!nm_is_revoked(nm, &was))
		return -ENOENT;
	if (nm->ops->revoked_remove && nm->ops->revoked_remove(nm->ctx, &was))
		return -EIO;
	free(map_del(&nm->revoked, was.b));
	log_warn("key %s is not revoked any more", mesh_id_short(&was, text));
	return 0;
}

static bool fits(const struct nm_revoked_record *r, const char *text)
{
	char whole[MESH_ID_TEXT], brief[MESH_ID_SHORT];
	return strcmp(mesh_id_text(&r->id, whole), text) == 0 ||
	       strcmp(mesh_id_short(&r->id, brief), text) == 0 ||
	       (r->name[0] && strcmp(r->name, text) == 0);
}

int nm_revoked_find(const struct nm *nm, const char *text, struct mesh_id *id)
{
	const struct nm_revoked_record *r, *found = NULL;
	size_t it = 0;
	while ((r = map_next(&nm->revoked, &it))) {
		if (!fits(r, text))
			continue;
		if (found)
			return -EEXIST;
		found = r;
	}
	if (!found)
		return -ENOENT;
	*id = found->id;
	return 0;
}

void nm_revoked_each(const struct nm *nm,
		     void (*each)(void *arg, const struct nm_revoked_record *record), void *arg)
{
	const struct nm_revoked_record *r;
	size_t it = 0;
	while ((r = map_next(&nm->revoked, &it)))
		each(arg, r);
}

/* --- at the door ------------------------------------------------------------------------------ */

bool nm_revoked_refuse(struct nm *nm, const struct mesh_id *id, const struct net_addr *remote,
		       uint64_t channel, uint64_t now)
{
	char addr[NET_ADDR_TEXT], text[MESH_ID_SHORT];
	struct msg m = {.type = MSG_RegisterNodeAck};
	if (!nm_is_revoked(nm, id))
		return false;
	nm->refused++;
	nm->refused_revoked++;
	if (log_limit_due(&nm->revoked_log, now))
		log_warn("revoked key %s from %s is refused (%llu times so far)",
			 mesh_id_short(id, text), net_addr_text(remote, addr),
			 (unsigned long long)nm->refused_revoked);
	m.register_node_ack.code = CODE_REFUSED;
	m.register_node_ack.text = bytes_str(NM_REVOKED_TEXT);
	m.register_node_ack.id = *id;
	nm->ops->node_send(nm->ctx, channel, &m);
	return true;
}
