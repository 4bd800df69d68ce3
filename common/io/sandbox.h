/*
 * System calls that a daemon never makes when it runs are refused by the kernel (seccomp(2)): an
 * allow list, put in place when the daemon is ready.
 *
 * What is on the list goes through; the calls that are made for each packet stand first (since
 * Linux 5.11 the kernel keeps the answers for calls whose arguments do not matter, so that they
 * cost next to nothing).  Sockets are Unix, IPv4, IPv6 (no raw ones) and netlink; others are
 * -EPERM. Calls that only somebody else's code would make here (execve, ptrace, mount, bpf, ...)
 * end the process.  All the rest is -ENOSYS, as on an older kernel: libraries that are newer than
 * this list fall back then, and a node on a roof goes on.
 *
 * Known: x86-64, ARM (32 and 64 bits), RISC-V 64, s390x, PPC64 (little-endian).  Elsewhere, and
 * with sanitizers, which do more than the program, there is no filter.
 */
#ifndef IO_SANDBOX_H
#define IO_SANDBOX_H

/* For all threads, for good.  0; -EOPNOTSUPP: no list for this machine or build;
 * other -errno: the kernel has no seccomp. */
int sandbox_enter(void);
#endif
