/* Giving up capabilities and the user, each in a child; only root has any to give up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/privileges.h"

#define SOMEBODY "daemon" /* a user of every Debian, with no rights */

static char dir[64];

static int run(int (*act)(void))
{
	pid_t pid = fork();
	int status = -1;

	if (pid == 0)
		_exit(act());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void need_root(void)
{
	if (geteuid() || !(privileges_have() & PRIVILEGE(CAP_SETPCAP)))
		skip();
}

/* CapEff of `path`, a status file, or of what a program prints. */
static uint64_t field(FILE *f, const char *name)
{
	char line[256];
	uint64_t value = UINT64_MAX;

	while (f && fgets(line, sizeof line, f))
		if (strncmp(line, name, strlen(name)) == 0)
			value = strtoull(line + strlen(name) + 1, NULL, 16);
	if (f)
		fclose(f);
	return value;
}

static uint64_t own(const char *name)
{
	return field(fopen("/proc/self/status", "re"), name);
}

/* CapEff of a program that is started now. */
static uint64_t of_child(void)
{
	int ends[2];
	pid_t pid;
	uint64_t value;

	if (pipe(ends) || (pid = fork()) < 0)
		return UINT64_MAX;
	if (pid == 0) {
		dup2(ends[1], 1);
		execlp("cat", "cat", "/proc/self/status", NULL);
		_exit(1);
	}
	close(ends[1]);
	value = field(fdopen(ends[0], "r"), "CapEff");
	waitpid(pid, NULL, 0);
	return value;
}

static int act_limit(void)
{
	const uint64_t keep = PRIVILEGE(CAP_NET_ADMIN) | PRIVILEGE(CAP_NET_RAW);
	static const char *const sets[] = {"CapInh", "CapPrm", "CapEff", "CapBnd"};

	if (privileges_limit(keep) || privileges_have() != keep)
		return 1;
	for (size_t i = 0; i < 4; i++)
		if (own(sets[i]) != keep)
			return 2;
	if (own("CapAmb") || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		return 3;
	/* Uid 0 as it is, exec gives nothing but what is lent. */
	if (of_child() != 0)
		return 4;
	privileges_lend(PRIVILEGE(CAP_NET_RAW) | PRIVILEGE(CAP_SYS_ADMIN));
	if (of_child() != PRIVILEGE(CAP_NET_RAW))
		return 5;
	privileges_lend(0);
	if (of_child() != 0)
		return 6;
	/* A second time less, never more. */
	return privileges_limit(PRIVILEGE(CAP_NET_RAW) | PRIVILEGE(CAP_SYS_ADMIN)) ||
			       privileges_have() != PRIVILEGE(CAP_NET_RAW)
		       ? 7
		       : 0;
}

static void put(const char *name, uid_t owner)
{
	char path[128];
	int fd;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(fchown(fd, owner, 0), 0);
	close(fd);
}

/* Uid 0 by name only: a file that another user keeps to itself is closed, and stays that user's. */
static int act_files(void)
{
	char path[128];

	snprintf(path, sizeof path, "%s/closed", dir);
	if (open(path, O_RDONLY | O_CLOEXEC) < 0 || privileges_limit(0))
		return 1;
	errno = 0;
	if (open(path, O_RDONLY | O_CLOEXEC) >= 0 || errno != EACCES)
		return 2;
	return chown(path, 0, 0) == 0 ? 3 : 0;
}

static uid_t owner(const char *name)
{
	char path[128];
	struct stat st;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	return lstat(path, &st) ? (uid_t)-1 : st.st_uid;
}

static int act_become(void)
{
	const struct passwd *pw = getpwnam(SOMEBODY);
	uid_t uid = pw ? pw->pw_uid : 0;
	gid_t gid = pw ? pw->pw_gid : 0;

	if (privileges_become(SOMEBODY, dir, "node", "nodes"))
		return 1;
	if (getuid() != uid || geteuid() != uid || getgid() != gid || setuid(0) == 0)
		return 2;
	if (owner("node.key") != uid || owner("node-manager.pin") != uid)
		return 3;
	/* Others', another program's, and what has a second name. */
	if (owner("node.other") != 12345 || owner("nodemanager.key") != 0 ||
	    owner("node.linked") != 0 || owner("node.symbolic") != 0)
		return 4;
	/* The folder, and what is in it: but for what has a second name, and what lies deeper. */
	if (owner("nodes") != uid || owner("nodes/a") != uid || owner("nodes/a/node.key") != uid ||
	    owner("nodes/note") != uid)
		return 7;
	if (owner("nodes/a/linked") != 0 || owner("nodes/a/b") != 0 || owner("nodes/away") != 0 ||
	    owner("elsewhere") != 0 || owner("nodes/other") != 12345)
		return 8;
	/* What was permitted has stayed, until it is limited. */
	if (!(privileges_have() & PRIVILEGE(CAP_NET_ADMIN)))
		return 5;
	return privileges_limit(0) || privileges_have() ? 6 : 0;
}

static int act_no_user(void)
{
	if (privileges_become("", dir, "node", "nodes") || geteuid())
		return 1;
	return privileges_become("nosuchuser", dir, "node", "nodes") == -EINVAL && geteuid() == 0
		       ? 0
		       : 2;
}

static int act_may_not_write(void)
{
	return privileges_become(SOMEBODY, dir, "node", "nodes") == -EACCES && geteuid() == 0 &&
			       getegid() == 0
		       ? 0
		       : 1;
}

static int act_make_dir(void)
{
	char path[128];
	struct stat st;

	snprintf(path, sizeof path, "%s/made", dir);
	if (privileges_become(SOMEBODY, path, "node", "nodes") || stat(path, &st))
		return 1;
	return st.st_uid == 0 && st.st_gid == getgid() && (st.st_mode & 07777) == 01770 ? 0 : 2;
}

static void test_limit(void **state)
{
	(void)state;
	need_root();
	put("closed", 12345);
	assert_int_equal(run(act_limit), 0);
	assert_int_equal(run(act_files), 0);
}

static void make_folder(const char *name)
{
	char path[128];

	snprintf(path, sizeof path, "%s/%s", dir, name);
	assert_int_equal(mkdir(path, 0700), 0);
}

static void make_tree(void)
{
	char from[128], to[128];

	make_folder("nodes");
	make_folder("nodes/a");
	make_folder("nodes/a/b");
	make_folder("elsewhere");
	put("elsewhere/secret", 0);
	put("nodes/note", 0);
	put("nodes/other", 12345);
	put("nodes/a/node.key", 0);
	snprintf(from, sizeof from, "%s/elsewhere/secret", dir);
	snprintf(to, sizeof to, "%s/nodes/a/linked", dir);
	assert_int_equal(link(from, to), 0);
	snprintf(to, sizeof to, "%s/nodes/away", dir);
	assert_int_equal(symlink("../elsewhere", to), 0);
}

static void test_become(void **state)
{
	char from[128], to[128];

	(void)state;
	need_root();
	if (!getpwnam(SOMEBODY))
		skip();
	assert_int_equal(run(act_no_user), 0);
	assert_int_equal(run(act_may_not_write), 0);
	assert_int_equal(chmod(dir, 0777), 0);
	assert_int_equal(run(act_make_dir), 0);
	put("node.key", 0);
	put("node-manager.pin", 0);
	put("nodemanager.key", 0);
	put("node.other", 12345);
	put("node.linked", 0);
	make_tree();
	snprintf(from, sizeof from, "%s/node.linked", dir);
	snprintf(to, sizeof to, "%s/second", dir);
	assert_int_equal(link(from, to), 0);
	snprintf(to, sizeof to, "%s/node.symbolic", dir);
	assert_int_equal(symlink("nodemanager.key", to), 0);
	assert_int_equal(run(act_become), 0);
}

static void test_text(void **state)
{
	char text[256];

	(void)state;
	assert_string_equal(privileges_text(0, text), "none");
	assert_string_equal(privileges_text(PRIVILEGES_NETWORK, text),
			    "net_bind_service,net_admin,net_raw");
	assert_string_equal(privileges_text(PRIVILEGE(CAP_NET_RAW) | PRIVILEGE(CAP_KILL), text),
			    "net_raw,others (0x20)");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_become),
		cmocka_unit_test(test_text),
	};
	char command[96];
	int failed;

	snprintf(dir, sizeof dir, "/tmp/test-privileges-%d", (int)getpid());
	mkdir(dir, 0700);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	snprintf(command, sizeof command, "%s", dir);
	execlp("sh", "sh", "-c", "rm -rf \"$0\"; exit $1", command, failed ? "1" : "0", NULL);
	return 1;
}
