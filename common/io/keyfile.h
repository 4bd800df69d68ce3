/*
 * X25519 keys on disk (hexadecimal text), made at first start and never overwritten, and the keys
 * of peers that we trusted on first use.  sodium_init() is called here.
 */
#ifndef IO_KEYFILE_H
#define IO_KEYFILE_H

#include <stddef.h>

#include "base/id.h"

struct keypair {
	struct mesh_id id; /* the public key */
	uint8_t secret[MESH_SECRET_BYTES];
};

/* DIR with its parents, mode 0700 for what is made.  0 or -errno (logged). */
int keyfile_make_dir(const char *dir);

/*
 * Loads DIR/NAME.key, or makes it (mode 0600, written and synced beside, then put in place).
 * A mode that lets others read is warned about and corrected.  A damaged file is -EBADMSG and left
 * as it is.  0 or -errno, logged with the path.
 */
int keyfile_load(const char *dir, const char *name, struct keypair *out);
/* A new pair that is not stored. */
int keyfile_generate(struct keypair *out);
void keyfile_wipe(struct keypair *k);

/* Puts a private file of another kind (mode 0600) into DIR/NAME.SUFFIX in one step, synced; one
 * that is there is replaced.  0 or -errno (logged with the path). */
int keyfile_put(const char *dir, const char *name, const char *suffix, const char *text,
		size_t len);

/*
 * The key of a peer trusted on first use, in DIR/NAME.pin (for example "node-manager").
 * load: 0, -ENOENT when none is pinned, -EBADMSG when damaged (never treat that as none).
 * save: replaces the pin atomically.
 */
int keyfile_pin_load(const char *dir, const char *name, struct mesh_id *out);
int keyfile_pin_save(const char *dir, const char *name, const struct mesh_id *id);

/*
 * The whole rule for a peer: `configured` (64 hex digits, or "" for trust on first use) decides,
 * else the pin, else `offered` is pinned and that is logged once.  0: trusted.  -EACCES: another
 * key than the one expected (logged).  -EINVAL, -EBADMSG or other -errno: cannot tell, so not
 * trusted.
 */
int keyfile_trust(const char *dir, const char *name, const char *configured,
		  const struct mesh_id *offered);
#endif
