/* Who may register: the three modes of admission.h, and the list of allowlist mode. */
#include "nodemanager/state.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

/* --- the lists of the configuration ----------------------------------------------------------- */

/* Takes the next word of a comma separated list; {NULL, 0} at the end. */
static struct bytes next_word(const char **list)
{
	const char *p = *list + strspn(*list, ", \t");
	size_t len = strcspn(p, ", \t");
	*list = p + len;
	return len ? bytes_of(p, len) : (struct bytes){NULL, 0};
}

static bool token_known(const char *list, struct bytes token)
{
	bool known = false;
	/* All of the list is compared, so that time tells nothing about a token's place or start.
	 */
	for (struct bytes w = next_word(&list); w.len; w = next_word(&list))
		known |= w.len == token.len && sodium_memcmp(w.data, token.data, w.len) == 0;
	return known;
}

static bool id_known(const char *list, const struct mesh_id *id)
{
	for (struct bytes w = next_word(&list); w.len; w = next_word(&list)) {
		char text[MESH_ID_TEXT];
		struct mesh_id allowed;
		bytes_to_cstr(w, text, sizeof text);
		if (w.len == MESH_ID_TEXT - 1 && mesh_id_parse(&allowed, text) == 0 &&
		    mesh_id_equal(&allowed, id))
			return true;
	}
	return false;
}

/* --- the list that is kept here --------------------------------------------------------------- */

int nm_load_allowed(struct nm *nm, const struct mesh_id *id)
{
	struct mesh_id *kept = malloc(sizeof *kept);
	if (!kept)
		return -ENOMEM;
	*kept = *id;
	int err = map_get(&nm->allowed, id->b) ? -EINVAL : map_put(&nm->allowed, id->b, kept);
	if (err)
		free(kept);
	return err;
}

int nm_allow(struct nm *nm, const struct mesh_id *id)
{
	if (map_get(&nm->allowed, id->b))
		return -EALREADY;
	if (nm->allowed.count >= nm->allowed.max)
		return -ENOSPC;
	if (nm->ops->allowed_save && nm->ops->allowed_save(nm->ctx, id))
		return -EIO;
	return nm_load_allowed(nm, id);
}

static bool is_allowed(const struct nm *nm, const struct mesh_id *id)
{
	return map_get(&nm->allowed, id->b) ||
	       (nm->config.allowed && id_known(nm->config.allowed, id));
}

int nm_disallow(struct nm *nm, const struct mesh_id *id, uint64_t now)
{
	struct mesh_id was = *id;
	if (!map_get(&nm->allowed, was.b))
		return -ENOENT;
	if (nm->ops->allowed_remove && nm->ops->allowed_remove(nm->ctx, &was))
		return -EIO;
	free(map_del(&nm->allowed, was.b));
	if (nm->config.admission == NM_ADMISSION_ALLOWLIST && !is_allowed(nm, &was))
		nm_cut(nm, &was, "it is not on the list of nodes any more", now);
	return 0;
}

void nm_allowed_each(const struct nm *nm, void (*each)(void *arg, const struct mesh_id *id),
		     void *arg)
{
	size_t it = 0;
	for (const struct mesh_id *id; (id = map_next(&nm->allowed, &it));)
		each(arg, id);
}

void nm_allowed_free(struct nm *nm)
{
	size_t it = 0;
	for (struct mesh_id *id; (id = map_next(&nm->allowed, &it));)
		free(id);
	map_free(&nm->allowed);
}

/* --- the decision ----------------------------------------------------------------------------- */

static const char *token_refusal(struct nm *nm, const struct nm_node *node, struct bytes token,
				 struct nm_invite **invite)
{
	const char *why;
	if (node && node->admitted)
		return NULL;
	if (!token.len)
		return "this mesh wants a token: ask its operator for an invitation";
	if (nm->config.tokens && token_known(nm->config.tokens, token))
		return NULL;
	*invite = nm_invite_find(nm, token, &why);
	return why;
}

const char *nm_admission_refusal(struct nm *nm, const struct nm_node *node,
				 const struct mesh_id *id, struct bytes token,
				 struct nm_invite **invite)
{
	*invite = NULL;
	if (nm_is_revoked(nm, id))
		return NM_REVOKED_TEXT;
	switch (nm->config.admission) {
	case NM_ADMISSION_OPEN:
		return NULL;
	case NM_ADMISSION_TOKEN:
		return token_refusal(nm, node, token, invite);
	case NM_ADMISSION_ALLOWLIST:
		return is_allowed(nm, id)
			       ? NULL
			       : "this mesh has a list of nodes, and your id is not on it";
	}
	return "admission is not configured";
}
