/* Inside io/nft*.c: text of one transaction, and running it. */
#ifndef IO_NFT_SCRIPT_H
#define IO_NFT_SCRIPT_H

#include <json-c/json.h>
#include <stdio.h>

#include "io/nft.h"

struct mnl_socket;

struct nft_script {
	FILE *f; /* NULL when out of memory; writing is then skipped */
	char *text;
	size_t len;
};

void nft_script_init(struct nft_script *s);
void nft_script_add(struct nft_script *s, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* Opens the transaction: the table is new, or replaces its namesake. */
void nft_script_table(struct nft_script *s, const char *table, bool replace);
/* Named interval sets NAME4 and NAME6 with the prefixes of each family. */
void nft_script_prefix_sets(struct nft_script *s, const char *table, const char *name,
			    const struct net_prefix *prefixes, size_t count);
/* Runs it as one transaction and frees the text.  What is in `quiet` (an errno) is not logged. */
int nft_script_run(struct nft *nft, struct nft_script *s, int quiet);

/* A netlink socket of its own for what is asked without text; NULL when it cannot be had. */
struct mnl_socket *nft_socket(struct nft *nft);

/* The answer's "nftables" array inside *root, which the caller puts. */
int nft_query(struct nft *nft, const char *command, int quiet, struct json_object **root,
	      struct json_object **list);

/* "up", "down": the maps of a gateway's leases are called so, and 4 or 6. */
extern const char *const nft_directions[2];

/* What may stand in a script: nothing else gets in, so nothing needs quoting. */
bool nft_name_ok(const char *name, size_t max);
bool nft_interface_ok(const char *name);
#endif
