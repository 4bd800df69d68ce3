#include "nodemanager/state.h"

#include <sodium.h>
#include <string.h>

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

const char *nm_admission_refusal(const struct nm_config *config, const struct mesh_id *id,
				 struct bytes token)
{
	switch (config->admission) {
	case NM_ADMISSION_OPEN:
		return NULL;
	case NM_ADMISSION_TOKEN:
		return config->tokens && token_known(config->tokens, token)
			       ? NULL
			       : "this mesh wants a token, and yours is not known";
	case NM_ADMISSION_ALLOWLIST:
		return config->allowed && id_known(config->allowed, id)
			       ? NULL
			       : "this mesh has a list of nodes, and your id is not on it";
	}
	return "admission is not configured";
}
