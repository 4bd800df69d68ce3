#include "node/keeper.h"

#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "node/store.h"

struct keeper {
	struct daemon *daemon;
	struct node_engine *engine;
	struct node_store *store; /* NULL: nothing is kept */
	struct mesh_id manager;	  /* zero: not known yet */
	uint64_t seen;		  /* version of the engine that the store knows of */
	bool begun;
};

static int take(void *ctx, struct keep_state *out)
{
	struct keeper *k = ctx;

	if (mesh_id_is_zero(&k->manager))
		return -ENODATA;
	int err = node_engine_keep(k->engine, out);
	if (!err)
		out->manager = k->manager;
	return err;
}

struct keeper *keeper_new(struct daemon *d, const struct keypair *keys, struct node_engine *engine)
{
	struct keeper *k = calloc(1, sizeof *k);

	if (!k)
		return NULL;
	k->daemon = d;
	k->engine = engine;
	k->store = node_store_new(d->base, d->state_dir, keys->secret, take, k);
	if (!k->store) {
		free(k);
		return NULL;
	}
	if (!d->cfg->node_keep_state) {
		node_store_remove(k->store);
		node_store_free(k->store);
		k->store = NULL;
	}
	return k;
}

/* As keyfile_trust will decide when the manager is there. */
static bool is_trusted(const struct keeper *k, const struct mesh_id *manager)
{
	const char *configured = k->daemon->cfg->node_manager_key;
	struct mesh_id want;
	int err = *configured ? mesh_id_parse(&want, configured)
			      : keyfile_pin_load(k->daemon->state_dir, "node-manager", &want);

	return !err && mesh_id_equal(&want, manager);
}

void keeper_restore(struct keeper *k, uint64_t now)
{
	struct keep_state state;

	if (!k->store)
		return;
	k->begun = true;
	if (node_store_load(k->store, &state))
		return;
	if (is_trusted(k, &state.manager)) {
		k->manager = state.manager;
		node_engine_restore(k->engine, &state, now);
		/* The number of starts must be there before the first packet of this one. */
		node_store_write_now(k->store);
		k->seen = node_engine_kept_version(k->engine);
	} else {
		log_warn("what was kept is the word of another manager than the trusted one; it is "
			 "ignored");
	}
	keep_free(&state);
}

void keeper_manager(struct keeper *k, const struct mesh_id *id)
{
	k->manager = *id;
}

void keeper_look(struct keeper *k)
{
	uint64_t version = node_engine_kept_version(k->engine);

	if (!k->store || version == k->seen)
		return;
	k->seen = version;
	node_store_changed(k->store);
}

void keeper_free(struct keeper *k)
{
	if (!k)
		return;
	if (k->store && k->begun)
		node_store_write_now(k->store);
	node_store_free(k->store);
	free(k);
}
