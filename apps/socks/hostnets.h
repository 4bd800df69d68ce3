/* The networks of the host's own interfaces, for policy.h. */
#ifndef SOCKS_HOSTNETS_H
#define SOCKS_HOSTNETS_H

#include "base/policy.h"

/* Replaces p->local by what is now.  0 or -errno (then nothing has changed). */
int hostnets_read(struct policy *p);
#endif
