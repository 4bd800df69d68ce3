#include "io/privileges.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/securebits.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cstr.h"
#include "base/log.h"
#include "io/account.h"
#include "io/config_value.h"
#include "io/keyfile.h"

#define GROUPS_MAX 8
#define TREE_DEPTH 2 /* levels of folders that are given */

static int fail(const char *what, int error)
{
	log_error("%s: %s", what, strerror(error));
	return -error;
}

/* --- capabilities ------------------------------------------------------------------------- */

struct caps {
	uint64_t effective, permitted, inheritable;
};

static void caps_get(struct caps *c)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {0};

	*c = (struct caps){0};
	if (syscall(SYS_capget, &head, data))
		return;
	c->effective = data[0].effective | (uint64_t)data[1].effective << 32;
	c->permitted = data[0].permitted | (uint64_t)data[1].permitted << 32;
	c->inheritable = data[0].inheritable | (uint64_t)data[1].inheritable << 32;
}

static int caps_set(uint64_t effective, uint64_t permitted, uint64_t inheritable)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	for (unsigned i = 0; i < 2; i++) {
		data[i].effective = (uint32_t)(effective >> 32 * i);
		data[i].permitted = (uint32_t)(permitted >> 32 * i);
		data[i].inheritable = (uint32_t)(inheritable >> 32 * i);
	}
	return syscall(SYS_capset, &head, data) ? -errno : 0;
}

uint64_t privileges_have(void)
{
	struct caps c;

	caps_get(&c);
	return c.permitted;
}

/* EINVAL: a capability that this kernel does not know. */
static void bounding_limit(uint64_t keep)
{
	for (unsigned cap = 0; cap < 64; cap++)
		if (!(keep & PRIVILEGE(cap)) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) &&
		    errno == EINVAL)
			break;
}

int privileges_limit(uint64_t keep)
{
	struct caps c;
	int rc;

	caps_get(&c);
	keep &= c.permitted;
	/* Both need CAP_SETPCAP, which a container may not have given us. */
	(void)caps_set(c.permitted, c.permitted, c.inheritable);
	bounding_limit(keep);
	(void)prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED, 0, 0, 0);
	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	rc = caps_set(keep, keep, keep);
	if (rc)
		return fail("cannot drop capabilities", -rc);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return fail("no_new_privs", errno);
	return 0;
}

void privileges_lend(uint64_t caps)
{
	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	for (unsigned cap = 0; cap < 64 && caps >> cap; cap++)
		if (caps & PRIVILEGE(cap))
			(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0);
}

bool privileges_raw_marks(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	const int mark = 1;
	struct caps c;
	bool good;

	if (fd < 0)
		return false;
	caps_get(&c);
	good = caps_set(PRIVILEGE(CAP_NET_RAW), c.permitted, c.inheritable) == 0 &&
	       setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof mark) == 0;
	(void)caps_set(c.effective, c.permitted, c.inheritable);
	close(fd);
	return good;
}

const char *privileges_text(uint64_t caps, char out[256])
{
	static const struct {
		unsigned cap;
		char name[20];
	} names[] = {
		{CAP_DAC_OVERRIDE, "dac_override"}, {CAP_NET_BIND_SERVICE, "net_bind_service"},
		{CAP_NET_ADMIN, "net_admin"},	    {CAP_NET_RAW, "net_raw"},
		{CAP_SYS_ADMIN, "sys_admin"},
	};
	size_t n = 0;

	cstr_print(out, 256, "none");
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		if (!(caps & PRIVILEGE(names[i].cap)))
			continue;
		n += (size_t)snprintf(out + n, 256 - n, "%s%s", n ? "," : "", names[i].name);
		caps &= ~PRIVILEGE(names[i].cap);
	}
	if (caps)
		cstr_print(out + n, 256 - n, "%sothers (%#llx)", n ? "," : "",
			   (unsigned long long)caps);
	return out;
}

/* --- the user ----------------------------------------------------------------------------- */

/* 0; -ENOENT: there is none, and it was not asked for. */
static int user_find(const char *user, struct account *out)
{
	int rc = *user ? account_user(user, out) : -ENOENT;

	if (!*user || (!rc && out->uid != 0))
		return rc;
	if (!rc || strcmp(user, PRIVILEGES_USER) == 0)
		return -ENOENT;
	if (rc != -ENOENT)
		return fail(user, -rc);
	log_error("daemon.User = %s: there is no such user", user);
	return -EINVAL;
}

