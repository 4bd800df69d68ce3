/*
 * What a daemon that was started as root gives up before it does anything else (capabilities(7)).
 *
 * nodemanager, node and apptracker become the user of [daemon] User; gatewayd, subscriberd and the
 * VPN programs stay uid 0, because name servers, other daemons' sockets and helper programs belong
 * to root, but as one that the kernel grants nothing for: all of them keep a few capabilities only.
 *
 *   privileges_become(user, dir, "node", NULL)
 *                                          uid and gid; what was permitted stays permitted
 *   privileges_stay(user, dir, "bird")     uid 0; groups
 *   privileges_limit(keep)                 effective = permitted = inheritable = keep; the bounding
 *                                          set too; ambient is empty; exec as uid 0 gives nothing
 *                                          (SECBIT_NOROOT); no exec ever gives more (NO_NEW_PRIVS)
 *   privileges_lend(caps); spawn; privileges_lend(0);
 *                                          what a helper inherits: the ambient set
 *
 * Uid 0 without CAP_DAC_OVERRIDE opens what root owns, and nothing else: a state directory that
 * daemons of both kinds share is root's, the user's group may write, and nobody may remove what
 * belongs to another (PRIVILEGES_DIR_MODE).
 *
 * The calls work on the calling thread: there must be no other yet.
 */
#ifndef IO_PRIVILEGES_H
#define IO_PRIVILEGES_H

#include <linux/capability.h>
#include <stdbool.h>
#include <stdint.h>

#define PRIVILEGES_USER "meshnet" /* may be missing; a name that somebody chose may not */
#define PRIVILEGES_DIR_MODE 01770

#define PRIVILEGE(cap) (UINT64_C(1) << (cap))
/* What whoever makes tunnels has: interfaces, routes, nftables; raw probes; ports below 1024. */
#define PRIVILEGES_NETWORK                                                                         \
	(PRIVILEGE(CAP_NET_ADMIN) | PRIVILEGE(CAP_NET_RAW) | PRIVILEGE(CAP_NET_BIND_SERVICE))

/*
 * Only as root: makes `dir` (0700, or for both kinds where PRIVILEGES_USER exists), gives the files
 * NAME.* and NAME-* of root's in it to the user, and the folder
 * `tree` (or NULL) with its files and folders and their files, and becomes it.  PRIVILEGES_USER
 * that does not exist or cannot use `dir` is not become, which is 0 too; "" is nobody.  0 or
 * -errno (logged).
 */
int privileges_become(const char *user, const char *dir, const char *name, const char *tree);
/* The same directory, for one that stays root; it joins the user's group and those of `groups`
 * (comma separated, or NULL) that exist, since it may not open sockets of others otherwise. */
int privileges_stay(const char *user, const char *dir, const char *groups);

/* What is in `keep` and permitted now stays.  0 or -errno (logged); what the kernel or a container
 * does not let us give up beyond the thread's own sets is passed over. */
int privileges_limit(uint64_t keep);
/* Those permitted. */
uint64_t privileges_have(void);
/* For programs that are started from here on; nothing where nothing was limited.  Not errors: what
 * we do not have ourselves. */
void privileges_lend(uint64_t caps);
/* Can CAP_NET_RAW alone set the mark of a packet (Linux 5.17)?  Before that, CAP_NET_ADMIN. */
bool privileges_raw_marks(void);
/* "net_admin,net_raw"; "none". */
const char *privileges_text(uint64_t caps, char out[256]);
#endif
