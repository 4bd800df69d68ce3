/* For tests: what the kernel's answers say. */
#ifndef IO_WGDEV_KERNEL_H
#define IO_WGDEV_KERNEL_H

#include <linux/netlink.h>

#include "io/wgdev.h"

/* All messages of one answer to WG_CMD_GET_DEVICE. */
int wgdev_kernel_read(const struct nlmsghdr *const *messages, size_t count, wgdev_visit *visit,
		      void *ctx);
#endif