/* One that is there stays as it is: it may be anything that somebody named by mistake. */
static int dir_make(const char *dir, gid_t group)
{
	struct stat st;
	int rc;

	if (stat(dir, &st) == 0)
		return 0;
	rc = keyfile_make_dir(dir);
	if (!rc && (chown(dir, 0, group) || chmod(dir, PRIVILEGES_DIR_MODE)))
		rc = fail(dir, errno);
	return rc;
}

int privileges_stay(const char *user, const char *dir, const char *groups)
{
	gid_t list[GROUPS_MAX];
	size_t count = 0;
	struct account account;
	char name[64];
	int rc;

	if (geteuid())
		return keyfile_make_dir(dir);
	rc = user_find(user, &account);
	if (rc && rc != -ENOENT)
		return rc;
	/* The socket of a node that runs as the user ([node] AppTalkUnix) is open to its group. */
	if (!rc)
		list[count++] = account.gid;
	while (groups && count < GROUPS_MAX && config_list_next(&groups, name, sizeof name))
		if (account_group(name, &list[count]) == 0)
			count++;
	/* Not where somebody has taken CAP_SETGID from us: then that has set the groups, too. */
	(void)setgroups(count, list);
	return rc ? keyfile_make_dir(dir) : dir_make(dir, account.gid);
}

/* Whoever may write in the directory must not have us give it somebody else's file: no links. */
static void file_give(int folder, const char *name, const struct account *user)
{
	int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return;
	if (!fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_nlink == 1 && st.st_uid == 0 &&
	    fchown(fd, user->uid, user->gid))
		log_warn("%s: %s", name, strerror(errno));
	close(fd);
}

/* A folder of root's with what is in it; what is the user's already may have some of root's in it.
 */
static void tree_give(int folder, const char *name, const struct account *user, unsigned depth)
{
	int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *e;
	struct stat st;

	if (!d) {
		if (fd >= 0)
			close(fd);
		return;
	}
	/* From within: who owns the folder could put another in the place of what was looked at. */
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.' &&
		    (!e->d_name[1] || (e->d_name[1] == '.' && !e->d_name[2])))
			continue;
		file_give(fd, e->d_name, user);
		if (depth)
			tree_give(fd, e->d_name, user, depth - 1);
	}
	if (!fstat(fd, &st) && st.st_uid == 0 && fchown(fd, user->uid, user->gid))
		log_warn("%s: %s", name, strerror(errno));
	closedir(d);
}

/* What the daemon has made when it still ran as root. */
static void files_give(const char *dir, const char *name, const struct account *user)
{
	size_t len = strlen(name);
	DIR *d = opendir(dir);
	const struct dirent *e;

	while (d && (e = readdir(d)))
		if (strncmp(e->d_name, name, len) == 0 &&
		    (e->d_name[len] == '.' || e->d_name[len] == '-'))
			file_give(dirfd(d), e->d_name, user);
	if (d)
		closedir(d);
}

/* With its groups, and back. */
static bool user_can_use(const struct account *user, const char *dir)
{
	bool good = setgroups(user->group_count, user->groups) == 0 && setegid(user->gid) == 0 &&
		    seteuid(user->uid) == 0 &&
		    faccessat(AT_FDCWD, dir, R_OK | W_OK | X_OK, AT_EACCESS) == 0;

	if (seteuid(0) || setegid(0))
		return false;
	return good;
}

static int user_set(const struct account *user)
{
	/* Otherwise the last of these takes all capabilities away, FirewallMark's too. */
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) || setgroups(user->group_count, user->groups) ||
	    setresgid(user->gid, user->gid, user->gid) ||
	    setresuid(user->uid, user->uid, user->uid))
		return fail(user->name, errno);
	return 0;
}

/* The user may write there afterwards, and so may not choose what it is: `dir` is root's. */
static void folder_give(const char *dir, const char *tree, const struct account *user)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return;
	tree_give(fd, tree, user, TREE_DEPTH - 1);
	close(fd);
}

int privileges_become(const char *user, const char *dir, const char *name, const char *tree)
{
	struct account account;
	int rc = geteuid() ? -ENOENT : user_find(user, &account);

	if (rc)
		return rc == -ENOENT ? 0 : rc;
	rc = dir_make(dir, account.gid);
	if (rc)
		return rc;
	if (user_can_use(&account, dir)) {
		files_give(dir, name, &account);
		if (tree)
			folder_give(dir, tree, &account);
		return user_set(&account);
	}
	if (setgroups(0, NULL))
		return fail("setgroups", errno);
	if (strcmp(user, PRIVILEGES_USER) == 0) {
		log_warn("%s: user %s may not write there, so uid 0 is kept, without privileges",
			 dir, user);
		return 0;
	}
	log_error("daemon.User = %s: may not write in %s (chown root:%s, chmod 1770)", user, dir,
		  user);
	return -EACCES;
}
