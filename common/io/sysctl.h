/*
 * /proc/sys values by dotted key ("net.ipv4.ip_forward"; a dot inside an interface name is written
 * as '/', as sysctl(8) does).  Daemons write through host_sysctl_set.
 */
#ifndef IO_SYSCTL_H
#define IO_SYSCTL_H

#include <stddef.h>

#define SYSCTL_VALUE_MAX 256

/* The value without its newline.  -ENOENT, -EACCES, -EINVAL (key), -EMSGSIZE. */
int sysctl_read(const char *key, char *out, size_t size);
int sysctl_write(const char *key, const char *value);
/* No link-local address on an interface that has just been made, and so none of the kernel's own
 * router solicitations, which would look like spoofing at the other end of a tunnel. */
void sysctl_quiet_ipv6(const char *interface);
#endif
