/* The gateway's leases in SQLite: gatewayd.db in the state directory. */
#ifndef GATEWAYD_STORE_H
#define GATEWAYD_STORE_H

#include "gatewayd/account.h"
#include "gatewayd/lease.h"

struct config;
struct gw_store;

/* Errors as in io/store.h; logged. */
int gw_store_open(struct gw_store **out, const char *path, const struct config *cfg);
void gw_store_close(struct gw_store *s); /* NULL is fine */
/* From now on what is written is durable with gw_store_flush; `pending` asks for one soon. */
void gw_store_gather(struct gw_store *s, void (*pending)(void *arg), void *arg);
/* 0, or -errno: all that was written since the last one is lost. */
int gw_store_flush(struct gw_store *s);
/* Adds or replaces. */
int gw_store_save(struct gw_store *s, const struct lease *l);
/* One that is not there is no error. */
int gw_store_delete(struct gw_store *s, const char *sid);

/* Every lease, oldest first.  `l` and what it points to are the store's.  0 or -errno; a row that
 * makes no sense is logged and skipped.  `visit` may delete from the store once all are read, which
 * is before its first call. */
typedef void gw_store_visit(const struct lease *l, void *ctx);
int gw_store_load(struct gw_store *s, gw_store_visit *visit, void *ctx);

/* What a lease has used; with the next flush, as all of these. */
int gw_store_usage_save(struct gw_store *s, const struct lease *l);
/* -ENOENT. */
int gw_store_account_load(struct gw_store *s, const char *who, uint32_t month, uint64_t *up,
			  uint64_t *down);
int gw_store_account_save(struct gw_store *s, const struct account *a);

/* Access codes: only a hash is kept.  Durable at once.  -EEXIST: the name is taken; -ENOENT. */
int gw_store_code_add(struct gw_store *s, const char *name, const char *code, uint64_t wall_s);
int gw_store_code_drop(struct gw_store *s, const char *name);
int gw_store_code_find(struct gw_store *s, const char *code, char name[LEASE_NAME_MAX + 1]);
typedef void gw_store_code_visit(const char *name, uint64_t created_s, void *ctx);
int gw_store_codes(struct gw_store *s, gw_store_code_visit *visit, void *ctx);
#endif
