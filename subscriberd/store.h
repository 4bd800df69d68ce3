/* What the subscriber remembers of gateways over a restart. */
#ifndef SUBSCRIBERD_STORE_H
#define SUBSCRIBERD_STORE_H

#include "io/config.h"
#include "subscriberd/gateway.h"

struct sub_store;

int sub_store_open(struct sub_store **out, const char *path, const struct config *cfg);
void sub_store_close(struct sub_store *s);
/* 0 or -errno (logged); a full disk costs us memory, not the connection. */
int sub_store_save(struct sub_store *s, const struct sub_gateway *g);
int sub_store_forget(struct sub_store *s, const struct sub_gateway *g);
/* `visit` for each, the one last seen first, at most `max`. */
typedef void sub_store_visit(const struct sub_gateway *g, void *ctx);
int sub_store_load(struct sub_store *s, size_t max, sub_store_visit *visit, void *ctx);
/* Our app id in the mesh, which our leases are bound to: `fresh` at the first start, and the same
 * ever after.  0 or -errno; `out` is usable in any case. */
int sub_store_app(struct sub_store *s, const char *fresh, char *out, size_t size);
/* The last number that a call of ours has carried (core/ownerproof.h); 0: none yet. */
uint64_t sub_store_stamp(struct sub_store *s);
int sub_store_set_stamp(struct sub_store *s, uint64_t stamp);
#endif
