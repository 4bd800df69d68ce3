/*
 * Who may be in the mesh, and as what: the operations behind RPC.  Part of engine.h, which includes
 * it.
 *
 * Three modes.  open: any key.  token: a key that an invite has let in (for ever, until it is
 * revoked or forgotten), or one that brings a token of the configuration each time.  allowlist: ids
 * of the configuration or of the list that is kept here.  A revoked key is refused in each of them.
 *
 * Roles (enum node_role).  ROLE_DEFAULT stands for the configured one and follows it.
 */
#ifndef NODEMANAGER_ADMISSION_H
#define NODEMANAGER_ADMISSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/id.h"
#include "wire/msg.h"

struct nm;

#define NM_TOKEN_CHARS 32 /* of 5 bits each */
#define NM_TOKEN_TEXT (NM_TOKEN_CHARS + 1)
#define NM_TOKEN_HASH_BYTES 32
#define NM_INVITES_MAX 4096
#define NM_INVITE_USES_MAX 1000000u
#define NM_INVITE_SECONDS_MAX 315360000u /* ten years */
#define NM_INVITE_KEPT_S (7u * 86400u)	 /* a spent one is remembered so long, to say why */
#define NM_REVOKED_MAX 65536
#define NM_ALLOWED_MAX 65536

/* What the store keeps of an invite; the token itself is nowhere.  Times in seconds since 1970. */
struct nm_invite_record {
	uint64_t number, created_s, expires_s;
	uint8_t hash[NM_TOKEN_HASH_BYTES]; /* BLAKE2b of the token */
	uint32_t uses, used;
	uint8_t role;
};

struct nm_revoked_record {
	struct mesh_id id;
	char name[NAME_MAX_BYTES + 1]; /* when it was revoked; may be empty */
	uint64_t since_s;
};

/* What the store had; before any event.  0, -EINVAL, -ENOSPC, -ENOMEM. */
int nm_load_invite(struct nm *nm, const struct nm_invite_record *record);
int nm_load_revoked(struct nm *nm, const struct nm_revoked_record *record);
int nm_load_allowed(struct nm *nm, const struct mesh_id *id);

/* A new token that lets `uses` keys in, each with `role`, for `seconds` from now; it is durable.
 * `token` is shown once and kept nowhere.  0, -EINVAL (out of range), -ENOSPC (too many invites),
 * -ENOMEM, -EIO (the store). */
int nm_invite(struct nm *nm, uint32_t uses, uint64_t seconds, uint8_t role,
	      char token[NM_TOKEN_TEXT], struct nm_invite_record *record);
/* Text is the token or the number.  Keys that are in stay in.  0, -ENOENT, -EIO. */
int nm_invite_remove(struct nm *nm, const char *text);
void nm_invites_each(const struct nm *nm,
		     void (*each)(void *arg, const struct nm_invite_record *record), void *arg);

/* Durable, then at once: the channel of the key ends, so do its transports (neighbours are told),
 * apps and connections; paths over it move.  Its links stay remembered.  The key need not be known.
 * 0, -EALREADY, -ENOSPC, -ENOMEM, -EIO. */
int nm_revoke(struct nm *nm, const struct mesh_id *id, uint64_t now);
/* 0, -ENOENT, -EIO. */
int nm_unrevoke(struct nm *nm, const struct mesh_id *id);
bool nm_is_revoked(const struct nm *nm, const struct mesh_id *id);
/* By id, its first 8 digits, or the name that it had.  0, -ENOENT, -EEXIST (several). */
int nm_revoked_find(const struct nm *nm, const char *text, struct mesh_id *id);
void nm_revoked_each(const struct nm *nm,
		     void (*each)(void *arg, const struct nm_revoked_record *record), void *arg);

/* The list of allowlist mode, beside that of the configuration.  0, -EALREADY, -ENOSPC, -ENOMEM,
 * -EIO. */
int nm_allow(struct nm *nm, const struct mesh_id *id);
/* In allowlist mode a node that nothing else allows is cut off at once.  0, -ENOENT (not on the
 * list; that of the configuration is not changed here), -EIO. */
int nm_disallow(struct nm *nm, const struct mesh_id *id, uint64_t now);
void nm_allowed_each(const struct nm *nm, void (*each)(void *arg, const struct mesh_id *id),
		     void *arg);

/* Durable, then at once: paths through a node that is no relay any more move, or end within the
 * patience of a connection when there is no other way; apps that its role does not allow are
 * withdrawn, and come back when it does.  0, -ENOENT, -EINVAL (no role), -EIO. */
int nm_set_role(struct nm *nm, const struct mesh_id *id, uint8_t role, uint64_t now);
#endif
