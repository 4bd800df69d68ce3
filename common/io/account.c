#include "io/account.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cstr.h"

struct answer {
	int rc;
	struct account account; /* of a group: only its gid */
};

static void find_user(const char *name, struct answer *a)
{
	errno = 0;
	const struct passwd *pw = getpwnam(name);
	int count = ACCOUNT_GROUPS_MAX;

	if (!pw) {
		a->rc = errno && errno != ENOENT && errno != ESRCH ? -errno : -ENOENT;
		return;
	}
	cstr_copy(a->account.name, sizeof a->account.name, pw->pw_name);
	a->account.uid = pw->pw_uid;
	a->account.gid = pw->pw_gid;
	if (getgrouplist(pw->pw_name, pw->pw_gid, a->account.groups, &count) < 0)
		count = ACCOUNT_GROUPS_MAX; /* so many were written, and there are more */
	a->account.group_count = (size_t)count;
}

static void find_group(const char *name, struct answer *a)
{
	const struct group *g = getgrnam(name);

	a->rc = g ? 0 : -ENOENT;
	if (g)
		a->account.gid = g->gr_gid;
}

static int child_answer(int fd, pid_t child, struct answer *a)
{
	size_t have = 0;
	ssize_t n;

	do {
		n = read(fd, (char *)a + have, sizeof *a - have);
		have += n > 0 ? (size_t)n : 0;
	} while ((n > 0 && have < sizeof *a) || (n < 0 && errno == EINTR));
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	return have == sizeof *a ? a->rc : -EIO;
}

static int ask(void (*find)(const char *name, struct answer *a), const char *name,
	       struct account *out)
{
	struct answer a = {0};
	int fds[2];

	if (pipe(fds))
		return -errno;
	pid_t child = fork();
	if (child < 0) {
		a.rc = -errno;
	} else if (child == 0) {
		find(name, &a);
		_exit(write(fds[1], &a, sizeof a) == sizeof a ? 0 : 1);
	}
	close(fds[1]);
	int rc = child < 0 ? a.rc : child_answer(fds[0], child, &a);
	close(fds[0]);
	*out = a.account;
	return rc;
}

int account_user(const char *name, struct account *out)
{
	return ask(find_user, name, out);
}

int account_group(const char *name, gid_t *out)
{
	struct account a = {0};
	int rc = ask(find_group, name, &a);

	*out = a.gid;
	return rc;
}
