/*
 * The only way for a daemon to change the host's network.  Each operation is written to a SQLite
 * journal before it is made, so that after kill -9 the next start (or --cleanup) takes back exactly
 * what was ours: nothing that was there before (-EEXIST: not ours, not journalled), nothing that
 * somebody changed since, never a flush.
 *
 *   hostjournal_open(&j, "STATE/host.db");
 *   hostjournal_undo(j, 0);                  what a crash has left
 *   host_sysctl_set(j, "net.ipv4.ip_forward", "1"); host_route_add(j, &route); ...
 *   hostjournal_undo(j, 0); hostjournal_close(j);
 *
 * Entries know their boot and their network namespace: those of an earlier boot are dropped (the
 * kernel has forgotten them), those of another namespace are kept for when we run there.
 * One process per journal file; a second one gets -EBUSY.
 */
#ifndef IO_HOSTJOURNAL_H
#define IO_HOSTJOURNAL_H

#include <stddef.h>

#include "io/netlink.h"
#include "io/nft.h"

/* Bits, so that a set of them can be named. */
enum host_change {
	HOST_LINK = 1,
	HOST_ADDR = 2,
	HOST_ROUTE = 4,
	HOST_RULE = 8,
	HOST_SYSCTL = 16,
	HOST_NFT = 32,
	HOST_PROCESS = 64,
	HOST_CLSACT = 128,
};

struct hostjournal;

/* Opens netlink and nftables too.  Errors are logged.  -EBUSY, -EPERM, -EIO, ... */
int hostjournal_open(struct hostjournal **out, const char *path);
/* Changes stay made and journalled.  NULL is fine. */
void hostjournal_close(struct hostjournal *j);
/*
 * Takes back everything that is ours, the newest first, but the kinds in `keep` (HOST_NFT: a kill
 * switch holds over a restart).  What is gone already is fine.  Idempotent.  Returns how many could
 * not be taken back (they stay in the journal), or -errno when the journal cannot be read.
 */
int hostjournal_undo(struct hostjournal *j, unsigned keep);
/* Entries of this namespace. */
size_t hostjournal_count(const struct hostjournal *j);
/* For reading and for what is inside our own tables.  They stay the journal's. */
struct nl *hostjournal_nl(struct hostjournal *j);
struct nft *hostjournal_nft(struct hostjournal *j);

/*
 * Adding what we have added already is 0 and no second entry; -EEXIST: it is there and not ours.
 * Removing takes back before the end what we added: -ENOENT when it is not in the journal; gone
 * from the host already is 0.
 */
int host_link_add(struct hostjournal *j, const char *name, const char *kind);
/* A link with parameters.  One of that name that is ours already stays as it is: remove it first
 * if they may differ. */
int host_tunnel_add(struct hostjournal *j, const char *name, const struct nl_tunnel *t);
/* A TUN interface that stays without a program (tun_make); host_link_remove takes it back. */
int host_tun_add(struct hostjournal *j, const char *name);
int host_link_remove(struct hostjournal *j, const char *name);
int host_addr_add(struct hostjournal *j, const struct nl_addr *a);
int host_addr_remove(struct hostjournal *j, const struct nl_addr *a);
int host_route_add(struct hostjournal *j, const struct nl_route *r);
int host_route_remove(struct hostjournal *j, const struct nl_route *r);
int host_rule_add(struct hostjournal *j, const struct nl_rule *r);
int host_rule_remove(struct hostjournal *j, const struct nl_rule *r);

/* `key` as "net.ipv4.ip_forward".  Nothing happens (and nothing is ours) when it has that value
 * already.  Undo restores the first old value, if the current value is still the one we set. */
int host_sysctl_set(struct hostjournal *j, const char *key, const char *value);
int host_sysctl_restore(struct hostjournal *j, const char *key);

/* The hooks of traffic control on a link (netlink_tc.h); -EEXIST: somebody uses them. */
int host_clsact_add(struct hostjournal *j, const char *link, uint32_t index);
int host_clsact_remove(struct hostjournal *j, const char *link, uint32_t index);

/* A table that is ours already is replaced in one transaction. */
int host_nft_gateway(struct hostjournal *j, const struct nft_gateway *gw);
int host_nft_masquerade(struct hostjournal *j, const struct nft_masquerade *m);
int host_nft_killswitch(struct hostjournal *j, const struct nft_killswitch *ks);
int host_nft_remove(struct hostjournal *j, const char *table);

/* A program that we are about to start (io/helper.h).  Undo ends every process that has the mark in
 * its environment, and then removes the socket.  Removing only forgets: it has ended. */
#define HOST_PROCESS_MARK_MAX 32 /* random hexadecimal digits */
struct host_process {
	char mark[HOST_PROCESS_MARK_MAX + 1];
	char name[32];	  /* for people */
	char socket[108]; /* "": none */
};
int host_process_add(struct hostjournal *j, const struct host_process *p);
int host_process_remove(struct hostjournal *j, const struct host_process *p);
#endif
