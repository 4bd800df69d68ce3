/*
 * A pool of addresses under one prefix.  Index 0 is the network itself, index 1 the gateway's own
 * address; subscribers get the rest, never the broadcast address of an IPv4 prefix.  At most
 * POOL_MAX_ADDRESSES of a prefix are used, so the bitmap is bounded whatever the prefix; in IPv6
 * the index is the low 64 bits of the address.  Pure: the same calls give the same addresses.
 */
#ifndef GATEWAYD_POOL_H
#define GATEWAYD_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/prefix.h"

#define POOL_MAX_ADDRESSES 65536u
#define POOL_V4_BITS_MIN 8u
#define POOL_V4_BITS_MAX 30u
#define POOL_V6_BITS_MIN 8u
#define POOL_V6_BITS_MAX 126u

struct pool {
	struct net_prefix net; /* host bits and port zero; family 0 in a pool that is not used */
	uint32_t limit;	       /* indexes 2 .. limit - 1 are handed out */
	uint32_t used;	       /* how many are taken */
	uint32_t next;	       /* search begins here, so that an address rests after its release */
	uint64_t *bitmap;
};

/*
 * `prefix` is "10.66.0.0/16" or "fd00:66::/64"; bits set beyond the prefix length are an error.
 * An empty text makes an empty pool (family 0) that never gives an address.
 * 0, -EINVAL (text), -ERANGE (prefix length), -ENOMEM.
 */
int pool_init(struct pool *p, const char *prefix);
void pool_free(struct pool *p);
bool pool_in_use(const struct pool *p);
/* The gateway's own address, first of the prefix. */
struct net_addr pool_gateway(const struct pool *p);
/* Takes a free address.  0, or -ENOSPC when all are taken (always for an empty pool). */
int pool_take(struct pool *p, struct net_addr *out);
/* Takes this very address: 0, -EEXIST when it is taken, -ERANGE when it is not one of ours to give.
 */
int pool_take_exact(struct pool *p, const struct net_addr *a);
/* Its index; 0 when it is not one of ours to give. */
uint32_t pool_index(const struct pool *p, const struct net_addr *a);
/* Takes the address of this index: 0, -EEXIST, -ERANGE. */
int pool_take_index(struct pool *p, uint32_t index, struct net_addr *out);
/* Hands out no index from `limit` on. */
void pool_limit(struct pool *p, uint32_t limit);
/* Gives back; an address that was not taken changes nothing and answers -ENOENT. */
int pool_give(struct pool *p, const struct net_addr *a);
/* How many addresses are left. */
uint32_t pool_left(const struct pool *p);
/* How many there are in all. */
uint32_t pool_size(const struct pool *p);
#endif
