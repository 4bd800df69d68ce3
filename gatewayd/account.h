/*
 * What a subscriber has used this month, over all of its leases: the account that a monthly quota
 * is taken from.  Who it is: the name of the access code it came with, or its node, or its address
 * (IPv6: its /64).  Pure; months are numbers like 202611 and come in as arguments.
 */
#ifndef GATEWAYD_ACCOUNT_H
#define GATEWAYD_ACCOUNT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/map.h"
#include "base/prefix.h"
#include "gatewayd/lease.h"

#define ACCOUNT_WHO_MAX 79 /* "node:" and 64 digits, "code:" and a name, "host:" and a prefix */

struct account {
	char who[ACCOUNT_WHO_MAX + 1];
	uint32_t month;
	uint64_t up_bytes, down_bytes;
	bool dirty;	 /* not yet saved */
	unsigned leases; /* that use it */
	TAILQ_ENTRY(account) link;
};
TAILQ_HEAD(account_list, account);

struct account_table {
	struct map by_who; /* keyed by a hash */
	struct account_list all;
};

/* Whose account a lease of this binding and access code ("": none) goes to. */
void account_who(const struct lease_binding *b, const char *code, char who[ACCOUNT_WHO_MAX + 1]);

void account_table_init(struct account_table *t, size_t max, uint64_t seed);
void account_table_free(struct account_table *t);
struct account *account_find(const struct account_table *t, const char *who);
/* A new one, of nothing used.  NULL: out of memory, or too many. */
struct account *account_add(struct account_table *t, const char *who, uint32_t month);
void account_remove(struct account_table *t, struct account *a);
/* In another month everything begins at zero. */
void account_turn(struct account *a, uint32_t month);
uint64_t account_used(const struct account *a);
#endif
