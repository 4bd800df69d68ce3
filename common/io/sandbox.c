#include "io/sandbox.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif

#if defined(__x86_64__) && defined(__LP64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define ARCH AUDIT_ARCH_AARCH64
#elif defined(__ARM_EABI__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define ARCH AUDIT_ARCH_ARM
#elif defined(__riscv) && __riscv_xlen == 64
#define ARCH AUDIT_ARCH_RISCV64
#elif defined(__s390x__)
#define ARCH AUDIT_ARCH_S390X
#elif defined(__powerpc64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define ARCH AUDIT_ARCH_PPC64LE
#endif

#if !defined(ARCH) || defined(SANITIZED)

int sandbox_enter(void)
{
	return -EOPNOTSUPP;
}

#else

#define X32_BIT 0x40000000u /* another numbering under the same ARCH; no other has such numbers */

/* The low half of argument `i`. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define ARGUMENT(i) (offsetof(struct seccomp_data, args) + 8 * (i))
#else
#define ARGUMENT(i) (offsetof(struct seccomp_data, args) + 8 * (i) + 4)
#endif

#define LOAD(at) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(at))
#define ANSWER(a) BPF_STMT(BPF_RET | BPF_K, (a))
/* Skips `n` when equal, when not. */
#define EQUAL(k, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (k), (yes), (no))
#define REFUSE(e) (SECCOMP_RET_ERRNO | (e))

/* Not every architecture has the older of two that do the same. */
static const uint32_t allowed[] = {
#define SYSCALL(name) __NR_##name,
#include "io/sandbox_calls.def"
#undef SYSCALL
};

static const uint32_t deadly[] = {
	__NR_execve,
	__NR_execveat,
	__NR_ptrace,
	__NR_process_vm_readv,
	__NR_process_vm_writev,
	__NR_mount,
	__NR_umount2,
	__NR_pivot_root,
	__NR_chroot,
	__NR_unshare,
	__NR_setns,
	__NR_bpf,
	__NR_init_module,
	__NR_finit_module,
	__NR_delete_module,
	__NR_kexec_load,
	__NR_reboot,
	__NR_swapon,
	__NR_perf_event_open,
	__NR_userfaultfd,
	__NR_keyctl,
	__NR_add_key,
	__NR_request_key,
	__NR_settimeofday,
	__NR_clock_settime,
	__NR_setuid,
	__NR_setresuid,
	__NR_setgid,
};

#define COUNT(a) (sizeof(a) / sizeof *(a))

static struct sock_filter *socket_rules(struct sock_filter *f)
{
	/* A load leaves the number behind, so each way ends in an answer. */
	const struct sock_filter rules[] = {
		EQUAL(__NR_socket, 0, 11), LOAD(ARGUMENT(0)),
		EQUAL(AF_UNIX, 7, 0),	   EQUAL(AF_NETLINK, 6, 0),
		EQUAL(AF_INET, 1, 0),	   EQUAL(AF_INET6, 0, 5),
		LOAD(ARGUMENT(1)),	   BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xf),
		EQUAL(SOCK_STREAM, 1, 0),  EQUAL(SOCK_DGRAM, 0, 1),
		ANSWER(SECCOMP_RET_ALLOW), ANSWER(REFUSE(EPERM)),
	};

	for (size_t i = 0; i < COUNT(rules); i++)
		*f++ = rules[i];
	return f;
}

static struct sock_filter *list_rules(struct sock_filter *f, const uint32_t *calls, size_t count,
				      uint32_t answer)
{
	for (size_t i = 0; i < count; i++) {
		*f++ = (struct sock_filter)EQUAL(calls[i], 0, 1);
		*f++ = (struct sock_filter)ANSWER(answer);
	}
	return f;
}

int sandbox_enter(void)
{
	struct sock_filter filter[32 + 2 * (COUNT(allowed) + COUNT(deadly))], *f = filter;
	const struct sock_filter head[] = {
		LOAD(offsetof(struct seccomp_data, arch)),
		EQUAL(ARCH, 1, 0),
		ANSWER(SECCOMP_RET_KILL_PROCESS),
		LOAD(offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1),
		ANSWER(REFUSE(ENOSYS)),
	};

	for (size_t i = 0; i < COUNT(head); i++)
		*f++ = head[i];
	f = list_rules(f, allowed, COUNT(allowed), SECCOMP_RET_ALLOW);
	f = socket_rules(f);
	f = list_rules(f, deadly, COUNT(deadly), SECCOMP_RET_KILL_PROCESS);
	*f++ = (struct sock_filter)ANSWER(REFUSE(ENOSYS));

	const struct sock_fprog program = {.len = (unsigned short)(f - filter), .filter = filter};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	/* Positive: a thread that could not follow. */
	long rc =
		syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
	return rc < 0 ? -errno : rc > 0 ? -EBUSY : 0;
}

#endif
