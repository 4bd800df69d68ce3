/* Invites: tokens that let so many keys in, until a day.  We keep their hashes only, so that who
 * reads the store learns no token. */
#include "nodemanager/state.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

struct nm_invite {
	TAILQ_ENTRY(nm_invite) all;
	struct nm_invite_record r;
};

uint64_t nm_wall_s(const struct nm *nm)
{
	return nm->ops->wall_s ? nm->ops->wall_s(nm->ctx) : 0;
}

static void token_hash(uint8_t out[NM_TOKEN_HASH_BYTES], struct bytes token)
{
	crypto_generichash(out, NM_TOKEN_HASH_BYTES, token.data, token.len, NULL, 0);
}

/* All of them are compared, so that time tells nothing. */
static struct nm_invite *by_token(const struct nm *nm, struct bytes token)
{
	uint8_t hash[NM_TOKEN_HASH_BYTES];
	struct nm_invite *invite, *found = NULL;
	token_hash(hash, token);
	TAILQ_FOREACH(invite, &nm->invites, all) {
		if (sodium_memcmp(invite->r.hash, hash, sizeof hash) == 0)
			found = invite;
	}
	return found;
}

static struct nm_invite *by_number(const struct nm *nm, const char *text)
{
	char *end;
	struct nm_invite *invite;
	unsigned long long number = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end)
		return NULL;
	TAILQ_FOREACH(invite, &nm->invites, all) {
		if (invite->r.number == number)
			return invite;
	}
	return NULL;
}

static void invite_free(struct nm *nm, struct nm_invite *invite)
{
	TAILQ_REMOVE(&nm->invites, invite, all);
	nm->invite_count--;
	free(invite);
}

static int invite_drop(struct nm *nm, struct nm_invite *invite)
{
	int err = nm->ops->invite_remove ? nm->ops->invite_remove(nm->ctx, invite->r.number) : 0;
	if (!err)
		invite_free(nm, invite);
	return err;
}

static void prune(struct nm *nm)
{
	uint64_t wall = nm_wall_s(nm);
	struct nm_invite *invite = TAILQ_FIRST(&nm->invites);
	while (invite) {
		struct nm_invite *next = TAILQ_NEXT(invite, all);
		if (wall > invite->r.expires_s && wall - invite->r.expires_s > NM_INVITE_KEPT_S)
			invite_drop(nm, invite);
		invite = next;
	}
}

int nm_load_invite(struct nm *nm, const struct nm_invite_record *record)
{
	if (record->role >= ROLES || record->used > record->uses)
		return -EINVAL;
	if (nm->invite_count >= NM_INVITES_MAX)
		return -ENOSPC;
	struct nm_invite *invite = malloc(sizeof *invite);
	if (!invite)
		return -ENOMEM;
	invite->r = *record;
	TAILQ_INSERT_TAIL(&nm->invites, invite, all);
	nm->invite_count++;
	if (record->number > nm->last_invite)
		nm->last_invite = record->number;
	return 0;
}

void nm_invites_free(struct nm *nm)
{
	while (!TAILQ_EMPTY(&nm->invites))
		invite_free(nm, TAILQ_FIRST(&nm->invites));
}

/* No letter that could be another one on paper, and as many as five bits have values. */
static void token_make(struct nm *nm, char token[NM_TOKEN_TEXT])
{
	static const char letters[] = "abcdefghijkmnpqrstuvwxyz23456789";
	uint8_t random[NM_TOKEN_CHARS];
	_Static_assert(sizeof letters == 33, "five bits a letter");
	nm->ops->random(nm->ctx, random, sizeof random);
	for (size_t i = 0; i < NM_TOKEN_CHARS; i++)
		token[i] = letters[random[i] & 31];
	token[NM_TOKEN_CHARS] = '\0';
	sodium_memzero(random, sizeof random);
}

int nm_invite(struct nm *nm, uint32_t uses, uint64_t seconds, uint8_t role,
	      char token[NM_TOKEN_TEXT], struct nm_invite_record *record)
{
	if (!uses || uses > NM_INVITE_USES_MAX || !seconds || seconds > NM_INVITE_SECONDS_MAX ||
	    role == ROLE_DEFAULT || role >= ROLES)
		return -EINVAL;
	prune(nm);
	if (nm->invite_count >= NM_INVITES_MAX)
		return -ENOSPC;
	*record = (struct nm_invite_record){.number = nm->last_invite + 1,
					    .created_s = nm_wall_s(nm),
					    .uses = uses,
					    .role = role};
	record->expires_s = record->created_s + seconds;
	token_make(nm, token);
	token_hash(record->hash, bytes_str(token));
	if (nm->ops->invite_save && nm->ops->invite_save(nm->ctx, record))
		return -EIO;
	int err = nm_load_invite(nm, record);
	if (!err)
		log_info("invite %llu: %u uses, role %s", (unsigned long long)record->number, uses,
			 node_role_name(role));
	return err;
}

int nm_invite_remove(struct nm *nm, const char *text)
{
	struct nm_invite *invite = by_number(nm, text);
	if (!invite)
		invite = by_token(nm, bytes_str(text));
	if (!invite)
		return -ENOENT;
	return invite_drop(nm, invite) ? -EIO : 0;
}

void nm_invites_each(const struct nm *nm,
		     void (*each)(void *arg, const struct nm_invite_record *record), void *arg)
{
	const struct nm_invite *invite;
	TAILQ_FOREACH(invite, &nm->invites, all) {
		each(arg, &invite->r);
	}
}

struct nm_invite *nm_invite_find(struct nm *nm, struct bytes token, const char **why)
{
	struct nm_invite *invite = by_token(nm, token);
	*why = NULL;
	if (!invite)
		*why = "this mesh wants a token, and yours is not known";
	else if (nm_wall_s(nm) >= invite->r.expires_s)
		*why = "the invitation of this token has expired";
	else if (invite->r.used >= invite->r.uses)
		*why = "the invitation of this token is used up";
	return *why ? NULL : invite;
}

int nm_invite_use(struct nm *nm, struct nm_invite *invite, struct nm_node *node)
{
	struct nm_invite_record used = invite->r;
	struct nm_node_record record = nm_node_record_of(node);
	used.used++;
	record.admitted = true;
	if (record.role == ROLE_DEFAULT) /* else an operator has decided */
		record.role = invite->r.role;
	if (nm->ops->node_admit && nm->ops->node_admit(nm->ctx, &record, &used))
		return -EIO;
	invite->r = used;
	node->admitted = true;
	node->role = record.role;
	log_info("invite %llu: use %u of %u", (unsigned long long)used.number, used.used,
		 used.uses);
	return 0;
}
