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
#endif
