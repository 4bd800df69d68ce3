/*
 * Users and groups of the host (nsswitch.conf(5)), looked up by a child process: what the modules
 * of the name service bring along would stay in our memory for good, 0.7 MB for systemd's.
 */
#ifndef IO_ACCOUNT_H
#define IO_ACCOUNT_H

#include <stddef.h>
#include <sys/types.h>

#define ACCOUNT_GROUPS_MAX 64

struct account {
	char name[64];
	uid_t uid;
	gid_t gid;
	gid_t groups[ACCOUNT_GROUPS_MAX]; /* its own among them */
	size_t group_count;
};

/* 0; -ENOENT: there is none; or another -errno.  More groups than fit are left out. */
int account_user(const char *name, struct account *out);
/* As above. */
int account_group(const char *name, gid_t *out);
#endif
